"""The loop: wait, look up the handler of the stop, let it resume the task; and nothing else.

A handler may find that its task was killed while it was stopped (SIGKILL ends any stop): it then
gets ProcessLookupError from the kernel, and the death is reported by a later wait. Any other
exception in a handler costs the program that it was handling its life, as that would go on in real
time, and no other one: UnsupportedProgram says so.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pytest_vdsotime import faults, image
from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.events import EventKind
from pytest_vdsotime.future import Future
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.kernel.sample import Sampler
from pytest_vdsotime.kernel.signals import SI_TIMER
from pytest_vdsotime.kernel.spawn import PendingSpawns
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer import crashes
from pytest_vdsotime.tracer.calls import (
    LOADER_FAILED,
    later,
    peers,
    restart,
    signals,
    waits,
)
from pytest_vdsotime.tracer.calls.cancellation import CanceledReads
from pytest_vdsotime.tracer.calls.expirations import Timers
from pytest_vdsotime.tracer.calls.waits import TimedWaits, follow_wait
from pytest_vdsotime.tracer.crashes import Crashes
from pytest_vdsotime.tracer.engine import Engine
from pytest_vdsotime.tracer.fastpath import CHILD, END, Entry, FastPath
from pytest_vdsotime.tracer.movement import Movement
from pytest_vdsotime.tracer.quiescence import Quiescence
from pytest_vdsotime.tracer.state import ClockState, Process, Tables, Task, TaskState
from pytest_vdsotime.tracer.stops import (
    Recovery,
    Shortcuts,
    Stops,
    is_thread_of,
    own_rows,
    tell_of_calls,
    tell_of_waits,
)
from pytest_vdsotime.tracer.takeover.attach import Attaching, words_of
from pytest_vdsotime.tracer.takeover.exec import Takeover, select, warn_of_reservations
from pytest_vdsotime.tracer.takeover.mapping import inherit_copy
from pytest_vdsotime.tracer.takeover.native import NativeObjects, RealTime
from pytest_vdsotime.tracer.takeover.relocate import Moving
from pytest_vdsotime.tracer.takeover.start import Launching
from pytest_vdsotime.tracer.waker import Alarms, Waker

_BIRTHS = StopKind.FORK, StopKind.VFORK, StopKind.CLONE
_IN_CALLS = StopKind.SYSCALL, StopKind.TRAP, StopKind.GROUP_STOP, StopKind.SIGNAL


def _kill(tid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(tid, signal.SIGKILL)


class Idle(Protocol):
    """What there is to be done between two stops."""

    def tick(self) -> int:
        """Do it; return how long to wait for the next stop, in nanoseconds; 0: until it comes."""

    def was_active(self) -> None:
        """Note that some task had a stop."""


class Loop:
    """The tracer's tables and what happens to them. Everything here runs on the tracer thread."""

    def __init__(
        self,
        native: NativeObjects,
        waker: Waker,
        pending_spawns: PendingSpawns,
        is_native: bool,
        rung: Callable[[], None],
        child_came: Callable[[int], None],
    ) -> None:
        """Make what the loop uses.

        `rung` is called when the waker was, `child_came` when the fast path has seized a child.
        """
        self._native, self._child_came = native, child_came
        self._calls = native.calls
        self._rewinds_early = native.arch.rewinds_early
        tables = self._tables = Tables()
        self.tasks = tables.tasks
        self._newborn = tables.newborn
        self.worlds = tables.worlds
        fastpath = self._fastpath = FastPath(image.tracer_path(native.arch), pending_spawns)
        recovery = Recovery(tables, fastpath, self._start_newborn)
        self.stops = Stops(tables, self._fastpath, waker, recovery, self._news, rung)
        self.launching = Launching(tables, self._fastpath)
        self._takeover = Takeover(native, self.stops.next_of)
        self.shortcuts = Shortcuts(tables, self._fastpath, native, self._takeover, is_native)
        own_waits = own_rows(native.arch.abis[0])
        tell_of_waits(self._fastpath, own_waits)
        tell_of_calls(self._fastpath, native)
        self._timed_waits = TimedWaits(native.arch, self._fastpath, own_waits)
        sampler = Sampler(image.tracer_path(native.arch))
        quiescence = self.quiescence = Quiescence(
            tables, self._fastpath, self._timed_waits, sampler
        )
        alarms = Alarms(waker)
        self.timers = Timers(alarms, self._fastpath)
        self._cancellation = CanceledReads(self._calls, self.timers)
        self._crashes = Crashes(native.arch, alarms, self.handle)
        self.movement = Movement(
            self._calls, quiescence, self.timers, self._cancellation, self.shortcuts
        )
        self.engine = Engine(
            *(tables, fastpath, self._timed_waits, self.timers),
            *(self._calls, self.shortcuts, self.stops),
        )
        moving = self._moving = Moving(native, self.stops.next_of)
        self._attaching = Attaching(
            *(native, tables, fastpath, moving, self.timers),
            *(waker, self.stops.next, self.handle),
        )
        self.later: deque[Callable[[], None]] = deque()
        """Actions for when no stop is being handled."""
        self.clocks = Clocks(tables, self._fastpath, self._attaching, self.shortcuts, self.later)
        self.is_done = False
        self._happened_ns = 0  # when what is handled has, if that was a while ago
        self._handlers: Mapping[int, Callable[[Task, Stop], None]] = {
            **dict.fromkeys(map(int, _BIRTHS), self._on_new_task),
            int(StopKind.EXEC): self._on_exec,
            int(StopKind.TRAP): self._on_trap,
            int(StopKind.GROUP_STOP): self._on_group_stop,
            int(StopKind.SIGNAL): self._on_signal,
            int(StopKind.SECCOMP): self._on_call,
            int(StopKind.SYSCALL): self._on_syscall,
            int(StopKind.EXITED): self._on_exit,
        }

    def run(self, idle: Idle) -> None:
        """Handle stops until `is_done`; `idle` says how long to wait for the next."""
        while not self.is_done:
            if faults.armed:
                faults.reach("loop", 0)
            while self.later:
                self.later.popleft()()
            stop = self.stops.next(idle.tick())
            if stop is not None:
                self.handle(stop)
                idle.was_active()

    def handle(self, stop: Stop) -> None:
        """Handle one stop, whatever becomes of it. Raises nothing."""
        try:
            if faults.armed:
                faults.reach(f"stop {StopKind(stop.kind).name}", stop.tid)
            self._dispatch(stop)
        except ProcessLookupError as error:
            # Killed while it was stopped: its exit is reported next. Or an error says so wrongly.
            if stop.tid in self.tasks and self._tables.is_stopped(stop.tid):
                self._blame(stop, error)
        except Exception as error:
            if stop.kind in _BIRTHS:
                with suppress(ProcessLookupError):
                    self._kill_unplaced(Stopped(stop.tid).event_message())
            self._blame(stop, error)

    def _kill_unplaced(self, tid: int) -> None:
        """Kill a child or thread of which the tables do not know whose it is."""
        if tid and tid not in self.tasks:  # 0: not of this PID namespace
            _kill(tid)

    def _blame(self, stop: Stop, error: Exception) -> None:
        """Kill the program whose stop could not be handled.

        One that has ended is forgotten all the same.
        """
        operation = f"handling a stop ({StopKind(stop.kind).name}) of"
        task = self.tasks.get(stop.tid)
        if task is None:
            if stop.kind != StopKind.EXITED:
                _kill(stop.tid)
            text = f"{operation} task {stop.tid} failed: {error}; it was killed"
            for world in self.worlds:  # nobody knows whose it is
                world.errors.append(UnsupportedProgram(text))
            return
        task.process.kill_unsupported(error, operation)
        if stop.kind == StopKind.EXITED and self._forget(task):
            self._ended(task.process, stop.value)

    def _dispatch(self, stop: Stop) -> None:
        task = self.tasks.get(stop.tid)
        if task is None:
            if stop.tid in self._tables.leaving:
                self._attaching.depart(stop)
                return
            if stop.kind == StopKind.EXEC:
                task = self._leader_reborn(stop.tid, Stopped(stop.tid).event_message())
            elif stop.kind == StopKind.EXITED:
                self._newborn.pop(stop.tid, None)
                return
            else:
                self._newborn[stop.tid] = stop
                return
        task.move(TaskState.GONE if stop.kind == StopKind.EXITED else TaskState.STOPPED)
        self._cancellation.has_stopped(task)
        if stop.kind in _IN_CALLS:
            self._timed_waits.take_kept(task)
            self.shortcuts.note_interrupted(task, stop)
        if task.process.world.unsent:
            self.timers.send_unsent(task.process)
            if not task.process.world.stops_at_calls:
                self.shortcuts.choose()
        self._handlers[stop.kind](task, stop)

    # --- programs come ---------------------------------------------------------------------------

    def _on_new_task(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        tid = stopped.event_message()
        is_thread = stop.kind == StopKind.CLONE and is_thread_of(task.process.pid, tid)
        self._place(task, tid, TaskState.NEW, is_thread=is_thread)
        self.shortcuts.resume(task, stopped)
        self._start_newborn(tid)

    def _news(self) -> None:
        """Take note of what the fast path has seen to already."""
        for entry in self._fastpath.entries:
            self._happened_ns = entry.at_ns
            kind = StopKind.EXITED.value if entry.event == END else entry.event
            stop = Stop(entry.tid, kind, entry.what)
            try:
                if entry.event == END:
                    self.handle(stop)
                elif entry.event == CHILD:
                    self._child_came(entry.tid)
                else:
                    self._was_seen_to(entry)
            except ProcessLookupError:
                pass
            except Exception as error:
                self._blame(stop, error)
                if entry.event in _BIRTHS:
                    self._kill_unplaced(entry.what)
        self._happened_ns = 0
        for tid, failure in self.stops.failures():
            if tid in self.tasks:
                self.tasks[tid].process.kill_unsupported(failure, "resuming")
        for tid in self._fastpath.readers:
            if tid in self.tasks:
                self.tasks[tid].process.has_read_clock = True

    def _was_seen_to(self, entry: Entry) -> None:
        """Take note of an exec or a birth."""
        if faults.armed:
            faults.reach(f"entry {StopKind(entry.event).name}", entry.tid)
        if entry.event == StopKind.EXEC:
            if not self.tasks.keys() & {entry.tid, entry.what}:
                _kill(entry.tid)  # its parent was, before it could tell whose it is
                return
            task = self.tasks.get(entry.tid) or self._leader_reborn(entry.tid, entry.what)
            if task.state != TaskState.RUNNING:
                task.move(TaskState.RUNNING)  # a leader that was killed while it was stopped
            self._begin_program(task)
            self.shortcuts.was_at_exec(task.process, entry.kind, entry.base)
            self.shortcuts.mark(task.process, task.tid)  # its birth may have been told since
            self._has_begun(task.process, entry.argv)
            return
        parent = self.tasks.get(entry.tid)
        if parent is not None:  # else the recovery finds out whose it is
            self._place(parent, entry.what, TaskState.RUNNING, is_thread=bool(entry.base))
        self._start_newborn(entry.what)

    def _place(self, parent: Task, tid: int, state: TaskState, *, is_thread: bool) -> None:
        if tid in self.tasks:
            return  # it was placed when its parent's report was overdue
        process = parent.process
        self.shortcuts.mark(process, tid)
        if is_thread:
            process.threads.add(tid)
            process.world.record(EventKind.THREAD, process.pid, tid, at_ns=self._happened_ns)
        else:
            process = self._adopt(tid, process)
        process.world.was_born(tid, self._happened_ns)
        self.tasks[tid] = Task(tid, process, state)

    def _adopt(self, pid: int, parent: Process) -> Process:
        world, process = parent.world, parent.born(pid)
        (world.skipped if process.is_skipped else world.processes)[pid] = process
        if parent.pid in world.watchers:
            world.watchers.add(pid)
        world.record(EventKind.BORN, parent.pid, pid, at_ns=self._happened_ns)
        if parent.copy is not None:
            try:
                inherit_copy(parent.copy, process)
            except OSError as error:
                process.kill_unsupported(error)
        if world.closed is not None and process.origin is None:
            process.kill()
        return process

    def _start_newborn(self, tid: int) -> None:
        stop = self._newborn.pop(tid, None)
        if stop is not None:
            self.handle(stop)

    # --- programs run ----------------------------------------------------------------------------

    def _leader_reborn(self, tid: int, former: int) -> Task:
        """Return the task of a thread that executed a program after the leader had ended.

        It takes the leader's id.
        """
        task = self.tasks[tid] = Task(tid, self.tasks[former].process, TaskState.RUNNING)
        return task

    def _begin_program(self, task: Task) -> None:
        process = task.process
        # Every other thread is gone, without a report (ptrace(2), "execve(2) under ptrace").
        for tid in process.threads - {task.tid}:
            self.tasks.pop(tid).move(TaskState.GONE)
            process.world.births.pop(tid, None)
            self._fastpath.forget(tid)
        process.threads = {task.tid}
        process.drop_copy()
        process.execute()
        self.timers.has_ended(process, ("timer",))
        # Of the leader, whose place another may have taken.
        task.at_exit = task.wait = task.recvmmsg = None
        task.sample.reached_ns = 0

    def _on_exec(self, task: Task, _stop: Stop) -> None:
        stopped, process, argv = Stopped(task.tid), task.process, procfs.argv(task.tid)
        was_in_real_time = process.is_in_real_time
        self._begin_program(task)
        self.shortcuts.know_program(process, select(process))
        self.shortcuts.mark(process, task.tid)
        if process.is_skipped:
            self.shortcuts.resume(task, stopped)
            self._has_begun(process, argv)
            if was_in_real_time:
                self.shortcuts.choose()
            return
        try:
            stopped = self._takeover.at_exec(stopped, process)
        except RealTime as reason:
            process.is_in_real_time = True
            process.world.warn(process.pid, f"{process.describe()} runs in real time: {reason}")
            self.shortcuts.choose()
            self.shortcuts.resume(task, stopped)
        except ProcessLookupError:
            raise
        except (OSError, UnsupportedProgram) as error:
            process.kill_unsupported(error)
        else:
            if was_in_real_time:
                self.shortcuts.choose()
            self.shortcuts.know_kinds()
            self.shortcuts.mark(process, task.tid)
            warn_of_reservations(process)
            self.shortcuts.resume(task, stopped)
        self._has_begun(process, argv)

    def _has_begun(self, process: Process, argv: bytes | Sequence[str]) -> None:
        """Tells who waits for that."""
        kind = EventKind.EXECUTED
        if process.launch is not None:
            kind, argv = EventKind.STARTED, process.launch.argv or argv
        process.world.record(kind, process.pid, argv, at_ns=self._happened_ns)
        if process.launch is not None:
            process.launch.ended.give(0)
            process.launch = None
            self._fastpath.to_native(process.pid)

    def _on_trap(self, task: Task, _stop: Stop) -> None:
        stopped = Stopped(task.tid)
        task.process.group_stop = None
        is_interrupted, task.after.is_interrupted = task.after.is_interrupted, False
        self._timed_waits.at_stop(task, stopped, goes_on=True, is_interrupted=is_interrupted)
        self._cancellation.at_stop(task, stopped)
        self.shortcuts.resume(task, self._takeover.follow_time_namespace(stopped, task.process))

    def _on_call(self, task: Task, stop: Stop) -> None:
        stopped, process = Stopped(task.tid), task.process
        task.rewound, call = None, stopped.system_call()
        if call.nr == LOADER_FAILED and call.counter == process.loader_failed_at:
            self._on_loader_failure(task, stopped, call)
            return
        if process.traces_calls and stop.kind == StopKind.SECCOMP:
            # A filter of its own wants it traced, which nobody does (seccomp(2)).
            self._calls.give(stopped, -errno.ENOSYS)
            self.shortcuts.resume(task, stopped)
            return
        if not process.has_in_vdso(call.counter):  # the loader's own calls may stop too
            process.loader_failed_at = 0
        asked = process.asks
        task.at_exit = self._calls.answer(stopped, task, call)
        if process.asks != asked:
            self.shortcuts.mark_all(process)
        if process.world.history.records:
            follow_wait(task, call, self._timed_waits.at_stop)
        if task.wait is not None:
            self._fastpath.drop_record(task.tid)
        self._fastpath.to_python(task.tid, task.at_exit is not None or task.wait is not None)
        self.shortcuts.take_care(process)
        if process.world.setting is not None:
            self.movement.set_wall(process.world)
        if process.world.carry_ns:
            self.movement.carry(process.world)
        self.timers.revise_changed(process.world)
        if task.held is None:
            self.shortcuts.resume(task, stopped)
        self.movement.follow_grace(process.world)

    def _on_loader_failure(self, task: Task, stopped: Stopped, call: SystemCall) -> None:
        process = task.process
        try:
            stopped = self._takeover.after_loader_failure(stopped, process, call)
        except ProcessLookupError:
            raise
        except (OSError, UnsupportedProgram) as error:
            process.kill_unsupported(error)
        else:
            self.shortcuts.mark(process, task.tid)
            self.shortcuts.resume(task, stopped)

    def _on_syscall(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        if task.process.traces_calls:
            call = stopped.system_call()
            if call.is_entry and call.counter == task.began_alone:
                self.shortcuts.resume(task, stopped)
                return
            if call.is_entry:
                task.first_argument = call.arguments[0]
                task.began_alone = 0
                self._on_call(task, stop)
                return
        elif task.process.stops_at_calls or task.at_exit is None:
            call = stopped.system_call()
            if call.is_entry:
                task.first_argument = call.arguments[0]
                self._cancellation.at_call(task, call)
                self._watch(task, call)
                self.shortcuts.resume(task, stopped)
                return
            if task.at_exit is None and task.process.world.page.stamps is not None:
                task.at_exit = self._calls.answer_of_file(stopped, task, call)
        if task.began_alone and not restart.is_in_call(stopped.registers(), self._native.arch):
            task.began_alone = 0
            self._fastpath.to_native(task.tid)
        at_exit, task.at_exit, task.rewound = task.at_exit, None, None
        # An exit takes the place of a trap (ptrace_stop, kernel/signal.c).
        is_interrupted, task.after.is_interrupted = task.after.is_interrupted, False
        if at_exit is None and not self._rewinds_early:
            self._timed_waits.at_stop(task, stopped, is_interrupted=is_interrupted)
        elif is_interrupted and task.wait is not None and not task.wait.is_expiring:
            task.wait.is_anew = True
        if at_exit is not None:
            had_own_filter = task.process.has_own_filter
            at_exit(stopped)
            if task.process.opened is not None:
                stopped = self._takeover.serve_opened(stopped, task.process)
                self.shortcuts.mark_all(task.process)
            if had_own_filter != task.process.has_own_filter:
                self.shortcuts.mark_all(task.process)
            self._fastpath.to_python(task.tid, task.is_to_go_on)
            self.shortcuts.take_care(task.process)
        if task.process.world.network.listens:
            peers.at_exit(task, stopped, self._native.arch)
        if task.process.pid in task.process.world.watchers:
            signals.at_exit(task, stopped, self._native.arch)
            if not task.process.world.stops_at_calls:
                self.shortcuts.choose()
        if self._rewinds_early:
            waits.at_exit(self._timed_waits, task, stopped, is_as_written=at_exit is None)
        self.timers.revise_changed(task.process.world)
        self.shortcuts.resume(task, self._takeover.follow_time_namespace(stopped, task.process))
        self.movement.follow_grace(task.process.world)

    def _watch(self, task: Task, call: SystemCall) -> None:
        """Find out whether a task that runs on after its deadline polls for a later time."""
        after = task.after
        if not after.watched_calls:
            return
        if self._calls.is_poll(call):
            later.polls(task, (call.stack, call.counter))
            if task.process.world.carry_ns:
                self.movement.carry(task.process.world)
        elif not self._calls.sees(call):
            after.watched_calls -= 1
            if not after.watched_calls:
                task.sample.reached_ns = 0  # it does something else
        if not task.sample.reached_ns or not later.can_be_carried(task):
            after.watched_calls = 0
            self._fastpath.to_python(task.tid, task.is_to_go_on)

    def _on_group_stop(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        self._timed_waits.at_stop(task, stopped)
        waits.at_group_stop(task, stopped, self._native.arch)
        task.process.group_stop = task.process.group_stop or stop
        task.move(TaskState.LISTENING)
        stopped.listen()

    def _on_signal(self, task: Task, stop: Stop) -> None:
        stopped, number, process = Stopped(task.tid), stop.value, task.process
        if number == signal.SIGSEGV and (
            self._moving.follow(stopped, process)
            or self._takeover.follow_moved_vdso(stopped, process)
        ):
            number = 0
        else:
            task.after.is_interrupted = False
            self._timed_waits.at_signal(task, stopped, number)
            info = stopped.signal()
            if crashes.is_of_namespace_init(process, number, info.si_code):
                self._crashes.let_go(task, stopped, number)
                return
            if info.si_code == SI_TIMER:
                self.timers.correct(process, info)
                stopped.set_signal(info)
            if number in restart.STOPPING:
                restart.end_interrupted(stopped, self._native.arch, task.rewound)
            elif task.rewound is None:
                restart.hide_interrupt(stopped, self._native.arch, number)  # it may be ignored
        self.shortcuts.resume(task, stopped, number)

    # --- programs go -----------------------------------------------------------------------------

    def _on_exit(self, task: Task, stop: Stop) -> None:
        process = task.process
        if self._forget(task):
            self._ended(process, stop.value)
        else:
            at_ns = self._happened_ns
            process.world.record(EventKind.THREAD_ENDED, process.pid, tid=task.tid, at_ns=at_ns)

    def _forget(self, task: Task) -> bool:
        """Remove a task that has ended; return whether its process has ended with it."""
        process = task.process
        self.tasks.pop(task.tid, None)
        process.world.births.pop(task.tid, None)
        self.timers.alarms.cancel(task.tid)
        self._fastpath.forget(task.tid)
        process.threads.discard(task.tid)
        # The leader may have ended before the process was attached to.
        return task.tid == process.pid or not process.threads

    def _ended(self, process: Process, status: int) -> None:
        world = process.world
        with process.answers_for("handling the end of"):
            world.record(EventKind.ENDED, process.pid, status, at_ns=self._happened_ns)
        if process.exited is not None:
            process.exited.give(status)  # soon: it takes its time to wake up who waits for that
        (world.skipped if process.is_skipped else world.processes).pop(process.pid, None)
        world.watchers.discard(process.pid)
        process.drop_copy()
        with process.answers_for("ending the timers of"):
            self.timers.has_ended(process)
        if process.launch is not None:
            # A signal has killed the child as it would have killed the program.
            process.launch.ended.give(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0)
        self.clocks.end_if_empty(world)


# --- clocks come and go --------------------------------------------------------------------------


@dataclass(slots=True)
class Clocks:
    """One per tracer, on its thread."""

    tables: Tables
    fastpath: FastPath
    attaching: Attaching
    shortcuts: Shortcuts
    later: deque[Callable[[], None]]
    """Actions for when no stop is being handled."""

    def add(self, world: ClockState) -> None:
        """Add a clock whose first program is to come."""
        self.tables.worlds.append(world)
        self.shortcuts.choose()

    def attach(self, process: Process, *, children: bool) -> None:
        """Take over a running process, with its children or a warning of them. For `later`."""
        self.fastpath.hands_over_all, self.fastpath.lets_calls_go = True, False
        try:
            self.attaching.attach(process)
            process.world.record(EventKind.ATTACHED, process.pid, procfs.argv(process.pid))
            try:
                if children:
                    self.attaching.attach_children(process)
                elif left := self.attaching.children_apart(process):
                    process.world.warn(process.pid, words_of(process, left))
            except BaseException:
                process.world.errors.extend(self.attaching.release(process))
                raise
        finally:
            self.end_if_empty(process.world)
            self.shortcuts.choose()

    def release(self, process: Process) -> None:
        """Lets a process that was attached to, and what it has started, go; see Attaching.release.

        For `later`.
        """
        self.fastpath.lets_calls_go = False
        process.world.errors.extend(self.attaching.release(process))
        self.end_if_empty(process.world)
        self.shortcuts.choose()

    def _release_for_good(self, process: Process) -> None:
        with process.answers_for("letting go"):
            self.release(process)

    def close(self, world: ClockState, closed: Future[None]) -> None:
        """Kills every process of a clock; answers `closed` when the last one has ended."""
        world.closed = closed
        if world.everyone:
            self.shortcuts.choose()
        for process in tuple(world.everyone.values()):
            if process.origin is None:
                process.kill()
            else:
                self.later.append(partial(self._release_for_good, process.origin))
        self.end_if_empty(world)

    def end_if_empty(self, world: ClockState) -> None:
        """Have a clock that is being closed end with its last process."""
        if world.closed is not None and not world.everyone:
            world.closed.give(None)
            if world in self.tables.worlds:
                self.tables.worlds.remove(world)
                self.shortcuts.choose()
