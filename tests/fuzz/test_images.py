"""ELF files, and images in the memory of programs, that are not as their kind has them."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import image
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.elf import Elf
from pytest_vdsotime.errors import TracingUnavailable
from pytest_vdsotime.image import HostVdso, VdsoImage
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.memory import ProcessMemory

Examples = Callable[..., Callable[[Callable[..., None]], None]]

FILES = [
    path.read_bytes()
    for path in sorted(image.NATIVE.glob("*/*"))
    if path.name in ("vdso.so", "loader.elf", "waker")
]
#: Sections and symbols that readers ask for.
TABLES = ".dynsym", ".symtab", ".gnu.version", ".text", ""
NUMBERS = [0, 1, 2, 4, 8, 24, 63, 64, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF]
numbers = st.sampled_from([*NUMBERS, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 0x4000)
#: (place, size, number): most of what matters is in the headers.
changes = st.lists(
    st.tuples(
        st.integers(0, 0x200) | st.integers(0, 0x3000), st.sampled_from([1, 2, 4, 8]), numbers
    ),
    min_size=1,
    max_size=6,
)


def changed(raw: bytes, changes: list[tuple[int, int, int]]) -> bytes:
    data = bytearray(raw)
    for place, size, number in changes:
        # Headers of sections are at the end.
        place = place % len(raw) if place < 0x1000 else len(raw) - place % min(len(raw), 0x800) - 1
        data[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(data[: len(raw)])


def read(raw: bytes) -> None:
    """All that can be read of a file. Raises ValueError."""
    elf = Elf(raw)
    for segment in elf.segments:
        elf.segment_data(segment)
    elf.resize_load(bytearray(raw), 0x1000)
    elf.drop_sections(bytearray(raw))
    problems = []
    for reading in (
        elf.notes,
        elf.versions,
        *(lambda name=one: elf.symbols(name) for one in TABLES),
    ):
        try:
            list(reading())
        except ValueError as error:
            problems.append(error)
    if problems:
        raise problems[0]


files = st.builds(changed, st.sampled_from(FILES), changes)
cut = st.builds(lambda raw, size: raw[:size], files, st.integers(0, 0x3000))
random = st.builds(
    lambda bits, rest: b"\x7fELF" + bytes((bits, 1)) + rest, st.integers(0, 3), st.binary()
)


def test_any_file_is_read_or_a_value_error(examples: Examples) -> None:
    @examples(files | cut | random | st.binary(), count=300)
    def check(raw: bytes) -> None:
        for reading in read, VdsoImage.parse:
            with suppress(ValueError):
                reading(raw)
        VdsoImage.parse.cache_clear()


def test_a_name_that_ends_behind_the_image() -> None:
    """In what is mapped, but not in what is kept of it."""
    kept = image.fake_vdso(host_arch()).data
    # e_shoff and e_shstrndx of an Elf64_Ehdr, sh_name of the second Elf64_Shdr (elf(5))
    (headers,), (names,) = struct.unpack_from("<Q", kept, 40), struct.unpack_from("<H", kept, 62)
    behind = bytearray(kept + bytes(0x1000))
    struct.pack_into("<I", behind, headers + 64, len(kept) - Elf(kept).sections[names].offset)
    Elf(bytes(behind))
    with pytest.raises(ValueError, match="no name ends"):
        VdsoImage.parse(bytes(behind))


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    """One that never reads a clock."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin and running.stdout
        running.stdin.write(b"x")
        running.stdin.flush()
        running.stdout.read(1)  # it is no copy of this process any more
        yield running


def test_an_image_in_memory_is_read_or_not_available(
    examples: Examples, program: subprocess.Popen[bytes]
) -> None:
    """Of a program that has written into its own, as one that is attached to may have."""
    arch, pid = host_arch(), program.pid
    area = procfs.vdso_areas(pid)["[vdso]"]
    with ProcessMemory(pid) as memory:
        kernels = memory.read(area.start, len(area))
        fake = image.fake_vdso(arch)

        @examples(st.builds(changed, st.just(kernels), changes), count=200)
        def check(raw: bytes) -> None:
            memory.write(area.start, raw)
            try:
                host = HostVdso.of_process(pid, arch)
                assert host.image.data == raw[: len(host.image.data)]
                assert raw[host.syscall_offset :].startswith(arch.syscall_instruction)
                fake.of_release(host.image)
                image.raw_functions(host)
                image.jumps(host, 1000)
                image.check_symbols(fake, host)
            except TracingUnavailable as error:
                assert error.reason and error.remedy
            finally:
                VdsoImage.parse.cache_clear()

    program.kill()
