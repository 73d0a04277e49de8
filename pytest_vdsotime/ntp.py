"""What adjtimex(2) sets of a clock and tells of it.

The variables of the kernel's clock discipline (struct ntp_data, kernel/time/ntp.c).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum

from pytest_vdsotime.abi import constant

# The bits of `modes` (linux/timex.h)
ADJ_OFFSET, ADJ_FREQUENCY = constant("ADJ_OFFSET"), constant("ADJ_FREQUENCY")
ADJ_MAXERROR, ADJ_ESTERROR = constant("ADJ_MAXERROR"), constant("ADJ_ESTERROR")
ADJ_STATUS, ADJ_TIMECONST = constant("ADJ_STATUS"), constant("ADJ_TIMECONST")
ADJ_TAI, ADJ_SETOFFSET = constant("ADJ_TAI"), constant("ADJ_SETOFFSET")
ADJ_MICRO, ADJ_NANO, ADJ_TICK = constant("ADJ_MICRO"), constant("ADJ_NANO"), constant("ADJ_TICK")
ADJ_ADJTIME = 0x8000  # include/linux/timex.h alone has this bit
ADJ_OFFSET_READONLY = ADJ_NANO  # beside ADJ_ADJTIME

# and of `status`
STA_PLL, STA_INS, STA_DEL = constant("STA_PLL"), constant("STA_INS"), constant("STA_DEL")
STA_UNSYNC, STA_CLOCKERR = constant("STA_UNSYNC"), constant("STA_CLOCKERR")
STA_NANO, STA_MODE = constant("STA_NANO"), constant("STA_MODE")
_STA_RONLY = constant("STA_RONLY")

TIME_OK, TIME_ERROR = constant("TIME_OK"), constant("TIME_ERROR")

#: The range of `tick`, in microseconds: a tenth around 1 / USER_HZ.
TICKS_US = range(900_000 // 100, 1_100_000 // 100 + 1)
#: What `freq`, in ppm shifted by 16 bits, may be at all; it is then cut to MAXFREQ, in the same
#: units.
MAX_FREQUENCY = (2**63 - 1) // (1000 << 16)
_MAXFREQ = 500 << 16
MAX_TAI_OFFSET = 100_000
_MAXPHASE_NS = 500_000_000
_PHASE_LIMIT_US = _MAXPHASE_NS // 1000 << 5
_MAXTC = 10
_ERROR_US_PER_S = 500  # MAXFREQ: what `maxerror` grows by
_NS_PER_S = 1_000_000_000


class Timex(IntEnum):
    """The fields of struct timex, in their order (adjtimex(2))."""

    MODES = 0
    OFFSET = 1
    FREQUENCY = 2
    MAXERROR = 3
    ESTERROR = 4
    STATUS = 5
    CONSTANT = 6
    PRECISION = 7
    TOLERANCE = 8
    SECONDS = 9
    FRACTION = 10
    TICK = 11
    PPSFREQ = 12
    JITTER = 13
    SHIFT = 14
    STABIL = 15
    JITCNT = 16
    CALCNT = 17
    ERRCNT = 18
    STBCNT = 19
    TAI = 20


_AT_BOOT = [0] * len(Timex)
for _field, _value in {
    Timex.MAXERROR: _PHASE_LIMIT_US,
    Timex.ESTERROR: _PHASE_LIMIT_US,
    Timex.STATUS: STA_UNSYNC,
    Timex.CONSTANT: 2,
    Timex.PRECISION: 1,
    Timex.TOLERANCE: _MAXFREQ,
    Timex.TICK: 10_000,
}.items():
    _AT_BOOT[_field] = _value


def state_of(status: int) -> int:
    """Return the result of adjtimex on a clock that inserts and deletes no leap second.

    As a kernel without CONFIG_NTP_PPS (which excludes NO_HZ) has it.
    """
    return TIME_ERROR if status & (STA_UNSYNC | STA_CLOCKERR) else TIME_OK


class Discipline:
    """The variables of one clock.

    They are the host's until a program of the clock sets one of them, or the clock itself: a daemon
    of the host's keeps that one right. From then on they are the clock's own.

    A clock goes at its rate exactly: what steers the pace of the kernel's (frequency, tick, offset)
    is kept and told, and steers nothing.
    """

    __slots__ = "_own", "_read_host", "_since_ns"

    def __init__(self, read_host: Callable[[], Sequence[int]]) -> None:
        """`read_host` gives the fields of the host's struct timex; none where it may not."""
        self._read_host = read_host
        self._own: list[int] | None = None
        """As Timex, but with the offset in nanoseconds whatever STA_NANO says."""
        self._since_ns: int | None = None
        """The second in which `maxerror` is now began then, on the monotonic line."""

    def told(self, monotonic_ns: int) -> list[int]:
        """Return the fields when the monotonic line reads `monotonic_ns`.

        Those of the time and of TAI are not its to tell.
        """
        fields = self._read() if self._own is None else self._elapsed(self._own, monotonic_ns)
        told = fields.copy()
        if not told[Timex.STATUS] & STA_NANO:
            offset_ns = told[Timex.OFFSET]
            told[Timex.OFFSET] = abs(offset_ns) // 1000 * (1 if offset_ns > 0 else -1)
        return told

    def wall_was_set(self, *, by_program: bool = True) -> None:
        """Note that the clock was stepped: how right it is now is not known (ntp_clear).

        That a test has set it matters to those programs alone that keep it right.
        """
        if self._own is None and not by_program:
            return
        own = self._own = self._own or self._read()
        own[Timex.STATUS] |= STA_UNSYNC
        own[Timex.MAXERROR] = own[Timex.ESTERROR] = _PHASE_LIMIT_US
        own[Timex.OFFSET] = 0

    def set(self, modes: int, given: Sequence[int], monotonic_ns: int) -> None:
        """Set what `modes` names to what is `given`, cut to its range.

        In the kernel's order (process_adjtimex_modes).
        """
        own = self._own = self._elapsed(self._own or self._read(), monotonic_ns)
        if modes & ADJ_STATUS:
            is_reset = own[Timex.STATUS] & STA_PLL and not given[Timex.STATUS] & STA_PLL
            kept = 0 if is_reset else own[Timex.STATUS] & _STA_RONLY
            own[Timex.STATUS] = kept | given[Timex.STATUS] & ~_STA_RONLY
        if modes & ADJ_NANO:
            own[Timex.STATUS] |= STA_NANO
        if modes & ADJ_MICRO:
            own[Timex.STATUS] &= ~STA_NANO
        is_nano = own[Timex.STATUS] & STA_NANO
        if modes & ADJ_FREQUENCY:
            own[Timex.FREQUENCY] = _cut(given[Timex.FREQUENCY], -_MAXFREQ, _MAXFREQ)
        if modes & ADJ_MAXERROR:
            own[Timex.MAXERROR] = _cut(given[Timex.MAXERROR], 0, _PHASE_LIMIT_US)
        if modes & ADJ_ESTERROR:
            own[Timex.ESTERROR] = _cut(given[Timex.ESTERROR], 0, _PHASE_LIMIT_US)
        if modes & ADJ_TIMECONST:
            constant = _cut(given[Timex.CONSTANT], 0, _MAXTC) + (0 if is_nano else 4)
            own[Timex.CONSTANT] = _cut(constant, 0, _MAXTC)
        if modes & ADJ_OFFSET and own[Timex.STATUS] & STA_PLL:
            offset_ns = given[Timex.OFFSET] * (1 if is_nano else 1000)
            own[Timex.OFFSET] = _cut(offset_ns, -_MAXPHASE_NS, _MAXPHASE_NS)
            own[Timex.STATUS] &= ~STA_MODE
        if modes & ADJ_TICK:
            own[Timex.TICK] = given[Timex.TICK]

    def _read(self) -> list[int]:
        """Return the host's leap second is not this clock's."""
        fields = list(self._read_host()) or _AT_BOOT.copy()
        if not fields[Timex.STATUS] & STA_NANO:
            fields[Timex.OFFSET] *= 1000
        fields[Timex.STATUS] &= ~(STA_INS | STA_DEL)
        return fields

    def _elapsed(self, own: list[int], monotonic_ns: int) -> list[int]:
        """Count the seconds that have passed since the error was set.

        With each the clock may be further off, until it counts as unsynchronized (second_overflow).
        """
        if self._since_ns is None:
            self._since_ns = monotonic_ns
        seconds = (monotonic_ns - self._since_ns) // _NS_PER_S
        self._since_ns += seconds * _NS_PER_S
        own[Timex.MAXERROR] += seconds * _ERROR_US_PER_S
        if own[Timex.MAXERROR] > _PHASE_LIMIT_US:
            own[Timex.MAXERROR] = _PHASE_LIMIT_US
            own[Timex.STATUS] |= STA_UNSYNC
        return own


def _cut(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)
