"""How other threads wake the tracer out of waitpid, which nothing but a stop of a tracee ends.

One tiny tracee does nothing but wait (native_stub/program/waker.c). A signal sent to it is a stop
for the tracer, which swallows it and looks into its inbox.

Linux shows stops to every thread of the tracer's process: a test that calls os.wait() or
waitpid(-1) can take one away, the waker's own as well, and nobody would ever resume that task.
So a watch thread rings now and then, for the tracer to look around. Where even that goes unheard,
it interrupts the tracer's waitpid by a signal to that thread. (Signals alone would not do: one
that comes just before waitpid is lost, which does not matter where it is repeated.)

`Alarms` has the waker wake the tracer at a real time, for what the kernel does not end by itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pytest_vdsotime.abi import constant
from pytest_vdsotime.availability import explain
from pytest_vdsotime.errors import TracingUnavailable
from pytest_vdsotime.image import WakerProgram
from pytest_vdsotime.kernel import procfs, ptrace, wait
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.timeline import NS_PER_S, now_ns
from pytest_vdsotime.waits import NEVER_NS

RING = signal.SIGUSR1
LOOK_AROUND = signal.SIGUSR2
CHILD_COMES = signal.Signals(constant("CHILD_COMES"))
#: Ignored by default, so it does no harm wherever it may go; the tracer thread must not block it.
INTERRUPT = signal.SIGURG
_WATCH_INTERVAL_S = 0.25
#: Where ends show by looking around alone (FastPath.left).
_SHORT_INTERVAL_S = 0.01
#: Looking around takes this part of the tracer's time at most, however many threads there are.
_SHARE_OF_LOOKS = 0.1
_YEARS_NS = (2**31 - 1) * NS_PER_S


class Waker:
    """The waker process. `ring` is for any thread, the rest for the tracer thread."""

    def __init__(self, program: WakerProgram) -> None:
        """Raise TracingUnavailable when it cannot be traced."""
        self._program = program
        self._alarm_ns = _YEARS_NS
        self._told_alarm: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self.answers = 0
        """How often the tracer has come to the door."""
        self.look_took_s = 0.0
        """When it last looked around."""
        self.rings_often = False
        """The tracer is to look around as soon as may be."""
        self.freeing: Callable[[], None] | None = None
        """What frees the tracer out of a call of the kernel that waits for what it has to do."""
        self.pid = self._start()

    def _start(self) -> int:
        arguments = ["vdsotime-waker", str(os.getpid())]
        self._told_alarm = None
        pid = os.posix_spawn(self._program.path, arguments, {}, setsigmask=())
        operation = "PTRACE_SEIZE"
        try:
            ptrace.seize(pid)
            operation = "PTRACE_GET_SYSCALL_INFO"
            _try_system_call(pid)
        except OSError as error:
            reason = explain(error.errno or 0, f"{operation} of process {pid}")
            os.kill(pid, signal.SIGKILL)
            wait.reap(pid)
            raise TracingUnavailable(*reason) from error
        return pid

    def ring(self, number: signal.Signals = RING) -> None:
        """Wakes the tracer, if there still is one."""
        with self._lock:
            if self.pid == 0:
                return
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return  # the tracer finds out when it looks around

    def set_alarm(self, at_ns: int) -> None:
        """Have it ring at this time of CLOCK_MONOTONIC by itself."""
        self._alarm_ns = min(at_ns, _YEARS_NS)
        self.ring()

    def go_on(self) -> None:
        """End its stop. Where that cannot be it ends, and is replaced (`repair`)."""
        with self._replaced_on_failure():
            self._go_on()

    def listen(self) -> None:
        """Leave it in its group stop. Where that cannot be it ends, and is replaced."""
        with self._replaced_on_failure():
            Stopped(self.pid).listen()

    @contextmanager
    def _replaced_on_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(ProcessLookupError):  # it was killed: its end is reported next
                os.kill(self.pid, signal.SIGKILL)

    def _go_on(self) -> None:
        # What the alarm was is read anew at the end of the stop (native_stub/program/waker.c).
        address = self._program.alarm_time
        seconds, nanoseconds = divmod(self._alarm_ns, NS_PER_S)
        if self._alarm_ns <= now_ns():
            seconds = _YEARS_NS // NS_PER_S  # it rang
        stopped = Stopped(self.pid)
        if self._told_alarm != (seconds, nanoseconds):
            stopped.poke(address, seconds)
            stopped.poke(address + 8, nanoseconds)
            self._told_alarm = seconds, nanoseconds
        stopped.resume()

    def repair(self) -> None:
        """After another thread took a stop of the waker away, or its end."""
        if procfs.stat_fields(self.pid) is None:
            with self._lock:
                self.pid = self._start()
        elif ptrace.signal_info(self.pid) is not None:
            self.go_on()

    def close(self) -> None:
        """End and reap it; idempotent."""
        with self._lock:
            pid, self.pid = self.pid, 0
        if pid == 0:
            return
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            return  # gone already, or it ends with its tracer
        wait.reap(pid)


def _try_system_call(pid: int) -> None:
    """Ask what system call a tracee is in, which kernels before Linux 5.3 do not tell.

    Raises OSError. Of the stop for it no report is taken: another thread may do so, at any time.
    """
    ptrace.interrupt(pid)
    stopped = Stopped(pid)
    until_ns = now_ns() + NS_PER_S
    while now_ns() < until_ns:
        if ptrace.signal_info(pid) is not None:  # else it is not stopped yet
            stopped.system_call()
            break
        os.sched_yield()
    with suppress(ProcessLookupError):
        stopped.resume()


def _handle_interrupt() -> Callable[[], None]:
    """Give INTERRUPT a handler that does nothing but end waitpid; return what undoes it."""
    set_handler = ctypes.pythonapi.PyOS_setsig
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)
    former = set_handler(INTERRUPT, nothing)
    return lambda: set_handler(INTERRUPT, former)


def watch(waker: Waker, tracer: threading.Thread, ended: threading.Event) -> None:
    """Do the watch thread's work, until `ended`."""
    undo: Callable[[], None] | None = None
    heard, since_s = -1, time.monotonic()
    freeing: Callable[[], None] | None = None
    while True:
        interval_s = _SHORT_INTERVAL_S if waker.rings_often else _WATCH_INTERVAL_S
        if ended.wait(max(interval_s, waker.look_took_s / _SHARE_OF_LOOKS)):
            break
        former, freeing = freeing, waker.freeing
        if freeing is not None and freeing is former:
            freeing()
        if waker.answers != heard:
            heard, since_s = waker.answers, time.monotonic()
        elif time.monotonic() - since_s >= _WATCH_INTERVAL_S and tracer.ident is not None:
            undo = undo or _handle_interrupt()
            signal.pthread_kill(tracer.ident, INTERRUPT)
        waker.ring(LOOK_AROUND)
    if undo is not None:
        undo()


# --- alarms --------------------------------------------------------------------------------------


class Alarms:
    """One for each key, by the host's CLOCK_MONOTONIC; the waker rings for the next."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._alarms: dict[object, tuple[int, Callable[[], None]]] = {}
        self._next_ns = NEVER_NS

    def set(self, key: object, at_ns: int, action: Callable[[], None]) -> None:
        """In place of an earlier one for this key."""
        self._alarms[key] = at_ns, action
        if at_ns < self._next_ns:  # else it may ring for nothing once, and chooses then
            self._next_ns = at_ns
            self._waker.set_alarm(at_ns)

    def cancel(self, key: object) -> None:
        """Nothing if there is none."""
        self._alarms.pop(key, None)

    def ring(self) -> None:
        """Do what is due. Between two stops."""
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
            self._waker.set_alarm(next_ns)
