"""The shared page: the stub's arithmetic is timeline's.

The fake vDSO is mapped into this very process, as the loader maps it into a program, and called.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import abi, image, page
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.image import HostVdso
from pytest_vdsotime.page import ClockPage, pack_body
from pytest_vdsotime.timeline import (
    CLOCK_MONOTONIC_COARSE,
    CLOCKS,
    EARLIEST_NS,
    LATEST_NS,
    NO_OFFSETS,
    HostClocks,
    Line,
    Lines,
    Rate,
    TimeOffsets,
    initial_lines,
)

Examples = Callable[..., Callable[[Callable[..., None]], None]]

S = 1_000_000_000


class Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_int64), ("nsec", ctypes.c_int64))


READ_CLOCK = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int, ctypes.POINTER(Timespec))


class MappedStub:
    """The fake vDSO in this process, on a page of its own."""

    def __init__(self) -> None:
        arch = host_arch()
        self.fake = image.fake_vdso(arch)
        self.page = ClockPage(initial_lines(0, Rate.of(0), "flow", 0), {arch.name: self.fake.data})
        self.size = self.page.parts[arch.name].size
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        self._memory = mmap.mmap(-1, self.size, mmap.MAP_PRIVATE, protection)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._memory[page.HEADER_SIZE : page.HEADER_SIZE + len(self.fake.data)] = self.fake.data
        with open("/proc/self/maps") as maps:
            vdso = next(line for line in maps if "[vdso]" in line)
        entries = HostVdso.of_process("self", arch).process_entries(
            int(vdso.split("-")[0], 16), self.page.cookie
        )
        self._memory[page.PAGE_SIZE : page.PAGE_SIZE + len(entries)] = entries
        self.host = {time.CLOCK_MONOTONIC: 0, CLOCK_MONOTONIC_COARSE: 0}

        def read_host(clock_id: int, result: Any) -> int:
            result[0] = Timespec(*divmod(self.host[clock_id], S))
            return 0

        self._read_host = READ_CLOCK(read_host)

    def have_host(self) -> None:
        """Has it read the host's clocks in `host` from here on."""
        address = ctypes.cast(self._read_host, ctypes.c_void_p).value
        entries = abi.pack("vdso_process", clock_gettime=address)
        self._memory[page.PAGE_SIZE : page.PAGE_SIZE + len(entries)] = entries

    def show(self, lines: Lines, host: HostClocks, ahead: TimeOffsets = NO_OFFSETS) -> None:
        body = pack_body(lines, host, private=False, ahead=ahead)
        self._memory[: 4 + len(body)] = struct.pack("=I", 0) + body

    def read_ns(self, clock_id: int) -> int:
        offset = self.fake.offset(host_arch().vdso_entries[0])
        assert offset is not None
        now = Timespec()
        assert READ_CLOCK(self.address + page.HEADER_SIZE + offset)(clock_id, now) == 0
        assert 0 <= now.nsec < S
        return int(now.sec) * S + int(now.nsec)


@pytest.fixture
def stub() -> Iterator[MappedStub]:
    mapped = MappedStub()
    yield mapped
    mapped.page.close()


@pytest.mark.parametrize(
    "start_ns", [-62_135_596_800 * S, -1, 0, 1, 2**31 * S, 253_402_300_799 * S]
)
def test_frozen_readings(stub: MappedStub, start_ns: int) -> None:
    host = HostClocks.read()
    lines = initial_lines(start_ns, Rate.of(0), "freeze", 7 * S + 5)
    stub.show(lines, host)
    for clock_id, offset_ns in host.offsets_ns.items():
        expected_ns = lines.line(CLOCKS[clock_id].line).base_ns + offset_ns
        assert stub.read_ns(clock_id) == expected_ns


@pytest.mark.parametrize("rate", [1, 60, 0.1, 1 / 3, 1e-9, 1e9, 2.0**62])
@pytest.mark.parametrize("start_ns", [-62_135_596_800 * S, -1, 0, 2**32 * S + 999_999_999])
def test_moving_readings_are_the_timelines(stub: MappedStub, rate: float, start_ns: int) -> None:
    host_ns = max(time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 3600 * S, 0)
    lines = initial_lines(start_ns, Rate.of(rate), "rate", host_ns)
    stub.show(lines, HostClocks.read())
    for clock_id in (0, 1, 5, 6):
        row = CLOCKS[clock_id]
        before = lines.line(row.line).at(time.clock_gettime_ns(row.host_id))
        reading = stub.read_ns(clock_id)
        assert before <= reading <= lines.line(row.line).at(time.clock_gettime_ns(row.host_id))


@pytest.mark.parametrize("rate", [0, 1, 60, 1 / 3])
@pytest.mark.parametrize("ahead", [(1000 * S + 7, 5 * S), (-(10**6) * S, -1), (0, S)])
def test_readings_in_another_time_namespace(
    stub: MappedStub, rate: float, ahead: tuple[int, int]
) -> None:
    """The stub finds the host's clock as a program does there at another moment; a line may have
    begun before it did."""
    offsets, host = TimeOffsets(*ahead), HostClocks.read()
    start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - max(offsets.monotonic_ns, 0) - 60 * S
    lines = initial_lines(-5 * S, Rate.of(rate), "rate", start_ns)
    stub.show(lines, host, offsets)
    for clock_id, offset_ns in host.offsets_ns.items():
        row = CLOCKS[clock_id]
        line, own_ns = lines.line(row.line), offset_ns + offsets.of(clock_id)
        before_ns = time.clock_gettime_ns(row.host_id) - offsets.monotonic_ns
        reading_ns = stub.read_ns(clock_id)
        after_ns = time.clock_gettime_ns(row.host_id) - offsets.monotonic_ns
        assert line.at(before_ns) + own_ns <= reading_ns <= line.at(after_ns) + own_ns


def test_any_line_is_read_to_the_last_bit(examples: Examples, stub: MappedStub) -> None:
    """By every clock, of a host that stands still."""
    instants = st.integers(EARLIEST_NS, LATEST_NS)
    rates = st.floats(0, 1e6) | st.integers(0, 10**6) | st.sampled_from([0, 1, 5e-324, 2.0**62])
    elapsed = st.integers(0, 2**62) | st.integers(0, 3 * S)
    ahead = st.builds(TimeOffsets, *(st.integers(-(10**15), 10**15),) * 2)
    distances = st.integers(-(10**15), 10**15)
    stub.have_host()

    @examples(
        *(instants, instants, rates, rates, st.integers(10**15, 2**61), elapsed),
        *(st.integers(0, 4_000_000), distances, ahead | st.just(NO_OFFSETS)),
        count=100,
    )
    def check(
        wall_ns: int,
        monotonic_ns: int,
        wall_rate: float,
        monotonic_rate: float,
        start_ns: int,
        elapsed_ns: int,
        since_tick_ns: int,
        distance_ns: int,
        ahead: TimeOffsets,
    ) -> None:
        lines = Lines(
            Line(wall_ns, start_ns, Rate.of(wall_rate)),
            Line(monotonic_ns, start_ns, Rate.of(monotonic_rate)),
            monotonic_follows_rate=False,
        )
        clocks = HostClocks({clock_id: distance_ns * (clock_id > 6) for clock_id in CLOCKS})
        stub.show(lines, clocks, ahead)
        host = {time.CLOCK_MONOTONIC: start_ns + elapsed_ns}
        host[CLOCK_MONOTONIC_COARSE] = host[time.CLOCK_MONOTONIC] - since_tick_ns
        stub.host = {one: reading_ns + ahead.monotonic_ns for one, reading_ns in host.items()}
        for clock_id, row in CLOCKS.items():
            expected_ns = lines.line(row.line).at(host[row.host_id])
            expected_ns += clocks.offsets_ns[clock_id] + ahead.of(clock_id)
            assert stub.read_ns(clock_id) == expected_ns, row


def test_a_line_that_starts_later_stands(stub: MappedStub) -> None:
    host_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 3600 * S
    stub.show(initial_lines(5, Rate.of(60), "rate", host_ns), HostClocks.read())
    assert stub.read_ns(0) == stub.read_ns(5) == 5


def test_a_point_is_as_far_away_as_the_host_says(stub: MappedStub) -> None:
    """Whoever reads a clock for a deadline, and then the host's for when that was, must not lose
    what passes between the two: it would end a wait before its time."""
    host_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 5 * S
    stub.page.change(lambda _: initial_lines(7 * S, Rate.of(2), "flow", host_ns))
    assert stub.page.reading_ns(0, host_ns) == 7 * S
    assert stub.page.reading_ns(0, host_ns + S) == 9 * S
    assert stub.page.reading_ns(1, host_ns + S) == host_ns + S


def test_the_memfd_is_sealed() -> None:
    clock = ClockPage(initial_lines(0, Rate.of(0), "flow", 0), {"x86_64": b"image"})
    try:
        writable = os.open(f"/proc/self/fd/{clock.fd}", os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.pwrite(writable, b"x", 0)
            with pytest.raises(PermissionError):
                os.truncate(writable, 0)
            with pytest.raises(PermissionError):
                mmap.mmap(writable, page.PAGE_SIZE, mmap.MAP_SHARED, mmap.PROT_WRITE)
            mmap.mmap(writable, page.PAGE_SIZE, mmap.MAP_SHARED, mmap.PROT_READ).close()
        finally:
            os.close(writable)
    finally:
        clock.close()


def test_a_change_that_raises_changes_nothing() -> None:
    first = initial_lines(0, Rate.of(0), "flow", 0)
    clock = ClockPage(first, {"x86_64": b"image"})
    try:
        before = os.pread(clock.fd, 300, 4)

        def fail(_host_ns: int) -> Lines:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            clock.change(fail)
        assert clock.lines is first
        assert os.pread(clock.fd, 300, 4) == before
        assert struct.unpack("=I", os.pread(clock.fd, 4, 0))[0] % 2 == 0
    finally:
        clock.close()


@pytest.mark.parametrize("rate", [0, 1, 60, 1 / 3])
def test_what_the_native_part_moves_is_current_at_once(rate: float) -> None:
    lines = initial_lines(-5 * S, Rate.of(rate), "flow", 60 * S)
    clock = ClockPage(lines, {"x86_64": b"image"})
    try:
        assert clock.current() is lines
        move_lines = ctypes.PyDLL(image.tracer_path(host_arch())).move_lines
        move_lines(ctypes.c_uint64(clock.address), None, ctypes.c_uint64(7 * S + 1))
        assert clock.current() == lines.shifted(7 * S + 1) != clock.lines
        clock.was_advanced(7 * S + 1)
        assert clock.current() is clock.lines == lines.shifted(7 * S + 1)
    finally:
        clock.close()
    assert clock.current() is clock.lines


class Recorded:
    """A private copy that can lose its program."""

    offsets = NO_OFFSETS

    address = 0

    def __init__(self) -> None:
        self.data = bytearray(300)
        self.is_gone = False

    def open(self) -> int:
        raise AssertionError("the native part has no program to write to")

    def write(self, offset: int, data: bytes) -> None:
        if self.is_gone:
            raise ProcessLookupError
        self.data[offset : offset + len(data)] = data


def test_copies_follow_until_their_program_is_gone() -> None:
    clock = ClockPage(initial_lines(0, Rate.of(0), "flow", 0), {"x86_64": b"image"})
    try:
        copy, lost = Recorded(), Recorded()
        lost.is_gone = True
        clock.copies += [copy, lost]
        clock.change(lambda host_ns: clock.lines.moved_to(host_ns, 42 * S))
        assert clock.copies == [copy]
        assert bytes(copy.data).startswith(clock.private_copy())
    finally:
        clock.close()
