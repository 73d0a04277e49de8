"""Reads of a timerfd that was canceled, as the clock was set (TFD_TIMER_CANCEL_ON_SET).

They fail with ECANCELED, of which the kernel does not know. While there is such a timer, all tasks
of its clock stop at their system calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.tracer.calls import Calls
from pytest_vdsotime.tracer.calls.expirations import Timers
from pytest_vdsotime.tracer.state import ClockState, Task, TaskState


@dataclass(slots=True)
class CanceledReads:
    """Finds them; one per tracer, on its thread."""

    calls: Calls
    timers: Timers

    def at_call(self, task: Task, call: SystemCall) -> None:
        """At the entry of a system call."""
        if self.calls.is_read(call):
            answer = self.timers.at_read(task, call.arguments[0] & 0xFFFFFFFF)
            if answer is not None:
                task.at_exit = self.calls.at_exit(answer)

    def at_stop(self, task: Task, stopped: Stopped) -> None:
        """Of a task that was interrupted: it may just have read."""
        if task.process.world.is_canceled:
            descriptor = self.calls.ended_read(stopped)
            answer = None if descriptor is None else self.timers.at_read(task, descriptor)
            if answer is not None:
                self.calls.at_exit(answer)(stopped)

    def interrupt(self, world: ClockState, tasks: Sequence[Task]) -> None:
        """Have the tasks stop at system calls from now on, then wake those that wait.

        For a canceled timer.
        """
        running = [task for task in tasks if task.state == TaskState.RUNNING]
        world.to_stop = {task.tid for task in running}
        for task in running:
            task.interrupt()
        self._wake(world)

    def has_stopped(self, task: Task) -> None:
        """Or ended."""
        world = task.process.world
        if task.tid in world.to_stop:
            world.to_stop.discard(task.tid)
            self._wake(world)

    def _wake(self, world: ClockState) -> None:
        if not world.to_stop:
            self.timers.wake_canceled(world)
