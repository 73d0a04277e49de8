"""What each thread of a clock does now, and its timers, in words for people."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_vdsotime.events import readable
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.look import Look
from pytest_vdsotime.timeline import CLOCKS, NS_PER_S, LineName, format_instant
from pytest_vdsotime.tracer.parking import now_ns
from pytest_vdsotime.tracer.quiet import ENDED, Quiet
from pytest_vdsotime.tracer.spans import owner_of
from pytest_vdsotime.tracer.tasks import Task, TaskState, World
from pytest_vdsotime.waits import Timer, Wait

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
class Doing:
    """Of one thread."""

    pid: int
    tid: int
    command: str
    text: str
    left_ns: int | None = None
    """How far the deadline is that it waits for."""


def doings(quiet: Quiet, world: World) -> list[Doing]:
    """Of all threads, in the order of their ids. On the tracer thread."""
    tasks = sorted(quiet.tasks(world), key=lambda one: (one.process.pid, one.tid))
    return [_doing(quiet, task, quiet.look_at(task)) for task in tasks]


@dataclass(frozen=True, slots=True)
class Armed:
    """One timer."""

    pid: int
    text: str
    left_ns: int
    """How far it is from expiring."""


def armed(world: World, timers: Iterable[Timer]) -> list[Armed]:
    """Those that will expire, the soonest first. On the tracer thread."""
    return sorted((_armed(world, one) for one in timers), key=lambda one: one.left_ns)


def _armed(world: World, timer: Timer) -> Armed:
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
    return Armed(owner_of(world, timer), text, left_ns)


def _doing(quiet: Quiet, task: Task, look: Look | None) -> Doing:
    pid, command = task.process.pid, readable(procfs.command(task.tid))
    wait = quiet.wait_of(task, look)
    if wait is None or task.state == TaskState.LISTENING or task.process.launch is not None:
        return Doing(pid, task.tid, command, _untimed(task, look))
    left_ns = max(wait.left_ns(task.process.world.page.lines, now_ns()), 0)
    return Doing(pid, task.tid, command, _waits(task, wait, left_ns), left_ns)


def _untimed(task: Task, look: Look | None) -> str:
    if task.process.launch is not None:
        return "is being started"
    if task.state == TaskState.LISTENING:
        return "is stopped by a signal; SIGCONT has it go on"
    if look is None:
        return "is stopped"
    if look.state in ENDED:
        return "has ended"
    if look.state == ord("R"):
        return "runs"
    if look.nr == _NO_CALL:
        return "waits"
    return _waits_in(task, look)


def _waits(task: Task, wait: Wait, left_ns: int) -> str:
    """For a deadline: of which clock, and how far that is."""
    page, clock = task.process.world.page, CLOCKS[wait.clock_id]
    if wait.is_absolute and clock.line is LineName.WALL:
        until = format_instant(wait.deadlines[0][1] + page.offset_ns(wait.clock_id))
        return f"waits in {wait.row.name} until {until} by {clock.name}: {seconds(left_ns)} left"
    length = seconds(wait.length_ns)
    return f"waits in {wait.row.name} for {length} by {clock.name}: {seconds(left_ns)} left"


def seconds(span_ns: int) -> str:
    """Milliseconds are enough for people."""
    number = f"{span_ns / NS_PER_S:.3f}".rstrip("0").rstrip(".")
    return f"{number} s"


def _waits_in(task: Task, look: Look) -> str:
    """For something else than a time."""
    host = task.process.host
    numbers = {} if host is None else host.arch.abis[0].syscalls
    call = next((name for name, nr in numbers.items() if nr == look.nr), f"system call {look.nr}")
    if call in _OF_DESCRIPTOR:
        return f"waits in {call} of {_file(task.tid, look.arguments[0] & 0xFFFFFFFF)}"
    # Of no descriptors: what pause(3) is on 64-bit Arm.
    is_pause = call in ("poll", "ppoll") and not look.arguments[1]
    reason = _FOR["pause"] if is_pause else _FOR.get(call)
    if reason is None:
        return f"waits in {call}, without a time limit"
    return f"waits {reason} ({call})"


def _file(tid: int, descriptor: int) -> str:
    """What a descriptor leads to."""
    try:
        path = readable(os.readlink(f"/proc/{tid}/fd/{descriptor}"))
    except OSError:
        path = "a file"
    return f"{path} ({_STREAMS.get(descriptor, f'descriptor {descriptor}')})"
