"""From a child that is the launcher (native_stub/launch.c), or on its way there, to its program."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vdsotime.image import LAUNCHER_NAME, Launcher
from pytest_vdsotime.kernel import memory, procfs, ptrace
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.pump import Pump
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.tasks import Launch, Process, Tables, Task, TaskState


@dataclass(slots=True)
class Launching:
    """Seizes launchers and lets them execute their programs."""

    launcher: Launcher
    tables: Tables
    pump: Pump

    def launch(self, process: Process) -> None:
        """Takes a child of this process under the tracer.

        Raises OSError when it cannot be traced.
        """
        pid = process.pid
        ptrace.seize(pid)
        self.pump.watch(pid)
        process.threads.add(pid)
        process.world.processes[pid] = process
        self.tables.tasks[pid] = Task(pid, process, TaskState.RUNNING)
        if self._release_running(process):
            return
        assert process.launch is not None
        if process.launch.is_released:
            self.pump.expect(pid)  # that wakes it up
        else:
            self.pump.hand_over(pid)
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
            self.pump.keep(stop.tid)
