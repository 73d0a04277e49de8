"""What the tracer finds when it looks around: tasks that are stopped and nobody said so.

Three ways lead there. Another thread of this process took a stop away, with os.wait() or
waitpid(-1): Linux shows them to all. Or a parent was killed between the birth of a child and its
report of it, so that nobody says whose the child is. Or it is an end, behind one that is left for
whoever waits for it (Pump.left).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from pytest_vdsotime.kernel import procfs, ptrace, wait
from pytest_vdsotime.kernel.pump import Pump
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.tasks import Process, Tables, Task, TaskState


class Lookout:
    """Looks through the tracer's tables."""

    def __init__(self, tables: Tables, pump: Pump, start: Callable[[int], None]) -> None:
        """`start` handles the first stop of a task that now is in the tables."""
        self._tables = tables
        self._pump = pump
        self._start = start
        self._overdue: set[int] = set()
        """Newborn tasks that were there at the last look."""

    def look_around(self) -> None:
        """Postpones the stops that it finds, to be handled next, and places overdue newborn
        tasks."""
        tables = self._tables
        known = tables.newborn.keys() | {stop.tid for stop in tables.postponed}
        pump = self._pump
        # Who was waited for before the tracer saw the end.
        pump.spared = {pid for pid in pump.spared if is_thread_of(pid, pid)}
        for tid in tables.leaving | tables.newborn.keys() if pump.left else ():
            stop = pump.poll(tid)
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
        """Places newborn tasks whose parent's report is overdue: threads by their process,
        processes
        by the clock page that they have mapped. One that has none must not run on unseen."""
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
            return self._pump.poll(task.tid) or wait.from_signal_info(task.tid, *info)
        if task.tid == task.process.pid and not is_thread_of(task.tid, task.tid):
            # Whoever took the status has it; subprocess, in the same position, says 0.
            return self._pump.poll(task.tid) or Stop(task.tid, StopKind.EXITED, 0)
        return self._pump.poll(task.tid) if self._pump.left else None


def is_thread_of(pid: int, tid: int) -> bool:
    """Whether a task is one of a process."""
    return os.path.exists(f"/proc/{pid}/task/{tid}")
