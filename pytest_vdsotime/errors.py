"""Every exception and warning of the package."""

from __future__ import annotations


class VdsoTimeError(Exception):
    """Base of every error that this package raises on its own account."""


class TracingUnavailable(VdsoTimeError):
    """Programs cannot be traced here.

    `reason` says what is in the way, `remedy` what to change.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class NotSettled(VdsoTimeError):
    """Some thread was still busy when the time to settle was up; the text names it."""


class ClockClosed(VdsoTimeError):
    """The clock, or the one this process inherited through fork, is closed."""


class UnsupportedProgram(VdsoTimeError):
    """A program cannot be given the clock, and must not run on in real time."""


class RealTimeWarning(UserWarning):
    """A program runs on, untouched, in real time; the text names it and says why."""
