"""The lines of clocks move, and what waits for them goes on.

A change of the lines is one thing: the page, the kernel's timeouts that are no longer right, the
timers, what is due by then. Everything here runs on the tracer thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from pytest_vdsotime import faults
from pytest_vdsotime.abi import constant
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.sample import TaskSample
from pytest_vdsotime.timeline import LineName, Lines, Rate, now_ns
from pytest_vdsotime.tracer.call import Request, Substitute
from pytest_vdsotime.tracer.calls import Calls, sockets
from pytest_vdsotime.tracer.calls.cancellation import CanceledReads
from pytest_vdsotime.tracer.calls.expirations import Timers
from pytest_vdsotime.tracer.calls.later import is_brief, spend_grace, was_reached
from pytest_vdsotime.tracer.calls.waits import HELD_TOLERANCE_NS, in_kernel, owner_of, tell_expired
from pytest_vdsotime.tracer.quiescence import Quiescence, worked_ns
from pytest_vdsotime.tracer.state import ClockState, Task, TaskState
from pytest_vdsotime.tracer.stops import Shortcuts
from pytest_vdsotime.waits import NEVER_NS, Timer, Wait

_MOMENT_NS = constant("MOMENT_NS")
#: How much later than it should a wait may end by the kernel's own timer for that to be left to it;
#: and how much sooner, which no program can see: two readings of a line at other rates differ so.
_TOLERANCE_NS, _SOONER_NS = 200_000, 1000
#: For how long others may be busy for sleeps that are due to end in their order; on a busy machine
#: for as long as they work, and within this.
_MAX_ORDER_NS, _LONGEST_ORDER_NS = 50 * 10**6, 10**9


class Pending(NamedTuple):
    """What is to end at a deadline."""

    left_ns: int
    set_ns: int
    """Those of one instant end in the order in which they were set."""
    what: Timer | tuple[Task, Wait]

    @property
    def is_carried(self) -> bool:
        """Whether a task waits for what is left."""
        return not isinstance(self.what, Timer) and self.what[1].is_carried

    @property
    def is_brief(self) -> bool:
        """Whether a task waits for a moment."""
        return not isinstance(self.what, Timer) and self.what[1].length_ns <= _MOMENT_NS

    @property
    def is_counted(self) -> bool:
        """Whether it is a timerfd, which counts."""
        return isinstance(self.what, Timer) and self.what.copy >= 0

    def describe(self) -> str:
        """Return whose it is, in words."""
        pid = self.what.key[1] if isinstance(self.what, Timer) else self.what[0].process.pid
        return f"{procfs.command(pid)} (pid {pid}) waits for no time, again and again"


class Movement:
    """Moves the lines of clocks; one per tracer."""

    def __init__(
        self,
        calls: Calls,
        quiescence: Quiescence,
        timers: Timers,
        cancellation: CanceledReads,
        shortcuts: Shortcuts,
    ) -> None:
        self._calls = calls
        self._quiescence = quiescence
        self._timers = timers
        self._cancellation = cancellation
        self._shortcuts = shortcuts

    def move(
        self, world: ClockState, to: Callable[[Lines, int], Lines], *, is_set: bool = False
    ) -> None:
        """Set the clock, or its rate."""
        self._timers.suspend(world)
        self.change(world, to)
        sockets.revise(world)
        self.revise(world, is_set=is_set)

    def set_wall(self, world: ClockState) -> None:
        """Set the wall line as a program has asked."""
        setting, world.setting = world.setting, None
        assert setting is not None
        if setting.tai_by_ns:
            self._move_tai(world, setting.tai_by_ns)
        self.move(world, setting.to, is_set=True)

    def _move_tai(self, world: ClockState, by_ns: int) -> None:
        """Move the points of CLOCK_TAI that waits end at.

        A point of the wall line each, so much sooner.
        """
        self._timers.suspend(world)
        world.page.move_tai(by_ns)
        waits = [task.wait for task in self._quiescence.tasks(world) if task.wait is not None]
        ending: list[Wait | Timer] = [*waits, *world.timers.values()]
        for one in ending:
            if one.clock_id == time.CLOCK_TAI and one.is_absolute:
                one.deadlines = tuple(
                    (name, end_ns - by_ns if name is LineName.WALL else end_ns)
                    for name, end_ns in one.deadlines
                )

    def carry(self, world: ClockState) -> None:
        """Carry on a task that polls for a later time."""
        carry_ns, world.carry_ns = world.carry_ns, 0
        self.move_on(world, carry_ns)
        self.revise(world)

    def owner_of(self, world: ClockState, pending: Pending) -> int:
        """Return the process that is to go on."""
        what = pending.what
        return owner_of(world, what) if isinstance(what, Timer) else what[0].process.pid

    def follow_grace(self, world: ClockState) -> None:
        """After short waits: see to what waits for longer, now and then."""
        if world.grace.has_moved:
            world.grace.has_moved = False
            self.revise(world)

    def waits(
        self, world: ClockState, samples: Mapping[int, TaskSample] | None = None
    ) -> Sequence[tuple[int, Task, Wait]]:
        """Who waits for a deadline, and how far it is, the soonest first.

        Waits that pass in real time are not among them while nobody moves the lines.
        """
        if samples is None:
            samples = self._quiescence.sample(world)
        lines, host_ns = world.page.lines, now_ns()
        found = [
            (wait.left_ns(lines, host_ns), task, wait)
            for task in self._quiescence.tasks(world)
            if (wait := self._quiescence.wait_of(task, samples.get(task.tid))) is not None
            and not wait.is_expiring
            and not is_brief(wait, world)
        ]
        return sorted(found, key=lambda one: one[0])

    def pending(self, world: ClockState, samples: Mapping[int, TaskSample]) -> Sequence[Pending]:
        """All that a deadline will end, the soonest first."""
        lines, host_ns = world.page.lines, now_ns()
        found: list[Pending] = [
            Pending(left_ns, wait.set_ns, (task, wait))
            for left_ns, task, wait in self.waits(world, samples)
        ]
        found += [
            Pending(timer.left_ns(lines, host_ns), timer.set_ns, timer)
            for timer in self._timers.armed(world)
        ]
        return sorted(found, key=lambda one: one[:2])

    def change(self, world: ClockState, to: Callable[[Lines, int], Lines]) -> None:
        """Move the lines, and nothing else. Raises as ClockPage.change."""
        try:
            world.page.change(lambda host_ns: to(world.page.lines, host_ns))
        finally:
            self._shortcuts.lines_moved()

    def at_rates(self, world: ClockState, rates: tuple[Rate, Rate]) -> None:
        """Have the wall line and the monotonic one go on at these rates."""
        self.change(world, lambda lines, host_ns: lines.at_rates(host_ns, *rates))

    def move_on(self, world: ClockState, by_ns: int) -> None:
        """Time passes."""
        if world.page.copies or by_ns > NEVER_NS:  # of which the native code knows nothing
            self.change(world, lambda lines, host_ns: lines.advanced(host_ns, by_ns))
        else:
            self._shortcuts.fastpath.move_lines(world.page, by_ns)
            world.page.was_advanced(by_ns)
            self._shortcuts.lines_moved()
        world.passed_ns += by_ns

    def fire(self, world: ClockState, step_ns: int, due: Sequence[Pending]) -> None:
        """Move the lines on, and have what is due then expire, soon."""
        self.move_on(world, step_ns)
        self.let_in(world, {one.what[0].tid for one in due if not isinstance(one.what, Timer)})
        # First those of which a program that goes on by the others may read how often they expired.
        for one in sorted(due, key=lambda one: not one.is_counted):
            if isinstance(one.what, Timer):
                self._timers.expire(world, one.what)
                continue
            task, wait = one.what
            with task.process.answers_for("ending a wait of"):
                if faults.armed:
                    faults.reach("wait", task.process.pid)
                if task.held is not None:
                    self._end_held(task, wait)
                else:
                    self._quiescence.timed_waits.expire(task, wait)

    def _end_held(self, task: Task, wait: Wait) -> None:
        world, request = task.process.world, task.held
        assert isinstance(request, Request)
        task.held = task.wait = None
        tell_expired(task, wait, is_over=True)
        was_reached(task, wait.length_ns)
        if task.process.traces_calls or world.stops_at_calls:
            self._calls.give(request.stopped, wait.row.expired)
            self._shortcuts.resume(task, request.stopped)
        else:
            task.move(TaskState.RUNNING)
            self._shortcuts.fastpath.to_native(task.tid)
            self._shortcuts.fastpath.end_call(task.tid, wait.row.expired)

    def let_in(self, world: ClockState, but: Container[int] = ()) -> None:
        """Sleeps that are held enter the kernel.

        But those that are due, for a while: it is for the clock to say which of them ends first.
        """
        lines, host_ns = world.page.lines, now_ns()
        is_orderly = world.is_passing and self._is_orderly(world, host_ns)
        for task in self._quiescence.held(world):
            assert isinstance(task.held, Request) and task.wait is not None
            if task.tid in but or (is_orderly and task.wait.left_ns(lines, host_ns) <= 0):
                continue
            request, task.held = task.held, None
            with task.process.answers_for("beginning a wait of"):
                answer = in_kernel(request, task.wait, HELD_TOLERANCE_NS)
                if isinstance(answer, Substitute):
                    task.at_exit = self._calls.substitute(request, answer)
                self._shortcuts.resume(task, request.stopped)

    def _is_orderly(self, world: ClockState, host_ns: int) -> bool:
        """Whether programs have been busy for so short a time that others may wait for them."""
        busy = world.busy
        busy_ns = host_ns - busy.since_ns if busy.since_ns else 0
        if busy_ns < _MAX_ORDER_NS or busy_ns > _LONGEST_ORDER_NS:
            return busy_ns < _MAX_ORDER_NS
        return busy.worked_ns is None or worked_ns(world) - busy.worked_ns < _MAX_ORDER_NS

    def revise(
        self,
        world: ClockState,
        samples: Mapping[int, TaskSample] | None = None,
        *,
        is_set: bool = False,
    ) -> bool:
        """After the lines were moved: has every wait and timer end when it now should.

        Returns whether some program has to do with it. `looks` at the tasks, if no wait has begun
        since.
        """
        if is_set:
            self._timers.cancel(world)
        has_stopped = is_set and world.is_canceled
        if has_stopped:
            self._shortcuts.choose()
            self._cancellation.interrupt(world, self._quiescence.tasks(world))
        for timer in self._timers.armed(world):
            self._timers.expire(world, timer)
        self._timers.revise(world)
        lines, host_ns = world.page.lines, now_ns()
        for _, task, wait in self.waits(world, samples):
            due_ns = wait.due_ns(lines, host_ns)
            if is_brief(wait, world):
                due_ns = host_ns + max(wait.left_ns(lines, host_ns), 0)
            is_later = due_ns > wait.host_due_ns + _SOONER_NS
            is_sooner = due_ns < wait.host_due_ns - _TOLERANCE_NS
            with task.process.answers_for("revising a wait of"):
                if task.held is not None:  # when it goes on is for those who hold it
                    if due_ns <= host_ns:
                        self._end_held(task, wait)
                        has_stopped = True
                elif due_ns <= host_ns:
                    self._quiescence.timed_waits.expire(task, wait)
                    has_stopped = True
                elif wait.row.is_of_socket and is_later:
                    pass
                elif is_later or (is_sooner and wait.row.writes_back):
                    self._quiescence.timed_waits.call_anew(task, wait)
                    has_stopped = True
                elif is_sooner:
                    self._timers.alarms.set(task.tid, due_ns, partial(self._rings, task))

        return has_stopped

    def _rings(self, task: Task) -> None:
        """End a wait whose own time is up, while the kernel's for it is not."""
        if task.tid not in task.process.threads:
            return  # it has ended meanwhile, or was let go
        with task.process.answers_for("ending a wait of"):
            self._end_if_due(task)

    def _end_if_due(self, task: Task) -> None:
        wait = self._quiescence.wait_of(task, self._quiescence.sample_of(task))
        if wait is None or wait.is_expiring:
            return
        world, host_ns = task.process.world, now_ns()
        left_ns = wait.left_ns(world.page.lines, host_ns)
        if is_brief(wait, world):
            spend_grace(world, wait)
        elif left_ns > 0:
            return
        self._quiescence.timed_waits.expire(task, wait)
