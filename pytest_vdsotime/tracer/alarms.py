"""What is to happen at a real time that the kernel is not told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pytest_vdsotime.tracer.calls.waits import now_ns
from pytest_vdsotime.tracer.doorbell import Doorbell
from pytest_vdsotime.waits import NEVER_NS


class Alarms:
    """One for each key, by the host's CLOCK_MONOTONIC; the doorbell rings for the next."""

    def __init__(self, bell: Doorbell) -> None:
        self._bell = bell
        self._alarms: dict[object, tuple[int, Callable[[], None]]] = {}
        self._next_ns = NEVER_NS

    def set(self, key: object, at_ns: int, action: Callable[[], None]) -> None:
        """In place of an earlier one for this key."""
        self._alarms[key] = at_ns, action
        if at_ns < self._next_ns:  # else it may ring for nothing once, and chooses then
            self._next_ns = at_ns
            self._bell.set_alarm(at_ns)

    def cancel(self, key: object) -> None:
        """Nothing if there is none."""
        self._alarms.pop(key, None)

    def ring(self) -> None:
        """Does what is due. Between two stops."""
        if now_ns() < self._next_ns:
            return
        due = [key for key, (at_ns, _) in self._alarms.items() if at_ns <= now_ns()]
        for key in due:
            if key not in self._alarms:
                continue  # another has canceled it
            _, action = self._alarms.pop(key)
            with suppress(ProcessLookupError):
                action()
        self._choose_next()

    def _choose_next(self) -> None:
        next_ns = min((at_ns for at_ns, _ in self._alarms.values()), default=NEVER_NS)
        if next_ns != self._next_ns:
            self._next_ns = next_ns
            self._bell.set_alarm(next_ns)
