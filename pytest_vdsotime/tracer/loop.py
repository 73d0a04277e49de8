"""The loop: wait, look up the handler of the stop, let it resume the task; and nothing else.

A handler may find that its task was killed while it was stopped (SIGKILL ends any stop): it then
gets ProcessLookupError from the kernel, and the death is reported by a later wait. Any other
exception in a handler is a failure of the tracer: it ends, and its tracees with it
(PTRACE_O_EXITKILL).
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from pytest_vdsotime.errors import ClockClosed, UnsupportedProgram
from pytest_vdsotime.image import LAUNCHER_NAME
from pytest_vdsotime.kernel import procfs, ptrace, wait
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer import takeover
from pytest_vdsotime.tracer.doorbell import LOOK_AROUND, Doorbell
from pytest_vdsotime.tracer.tasks import PrivateCopy, Process, Reply, Task, TaskState, World


class Loop:
    """The tracer's tables and what happens to them. Everything here runs on the tracer thread."""

    def __init__(
        self, native: takeover.NativeObjects, bell: Doorbell, rung: Callable[[], None]
    ) -> None:
        self._native = native
        self._bell = bell
        self._rung = rung
        self._takeover = takeover.Takeover(native, self._next_stop_of)
        self._tasks: dict[int, Task] = {}
        self._newborn: dict[int, Stop] = {}
        """First stops of tasks whose parent's event has not come yet."""
        self._overdue: set[int] = set()
        """Those of them that were there at the last look around."""
        self._postponed: deque[Stop] = deque()
        self.worlds: list[World] = []
        self.is_done = False
        self._handlers: Mapping[int, Callable[[Task, Stop], None]] = {
            int(StopKind.FORK): self._on_new_task,
            int(StopKind.VFORK): self._on_new_task,
            int(StopKind.CLONE): self._on_new_task,
            int(StopKind.EXEC): self._on_exec,
            int(StopKind.TRAP): self._on_trap,
            int(StopKind.GROUP_STOP): self._on_group_stop,
            int(StopKind.SIGNAL): self._on_signal,
            int(StopKind.SYSCALL): self._on_trap,
            int(StopKind.EXITED): self._on_exit,
        }

    def run(self) -> None:
        """Handles stops until `is_done`."""
        while not self.is_done:
            stop = self._postponed.popleft() if self._postponed else wait.wait_any()
            if stop is None or stop.tid == self._bell.pid:
                self._on_doorbell(stop)
            else:
                self._handle(stop)

    def _handle(self, stop: Stop) -> None:
        task = self._tasks.get(stop.tid)
        if task is None:
            if stop.kind == StopKind.EXEC:
                task = self._leader_reborn(stop)
            elif stop.kind == StopKind.EXITED:
                self._newborn.pop(stop.tid, None)
                return
            else:
                self._newborn[stop.tid] = stop
                return
        task.move(TaskState.GONE if stop.kind == StopKind.EXITED else TaskState.STOPPED)
        launcher = task.process.launched is not None and not task.process.is_released
        try:
            if launcher and stop.kind != StopKind.EXITED:
                self._release_launcher(task, stop)
            else:
                self._handlers[stop.kind](task, stop)
        except ProcessLookupError:
            pass  # killed while it was stopped: its exit is reported next

    def _next_stop_of(self, tid: int) -> Stop:
        """The next stop of one task; those of others wait. ProcessLookupError when it dies."""
        while True:
            stop = wait.wait_any()
            if stop is None or stop.tid == self._bell.pid:
                self._on_doorbell(stop)
                taken = next((other for other in self._postponed if other.tid == tid), None)
                if taken is None:
                    continue
                self._postponed.remove(taken)
                stop = taken
            if stop.tid != tid:
                self._postponed.append(stop)
            elif stop.kind == StopKind.EXITED:
                self._postponed.append(stop)
                raise ProcessLookupError(f"task {tid} died")
            else:
                return stop

    # --- programs come ---------------------------------------------------------------------------

    def launch(self, pid: int, world: World, launched: Reply[int], exited: Reply[int]) -> None:
        """Takes the launcher in process `pid`, a child of this process, under the tracer.
        `launched`
        is answered when it has executed its program; `exited` when the process has ended.

        Raises OSError when it cannot be traced, ClockClosed when its clock is being closed.
        """
        if world.closed is not None:
            raise ClockClosed("the clock is closed")
        ptrace.seize(pid)
        process = Process(pid, world, exited=exited, launched=launched, threads={pid})
        world.processes[pid] = process
        self._tasks[pid] = Task(pid, process, TaskState.RUNNING)
        ptrace.interrupt(pid)

    def _release_launcher(self, task: Task, stop: Stop) -> None:
        """At the launcher's first stop, whichever it is: any other stop cancels the interrupt
        (ptrace_stop, kernel/signal.c). Its own exec may be that stop: subprocess sees its error
        pipe close, and has the process seized, before the exec is complete. And before a
        preexec_fn that closes that pipe has returned, there is no launcher yet."""
        process = task.process
        is_executing = stop.kind == StopKind.EXEC
        if is_executing or procfs.argv(process.pid)[:1] == [LAUNCHER_NAME]:
            Stopped(task.tid).poke(self._native.launcher_patience, 0)
            process.is_released = True
        handler = self._on_trap if is_executing else self._handlers[stop.kind]
        handler(task, stop)

    def _on_new_task(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        tid = stopped.event_message()
        parent = task.process
        if tid in self._tasks:
            self._resume(task, stopped)  # it was placed when its parent's report was overdue
            return
        if stop.kind == StopKind.CLONE and _is_thread_of(parent.pid, tid):
            process = parent
            process.threads.add(tid)
        else:
            process = self._adopt(tid, parent)
        self._tasks[tid] = Task(tid, process, TaskState.NEW)
        self._resume(task, stopped)
        self._start_newborn(tid)

    def _adopt(self, pid: int, parent: Process) -> Process:
        world = parent.world
        process = Process(pid, world, threads={pid})
        process.loader_failed_at = parent.loader_failed_at
        world.processes[pid] = process
        if parent.copy is not None:
            self._inherit_copy(parent.copy, process)
        if world.closed is not None:
            _kill(pid)
        return process

    def _inherit_copy(self, copy: PrivateCopy, process: Process) -> None:
        """The copy of a forked process is its own; that of a vforked one is its parent's, and is
        then written twice. It may have been duplicated between two writes: begin it anew."""
        try:
            process.copy = copy.of_process(process.pid)
            process.copy.write(0, process.world.page.private_copy())
        except OSError:
            return  # killed
        process.world.page.copies.append(process.copy)

    def _start_newborn(self, tid: int) -> None:
        stop = self._newborn.pop(tid, None)
        if stop is not None:
            self._handle(stop)

    def _place_overdue(self) -> None:
        """Places tasks whose parent was killed before it could report them: threads by their
        process,
        processes by the clock page that they have mapped. One that has none must not run on
        unseen."""
        for tid in self._overdue & self._newborn.keys():
            process = self._process_of(tid)
            if process is None:
                _kill(tid)
                del self._newborn[tid]
                continue
            process.threads.add(tid)
            self._tasks[tid] = Task(tid, process, TaskState.NEW)
            self._start_newborn(tid)
        self._overdue = set(self._newborn)

    def _process_of(self, tid: int) -> Process | None:
        pid = procfs.thread_group(tid)
        if pid is None:
            return None
        known = self._tasks.get(pid)
        if known is not None:
            return known.process
        inodes = procfs.memfd_mappings(pid, "r--s")
        world = next((world for world in self.worlds if world.page.inode in inodes), None)
        if world is None:
            return None
        process = world.processes[pid] = Process(pid, world)
        if world.closed is not None:
            _kill(pid)
        return process

    # --- programs run ----------------------------------------------------------------------------

    def _resume(self, task: Task, stopped: Stopped, number: int = 0) -> None:
        task.move(TaskState.RUNNING)
        stopped.resume(number)

    def _leader_reborn(self, stop: Stop) -> Task:
        """A thread executed a program after the leader had ended: it takes the leader's id."""
        former = self._tasks[Stopped(stop.tid).event_message()]
        task = Task(stop.tid, former.process, TaskState.RUNNING)
        self._tasks[stop.tid] = task
        return task

    def _on_exec(self, task: Task, _stop: Stop) -> None:
        stopped = Stopped(task.tid)
        process = task.process
        # Every other thread is gone, without a report (ptrace(2), "execve(2) under ptrace").
        for tid in process.threads - {task.tid}:
            self._tasks.pop(tid).move(TaskState.GONE)
        process.threads = {task.tid}
        self._drop_copy(process)
        task.move(TaskState.RUNNING)
        try:
            self._takeover.at_exec(stopped, process)
        except takeover.RealTime as reason:
            process.world.warnings.append(f"{_describe(process)} runs in real time: {reason}")
            stopped.resume()
        except ProcessLookupError:
            raise
        except (OSError, UnsupportedProgram) as error:
            self._kill_unsupported(process, error)
        else:
            self._warn_of_privilege(process)
        if process.launched is not None:
            process.launched.give(0)
            process.launched = None

    def _warn_of_privilege(self, process: Process) -> None:
        privilege = procfs.ignored_privilege(f"/proc/{process.pid}/exe")
        if privilege:
            process.world.warnings.append(
                f"{_describe(process)} is {privilege}, which the kernel ignores for a program "
                "traced by an ordinary user (execve(2)): it runs without that privilege; "
                "run the tests as root"
            )

    def _kill_unsupported(self, process: Process, error: Exception) -> None:
        process.world.errors.append(
            UnsupportedProgram(
                f"taking over {_describe(process)} failed: {error}; "
                "it was killed, as it would have run in real time"
            )
        )
        _kill(process.pid)

    def _on_trap(self, task: Task, _stop: Stop) -> None:
        stopped = Stopped(task.tid)
        self._resume(task, stopped)

    def _on_group_stop(self, task: Task, _stop: Stop) -> None:
        task.move(TaskState.LISTENING)
        Stopped(task.tid).listen()

    def _on_signal(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        process = task.process
        if (
            stop.value == signal.SIGTRAP
            and process.loader_failed_at
            and self._takeover.is_loader_failure(stopped, process)
        ):
            task.move(TaskState.RUNNING)
            try:
                self._takeover.after_loader_failure(stopped, process)
            except ProcessLookupError:
                raise
            except (OSError, UnsupportedProgram) as error:
                self._kill_unsupported(process, error)
            return
        self._resume(task, stopped, stop.value)

    # --- programs go -----------------------------------------------------------------------------

    def _on_exit(self, task: Task, stop: Stop) -> None:
        process = task.process
        del self._tasks[task.tid]
        process.threads.discard(task.tid)
        if task.tid == process.pid:
            self._ended(process, stop.value)

    def _ended(self, process: Process, status: int) -> None:
        world = process.world
        del world.processes[process.pid]
        self._drop_copy(process)
        if process.launched is not None:
            # The launcher's exit status is the errno of execve; a signal killed it as it would have
            # killed the program.
            failed = process.is_released and os.WIFEXITED(status)
            process.launched.give(os.WEXITSTATUS(status) if failed else 0)
        if process.exited is not None:
            process.exited.give(status)
        self._end_world_if_empty(world)

    def _drop_copy(self, process: Process) -> None:
        if process.copy is not None:
            if process.copy in process.world.page.copies:
                process.world.page.copies.remove(process.copy)
            process.copy.memory.close()
            process.copy = None

    def close_world(self, world: World, closed: Reply[None]) -> None:
        """Kills every process of a clock; answers `closed` when the last one has ended."""
        world.closed = closed
        for pid in world.processes:
            _kill(pid)
        self._end_world_if_empty(world)

    def _end_world_if_empty(self, world: World) -> None:
        if world.closed is not None and not world.processes:
            world.closed.give(None)
            if world in self.worlds:
                self.worlds.remove(world)

    def kill_all(self) -> None:
        """The tracer's end: kills what is left and reaps the children of this process."""
        for world in self.worlds:
            for process in world.processes.values():
                _kill(process.pid)
                if process.exited is not None:
                    wait.reap(process.pid)

    # --- the doorbell ----------------------------------------------------------------------------

    def _on_doorbell(self, stop: Stop | None) -> None:
        self._bell.answers += 1
        if stop is None or stop.kind == StopKind.EXITED:
            self._bell.repair()
            self._look_around()
        elif stop.kind == StopKind.GROUP_STOP:
            Stopped(stop.tid).listen()
        else:
            Stopped(stop.tid).resume()
            if stop.kind == StopKind.SIGNAL and stop.value == LOOK_AROUND:
                self._look_around()
        self._rung()

    def _look_around(self) -> None:
        """Finds stops that another thread of this process has taken away, with os.wait() or
        waitpid(-1): a task that is in a stop although nobody reported one."""
        seen = self._newborn.keys() | {stop.tid for stop in self._postponed}
        for task in list(self._tasks.values()):
            if task.state not in (TaskState.RUNNING, TaskState.NEW) or task.tid in seen:
                continue
            info = ptrace.signal_info(task.tid)
            if info is not None:
                self._recover_stop(task, *info)
            elif task.tid == task.process.pid and not _is_thread_of(task.tid, task.tid):
                self._recover_exit(task)
        self._place_overdue()

    def _recover_stop(self, task: Task, number: int, code: int) -> None:
        stop = self._poll(task.tid)
        self._postponed.append(stop or wait.from_signal_info(task.tid, number, code))

    def _recover_exit(self, task: Task) -> None:
        # Whoever took the status has it; subprocess, in the same position, says 0.
        stop = self._poll(task.tid)
        self._postponed.append(stop or Stop(task.tid, StopKind.EXITED, 0))

    def _poll(self, tid: int) -> Stop | None:
        try:
            return wait.poll(tid)
        except ChildProcessError:
            return None


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, signal.SIGKILL)


def _is_thread_of(pid: int, tid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/task/{tid}")


def _describe(process: Process) -> str:
    return f"{procfs.name(process.pid)} (pid {process.pid})"
