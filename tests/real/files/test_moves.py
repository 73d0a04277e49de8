"""A file keeps the time at which it was written, however the clock has gone since then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from tests.real.files.conftest import Shell

START = "2038-01-19T03:14:07Z"
START_S = 2**31 - 1
AT = "2038-01-19 03:14:07.000000000 +0000"
SET = "2001-02-03 04:05:06.123456789 +0000"
CEILING_S = 30  # of real time
TICK_NS = 20_000_000  # longer than one of the kernel's, which is how fine stamps are

Find = Callable[[str], str]


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_each_file_keeps_its_time(monotonic: str, shell: Shell) -> None:
    """Wherever the clock goes, on to later times and back to earlier ones."""
    each = {
        "2038": AT,
        "2039": "2039-01-19 03:14:07.000000000 +0000",
        "2020": "2020-02-29 00:00:00.000000000 +0000",
        "1969": "1969-07-20 20:17:40.250000000 +0000",
        "later": "1969-07-20 21:17:40.250000000 +0000",
        "2150": "2150-01-01 00:00:00.123456789 +0000",
    }
    moves: list[Callable[[FrozenClock], None]] = [
        lambda clock: clock.settle(),
        lambda clock: clock.advance(days=365),
        lambda clock: clock.move_to("2020-02-29"),
        lambda clock: clock.move_to("1969-07-20T20:17:40.25Z"),
        lambda clock: clock.jump(hours=1),
        lambda clock: clock.move_to("2150-01-01T00:00:00.123456789Z"),
    ]
    written: list[str] = []
    with FrozenClock(START, files="follow", monotonic=monotonic) as clock:
        for move, name in zip(moves, each, strict=True):
            move(clock)
            written.append(name)
            said = shell(clock, f"echo >>all; touch {name}; stat -c '%y|%w' $@ all", *written)
            assert said == [f"{each[one]}|{each[one]}" for one in written] + [f"{each[name]}|{AT}"]
        assert shell(clock, "ls -t $@", *written) == sorted(each, key=each.__getitem__)[::-1]


# When a file is written, three stamps of its, and when that is done.
WRITES = """
for i in {1..10}; do
    echo $(date +%s.%N; echo >$1$i; stat -c '%.9Y %.9Z %.9W' $1$i; date +%s.%N)
done
"""


@pytest.mark.parametrize("rate", [1, 0.5, 3600])
@pytest.mark.parametrize("files", ["follow", "real"])
def test_on_a_flowing_clock(rate: float, files: str, shell: Shell) -> None:
    with FrozenClock(START, files=files, rate=rate) as clock:
        for turn, then in ("a", "2020-02-29"), ("b", "2040-02-29"), ("c", None):
            tick = Decimal(clock.rate * TICK_NS) / 10**9
            for line in shell(clock, WRITES, turn):
                before, *stamps, after = map(Decimal, line.split())
                agree = [before - tick <= stamp <= after for stamp in stamps]
                assert agree == [files == "follow"] * 3, line
            if then:
                clock.rate *= 2
                clock.move_to(then)


# Each file holds what the clock read when it was written, in nanoseconds, and perl's in seconds.
LOOPS = {
    "bash": "for i in {100..160}; do sleep 60; date +%s%N >$i; done",
    "perl": """exec perl -e '
        for my $i (200 .. 499) { sleep 60; open F, ">", $i; print F time; close F }'""",
    # Many of its sleeps are shorter than the host's ticks.
    "python": """exec python3 -c '
import time
for i in range(500, 999):
    time.sleep((60, 0.001, 0.25, 3600, 0.000001)[i % 5])
    with open(str(i), "w") as file:
        print(time.time_ns(), file=file)'""",
}


@pytest.mark.parametrize(
    ("files", "is_native"),
    [("follow", True), ("follow", False), ("real", True)],
    ids=["follow-native", "follow-python", "real"],
)
def test_what_is_written_while_time_passes(
    is_native: bool, files: str, tmp_path: Path, shell: Shell, real_program: Find
) -> None:
    """Each file has the very time at which its program wrote it."""
    with (
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, START, monotonic="freeze", files=files) as clock,
    ):
        programs = [
            clock.popen([real_program("bash"), "-c", loop], cwd=tmp_path) for loop in LOOPS.values()
        ]
        clock.advance(minutes=7)
        clock.advance(minutes=70, seconds=0.5)
        clock.move_to("2020-02-29T12:34:56.789Z")
        for _ in range(20):
            clock.advance(minutes=11)
        clock.move_to("2040-02-29")
        clock.advance(days=7)
        assert [program.wait(CEILING_S) for program in programs] == [0, 0, 0]
        said = [line.split() for line in shell(clock, "stat -c '%n %.9Y %.9Z %.9W' *")]
    assert len(said) == 61 + 300 + 499
    wrong = []
    for name, *stamps in said:
        time_ = (tmp_path / name).read_text().strip()
        if any(stamp.replace(".", "")[: len(time_)] != time_ for stamp in stamps):
            wrong.append((name, time_, stamps))
    if files == "follow":
        assert not wrong, (len(wrong), wrong[:5])
    else:
        assert len(wrong) == len(said)


MANY = """
for my $i (1 .. 100_000) {
    sleep 60;
    next if $i % 2000;
    open F, ">", $i; print F time; close F
}
"""


def test_when_the_clock_has_moved_a_hundred_thousand_times(
    shell: Shell, tmp_path: Path, real_program: Find
) -> None:
    """Half of the older moves are forgotten then: what was written is told as a move before."""
    with FrozenClock(START, monotonic="freeze", files="follow") as clock:
        shell(clock, "touch first")
        program = clock.popen([real_program("perl"), "-e", MANY], cwd=tmp_path)
        clock.advance(minutes=100_000)
        assert program.wait(CEILING_S) == 0
        said = shell(clock, "stat -c '%n %Y' $(seq 2000 2000 100000) first")
        late = [
            int((tmp_path / name).read_text()) - int(at) for name, at in map(str.split, said[:-1])
        ]
        assert set(late) <= {0, 60}
        assert set(late[-25:]) == {0}
        assert said[-1] == f"first {START_S}"


@pytest.mark.parametrize(
    "parameters", [{"autojump": True}, {"rate": 36000, "monotonic": "rate"}], ids=str
)
def test_a_day_of_hours(parameters: dict[str, Any], shell: Shell) -> None:
    """In a world of which nobody moves the clock."""
    tick = Decimal(parameters.get("rate", 1) * TICK_NS) / 10**9
    with FrozenClock(START, files="follow", **parameters) as clock:
        hours = shell(
            clock,
            "for i in {1..10}; do sleep 3600; "
            "echo $(date +%s.%N | tee $i; stat -c %.9Y $i; date +%s.%N); done",
        )
        for i, line in enumerate(hours, 1):
            before, stamp, after = map(Decimal, line.split())
            assert before - tick <= stamp <= after
            assert before >= START_S + 3600 * i


def test_each_clock_has_its_own_time_of_one_file(shell: Shell) -> None:
    """Two at once, of which either has been moved while the other stood."""
    with (
        FrozenClock(START, files="follow") as one,
        FrozenClock("2020-02-29", files="follow") as two,
        FrozenClock("2010-10-10", files="real") as neither,
    ):
        ones, twos = AT, "2020-02-29 00:00:00.000000000 +0000"
        shell(one, "touch a")
        assert [shell(clock, "stat -c %y a") for clock in (one, two)] == [[ones], [twos]]
        one.move_to("2050-01-01")
        shell(two, "touch b")
        shell(neither, "touch c")
        moved = "2050-01-01 00:00:00.000000000 +0000"
        assert shell(one, "stat -c %y a b c") == [ones, moved, moved]
        assert shell(two, "stat -c %y a b c") == [twos] * 3
        two.move_to("1990-09-09")
        shell(one, 'touch a; touch -d "$1" d', SET)
        assert shell(one, "stat -c %y a b d") == [moved, moved, SET]
        assert shell(two, "stat -c %y a b d") == ["1990-09-09 00:00:00.000000000 +0000", twos, SET]
        assert shell(neither, "stat -c %y a d")[0][:4] not in ("2050", "2010", "1990")
