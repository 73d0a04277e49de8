"""Where stops come from: waitpid, and what waits while the next stop of one task is waited for."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_vdsotime.kernel import wait
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.doorbell import LOOK_AROUND, Doorbell
from pytest_vdsotime.tracer.lookout import Lookout
from pytest_vdsotime.tracer.tasks import Tables


class Stops:
    """The stops of all tasks but the doorbell, whose stops are answered here."""

    def __init__(
        self, tables: Tables, bell: Doorbell, lookout: Lookout, rung: Callable[[], None]
    ) -> None:
        self._postponed = tables.postponed
        self._bell = bell
        self._lookout = lookout
        self._rung = rung
        self._is_undisturbed = False

    def next(self) -> Stop | None:
        """Waits for the next stop; None when it was the doorbell."""
        stop = self._postponed.popleft() if self._postponed else wait.wait_any()
        return None if self._was_doorbell(stop) else stop

    def next_of(self, tid: int, deadline_s: float | None = None) -> Stop:
        """The next stop of one task; those of others wait.

        Raises ProcessLookupError when it dies, TimeoutError at a point of time.monotonic(), soon:
        the doorbell rings now and then.
        """
        while True:
            stop = next((other for other in self._postponed if other.tid == tid), None)
            if stop is not None:
                self._postponed.remove(stop)
            else:
                stop = wait.wait_any()
                if self._was_doorbell(stop):
                    if deadline_s is not None and time.monotonic() > deadline_s:
                        raise TimeoutError(errno.ETIMEDOUT, f"thread {tid} does not stop")
                    continue
            assert stop is not None
            if stop.tid == tid and stop.kind != StopKind.EXITED:
                return stop
            self._postponed.append(stop)
            if stop.tid == tid:
                raise ProcessLookupError(errno.ESRCH, f"task {tid} died")

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """What other threads ask for meanwhile waits."""
        self._is_undisturbed, before = True, self._is_undisturbed
        try:
            yield
        finally:
            self._is_undisturbed = before

    def _was_doorbell(self, stop: Stop | None) -> bool:
        if stop is not None and stop.tid != self._bell.pid:
            return False
        self._bell.answers += 1
        if stop is None or stop.kind == StopKind.EXITED:
            self._bell.repair()
            self._lookout.look_around()
        elif stop.kind == StopKind.GROUP_STOP:
            Stopped(stop.tid).listen()
        else:
            Stopped(stop.tid).resume()
            if stop.kind == StopKind.SIGNAL and stop.value == LOOK_AROUND:
                self._lookout.look_around()
        if not self._is_undisturbed:
            self._rung()
        return True
