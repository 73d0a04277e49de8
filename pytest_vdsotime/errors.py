"""Every exception and warning of the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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


def source_tree() -> str:
    """Return the checkout that the package was imported from, "" for an installed one."""
    root = Path(__file__).resolve().parents[1]
    return str(root) if (root / "native_stub" / "build.py").exists() else ""


def missing(what: str, tree: str) -> tuple[str, str]:
    """Return reason and remedy where the package lacks a part that is made when it is built.

    `tree` is as `source_tree` has it.
    """
    if tree:
        return (
            f"Python has imported pytest_vdsotime from its source tree, {tree}, in which {what} is "
            "not built",
            "start Python in another directory, so that it imports the installed package, or "
            "build it in the tree: pip install -e .",
        )
    return (
        f"{what} is missing from the installation",
        "install pytest-vdsotime again, from a wheel or with its build hook",
    )


class NotSettled(VdsoTimeError):
    """Some thread was still busy when the time to settle was up; the text names it.

    The clock stays where it got to.

    `threads` says for each which it is, and what it does.
    """

    def __init__(self, threads: Sequence[str], timeout_s: float) -> None:
        named = "; ".join(threads[:_MAX_NAMED]) or "some thread was until then, and none is now"
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

    One that was started is killed, one to attach to stays as it was, or is killed, as the
    text then says, where what was begun cannot be undone.
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
