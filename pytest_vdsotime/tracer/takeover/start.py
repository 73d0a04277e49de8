"""From a child of this process to its program (native_stub/tracer/spawn.c)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pytest_vdsotime.errors import ClockClosed
from pytest_vdsotime.kernel import procfs, ptrace
from pytest_vdsotime.kernel.spawn import Gate, Spawn
from pytest_vdsotime.tracer.fastpath import FastPath
from pytest_vdsotime.tracer.state import Process, Tables, Task, TaskState


@dataclass(slots=True)
class Launching:
    """Seizes children and lets them execute their programs."""

    tables: Tables
    fastpath: FastPath

    def start(self, process: Process, spawn: Spawn | Gate, pid: int = 0) -> None:
        """Take a child of this process under the tracer, and let it execute its program.

        `pid` is that of a child that another fork has made; a gate has that of any descendant. It
        is killed where that fails.

        Raises ProcessLookupError when it was killed before, OSError when it cannot be traced,
        ClockClosed.
        """
        process.pid = pid or spawn.pid
        try:
            if spawn.is_taken:
                self._enter(process)
                self._check(process)
                if spawn.is_asleep:
                    ptrace.interrupt(process.pid)
                return
            self._seize(process)
            if not spawn.release():
                self.fastpath.expect(process.pid)
                ptrace.interrupt(process.pid)
        except BaseException:
            process.kill()
            raise

    def _seize(self, process: Process) -> None:
        self._check(process)
        pid = process.pid
        try:
            ptrace.seize(pid)
        except PermissionError:
            if procfs.stat_fields(pid) in (None, ("Z", os.getpid())):
                raise ProcessLookupError(f"{pid} has ended") from None
            raise
        self._enter(process)

    def _check(self, process: Process) -> None:
        if process.world.closed is not None:
            raise ClockClosed("the clock is closed")

    def _enter(self, process: Process) -> None:
        pid = process.pid
        if process.is_spared:
            self.fastpath.spared.add(pid)
        self.fastpath.watch(pid)
        process.threads.add(pid)
        process.world.processes[pid] = process
        process.world.was_born(pid)
        self.fastpath.mark(pid, sees_exec=process.is_engine)
        self.tables.tasks[pid] = Task(pid, process, TaskState.RUNNING)
