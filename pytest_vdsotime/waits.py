"""Timed waits as rows.

Where a system call has its timeout, by which clock it counts, and how it ends when that is up (man
2 of each; kernel/time/, fs/select.c, kernel/futex/).

WAITS is the table: a new wait is a row and a test program. Nothing here touches a program.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Abi
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.timeline import CLOCKS, NS_PER_S, LineName, Lines, Rate

_ABSTIME = constant("TIMER_ABSTIME")
# futex(2)
_WAIT, _WAIT_BITSET = constant("FUTEX_WAIT"), constant("FUTEX_WAIT_BITSET")
_WAIT_REQUEUE_PI = constant("FUTEX_WAIT_REQUEUE_PI")
_LOCK_PI, _LOCK_PI2 = constant("FUTEX_LOCK_PI"), constant("FUTEX_LOCK_PI2")
_PRIVATE, _CLOCK_REALTIME = constant("FUTEX_PRIVATE_FLAG"), constant("FUTEX_CLOCK_REALTIME")
_SEMTIMEDOP = constant("SEMTIMEDOP")
#: Of those on a line (clock_nanosleep(2)).
CLOCKS_TO_SLEEP_BY = CLOCKS.keys() - {4, 5, 6}
_NS_PER_MS, _NS_PER_US = 10**6, 1000
NEVER_NS = 2**63 - 1  # KTIME_MAX
MAX_OVERRUN = 2**31 - 1  # timer_overrun_to_int, kernel/time/posix-timers.c


class Unit(IntEnum):
    """How a timeout is written; the value is its unit in nanoseconds."""

    MILLISECONDS = _NS_PER_MS
    """In the argument itself, an int."""
    TIMEVAL = _NS_PER_US
    TIMESPEC = 1


#: (clock id, whether the timeout is a point of it), from a call's arguments; None: neither line's.
Basis: TypeAlias = tuple[int, bool] | None


def _relative(_arguments: Sequence[int]) -> Basis:
    return time.CLOCK_MONOTONIC, False


def _wall_point(_arguments: Sequence[int]) -> Basis:
    return time.CLOCK_REALTIME, True


def _sleep(arguments: Sequence[int]) -> Basis:
    """Clocks that measure a process, and those that nobody can sleep on, are the kernel's."""
    clock_id = arguments[0] & 0xFFFFFFFF
    if clock_id not in CLOCKS_TO_SLEEP_BY:
        return None
    is_absolute = bool(arguments[1] & _ABSTIME)
    return clock_id if is_absolute else time.CLOCK_MONOTONIC, is_absolute


def _futex(arguments: Sequence[int]) -> Basis:
    operation = arguments[1] & ~_PRIVATE
    if operation & ~_CLOCK_REALTIME == _WAIT:
        return time.CLOCK_MONOTONIC, False
    is_wall = operation & _CLOCK_REALTIME or operation == _LOCK_PI
    return time.CLOCK_REALTIME if is_wall else time.CLOCK_MONOTONIC, True


def _futex_point(clock_id: int) -> Basis:
    """Return the kernel refuses other clocks, but not without a time (futex2_setup_timeout)."""
    return (clock_id, True) if clock_id in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC) else None


def _futex_wait(arguments: Sequence[int]) -> Basis:
    return _futex_point(arguments[5] & 0xFFFFFFFF)


def _futex_waitv(arguments: Sequence[int]) -> Basis:
    return _futex_point(arguments[4] & 0xFFFFFFFF)


class WaitRow(NamedTuple):
    """One system call that may wait for a time."""

    name: str
    argument: int
    """Which one is the timeout, or points to it; NULL or a negative number: for ever."""
    unit: Unit = Unit.TIMESPEC
    expired: int = 0
    """Its result when the time is up."""
    basis: Callable[[Sequence[int]], Basis] = _relative
    match: Match | None = None
    points: Match | bool = False
    """When its timeout is, or may be, a point of a clock."""
    time64: bool = False
    """Its time structures have 64-bit fields whatever the architecture."""
    is_sleep: bool = False
    """It waits for nothing else, and NULL is no timeout to it."""
    rest: int | None = None
    """The argument that says where a signal leaves what was left."""
    writes_back: bool = False
    """What was left is left where the timeout stood."""
    fd_sets: tuple[int, ...] = ()
    """Sets of descriptors, which are cleared when the time is up; their size is argument 0."""
    keeps_restarting: bool = False
    """A handler with SA_RESTART does not end it."""
    mask: int | None = None
    """The argument that leads to a signal mask, which is looked at before the wait begins; its size
    is behind it, or with it in memory."""
    tells_events: bool = False
    """It writes into memory what it has found even when it is interrupted (do_sys_poll,
    fs/select.c)."""
    is_of_socket: bool = False
    """It waits for the timeout of a socket."""
    takes_signals: bool = False
    """It waits for signals, with or without a timeout (tracer/calls/signals.py)."""
    is_block: bool = False
    """Its arguments stand in memory, where its only one points."""

    @property
    def pointer(self) -> int | None:
        """The argument that must not be NULL for the call to be of interest."""
        if self.unit is Unit.MILLISECONDS or self.is_sleep:
            return None
        return 0 if self.is_block else self.argument

    @property
    def may_fail(self) -> bool:
        """Whether it fails with EFAULT if memory cannot be written when it is interrupted."""
        return self.rest is not None or self.tells_events

    @property
    def condition(self) -> Match | None:
        """When the filter stops the call."""
        if self.unit is Unit.MILLISECONDS:
            return Match(self.argument, is_positive=True)
        return self.match

    def timeout_ns(self, first: int, second: int) -> int | None:
        """Of a timeout's fields; None where the kernel refuses them.

        A second count may be above its range in a timeval alone (kern_select, fs/select.c).
        """
        per_second = NS_PER_S // self.unit
        is_valid = first >= 0 and second >= 0 and (self.unit is Unit.TIMEVAL or second < per_second)
        return first * NS_PER_S + second * self.unit if is_valid else None


_POINT_OPERATIONS = _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2
_FUTEX, _FUTEX_POINT = (
    Match(argument=1, values=values, ignored_bits=_PRIVATE | _CLOCK_REALTIME)
    for values in ((_WAIT, *_POINT_OPERATIONS), _POINT_OPERATIONS)
)
_SLEEP_POINT = Match(argument=1, any_bits=_ABSTIME)
_SUFFIXES = "", "_time64"
_AGAIN, _TIMED_OUT = -errno.EAGAIN, -errno.ETIMEDOUT

WAITS = (
    WaitRow("nanosleep", 0, is_sleep=True, rest=1),
    *(
        WaitRow(
            f"clock_nanosleep{suffix}",
            2,
            basis=_sleep,
            points=_SLEEP_POINT,
            time64=bool(suffix),
            is_sleep=True,
            rest=3,
        )
        for suffix in _SUFFIXES
    ),
    WaitRow("poll", 2, Unit.MILLISECONDS, tells_events=True),
    WaitRow("epoll_wait", 3, Unit.MILLISECONDS),
    WaitRow("epoll_pwait", 3, Unit.MILLISECONDS),
    WaitRow("epoll_pwait2", 3, time64=True),
    WaitRow("ppoll", 2, writes_back=True, mask=3, tells_events=True),
    WaitRow("ppoll_time64", 2, time64=True, writes_back=True, mask=3, tells_events=True),
    WaitRow("select", 4, Unit.TIMEVAL, writes_back=True, fd_sets=(1, 2, 3)),
    # The first of 32-bit x86 (struct sel_arg_struct, fs/select.c).
    WaitRow("old_select", 4, Unit.TIMEVAL, writes_back=True, fd_sets=(1, 2, 3), is_block=True),
    WaitRow("pselect6", 4, writes_back=True, fd_sets=(1, 2, 3), mask=5),
    WaitRow("pselect6_time64", 4, time64=True, writes_back=True, fd_sets=(1, 2, 3), mask=5),
    *(
        WaitRow(
            f"futex{suffix}",
            3,
            expired=_TIMED_OUT,
            basis=_futex,
            match=_FUTEX,
            points=_FUTEX_POINT,
            time64=bool(suffix),
        )
        for suffix in _SUFFIXES
    ),
    *(
        WaitRow(
            name,
            argument,
            expired=_TIMED_OUT,
            basis=basis,
            points=True,
            time64=True,
            keeps_restarting=True,
        )
        for name, argument, basis in (
            ("futex_wait", 4, _futex_wait),
            ("futex_waitv", 3, _futex_waitv),
        )
    ),
    WaitRow("rt_sigtimedwait", 2, expired=_AGAIN, takes_signals=True),
    WaitRow("rt_sigtimedwait_time64", 2, expired=_AGAIN, time64=True, takes_signals=True),
    WaitRow("semtimedop", 3, expired=_AGAIN),
    WaitRow("ipc", 5, expired=_AGAIN, match=Match(argument=0, values=(_SEMTIMEDOP,))),
    WaitRow("semtimedop_time64", 3, expired=_AGAIN, time64=True),
    *(
        WaitRow(
            f"{name}{suffix}",
            4,
            expired=_TIMED_OUT,
            basis=_wall_point,
            points=True,
            time64=bool(suffix),
            keeps_restarting=True,
        )
        for name in ("mq_timedsend", "mq_timedreceive")
        for suffix in _SUFFIXES
    ),
    WaitRow("io_getevents", 4),
    WaitRow("io_pgetevents", 4),
    WaitRow("io_pgetevents_time64", 4, time64=True),
)


class Deadlines:
    """What ends at points of lines, the first that comes."""

    __slots__ = ()
    deadlines: tuple[tuple[LineName, int], ...]

    def left_ns(self, lines: Lines, host_ns: int) -> int:
        """How far the lines have to go until it ends."""
        return min(end_ns - lines.line(name).at(host_ns) for name, end_ns in self.deadlines)

    def due_ns(self, lines: Lines, host_ns: int) -> int:
        """When it ends if nobody moves the lines, by the host's CLOCK_MONOTONIC."""
        waits_ns = (
            real_wait_ns(lines.line(name).rate, deadline_ns - lines.line(name).at(host_ns))
            for name, deadline_ns in self.deadlines
        )
        return min(host_ns + min(waits_ns), NEVER_NS)


@dataclass(slots=True)
class RecvmmsgState:
    """One call of recvmmsg(2) with a timeout."""

    arguments: tuple[int, ...]
    """As the program made it,"""
    timeout: bytes
    """and what stood there."""
    end_ns: int
    """On the monotonic line."""
    received: int = 0


@dataclass(slots=True)
class SocketTimeouts:
    """Of one socket, as a program has set them."""

    pid: int
    descriptor: int
    """Of the process that did, or its thread."""
    by_option: dict[int, int] = field(default_factory=dict)
    """SO_RCVTIMEO, SO_SNDTIMEO: nanoseconds."""


#: ("itimer", pid, 0), ("timer", pid, its number), ("fd", pid, descriptor)
TimerKey: TypeAlias = tuple[str, int, int]


@dataclass(slots=True, eq=False)
class Timer(Deadlines):
    """One timer of a program.

    Counts of expirations have no bound here; what programs get of them has (`MAX_OVERRUN`).
    """

    key: TimerKey
    clock_id: int
    signal: int = 0
    """0: it sends none."""
    tid: int = 0
    """The thread that it goes to; 0: the process."""
    value: int = 0
    """What it says beside."""
    deadlines: tuple[tuple[LineName, int], ...] = ()
    """Empty: it is not armed."""
    interval_ns: int = 0
    length_ns: int = 0
    """How far its next expiration was when it was set, or had expired last."""
    set_ns: int = 0
    """When it was set, or has expired last, by the host's CLOCK_MONOTONIC."""
    is_absolute: bool = False
    is_canceled_when_set: bool = False
    """TFD_TIMER_CANCEL_ON_SET (timerfd_create(2))."""
    is_canceled: bool = False
    """The next to read it is told so."""
    copy: int = -1
    """Of a timerfd, in this process."""
    is_running: bool = False
    """The kernel's is armed too, and does the rest, until the lines move."""
    is_sent: bool = False
    """Its signal is queued, and not known to be delivered,"""
    is_unsent: bool = False
    """or could not be queued yet: see tracer/calls/expirations.py."""
    overrun: int = 0
    """How often it has expired again since the expiration that its signal is about."""
    times_sent: int = 0
    """How often its signal has been queued, modulo 2**31."""
    last_overrun: int = 0
    """The overrun of the signal that was delivered last (timer_getoverrun(2))."""

    def was_delivered(self) -> None:
        """Its signal has reached the program."""
        self.is_sent, self.last_overrun = False, self.overrun

    def pass_by(self, lines: Lines, host_ns: int) -> int:
        """How often it has expired by now; its next time is set, if there is one."""
        over_ns = -self.left_ns(lines, host_ns) if self.deadlines else -1
        if over_ns < 0:
            return 0
        count = 1 + over_ns // self.interval_ns if self.interval_ns else 1
        self.has_expired(count, host_ns)
        return count

    def has_expired(self, count: int, host_ns: int) -> None:
        """Its next time is set, if there is one."""
        if not self.interval_ns:
            self.deadlines = ()
            return
        self.set_ns, self.length_ns = host_ns, self.interval_ns
        way_ns = count * self.interval_ns
        self.deadlines = tuple([(name, end_ns + way_ns) for name, end_ns in self.deadlines])


@dataclass(slots=True, eq=False)
class Wait(Deadlines):
    """One such call that a task is in, or was the last time it waited."""

    row: WaitRow
    nr: int
    arguments: tuple[int, ...]
    place: tuple[int, int]
    """The stack pointer and the program counter."""
    abi: Abi
    clock_id: int
    """The one it counts by."""
    is_absolute: bool
    timeout_ns: int
    """As the program wrote it."""
    length_ns: int
    """What was left of it when it began."""
    deadlines: tuple[tuple[LineName, int], ...]
    """Points of lines; the first that comes ends it."""
    set_ns: int = 0
    """When it began, by the host's CLOCK_MONOTONIC."""
    is_carried: bool = False
    """Its task waits for what is left, and is carried on."""
    has_grown: bool = False
    """The last step of this back-off was within `grace`."""
    is_kept: bool = False
    """The native code has begun it, and the kernel knows of no timeout."""
    has_grace: bool = False
    """The kernel times it, by real time on a frozen monotonic line."""
    host_due_ns: int = NEVER_NS
    """When the kernel ends it, by the host's CLOCK_MONOTONIC."""
    runs: int = 0
    """How often its task had run when it was found."""
    is_expiring: bool = False
    """Its time is up: at the next stop of its task it ends so."""
    is_anew: bool = False
    """At the next stop of its task it is to be called again, for another timeout."""
    is_continued: bool = False
    """The call that its task makes next with the same arguments is this one."""
    cannot_tell_rest: bool = False
    """The memory for what is left cannot be written."""
    rest_was: bytes = b""
    """What stood where a signal leaves the rest."""
    block: tuple[int, ...] = ()
    """Its arguments, if they stand in memory."""
    has_other_set: bool = False
    """The kernel has another set of signals than the program's own (tracer/calls/signals.py)."""

    @property
    def words(self) -> tuple[int, ...]:
        """Its arguments as the row counts them."""
        return self.block or self.arguments

    @property
    def tells_rest(self) -> bool:
        """Whether the kernel leaves in memory what is left of it."""
        row = self.row
        return row.writes_back or (row.rest is not None and bool(self.arguments[row.rest]))

    def is_mistimed(self, lines: Lines, host_ns: int, tolerance_ns: int) -> bool:
        """Whether the kernel ends it sooner than the clock does, or by so much later."""
        late_ns = self.host_due_ns - self.due_ns(lines, host_ns)
        return late_ns < 0 or late_ns > tolerance_ns

    def is_same(self, nr: int, arguments: Sequence[int], place: tuple[int, int]) -> bool:
        """Whether a call is this one."""
        return self.nr == nr and self.place == place and self.arguments == tuple(arguments)


def real_wait_ns(rate: Rate, left_ns: int) -> int:
    """In how much real time `left_ns` of a line will have passed; years on a frozen one."""
    if left_ns <= 0:
        return 0
    return -(-(left_ns << rate.shift) // rate.mult) if rate.mult else NEVER_NS


def deadlines(
    lines: Lines, host_ns: int, name: LineName, left_ns: int, *, ends_early: bool
) -> tuple[tuple[LineName, int], ...]:
    """Of a wait that begins now, for `left_ns` of a line.

    One exception serves the programs that wait until now + 2 s and mean two seconds: on a frozen
    wall line (`ends_early`) what is left passes on the monotonic line too.
    """
    names = [name]
    if name is LineName.WALL and ends_early:
        names.append(LineName.MONOTONIC)
    return tuple([(one, lines.line(one).at(host_ns) + left_ns) for one in names])
