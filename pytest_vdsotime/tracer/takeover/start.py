"""From a child to its program: one that is the launcher (native_stub/program/launch.c) or on its
way there, and one that goes straight (native_stub/tracer/spawn.c)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pytest_vdsotime.errors import ClockClosed
from pytest_vdsotime.image import LAUNCHER_NAME, Launcher
from pytest_vdsotime.kernel import memory, procfs, ptrace
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.spawn import Spawn
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.fastpath import FastPath
from pytest_vdsotime.tracer.state import Launch, Process, Tables, Task, TaskState


@dataclass(slots=True)
class Launching:
    """Seizes children and lets them execute their programs."""

    launcher: Launcher
    tables: Tables
    fastpath: FastPath

    def launch(self, process: Process) -> None:
        """Takes a child of this process, the launcher, under the tracer.

        Raises ProcessLookupError when it was killed before, OSError when it cannot be traced,
        ClockClosed.
        """
        launch, pid = self._seize(process), process.pid
        if self._release_running(process):
            return
        if launch.is_released:
            self._wake(pid)
        else:
            self.fastpath.to_python(pid)
            ptrace.interrupt(pid)

    def spawn(self, process: Process, spawn: Spawn) -> None:
        """The same with the child of `spawn`, which goes straight to its program. It is killed
        where that fails."""
        process.pid = spawn.pid
        try:
            if spawn.is_taken:
                self._enter(process).is_released = True
                self._check(process)
                return
            self._seize(process).is_released = True
        except BaseException:
            process.kill()
            raise
        if not spawn.release():
            self._wake(process.pid)

    def _seize(self, process: Process) -> Launch:
        self._check(process)
        pid = process.pid
        try:
            ptrace.seize(pid)
        except PermissionError:
            if procfs.stat_fields(pid) in (None, ("Z", os.getpid())):
                raise ProcessLookupError(f"{pid} has ended") from None
            raise
        return self._enter(process)

    def _check(self, process: Process) -> None:
        if process.world.closed is not None:
            raise ClockClosed("the clock is closed")

    def _enter(self, process: Process) -> Launch:
        pid, launch = process.pid, process.launch
        assert launch is not None
        self.fastpath.watch(pid)
        process.threads.add(pid)
        process.world.processes[pid] = process
        self.tables.tasks[pid] = Task(pid, process, TaskState.RUNNING)
        return launch

    def _wake(self, pid: int) -> None:
        self.fastpath.expect(pid)
        ptrace.interrupt(pid)

    def _release_running(self, process: Process) -> bool:
        """Releases a launcher that runs already and does not sleep yet, without a stop. Its memory
        is its own: subprocess hears of the exec after the former is gone (begin_new_exec,
        fs/exec.c)."""
        launch, launcher, pid = process.launch, self.launcher, process.pid
        assert launch is not None
        if launch.may_precede_launcher or not memory.read_word(pid, launcher.state):
            return False
        launch.is_released = True
        memory.write_word(pid, launcher.patience, 0)
        return memory.read_word(pid, launcher.state) == launcher.AWAKE

    def release(self, stop: Stop, launch: Launch) -> None:
        """At the first stop of a launcher that was not running yet, whichever stop it is: any other
        cancels the interrupt (ptrace_stop, kernel/signal.c). Its own exec may be that stop:
        subprocess sees its error pipe close, and has the process seized, before the exec is
        complete. And a preexec_fn may close that pipe: before it has returned, there is no launcher
        yet."""
        is_executing = stop.kind == StopKind.EXEC
        may_precede = launch.may_precede_launcher and not is_executing
        if not may_precede or procfs.argv(stop.tid)[:1] == [LAUNCHER_NAME]:
            Stopped(stop.tid).poke(self.launcher.patience, 0)
            launch.is_released = True
            self.fastpath.to_native(stop.tid)
