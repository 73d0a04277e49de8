"""A clock, its threads and its timers in words.

For the report of a failed test, and for a timeout that has expired.

A description is asked for when something has gone wrong, perhaps in this package: so what cannot be
known is said to be unknown, nothing raises, and the tracer is waited for no longer than a moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from pytest_vdsotime.errors import VdsoTimeError
from pytest_vdsotime.events import (
    Event,
    EventKind,
    Folded,
    History,
    command_line,
    ending,
    folded,
    names,
    readable,
)
from pytest_vdsotime.future import Future
from pytest_vdsotime.instants import format_instant
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.sample import TaskSample
from pytest_vdsotime.processes import TracedProcess, snapshot
from pytest_vdsotime.report.plain import apart, of_lines
from pytest_vdsotime.timeline import CLOCKS, NS_PER_S, LineName, Lines, now_ns
from pytest_vdsotime.tracer.calls.waits import owner_of
from pytest_vdsotime.tracer.loop import Loop
from pytest_vdsotime.tracer.quiescence import ENDED, Quiescence
from pytest_vdsotime.tracer.state import ClockState, Process, Task, TaskState
from pytest_vdsotime.tracer.thread import Tracer
from pytest_vdsotime.waits import Timer, Wait

T = TypeVar("T")

_PATIENCE_S = 2.0
#: Of short waits that have passed in real time while a clock stood still.
_LONG_NS = NS_PER_S
_MAX_PROCESSES, _MAX_THREADS, _MAX_TIMERS, _MAX_ENDED, _MAX_ACTS = 30, 10, 10, 10, 30


def told(
    tracer: Tracer, world: ClockState, lines: Lines, *, closed: str = "", events: int = 0
) -> str:
    """Where a clock stands, what its programs do, and the last `events` events.

    `closed`: of a clock that is closed, since when.
    """
    host_ns = now_ns()
    history: Sequence[Event] = world.history.events
    if closed and history:
        host_ns = history[-1].real_ns
    start_ns = world.history.start_ns
    text = [*of_lines(lines, start_ns, host_ns, closed)]
    text += [] if closed else _programs(tracer, world, history)
    text += _ended(world.history, history)
    text += _refused(history)
    text += _last(world.history, start_ns, host_ns, events)
    text += [] if closed else apart()
    return "\n".join(text)


def _programs(tracer: Tracer, world: ClockState, history: Sequence[Event]) -> Sequence[str]:
    """Return the tree of those that live, each with its threads."""

    def sample(loop: Loop) -> tuple[list[Process], list[ThreadState], list[TimerState]]:
        timers = timer_states(world, loop.timers.armed(world))
        return [*world.everyone.values()], thread_states(loop.quiescence, world), timers

    try:
        processes, states, timers = ask(tracer, sample)
    except VdsoTimeError as error:
        return [f"programs        unknown: {error}"]
    found = [one for process in processes if (one := snapshot(process)) is not None]
    if not found:
        return ["programs        none is alive"]
    threads = {pid: [*group] for pid, group in groupby(states, key=lambda state: state.pid)}
    called = names(history, in_full=True)
    more = len(found) - _MAX_PROCESSES
    lines = [*_tree(found, threads, timers, called)][: 2 * _MAX_PROCESSES]
    text = ["programs", *lines, *([f"  and {more} more"] if more > 0 else [])]
    lefts_ns = [state.left_ns for state in states if state.left_ns is not None]
    lefts_ns += [timer.left_ns for timer in timers]
    if lefts_ns and _is_for_the_test_to_move(world):
        text.append(
            f"The next deadline is {seconds(min(lefts_ns))} away: advance() by that much, or "
            "advance_to_next(), has it come."
        )
    return [*text, *_waited_for_long(world)]


def _is_for_the_test_to_move(world: ClockState) -> bool:
    """Whether a line stands until the test moves it."""
    return world.jump_after_ns is None and any(not rate.mult for rate in world.rates)


def _waited_for_long(world: ClockState) -> Iterator[str]:
    """Tell of programs that wait again and again for a clock that stands still."""
    waited_ns = world.grace.waited_ns
    if world.has_grace and waited_ns - world.grace.spent_ns > _LONG_NS:
        yield (
            f"Short waits have passed for {seconds(waited_ns)} of real time in all, by a monotonic "
            "clock that stands still: advance() has it go on, a larger grace= lets more of them "
            "pass on it, and monotonic='rate' with rate=1 has it flow."
        )


def ask(tracer: Tracer, have: Callable[[Loop], T]) -> T:
    """Return what the tracer says, also while it handles something else, if it does so in a moment.

    Raises VdsoTimeError.
    """
    tracer.check_usable()
    future: Future[T] = Future()
    tracer.post(lambda loop: future.give(have(loop)), future)
    try:
        if not future.wait(_PATIENCE_S):
            raise VdsoTimeError(f"the tracer has not answered for {_PATIENCE_S:g} s")
        return future.result()
    except Exception as error:
        if isinstance(error, VdsoTimeError):
            raise
        raise VdsoTimeError(f"looking at the programs failed: {error!r}") from error
    finally:
        tracer.forget(future)


def _tree(
    found: Sequence[TracedProcess],
    threads: Mapping[int, list[ThreadState]],
    timers: Sequence[TimerState],
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
        states = threads.get(one.pid, [])
        name = command_line(one.argv) or called.get(one.pid) or "?"
        read = "" if one.has_read_clock else " (has not read the clock)"
        leader = next((state.text for state in states if state.tid == one.pid), "has ended")
        if not one.is_on_clock:
            leader, read = "runs in real time", ""
        yield f"{indent}{name} (pid {one.pid}) {leader}{read}"
        others = [state for state in states if state.tid != one.pid]
        for state in others[:_MAX_THREADS]:
            yield f"{indent}- thread {state.tid} ({state.command}) {state.text}"
        if len(others) > _MAX_THREADS:
            yield f"{indent}- and {len(others) - _MAX_THREADS} more threads"
        for timer in [timer for timer in timers if timer.pid == one.pid][:_MAX_TIMERS]:
            yield f"{indent}- {timer.text}"


def _ended(history: History, events: Sequence[Event]) -> Sequence[str]:
    """How programs have ended, each way once, the last one last."""
    called = names(events, in_full=True)
    ends: dict[tuple[str, str], tuple[int, int]] = {}
    for event in events:
        if event.kind is EventKind.ENDED:
            key = called.get(event.pid, "?"), ending(event.what)
            count, _ = ends.pop(key, (0, 0))
            ends[key] = count + 1, event.pid
    more = " or more" if history.forgotten_ns else ""
    lines = [
        f"  {name} (pid {pid}): {how}" + (f", x {count}{more}" if count > 1 else "")
        for (name, how), (count, pid) in [*ends.items()][-_MAX_ENDED:]
    ]
    if len(ends) > _MAX_ENDED:
        lines.insert(0, f"  in {len(ends) - _MAX_ENDED} other ways before, and")
    return ["ended", *lines] if lines else []


def _refused(history: Sequence[Event]) -> Sequence[str]:
    """Those who may not trace, which they may not tell."""
    called = names(history)
    who = [
        f"{called.get(event.pid, '?')} (pid {event.pid})"
        for event in history
        if event.kind is EventKind.REFUSED
    ]
    if not who:
        return []
    return [
        f"{', '.join([*dict.fromkeys(who)][:3])} tried to trace a process and got EPERM, as "
        "programs on a clock are traced already: run strace, debuggers and leak checkers off it."
    ]


def _last(history: History, start_ns: int, host_ns: int, count: int) -> Sequence[str]:
    """Return the last events, with their virtual and their real time.

    What happens again and again is one line, and the test's own acts are there from the first on.
    """
    told = folded(history) if count else []
    if not told:
        return []
    last = told[-count:]
    own = [one for one in told[:-count] if one.is_the_tests]
    lines = ["last events: on the wall line, on the monotonic line, seconds of real time ago"]
    if history.forgotten_ns:
        lines.append("  what the programs did at first is not remembered")
    if len(own) > _MAX_ACTS:
        lines.append(f"  {len(own) - _MAX_ACTS} acts of the test before")
    lines += [_event_line(one, start_ns, host_ns) for one in own[-_MAX_ACTS:]]
    if len(told) - len(last) > len(own):
        lines.append("  ...")
    return [*lines, *(_event_line(one, start_ns, host_ns) for one in last)]


def _event_line(told: Folded, start_ns: int, host_ns: int) -> str:
    event = told.first
    virtual = _since_start(event, start_ns)
    ago = f"{(host_ns - event.real_ns) / NS_PER_S:.3f}"
    line = f"  {_wall(event)}  {virtual:>10}  {ago:>7}  {told.text}"
    if told.count > 1:
        more = "" if told.is_whole else " or more"
        until = _wall(told.last)
        if until == _wall(event):
            until = _since_start(told.last, start_ns)
        where = " in several processes" if len(told.pids) > 1 else ""
        line += f", x {told.count}{more}{where} until {until}"
    return line


def _wall(event: Event) -> str:
    """To the millisecond."""
    return format_instant(event.wall_ns // 10**6 * 10**6).replace("000Z", "Z")


def _since_start(event: Event, start_ns: int) -> str:
    return f"{(event.monotonic_ns - start_ns) / NS_PER_S:+.3f}"


# --- what threads do -----------------------------------------------------------------------------

_NO_CALL = 2**64 - 1
#: Calls whose first argument is the descriptor that they wait for.
_OF_DESCRIPTOR = frozenset(
    (
        *("read", "readv", "write", "writev", "fcntl", "flock", "mq_timedreceive", "mq_timedsend"),
        *("recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "accept", "accept4", "connect"),
        *("epoll_wait", "epoll_pwait", "epoll_pwait2"),
    )
)
#: What others wait for, in other words than their names.
_FOR = {
    "wait4": "for a child to end",
    "waitid": "for a child to end",
    "futex": "for another thread",
    "rt_sigsuspend": "for a signal",
    "rt_sigtimedwait": "for a signal",
    "pause": "for a signal",
}
_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}


@dataclass(frozen=True, slots=True)
class ThreadState:
    """Of one thread."""

    pid: int
    tid: int
    command: str
    text: str
    left_ns: int | None = None
    """How far the deadline is that it waits for."""


def thread_states(quiescence: Quiescence, world: ClockState) -> list[ThreadState]:
    """Of all threads, in the order of their ids. On the tracer thread."""
    tasks = sorted(quiescence.tasks(world), key=lambda one: (one.process.pid, one.tid))
    return [_thread_state(quiescence, task, quiescence.sample_of(task)) for task in tasks]


@dataclass(frozen=True, slots=True)
class TimerState:
    """One timer."""

    pid: int
    text: str
    left_ns: int
    """How far it is from expiring."""


def timer_states(world: ClockState, timers: Iterable[Timer]) -> list[TimerState]:
    """Those that will expire, the soonest first. On the tracer thread."""
    return sorted((_timer_state(world, one) for one in timers), key=lambda one: one.left_ns)


def _timer_state(world: ClockState, timer: Timer) -> TimerState:
    kind, _, number = timer.key
    names = {"fd": f"timerfd (descriptor {number})", "itimer": "its alarm", "timer": "a timer"}
    clock = CLOCKS[timer.clock_id]
    left_ns = max(timer.left_ns(world.page.lines, now_ns()), 0)
    text = f"{names[kind]} expires in {seconds(left_ns)} by {clock.name}"
    if timer.is_absolute and clock.line is LineName.WALL:
        until = format_instant(timer.deadlines[0][1] + world.page.offset_ns(timer.clock_id))
        text = f"{names[kind]} expires at {until} by {clock.name}: {seconds(left_ns)} left"
    if timer.interval_ns:
        text += f", then every {seconds(timer.interval_ns)}"
    return TimerState(owner_of(world, timer), text, left_ns)


def _thread_state(quiescence: Quiescence, task: Task, sample: TaskSample | None) -> ThreadState:
    pid, command = task.process.pid, readable(procfs.command(task.tid))
    wait = quiescence.wait_of(task, sample)
    if wait is None or task.state == TaskState.LISTENING or task.process.launch is not None:
        return ThreadState(pid, task.tid, command, _untimed(task, sample))
    left_ns = max(wait.left_ns(task.process.world.page.lines, now_ns()), 0)
    return ThreadState(pid, task.tid, command, _waits(task, wait, left_ns), left_ns)


def _untimed(task: Task, sample: TaskSample | None) -> str:
    if task.process.launch is not None:
        return "is being started"
    if task.state == TaskState.LISTENING:
        return "is stopped by a signal; SIGCONT has it go on"
    if sample is None:
        return "is stopped"
    if sample.state in ENDED:
        return "has ended"
    if sample.state == ord("R"):
        return "runs"
    if sample.nr == _NO_CALL:
        return "waits"
    return _waits_in(task, sample)


def _waits(task: Task, wait: Wait, left_ns: int) -> str:
    """For a deadline: of which clock, and how far that is."""
    page, clock = task.process.world.page, CLOCKS[wait.clock_id]
    if wait.is_absolute and clock.line is LineName.WALL:
        until = format_instant(wait.deadlines[0][1] + page.offset_ns(wait.clock_id))
        return f"waits in {wait.row.name} until {until} by {clock.name}: {seconds(left_ns)} left"
    length = seconds(wait.length_ns)
    return f"waits in {wait.row.name} for {length} by {clock.name}: {seconds(left_ns)} left"


def seconds(span_ns: int) -> str:
    """Return a span as text, to the millisecond."""
    number = f"{span_ns / NS_PER_S:.3f}".rstrip("0").rstrip(".")
    return f"{number} s"


def _waits_in(task: Task, sample: TaskSample) -> str:
    """For something else than a time."""
    host = task.process.host
    numbers = {} if host is None else host.arch.abis[0].syscalls
    call = next(
        (name for name, nr in numbers.items() if nr == sample.nr), f"system call {sample.nr}"
    )
    if call in _OF_DESCRIPTOR:
        return f"waits in {call} of {_file(task.tid, sample.arguments[0] & 0xFFFFFFFF)}"
    # Of no descriptors: what pause(3) is on 64-bit Arm.
    is_pause = call in ("poll", "ppoll") and not sample.arguments[1]
    reason = _FOR["pause"] if is_pause else _FOR.get(call)
    if reason is None:
        return f"waits in {call}, without a time limit"
    return f"waits {reason} ({call})"


def _file(tid: int, descriptor: int) -> str:
    """Return what a descriptor leads to."""
    try:
        path = readable(os.readlink(f"/proc/{tid}/fd/{descriptor}"))
    except OSError:
        path = "a file"
    return f"{path} ({_STREAMS.get(descriptor, f'descriptor {descriptor}')})"
