"""Taking over programs that run already, and letting them go.

All threads are stopped, the images are moved (relocate.py), and all go on. A program under way can
be given no seccomp filter that it would be rid of again: it stops at every system call instead.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from pytest_vdsotime.abi import constant
from pytest_vdsotime.errors import ClockClosed, UnsupportedProgram
from pytest_vdsotime.events import EventKind
from pytest_vdsotime.kernel import procfs, ptrace
from pytest_vdsotime.kernel.descriptors import share_memory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.timeline import now_ns
from pytest_vdsotime.tracer.calls.expirations import Timers
from pytest_vdsotime.tracer.calls.restart import called_again, hide_interrupt, recall
from pytest_vdsotime.tracer.fastpath import FastPath
from pytest_vdsotime.tracer.state import Process, Tables, Task, TaskState
from pytest_vdsotime.tracer.takeover.native import NativeObjects
from pytest_vdsotime.tracer.takeover.relocate import Moving, arch_of
from pytest_vdsotime.tracer.waker import Waker

#: The stops that wait while others are stopped. Signals too: a handler would be called inside what
#: is to be moved.
_KEPT = StopKind.TRAP, StopKind.GROUP_STOP, StopKind.SIGNAL
_NEW_TASKS = StopKind.FORK, StopKind.VFORK, StopKind.CLONE
_WALL = constant("__WALL")
_TIMEOUT_S = 5.0
_MAX_NAMED = 5
#: Of a program that executes again and again meanwhile: each exec may have one come to nothing.
_MAX_SEIZES, _MAX_ATTEMPTS = 100, 200
#: The first one passes where there is a processor for a handler, the later ones on a busy machine.
_MOMENTS_S = (*(0.001,) * 50, *(0.01,) * 20, *(0.1,) * 5)


class _Executed(ProcessLookupError):
    """A thread that was no tracee yet has executed, by which those that were have ended."""


@dataclass(slots=True)
class Attaching:
    """Attaches to processes and releases them; one per tracer, on its thread.

    Nothing else is under way there meanwhile: stops of other tasks are handled as they come, as
    some thread may be waiting for one of these (vfork(2)).
    """

    native: NativeObjects
    tables: Tables
    fastpath: FastPath
    moving: Moving
    timers: Timers
    waker: Waker
    next_stop: Callable[[], Stop | None]
    """None: what others ask for was looked at."""
    handle: Callable[[Stop], None]
    _blocked: dict[int, procfs.BlockedCall] = field(default_factory=dict)
    """What threads are in that are to be stopped (`_look_at`)."""

    def attach(self, process: Process) -> None:
        """Give a running process, all its threads and what they will start the clock.

        Leaves: it running, on the clock; or after an error as it was, untraced, or killed where
        that cannot be, as the error says.

        Raises ValueError when it is on a clock already; OSError when it cannot be traced,
        UnsupportedProgram when it cannot be given the clock; ClockClosed.
        """
        failure: ProcessLookupError | None = None
        for _ in range(_MAX_ATTEMPTS):
            try:
                self._attach(process)
            except ProcessLookupError as error:
                if procfs.is_over(process.pid):
                    raise
                failure = error
                self._await_departure(process)
                if procfs.is_over(process.pid):
                    raise
            else:
                return
        raise UnsupportedProgram(f"attaching to {process.describe()} failed again: {failure}")

    def _attach(self, process: Process) -> None:
        world = process.world
        if world.closed is not None:
            raise ClockClosed("the clock is closed")
        if any(process.pid in world.everyone for world in self.tables.worlds):
            raise ValueError(f"process {process.pid} is on a clock already")
        world.processes[process.pid] = process
        process.attempt = process
        _, parent = procfs.stat_fields(process.pid) or ("", 0)
        if parent == os.getpid():
            self.fastpath.spared.add(process.pid)
        stops: dict[int, Stop] = {}
        try:
            self._seize_all(process, stops)
            with self._named("attaching to", process, stops):
                self._stop_at_rest(process, stops)
                while self._seize_all(process, stops):
                    self._stop_at_rest(process, stops)
                process.has_own_filter = any(procfs.has_filter(tid) for tid in stops)
                _check_memory(process)
                self._recall(process, stops)
                _know_time_namespace(process, stops)
                if process.moved is None and not process.mapped:
                    self.moving.move_in(process, stops)
                for tid, stop in stops.items():
                    with suppress(ProcessLookupError):
                        self._prepare(Stopped(tid), stop, self.tables.tasks[tid])
        except BaseException as error:
            is_left = self._takes_back(process, stops) and self._detach(process, stops) is None
            self._release_others(process, lambda one: one.attempt is process)
            if not is_left:
                text = f"{error}; what was begun could not be undone, and it was killed"
                raise UnsupportedProgram(text) from error
            raise
        process.traces_calls = True
        for stop in stops.values():
            self.handle(stop)
        process.attempt = None
        # What was forked while the threads were being stopped was forked before.
        self._release_others(process, lambda one: one.attempt is process and not one.mapped)
        for one in world.everyone.values():
            one.attempt = None

    def _takes_back(self, process: Process, stops: dict[int, Stop]) -> bool:
        """Undo what an attempt that has failed has done; a process is killed where that fails."""
        if process.moved is not None:
            try:
                with self._named("giving its own clock back to", process, stops):
                    self._move_out(process, stops)
            except ProcessLookupError:
                pass  # it has ended
            except UnsupportedProgram:
                process.kill()
                return False
        return True

    def attach_children(self, process: Process) -> None:
        """Give what a process has started before it was attached to the clock as well.

        Those that start others meanwhile have theirs attached to in turn. A warning names one that
        cannot be given the clock; it stays as it is. Raises ClockClosed.
        """
        world, tried = process.world, set[int]()
        while left := [pid for pid in self.children_apart(process) if pid not in tried]:
            for pid in left:
                tried.add(pid)
                child = Process(pid, world, origin=process)
                try:
                    self.attach(child)
                except (ProcessLookupError, FileNotFoundError):
                    pass  # it has ended
                except (OSError, UnsupportedProgram) as error:
                    world.warn(pid, f"{child.describe()} runs in real time: {error}")
                else:
                    world.record(EventKind.ATTACHED, pid, procfs.argv(pid))

    def children_apart(self, process: Process) -> list[int]:
        """Return what a process has started that is on no clock, each behind its parent."""
        known = {pid for world in self.tables.worlds for pid in world.everyone}
        return [
            pid
            for pid in procfs.descendants(process.pid)
            if pid not in known and not _is_traced_here(pid)
        ]

    def release(self, process: Process) -> list[UnsupportedProgram]:
        """Let a process that was attached to and what it has started go.

        With their own vDSO again; a program executed since goes on with the fake one, which leads
        to its own.

        Leaves: all of them running, untraced. Nothing of those that have just ended.

        Returns why some could not be let go and were killed.
        """
        return self._release_others(process, lambda _one: True, itself=True)

    def _release_others(
        self, process: Process, chosen: Callable[[Process], bool], *, itself: bool = False
    ) -> list[UnsupportedProgram]:
        """Itself first, as its number of descendants grows no more then."""
        failures: list[UnsupportedProgram] = []
        origin = process.origin
        tried = set() if itself else {process.pid}
        world = process.world
        while True:
            left = (
                one
                for one in world.everyone.values()
                if one.origin is origin and one.pid not in tried and chosen(one)
            )
            one = next(left, None)
            if one is None:
                return failures
            tried.add(one.pid)
            try:
                self._release_one(one)
            except UnsupportedProgram as error:
                failures.append(error)

    def _release_one(self, process: Process) -> None:
        stops: dict[int, Stop] = {}
        try:
            with self._named("releasing", process, stops):
                is_at_rest = self._stop_at_rest(process, stops)
                self._move_out(process, stops, in_use=not is_at_rest)
                self._give_back_timers(process, stops)
        except ProcessLookupError:
            if not stops:
                return  # it ended
        except UnsupportedProgram as error:
            process.kill()
            raise UnsupportedProgram(f"{error}; it was killed") from error
        if failure := self._detach(process, stops):
            raise UnsupportedProgram(
                f"releasing {process.describe()} failed: {failure}; it was killed"
            )

    def _move_out(self, process: Process, stops: dict[int, Stop], *, in_use: bool = False) -> None:
        """Of the memory of a stopped process, which is also that of those who share it.

        Leaves: these running, on the clock, until they are released as well.
        """
        others: dict[int, dict[int, Stop]] = {}
        everyone = dict(stops)
        try:
            while (one := _sharer(process, others)) is not None:
                theirs = others[one.pid] = {}
                try:
                    in_use |= not self._stop_at_rest(one, theirs)
                except ProcessLookupError:
                    pass  # it ends
                finally:
                    everyone |= theirs
            self.moving.move_out(process, everyone, in_use=in_use)
            for pid in others:
                one = process.world.everyone.get(pid)
                if one is not None and share_memory(pid, process.pid):
                    one.mapped, one.moved = 0, None
        finally:
            stops.update((tid, everyone[tid]) for tid in stops)
            for theirs in others.values():
                for tid in theirs:
                    self._go_on(everyone[tid])

    def _give_back_timers(self, process: Process, stops: dict[int, Stop]) -> None:
        timers = self.timers.sending(process)
        try:
            if timers:
                self.moving.give_back_timers(process, stops, timers, now_ns())
        except ProcessLookupError:
            raise
        except (OSError, UnsupportedProgram) as error:
            text = f"timers that {process.describe()} has set since it was attached to are gone"
            process.world.warn(process.pid, f"{text}: {error}")

    @contextmanager
    def _named(self, operation: str, process: Process, stops: Mapping[int, Stop]) -> Iterator[None]:
        """Whatever fails fails for its end, where a thread is not stopped any more (SIGKILL).

        Nor is one that another has replaced by its exec. An error that says so where all are
        stopped is as any other.
        """
        try:
            yield
        except _Executed:
            raise
        except (OSError, UnsupportedProgram) as error:
            is_stopped = all(map(self.tables.is_stopped, stops))
            is_killed = not is_stopped or procfs.is_over(process.pid)
            if isinstance(error, ProcessLookupError) and (is_killed or not stops):
                raise
            if is_killed:
                raise ProcessLookupError(
                    errno.ESRCH, f"process {process.pid} was killed"
                ) from error
            raise UnsupportedProgram(f"{operation} {process.describe()} failed: {error}") from error

    # --- stopping and going on -------------------------------------------------------------------

    def _seize_all(self, process: Process, stops: dict[int, Stop]) -> bool:
        """Until a look finds no new thread; returns whether one did, or some have to be stopped.

        Those that seized ones start are traced from their start, which is reported later; but not
        one that was being started when its parent was seized.
        """
        seen, has_new = set(process.threads), False
        while (found := procfs.threads(process.pid)) - seen:
            for tid in found - seen:
                seen.add(tid)
                self._sampler(tid)
                if self._seize(process, tid):
                    self._begin(process, tid)
                    has_new = True
        self._forget_lost(process, stops)
        return has_new or bool(self._yet_to_stop(process, stops))

    def _seize(self, process: Process, tid: int) -> bool:
        """As `_seize_task`.

        An exec by another thread of the process waits until the ends of those are taken that are
        traced already (de_thread, fs/exec.c), and has the seize wait for itself.
        """
        self.waker.freeing = partial(_take_ends, process.pid, process.threads - {process.pid})
        try:
            return _seize_task(tid)
        finally:
            self.waker.freeing = None

    def _begin(self, process: Process, tid: int) -> None:
        process.threads.add(tid)
        self.tables.tasks[tid] = Task(tid, process, TaskState.RUNNING)

    def _forget_lost(self, process: Process, stops: dict[int, Stop]) -> None:
        """Forget threads that are no tracees any more, of which nothing may be reported.

        The exec of another, which was no tracee, has ended them (de_thread, fs/exec.c). A thread
        that is seized as it executes is one with the process's number when that is done.

        Raises ProcessLookupError when the process has ended, _Executed when none is left.
        """
        tracer, found = threading.get_native_id(), procfs.threads(process.pid)
        lost = {
            tid for tid in process.threads if tid not in found or procfs.tracer_of(tid) != tracer
        }
        if procfs.is_over(process.pid):  # its end is reported
            raise ProcessLookupError(errno.ESRCH, f"process {process.pid} has ended")
        for tid in lost:
            self.tables.tasks.pop(tid).sample.close()
            self.fastpath.forget(tid)
            stops.pop(tid, None)
        process.threads -= lost
        if process.pid not in process.threads and procfs.tracer_of(process.pid) == tracer:
            self._begin(process, process.pid)
        elif lost and process.pid in stops and not self.tables.is_stopped(process.pid):
            del stops[process.pid]
            self.tables.tasks[process.pid].move(TaskState.RUNNING)
        if not process.threads:
            raise _Executed(errno.ESRCH, f"a thread of {process.pid} executed")

    def _stop_all(self, process: Process, stops: dict[int, Stop]) -> None:
        """Fill in the stop of each thread, yet to be handled.

        Raises ProcessLookupError when it ends, TimeoutError.
        """
        deadline_s = time.monotonic() + _TIMEOUT_S
        asked = set(stops)
        while self._yet_to_stop(process, stops):
            for tid in process.threads - asked:
                asked.add(tid)
                # Not one that has stopped by itself: it would stop again before it ran.
                if ptrace.signal_info(tid) is None:
                    self._sampler(tid)
                    with suppress(ProcessLookupError):
                        ptrace.interrupt(tid)
            stop = self.next_stop()
            if stop is None:
                # Soon: the waker rings now and then.
                self._forget_lost(process, stops)
                asked = set(stops)
                if time.monotonic() > deadline_s:
                    busy = min(self._yet_to_stop(process, stops), default=process.pid)
                    raise TimeoutError(errno.ETIMEDOUT, f"thread {busy} does not stop")
            elif stop.tid not in process.threads:
                self.handle(stop)
            elif stop.kind in _KEPT:
                self.tables.tasks[stop.tid].move(TaskState.STOPPED)
                stops[stop.tid] = stop
            else:
                if stop.kind != StopKind.EXITED:
                    # Any stop cancels it (ptrace_stop, kernel/signal.c); it comes first of what is
                    # next.
                    with suppress(ProcessLookupError):
                        ptrace.interrupt(stop.tid)
                self.handle(stop)
                if stop.kind == StopKind.EXEC:
                    for tid in stops.keys() - process.threads:
                        del stops[tid]
            asked &= process.threads  # one may have got the number of another by its exec
        for tid in stops.keys() - process.threads:
            del stops[tid]
        if not stops:
            raise ProcessLookupError(errno.ESRCH, f"process {process.pid} has ended")
        if all(stop.kind == StopKind.SIGNAL for stop in stops.values()):
            # No system calls can be made at such a stop: one thread is stopped again behind it.
            tid, stop = stops.popitem()
            with suppress(ProcessLookupError):
                ptrace.interrupt(tid)
            self.handle(stop)
            self._stop_all(process, stops)

    def _yet_to_stop(self, process: Process, stops: Mapping[int, Stop]) -> set[int]:
        """Not a first thread that has ended alone.

        Its end is reported after those of the others (ptrace(2)).
        """
        left = process.threads - stops.keys()
        if process.pid in left and len(process.threads) > 1 and procfs.has_ended(process.pid):
            left.remove(process.pid)
        return left

    def _stop_at_rest(self, process: Process, stops: dict[int, Stop]) -> bool:
        """Stop all threads, as `_stop_all` does, where no handler is at work.

        Of a signal that came inside the vDSO, if that is soon: a handler takes no time.
        """
        for moment_s in _MOMENTS_S:
            self._stop_all(process, stops)
            returning = self.moving.to_return(process, stops)
            if not returning:
                return True
            for tid in returning:
                self._go_on(stops.pop(tid))
            time.sleep(moment_s)
        self._stop_all(process, stops)
        return False

    def _detach(self, process: Process, stops: Mapping[int, Stop]) -> OSError | None:
        """Return why some thread, and with it the process, had to be killed."""
        failure = None
        for tid in tuple(process.threads):
            task = self.tables.tasks.pop(tid, None)
            if task is not None:
                task.sample.close()
            self.fastpath.mark(tid)
            stop = stops.get(tid)
            if stop is None:
                self.tables.leaving.add(tid)
                with suppress(OSError):
                    ptrace.interrupt(tid)
            else:
                failure = self._let_go(stop) or failure
        is_known = process.pid in process.threads | self.tables.leaving
        if not is_known and procfs.tracer_of(process.pid) != threading.get_native_id():
            self.fastpath.spared.discard(process.pid)  # its first thread had ended alone
        process.threads.clear()
        process.drop_copy()
        for known in (process.world.processes, process.world.skipped):
            if known.get(process.pid) is process:
                del known[process.pid]
        self.timers.let_go(process)
        return failure

    def _let_go(self, stop: Stop) -> OSError | None:
        """Detach from a thread; kill it where that cannot be, as nobody would resume it."""
        stopped = Stopped(stop.tid)
        number = stop.value if stop.kind == StopKind.SIGNAL else 0
        try:
            self._recall_one(stopped, stop, None)
            if stop.kind != StopKind.GROUP_STOP:
                hide_interrupt(stopped, arch_of(stopped.registers(), self.native), number)
            stopped.detach(number)
        except ProcessLookupError:
            # It was killed, or another has its number: that is told.
            if procfs.tracer_of(stop.tid) == threading.get_native_id():
                self.tables.leaving.add(stop.tid)
        except OSError as error:
            with suppress(ProcessLookupError):
                os.kill(stop.tid, signal.SIGKILL)
            return error
        else:
            self.fastpath.spared.discard(stop.tid)
        return None

    def depart(self, stop: Stop) -> None:
        """At the stop of a task in `leaving`."""
        tables = self.tables
        tables.leaving.discard(stop.tid)
        if stop.kind == StopKind.EXITED:
            return
        if stop.kind in _NEW_TASKS:
            with suppress(ProcessLookupError):
                new = Stopped(stop.tid).event_message()
                tables.leaving.add(new)
                if new in tables.newborn:
                    self.depart(tables.newborn.pop(new))
        self._let_go(stop)

    def _await_departure(self, process: Process) -> None:
        """Return when no thread of a process is in `leaving`. Raises TimeoutError."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while left := self.tables.leaving & procfs.threads(process.pid):
            stop = self.next_stop()
            if stop is not None:
                self.handle(stop)
            elif time.monotonic() > deadline_s:
                raise TimeoutError(errno.ETIMEDOUT, f"thread {min(left)} does not stop")

    def _sampler(self, tid: int) -> None:
        """Sample a thread before it is stopped.

        Where the stop does not show what it was in, as the exit does once it stops at its calls.
        """
        task = self.tables.tasks.get(tid)
        if self.native.arch.rewinds_early and not (task and task.process.traces_calls):
            self._blocked.pop(tid, None)
            call = procfs.blocked_call(tid)
            if call is not None:
                self._blocked[tid] = call

    def _recall(self, process: Process, stops: Mapping[int, Stop]) -> None:
        for tid, stop in stops.items():
            with suppress(ProcessLookupError):
                self._recall_one(Stopped(tid), stop, self.tables.tasks[tid])

    def _recall_one(self, stopped: Stopped, stop: Stop, task: Task | None) -> None:
        call = self._blocked.pop(stop.tid, None)
        is_caught = stop.kind == StopKind.SIGNAL and procfs.catches(stop.tid, stop.value)
        if call is not None and not is_caught and stop.kind != StopKind.GROUP_STOP:
            counter = recall(stopped, self.native.arch, call)
            if task is not None:
                task.began_alone = counter

    def _go_on(self, stop: Stop) -> None:
        with suppress(ProcessLookupError, KeyError):  # it has ended
            self._prepare(Stopped(stop.tid), stop, self.tables.tasks[stop.tid])
        self.handle(stop)

    def _prepare(self, stopped: Stopped, stop: Stop, task: Task) -> None:
        """Have a thread go on waiting for what it was waiting for."""
        if self.native.arch.rewinds_early:
            self._recall_one(stopped, stop, task)
        elif stop.kind != StopKind.GROUP_STOP:
            arch = arch_of(stopped.registers(), self.native)
            hide_interrupt(stopped, arch, stop.value if stop.kind == StopKind.SIGNAL else 0)
            task.began_alone = called_again(stopped.registers(), arch)


def _know_time_namespace(process: Process, tids: Iterable[int]) -> None:
    """Threads share one (setns(2)), but may have made different ones for what they start."""
    process.changes_time_namespace = any(procfs.has_time_namespace(tid) for tid in tids)
    if process.changes_time_namespace:
        known = (procfs.time_offsets(tid) for tid in tids)
        offsets = next((one for one in known if one is not None), None)
        if offsets is None:
            raise UnsupportedProgram(
                "the offsets of its time namespace are not told once it has made another one; "
                "start it on the clock instead"
            )
        process.time_offsets = offsets


def words_of(process: Process, children: Sequence[int]) -> str:
    """Return the warning of what a process has started before it was attached to."""
    names = ", ".join(f"{procfs.name(pid)} (pid {pid})" for pid in children[:_MAX_NAMED])
    more = f" and {len(children) - _MAX_NAMED} more" if len(children) > _MAX_NAMED else ""
    count = "1 program" if len(children) == 1 else f"{len(children)} programs"
    run = "runs" if len(children) == 1 else "run"
    return (
        f"{count} that {process.describe()} has started before {run} in real time: {names}{more}; "
        "attach(pid, children=True) takes them too"
    )


def _sharer(process: Process, but: Container[int]) -> Process | None:
    """Return another one that was attached to with it and shares its memory (CLONE_VM, clone(2)).

    Not by vfork(2): then one of the two waits, and stops when the other has memory of its own.
    """
    for one in process.world.everyone.values():
        is_of_it = one is not process and one.origin is process.origin and one.pid not in but
        if is_of_it and one.mapped == process.mapped and share_memory(one.pid, process.pid):
            return one
    return None


def _check_memory(process: Process) -> None:
    """Raise UnsupportedProgram for one whose memory another shares, which would get its clock."""
    for pid in procfs.processes():
        if pid != process.pid and share_memory(process.pid, pid):
            raise UnsupportedProgram(
                f"it shares its memory with {procfs.command(pid)} (pid {pid}); start it on the "
                "clock, or attach to it before it starts the other"
            )


def _is_traced_here(pid: int) -> bool:
    """Whether another tracer of this process has it on a clock of its own."""
    tracer = procfs.tracer_of(pid)
    return tracer != 0 and procfs.thread_group(tracer) == os.getpid()


def _take_ends(pid: int, tids: Iterable[int]) -> None:
    """Of threads, for the tracer; the watch thread may, as the kernel shows them to all threads."""
    for tid in filter(procfs.has_ended, tids):
        if procfs.thread_group(tid) == pid:
            with suppress(ChildProcessError):
                os.waitpid(tid, os.WNOHANG | _WALL)


def _seize_task(tid: int) -> bool:
    """Return whether a thread is a tracee from now on: not one that has ended, or was one before.

    A first thread that has ended is refused, and when one looks another that executes may have its
    place (de_thread, fs/exec.c). Raises OSError.
    """
    for _ in range(_MAX_SEIZES - 1):
        try:
            ptrace.seize(tid, may_block=True)
        except ProcessLookupError:
            return False
        except PermissionError:
            if procfs.tracer_of(tid) == threading.get_native_id() or procfs.has_ended(tid):
                return False
        else:
            return True
    ptrace.seize(tid, may_block=True)
    return True
