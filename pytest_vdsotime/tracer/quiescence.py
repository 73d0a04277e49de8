"""Is every thread blocked? And in what wait."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pytest_vdsotime.errors import NotSettled
from pytest_vdsotime.kernel import procfs, ptrace
from pytest_vdsotime.kernel.sample import Sampler, TaskSample
from pytest_vdsotime.kernel.wait import has_report
from pytest_vdsotime.timeline import now_ns
from pytest_vdsotime.tracer.calls.sockets import SocketWaits
from pytest_vdsotime.tracer.calls.waits import TimedWaits
from pytest_vdsotime.tracer.fastpath import FastPath
from pytest_vdsotime.tracer.state import ClockState, Process, Tables, Task, TaskState
from pytest_vdsotime.waits import Wait

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h
_LULL_SHARE, _MAX_NAP_NS = 32, 20_000_000
#: States in which a task is no more.
ENDED = frozenset(b"ZX")


def leads_others(task: Task) -> bool:
    """Whether it is a process's first thread, whose end is told after that of the others."""
    return task.tid == task.process.pid and len(task.process.threads) > 1


def worked_ns(world: ClockState) -> int:
    """Return the processor time of all processes of a clock.

    On a busy machine one that has yet to get a processor is not late. By the clock of each process
    (clock_getcpuclockid(3)).
    """
    total_ns = 0
    for pid in world.processes:
        with suppress(OSError):  # it has ended
            total_ns += time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED)
    return total_ns


class Lull:
    """How long tasks have been seen not to run: the next look may come later by a share of that."""

    def __init__(self) -> None:
        self._runs, self._since_ns = -1, 0

    def nap_ns(self, samples: Mapping[int, TaskSample]) -> int:
        """Return how long that is."""
        runs = sum(sample.runs for sample in samples.values())
        if runs != self._runs:
            self._runs, self._since_ns = runs, now_ns()
        return min((now_ns() - self._since_ns) // _LULL_SHARE, _MAX_NAP_NS)


class Quiescence:
    """Looks at the tasks of a clock; one per tracer, on its thread."""

    def __init__(
        self, tables: Tables, fastpath: FastPath, timed_waits: TimedWaits, sampler: Sampler
    ) -> None:
        self._tables = tables
        self._fastpath = fastpath
        self.timed_waits = timed_waits
        self._sampler = sampler
        self._sockets = SocketWaits(fastpath)
        self.last_busy = 0
        """The id of the task that was found running: it is looked at first the next time."""
        self.looked_ns = 0
        """When the last look ended that found them blocked."""

    def tasks(self, world: ClockState) -> Sequence[Task]:
        """Of all its processes."""
        tasks = self._tables.tasks
        return [
            tasks[tid]
            for process in world.processes.values()
            for tid in process.threads
            if tid in tasks
        ]

    def held(self, world: ClockState) -> Sequence[Task]:
        """Those at the entry of a sleep."""
        return [task for task in self.tasks(world) if task.held is not None]

    def samples(self, world: ClockState) -> Mapping[int, TaskSample] | None:
        """Return a look at each task that is not stopped, if every one is blocked; else None."""
        to_see: list[Task] = []
        held: list[Task] = []
        stopped: list[Task] = []
        for task in self.tasks(world):
            if task.held is not None:
                held.append(task)
                continue
            if task.state == TaskState.LISTENING:
                stopped.append(task)
                continue
            if task.state != TaskState.RUNNING or task.process.launch is not None:
                return None
            if task.tid == self.last_busy:
                to_see.insert(0, task)
            else:
                to_see.append(task)
        busy = self._sampler([task.sample for task in to_see], is_brief=True) if to_see else 0
        if busy < 0:
            self.last_busy = to_see[-1 - busy].tid
            return None
        if busy and not self._are_brief(to_see):
            self.last_busy = next(task.tid for task in to_see if task.sample.is_busy)
            return None
        if any(
            # What waits for its end has yet to hear of it.
            (task.sample.state in ENDED and not leads_others(task))
            # It sleeps for less than a timer's slack (futex(2) with a timeout of 0).
            or (task.after.poll is not None and self._polls(task))
            for task in to_see
        ) or any(ptrace.has_signals(task.tid) for task in held):  # which their sleeps are to notice
            return None
        if any(one.is_engine and _enters_container(one) for one in world.skipped.values()):
            return None
        reported = {stop.tid for stop in self._tables.postponed} if stopped else set()
        if any(task.tid in reported or _goes_on(task) for task in stopped):
            return None
        self.looked_ns = now_ns()
        return {task.tid: task.sample for task in to_see}

    def _polls(self, task: Task) -> bool:
        """Whether it is in a wait for no time."""
        sample = task.sample
        is_same = task.after.poll == (sample.nr, tuple(sample.arguments))
        is_there = task.after.polls_at == (sample.stack, sample.counter)
        return is_same and is_there and self._fastpath.record_of(task.tid) is None

    def _are_brief(self, tasks: Sequence[Task]) -> bool:
        """Whether each thread that has run is now in a wait no longer than `grace`.

        Such a thread counts as blocked; otherwise a spin-wait would never settle.
        """
        return all(
            task.sample.has_run
            and task.sample.state == ord("S")
            and (wait := self.wait_of(task, task.sample)) is not None
            and wait.length_ns <= task.process.world.grace_ns
            for task in tasks
            if task.sample.is_busy
        )

    def sample(self, world: ClockState) -> Mapping[int, TaskSample]:
        """At each of its tasks, whatever they do."""
        tasks = [task for task in self.tasks(world) if task.state == TaskState.RUNNING]
        self._sampler([task.sample for task in tasks], is_brief=False)
        return {task.tid: task.sample for task in tasks}

    def sample_of(self, task: Task) -> TaskSample | None:
        """At one task."""
        if task.state != TaskState.RUNNING:
            return None
        self._sampler([task.sample], is_brief=False)
        return task.sample

    def wait_of(self, task: Task, sample: TaskSample | None) -> Wait | None:
        """Return the timed wait that a task is in."""
        if task.wait is not None and (task.held is not None or task.at_exit is not None):
            return task.wait
        if sample is None:
            return None
        record = self._fastpath.record_of(task.tid)
        if record is None and (task.wait is None or task.wait.row.is_of_socket):
            return self._sockets.wait_of(task, sample)
        wait = self.timed_waits.recorded(record) if record is not None else task.wait
        if wait is None or wait.is_kept:
            return wait  # which stops at its exit
        nr = sample.nr
        if nr == wait.abi.syscalls["restart_syscall"]:
            nr = wait.nr
        arguments = [argument & wait.abi.mask for argument in sample.arguments]
        if wait.is_same(nr, arguments, (sample.stack, sample.counter)):
            return wait
        return self._sockets.wait_of(task, sample)

    def not_settled(
        self, world: ClockState, timeout_s: float, others: Sequence[str] = ()
    ) -> NotSettled:
        """Names the busy threads, and what they do."""
        tasks = {task.tid: task for task in self.tasks(world)}
        busy = [
            self._describe(tasks[sample.tid], sample)
            for sample in self.sample(world).values()
            if sample.is_busy and sample.tid in tasks
        ]
        busy += [
            f"{task.process.describe()} is being started"
            for task in tasks.values()
            if task.state != TaskState.LISTENING
            and task.held is None
            and (task.state != TaskState.RUNNING or task.process.launch is not None)
        ]
        try:
            os.close(os.open("/proc", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:  # all that is not known to be blocked counts as busy
            others = (*others, f"the test process cannot look at programs ({error.strerror})")
        return NotSettled([*others, *busy], timeout_s)

    def _describe(self, task: Task, sample: TaskSample) -> str:
        doing = "runs" if sample.state == ord("R") else "is woken again and again"
        if sample.state == ord("D"):
            doing = "waits for a device, or is frozen by its cgroup, as docker pause does"
        return f"{_name(task)} {doing}"


def _goes_on(task: Task) -> bool:
    """Whether a task that a signal has stopped goes on, or has ended, and has yet to report it.

    To be asked last: who has it go on is no more at rest before.
    """
    state, _ = procfs.stat_fields(task.tid) or ("X", 0)
    has_ended = state in "ZX" and not leads_others(task)
    return state == "R" or has_ended or has_report(task.tid)


def _enters_container(process: Process) -> bool:
    """Whether an engine's process is about to execute the first program of a container.

    An engine may answer that the container has started before that. While it waits for the word to
    go ahead it counts as blocked.
    """
    if not procfs.is_in_other_root(process.pid):
        return False
    states = [procfs.stat_fields(tid) for tid in tuple(process.threads)]
    return any(fields is not None and fields[0] in "RD" for fields in states)


def _name(task: Task) -> str:
    pid = task.process.pid
    thread = "" if task.tid == pid else f", thread {task.tid}"
    return f"{procfs.command(pid)} (pid {pid}{thread})"
