"""The variables of a clock's discipline: the host's until a program sets one. (The ranges of what
it may set are in tests/programs/adjusting.c.)"""

from __future__ import annotations

from pytest_vdsotime.ntp import (
    ADJ_FREQUENCY,
    ADJ_MAXERROR,
    ADJ_STATUS,
    STA_DEL,
    STA_INS,
    STA_NANO,
    STA_PLL,
    STA_UNSYNC,
    TIME_ERROR,
    TIME_OK,
    Discipline,
    Timex,
    state_of,
)

S = 1_000_000_000
LIMIT_US = 16_000_000


def fields(**values: int) -> list[int]:
    """Of a struct timex, by their names in Timex."""
    given = [0] * len(Timex)
    for name, value in values.items():
        given[Timex[name]] = value
    return given


def test_nothing_set_is_the_hosts() -> None:
    host = fields(TICK=10001, STATUS=STA_PLL, MAXERROR=1000, OFFSET=-7)
    discipline = Discipline(lambda: host)
    assert discipline.told(0) == host
    host[Timex.MAXERROR] = 3000
    assert discipline.told(10 * S)[Timex.MAXERROR] == 3000
    discipline.wall_was_set(by_program=False)
    assert discipline.told(10 * S) == host


def test_one_thing_set_makes_all_the_clocks_own() -> None:
    host = fields(TICK=10001, STATUS=STA_PLL, MAXERROR=1000, OFFSET=-7)
    discipline = Discipline(lambda: host)
    discipline.set(ADJ_FREQUENCY, fields(FREQUENCY=65536), 5 * S)
    host[:] = fields()
    told = discipline.told(5 * S)
    assert told == fields(FREQUENCY=65536, TICK=10001, STATUS=STA_PLL, MAXERROR=1000, OFFSET=-7)
    assert host == fields()


def test_an_own_clock_may_be_further_off_with_each_second() -> None:
    discipline = Discipline(lambda: fields(STATUS=STA_PLL))
    discipline.set(ADJ_MAXERROR, fields(MAXERROR=1000), S // 2)
    assert discipline.told(S)[Timex.MAXERROR] == 1000
    assert discipline.told(S + S // 2)[Timex.MAXERROR] == 1500
    assert discipline.told(3 * S)[Timex.MAXERROR] == 2000
    told = discipline.told(10**6 * S)
    assert (told[Timex.MAXERROR], told[Timex.STATUS]) == (LIMIT_US, STA_PLL | STA_UNSYNC)


def test_a_clock_that_was_set_is_not_synchronized() -> None:
    discipline = Discipline(lambda: fields(STATUS=STA_PLL, OFFSET=5, FREQUENCY=7))
    discipline.wall_was_set()
    told = discipline.told(0)
    assert told == fields(
        STATUS=STA_PLL | STA_UNSYNC, FREQUENCY=7, MAXERROR=LIMIT_US, ESTERROR=LIMIT_US
    )
    discipline.set(ADJ_STATUS, fields(STATUS=STA_PLL), 0)
    assert state_of(discipline.told(0)[Timex.STATUS]) == TIME_OK
    discipline.wall_was_set(by_program=False)
    assert state_of(discipline.told(0)[Timex.STATUS]) == TIME_ERROR


def test_the_offset_of_a_host_in_nanoseconds() -> None:
    discipline = Discipline(lambda: fields(STATUS=STA_PLL | STA_NANO, OFFSET=-1999))
    assert discipline.told(0)[Timex.OFFSET] == -1999
    discipline.set(ADJ_STATUS, fields(STATUS=0), 0)  # STA_NANO goes with STA_PLL
    assert discipline.told(0)[Timex.OFFSET] == -1


def test_a_leap_second_of_the_host_is_not_the_clocks() -> None:
    discipline = Discipline(lambda: fields(STATUS=STA_PLL | STA_INS | STA_DEL))
    assert discipline.told(0)[Timex.STATUS] == STA_PLL


def test_a_host_that_may_not_be_asked() -> None:
    """What the kernel has at boot."""
    told = Discipline(list).told(0)
    assert told == fields(
        MAXERROR=LIMIT_US,
        ESTERROR=LIMIT_US,
        STATUS=STA_UNSYNC,
        CONSTANT=2,
        PRECISION=1,
        TOLERANCE=500 << 16,
        TICK=10_000,
    )
