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
from functools import partial

from pytest_vdsotime.errors import ClockClosed, UnsupportedProgram
from pytest_vdsotime.image import LAUNCHER_NAME
from pytest_vdsotime.kernel import memory, procfs, ptrace, wait
from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.attaching import Attaching
from pytest_vdsotime.tracer.calls import LOADER_FAILED
from pytest_vdsotime.tracer.doorbell import Doorbell
from pytest_vdsotime.tracer.interrupted import hide_interrupt, is_in_call
from pytest_vdsotime.tracer.lookout import Lookout, is_thread_of
from pytest_vdsotime.tracer.moving import Moving
from pytest_vdsotime.tracer.native import NativeObjects, RealTime
from pytest_vdsotime.tracer.stops import Stops
from pytest_vdsotime.tracer.takeover import Takeover
from pytest_vdsotime.tracer.tasks import (
    Launch,
    PrivateCopy,
    Process,
    Reply,
    Tables,
    Task,
    TaskState,
    World,
)

_STOPPING = signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU


class Loop:
    """The tracer's tables and what happens to them. Everything here runs on the tracer thread."""

    def __init__(self, native: NativeObjects, bell: Doorbell, rung: Callable[[], None]) -> None:
        self._native = native
        self._bell = bell
        self._calls = native.calls
        tables = Tables()
        self._tasks = tables.tasks
        self._newborn = tables.newborn
        self.worlds = tables.worlds
        self._stops = Stops(tables, bell, Lookout(tables, self._start_newborn), rung)
        self._takeover = Takeover(native, self._stops.next_of)
        self._moving = Moving(native, self._stops.next_of)
        self._attaching = Attaching(native, tables, self._moving, self._stops.next, self._handle)
        self._leaving = tables.leaving
        self.later: deque[Callable[[], None]] = deque()
        """Actions for when no stop is being handled."""
        self.is_done = False
        self._handlers: Mapping[int, Callable[[Task, Stop], None]] = {
            int(StopKind.FORK): self._on_new_task,
            int(StopKind.VFORK): self._on_new_task,
            int(StopKind.CLONE): self._on_new_task,
            int(StopKind.EXEC): self._on_exec,
            int(StopKind.TRAP): self._on_trap,
            int(StopKind.GROUP_STOP): self._on_group_stop,
            int(StopKind.SIGNAL): self._on_signal,
            int(StopKind.SECCOMP): self._on_call,
            int(StopKind.SYSCALL): self._on_syscall,
            int(StopKind.EXITED): self._on_exit,
        }

    def run(self) -> None:
        """Handles stops until `is_done`."""
        while not self.is_done:
            while self.later:
                self.later.popleft()()
            stop = self._stops.next()
            if stop is not None:
                self._handle(stop)

    def _handle(self, stop: Stop) -> None:
        task = self._tasks.get(stop.tid)
        if task is None:
            if stop.tid in self._leaving:
                self._attaching.depart(stop)
                return
            if stop.kind == StopKind.EXEC:
                task = self._leader_reborn(stop)
            elif stop.kind == StopKind.EXITED:
                self._newborn.pop(stop.tid, None)
                return
            else:
                self._newborn[stop.tid] = stop
                return
        task.move(TaskState.GONE if stop.kind == StopKind.EXITED else TaskState.STOPPED)
        launch = task.process.launch
        try:
            if launch is not None and not launch.is_released and stop.kind != StopKind.EXITED:
                self._release_launcher(task, stop, launch)
            else:
                self._handlers[stop.kind](task, stop)
        except ProcessLookupError:
            pass  # killed while it was stopped: its exit is reported next

    # --- programs come ---------------------------------------------------------------------------

    def launch(self, process: Process) -> None:
        """Takes the launcher in a child of this process under the tracer.

        Raises OSError when it cannot be traced, ClockClosed when its clock is being closed.
        """
        if process.world.closed is not None:
            raise ClockClosed("the clock is closed")
        ptrace.seize(process.pid)
        process.threads.add(process.pid)
        process.world.processes[process.pid] = process
        self._tasks[process.pid] = Task(process.pid, process, TaskState.RUNNING)
        if not self._release_running(process):
            ptrace.interrupt(process.pid)

    def _release_running(self, process: Process) -> bool:
        """Releases a launcher that runs already and does not sleep yet, without a stop. Its memory
        is its own: subprocess hears of the exec after the former is gone (begin_new_exec,
        fs/exec.c)."""
        launch, launcher, pid = process.launch, self._native.launcher, process.pid
        assert launch is not None
        if launch.may_precede_launcher or not memory.read_word(pid, launcher.state):
            return False
        launch.is_released = True
        memory.write_word(pid, launcher.patience, 0)
        return memory.read_word(pid, launcher.state) == launcher.AWAKE

    def _release_launcher(self, task: Task, stop: Stop, launch: Launch) -> None:
        """At the first stop of a launcher that was not running yet, whichever stop it is: any other
        cancels the interrupt (ptrace_stop, kernel/signal.c). Its own exec may be that stop:
        subprocess sees its error pipe close, and has the process seized, before the exec is
        complete. And a preexec_fn may close that pipe: before it has returned, there is no launcher
        yet."""
        is_executing = stop.kind == StopKind.EXEC
        may_precede = launch.may_precede_launcher and not is_executing
        if not may_precede or procfs.argv(task.tid)[:1] == [LAUNCHER_NAME]:
            Stopped(task.tid).poke(self._native.launcher.patience, 0)
            launch.is_released = True
        handler = self._on_trap if is_executing else self._handlers[stop.kind]
        handler(task, stop)

    def attach(self, process: Process) -> None:
        """Takes over a running process; see Attaching.attach. For `later`."""
        try:
            self._attaching.attach(process)
        finally:
            self._end_world_if_empty(process.world)

    def release(self, process: Process) -> None:
        """Lets a process that was attached to, and what it has started, go; see Attaching.release.
        For `later`."""
        process.world.errors.extend(self._attaching.release(process))
        self._end_world_if_empty(process.world)

    def _on_new_task(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        tid = stopped.event_message()
        parent = task.process
        if tid in self._tasks:
            self._resume(task, stopped)  # it was placed when its parent's report was overdue
            return
        if stop.kind == StopKind.CLONE and is_thread_of(parent.pid, tid):
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
        process.is_in_real_time = parent.is_in_real_time
        process.host, process.vdso, process.mapped = parent.host, parent.vdso, parent.mapped
        process.origin, process.traces_calls = parent.origin, parent.traces_calls
        process.moved = parent.moved
        process.says_dumpable, process.has_own_filter = parent.says_dumpable, parent.has_own_filter
        process.provides_memory = parent.provides_memory
        world.processes[pid] = process
        if parent.copy is not None:
            self._inherit_copy(parent.copy, process)
        if world.closed is not None and process.origin is None:
            process.kill()
        return process

    def _inherit_copy(self, copy: PrivateCopy, process: Process) -> None:
        """The copy of a forked process is its own; that of a vforked one is its parent's, and is
        then written twice. It may have been duplicated between two writes: begin it anew."""
        try:
            process.copy = copy.of_process(process.pid)
            process.copy.write(0, process.world.page.private_copy())
        except (ProcessLookupError, FileNotFoundError):
            return  # killed
        except OSError as error:
            self._kill_unsupported(process, error)
            return
        process.world.page.copies.append(process.copy)

    def _start_newborn(self, tid: int) -> None:
        stop = self._newborn.pop(tid, None)
        if stop is not None:
            self._handle(stop)

    # --- programs run ----------------------------------------------------------------------------

    def _resume(self, task: Task, stopped: Stopped, number: int = 0) -> None:
        task.move(TaskState.RUNNING)
        if task.at_exit is None and not task.process.traces_calls:
            stopped.resume(number)
        else:
            stopped.resume_to_syscall(number)

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
        process.drop_copy()
        process.is_in_real_time = process.has_read_clock = False
        process.moved = None
        process.traces_calls = process.origin is not None
        process.says_dumpable = True  # again, by the exec (prctl(2))
        process.provides_memory = False
        process.mapped = process.loader_failed_at = 0
        task.at_exit = None  # of the leader, whose place another thread may have taken
        try:
            stopped = self._takeover.at_exec(stopped, process)
        except RealTime as reason:
            process.is_in_real_time = True
            process.world.warnings.append(f"{process.describe()} runs in real time: {reason}")
            self._resume(task, stopped)
        except ProcessLookupError:
            raise
        except (OSError, UnsupportedProgram) as error:
            self._kill_unsupported(process, error)
        else:
            self._resume(task, stopped)
            self._warn_of_privilege(process)
        if process.launch is not None:
            process.launch.ended.give(0)
            process.launch = None

    def _warn_of_privilege(self, process: Process) -> None:
        privilege = procfs.ignored_privilege(f"/proc/{process.pid}/exe")
        if privilege:
            process.world.warnings.append(
                f"{process.describe()} is {privilege}, which the kernel ignores for a program "
                "traced by an ordinary user (execve(2)): it runs without that privilege; "
                "run the tests as root"
            )

    def _kill_unsupported(self, process: Process, error: Exception) -> None:
        process.world.errors.append(
            UnsupportedProgram(
                f"taking over {process.describe()} failed: {error}; "
                "it was killed, as it would have run in real time"
            )
        )
        process.kill()

    def _on_trap(self, task: Task, _stop: Stop) -> None:
        stopped = Stopped(task.tid)
        self._resume(task, stopped)

    def _on_call(self, task: Task, _stop: Stop) -> None:
        stopped, process = Stopped(task.tid), task.process
        call = stopped.system_call()
        if call.nr == LOADER_FAILED and call.counter == process.loader_failed_at:
            self._on_loader_failure(task, stopped, call)
            return
        process.loader_failed_at = 0
        task.at_exit = self._calls.answer(stopped, process, call)
        self._resume(task, stopped)

    def _on_loader_failure(self, task: Task, stopped: Stopped, call: SystemCall) -> None:
        process = task.process
        try:
            stopped = self._takeover.after_loader_failure(stopped, process, call)
        except ProcessLookupError:
            raise
        except (OSError, UnsupportedProgram) as error:
            self._kill_unsupported(process, error)
        else:
            self._resume(task, stopped)

    def _on_syscall(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        if task.process.traces_calls:
            call = stopped.system_call()
            if call.is_entry and call.counter == task.began_alone:
                self._resume(task, stopped)
                return
            if call.is_entry:
                task.began_alone = 0
                self._on_call(task, stop)
                return
        if task.began_alone and not is_in_call(stopped.registers(), self._native.arch):
            task.began_alone = 0
        at_exit, task.at_exit = task.at_exit, None
        if at_exit is not None:
            at_exit(stopped)
        self._resume(task, stopped)

    def _on_group_stop(self, task: Task, _stop: Stop) -> None:
        task.move(TaskState.LISTENING)
        Stopped(task.tid).listen()

    def _on_signal(self, task: Task, stop: Stop) -> None:
        stopped = Stopped(task.tid)
        number = stop.value
        process = task.process
        if number == signal.SIGSEGV and (
            self._moving.follow(stopped, process)
            or self._takeover.follow_moved_vdso(stopped, process)
        ):
            number = 0
        elif number not in _STOPPING:
            hide_interrupt(stopped, self._native.arch)  # the signal may be ignored
        self._resume(task, stopped, number)

    # --- programs go -----------------------------------------------------------------------------

    def _on_exit(self, task: Task, stop: Stop) -> None:
        process = task.process
        del self._tasks[task.tid]
        process.threads.discard(task.tid)
        # The leader may have ended before the process was attached to.
        if task.tid == process.pid or not process.threads:
            self._ended(process, stop.value)

    def _ended(self, process: Process, status: int) -> None:
        world = process.world
        del world.processes[process.pid]
        process.drop_copy()
        if process.launch is not None:
            # The launcher's exit status is the errno of execve; a signal killed it as it would have
            # killed the program.
            failed = process.launch.is_released and os.WIFEXITED(status)
            process.launch.ended.give(os.WEXITSTATUS(status) if failed else 0)
        if process.exited is not None:
            process.exited.give(status)
        self._end_world_if_empty(world)

    def close_world(self, world: World, closed: Reply[None]) -> None:
        """Kills every process of a clock; answers `closed` when the last one has ended."""
        world.closed = closed
        for process in tuple(world.processes.values()):
            if process.origin is None:
                process.kill()
            else:
                self.later.append(partial(self.release, process.origin))
        self._end_world_if_empty(world)

    def _end_world_if_empty(self, world: World) -> None:
        if world.closed is not None and not world.processes:
            world.closed.give(None)
            if world in self.worlds:
                self.worlds.remove(world)

    def kill_all(self) -> None:
        """The tracer's end: kills what is left, and reaps it. The end of a process is not reported
        before every one of its threads is reaped, so all reports are taken."""
        left = {pid: one for world in self.worlds for pid, one in world.processes.items()}
        for process in left.values():
            process.kill()
        while left:
            stop = wait.wait_any()
            if stop is None:
                left = {pid: one for pid, one in left.items() if is_thread_of(pid, pid)}
            elif stop.kind == StopKind.EXITED:
                left.pop(stop.tid, None)
            elif stop.tid == self._bell.pid:
                Stopped(stop.tid).resume()
                left = {pid: one for pid, one in left.items() if is_thread_of(pid, pid)}
            else:
                with suppress(ProcessLookupError):
                    os.kill(stop.tid, signal.SIGKILL)
