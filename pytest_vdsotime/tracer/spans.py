"""What is recorded of waits and timers: how they end by the clock, and while somebody records when
each wait begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pytest_vdsotime.events import Deadline, Kind
from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.timeline import CLOCKS
from pytest_vdsotime.tracer.tasks import Task, World
from pytest_vdsotime.waits import Timer, Wait

_TIMERS = {"fd": "timerfd", "itimer": "interval timer", "timer": "timer"}


def deadline_of(world: World, what: Wait | Timer) -> Deadline:
    """What ends it."""
    clock_id, at_ns = what.clock_id, None
    if what.deadlines:
        at_ns = what.deadlines[0][1] + world.page.offset_ns(clock_id)
    name = what.row.name if isinstance(what, Wait) else _TIMERS[what.key[0]]
    return Deadline(name, CLOCKS[clock_id].name, at_ns)


def owner_of(world: World, timer: Timer) -> int:
    """The process that it belongs to; its descriptor may be a thread's."""
    _, owner, _ = timer.key
    if owner in world.processes:
        return owner
    everyone = world.processes.values()
    return next((one.pid for one in everyone if owner in one.threads), owner)


def tell_fired(world: World, timer: Timer, deadline: Deadline) -> None:
    """It expires."""
    world.record(Kind.FIRED, owner_of(world, timer), deadline)


def tell_expired(task: Task, wait: Wait, *, is_over: bool = False) -> None:
    """Its time is up. `is_over`: its task goes on by that, without another word."""
    world, pid = task.process.world, task.process.pid
    world.record(Kind.EXPIRED, pid, deadline_of(world, wait), task.tid)
    if is_over and world.history.records:
        world.record(Kind.WAITED, pid, tid=task.tid)


def follow_wait(task: Task, call: SystemCall, at_stop: Callable[[Task, Stopped], None]) -> None:
    """At the entry of a call that was answered: if it is a wait, its end is told too, unless the
    task is held there. `at_stop` does what is due to a wait: where a task stops at the end of its
    call, that is the stop to which it was interrupted."""
    wait, world, pid = task.wait, task.process.world, task.process.pid
    if wait is None or wait.nr != call.nr:
        return
    world.record(Kind.WAITS, pid, deadline_of(world, wait), task.tid)
    if task.held is not None:
        return
    then = task.at_exit

    def ended(stopped: Stopped) -> None:
        world.record(Kind.WAITED, pid, tid=task.tid)
        (then or partial(at_stop, task))(stopped)

    task.at_exit = ended
