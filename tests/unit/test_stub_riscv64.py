"""The stub for 64-bit RISC-V, which has no loader yet: a process that qemu-riscv64 emulates runs
it, at the orders of this one.

It reads a host's clock that the tests set, so that every reading is known to the last bit, or
makes system calls.
"""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import abi, image, page
from pytest_vdsotime.image import VdsoImage
from pytest_vdsotime.page import pack_body
from pytest_vdsotime.timeline import CLOCKS, HostClocks, Line, Lines, Rate, initial_lines

if TYPE_CHECKING:
    from conftest import Builder

S = 1_000_000_000
VDSO = image.NATIVE / "riscv64" / "vdso.so"
STARTS_NS = [-62_135_596_800 * S, -1, 0, 1, 2**31 * S, 253_402_300_799 * S]
RATES = [60, 0.1, 1 / 3, 1e-9, 1e9, 0.5 + 2**-52]
SCRATCH_OFFSET = 8 * page.PAGE_SIZE  # behind the image, in the process's memory
EINVAL = -22


class Stub:
    """A process with the fake vDSO in its memory (tests/programs/helpers/stub_riscv64.c)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.memory, self.host, self.read_host = struct.unpack("=3Q", self._receive(24))
        self.scratch = self.memory + SCRATCH_OFFSET
        self.fake = VdsoImage.parse(VDSO.read_bytes())
        self.write(self.memory + page.HEADER_SIZE, self.fake.data)
        self.use(0)

    def _send(self, what: int, address: int, a: int = 0, b: int = 0, data: bytes = b"") -> None:
        assert self.process.stdin is not None
        arguments = (number % 2**64 for number in (address, a, b))
        self.process.stdin.write(struct.pack("=4Q", what, *arguments) + data)

    def _receive(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = self.process.stdout.read(size)
        assert len(data) == size, "the process has ended"
        return data

    def write(self, address: int, data: bytes) -> None:
        self._send(1, address, len(data), data=data)

    def call(self, name: str, a: int = 0, b: int = 0) -> int:
        """What a function of the fake vDSO returns."""
        offset = self.fake.offset(name)
        assert offset is not None
        self._send(3, self.memory + page.HEADER_SIZE + offset, a, b)
        return int.from_bytes(self._receive(8), "little", signed=True)

    def values(self, form: str, name: str, a: int = 0, b: int | None = None) -> tuple[int, ...]:
        """Calls a function, with the address of what it fills as its argument `a` or `b`."""
        self.write(self.scratch, b"\xaa" * 64)
        arguments = (self.scratch,) if b is None else (a, self.scratch)
        assert self.call(name, *arguments) == 0
        self._send(2, self.scratch, 64)
        data, size = self._receive(64), struct.calcsize(form)
        assert data[size:] == b"\xaa" * (64 - size)
        return struct.unpack(form, data[:size])

    def clock_ns(self, clock_id: int) -> int:
        sec, nsec = self.values("=qq", "__vdso_clock_gettime", clock_id, 0)
        assert 0 <= nsec < S
        return sec * S + nsec

    def show(self, lines: Lines, *, private: bool = False) -> None:
        body = pack_body(lines, HostClocks.read(), private=private)
        self.write(self.memory, struct.pack("=I", 0) + body)

    def use(self, clock_gettime: int) -> None:
        """Fills in the process page (struct vdso_process): the host's functions; 0: none."""
        packed = abi.pack("vdso_process", clock_gettime=clock_gettime)
        self.write(self.memory + page.PAGE_SIZE, packed)

    def set_host(self, host_ns: int, tick_ns: int | None = None) -> None:
        """Makes `host_ns` the reading of the host's monotonic clock, `tick_ns` that of its last
        tick, by default at the same time."""
        readings = *divmod(host_ns, S), *divmod(host_ns if tick_ns is None else tick_ns, S)
        self.write(self.host, struct.pack("=4q", *readings))
        self.use(self.read_host)


@pytest.fixture
def stub(build: Builder, real_program: Callable[[str], str]) -> Iterator[Stub]:
    command = [real_program("qemu-riscv64"), build.c("helpers/stub_riscv64", "riscv64")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe) as process:
        try:
            yield Stub(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
    assert process.returncode == 0


def check_wall(stub: Stub, expected_ns: int) -> None:
    assert stub.clock_ns(0) == expected_ns
    sec, us = stub.values("=qq", "__vdso_gettimeofday")
    assert (sec, us) == (expected_ns // S, expected_ns % S // 1000)


@pytest.mark.parametrize("start_ns", STARTS_NS)
def test_frozen_readings(stub: Stub, start_ns: int) -> None:
    lines = initial_lines(start_ns, Rate.of(0), "freeze", 7 * S + 5)
    for private in (False, True):
        stub.show(lines, private=private)
        for clock_id in (0, 1, 5, 6):  # those that read a line as it is
            assert stub.clock_ns(clock_id) == lines.line(CLOCKS[clock_id].line).base_ns
        check_wall(stub, start_ns)


@pytest.mark.parametrize("start_ns", STARTS_NS)
def test_moving_readings_are_the_timelines(stub: Stub, start_ns: int) -> None:
    host_ns = 2**40 + 12_345
    for rate in (1, *RATES):
        lines = Lines(
            Line(start_ns, host_ns, Rate.of(rate)),
            Line(host_ns, host_ns, Rate.of(rate)),
            monotonic_follows_rate=True,
        )
        stub.show(lines)
        for elapsed_ns in (0, 1, 999_999_999, 2**32, 2**53 + 1):
            stub.set_host(host_ns + elapsed_ns)
            check_wall(stub, lines.wall.at(host_ns + elapsed_ns))
            assert stub.clock_ns(1) == lines.monotonic.at(host_ns + elapsed_ns)
            for tick_ns in (host_ns - 4_000_000, host_ns + elapsed_ns // 2):
                stub.set_host(host_ns + elapsed_ns, tick_ns)
                assert stub.clock_ns(5) == lines.wall.at(tick_ns)
                assert stub.clock_ns(6) == lines.monotonic.at(tick_ns)


def test_system_calls(stub: Stub) -> None:
    """For what is not its own, where the kernel's image has no function for it."""
    stub.show(initial_lines(0, Rate.of(0), "freeze", S))
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert 0 < stub.clock_ns(time.CLOCK_PROCESS_CPUTIME_ID) < before
    for clock_id in (12, 31, 99, 2**31 - 1):
        assert stub.call("__vdso_clock_gettime", clock_id, stub.scratch) == EINVAL
        assert stub.call("__vdso_clock_getres", clock_id, stub.scratch) == EINVAL
    assert stub.values("=qq", "__vdso_clock_getres", 1, 0) == (0, 1)
    assert stub.call("__vdso_clock_getres", 1) == 0
    stub.values("=I", "__vdso_getcpu")
    assert stub.call("__vdso_gettimeofday") == 0


def test_it_has_every_symbol_of_the_kernels() -> None:
    names = {
        *("rt_sigreturn", "gettimeofday", "clock_gettime", "clock_getres", "getcpu"),
        *("flush_icache", "riscv_hwprobe"),
    }
    symbols = VdsoImage.parse(VDSO.read_bytes()).symbols
    assert set(symbols) == {(f"__vdso_{name}", "LINUX_4.15") for name in names}
