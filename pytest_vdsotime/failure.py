"""A clock in words: for the report of a failed test, and for a timeout that has expired.

It is asked for when something has gone wrong, perhaps here: so whatever is not known is said not to
be, nothing raises, and nobody is waited for longer than a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from pytest_vdsotime.errors import VdsoTimeError
from pytest_vdsotime.events import Event, Kind, command_line, describe, ending, names
from pytest_vdsotime.processes import TracedProcess, snapshot
from pytest_vdsotime.timeline import NS_PER_S, Line, Lines, format_instant
from pytest_vdsotime.tracer.doings import Armed, Doing, seconds
from pytest_vdsotime.tracer.loop import Loop
from pytest_vdsotime.tracer.tasks import Process, Reply, World
from pytest_vdsotime.tracer.thread import Tracer

T = TypeVar("T")

_PATIENCE_S = 2.0
_MOST_PROCESSES, _MOST_THREADS, _MOST_TIMERS, _MOST_ENDED = 30, 10, 10, 10
MOST_EVENTS = 15


def told(
    tracer: Tracer, world: World | None, lines: Lines, *, is_closed: bool, events: int = 0
) -> str:
    """Where a clock stands, what its programs do, and the last `events` events."""
    host_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    history: Sequence[Event] = () if world is None else world.history.events
    if is_closed and history:
        host_ns = history[-1].real_ns
    start_ns = lines.monotonic.at(host_ns) if world is None else world.history.start_ns
    text = [*_lines(lines, start_ns, host_ns, is_closed)]
    if world is None:
        text.append("no program was started on it")
    else:
        text += _programs(tracer, world, history, is_closed)
        text += _ended(history)
        text += _refused(history)
        text += _last(history, start_ns, host_ns, events)
    return "\n".join(text)


def _lines(lines: Lines, start_ns: int, host_ns: int, is_closed: bool) -> Iterator[str]:
    was = ", when it was closed" if is_closed else ""
    yield f"wall line       {format_instant(lines.wall.at(host_ns))}, {_pace(lines.wall)}{was}"
    way = f"{(lines.monotonic.at(host_ns) - start_ns) / NS_PER_S:+.3f} s since the first program"
    yield f"monotonic line  {way}, {_pace(lines.monotonic)}"


def _pace(line: Line) -> str:
    rate = line.rate.value
    return {0.0: "stands still", 1.0: "flows"}.get(rate, f"flows at rate {rate:g}")


def _programs(
    tracer: Tracer, world: World, history: Sequence[Event], is_closed: bool
) -> Sequence[str]:
    """The tree of those that live, each with its threads."""

    def look(loop: Loop) -> tuple[list[Process], list[Doing], list[Armed]]:
        passing = loop.passing
        return [*world.processes.values()], passing.doings(world), passing.armed(world)

    if is_closed:
        return []
    try:
        processes, doings, timers = ask(tracer, look)
    except VdsoTimeError as error:
        return [f"programs        unknown: {error}"]
    found = [one for process in processes if (one := snapshot(process)) is not None]
    if not found:
        return ["programs        none is alive"]
    threads = {pid: [*group] for pid, group in groupby(doings, key=lambda doing: doing.pid)}
    called = names(history, in_full=True)
    more = len(found) - _MOST_PROCESSES
    lines = [*_tree(found, threads, timers, called)][: 2 * _MOST_PROCESSES]
    text = ["programs", *lines, *([f"  and {more} more"] if more > 0 else [])]
    lefts_ns = [doing.left_ns for doing in doings if doing.left_ns is not None]
    lefts_ns += [timer.left_ns for timer in timers]
    if lefts_ns:
        text.append(
            f"The next deadline is {seconds(min(lefts_ns))} away: advance() by that much, or "
            "advance_to_next(), has it come."
        )
    return text


def ask(tracer: Tracer, have: Callable[[Loop], T]) -> T:
    """What the tracer says, also while it handles something else, if it does so in a moment.

    Raises VdsoTimeError.
    """
    tracer.check_usable()
    reply: Reply[T] = Reply()
    tracer.post(lambda loop: reply.give(have(loop)), reply)
    try:
        if not reply.wait(_PATIENCE_S):
            raise VdsoTimeError(f"the tracer has not answered for {_PATIENCE_S:g} s")
        return reply.result()
    except Exception as error:
        if isinstance(error, VdsoTimeError):
            raise
        raise VdsoTimeError(f"looking at the programs failed: {error!r}") from error
    finally:
        tracer.forget(reply)


def _tree(
    found: Sequence[TracedProcess],
    threads: Mapping[int, list[Doing]],
    timers: Sequence[Armed],
    called: Mapping[int, str],
) -> Iterator[str]:
    by_pid = {one.pid: one for one in found}
    children: dict[int, list[TracedProcess]] = {}
    for one in sorted(found, key=lambda one: one.pid):
        children.setdefault(one.ppid if one.ppid in by_pid else 0, []).append(one)

    # Not recursive: a chain of processes may be as long as it likes.
    pending = [(one, 1) for one in reversed(children.get(0, []))]
    while pending:
        one, depth = pending.pop()
        pending += [(child, depth + 1) for child in reversed(children.get(one.pid, []))]
        indent = "  " * min(depth, 10)
        doings = threads.get(one.pid, [])
        name = command_line(one.argv) or called.get(one.pid) or "?"
        read = "" if one.has_read_clock else " (has not read the clock)"
        leader = next((doing.text for doing in doings if doing.tid == one.pid), "has ended")
        yield f"{indent}{name} (pid {one.pid}) {leader}{read}"
        others = [doing for doing in doings if doing.tid != one.pid]
        for doing in others[:_MOST_THREADS]:
            yield f"{indent}- thread {doing.tid} ({doing.command}) {doing.text}"
        if len(others) > _MOST_THREADS:
            yield f"{indent}- and {len(others) - _MOST_THREADS} more threads"
        for timer in [timer for timer in timers if timer.pid == one.pid][:_MOST_TIMERS]:
            yield f"{indent}- {timer.text}"


def _ended(history: Sequence[Event]) -> Sequence[str]:
    """How programs have ended."""
    called = names(history, in_full=True)
    ends = [event for event in history if event.kind is Kind.ENDED]
    lines = [
        f"  {called.get(event.pid, '?')} (pid {event.pid}): {ending(event.what)}"
        for event in ends[-_MOST_ENDED:]
    ]
    more = len(ends) - _MOST_ENDED
    return ["ended", *([f"  {more} before, and"] if more > 0 else []), *lines] if lines else []


def _refused(history: Sequence[Event]) -> Sequence[str]:
    """Those who may not trace, which they may not tell."""
    called = names(history)
    who = [
        f"{called.get(event.pid, '?')} (pid {event.pid})"
        for event in history
        if event.kind is Kind.REFUSED
    ]
    if not who:
        return []
    return [
        f"{', '.join([*dict.fromkeys(who)][:3])} tried to trace a process and got EPERM, as "
        "programs on a clock are traced already: run strace, debuggers and leak checkers off it."
    ]


def _last(history: Sequence[Event], start_ns: int, host_ns: int, count: int) -> Sequence[str]:
    """The last events, with their virtual and their real time."""
    shown = history[-count:] if count else ()
    if not shown:
        return []
    called = names(history)
    lines = ["last events: on the wall line, on the monotonic line, seconds of real time ago"]
    for event in shown:
        wall = format_instant(event.wall_ns // 10**6 * 10**6).replace("000Z", "Z")
        virtual = f"{(event.monotonic_ns - start_ns) / NS_PER_S:+.3f}"
        ago = f"{(host_ns - event.real_ns) / NS_PER_S:.3f}"
        text = describe(event, called.get(event.pid, "?"))
        lines.append(f"  {wall}  {virtual:>10}  {ago:>7}  {text}")
    return lines


def last_resort(have: Callable[[], str]) -> str:
    """What `have` says; and if it raises, that."""
    try:
        return have()
    except Exception as error:
        return f"nothing can be told of the clock: {error!r}"
