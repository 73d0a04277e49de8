"""What tests ask of the tracer: time passes, clocks are set, come and end.

`Operations.advance` lets the programs settle, moves both lines to the earliest deadline, has what
is due there expire, lets the programs settle again, and so on; then the lines go the rest of the
way. So a loop of sleeps runs as often, and at as many different times, as it would in all that
time. Both lines stand still meanwhile, whatever real time it takes. `Autojump` does by itself what
`advance` does when a test asks for it: when all is at rest, on to the next deadline.

No kernel wakes a sleeper at the very instant, and programs rely on it: they wait again for what is
left, of which nothing is. Such a task is carried on, to the end of that wait (`Wait.is_carried`),
or step by step where it waits for no time at all (calls/waits.py). Where a task polls without a
stop of its own, `is_busy` has it watched.

Everything here runs on the tracer thread, between two stops, and handles stops itself meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pytest_vdsotime import faults
from pytest_vdsotime.abi import constant
from pytest_vdsotime.errors import ClockClosed
from pytest_vdsotime.kernel.sample import TaskSample
from pytest_vdsotime.timeline import (
    LATEST_NS,
    NS_PER_S,
    Lines,
    Rate,
    check_range,
    now_ns,
)
from pytest_vdsotime.tracer.calls import peers, sockets
from pytest_vdsotime.tracer.calls.later import CARRY_NS, can_be_carried
from pytest_vdsotime.tracer.engine import Passage
from pytest_vdsotime.tracer.loop import Loop
from pytest_vdsotime.tracer.movement import Pending
from pytest_vdsotime.tracer.quiescence import Lull, worked_ns
from pytest_vdsotime.tracer.state import Busy, ClockState, TaskState
from pytest_vdsotime.waits import Timer, Wait

T = TypeVar("T")

FIRST_NAP_NS, LAST_NAP_NS = 20_000, 2_000_000
#: Programs have so long to come to rest where the test does not wait for that any more.
_MAX_CANCEL_NS = 250 * 10**6
#: How long a sleep is held at its entry for the others to come to rest.
MAX_HOLD_NS = 300_000
_MAX_ROUNDING_NS = 200_000
_GRAIN_NS = constant("GRAIN_NS")

#: Deadlines of one instant end one after the other, each settled before the next, unless so many
#: looks at tasks would be needed for that.
_MAX_LOOKS = constant("MAX_LOOKS")
#: More brief waits end together where a machine could not end them apart: so long that takes each.
_CROWD, _WAKE_NS = constant("CROWD"), constant("WAKE_NS")
#: A task that runs for so long after its deadline is watched: it may poll for a later time.
_SUSPICIOUS_NS = 3 * 10**6
#: At so many calls that are no such polls.
_WATCHED_CALLS = 16
#: Programs that are busy for longer find that work takes time, where the lines stand: for at least
#: so long, and on a slow machine (an emulated one) as long as it takes to count to `_COUNT` often.
_LONG_NS, _LONG_COUNTS = 100 * 10**6, 2000
_COUNT = 2000
_NUDGE_NS = 1000
#: The kernel does not end a wait within this while the lines stand.
_RENEWED_NS = constant("RENEWED_NS")
_STILL = Rate.of(0)
#: How long to wait for tasks to stop that were interrupted.
_MAX_STOP_NS = 10**9
#: While programs are busy time passes for them in steps: so long a step is at least, and to see to
#: it takes a part of the time.
_LEAST_STEP_NS, _WORKING_PART = 100_000, 4
#: Before a step this long, data on its way through the kernel is waited for, so long at most.
_LONG_STEP_NS = constant("LONG_STEP_NS")
_MAX_NETWORK_NS, _NETWORK_NAP_NS = 250 * 10**6, 5 * 10**6
#: Between a look at the tasks and one at their sockets, where nothing else takes the processor.
_LOOK_NS = 5 * 10**6
#: How long to look away where a program waits for a peer.
_PEER_NAP_NS = 10**6
#: Programs that had no sockets for that have none for so long; to look takes a part of the time.
_NO_STREAMS_NS, _LOOKING_PART = 100 * 10**6, 10


class Canceled(Exception):
    """The test has stopped waiting for an operation."""


class Operations:
    """Moves the lines of clocks; one per tracer, on its thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.movement = loop.movement
        self._quiescence = loop.quiescence
        self._timers = loop.timers
        self._shortcuts = loop.shortcuts
        self._engine = loop.engine
        self._long_ns = _long_ns()
        self._canceled_ns = 0
        """Since when the operation under way is to stop; 0: it is not."""
        self._looked_late = False
        """The last look at sockets came late: the programs are looked at again before the next."""

    def run(self, operation: Callable[[Operations], T]) -> T:
        """Return what `operation` does. Raises what it raises, or Canceled."""
        try:
            found = operation(self)
            if self._canceled_ns:
                raise Canceled
            return found
        finally:
            self._canceled_ns = 0

    def cancel(self) -> None:
        """Have the operation under way stop at the next deadline, settled if that is soon."""
        self._canceled_ns = self._canceled_ns or now_ns()

    def advance(
        self, world: ClockState, by_ns: int, timeout_s: float, stride_ns: int | None = None
    ) -> None:
        """Time passes. Raises ValueError beyond the year 9999, NotSettled, ClockClosed."""
        world.page.lines.advanced(now_ns(), by_ns)
        world.way = world.passed_ns, world.passed_ns + by_ns
        with self._advancing(world, timeout_s) as seen:
            samples = self._stand(world, timeout_s)
            goal_ns = world.passed_ns + by_ns
            seen.append(self._pass(world, goal_ns, timeout_s, samples, stride_ns))
            if world.passed_ns < goal_ns and not self._canceled_ns:  # nothing is due any more
                self.movement.move_on(world, goal_ns - world.passed_ns)

    def advance_to_next(self, world: ClockState, timeout_s: float) -> bool:
        """To the earliest deadline; whether there was one."""
        with self._advancing(world, timeout_s):
            samples = self._stand(world, timeout_s)
            pending = self.movement.pending(world, samples)
            left_ns = max(pending[0].left_ns, 0) if pending else 0
            check_range(world.page.lines.wall.at(now_ns()) + left_ns, "the next deadline")
            if pending:
                self._pass(world, world.passed_ns + left_ns, timeout_s, samples)
        return bool(pending)

    def rest(self, world: ClockState, timeout_s: float) -> None:
        """Settle, and carry on tasks that wait for a later time. Raises NotSettled, ClockClosed."""
        self.settle(world, timeout_s)
        if any(task.wait and task.wait.is_carried for task in self._quiescence.tasks(world)):
            with self._advancing(world, timeout_s):
                samples = self._stand(world, timeout_s)
                self._pass(world, world.passed_ns, timeout_s, samples)

    @contextmanager
    def _advancing(
        self, world: ClockState, timeout_s: float
    ) -> Iterator[list[Mapping[int, TaskSample]]]:
        """Give a list for the looks at its tasks when all that was due had happened."""
        seen: list[Mapping[int, TaskSample]] = []
        world.is_advancing = True
        self._timers.revise(world)
        self._shortcuts.lines_moved()
        try:
            yield seen
        finally:
            self._go_on(world)
            world.is_advancing, world.way = False, (0, 0)
            self._shortcuts.lines_moved()
            self.movement.let_in(world)
            is_to_settle = world.closed is None and self.movement.revise(
                world, seen[0] if seen else None
            )
        if is_to_settle:
            self.settle(world, timeout_s)

    def _stand(self, world: ClockState, timeout_s: float) -> Mapping[int, TaskSample]:
        """Let the programs settle, and have both lines stand still, until `_go_on`."""
        samples = self.settle(world, timeout_s, nap_ns=1)
        if not any(rate.mult for rate in world.rates):
            self._timers.suspend(world)
            world.own_rates = world.rates
            return samples
        soon_ns = now_ns() + 2 * _RENEWED_NS
        with self._stopped(world, lambda wait: wait.host_due_ns < soon_ns):
            self._timers.suspend(world)  # nobody is in a call about a timer now
            world.own_rates = world.rates
            self.movement.at_rates(world, (_STILL, _STILL))
        return self.settle(world, timeout_s, nap_ns=1)  # some may have ended just before

    @contextmanager
    def _stopped(self, world: ClockState, is_later: Callable[[Wait], bool]) -> Iterator[None]:
        """Stop the tasks in waits that the lines are about to end later than the kernel would.

        So none ends before its time. They go on with the next stops.
        """
        self._shortcuts.fastpath.let_waits_begin(None)
        tids = set()
        for _, task, wait in self.movement.waits(world):
            is_timed = not (task.held or wait.row.is_of_socket or wait.is_expiring or wait.is_anew)
            if is_timed and is_later(wait):
                tids.add(task.tid)
                with task.process.answers_for("revising a wait of"):
                    self._quiescence.timed_waits.call_anew(task, wait)
        try:
            self._loop.stops.await_all(tids, _MAX_STOP_NS)
            yield
        finally:
            self._shortcuts.lines_moved()

    def _go_on(self, world: ClockState) -> None:
        """Have both lines go on at their own rates."""
        self._catch_up(world)
        rates, world.own_rates = world.own_rates, None
        lines = world.page.lines
        if rates is not None and rates != (lines.wall.rate, lines.monotonic.rate):
            self.movement.at_rates(world, rates)

    def _pass(
        self,
        world: ClockState,
        goal_ns: int,
        timeout_s: float,
        samples: Mapping[int, TaskSample],
        stride_ns: int | None = None,
    ) -> Mapping[int, TaskSample]:
        """Have everything end that is due by when so much has passed, and is carried on then."""
        passed_ns, since_ns = world.passed_ns, now_ns()
        began_ns = passed_ns
        while True:
            passage = Passage.STOPPED if stride_ns is None else Passage.NONE
            while passage is Passage.STOPPED and world.passed_ns < goal_ns:
                if self._canceled_ns:
                    break
                passage = self.pass_natively(world, goal_ns - world.passed_ns)
                if passage is not Passage.NONE:
                    samples = self.settle(world, timeout_s, nap_ns=1)
            if self._canceled_ns or not (pending := self.movement.pending(world, samples)):
                break
            if world.passed_ns != passed_ns:
                passed_ns, since_ns = world.passed_ns, now_ns()
            carried = [one.left_ns for one in pending if one.is_carried and one.left_ns < CARRY_NS]
            goal_ns = max(goal_ns, passed_ns + max(carried, default=0))
            stride = None if stride_ns is None else (stride_ns, passed_ns - began_ns)
            step_ns, due = self.next_step(world, pending, goal_ns - passed_ns, stride)
            if not due:
                break
            if now_ns() - since_ns > timeout_s * NS_PER_S:
                raise self._quiescence.not_settled(world, timeout_s, [pending[0].describe()])
            if self.awaits_network(world, step_ns):
                samples = self.settle(world, timeout_s, nap_ns=_NETWORK_NAP_NS)
                continue
            self.movement.fire(world, step_ns, due)
            self._renew(world, pending[len(due) :])
            samples = self.settle(world, timeout_s)
        return samples

    def pass_natively(self, world: ClockState, most_ns: int) -> Passage:
        """Have time pass without Python as far as that goes."""
        if now_ns() >= world.network.next_look_ns and self.awaits_network(world, _LONG_STEP_NS):
            return Passage.NONE
        return self._engine.run(world, most_ns, rounding_ns(world))

    def next_step(
        self,
        world: ClockState,
        pending: Sequence[Pending],
        most_ns: int,
        stride: tuple[int, int] | None,
    ) -> tuple[int, Sequence[Pending]]:
        """Return how far the lines go next, and what ends there; nothing is due within `most_ns`.

        In strides (how long, how far the lines have gone since the first began) all that is due
        within one ends with it; but what is over already, or for what was left, ends at once. Of a
        crowd of brief waits those end together that a machine could not end one by one.
        """
        left_ns = pending[0].left_ns
        if left_ns > most_ns:
            return 0, ()
        is_over = left_ns <= 0 or (pending[0].is_carried and left_ns < CARRY_NS)
        if stride is not None and not is_over:
            stride_ns, gone_ns = stride
            end_ns = -(-(gone_ns + left_ns) // stride_ns) * stride_ns - gone_ns
            step_ns = min(end_ns + world.slack_ns, most_ns)
            return step_ns, [one for one in pending if one.left_ns <= step_ns]
        brief = [one for one in pending if one.is_brief]
        is_crowd = len(brief) > _CROWD
        if is_crowd:
            others_ns = [one.left_ns for one in pending if not one.is_brief]
            end_ns = min(left_ns + len(brief) * _WAKE_NS, most_ns, *others_ns[:1])
            left_ns = max([left_ns, *[one.left_ns for one in brief if one.left_ns <= end_ns]])
        step_ns = min(max(left_ns + world.slack_ns, 0), most_ns)
        step_ns = _rounded(world, step_ns, most_ns)
        due = [one for one in pending if one.left_ns <= step_ns]
        is_orderly = not is_crowd and len(due) * len(pending) <= _MAX_LOOKS
        return step_ns, due[:1] if is_orderly else due

    def awaits_network(self, world: ClockState, step_ns: int) -> bool:
        """Whether data of the programs may still be on its way before a long step; not for ever.

        It is looked for now and then, and before each step of a second.
        TCP holds a short segment back for an acknowledgement, which comes some 40 ms later
        (tcp_nagle_check, net/ipv4/tcp_output.c).
        """
        network, host_ns = world.network, now_ns()
        former = network.unsent_since
        is_recent = host_ns < network.next_look_ns
        may_wait = not network.has_streams or step_ns < NS_PER_S
        if step_ns < _LONG_STEP_NS or (is_recent and may_wait and not former):
            return False
        unsent = sockets.unsent(world)
        network.unsent_since = {inode: former.get(inode, host_ns) for inode in unsent}
        nap_ns = _NETWORK_NAP_NS if network.has_streams else _NO_STREAMS_NS
        seen_ns = now_ns()
        network.next_look_ns = seen_ns + max(nap_ns, _LOOKING_PART * (seen_ns - host_ns))
        # Where some has gone a task may have been woken since it was looked at.
        since_ns = {**dict.fromkeys(unsent, host_ns), **former}.values()
        if any(one > host_ns - _MAX_NETWORK_NS for one in since_ns):
            return True
        # So may one of which no look at the sockets came in time, on a busy machine.
        is_late = network.has_streams and host_ns - self._quiescence.looked_ns > _LOOK_NS
        self._looked_late = is_late and not self._looked_late
        return self._looked_late

    def _renew(self, world: ClockState, pending: Sequence[Pending]) -> None:
        """Have waits that began before the lines stood be timed by them.

        If the kernel would end them soon.
        """
        soon_ns = now_ns() + 2 * _RENEWED_NS
        for one in pending:
            if isinstance(one.what, Timer):
                continue
            task, wait = one.what
            is_timed = wait.host_due_ns < soon_ns and not wait.row.is_of_socket
            if is_timed and task.held is None and not (wait.is_expiring or wait.is_anew):
                with task.process.answers_for("revising a wait of"):
                    self._quiescence.timed_waits.call_anew(task, wait)

    def set(
        self,
        world: ClockState,
        to: Callable[[Lines, int], Lines],
        timeout_s: float,
        *,
        is_set: bool,
    ) -> None:
        """Set the clock, then settle; or its rate. Raises NotSettled, ClockClosed."""
        host_ns = now_ns()
        soon_ns, lines = host_ns + _RENEWED_NS, to(world.page.lines, host_ns)
        with self._stopped(
            world,
            lambda wait: wait.host_due_ns < min(soon_ns, wait.due_ns(lines, host_ns)),
        ):
            self.movement.move(world, to, is_set=is_set)
        if is_set:
            world.discipline.wall_was_set(by_program=False)
            self.rest(world, timeout_s)

    def stay(self, world: ClockState) -> None:
        """Neither jump nor stride by itself any more: waiting takes time again."""
        if world.jump_after_ns is None:
            return
        world.jump_after_ns = None
        world.own_rates = Rate.of(1), Rate.of(1)
        self.movement.let_in(world)
        self._go_on(world)
        self.movement.revise(world)

    def settle(
        self, world: ClockState, timeout_s: float, *, nap_ns: int = FIRST_NAP_NS
    ) -> Mapping[int, TaskSample]:
        """Return when every task of a clock is blocked, after a wait of `nap_ns` for the next stop.

        Raises NotSettled, ClockClosed.
        """
        began_ns, lull = now_ns(), Lull()
        passed_ns, timeout_ns = world.passed_ns, round(timeout_s * NS_PER_S)
        while True:
            stop = self._loop.stops.next(nap_ns)
            self._timers.alarms.ring()
            if world.passed_ns != passed_ns:  # from one deadline to another
                passed_ns, began_ns = world.passed_ns, now_ns()
            if stop is not None:
                self._loop.handle(stop)
                task = self._loop.tasks.get(stop.tid)
                is_held = task is not None and task.held is not None
                nap_ns = 1 if is_held else FIRST_NAP_NS  # perhaps all are at rest now
                if now_ns() - began_ns < timeout_ns and not self._canceled_ns:
                    continue
            if world.closed is not None:
                raise ClockClosed("the clock is closed")
            samples = self._quiescence.samples(world)
            if samples is not None and not self.is_at_rest(world):
                samples = None
            asking: Sequence[str] = ()
            if samples is None:
                self.is_busy(world)
            elif self.are_peers_quiet(world):
                return samples
            else:
                asking = self.awaits_peers(world)
            is_known = samples is None or bool(asking)
            nap_ns = max(min(2 * nap_ns, LAST_NAP_NS), FIRST_NAP_NS) if is_known else 1
            if samples and asking:
                nap_ns = max(nap_ns, lull.nap_ns(samples))
            if nap_ns > MAX_HOLD_NS:
                self.movement.let_in(world)
            canceled_ns = now_ns() - self._canceled_ns if self._canceled_ns else 0
            if now_ns() - began_ns > timeout_ns or canceled_ns > _MAX_CANCEL_NS:
                raise self._quiescence.not_settled(world, timeout_s, asking)

    def are_peers_quiet(self, world: ClockState) -> bool:
        """Whether no program that rests waits for a peer off the clock, as is known already."""
        return peers.are_quiet(world, self._quiescence.tasks(world))

    def awaits_peers(self, world: ClockState) -> Sequence[str]:
        """Find out which programs wait for the answer of a peer off the clock.

        If none does, they are at rest only if they still are now that this is known.
        """
        tasks, wait_of = self._quiescence.tasks(world), self._quiescence.wait_of
        timed = {task.tid for task in tasks if wait_of(task, task.sample) is not None}
        listened = world.network.listens
        found = peers.awaited(world, tasks, timed)
        if world.network.listens != listened:
            self._shortcuts.choose()
        return found

    def is_busy(self, world: ClockState) -> None:
        """Note that some task of a clock is, and see to it that it finds a later time.

        A task that polls for that, as its deadline was just reached, is carried on. Programs that
        are busy for long find that work takes time: where the lines would flow by themselves, and
        in a jumping world. Elsewhere they find a moment passed, as after any wait.
        """
        busy = world.busy
        busy.since_ns = busy.since_ns or now_ns()
        busy_ns = now_ns() - busy.since_ns
        if busy_ns > _SUSPICIOUS_NS:
            self._watch(self._quiescence.last_busy)
        if busy.goes_on:
            self._work(world)
            return
        if world.jump_after_ns is not None and self._keeps_waiting(world, busy_ns):
            self._begin_work(world)
        if busy_ns < self._long_ns // 2:
            return
        if busy.worked_ns is None:
            busy.worked_ns = worked_ns(world)
        is_new = busy_ns > self._long_ns and not busy.was_seen_to
        if is_new and worked_ns(world) - busy.worked_ns > self._long_ns // 4:
            busy.was_seen_to = True
            stand = world.own_rates is not None or world.jump_after_ns is not None
            if stand and world.busy_rates is not None:
                self._begin_work(world)
            elif world.is_frozen:
                self.movement.change(world, lambda lines, host_ns: lines.nudged(host_ns, _NUDGE_NS))

    def _keeps_waiting(self, world: ClockState, busy_ns: int) -> bool:
        """Whether some task waits for less than others have been busy; it may be for them.

        So in a jumping world a short sleep beside a spinning thread ends, and no time passes faster
        than in the real one.
        """
        busy = world.busy
        if busy.was_seen_to or busy_ns < busy.next_look_ns:
            return False
        busy.next_look_ns = 2 * busy_ns
        if busy.worked_ns is None:
            busy.worked_ns = worked_ns(world)
            return False
        is_working = worked_ns(world) - busy.worked_ns > busy_ns // 4
        most_ns = min(busy_ns, CARRY_NS)
        return is_working and any(
            0 < left_ns <= most_ns and wait.length_ns <= CARRY_NS
            for left_ns, _, wait in self.movement.waits(world)
        )

    def _watch(self, tid: int) -> None:
        task = self._loop.tasks.get(tid)
        if task is None or task.state != TaskState.RUNNING:
            return
        after = task.after
        if task.sample.reached_ns and not after.watched_calls and can_be_carried(task):
            after.watched_calls = _WATCHED_CALLS
            self._shortcuts.fastpath.to_python(tid)
            task.interrupt()

    def _begin_work(self, world: ClockState) -> None:
        """Have time go on for busy programs, until they rest."""
        busy = world.busy
        self.movement.let_in(world)
        busy.was_seen_to = busy.goes_on = True
        busy.stepped_ns, busy.stepped_worked_ns = now_ns(), worked_ns(world)
        busy.pause_ns = _LEAST_STEP_NS

    def _work(self, world: ClockState) -> None:
        """Have as much time pass for busy programs as they have worked; not more than has passed.

        In steps, as the lines stand: programs in whose way the tracer is work less meanwhile.
        """
        busy, rates, since_ns = world.busy, world.busy_rates, now_ns()
        if since_ns < busy.next_step_ns or rates is None:
            return
        total_ns = worked_ns(world)
        by_ns = min(since_ns - busy.stepped_ns, max(total_ns - busy.stepped_worked_ns, 0))
        busy.stepped_ns, busy.stepped_worked_ns = since_ns, total_ns
        wall, monotonic = rates
        by_ns = by_ns * monotonic.mult >> monotonic.shift
        busy.passed_ns += by_ns
        if wall.mult:
            self.movement.change(world, lambda lines, host_ns: lines.advanced(host_ns, by_ns))
        else:
            busy.ahead_ns += by_ns
            self.movement.change(world, lambda lines, host_ns: lines.nudged(host_ns, by_ns))
        has_ended = self.movement.revise(world)
        busy.pause_ns = _LEAST_STEP_NS if has_ended else min(2 * busy.pause_ns, LAST_NAP_NS)
        ended_ns = now_ns()
        busy.next_step_ns = ended_ns + max(busy.pause_ns, _WORKING_PART * (ended_ns - since_ns))

    def is_at_rest(self, world: ClockState) -> bool:
        """Note that all tasks of a clock are; return whether they still are then."""
        return not (self._catch_up(world) and self.movement.revise(world))

    def _catch_up(self, world: ClockState) -> bool:
        """Have the wall line follow the other one after work; return whether it had to."""
        busy = world.busy
        if busy.since_ns:
            world.busy = Busy()
        world.passed_ns += busy.passed_ns
        if busy.ahead_ns:
            self.movement.change(world, lambda lines, _: lines.stepped(busy.ahead_ns))
        return bool(busy.ahead_ns)


def _long_ns() -> int:
    def count_ns() -> int:
        start_ns = time.thread_time_ns()
        sum(range(_COUNT))  # no line of Python, which coverage would follow
        return time.thread_time_ns() - start_ns

    return max(_LONG_NS, _LONG_COUNTS * min(count_ns() for _ in range(3)))


def rounding_ns(world: ClockState) -> int:
    """How far a deadline may be missed for the wall line to read a whole millisecond.

    While a program works between two sleeps the monotonic line flows, and a frozen wall line does
    not: a loop of sleeps would meet it a little earlier each time.
    """
    lines = world.page.lines
    is_apart = not lines.wall.rate.mult and not world.is_frozen
    return _MAX_ROUNDING_NS if is_apart else 0


def _rounded(world: ClockState, step_ns: int, most_ns: int) -> int:
    missing_ns = -(world.page.lines.wall.base_ns + step_ns) % _GRAIN_NS
    is_near = missing_ns <= min(rounding_ns(world), most_ns - step_ns)
    return step_ns + missing_ns if is_near else step_ns


# --- autojump ------------------------------------------------------------------------------------


class Autojump:
    """Has the clocks jump; one per tracer, on its thread."""

    def __init__(self, loop: Loop, operations: Operations) -> None:
        self._loop = loop
        self._operations = operations
        self.movement = loop.movement
        self._nap_ns, self._lull = FIRST_NAP_NS, Lull()

    def tick(self) -> int:
        """Between two stops: rings alarms, jumps.

        Returns how long to wait for the next stop, in nanoseconds; 0: until it comes.
        """
        self._loop.timers.alarms.ring()
        for world in self._loop.worlds:
            self.movement.follow_grace(world)
        patiences = [
            self._try_to_jump(world)
            for world in self._loop.worlds
            if world.jump_after_ns is not None and world.closed is None and world.processes
        ]
        return min(filter(None, patiences), default=0)

    def was_active(self) -> None:
        """Note that some task had a stop."""
        self._nap_ns = FIRST_NAP_NS

    def _try_to_jump(self, world: ClockState) -> int:
        """Return an exception ends the programs of this clock, and of no other."""
        try:
            if faults.armed:
                faults.reach("jump", next(iter(world.processes)))
            return self._jump(world)
        except Exception as error:
            for process in tuple(world.processes.values()):
                process.kill_unsupported(error, "moving the clock of")
            return FIRST_NAP_NS

    def _jump(self, world: ClockState) -> int:
        operations = self._operations
        samples = self._loop.quiescence.samples(world)
        if samples is not None and not operations.is_at_rest(world):
            samples = None
        if samples is None:
            operations.is_busy(world)
            self._nap_ns = min(2 * self._nap_ns, LAST_NAP_NS)
            if self._nap_ns > MAX_HOLD_NS:
                self.movement.let_in(world)
            return self._nap_ns
        if not operations.are_peers_quiet(world):
            is_asking = operations.awaits_peers(world)
            return max(_PEER_NAP_NS, self._lull.nap_ns(samples)) if is_asking else FIRST_NAP_NS
        most_ns = LATEST_NS - world.page.lines.wall.at(now_ns())
        if not world.jump_after_ns and world.stride_ns is None:
            passage = operations.pass_natively(world, most_ns)
            if passage is Passage.STOPPED:
                return FIRST_NAP_NS
            if passage is Passage.ENDED:
                samples = self._loop.quiescence.samples(world)
                most_ns = LATEST_NS - world.page.lines.wall.at(now_ns())
            if samples is None:
                return FIRST_NAP_NS
            if not operations.are_peers_quiet(world):
                return FIRST_NAP_NS
        pending = self.movement.pending(world, samples)
        if not pending:
            return 0  # a thread that is woken from outside has a stop before it waits
        if world.jump_after_ns:
            runs = sum(sample.runs for sample in samples.values())
            if runs != world.idle[0]:
                world.idle = runs, now_ns()
            idle_ns = now_ns() - world.idle[1]
            if idle_ns < world.jump_after_ns:
                return max(world.jump_after_ns - idle_ns, FIRST_NAP_NS)
        stride = None if world.stride_ns is None else (world.stride_ns, world.passed_ns)
        step_ns, due = operations.next_step(world, pending, most_ns, stride)
        if not due:
            self.movement.let_in(world)
            return 0
        if operations.awaits_network(world, step_ns):
            return _NETWORK_NAP_NS
        self.movement.fire(world, step_ns, due)
        self._nap_ns = FIRST_NAP_NS
        return FIRST_NAP_NS
