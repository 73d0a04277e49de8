"""System calls that read or set the clock, with the kernel's own results (man 2 of each,
kernel/time/)."""

from __future__ import annotations

import errno
import os
import time
from functools import cache

from pytest_vdsotime.events import Kind
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.timeline import (
    CLOCK_MONOTONIC_COARSE,
    CLOCK_REALTIME_COARSE,
    CLOCKS,
    NS_PER_S,
)
from pytest_vdsotime.tracer.request import Answer, CallRow, Refused, Request
from pytest_vdsotime.tracer.tasks import Setting

CLOCK_REALTIME = time.CLOCK_REALTIME
_CAP_SYS_TIME = 25  # linux/capability.h
_LATEST_SETTABLE_S = (2**63 - 1) // NS_PER_S - 30 * 365 * 24 * 3600  # TIME_SETTOD_SEC_MAX
_MOST_MINUTES_WEST = 15 * 60
_TICKS_PER_S = 100  # USER_HZ (times(2))


def _clock_gettime(request: Request) -> Answer:
    if not request.process.world.page.serves(request.number(0)):
        return None
    seconds, nanoseconds = divmod(request.now_ns(request.number(0)), NS_PER_S)
    request.write_pair(request.arguments[1], seconds, nanoseconds)
    return 0


def _gettimeofday(request: Request) -> Answer:
    seconds, nanoseconds = divmod(request.now_ns(CLOCK_REALTIME), NS_PER_S)
    if request.arguments[0]:
        request.write_pair(request.arguments[0], seconds, nanoseconds // 1000)
    if request.arguments[1]:
        request.write(request.arguments[1], request.timezone)
    return 0


def _time(request: Request) -> int:
    """Of the coarse clock (ktime_get_real_seconds, kernel/time/timekeeping.c)."""
    is_served = request.process.world.page.serves(CLOCK_REALTIME_COARSE)
    clock_id = CLOCK_REALTIME_COARSE if is_served else CLOCK_REALTIME
    seconds = request.now_ns(clock_id) // NS_PER_S
    if request.arguments[0]:
        pair = request.abi.pair(request.wide)
        data = seconds.to_bytes(8, "little", signed=True)[: pair.size // 2]
        request.write(request.arguments[0], data)
    half: int = 2 ** (8 * request.abi.long_size - 1)
    return (seconds + half) % (2 * half) - half  # a time_t


def require_right(request: Request) -> None:
    """Refused(EPERM) where the program may not set the clock."""
    if not procfs.has_capability(request.stopped.tid, _CAP_SYS_TIME):
        raise Refused(errno.EPERM)


def _set_wall(request: Request, instant_ns: int) -> int:
    """After the kernel's own checks, in its order (do_sys_settimeofday64): the value, then the
    right."""
    check_settable(instant_ns)
    require_right(request)
    request.process.world.discipline.wall_was_set()
    step_clock(request, Setting(lambda lines, now: lines.moved_to(now, instant_ns)), instant_ns)
    return 0


def check_settable(instant_ns: int) -> None:
    """Refused(EINVAL) where the kernel's clock could not be set so (timespec64_valid_settod)."""
    if not 0 <= instant_ns // NS_PER_S < _LATEST_SETTABLE_S:
        raise Refused(errno.EINVAL)


def step_clock(request: Request, setting: Setting, instant_ns: int) -> None:
    """Has the wall line set, to `instant_ns` or thereabouts, before the program goes on."""
    process = request.process
    process.world.setting = setting
    process.world.record(Kind.SET, process.pid, instant_ns, request.task.tid)


def _clock_settime(request: Request) -> Answer:
    if request.number(0) != CLOCK_REALTIME:
        return None  # no other clock can be set: the kernel says so
    seconds, nanoseconds = request.read_pair(request.arguments[1])
    if not 0 <= nanoseconds < NS_PER_S:
        raise Refused(errno.EINVAL)
    return _set_wall(request, seconds * NS_PER_S + nanoseconds)


def _settimeofday(request: Request) -> Answer:
    """The timezone is checked, but not set: it is the host's."""
    seconds = microseconds = minutes_west = 0
    if request.arguments[0]:
        seconds, microseconds = request.read_pair(request.arguments[0])
        if not 0 <= microseconds < 10**6:
            raise Refused(errno.EINVAL)
    if request.arguments[1]:
        timezone = request.read(request.arguments[1], len(request.timezone))
        minutes_west = int.from_bytes(timezone[:4], "little", signed=True)
    if not 0 <= seconds < _LATEST_SETTABLE_S:
        raise Refused(errno.EINVAL)
    require_right(request)
    if abs(minutes_west) > _MOST_MINUTES_WEST:
        raise Refused(errno.EINVAL)
    if request.arguments[0]:
        _set_wall(request, seconds * NS_PER_S + microseconds * 1000)
    return 0


def _stime(request: Request) -> Answer:
    """It checks the right only, and says nothing of a value that cannot be set."""
    seconds = int.from_bytes(request.read(request.arguments[0], 4), "little", signed=True)
    require_right(request)
    if seconds >= 0:
        _set_wall(request, seconds * NS_PER_S)
    return 0


@cache
def _first_tick_ns() -> int:
    """How long before CLOCK_MONOTONIC's zero the ticks of times(2) begin."""
    tick_ns = NS_PER_S // _TICKS_PER_S
    return round(os.times().elapsed * _TICKS_PER_S) * tick_ns - time.clock_gettime_ns(
        CLOCK_MONOTONIC_COARSE
    )


def _times(request: Request) -> Answer:
    """Its result counts ticks of the monotonic line, of which no time namespace knows; the kernel's
    own may be older by the time that the call has taken."""

    def counted(result: int) -> int:
        if result == -errno.EFAULT and request.arguments[0]:
            return result
        offset_ns = request.process.time_offsets.monotonic_ns
        outside_ns = request.now_ns(time.CLOCK_MONOTONIC) - offset_ns
        return (outside_ns + _first_tick_ns()) * _TICKS_PER_S // NS_PER_S

    return counted


def _sysinfo(request: Request) -> Answer:
    """Its first field, a long, is the uptime: CLOCK_BOOTTIME rounded up and then cut to fit
    (do_sysinfo, kernel/sys.c)."""

    def moved(result: int) -> int:
        if result == 0:
            uptime = -(-request.now_ns(time.CLOCK_BOOTTIME) // NS_PER_S)
            size = request.abi.long_size
            request.write(request.arguments[0], uptime.to_bytes(8, "little")[:size])
        return result

    return moved


_SERVED = Match(argument=0, values=tuple(CLOCKS))

CLOCK_CALLS = (
    CallRow("clock_gettime", _clock_gettime, _SERVED, may_run_first=True),
    CallRow("clock_gettime64", _clock_gettime, _SERVED, wide=True, may_run_first=True),
    CallRow("gettimeofday", _gettimeofday, may_run_first=True),
    CallRow("time", _time, may_run_first=True),
    CallRow("clock_settime", _clock_settime),
    CallRow("clock_settime64", _clock_settime, wide=True),
    CallRow("settimeofday", _settimeofday),
    CallRow("stime", _stime),
    CallRow("times", _times),
    CallRow("sysinfo", _sysinfo),
)
