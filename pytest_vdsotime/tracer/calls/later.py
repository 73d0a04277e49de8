"""Later after a wait: what short waits and polls come to, while nobody but they moves the lines.

No kernel wakes a sleeper at the very instant, and programs rely on it: after a deadline they wait
again for what is left, which is nothing, or they poll. Such a task is carried on to the end of that
wait. And on a frozen monotonic line, while the test does not move it, waits of at most `grace` pass
in real time, and the line goes on with them.
"""

from __future__ import annotations

from pytest_vdsotime.abi import constant
from pytest_vdsotime.timeline import LineName, now_ns
from pytest_vdsotime.tracer.state import ClockState, Task
from pytest_vdsotime.waits import Timer, Wait

#: A program that waits for what is left of a wait, which is less than this, is carried on.
CARRY_NS = constant("CARRY_NS")
#: How much later than its deadline a program finds the time to be that waits for no time again and
#: again: no kernel wakes a sleeper at the very instant, and programs count by coarser units.
_STEPS_NS = (*[0] * 16, 1, 999, 9_000, 90_000, 900_000)
#: How much of `grace` the monotonic line passes for programs that wait again and again, and how
#: much longer a back-off may be than its last step.
_MAX_GRACES, _MAX_GROWTH = 5, 4


def relate(task: Task, wait: Wait) -> None:
    """Relate a new wait to the one before: perhaps it is for what was left."""
    left_ns, was_reached_ns = wait.length_ns, task.sample.reached_ns
    task.after.poll = None
    place, former_ns = task.after.former
    wait.has_grown = (
        place == wait.place
        and former_ns <= task.process.world.grace_ns
        and wait.length_ns <= _MAX_GROWTH * former_ns
    )
    task.after.former = wait.place, left_ns
    if left_ns > 0:
        wait.is_carried = left_ns < min(was_reached_ns, CARRY_NS)
        task.after.watched_calls = 0
        if not wait.is_carried:
            task.sample.reached_ns = task.after.polls = 0
    elif was_reached_ns or task.process.world.has_grace:
        step_ns = _next_step_ns(task, wait.place)
        wait.is_carried = step_ns > 0
        wait.deadlines = tuple(
            [(name, at_ns - left_ns + step_ns) for name, at_ns in wait.deadlines]
        )


def polls(
    task: Task, place: tuple[int, int], call: tuple[int, tuple[int, ...]] | None = None
) -> None:
    """Note that a task has polled with a timeout of 0: it may look for a later time.

    `call`: its number and arguments, if the kernel may have it sleep for a moment all the same.
    """
    world, task.after.poll = task.process.world, call
    if world.has_grace:
        pass_grace(world, _next_step_ns(task, place))
    elif task.sample.reached_ns:
        world.carry_ns = _next_step_ns(task, place)


def can_be_carried(task: Task) -> bool:
    """Whether it would find a later time if it polled again."""
    return task.after.polls < len(_STEPS_NS)


def _next_step_ns(task: Task, place: tuple[int, int]) -> int:
    if task.after.polls_at != place:
        task.after.polls, task.after.polls_at = 0, place
    task.after.polls += 1
    return _STEPS_NS[task.after.polls - 1] if task.after.polls <= len(_STEPS_NS) else 0


def was_reached(task: Task, length_ns: int) -> None:
    """Note that the deadline of its wait was, which was of this length."""
    task.sample.reached_ns = max(length_ns, 1)
    if length_ns >= CARRY_NS:
        task.after.polls = 0


def is_brief(what: Wait | Timer, world: ClockState) -> bool:
    """Whether it passes in real time on a frozen monotonic line (`grace`)."""
    return (
        world.has_grace
        and (what.length_ns <= world.grace_ns or (isinstance(what, Wait) and what.has_grown))
        and bool(what.deadlines)
        and what.deadlines[-1][0] is LineName.MONOTONIC
    )


def spend_grace(world: ClockState, what: Wait | Timer) -> None:
    """Its time has passed, which was real: the monotonic line goes on to its end, and it alone."""
    world.grace.waited_ns += what.length_ns
    pass_grace(world, what.deadlines[-1][1] - world.page.lines.monotonic.at(now_ns()))


def pass_grace(world: ClockState, by_ns: int) -> None:
    """Move the monotonic line on, until that adds up to some times `grace`.

    So a program that polls for ever does not carry the clock away.
    """
    step_ns = min(by_ns, _MAX_GRACES * world.grace_ns - world.grace.spent_ns)
    if step_ns <= 0:
        return
    world.page.change(lambda host_ns: world.page.lines.nudged(host_ns, step_ns))
    graces = world.grace.spent_ns // world.grace_ns
    world.grace.spent_ns += step_ns
    # What waits for longer is looked after now and then alone.
    world.grace.has_moved |= world.grace.spent_ns // world.grace_ns != graces
