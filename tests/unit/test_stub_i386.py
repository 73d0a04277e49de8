"""The native objects for 32-bit programs: a 32-bit process runs them, at the orders of this one.

Its fake vDSO reads a host's clock that the tests set, so that every reading is known to the last
bit, or the kernel's own.
"""

from __future__ import annotations

import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Symbol, SymbolTableSection
from hypothesis import strategies as st

from pytest_vdsotime import abi, image, page
from pytest_vdsotime.arch.i386 import I386
from pytest_vdsotime.image import Loader, VdsoImage
from pytest_vdsotime.page import ClockPage, pack_body
from pytest_vdsotime.timeline import (
    CLOCKS,
    EARLIEST_NS,
    LATEST_NS,
    HostClocks,
    Line,
    Lines,
    Rate,
    initial_lines,
)

if TYPE_CHECKING:
    from conftest import Builder

Examples = Callable[..., Callable[[Callable[..., None]], None]]

S = 1_000_000_000
STARTS_NS = [-62_135_596_800 * S, -1, 0, 1, 2**31 * S, 2**32 * S + 999_999_999, 253_402_300_799 * S]
RATES = [60, 0.1, 1 / 3, 1e-9, 1e9, 2.0**-60, 2.0**62, 0.5 + 2**-52]
SCRATCH_OFFSET = 8 * page.PAGE_SIZE  # behind the image, in the process's memory
CUT = 2**32


class Places(NamedTuple):
    """tests/programs/helpers/stub_i386.c"""

    memory: int
    kernel: int
    host: int
    read_host: int
    entered: int


class Registers(NamedTuple):
    ax: int
    bx: int
    cx: int
    dx: int
    si: int
    di: int
    bp: int
    sp: int
    ip: int


class Stub:
    """A 32-bit process with the fake vDSO in its memory."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.places = Places._make(struct.unpack("=5I", self._receive(20)))
        self.scratch = self.places.memory + SCRATCH_OFFSET
        self.fake = image.fake_vdso(I386)
        self.kernel = VdsoImage.parse(self.read(self.places.kernel, 2 * page.PAGE_SIZE))
        self.write(self.places.memory + page.HEADER_SIZE, self.fake.data)
        self.use()

    def _send(self, what: int, address: int, a: int = 0, b: int = 0, data: bytes = b"") -> None:
        assert self.process.stdin is not None
        arguments = (number % CUT for number in (address, a, b))
        self.process.stdin.write(struct.pack("=4I", what, *arguments) + data)

    def _receive(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = self.process.stdout.read(size)
        assert len(data) == size, "the process has ended"
        return data

    def write(self, address: int, data: bytes) -> None:
        self._send(1, address, len(data), data=data)

    def read(self, address: int, size: int) -> bytes:
        self._send(2, address, size)
        return self._receive(size)

    def call_address(self, address: int, a: int = 0, b: int = 0) -> int:
        self._send(3, address, a, b)
        return int.from_bytes(self._receive(4), "little", signed=True)

    def call(self, name: str, a: int = 0, b: int = 0) -> int:
        """What a function of the fake vDSO returns."""
        offset = self.fake.offset(name)
        assert offset is not None
        return self.call_address(self.places.memory + page.HEADER_SIZE + offset, a, b)

    def start(self, address: int, stack: int) -> Registers:
        """The registers with which a program begins that starts at `address`."""
        self._send(4, address, stack)
        return Registers._make(struct.unpack("=9I", self._receive(36)))

    def values(self, form: str, name: str, a: int = 0, b: int | None = None) -> tuple[int, ...]:
        """Calls a function, with the address of what it fills as its argument `a` or `b`."""
        self.write(self.scratch, b"\xaa" * 64)
        arguments = (self.scratch,) if b is None else (a, self.scratch)
        assert self.call(name, *arguments) == 0
        size = struct.calcsize(form)
        assert self.read(self.scratch + size, 8) == b"\xaa" * 8
        return struct.unpack(form, self.read(self.scratch, size))

    def clock_ns(self, clock_id: int) -> int:
        """By clock_gettime64."""
        sec, nsec = self.values("=qq", "__vdso_clock_gettime64", clock_id, 0)
        assert 0 <= nsec < S
        return sec * S + nsec

    def show(self, lines: Lines, host: HostClocks, *, private: bool = False) -> None:
        body = pack_body(lines, host, private=private)
        self.write(self.places.memory, struct.pack("=I", 0) + body)

    def use(self, **entries: int) -> None:
        """Fills in the process page; by default with the kernel's own functions."""
        kernels = {}
        for (name, _), symbol in zip(abi.fields("vdso_process"), I386.vdso_entries, strict=False):
            offset = self.kernel.offset(symbol)
            kernels[name] = self.places.kernel + offset if offset else 0
        packed = abi.pack("vdso_process", **{**kernels, **entries})
        self.write(self.places.memory + page.PAGE_SIZE, packed[: page.MARK_OFFSET])

    def set_host(self, host_ns: int, tick_ns: int | None = None) -> None:
        """Makes `host_ns` the reading of the host's monotonic clock, `tick_ns` that of its last
        tick, by default at the same time."""
        readings = *divmod(host_ns, S), *divmod(host_ns if tick_ns is None else tick_ns, S)
        self.write(self.places.host, struct.pack("=4q", *readings))
        self.use(clock_gettime=self.places.read_host)


@pytest.fixture
def stub(build: Builder) -> Iterator[Stub]:
    program = build.c("helpers/stub_i386", "i386")
    pipe = subprocess.PIPE
    with subprocess.Popen([program], bufsize=0, stdin=pipe, stdout=pipe) as process:
        try:
            yield Stub(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
    assert process.returncode == 0


def signed(number: int) -> int:
    """Cut to 32 bits."""
    return (number + 2**31) % CUT - 2**31


def symbols_of(name: str) -> list[Symbol]:
    """The symbol table of a native object, the local ones too."""
    with (image.NATIVE / name).open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return list(table.iter_symbols())


def check_wall(stub: Stub, expected_ns: int, tick_ns: int | None = None) -> None:
    """Every function that reads the wall clock, of a host that stands still; `tick_ns` is what it
    read at the host's last tick, by default the same."""
    sec, nsec = divmod(expected_ns, S)
    assert stub.clock_ns(0) == expected_ns
    assert stub.values("=ii", "__vdso_clock_gettime", 0, 0) == (signed(sec), nsec)
    assert stub.values("=ii", "__vdso_gettimeofday") == (signed(sec), nsec // 1000)
    sec, nsec = divmod(expected_ns if tick_ns is None else tick_ns, S)
    assert stub.clock_ns(5) == sec * S + nsec
    assert stub.values("=ii", "__vdso_clock_gettime", 5, 0) == (signed(sec), nsec)
    assert stub.call("__vdso_time") == signed(sec)
    stub.write(stub.scratch, bytes(8))
    assert stub.call("__vdso_time", stub.scratch) == signed(sec)
    assert struct.unpack("=iI", stub.read(stub.scratch, 8)) == (signed(sec), 0)


@pytest.mark.parametrize("start_ns", STARTS_NS)
def test_frozen_readings(stub: Stub, start_ns: int) -> None:
    host = HostClocks.read()
    lines = initial_lines(start_ns, Rate.of(0), "freeze", 7 * S + 5)
    for private in (False, True):
        stub.show(lines, host, private=private)
        for clock_id, offset_ns in host.offsets_ns.items():
            expected_ns = lines.line(CLOCKS[clock_id].line).base_ns + offset_ns
            assert stub.clock_ns(clock_id) == expected_ns
            sec, nsec = divmod(expected_ns, S)
            old = stub.values("=ii", "__vdso_clock_gettime", clock_id, 0)
            assert old == (signed(sec), nsec)
        check_wall(stub, start_ns)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("start_ns", STARTS_NS)
def test_moving_readings_are_the_timelines(stub: Stub, rate: float, start_ns: int) -> None:
    host_ns = 2**40 + 12_345
    lines = Lines(
        Line(start_ns, host_ns, Rate.of(rate)),
        Line(host_ns, host_ns, Rate.of(rate)),
        monotonic_follows_rate=True,
    )
    stub.show(lines, HostClocks.read())
    for elapsed_ns in (-S, -1, 0, 1, 999_999_999, 2**32 - 1, 2**32, 2**53 + 1, 2**62 + 2**31 + 7):
        stub.set_host(host_ns + elapsed_ns)
        check_wall(stub, lines.wall.at(host_ns + elapsed_ns))
        assert stub.clock_ns(1) == lines.monotonic.at(host_ns + elapsed_ns)


def test_any_line_is_read_to_the_last_bit(examples: Examples, stub: Stub) -> None:
    instants = st.integers(EARLIEST_NS, LATEST_NS)
    rates = st.floats(0, 1e6) | st.integers(0, 10**6) | st.sampled_from([0, 1, 5e-324, 2.0**62])
    elapsed = st.integers(0, 2**62) | st.integers(0, 3 * S)
    hosts = st.integers(10**9, 2**61)

    @examples(instants, rates, hosts, elapsed, st.integers(0, 4_000_000), count=30)
    def check(wall_ns: int, rate: float, start_ns: int, elapsed_ns: int, since_ns: int) -> None:
        lines = Lines(
            Line(wall_ns, start_ns, Rate.of(rate)),
            Line(start_ns, start_ns, Rate.of(rate)),
            monotonic_follows_rate=True,
        )
        stub.show(lines, HostClocks(dict.fromkeys(CLOCKS, 0)))
        host_ns, tick_ns = start_ns + elapsed_ns, start_ns + elapsed_ns - since_ns
        stub.set_host(host_ns, tick_ns)
        if rate:
            check_wall(stub, lines.wall.at(host_ns), lines.wall.at(tick_ns))
        else:
            check_wall(stub, wall_ns)
        assert stub.clock_ns(1) == lines.monotonic.at(host_ns)


@pytest.mark.parametrize("start_ns", STARTS_NS)
def test_ticking_readings_are_the_timelines(stub: Stub, start_ns: int) -> None:
    host_ns = 5 * S + 300_000_000
    lines = initial_lines(start_ns, Rate.of(1), "flow", host_ns)
    for private in (False, True):
        stub.show(lines, HostClocks.read(), private=private)
        for elapsed_ns in (0, 1, S - 1, S, 86_400 * S, 2**32 * S + 5):
            stub.set_host(host_ns + elapsed_ns)
            check_wall(stub, lines.wall.at(host_ns + elapsed_ns))


@pytest.mark.parametrize("rate", [1, *RATES])
def test_coarse_readings_are_the_last_ticks(stub: Stub, rate: float) -> None:
    """But not from before the start of their line, which may be between two ticks."""
    host_ns = 2**40 + 12_345
    lines = Lines(
        Line(7 * S - 1, host_ns, Rate.of(rate)),
        Line(host_ns, host_ns, Rate.of(rate)),
        monotonic_follows_rate=True,
    )
    for private in (False, True):
        stub.show(lines, HostClocks.read(), private=private)
        for tick_ns in (host_ns - 4_000_000, host_ns, host_ns + 1, host_ns + 2**53 + 1):
            stub.set_host(host_ns + 2**53 + 4_000_000, tick_ns)
            check_wall(stub, lines.wall.at(host_ns + 2**53 + 4_000_000), lines.wall.at(tick_ns))
            assert stub.clock_ns(1) == lines.monotonic.at(host_ns + 2**53 + 4_000_000)
            assert stub.clock_ns(6) == lines.monotonic.at(tick_ns)


def test_a_host_without_a_coarse_clock(stub: Stub) -> None:
    """Refuses its id; time(2) reads the exact one."""
    served = HostClocks({0: 0, 1: 0})
    for rate in (0, 1, 60):
        stub.show(initial_lines(3 * S, Rate.of(rate), "rate", S), served)
        stub.set_host(2 * S)
        assert stub.call("__vdso_time") == 3 + rate
        assert stub.call("__vdso_time") == stub.clock_ns(0) // S


@pytest.mark.parametrize("rate", [1, 60])
def test_the_hosts_clock_is_the_kernels(stub: Stub, rate: float) -> None:
    lines = initial_lines(0, Rate.of(rate), "rate", time.clock_gettime_ns(time.CLOCK_MONOTONIC))
    stub.show(lines, HostClocks.read())
    for clock_id in (0, 1, 5, 6):
        row = CLOCKS[clock_id]
        before = lines.line(row.line).at(time.clock_gettime_ns(row.host_id))
        reading = stub.clock_ns(clock_id)
        assert before <= reading <= lines.line(row.line).at(time.clock_gettime_ns(row.host_id))


def test_nowhere_to_put_it(stub: Stub) -> None:
    """A NULL timeval asks for the timezone alone, a second NULL for nothing (gettimeofday(2)); the
    timezone is the kernel's, by its function or by the call."""
    stub.show(initial_lines(3 * S, Rate.of(0), "freeze", S), HostClocks.read())
    assert stub.call("__vdso_gettimeofday") == 0
    answers = []
    for entry in ({}, {"gettimeofday": 0}):
        stub.use(**entry)
        stub.write(stub.scratch, b"\xaa" * 64)
        assert stub.call("__vdso_gettimeofday", 0, stub.scratch + 16) == 0
        assert stub.read(stub.scratch, 16) == b"\xaa" * 16
        assert stub.call("__vdso_gettimeofday", stub.scratch, stub.scratch + 16) == 0
        assert struct.unpack("=ii", stub.read(stub.scratch, 8)) == (3, 0)
        answers.append(stub.read(stub.scratch + 16, 16))
    assert answers[0] == answers[1]
    assert answers[0][8:] == b"\xaa" * 8 != answers[0][:8]


def test_other_ids_are_the_kernels(stub: Stub) -> None:
    stub.show(initial_lines(0, Rate.of(0), "freeze", S), HostClocks.read())
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for clock_id in (time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID):
        old_sec, old_nsec = stub.values("=ii", "__vdso_clock_gettime", clock_id, 0)
        used_ns = stub.clock_ns(clock_id)
        assert 0 < old_sec * S + old_nsec < used_ns < before
    EINVAL = -22
    for clock_id in (10, 12, 31, 32, 99, 2**31 - 1, -1):
        for name in ("clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64"):
            assert stub.call(f"__vdso_{name}", clock_id, stub.scratch) == EINVAL


def test_resolutions_are_the_kernels(stub: Stub) -> None:
    for entry in ({}, {"clock_getres": 0}):
        stub.use(**entry)
        for clock_id in (0, 1, 2, 4, 6, 7):
            expected = divmod(round(time.clock_getres(clock_id) * S), S)
            assert stub.values("=ii", "__vdso_clock_getres", clock_id, 0) == expected
            assert stub.values("=qq", "__vdso_clock_getres_time64", clock_id, 0) == expected
            assert stub.call("__vdso_clock_getres", clock_id) == 0
            assert stub.call("__vdso_clock_getres_time64", clock_id) == 0


def test_the_processor_is_the_kernels(stub: Stub) -> None:
    for entry in ({}, {"getcpu": 0}):
        stub.use(**entry)
        (cpu,) = stub.values("=I", "__vdso_getcpu")
        assert cpu in os.sched_getaffinity(stub.process.pid)
        (node,) = stub.values("=I", "__vdso_getcpu", 0, 0)
        assert Path(f"/sys/devices/system/node/node{node}").exists() or node == 0


def test_system_calls_and_signal_returns(stub: Stub) -> None:
    """Unwinders know the latter by these bytes (libgcc's config/i386/linux-unwind.h)."""
    vsyscall = stub.places.memory + page.HEADER_SIZE + (stub.fake.offset("__kernel_vsyscall") or 0)
    getpid = b"\xb8" + struct.pack("=I", abi.syscalls("i386")["getpid"])  # mov, jmp
    distance = vsyscall - (stub.scratch + len(getpid) + 5)
    stub.write(stub.scratch, getpid + b"\xe9" + struct.pack("=i", distance))
    assert stub.call_address(stub.scratch) == stub.process.pid
    for name, code in (
        ("__kernel_sigreturn", "58b877000000cd80"),
        ("__kernel_rt_sigreturn", "b8ad000000cd80"),
    ):
        fake, kernel = stub.fake.offset(name), stub.kernel.offset(name)
        assert fake is not None and kernel is not None
        expected = bytes.fromhex(code)
        assert stub.fake.data[fake:].startswith(expected)
        assert stub.kernel.data[kernel:].startswith(expected)


def test_it_has_every_symbol_of_the_kernels(stub: Stub) -> None:
    assert set(stub.kernel.symbols) <= set(stub.fake.symbols)
    assert set(stub.fake.symbols) == {
        ("__kernel_vsyscall", "LINUX_2.5"),
        ("__kernel_sigreturn", "LINUX_2.5"),
        ("__kernel_rt_sigreturn", "LINUX_2.5"),
        ("__vdso_clock_gettime", "LINUX_2.6"),
        ("__vdso_clock_gettime64", "LINUX_2.6"),
        ("__vdso_gettimeofday", "LINUX_2.6"),
        ("__vdso_time", "LINUX_2.6"),
        ("__vdso_clock_getres", "LINUX_2.6"),
        ("__vdso_clock_getres_time64", "LINUX_2.6"),
        ("__vdso_getcpu", "LINUX_2.6"),
    }


class Load:
    """The loader in a 32-bit process, as the tracer puts it there."""

    AUXV_OFFSET = 64  # of AT_SYSINFO_EHDR's value above the stack pointer

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.loader = Loader.of(I386)
        self.page = ClockPage(
            initial_lines(0, Rate.of(0), "freeze", S), {"x86_64": b"", "i386": stub.fake.data}
        )
        self.part = self.page.parts["i386"]
        self.block = stub.scratch
        self.stack = stub.scratch + 4 * page.PAGE_SIZE
        self.address = stub.places.kernel - 64 * page.PAGE_SIZE - self.part.size
        self.path = f"/proc/{os.getpid()}/fd/{self.page.fd}".encode()
        self.cookie = self.page.cookie

    def run(self) -> Registers:
        slot = self.stack + self.AUXV_OFFSET
        parameters = image.loader_parameters(
            entry=self.stub.places.entered,
            address=self.address,
            slot=slot,
            first_page=self.part.offset // page.PAGE_SIZE,
            length=self.part.size,
            stamps=(0, 0),
            cookie=self.cookie,
            process=struct.pack("=8Q", 0x1234_5678_9ABC, 2, 3, 4, 5, 6, 7, 8),
            path=self.path,
        )
        self.stub.write(self.block, self.loader.code)
        self.stub.write(self.stack - image.PARAMETERS_BELOW_STACK, parameters)
        self.stub.write(slot - 4, struct.pack("=III", 1, 2, 3))
        return self.stub.start(self.block + self.loader.entry_offset, self.stack)

    def auxv(self) -> tuple[int, ...]:
        return struct.unpack("=III", self.stub.read(self.stack + self.AUXV_OFFSET - 4, 12))

    def files(self) -> set[str]:
        return set(os.listdir(f"/proc/{self.stub.process.pid}/fd"))

    def mappings(self) -> list[str]:
        return Path(f"/proc/{self.stub.process.pid}/maps").read_text().splitlines()


@pytest.fixture
def load(stub: Stub) -> Iterator[Load]:
    load = Load(stub)
    yield load
    load.page.close()


def test_the_loader_starts_the_program(load: Load) -> None:
    files = load.files()
    assert load.run() == (0, 0, 0, 0, 0, 0, 0, load.stack, 0)
    image_address = load.address + page.HEADER_SIZE
    assert load.auxv() == (1, image_address, 3)
    assert load.files() == files
    mapped = [(int(line[:8], 16), line.split()[1]) for line in load.mappings()]
    # The marker page is part of the image's mapping.
    expected = zip(
        range(load.address, image_address, page.PAGE_SIZE), ("r--s", "r--p", "r-xp"), strict=True
    )
    ours = range(load.address, load.address + load.part.size)
    assert [(start, access) for start, access in mapped if start in ours] == list(expected)
    process = load.stub.read(load.address + page.PAGE_SIZE, 64)
    assert struct.unpack("=8Q", process) == (0x1234_5678_9ABC, 2, 3, 4, 5, 6, 7, 8)
    fake = load.stub.fake
    assert load.stub.read(image_address, len(fake.data)) == fake.data
    function = image_address + (fake.offset("__vdso_clock_gettime64") or 0)
    load.page.change(lambda host_ns: load.page.lines.moved_to(host_ns, 2**40 * S + 7))
    assert load.stub.call_address(function, 0, load.stub.scratch) == 0
    assert struct.unpack("=qq", load.stub.read(load.stub.scratch, 16)) == (2**40, 7)


def check_failure(load: Load, step: int, number: int) -> None:
    """It says step and errno in a system call that does not exist, then traps; and nothing of it is
    left."""
    files, mappings = load.files(), load.mappings()
    registers = load.run()
    assert registers.ip == load.block + load.loader.failed_offset + 1
    assert registers.sp == load.stack
    assert (registers.bx >> 16, registers.bx & 0xFFFF) == (step, number)
    assert step in image.LOADER_STEPS
    assert load.auxv() == (1, 2, 3)
    assert load.files() == files
    assert load.mappings() == mappings


def test_a_loader_that_cannot_open(load: Load) -> None:
    load.path = b"/proc/self/fd/99"
    check_failure(load, 1, 2)  # ENOENT


def test_a_loader_that_cannot_map(load: Load) -> None:
    load.address = load.stub.places.kernel - load.part.size + page.PAGE_SIZE
    check_failure(load, 2, 17)  # EEXIST


def test_a_loader_with_another_file(load: Load) -> None:
    load.cookie = bytes(8) + load.cookie[8:]
    check_failure(load, 3, 4095)  # which is no errno
    load.cookie = load.page.cookie[:8] + bytes(8)
    check_failure(load, 3, 4095)  # which is no errno


def test_a_loader_with_a_directory(load: Load) -> None:
    load.path = b"/"
    check_failure(load, 2, 19)  # ENODEV


def test_the_loader_fits(stub: Stub) -> None:
    """Behind the kernel's whole image and the jumps."""
    loader = Loader.of(I386)
    room = -len(stub.kernel.data) % page.PAGE_SIZE
    jumps = (len(set(stub.kernel.symbols.values())) - len(I386.kept_symbols)) * len(I386.jump(0))
    assert len(loader.code) <= room - jumps
    symbols = {symbol.name: symbol["st_value"] for symbol in symbols_of("i386/loader.elf")}
    assert 0 == symbols["loader_entry"] < symbols["loader_failed"] < len(loader.code)


def test_one_waker_serves_both() -> None:
    assert not (image.NATIVE / "i386" / "waker").exists()
