"""Timers that follow the clock: the kernel has them disarmed, and the tracer has them expire.

A timerfd gets its count of expirations through a copy of its descriptor (pidfd_getfd(2),
TFD_IOC_SET_TICKS). The others are signals, with what the kernel says of its own (SI_TIMER).

The signal of a timer of the kernel is queued even where another one of the same number is pending
(send_sigqueue, kernel/signal.c); one that the tracer sends is dropped there if its number is below
SIGRTMIN. So its timer waits until that other one is delivered or taken: all tasks of the clock stop
at system calls meanwhile, and it is sent at the first stop that finds the way free.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_vdsotime import faults
from pytest_vdsotime.abi import constant
from pytest_vdsotime.kernel import descriptors, procfs, ptrace, signals
from pytest_vdsotime.timeline import Lines, now_ns
from pytest_vdsotime.tracer.calls.later import is_brief, spend_grace
from pytest_vdsotime.tracer.calls.waits import deadline_of, owner_of, tell_fired
from pytest_vdsotime.tracer.fastpath import FastPath
from pytest_vdsotime.tracer.state import ClockState, Process, Task
from pytest_vdsotime.tracer.waker import Alarms
from pytest_vdsotime.waits import MAX_OVERRUN, NEVER_NS, Timer

#: As long as nobody else runs, arming a timer takes less.
_BRIEF_NS = 10**6
#: How late the kernel's interrupts may be, and between two looks whether one has come.
_MAX_LATE_NS, _NAP_S = 10**7, 2e-5
_SIGRTMIN = constant("SIGRTMIN")  # the kernel's: libc keeps some for itself
#: What the signals of setitimer(2) say, in place of a number, until they are delivered.
_OF_ITIMER = -1


def kernel_may_run(world: ClockState) -> bool:
    """Whether a timer of the kernel expires when one of the clock does.

    As long as the test does not move the lines.
    """
    lines = world.page.lines
    return (
        not world.is_advancing
        and world.jump_after_ns is None
        and lines.monotonic.rate.value == 1
        and lines.wall.rate.value in (0, 1)
    )


def _let_kernel_end(timer: Timer, lines: Lines) -> None:
    """Wait until the kernel has had a timer expire that is just due, as its interrupt may be late.

    To be disarmed before would look as if it had been read.
    """
    while 0 <= -timer.left_ns(lines, now_ns()) < _MAX_LATE_NS:
        if descriptors.has_ticks(timer.copy):
            break
        time.sleep(_NAP_S)


def forget(world: ClockState, timer: Timer) -> None:
    """Forget a timer that is gone."""
    world.timers.pop(timer.key, None)
    world.unsent.discard(timer.key)
    timer.deadlines = ()
    if timer.copy >= 0:
        world.timerfds.remove(timer.copy)
        os.close(timer.copy)
        timer.copy = -1


def _held(world: ClockState, pids: Iterable[int]) -> set[int]:
    """Return the copies of those timerfds of a clock that these processes have."""
    descriptors_of = ((pid, fd) for pid in pids for fd in procfs.timerfds(pid))
    found = [world.timerfds.find(pid, fd) for pid, fd in descriptors_of]
    return {timer.copy for timer in found if timer is not None}


def _is_pending(timer: Timer) -> bool:
    """Whether some signal of its number is."""
    receiver = timer.tid or timer.key[1]
    return procfs.is_pending(receiver, timer.signal, shared=not timer.tid)


def overrun_of(timer: Timer) -> int:
    """Return what timer_getoverrun(2) tells."""
    if timer.is_sent and not _is_pending(timer):
        timer.was_delivered()
    return min(timer.last_overrun, MAX_OVERRUN)


def _queue(timer: Timer, number: int) -> bool:
    """Whether that was possible (RLIMIT_SIGPENDING, getrlimit(2))."""
    overrun, timer.times_sent = min(timer.overrun, MAX_OVERRUN), (timer.times_sent + 1) % 2**31
    try:
        signals.queue(
            *(timer.key[1], timer.tid, timer.signal),
            number=number,
            overrun=overrun,
            value=timer.value,
            private=timer.times_sent,
        )
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return False
    return True


@dataclass(slots=True)
class Timers:
    """Has them expire; one per tracer, on its thread."""

    alarms: Alarms
    fastpath: FastPath

    def armed(self, world: ClockState) -> Iterator[Timer]:
        """Those of a clock that will expire; those that nobody has any more are forgotten."""
        for timer in tuple(world.timers.values()):
            if timer.deadlines:
                if timer.copy >= 0 and not self._is_held(world, timer):
                    self._forget(world, timer)
                else:
                    yield timer

    def revise(self, world: ClockState) -> None:
        """After a change of the lines: set the alarms of its timers."""
        world.changed_timers.clear()
        self._set_alarms(world, tuple(world.timers.values()))

    def revise_changed(self, world: ClockState) -> None:
        """After a call that may have set some of its timers: set their alarms.

        Requires: the call has not returned yet, as what was due then has expired when it does.
        """
        if world.changed_timers:
            changed, world.changed_timers = world.changed_timers, []
            self._set_alarms(world, changed)

    def _set_alarms(self, world: ClockState, timers: Sequence[Timer]) -> None:
        if world.is_advancing:  # they expire as the lines move
            for timer in timers:
                self.alarms.cancel(timer)
            return
        host_ns = now_ns()
        for timer in timers:
            with self._answers_for(world, timer):
                self._revise(world, timer, host_ns)

    def _revise(self, world: ClockState, timer: Timer, host_ns: int) -> None:
        if timer.is_running:
            return
        if timer.deadlines and timer.left_ns(world.page.lines, host_ns) <= 0:
            self.expire(world, timer)
        due_ns = timer.due_ns(world.page.lines, host_ns) if timer.deadlines else NEVER_NS
        if is_brief(timer, world):
            due_ns = host_ns + max(timer.left_ns(world.page.lines, host_ns), 0)
        if due_ns >= NEVER_NS:
            self.alarms.cancel(timer)
        elif self._may_run(world, timer):
            self.alarms.cancel(timer)
            self._run(timer, due_ns, host_ns)
        else:
            self.alarms.set(timer, due_ns, partial(self._rings, world, timer))

    def _may_run(self, world: ClockState, timer: Timer) -> bool:
        """Whether the kernel may have it expire.

        Not while there are expirations to be read, which it would forget, or a program read
        meanwhile: those come from the tracer.
        """
        is_free = timer.copy >= 0 and kernel_may_run(world)
        return is_free and not descriptors.has_ticks(timer.copy)

    def _run(self, timer: Timer, due_ns: int, host_ns: int) -> None:
        timer.is_running = True
        if timer.clock_id == time.CLOCK_MONOTONIC:  # no delay adds up
            descriptors.arm_timerfd(timer.copy, due_ns, timer.interval_ns, is_absolute=True)
            return
        brief_ns, is_late = max(timer.interval_ns // 4, _BRIEF_NS), True
        while is_late:  # this thread had to wait for a processor: `_suspend` would miscount
            descriptors.arm_timerfd(timer.copy, max(due_ns - host_ns, 1), timer.interval_ns)
            before_ns, host_ns = host_ns, now_ns()
            is_late = before_ns + brief_ns < host_ns < due_ns

    def suspend(self, world: ClockState) -> None:
        """Before the lines move: the timers that the kernel runs are the clock's again.

        Requires: no program reads one meanwhile.
        """
        for timer in tuple(world.timers.values()):
            if timer.is_running and timer.copy >= 0:
                timer.is_running = False
                with self._answers_for(world, timer):
                    self._suspend(world, timer)

    @contextmanager
    def _answers_for(self, world: ClockState, timer: Timer) -> Iterator[None]:
        """Have an exception end the program that the timer belongs to, and no other."""
        process = world.everyone.get(owner_of(world, timer))
        if process is None:  # which process has its descriptor is found out when it is armed
            with suppress(ProcessLookupError):
                yield
            return
        with process.answers_for("running a timer of"):
            yield

    def _suspend(self, world: ClockState, timer: Timer) -> None:
        if timer.deadlines and not timer.interval_ns:
            _let_kernel_end(timer, world.page.lines)
        due_ns = descriptors.disarm_timerfd(timer.copy, timer.interval_ns, world.everyone)
        if timer.interval_ns and timer.deadlines:  # not so while it is just being set
            host_ns = now_ns()
            way_ns = due_ns - host_ns - timer.left_ns(world.page.lines, host_ns)
            way_ns = round(way_ns / timer.interval_ns) * timer.interval_ns
            timer.deadlines = tuple([(name, end + way_ns) for name, end in timer.deadlines])
        elif not due_ns:
            timer.deadlines = ()

    def _rings(self, world: ClockState, timer: Timer) -> None:
        if world.closed is not None or world.timers.get(timer.key) is not timer:
            return
        if is_brief(timer, world):
            spend_grace(world, timer)
            left_ns = max(timer.left_ns(world.page.lines, now_ns()), 0)
            timer.deadlines = tuple([(name, end - left_ns) for name, end in timer.deadlines])
        elif timer.clock_id == time.CLOCK_MONOTONIC and self._may_run(world, timer):
            host_ns = now_ns()
            self._run(timer, host_ns + timer.left_ns(world.page.lines, host_ns), host_ns)
            return
        self.expire(world, timer)
        self._set_alarms(world, (timer,))

    def expire(self, world: ClockState, timer: Timer) -> None:
        """Have what is due by now expire, unless the kernel does."""
        if timer.is_running:
            return
        deadline = deadline_of(world, timer)
        count = timer.pass_by(world.page.lines, now_ns())
        if not count:
            return
        with self._answers_for(world, timer):
            if faults.armed:
                faults.reach("timer", owner_of(world, timer))
            # What has ended hears of nothing; its descriptor may be on its way to another process.
            if owner_of(world, timer) in world.everyone or self._is_held(world, timer):
                tell_fired(world, timer, deadline)
            if timer.copy >= 0:
                descriptors.add_ticks(timer.copy, count)
            elif timer.signal:
                self._signal(world, timer, count)

    def _signal(self, world: ClockState, timer: Timer, count: int) -> None:
        is_pending = _is_pending(timer)
        if timer.key[0] == "itimer":  # not queued twice by the kernel either
            if not is_pending:
                _queue(timer, _OF_ITIMER)
            return
        if timer.is_sent and not is_pending:  # taken by sigwaitinfo(2) or the like
            timer.was_delivered()
        if timer.is_sent or timer.is_unsent:
            timer.overrun += count
        else:
            timer.overrun = count - 1
        if not timer.is_sent:
            self._send(world, timer, is_pending=is_pending)

    def _send(self, world: ClockState, timer: Timer, *, is_pending: bool) -> None:
        is_free = not is_pending or timer.signal >= _SIGRTMIN
        timer.is_sent = is_free and _queue(timer, timer.key[2])
        timer.is_unsent = not timer.is_sent
        if timer.is_sent:
            world.unsent.discard(timer.key)
        elif timer.key not in world.unsent:
            world.unsent.add(timer.key)
            self.fastpath.hands_over_all, self.fastpath.lets_calls_go = True, False
            for process in world.processes.values():
                for tid in process.threads:
                    with suppress(ProcessLookupError):
                        ptrace.interrupt(tid)

    def send_unsent(self, process: Process) -> None:
        """At a stop of a process whose clock has signals that could not be queued yet.

        Those of the process are, where that is possible now.
        """
        world = process.world
        for key in [key for key in world.unsent if key[1] == process.pid]:
            timer = world.timers[key]
            self._send(world, timer, is_pending=_is_pending(timer))

    def _is_held(self, world: ClockState, timer: Timer) -> bool:
        """Whether some process, the one that set it or another, has its descriptor."""
        _, pid, fd = timer.key
        if descriptors.is_copy(timer.copy, pid, fd):
            return True
        for one in world.everyone:
            for other in procfs.timerfds(one):
                if descriptors.is_copy(timer.copy, one, other):
                    del world.timers[timer.key]
                    timer.key = "fd", one, other
                    world.timers[timer.key] = timer
                    return True
        return False

    def _forget(self, world: ClockState, timer: Timer) -> None:
        forget(world, timer)
        self.alarms.cancel(timer)

    def has_ended(self, process: Process, kinds: Sequence[str] = ("itimer", "timer")) -> None:
        """Its timers end with it; at an exec those of timer_create(2) do."""
        world = process.world
        for key in [key for key in world.timers if key[0] in kinds and key[1] == process.pid]:
            self._forget(world, world.timers[key])
        if not world.everyone:
            for timer in tuple(world.timers.values()):
                self._forget(world, timer)

    def sending(self, process: Process) -> list[Timer]:
        """Return those of a process that are armed and send signals."""
        timers = process.world.timers.values()
        return [one for one in timers if one.key[1] == process.pid and one.signal and one.deadlines]

    def let_go(self, process: Process) -> None:
        """As `has_ended`, when it is on the clock no more: its timerfds go on in real time.

        But for those that others on the clock have. A warning names one that cannot.
        """
        world, host_ns, held = process.world, now_ns(), None
        for timer in tuple(world.timers.values()):
            if timer.copy >= 0:
                try:
                    setter = procfs.thread_group(timer.key[1])
                    if setter not in (process.pid, None):
                        continue
                    held = _held(world, world.everyone) if held is None else held
                    # A thread that has set it and ended may have been another's.
                    is_its = setter is not None or timer.copy in _held(world, (process.pid,))
                    if timer.copy in held or not is_its:
                        continue
                    if timer.deadlines and not timer.is_running:
                        left_ns = max(timer.left_ns(world.page.lines, host_ns), 1)
                        descriptors.rearm_timerfd(timer.copy, left_ns, timer.interval_ns)
                except OSError as error:
                    text = f"a timerfd of {process.describe()} does not expire any more"
                    world.warn(process.pid, f"{text}: {error}")
                self._forget(world, timer)
        self.has_ended(process)

    def close(self, worlds: Iterable[ClockState]) -> None:
        """Forget the timers of programs that have ended with their tracer."""
        for world in worlds:
            for timer in tuple(world.timers.values()):
                forget(world, timer)

    def cancel(self, world: ClockState) -> None:
        """Cancel what the setting of the wall clock cancels (TFD_TIMER_CANCEL_ON_SET)."""
        for timer in tuple(world.timers.values()):
            if timer.is_canceled_when_set and timer.copy >= 0 and self._is_held(world, timer):
                timer.is_canceled = world.is_canceled = True

    def wake_canceled(self, world: ClockState) -> None:
        """Those who poll canceled timers read them next."""
        for timer in world.timers.values():
            if timer.is_canceled:
                descriptors.add_ticks(timer.copy, 1)

    def at_read(self, task: Task, fd: int) -> Callable[[int], int] | None:
        """Return what a read(2) returns in place of its own result.

        If it is of a canceled timer.
        """
        world = task.process.world
        timer = world.timerfds.find(task.tid, fd)
        if timer is None or not timer.is_canceled:
            return None

        def cancellation(result: int) -> int:
            if result <= 0:
                return result
            timer.is_canceled = False
            world.is_canceled = any(one.is_canceled for one in world.timers.values())
            return -errno.ECANCELED

        return cancellation

    def correct(self, process: Process, info: Any) -> None:
        """Correct what a signal of a timer says when it is delivered.

        How often it has expired meanwhile, and setitimer's is the kernel's own.
        """
        fields = signals.TIMER_FIELDS.unpack_from(bytes(info.rest), signals.TIMER_OFFSET)
        number, overrun, value, times_sent = fields
        if number == _OF_ITIMER:
            info.si_code = signals.SI_KERNEL
            ctypes.memset(info.rest, 0, ctypes.sizeof(info.rest))
            return
        timer = process.world.timers.get(("timer", process.pid, number))
        if timer is not None:
            if times_sent == timer.times_sent and timer.is_sent:
                timer.was_delivered()  # else the one after it was sent before this stop was seen
            overrun = min(timer.last_overrun, MAX_OVERRUN)
        data = signals.TIMER_FIELDS.pack(number, overrun, value, 0)
        ctypes.memmove(ctypes.addressof(info.rest) + signals.TIMER_OFFSET, data, len(data))
