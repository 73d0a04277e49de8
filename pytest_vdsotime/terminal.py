"""Where lines for the terminal go while a test runs, past pytest's capture.

The plugin imports this at every start of pytest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

#: Descriptors that lead past what captures the standard error, each with the name of the worker of
#: pytest-xdist that has it, or ""; the innermost run of pytest last.
_past_capture: list[tuple[int, str]] = []


def keep_stderr(worker: str) -> Callable[[], None]:
    """Keep a way to the standard error as it is now; return what gives it up.

    A descriptor, to which any thread may write whole lines: while pytest's capture is suspended,
    what other threads write would go astray. A worker of pytest-xdist has the standard error of
    the controller, and speaks to that by other descriptors.
    """
    try:
        copy = os.dup(2)
    except OSError:  # it is closed
        return lambda: None
    _past_capture.append((copy, worker))

    def give_up() -> None:
        _past_capture.remove((copy, worker))
        os.close(copy)

    return give_up


def say(lines: list[str]) -> None:
    """Write lines at once: past pytest's capture, with the test's name; else to the stderr."""
    text = "\n  ".join(["vdsotime: " + lines[0], *lines[1:]])
    with suppress(OSError, ValueError):  # it is closed
        if not _past_capture:
            if sys.__stderr__ is not None:
                print(text, file=sys.__stderr__, flush=True)
            return
        copy, worker = _past_capture[-1]
        test = os.environ.get("PYTEST_CURRENT_TEST")
        where = f"\n  in {' '.join(filter(None, (worker, test)))}" if test else ""
        # pytest has begun a line of its own.
        os.write(copy, f"\n{text}{where}\n".encode(errors="backslashreplace"))
