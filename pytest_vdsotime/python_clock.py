"""The test process's own Python clock on a FrozenClock's wall line, by time-machine.

time-machine has a stack of travellers, and asks the last for `time_ns()` whenever Python code wants
the time. Ours answers with the wall line itself, so there is nothing to keep in step: every rate,
each deadline of an advance and what programs set are there as soon as for the programs.
"""

from __future__ import annotations

from collections.abc import Callable

_NS_PER_S = 1_000_000_000


def check_python(python: bool) -> None:
    """Whether a clock can be made with this parameter.

    Raises TypeError; ImportError where time-machine is missing or too old.
    """
    if not isinstance(python, bool):
        raise TypeError(f"python is a bool, not {python!r}")
    if python:
        try:
            from time_machine import traveller_stack  # noqa: F401
        except ImportError:
            raise ImportError(
                "python=True needs time-machine 3 or later: pip install 'pytest-vdsotime[python]'"
            ) from None


class PythonClock:
    """Python's clock in this process, between `start` and `stop`."""

    def start(self, time_ns: Callable[[], int]) -> None:
        """Have Python's clock read `time_ns`. Raises RuntimeError while freezegun is active."""
        import time_machine

        self._stack = time_machine.traveller_stack
        self._travel = time_machine.travel(time_ns() / _NS_PER_S, tick=False)
        self._traveller = self._travel.start()
        self._traveller.time_ns = time_ns  # type: ignore[method-assign]

    def stop(self) -> None:
        """Python's clock is again what it was, or goes on as who started later wants it."""
        if self._traveller in self._stack[:-1]:
            self._stack.remove(self._traveller)
        else:
            self._travel.stop()
