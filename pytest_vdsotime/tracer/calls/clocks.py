"""System calls that read or set the clock, with the kernel's own results.

See man 2 of each, and kernel/time/.

What adjtimex(2) and clock_adjtime(2) set is the clock's own, and never reaches the host. Steps move
the wall line, and so does a slew (adjtime(3)): a clock goes at its rate exactly.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from functools import cache

from pytest_vdsotime import ntp
from pytest_vdsotime.abi import constant
from pytest_vdsotime.events import EventKind
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.ntp import Timex
from pytest_vdsotime.timeline import (
    CLOCK_MONOTONIC_COARSE,
    CLOCK_REALTIME_COARSE,
    CLOCKS,
    NS_PER_S,
    check_range,
    now_ns,
)
from pytest_vdsotime.tracer.call import Answer, CallRow, Refused, Request
from pytest_vdsotime.tracer.state import Setting

CLOCK_REALTIME = time.CLOCK_REALTIME
_CAP_SYS_TIME = constant("CAP_SYS_TIME")
_LATEST_SETTABLE_S = (2**63 - 1) // NS_PER_S - 30 * 365 * 24 * 3600  # TIME_SETTOD_SEC_MAX
_MAX_MINUTES_WEST = 15 * 60
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
        pair = request.abi.pair(request.time64)
        data = seconds.to_bytes(8, "little", signed=True)[: pair.size // 2]
        request.write(request.arguments[0], data)
    half: int = 2 ** (8 * request.abi.long_size - 1)
    return (seconds + half) % (2 * half) - half  # a time_t


def require_right(request: Request) -> None:
    """Refused(EPERM) where the program may not set the clock."""
    if not procfs.has_capability(request.stopped.tid, _CAP_SYS_TIME):
        raise Refused(errno.EPERM)


def _set_wall(request: Request, instant_ns: int) -> int:
    """After the kernel's own checks, in its order (do_sys_settimeofday64).

    The value, then the right.
    """
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
    process.world.record(EventKind.SET, process.pid, instant_ns, request.task.tid)


def _clock_settime(request: Request) -> Answer:
    if request.number(0) != CLOCK_REALTIME:
        return None  # no other clock can be set: the kernel says so
    seconds, nanoseconds = request.read_pair(request.arguments[1])
    if not 0 <= nanoseconds < NS_PER_S:
        raise Refused(errno.EINVAL)
    return _set_wall(request, seconds * NS_PER_S + nanoseconds)


def _settimeofday(request: Request) -> Answer:
    """Return the timezone is checked, but not set: it is the host's."""
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
    if abs(minutes_west) > _MAX_MINUTES_WEST:
        raise Refused(errno.EINVAL)
    if request.arguments[0]:
        _set_wall(request, seconds * NS_PER_S + microseconds * 1000)
    return 0


def _stime(request: Request) -> Answer:
    """Check the right alone, and say nothing of a value that cannot be set."""
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
    """Its result counts ticks of the monotonic line, of which no time namespace knows.

    The kernel's own may be older by the time that the call has taken.
    """

    def counted(result: int) -> int:
        if result == -errno.EFAULT and request.arguments[0]:
            return result
        offset_ns = request.process.time_offsets.monotonic_ns
        outside_ns = request.now_ns(time.CLOCK_MONOTONIC) - offset_ns
        return (outside_ns + _first_tick_ns()) * _TICKS_PER_S // NS_PER_S

    return counted


def _sysinfo(request: Request) -> Answer:
    """Its first field, a long, is the uptime.

    CLOCK_BOOTTIME rounded up and then cut to fit (do_sysinfo, kernel/sys.c).
    """

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
    CallRow("clock_gettime64", _clock_gettime, _SERVED, time64=True, may_run_first=True),
    CallRow("gettimeofday", _gettimeofday, may_run_first=True),
    CallRow("time", _time, may_run_first=True),
    CallRow("clock_settime", _clock_settime),
    CallRow("clock_settime64", _clock_settime, time64=True),
    CallRow("settimeofday", _settimeofday),
    CallRow("stime", _stime),
    CallRow("times", _times),
    CallRow("sysinfo", _sysinfo),
)


# --- adjtimex and clock_adjtime ------------------------------------------------------------------

#: Of the whole, by that of a field: struct old_timex32 (linux/time32.h), struct __kernel_timex.
_SIZES = {4: 128, 8: 208}
_INTS = Timex.MODES, Timex.STATUS, Timex.SHIFT, Timex.TAI
_LEAP_SECOND = (
    "{} asks for a leap second ({} of adjtimex), which a clock neither inserts nor deletes: the "
    "call fails with EINVAL; step the clock at midnight instead: move_to()"
)


@dataclass(slots=True)
class _Argument:
    """A struct timex of the program's."""

    address: int
    data: bytearray
    """All of it,"""
    fields: list[int]
    """and what there is in it, by Timex."""
    size: int
    """Of a field; an int takes the room of one, too."""

    @classmethod
    def read(cls, request: Request, argument: int) -> _Argument:
        address = request.arguments[argument]
        size = 8 if request.time64 else request.abi.long_size
        data = bytearray(request.read(address, _SIZES[size]))
        fields = [
            int.from_bytes(data[_place(field, size)], "little", signed=field != Timex.MODES)
            for field in Timex
        ]
        return cls(address, data, fields, size)

    def write(self, request: Request) -> None:
        """Write the fields back.

        Padding stays as it was between fields of 64 bits, and is zero behind those of 32
        (put_old_timex32, kernel/time/time.c).
        """
        if self.size == 4:
            self.data[:] = bytes(len(self.data))
        for field, value in zip(Timex, self.fields, strict=True):
            place = _place(field, self.size)
            width = place.stop - place.start
            self.data[place] = (value % 2 ** (8 * width)).to_bytes(width, "little")
        request.write(self.address, bytes(self.data))


def _place(field: Timex, size: int) -> slice:
    start = field * size
    return slice(start, start + (4 if field in _INTS else size))


def _check(request: Request, given: list[int]) -> None:
    """Make the kernel's checks, in its order.

    timekeeping_validate_timex (kernel/time/timekeeping.c).
    """
    modes = given[Timex.MODES]
    is_single = modes & ntp.ADJ_ADJTIME
    if is_single and not modes & ntp.ADJ_OFFSET:
        raise Refused(errno.EINVAL)
    is_question = not modes or (is_single and modes & ntp.ADJ_OFFSET_READONLY)
    if not is_question or modes & ntp.ADJ_SETOFFSET:
        require_right(request)
    units_per_s = NS_PER_S if modes & ntp.ADJ_NANO else 10**6
    if (
        (modes & ntp.ADJ_TICK and not is_single and given[Timex.TICK] not in ntp.TICKS_US)
        or (modes & ntp.ADJ_SETOFFSET and not 0 <= given[Timex.FRACTION] < units_per_s)
        or (modes & ntp.ADJ_FREQUENCY and abs(given[Timex.FREQUENCY]) > ntp.MAX_FREQUENCY)
    ):
        raise Refused(errno.EINVAL)
    if modes & ntp.ADJ_STATUS and not is_single:
        _check_leap_second(request, given[Timex.STATUS])


def _check_leap_second(request: Request, status: int) -> None:
    """Refuse leap seconds, as the kernel does for its clocks that have none (CLOCK_AUX)."""
    if not status & (ntp.STA_INS | ntp.STA_DEL):
        return
    process = request.process
    if not process.was_refused_a_leap_second:  # a daemon asks again and again
        process.was_refused_a_leap_second = True
        name = "STA_INS" if status & ntp.STA_INS else "STA_DEL"
        process.world.warn(process.pid, _LEAP_SECOND.format(process.describe(), name))
    raise Refused(errno.EINVAL)


def _step_ns(request: Request, given: list[int]) -> int:
    """How far the wall is to go."""
    modes, step_ns = given[Timex.MODES], 0
    wall_ns = request.process.world.page.lines.wall.at(now_ns())
    if modes & ntp.ADJ_SETOFFSET:
        unit_ns = 1 if modes & ntp.ADJ_NANO else 1000
        step_ns = given[Timex.SECONDS] * NS_PER_S + given[Timex.FRACTION] * unit_ns
        check_settable(wall_ns + step_ns)
    if modes & ntp.ADJ_ADJTIME and not modes & ntp.ADJ_OFFSET_READONLY:
        step_ns += given[Timex.OFFSET] * 1000
        try:
            check_range(wall_ns + step_ns, "the clock")
        except ValueError:  # the kernel would slew for thousands of years
            raise Refused(errno.EINVAL) from None
    return step_ns


def _adjust(request: Request, argument: _Argument) -> int:
    """Set what is asked for, and leave in the fields what the kernel tells."""
    given = argument.fields
    _check(request, given)
    modes, world = given[Timex.MODES], request.process.world
    discipline, page = world.discipline, world.page
    monotonic_ns = page.lines.monotonic.at(now_ns())
    step_ns, tai_ns = _step_ns(request, given), page.offset_ns(time.CLOCK_TAI)
    tai_by_ns = 0
    if modes & ntp.ADJ_SETOFFSET:
        discipline.wall_was_set()
    if modes and not modes & ntp.ADJ_ADJTIME:
        discipline.set(modes, given, monotonic_ns)
        if modes & ntp.ADJ_TAI and 0 <= given[Timex.CONSTANT] <= ntp.MAX_TAI_OFFSET:
            tai_by_ns = given[Timex.CONSTANT] * NS_PER_S - tai_ns
    wall_ns = request.now_ns(CLOCK_REALTIME) + step_ns
    setting = Setting(lambda lines, _now: lines.stepped(step_ns), tai_by_ns)
    if step_ns or modes & ntp.ADJ_SETOFFSET:
        step_clock(request, setting, wall_ns)
    elif tai_by_ns:
        world.setting = setting

    told = argument.fields = discipline.told(monotonic_ns)
    told[Timex.MODES] = modes
    told[Timex.TAI] = (tai_ns + tai_by_ns) // NS_PER_S
    told[Timex.SECONDS], fraction_ns = divmod(wall_ns, NS_PER_S)
    is_nano = told[Timex.STATUS] & ntp.STA_NANO
    told[Timex.FRACTION] = fraction_ns if is_nano else fraction_ns // 1000
    if modes & ntp.ADJ_ADJTIME:
        told[Timex.OFFSET] = 0  # of a slew nothing remains
    return ntp.state_of(told[Timex.STATUS])


def _adjtimex(request: Request) -> Answer:
    """Write back what was given even where that is refused (kernel/time/time.c)."""
    argument = _Argument.read(request, 0)
    try:
        return _adjust(request, argument)
    finally:
        argument.write(request)


def _clock_adjtime(request: Request) -> Answer:
    if request.number(0) != CLOCK_REALTIME:
        return None  # a device's clock, or none that can be adjusted: the kernel says so
    argument = _Argument.read(request, 1)
    state = _adjust(request, argument)
    argument.write(request)
    return state


ADJUSTING_CALLS = (
    CallRow("adjtimex", _adjtimex),
    CallRow("clock_adjtime", _clock_adjtime),
    CallRow("clock_adjtime64", _clock_adjtime, time64=True),
)
