"""Where stops come from: waitpid, and what waits while the next stop of one task is waited for."""

from __future__ import annotations

import errno
from collections.abc import Callable

from pytest_vdsotime.kernel import ptrace, wait
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

    def next(self) -> Stop | None:
        """Waits for the next stop; None when it was the doorbell, or a stop that has passed.

        Each task that has one gets its turn before any gets another: Linux looks through the
        tracees in the same order at each wait, and would let the first busy ones starve the others
        and the doorbell.
        """
        if not self._postponed:
            while (found := wait.poll_any()) is not None:
                self._postponed.append(found)
        if not self._postponed:
            stop = wait.wait_any()
        else:
            stop = self._postponed.popleft()
            if _has_executed_since(stop):
                return None
        return None if self._was_doorbell(stop) else stop

    def next_of(self, tid: int) -> Stop:
        """The next stop of one task; those of others wait.

        Raises ProcessLookupError when it dies.
        """
        while True:
            stop = next((other for other in self._postponed if other.tid == tid), None)
            if stop is not None:
                self._postponed.remove(stop)
            else:
                stop = wait.wait_any()
                if self._was_doorbell(stop):
                    continue
            assert stop is not None
            if stop.tid == tid and stop.kind != StopKind.EXITED:
                return stop
            self._postponed.append(stop)
            if stop.tid == tid:
                raise ProcessLookupError(errno.ESRCH, f"task {tid} died")

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
        self._rung()
        return True


def _has_executed_since(stop: Stop) -> bool:
    """Whether it is the stop of a leader whose place a thread has taken by its exec."""
    if stop.kind in (StopKind.EXEC, StopKind.EXITED):
        return False
    info = ptrace.signal_info(stop.tid)
    return info is not None and wait.from_signal_info(stop.tid, *info).kind == StopKind.EXEC
