"""Where stops come from: waitpid, and what waits while the next stop of one task is waited for."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_vdsotime.kernel import wait
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.pump import Pump
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.doorbell import LOOK_AROUND, Doorbell
from pytest_vdsotime.tracer.lookout import Lookout
from pytest_vdsotime.tracer.tasks import Tables


class Stops:
    """The stops of all tasks but the doorbell, whose stops are answered here."""

    def __init__(
        self,
        tables: Tables,
        pump: Pump,
        bell: Doorbell,
        lookout: Lookout,
        pumped: Callable[[], None],
        rung: Callable[[], None],
    ) -> None:
        """`pumped` is called when the pump may have births and readers to tell of, `rung` when the
        doorbell was."""
        self._postponed = tables.postponed
        self._pump = pump
        self._pumped = pumped
        pump.hand_over(bell.pid)
        self._bell = bell
        self._lookout = lookout
        self._rung = rung
        self._is_undisturbed = False

    def next(self) -> Stop | None:
        """Waits for the next stop; None when it was the doorbell, or news from the pump."""
        if self._postponed:
            stop: Stop | None = self._postponed.popleft()
        else:
            stop = self._pump.wait()
            self._pumped()
            if stop is None and not self._pump.was_interrupted:
                return None
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
            self._pump.keep(self._bell.pid)
            self._bell.repair()
            self._pump.hand_over(self._bell.pid)
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
