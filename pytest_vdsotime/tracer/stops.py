"""Where stops come from: the native wait, recovery, and the queue of one task's next stop.

`Stops` waits for the next stop of any task, or of one, while the stops of others are kept.

`Recovery` finds tasks that are stopped without a report. Another thread of this process took the
stop away, with os.wait() or waitpid(-1): Linux shows stops to all threads. Or a parent was killed
between the birth of a child and the report of it, so that no report says whose child it is. Or it
is an end, behind one that is left for the thread that waits for that child (FastPath.left).

`Shortcuts` tells the fast path what it may answer by itself: with one clock, on which nothing is
out of the ordinary, nearly everything.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Abi
from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.kernel import procfs, ptrace, wait
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.selection import Selection
from pytest_vdsotime.timeline import NS_PER_S, now_ns
from pytest_vdsotime.tracer.calls import OF_SKIPPED, restart
from pytest_vdsotime.tracer.calls.files import KINDS as KINDS_OF_CALLS
from pytest_vdsotime.tracer.calls.peers import ASKING
from pytest_vdsotime.tracer.fastpath import KINDS, FastPath
from pytest_vdsotime.tracer.state import ClockState, Process, Tables, Task, TaskState
from pytest_vdsotime.tracer.takeover.exec import Takeover, set_aside
from pytest_vdsotime.tracer.takeover.native import NativeObjects, ProgramAbi
from pytest_vdsotime.tracer.waker import LOOK_AROUND, Waker
from pytest_vdsotime.waits import CLOCKS_TO_SLEEP_BY, NEVER_NS, WAITS, Unit, WaitRow

#: Real seconds; what freezes tasks for a moment thaws them by then.
_FROZEN_S = 0.5
#: Between two looks for stops of several tasks, and after how long to look why there is none.
_NAP_NS, _LONG_NS = 20_000, 10**7


class Stops:
    """The stops of all tasks but the waker, whose stops are answered here."""

    def __init__(
        self,
        tables: Tables,
        fastpath: FastPath,
        waker: Waker,
        recovery: Recovery,
        news: Callable[[], None],
        rung: Callable[[], None],
    ) -> None:
        """Take stops from the fast path.

        `news` is called when the fast path may have births and readers to tell of, `rung` when the
        waker was.
        """
        self._tables = tables
        self._tasks, self._postponed = tables.tasks, tables.postponed
        self._fastpath = fastpath
        self._news = news
        fastpath.hear(waker.pid)
        self._waker = waker
        self._recovery = recovery
        self._rung = rung

    def next(self, patience_ns: int = 0) -> Stop | None:
        """Wait for the next stop, `patience_ns` at most unless that is 0.

        None when there was none, or it was the waker, news from the fast path, or a stop that has
        passed.
        """
        if not self._postponed:
            self._postponed.extend(self._fastpath.wait(patience_ns))
            self._news()
            if not self._postponed:
                if self._fastpath.was_interrupted:
                    self._was_waker(None)
                return None
        stop = self._postponed.popleft()
        if self._was_waker(stop) or _has_executed_since(stop, self._postponed):
            return None
        return stop

    def pass_deadlines(self, engine: ctypes.Structure, leave: Callable[[], None]) -> None:
        """Have time pass natively; `leave` takes note of what has, before the next stops do."""
        stops = self._fastpath.pass_deadlines(engine)
        leave()
        self._postponed.extend(stops)
        self._news()
        if self._fastpath.was_interrupted:
            self._was_waker(None)

    def next_of(self, tid: int) -> Stop:
        """Return the next stop of one task.

        Those of others wait, but the waker's: unanswered for long, it is repaired.

        Raises ProcessLookupError when it dies, or is frozen and so must.
        """
        frozen_s = math.inf
        while True:
            tids = tid, self._waker.pid
            stop = next((other for other in self._postponed if other.tid in tids), None)
            if stop is not None:
                self._postponed.remove(stop)
            else:
                stop = self._wait_any_beside(tid)
            if self._was_waker(stop):
                frozen_s = min(frozen_s, time.monotonic()) if procfs.is_frozen(tid) else math.inf
                if time.monotonic() - frozen_s > _FROZEN_S:
                    self._give_up(tid)
                continue
            assert stop is not None
            if stop.tid == tid and stop.kind != StopKind.EXITED:
                return stop
            self._postponed.append(stop)
            if stop.tid == tid:
                raise ProcessLookupError(errno.ESRCH, f"task {tid} died")

    def _wait_any_beside(self, tid: int) -> Stop | None:
        """Wait for the next stop, where a task is awaited that is still a tracee."""
        try:
            return self._fastpath.wait_any()
        except ChildProcessError:
            if procfs.tracer_of(tid) != threading.get_native_id():
                raise
            return None

    def await_all(self, tids: Iterable[int], timeout_ns: int) -> None:
        """Return when all of these tasks have stopped or ended; none goes on before `next`.

        Or after `timeout_ns`: of a task that has ended by another's exec there is no report. One
        that is frozen by its cgroup does not stop: it is not waited for. No other stop is taken
        meanwhile: natively a task could execute a program that is in the way of a stop that is
        kept.
        """
        began_ns = now_ns()
        left = {*tids} - {stop.tid for stop in self._postponed}
        while left:
            stops = [stop for tid in left if (stop := self._fastpath.poll(tid)) is not None]
            self._postponed.extend(stops)
            left -= {stop.tid for stop in stops}
            left = {tid for tid in left if os.path.exists(f"/proc/{tid}")}
            passed_ns = now_ns() - began_ns
            if passed_ns > _LONG_NS:
                left = {tid for tid in left if not procfs.is_frozen(tid)}
            if passed_ns > timeout_ns:
                break
            if left:
                time.sleep(_NAP_NS / NS_PER_S)

    def failures(self) -> Iterator[tuple[int, OSError]]:
        """Yield the tasks that the fast path was to resume and could not, each with the error."""
        for tid, number in self._fastpath.failures:
            if self._tables.is_stopped(tid):
                yield tid, OSError(number, os.strerror(number))

    def _give_up(self, tid: int) -> None:
        """Kill a task that is frozen, as what thaws it may be held up by the tracer.

        Raises ProcessLookupError: its end is reported once it was thawed.
        """
        task = self._tasks.get(tid)
        if task is not None:
            task.process.kill_unsupported(
                UnsupportedProgram("it was paused (cgroups(7)) in the midst of it")
            )
        raise ProcessLookupError(errno.ESRCH, f"task {tid} is frozen")

    def kill_all(self, worlds: Sequence[ClockState]) -> None:
        """Kills every process of these clocks, and reaps it.

        The end of a process is not reported before every one of its threads is reaped, so all
        reports are taken.
        """
        left = {pid: one for world in worlds for pid, one in world.everyone.items()}
        for process in left.values():
            process.kill()
        has_tracees = True
        while left:
            try:
                stop = self._fastpath.wait_any()
            except ChildProcessError:
                if not has_tracees:
                    break
                stop, has_tracees = None, False
            if stop is None:
                left = self._without_ended(left)
            elif stop.kind == StopKind.EXITED:
                left.pop(stop.tid, None)
            elif stop.tid == self._waker.pid:
                self._waker.go_on()
                left = self._without_ended(left)
            else:
                with suppress(ProcessLookupError):
                    os.kill(stop.tid, signal.SIGKILL)
        for task in self._tasks.values():
            task.sample.close()

    def _without_ended(self, processes: dict[int, Process]) -> dict[int, Process]:
        """Of killed ones. Their ends may only show task by task."""
        for pid in processes:
            with suppress(FileNotFoundError):
                for tid in os.listdir(f"/proc/{pid}/task"):
                    self._fastpath.poll(int(tid))
        return {
            pid: one
            for pid, one in processes.items()
            if not (pid in self._fastpath.left or _is_others_to_reap(pid) or procfs.is_frozen(pid))
        }

    def _was_waker(self, stop: Stop | None) -> bool:
        if stop is not None and stop.tid != self._waker.pid:
            return False
        self._waker.answers += 1
        if stop is None or stop.kind == StopKind.EXITED:
            self._fastpath.to_native(self._waker.pid)
            self._waker.repair()
            self._fastpath.hear(self._waker.pid)
            self._look_around()
        elif stop.kind == StopKind.GROUP_STOP:
            self._waker.listen()
        else:
            self._waker.go_on()
            if stop.kind == StopKind.SIGNAL and stop.value == LOOK_AROUND:
                self._look_around()
        self._rung()
        return True

    def _look_around(self) -> None:
        began = time.monotonic()
        self._recovery.look_around()
        self._waker.look_took_s = time.monotonic() - began
        self._waker.rings_often = bool(self._fastpath.left)


def _is_others_to_reap(pid: int) -> bool:
    """Whether a process has ended for its tracer, and is gone or waits for its parent alone.

    That may be one that never reaps, such as many a first process of a container.
    """
    state, parent = procfs.stat_fields(pid) or ("X", 0)
    return state in "ZX" and parent != os.getpid() and not procfs.tracer_of(pid)


def _has_executed_since(stop: Stop, later: Iterable[Stop]) -> bool:
    """Whether it is the stop of a leader whose place a thread has taken by its exec.

    A process may send itself a SIGTRAP that looks like that (rt_sigqueueinfo(2)).
    """
    if stop.kind in (StopKind.EXEC, StopKind.EXITED):
        return False
    try:
        info = ptrace.signal_info(stop.tid)
    except OSError:
        return False  # who handles it finds out
    if info is None or wait.from_signal_info(stop.tid, *info).kind != StopKind.EXEC:
        return False
    return (
        (stop.kind, stop.value) != (StopKind.SIGNAL, signal.SIGTRAP)
        or any(one.tid == stop.tid and one.kind == StopKind.EXEC for one in later)
        or wait.has_report(stop.tid)
    )


# --- recovery ------------------------------------------------------------------------------------


class Recovery:
    """Looks through the tracer's tables."""

    def __init__(self, tables: Tables, fastpath: FastPath, start: Callable[[int], None]) -> None:
        """`start` handles the first stop of a task that now is in the tables."""
        self._tables = tables
        self._fastpath = fastpath
        self._start = start
        self._overdue: set[int] = set()
        """Newborn tasks that were there at the last look."""

    def look_around(self) -> None:
        """Postpone the stops that are found, and place overdue newborn tasks."""
        tables = self._tables
        reported = {stop.tid for stop in tables.postponed}
        known = tables.newborn.keys() | reported
        fastpath = self._fastpath
        # Who was waited for before the tracer saw the end.
        fastpath.spared = {pid for pid in fastpath.spared if is_thread_of(pid, pid)}
        tables.leaving -= {tid for tid in tables.leaving if not is_thread_of(tid, tid)}
        for tid in (tables.leaving | tables.newborn.keys()) - reported if fastpath.left else ():
            stop = fastpath.poll(tid)
            if stop is not None:
                tables.postponed.append(stop)
        for task in tables.tasks.values():
            if task.tid not in known:
                with task.process.answers_for("looking for a stop of"):
                    stop = self._unseen_stop(task)
                    if stop is not None:
                        tables.postponed.append(stop)
        self._place_overdue()

    def _place_overdue(self) -> None:
        """Places newborn tasks whose parent's report is overdue.

        Threads by their process, processes by the clock page that they have mapped. One that has
        none must not run on unseen.
        """
        tables = self._tables
        for tid in self._overdue & tables.newborn.keys():
            process = self._process_of(tid)
            if process is None:
                with suppress(ProcessLookupError):
                    os.kill(tid, signal.SIGKILL)
                del tables.newborn[tid]
                continue
            process.threads.add(tid)
            tables.tasks[tid] = Task(tid, process, TaskState.NEW)
            self._start(tid)
        self._overdue = set(tables.newborn)

    def _process_of(self, tid: int) -> Process | None:
        pid = procfs.thread_group(tid)
        if pid is None:
            return None
        known = self._tables.tasks.get(pid)
        if known is not None:
            return known.process
        inodes = procfs.memfd_mappings(pid, "r--s")
        for world in self._tables.worlds:
            if world.page.inode in inodes:
                process = Process(pid, world, mapped=inodes[world.page.inode])
                process.changes_time_namespace |= procfs.has_time_namespace(pid)
                world.processes[pid] = process
                if world.closed is not None:
                    process.kill()
                return process
        return None

    def _unseen_stop(self, task: Task) -> Stop | None:
        is_known = task.state in (TaskState.STOPPED, TaskState.LISTENING)
        info = None if is_known else ptrace.signal_info(task.tid)
        if info is not None:
            return self._fastpath.poll(task.tid) or wait.from_signal_info(task.tid, *info)
        if task.tid == task.process.pid and not is_thread_of(task.tid, task.tid):
            # The thread that took the status has it; subprocess, in the same position, says 0.
            return self._fastpath.poll(task.tid) or Stop(task.tid, StopKind.EXITED, 0)
        return self._fastpath.poll(task.tid) if self._fastpath.left else None


def is_thread_of(pid: int, tid: int) -> bool:
    """Whether a task is one of a process. Raises OSError where that cannot be told."""
    try:
        os.stat(f"/proc/{pid}/task/{tid}")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


# --- what the native code answers alone ----------------------------------------------------------

_ALL, _NOT_NULL = constant("INTEREST"), constant("INTEREST_BY_POINTER")
_INTERRUPTING = StopKind.TRAP, StopKind.SIGNAL
#: Calls that may wait until a point of a clock, which the fast path can tell.
_TOLD_APART = (
    *("futex", "futex_wait", "futex_waitv", "clock_nanosleep"),
    *("mq_timedsend", "mq_timedreceive"),
)


def own_rows(abi: Abi) -> Mapping[int, WaitRow]:
    """Return the rows of WAITS for one kind of system call, by number."""
    return {abi.syscalls[row.name]: row for row in WAITS if row.name in abi.syscalls}


def tell_of_waits(fastpath: FastPath, rows: Mapping[int, WaitRow]) -> None:
    """Which waits the fast path may let begin, and how they end."""
    own = {nr: row for nr, row in rows.items() if not row.points or row.name in _TOLD_APART}
    kinds = {nr: _kind(row) for nr, row in own.items()}
    expired = {nr: row.expired for nr, row in own.items()}
    fastpath.record_waits(kinds, expired, sum(1 << clock_id for clock_id in CLOCKS_TO_SLEEP_BY))


def _kind(row: WaitRow) -> int:
    flags = {
        "WAIT_BY_VALUE": row.unit is Unit.MILLISECONDS,
        "WAIT_FD_SETS": bool(row.fd_sets),
        "WAIT_SLEEP": row.is_sleep,
        "WAIT_TIMEVAL": row.unit is Unit.TIMEVAL,
        "WAIT_WRITES_BACK": row.writes_back,
    }
    is_so = [constant(name) for name, holds in flags.items() if holds]
    return sum(is_so, constant("WAIT_KNOWN") + row.argument)


def tell_of_calls(fastpath: FastPath, native: NativeObjects) -> None:
    """Which system calls are of interest, and which of marked tasks (`FastPath.mark`)."""
    rows = native.calls.own_rows
    skipped, asking = (
        [nr for nr, row in rows.items() if row.name in names] for names in (OF_SKIPPED, ASKING)
    )
    fastpath.take_interest_in_marked(skipped, asking)
    fastpath.take_interest(
        {nr: _ALL if row.pointer is None else _NOT_NULL + row.pointer for nr, row in rows.items()}
    )
    fastpath.know_file_calls(native.arch.abis, KINDS_OF_CALLS)
    host_clock = procfs.own_vdso() + native.own.host.entry_offsets[0]
    for kind, arch in enumerate((native.arch, *native.arch.runs_too)):
        if arch.keeps_registers not in procfs.processor_flags():
            fastpath.know_returns(kind, native.fakes[arch.name], host_clock)


@dataclass(slots=True)
class Shortcuts:
    """Tells the fast path; one per tracer, on its thread."""

    tables: Tables
    fastpath: FastPath
    native: NativeObjects
    takeover: Takeover
    is_native: bool = True
    """False: every stop is handled in Python."""
    needs_care: bool = False
    """Of some process of any clock."""
    kinds: Sequence[ProgramAbi] = ()
    """Of the programs that the fast path takes over, as it names them."""
    selection: Selection | None = None
    """By which it does."""
    interrupted: tuple[int, int] = 0, 0
    """The task that is stopped in a call that is to be made again, and by which error; 0: none."""

    def was_at_exec(self, process: Process, kind: int, base: int) -> None:
        """Note that the fast path has taken over a program, with its vDSO at `base`.

        Or that it has left it in real time.
        """
        set_aside(process, is_skipped=kind == KINDS)
        if kind < KINDS:
            self.takeover.was_at_exec(process, self.kinds[kind], base)

    def know_program(self, process: Process, paths: Sequence[str]) -> None:
        """Of a program that was executed by `paths` it is known whether it is on the clock."""
        if paths and process.world.selection is self.selection:
            self.fastpath.know_program(paths, is_on_clock=not process.is_skipped)

    def mark(self, process: Process, tid: int) -> None:
        """Tell the fast path what a task of a process is."""
        self.fastpath.mark(
            tid,
            is_skipped=process.is_skipped,
            sees_exec=process.has_own_filter or process.is_engine,
            asks=process.asks,
            rewinds=process.rewinds,
            mapped=process.mapped,
        )

    def mark_all(self, process: Process) -> None:
        """Tell it of all tasks of a process."""
        for tid in process.threads:
            self.mark(process, tid)

    def know_kinds(self) -> None:
        """After the first program of a kind was taken over."""
        if len(self.kinds) < len(list(self.native.kinds)):
            self.choose()

    def take_care(self, process: Process) -> None:
        """Of a process whose state may have changed."""
        is_new = process.needs_care and not self.needs_care
        is_to_stop = process.changes_time_namespace or process.stops_at_calls
        if is_new or (is_to_stop and not self.fastpath.hands_over_all):
            self.choose()

    def choose(self) -> None:
        """After something has changed that this depends on."""
        worlds = self.tables.worlds
        everyone = [one for world in worlds for one in world.everyone.values()]
        is_apart = procfs.has_time_namespace("self")  # what the test process starts
        self.needs_care = is_apart or any(one.needs_care for one in everyone)
        is_watched = (
            not self.is_native
            or bool(self.tables.leaving)
            or any(world.history.records for world in worlds)
            or any(world.closed is not None or world.stops_at_calls for world in worlds)
        )
        has_attached = any(one.origin is not None for one in everyone)
        # A child is in another time namespace from its first stop on.
        may_move = any(one.changes_time_namespace for one in everyone)
        self.fastpath.hands_over_all = is_watched or has_attached or may_move
        self.fastpath.lets_calls_go = has_attached and not is_watched
        kind, reader, ahead_ns = self.native.own, (0, 0), None
        self.kinds, blocks = list(self.native.kinds)[:KINDS], []
        if len(worlds) == 1 and self.is_native and not self.needs_care:
            page = worlds[0].page
            blocks = [self.takeover.block(one, page) for one in self.kinds]
            if self.selection is not worlds[0].selection:
                self.selection = worlds[0].selection
                self.fastpath.select_by(patterns=not self.selection.is_of_all)
            if not worlds[0].stops_at_calls:
                reader = page.reader(kind.arch.name, kind.fake, kind.host)
            ahead_ns = _ahead_ns(worlds[0])
        self.fastpath.follow_files([world.page for world in worlds])
        self.fastpath.take_over_with(blocks)
        self.fastpath.answer_reads(*reader)
        self.fastpath.let_waits_begin(ahead_ns)

    def note_interrupted(self, task: Task, stop: Stop) -> None:
        """Note at a stop that it may have interrupted a system call, for `resume`."""
        ends_call = stop.kind == StopKind.SYSCALL and task.after.is_interrupted
        if not self.native.arch.rewinds_early and (stop.kind in _INTERRUPTING or ends_call):
            call = self.fastpath.interrupted_of(task.tid)
            error = restart.read_interrupted(Stopped(task.tid), self.native.arch, call)
            self.interrupted = (task.tid, error) if error else (0, 0)

    def resume(self, task: Task, stopped: Stopped, number: int = 0) -> None:
        """Let a stopped task go on, with a signal if there is one.

        To the exit of its system call where that is to be seen.
        """
        task.move(TaskState.RUNNING)
        process = task.process
        tid, error = self.interrupted
        if tid == task.tid:
            self.interrupted = 0, 0
            call = self.fastpath.interrupted_of(tid)
            restart.keep_interrupted(stopped, self.native.arch, call, error)
        if task.began_alone:
            self.fastpath.to_python(task.tid)
        sees_exit = (
            task.at_exit is not None
            or (self.native.arch.rewinds_early and task.is_waiting)
            or task.after.watched_calls > 0
        )
        if not sees_exit and not process.stops_at_calls:
            stopped.resume(number)
        else:
            stopped.resume_to_syscall(number)

    def lines_moved(self) -> None:
        """Tell the fast path that the lines of some clock have changed, or what moves them."""
        worlds = self.tables.worlds
        is_alone = len(worlds) == 1 and self.is_native and not self.needs_care
        self.fastpath.let_waits_begin(_ahead_ns(worlds[0]) if is_alone else None)


def _ahead_ns(world: ClockState) -> int | None:
    """How far the monotonic line is ahead of the host's clock.

    Where it goes at its pace, the test does not move it, and tasks need not stop at every system
    call.
    """
    line = world.page.lines.monotonic
    is_plain = (
        world.follows
        and not world.is_advancing
        and world.jump_after_ns is None
        and not world.stops_at_calls
        and line.rate.value == 1
        and line.base_ns < NEVER_NS
    )
    return line.base_ns - line.start_ns if is_plain else None
