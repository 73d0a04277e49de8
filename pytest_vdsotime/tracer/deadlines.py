"""System calls that wait until a point of a clock. A program computes it from its own clock, the
kernel compares it with the host's: so the kernel gets the point at which, by the lines, the
program's will have come.

The program's memory is not touched: the deadline that the kernel reads stands in the process page
(native_stub/page.h), and at the exit of the call its pointer is what it was. A call that a signal
restarts is stopped and translated again. Deadlines that the kernel refuses are left to it.
"""

from __future__ import annotations

import re
import time

from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.timeline import CLOCKS, NS_PER_S, LineName, Lines
from pytest_vdsotime.tracer.request import Answer, CallRow, Request, Substitute

_ABSTIME = 1  # TIMER_ABSTIME, TFD_TIMER_ABSTIME
# linux/futex.h
_LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2 = 6, 9, 11, 13
_PRIVATE, _CLOCK_REALTIME = 128, 256
_NEVER_NS = 2**63 - 1  # KTIME_MAX


def real_wait_ns(lines: Lines, name: LineName, left_ns: int) -> int:
    """In how much real time `left_ns` of a line will have passed; _NEVER_NS on a frozen one.

    One exception serves the programs that wait until now + 2 s and mean two seconds: on a frozen
    wall line what is left passes on the monotonic line.
    """
    rate = lines.wall.rate if name is LineName.WALL else lines.monotonic.rate
    if name is LineName.WALL and not rate.mult:
        rate = lines.monotonic.rate
    if left_ns <= 0:
        return 0
    return -(-(left_ns << rate.shift) // rate.mult) if rate.mult else _NEVER_NS


def _translated(request: Request, clock_id: int, seconds: int, nanoseconds: int) -> bytes | None:
    """The deadline for the kernel, or None where it gets the program's own."""
    page = request.process.world.page
    if seconds < 0 or not 0 <= nanoseconds < NS_PER_S or not page.serves(clock_id):
        return None
    name = CLOCKS[clock_id].line
    if name is LineName.MONOTONIC and page.lines.monotonic.is_the_hosts:
        return None
    deadline_ns = seconds * NS_PER_S + nanoseconds
    left_ns = deadline_ns - page.reading_ns(clock_id)
    wait_ns = real_wait_ns(page.lines, name, left_ns)
    host_ns = min(time.clock_gettime_ns(clock_id) + wait_ns, _NEVER_NS)
    pair = request.abi.pair(request.wide)
    host_seconds, host_nanoseconds = divmod(host_ns, NS_PER_S)
    return pair.pack(min(host_seconds, 2 ** (4 * pair.size - 1) - 1), host_nanoseconds)


def _absolute(request: Request, clock_id: int, argument: int) -> Answer:
    """A call whose `argument` points to a timespec."""
    if request.arguments[argument] == 0:
        return None
    pair = request.read_pair(request.arguments[argument])
    data = _translated(request, clock_id, *pair)
    return None if data is None else Substitute(argument, data)


def _futex(request: Request) -> Answer:
    operation = request.number(1)
    is_wall = operation & _CLOCK_REALTIME or operation & ~_PRIVATE == _LOCK_PI
    return _absolute(request, time.CLOCK_REALTIME if is_wall else time.CLOCK_MONOTONIC, 3)


def _futex_waitv(request: Request) -> Answer:
    return _absolute(request, request.number(4), 3)


def _clock_nanosleep(request: Request) -> Answer:
    return _absolute(request, request.number(0), 2)


def _mq_timed(request: Request) -> Answer:
    return _absolute(request, time.CLOCK_REALTIME, 4)


def _itimerspec(request: Request, clock_id: int | None) -> Answer:
    """A call whose third argument points to a struct itimerspec: interval, then value; a value of
    zero disarms."""
    if clock_id is None or request.arguments[2] == 0:
        return None
    pair = request.abi.pair(request.wide)
    data = request.read(request.arguments[2], 2 * pair.size)
    value = request.pair_in(data[pair.size :])
    if value == (0, 0):
        return None
    translated = _translated(request, clock_id, *value)
    return None if translated is None else Substitute(2, data[: pair.size] + translated)


def _timerfd_settime(request: Request) -> Answer:
    text = procfs.read_text(f"/proc/{request.stopped.tid}/fdinfo/{request.number(0)}")
    found = re.search(r"^clockid: (\d+)$", text, re.MULTILINE)
    return _itimerspec(request, int(found[1]) if found else None)


def _timer_settime(request: Request) -> Answer:
    text = procfs.read_text(f"/proc/{request.stopped.tid}/timers")
    found = re.search(rf"^ID: {request.number(0)}\n(?:.+\n)*?ClockID: (\d+)$", text, re.MULTILINE)
    return _itimerspec(request, int(found[1]) if found else None)


_FUTEX_ABSOLUTE = Match(
    argument=1,
    values=(_LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2),
    ignored_bits=_PRIVATE | _CLOCK_REALTIME,
)
_FLAG_ABSTIME = Match(argument=1, any_bits=_ABSTIME)

DEADLINE_CALLS = (
    CallRow("futex", _futex, _FUTEX_ABSOLUTE, pointer=3),
    CallRow("futex_time64", _futex, _FUTEX_ABSOLUTE, pointer=3, wide=True),
    CallRow("futex_waitv", _futex_waitv, pointer=3, wide=True),
    CallRow("clock_nanosleep", _clock_nanosleep, _FLAG_ABSTIME),
    CallRow("clock_nanosleep_time64", _clock_nanosleep, _FLAG_ABSTIME, wide=True),
    CallRow("mq_timedsend", _mq_timed),
    CallRow("mq_timedreceive", _mq_timed),
    CallRow("mq_timedsend_time64", _mq_timed, wide=True),
    CallRow("mq_timedreceive_time64", _mq_timed, wide=True),
    CallRow("timerfd_settime", _timerfd_settime, _FLAG_ABSTIME),
    CallRow("timerfd_settime64", _timerfd_settime, _FLAG_ABSTIME, wide=True),
    CallRow("timer_settime", _timer_settime, _FLAG_ABSTIME),
    CallRow("timer_settime64", _timer_settime, _FLAG_ABSTIME, wide=True),
)
