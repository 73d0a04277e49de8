"""The history of a line for stamps of files, against what `Lines` say of the same instants."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vdsotime.abi import structure
from pytest_vdsotime.stamps import HISTORY_SIZE, Stamps
from pytest_vdsotime.timeline import (
    NS_PER_S,
    Lines,
    Rate,
    check_range,
    host_wall_ns,
    initial_lines,
    now_ns,
)

DAY_S = 24 * 3600


@pytest.fixture
def begin() -> Iterator[Callable[[Lines], Stamps]]:
    made: list[Stamps] = []

    def begin(lines: Lines) -> Stamps:
        made.append(Stamps(lines))
        return made[-1]

    yield begin
    for stamps in made:
        stamps.close()


def history(stamps: Stamps) -> ctypes.Structure:
    return structure("stamps").from_address(stamps.address)


def lines_at(start_ns: int, rate: float = 0.0) -> Lines:
    return initial_lines(start_ns, Rate.of(rate), "flow", now_ns())


def told(stamps: Stamps, stamp_ns: int) -> int | None:
    found = stamps.reading(*divmod(stamp_ns, NS_PER_S))
    return None if found is None else found[0] * NS_PER_S + found[1]


def expected(lines: Lines, stamp_ns: int) -> int:
    """What a line reads where the host's wall clock reads a stamp."""
    return lines.wall.at(stamp_ns - host_wall_ns(0))


RATES = st.sampled_from([0, 1, 60, 1 / 3, 1e6]) | st.floats(0, 1e6)
STARTS = st.integers(-(10**10), 10**11)  # seconds: the years 1653 to 5138


def moves() -> st.SearchStrategy[Callable[[Lines, int], Lines]]:
    spans = st.integers(0, 400 * DAY_S * NS_PER_S)
    return st.one_of(
        spans.map(lambda by_ns: lambda lines, now: lines.advanced(now, by_ns)),
        STARTS.map(lambda to_s: lambda lines, now: lines.moved_to(now, to_s * NS_PER_S)),
        RATES.map(lambda rate: lambda lines, now: lines.at_rate(now, Rate.of(rate))),
        st.integers(-(10**9), 10**9).map(lambda by_ns: lambda lines, _: lines.stepped(by_ns)),
    )


@settings(max_examples=150, deadline=None)
@given(
    start_s=STARTS,
    rate=RATES,
    history_of=st.lists(moves(), max_size=30),
    ages=st.lists(st.floats(0, 1), min_size=5, max_size=20),
)
def test_a_stamp_reads_as_the_line_did_then(
    start_s: int,
    rate: float,
    history_of: list[Callable[[Lines, int], Lines]],
    ages: list[float],
) -> None:
    lines = lines_at(start_s * NS_PER_S, rate)
    stamps = Stamps(lines)
    try:
        whole = history(stamps)
        were = {whole.pieces[0].from_ns: lines}
        for move in history_of:
            moved = move(lines, now_ns())
            try:
                check_range(moved.wall.at(now_ns()), "")
            except ValueError:
                continue
            lines = moved
            stamps.note(lines)
            were.setdefault(whole.pieces[whole.count - 1].from_ns, lines)
        began, now = min(were), time.time_ns()
        picked = {began + round((now - began) * age) for age in ages}
        picked |= {from_ns + by for from_ns in were for by in (-1, 0, 1)}
        for stamp_ns in picked:
            if stamp_ns < began:
                assert told(stamps, stamp_ns) is None
            else:
                then = were[max(from_ns for from_ns in were if from_ns <= stamp_ns)]
                assert told(stamps, stamp_ns) == expected(then, stamp_ns)
    finally:
        stamps.close()


def test_what_is_not_of_the_clocks_life_is_as_it_is(begin: Callable[[Lines], Stamps]) -> None:
    before_ns = time.time_ns()
    stamps = begin(lines_at(0))
    outside = [0, -NS_PER_S, before_ns, time.time_ns() + NS_PER_S, 2**63 - 1, 2**63 * 3 // 2]
    assert [told(stamps, stamp_ns) for stamp_ns in outside] == [None] * len(outside)
    assert stamps.reading(-(2**63), 999_999_999) is None
    assert stamps.reading(2**63 - 1, 999_999_999) is None
    assert told(stamps, time.time_ns()) == 0


def test_what_a_program_has_set_is_as_it_was_set(begin: Callable[[Lines], Stamps]) -> None:
    stamps = begin(lines_at(0))
    set_ns = [time.time_ns() + number for number in range(30_000)]
    for stamp_ns in set_ns:
        stamps.keep(*divmod(stamp_ns, NS_PER_S))
    assert [stamp_ns for stamp_ns in set_ns if told(stamps, stamp_ns) is not None] == []
    # Nothing outside of its life needs to be known.
    known = history(stamps).kept_count
    for seconds in (-1, 0, 2**63 - 1, -(2**63), 2**64, int(time.time()) + 200 * DAY_S):
        stamps.keep(seconds, 0)
    assert history(stamps).kept_count == known


def test_of_more_moves_the_older_ones_are_told_less_finely(
    begin: Callable[[Lines], Stamps],
) -> None:
    stamps = begin(lines_at(0))
    whole, most = history(stamps), 65536
    was: list[tuple[int, int]] = []
    for number in range(1, most + 20_000):
        stamps.note(lines_at(number * NS_PER_S))
        was.append((whole.pieces[whole.count - 1].from_ns, number))
        assert whole.count <= most
    assert told(stamps, whole.pieces[0].from_ns) == 0
    newest = [told(stamps, stamp_ns) == number * NS_PER_S for stamp_ns, number in was[-20_000:]]
    assert all(newest)
    older = [(told(stamps, stamp_ns), number) for stamp_ns, number in was[:20_000]]
    late = {number - (found or 0) // NS_PER_S for found, number in older}
    assert {0, 1} <= late <= {0, 1, 2, 3}


def test_files_tell_moves_apart(begin: Callable[[Lines], Stamps], tmp_path: Path) -> None:
    """However soon one follows the other, on a file system of the disk and one of memory."""
    stamps = begin(lines_at(0))
    memory = os.memfd_create("file")
    try:
        for number in range(1, 300):
            path = tmp_path / str(number)
            path.write_text("before")
            os.pwrite(memory, b"before", 0)
            before = [path.stat().st_mtime_ns, os.fstat(memory).st_mtime_ns]
            stamps.note(lines_at(number * NS_PER_S))
            path.write_text("behind")
            os.pwrite(memory, b"behind", 0)
            behind = [path.stat().st_mtime_ns, os.fstat(memory).st_mtime_ns]
            assert [told(stamps, one) for one in before] == [(number - 1) * NS_PER_S] * 2
            assert [told(stamps, one) for one in behind] == [number * NS_PER_S] * 2
    finally:
        os.close(memory)


def test_a_history_moves(begin: Callable[[Lines], Stamps]) -> None:
    """Onto the page of the clock, when its first program comes."""
    stamps = begin(lines_at(0))
    for number in range(1, 100):
        stamps.note(lines_at(number * NS_PER_S))
    pieces = [(piece.from_ns, piece.sec) for piece in history(stamps).pieces[:100]]
    with mmap.mmap(-1, HISTORY_SIZE) as memory:
        stamps.move_to(memory)
        for from_ns, seconds in pieces:
            assert told(stamps, from_ns) == seconds * NS_PER_S
        stamps.note(lines_at(0))
        assert told(stamps, time.time_ns()) == 0
