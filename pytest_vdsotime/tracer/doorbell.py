"""How other threads wake the tracer out of waitpid, which nothing but a stop of a tracee ends.

One tiny tracee does nothing but wait (native_stub/launch.c). A signal sent to it is a stop for the
tracer, which swallows it and looks into its inbox.

Linux shows stops to every thread of the tracer's process: a test that calls os.wait() or
waitpid(-1) can take one away, and nobody would ever resume that task. So a watch thread rings now
and then, for the tracer to look around, and when it is the doorbell's own stop that was taken,
replaces the doorbell: its death wakes the tracer as well.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from pytest_vdsotime.availability import explain
from pytest_vdsotime.errors import TracingUnavailable
from pytest_vdsotime.kernel import procfs, ptrace

RING = signal.SIGUSR1
LOOK_AROUND = signal.SIGUSR2
_WATCH_INTERVAL_S = 0.25


class Doorbell:
    """The doorbell process. `ring` is for any thread, the rest for the tracer thread."""

    def __init__(self, launcher: str) -> None:
        """Raises TracingUnavailable when it cannot be traced."""
        self._launcher = launcher
        self._lock = threading.Lock()
        self.pid = self._start()

    def _start(self) -> int:
        arguments = ["vdsotime-doorbell", str(os.getpid())]
        pid = os.posix_spawn(self._launcher, arguments, {}, setsigmask=())
        try:
            ptrace.seize(pid)
        except OSError as error:
            reason = explain(error.errno or 0, f"PTRACE_SEIZE of process {pid}")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TracingUnavailable(*reason) from error
        return pid

    def ring(self, number: signal.Signals = RING) -> bool:
        """Wakes the tracer; False when there is no doorbell any more."""
        with self._lock:
            if self.pid == 0:
                return False
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return False
            return True

    def replace(self) -> None:
        """After its death: a new one."""
        with self._lock:
            self.pid = self._start()

    def close(self) -> None:
        """Ends and reaps it; idempotent."""
        with self._lock:
            pid, self.pid = self.pid, 0
        if pid == 0:
            return
        try:
            os.kill(pid, signal.SIGKILL)
            while os.WIFSTOPPED(os.waitpid(pid, 0)[1]):
                pass  # a ring that was still on its way
        except (ProcessLookupError, ChildProcessError):
            pass  # gone already


def watch(bell: Doorbell, ended: threading.Event, lost: Callable[[], None]) -> None:
    """The watch thread's work, until `ended`. Calls `lost` when the tracer can no longer be
    woken."""
    was_stuck = False
    while not ended.wait(_WATCH_INTERVAL_S):
        pid = bell.pid
        state = procfs.stat_fields(pid)
        is_stuck = state is not None and state[0] == "t"
        if is_stuck and was_stuck:
            os.kill(pid, signal.SIGKILL)
        elif not bell.ring(LOOK_AROUND) and not ended.is_set():
            lost()
            return
        was_stuck = is_stuck
