"""adjtimex(2) and clock_adjtime(2): what they set is the clock's own, and stays off the host.

Steps move the wall line, and a slew (adjtime(3)) is one too: a clock goes at its rate exactly.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass

from pytest_vdsotime import ntp
from pytest_vdsotime.ntp import Timex
from pytest_vdsotime.timeline import NS_PER_S, check_range
from pytest_vdsotime.tracer.clockcalls import (
    CLOCK_REALTIME,
    check_settable,
    require_right,
    step_clock,
)
from pytest_vdsotime.tracer.parking import now_ns
from pytest_vdsotime.tracer.request import Answer, CallRow, Refused, Request
from pytest_vdsotime.tracer.tasks import Setting

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
        size = 8 if request.wide else request.abi.long_size
        data = bytearray(request.read(address, _SIZES[size]))
        fields = [
            int.from_bytes(data[_place(field, size)], "little", signed=field != Timex.MODES)
            for field in Timex
        ]
        return cls(address, data, fields, size)

    def write(self, request: Request) -> None:
        """Padding stays as it was between fields of 64 bits, and is zero behind those of 32
        (put_old_timex32, kernel/time/time.c)."""
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
    """The kernel's checks, in its order (timekeeping_validate_timex, kernel/time/timekeeping.c)."""
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
        or (modes & ntp.ADJ_FREQUENCY and abs(given[Timex.FREQUENCY]) > ntp.MOST_FREQUENCY)
    ):
        raise Refused(errno.EINVAL)
    if modes & ntp.ADJ_STATUS and not is_single:
        _check_leap_second(request, given[Timex.STATUS])


def _check_leap_second(request: Request, status: int) -> None:
    """The kernel has clocks without leap seconds too, and the same error for them (CLOCK_AUX)."""
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
    """Sets, and leaves in the fields what the kernel tells."""
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
    """It writes back what it was given even where it refuses (kernel/time/time.c)."""
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
    CallRow("clock_adjtime64", _clock_adjtime, wide=True),
)
