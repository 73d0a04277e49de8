"""Every exception and warning of the package."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

_MAX_NAMED = 5


class VdsoTimeError(Exception):
    """Base of every error that this package raises on its own account."""


class TracingUnavailable(VdsoTimeError):
    """Programs cannot be traced here: no Linux, no ptrace, or another tracer.

    `reason` says what is in the way, `remedy` what to change.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class NotSettled(VdsoTimeError):
    """Some thread was still busy when the time to settle was up; the text names it.

    The clock stays where it got to.

    `threads` says for each which it is, and what it does.
    """

    def __init__(self, threads: Sequence[str], timeout_s: float) -> None:
        named = "; ".join(threads[:_MAX_NAMED]) or "a thread was, and now is not any more"
        if len(threads) > _MAX_NAMED:
            named += f"; and {len(threads) - _MAX_NAMED} more"
        super().__init__(
            f"still busy after {timeout_s:g} s of real time: {named}; the clock stays where it got "
            "to; have the test wait for what the program does (its output, its end), or give it "
            "more time: timeout=..."
        )
        self.threads: tuple[str, ...] = tuple(threads)


class ClockClosed(VdsoTimeError):
    """The clock, or the one this process inherited through fork, is closed."""


class UnsupportedProgram(VdsoTimeError):
    """A program cannot be given the clock, and must not run on in real time.

    One that was started is killed, one to attach to stays as it was.
    """


class RealTimeWarning(UserWarning):
    """A program runs on, untouched, in real time, or asks for what a clock does not do.

    The text names it and says why.
    """


_FAULTS = AssertionError, AttributeError, ArithmeticError, LookupError, NameError


def is_explained(error: BaseException | None) -> bool:
    """Whether the line that has called the package explains an error: not so a fault in here."""
    return not isinstance(error, _FAULTS)


class Short:
    """A context whose errors have a traceback as far as here: what is below has other frames."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if trace is not None and is_explained(error):
            trace.tb_next = None
