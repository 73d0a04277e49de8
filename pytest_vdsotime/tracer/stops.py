"""Where stops come from: waitpid, and what waits while the next stop of one task is waited for."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from pytest_vdsotime.kernel import ptrace, wait
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.pump import Pump
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.doorbell import LOOK_AROUND, Doorbell
from pytest_vdsotime.tracer.lookout import Lookout, is_thread_of
from pytest_vdsotime.tracer.tasks import Process, Tables, World


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
        pump.hear(bell.pid)
        self._bell = bell
        self._lookout = lookout
        self._rung = rung

    def next(self, patience_ns: int = 0) -> Stop | None:
        """Waits for the next stop, `patience_ns` at most unless that is 0; None when there was
        none, or it was the doorbell, news from the pump, or a stop that has passed."""
        if not self._postponed:
            self._postponed.extend(self._pump.wait(patience_ns))
            self._pumped()
            if not self._postponed:
                if self._pump.was_interrupted:
                    self._was_doorbell(None)
                return None
            stop = self._postponed.popleft()
        else:
            stop = self._postponed.popleft()
            if _has_executed_since(stop):
                return None
        return None if self._was_doorbell(stop) else stop

    def next_of(self, tid: int) -> Stop:
        """The next stop of one task; those of others wait, but the doorbell's: unanswered for long,
        it is repaired.

        Raises ProcessLookupError when it dies.
        """
        while True:
            tids = tid, self._bell.pid
            stop = next((other for other in self._postponed if other.tid in tids), None)
            if stop is not None:
                self._postponed.remove(stop)
            else:
                stop = self._pump.wait_any()
            if self._was_doorbell(stop):
                continue
            assert stop is not None
            if stop.tid == tid and stop.kind != StopKind.EXITED:
                return stop
            self._postponed.append(stop)
            if stop.tid == tid:
                raise ProcessLookupError(errno.ESRCH, f"task {tid} died")

    def kill_all(self, worlds: Sequence[World]) -> None:
        """Kills every process of these clocks, and reaps it. The end of a process is not reported
        before every one of its threads is reaped, so all reports are taken."""
        left = {pid: one for world in worlds for pid, one in world.processes.items()}
        for process in left.values():
            process.kill()
        while left:
            stop = self._pump.wait_any()
            if stop is None:
                left = self._without_ended(left)
            elif stop.kind == StopKind.EXITED:
                left.pop(stop.tid, None)
            elif stop.tid == self._bell.pid:
                self._bell.go_on()
                left = self._without_ended(left)
            else:
                with suppress(ProcessLookupError):
                    os.kill(stop.tid, signal.SIGKILL)

    def _without_ended(self, processes: dict[int, Process]) -> dict[int, Process]:
        """Of killed ones. Their ends may only show task by task."""
        for pid in processes:
            with suppress(FileNotFoundError):
                for tid in os.listdir(f"/proc/{pid}/task"):
                    self._pump.poll(int(tid))
        return {
            pid: one
            for pid, one in processes.items()
            if is_thread_of(pid, pid) and pid not in self._pump.left
        }

    def _was_doorbell(self, stop: Stop | None) -> bool:
        if stop is not None and stop.tid != self._bell.pid:
            return False
        self._bell.answers += 1
        if stop is None or stop.kind == StopKind.EXITED:
            self._pump.keep(self._bell.pid)
            self._bell.repair()
            self._pump.hear(self._bell.pid)
            self._look_around()
        elif stop.kind == StopKind.GROUP_STOP:
            Stopped(stop.tid).listen()
        else:
            self._bell.go_on()
            if stop.kind == StopKind.SIGNAL and stop.value == LOOK_AROUND:
                self._look_around()
        self._rung()
        return True

    def _look_around(self) -> None:
        began = time.monotonic()
        self._lookout.look_around()
        self._bell.look_took_s = time.monotonic() - began
        self._bell.rings_often = bool(self._pump.left)


def _has_executed_since(stop: Stop) -> bool:
    """Whether it is the stop of a leader whose place a thread has taken by its exec."""
    if stop.kind in (StopKind.EXEC, StopKind.EXITED):
        return False
    info = ptrace.signal_info(stop.tid)
    return info is not None and wait.from_signal_info(stop.tid, *info).kind == StopKind.EXEC
