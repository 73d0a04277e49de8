"""ELF images: the fake vDSO and the other native objects, and the kernel's own vDSO.

The fake one must have every dynamic symbol of the real one at the same version: where a symbol is
missing, libc makes the real system call and gets real time. So that is checked against the running
kernel.
"""

from __future__ import annotations

import os
import re
import struct
from array import array
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pytest_vdsotime.abi import constant, fields, pack
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.elf import PT_LOAD, Elf
from pytest_vdsotime.errors import TracingUnavailable, VdsoTimeError, missing, source_tree
from pytest_vdsotime.kernel import procfs

NATIVE = Path(__file__).resolve().parent / "native"

#: Where struct loader_parameters is, below the stack (native_stub/program/loader.h).
PARAMETERS_BELOW_STACK = constant("PARAMETERS_BELOW_STACK")
#: (offset of st_value, its layout and that of st_size behind it) in Elf32_Sym and Elf64_Sym
#: (elf(5)), by class.
_ST_VALUE = {32: (4, struct.Struct("=II")), 64: (8, struct.Struct("=QQ"))}
#: enum step of native_stub/program/loader.h.
LOADER_STEPS = {
    constant("OPEN"): "openat",
    constant("MAP_IMAGE"): "mmap of the image",
    constant("COMPARE_COOKIE"): "comparing the cookie",
    constant("MAP_CLOCK_PAGE"): "mmap of the clock page",
    constant("MAP_PROCESS_PAGE"): "mmap of the process page",
    constant("PROTECT_PAGES"): "mprotect of the pages of data",
}


def _native(arch: Arch, name: str) -> Path:
    path = NATIVE / arch.name / name
    if not path.exists():
        raise TracingUnavailable(*missing(f"{name} for {arch.name}", source_tree()))
    return path


def tracer_path(arch: Arch) -> str:
    """Return what the tracer loads (native_stub/tracer/tracer.h).

    Raises TracingUnavailable if not built.
    """
    return str(_native(arch, "tracer.so"))


def sweeper_path(arch: Arch) -> str:
    """Return the path of the sweeper (native_stub/program/sweeper.c).

    Raises TracingUnavailable if not built.
    """
    return str(_native(arch, "sweeper"))


def _local_symbols(elf: Elf) -> dict[str, int]:
    return {symbol.name: symbol.value for symbol in elf.symbols(".symtab") if symbol.name}


def _release(elf: Elf) -> slice:
    """In the note of type 0 of owner "Linux" (arch/x86/entry/vdso/note.S)."""
    for owner, kind, place in elf.notes():
        if kind == 0 and owner == "Linux" and place.stop - place.start >= 4:
            return slice(place.stop - 4, place.stop)
    return slice(0)


class WakerProgram(NamedTuple):
    """The program of the waker (native_stub/program/waker.c)."""

    path: str
    alarm_time: int
    """An address in the program, which is not relocated."""

    @classmethod
    def of(cls, arch: Arch) -> WakerProgram:
        """Raise TracingUnavailable when it was not built."""
        return cls._read(_native(arch, "waker"))

    @classmethod
    @cache
    def _read(cls, path: Path) -> WakerProgram:
        return cls(str(path), _local_symbols(Elf(path.read_bytes()))["alarm_time"])


class VdsoImage(NamedTuple):
    """A vDSO: its file, which is mapped as a whole, and its dynamic symbols.

    (name, version) -> offset.
    """

    data: bytes
    loaded_size: int
    """How much of it is the segment to load: section headers are behind that."""
    symbols: Mapping[tuple[str, str], int]
    value_offsets: Mapping[str, int]
    """Where in `data` the value of each function's symbol stands, and behind it its size,"""
    value: struct.Struct
    """and how."""
    release: slice
    """Where the kernel's LINUX_VERSION_CODE stands; empty where it does not."""

    @classmethod
    @cache
    def parse(cls, raw: bytes) -> VdsoImage:
        """Read an image, from a file or from memory. Raises ValueError."""
        elf = Elf(raw)
        loads = [segment for segment in elf.segments if segment.kind == PT_LOAD]
        if len(loads) != 1 or loads[0].address or loads[0].file_size > len(raw):
            raise ValueError("it is not one segment that is loaded where it begins")
        loaded_size = loads[0].file_size
        symbols, value_offsets = {}, {}
        value_offset, value = _ST_VALUE[elf.bits]
        for symbol, version in zip(elf.symbols(".dynsym"), elf.versions(), strict=True):
            if symbol.is_function:
                symbols[symbol.name, version] = symbol.value
                value_offsets[symbol.name] = symbol.offset + value_offset
        release = _release(elf)
        # What is changed in a copy, and where functions are, is in what is loaded.
        lengths = [offset + value.size for offset in value_offsets.values()]
        if max(elf.segments_end, release.stop, *lengths, *symbols.values()) > loaded_size:
            raise ValueError("it has headers, symbols or functions behind what is loaded")
        ends = [section.offset + section.size for section in elf.sections]
        data = raw[: max(loaded_size, elf.headers_end, *ends)]
        Elf(data)  # no name of a section ends behind that
        return cls(data, loaded_size, symbols, value_offsets, value, release)

    def offset(self, name: str) -> int | None:
        """Where a function lies, whatever its version; None if there is none."""
        return next((value for (symbol, _), value in self.symbols.items() if symbol == name), None)

    def of_release(self, other: VdsoImage) -> VdsoImage:
        """Return this image, with the kernel's release as another has it."""
        code = other.data[other.release]
        data = bytearray(self.data)
        if code:
            data[self.release] = code
        return self._replace(data=bytes(data))

    @property
    def call_returns(self) -> tuple[int, ...]:
        """Where calls about files may return to (`Abi.returns`).

        Nothing where the tracer sees to what they leave.
        """
        mark = b"returns of calls"
        start = self.data.find(mark) + len(mark)
        if start < len(mark):
            return ()
        count, *offsets = array("i", self.data[start : start + 4 * (1 + constant("CALL_RETURNS"))])
        places = range(start + 4, start + 4 * (1 + count), 4)
        return tuple(place + offset for place, offset in zip(places, offsets, strict=False))


def fake_vdso(arch: Arch) -> VdsoImage:
    """Return the image that programs get."""
    return VdsoImage.parse(_native(arch, "vdso.so").read_bytes())


class HostVdso(NamedTuple):
    """The kernel's own vDSO.

    It is the same in every program of this architecture, but for its address.
    """

    image: VdsoImage
    arch: Arch
    size: int
    """Of its mapping, in bytes."""
    syscall_offset: int
    """Of a system call instruction."""
    entry_offsets: tuple[int, ...]
    """Of `Arch.vdso_entries`; 0 for one that it lacks, as the ELF header lies there."""
    data_size: int
    """Of the kernel's data pages in front of it (``[vvar]``)."""
    call_offsets: frozenset[int]
    """Behind its own system call instructions."""

    @classmethod
    def of_process(cls, pid: int | str, arch: Arch) -> HostVdso:
        """Read it from the memory of a process, which is one of this architecture.

        Raises:
            TracingUnavailable: the kernel has none (``vdso=0``), or one that is too old.
        """
        areas = procfs.vdso_areas(pid)
        if "[vdso]" not in areas:
            raise TracingUnavailable("the kernel gives programs no vDSO", "boot it without vdso=0")
        start, end = areas["[vdso]"].start, areas["[vdso]"].stop
        data_size = start - min(area.start for area in areas.values())
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            raw = memory.read(end - start)
        try:
            image = VdsoImage.parse(raw)
        except ValueError as error:
            raise TracingUnavailable(
                f"the vDSO of {arch.name} programs cannot be read: {error}", "use another kernel"
            ) from None
        entries = tuple(image.offset(name) or 0 for name in arch.vdso_entries)
        calls = [one.end() for one in re.finditer(re.escape(arch.syscall_instruction), image.data)]
        if not entries[0] or not calls:
            lacked = "system call" if entries[0] else arch.vdso_entries[0]
            raise TracingUnavailable(
                f"the vDSO of {arch.name} programs has no {lacked}", "use Linux 5.3 or later"
            )
        instruction = calls[0] - len(arch.syscall_instruction)
        return cls(image, arch, end - start, instruction, entries, data_size, frozenset(calls))

    def process_entries(self, base: int, mark: bytes, stamps: int = 0) -> bytes:
        """Struct vdso_process of a program whose vDSO lies at `base`.

        `stamps`: where it has the history of the wall line, if it has.
        """
        names = (name for name, _ in fields("vdso_process"))
        entries = (offset and base + offset for offset in self.entry_offsets)
        of_names = dict(zip(names, entries, strict=False))
        vsyscall = self.vsyscall_return and base + self.vsyscall_return
        return pack("vdso_process", mark=mark, stamps=stamps, syscall_return=vsyscall, **of_names)

    @property
    def vsyscall_return(self) -> int:
        """Where a call by __kernel_vsyscall goes on, however it enters the kernel; 0: nowhere.

        Behind the instruction that makes it again (arch/x86/entry/vdso/vdso32/system_call.S).
        """
        if self.arch.vsyscall_caller is None:
            return 0
        start = self.image.offset("__kernel_vsyscall") or 0
        return min((one for one in self.call_offsets if one > start), default=0)


class Detour(NamedTuple):
    """A kernel's image whose symbols lead to other code, which stands behind it.

    /proc/self/auxv goes on to show where the kernel put its image, and programs that look it up
    there (Go's c-shared mode, some JITs) must not find real time. The image's own code stays, for
    the fake one to read the host's clock. Where there is not enough room behind the section
    headers, that code takes their place, and the image says that it has none.
    """

    image: bytes
    """Up to that code."""
    names: tuple[str, ...]
    """Of the functions, in the order of that code."""
    end: int
    """Where unused bytes begin behind that code."""

    @classmethod
    def of(cls, host: HostVdso, names: Collection[str], code_size: int, room: int = 0) -> Detour:
        """Read the code of these functions, each to `code_size` bytes.

        With `room` for more behind if that can be had.

        Raises TracingUnavailable where there is no room for that code.
        """
        image = host.image
        first: dict[int, str] = {}
        for name in names:
            first.setdefault(image.offset(name) or 0, name)  # a weak name is another for the same
        size = code_size * len(first)
        for kept, wanted in ((len(image.data), size + room), (image.loaded_size, size)):
            start = -(-kept // code_size) * code_size
            if start + wanted <= host.size:
                break
        else:
            raise TracingUnavailable(
                f"the vDSO of Linux {os.uname().release} has no room for {size} bytes",
                "use another kernel",
            )
        data = bytearray(image.data[:kept].ljust(start, b"\0"))
        for name in names:
            place = start + code_size * list(first).index(image.offset(name) or 0)
            image.value.pack_into(data, image.value_offsets[name], place, code_size)
        elf = Elf(image.data)
        elf.resize_load(data, start + size)
        if kept < len(image.data):
            elf.drop_sections(data)
        return cls(bytes(data), tuple(first.values()), start + size)


def jumps(host: HostVdso, room: int = 0) -> Detour:
    """To the fake image: of every function that is not to stay the kernel's own."""
    names = sorted(host.image.value_offsets.keys() - host.arch.kept_symbols)
    return Detour.of(host, names, len(host.arch.jump(0)), room)


#: Functions of the vDSO that tell the time, with two arguments as their system calls have.
_TELL_TIME = "clock_gettime", "clock_gettime64", "gettimeofday", "time"


def raw_functions(host: HostVdso) -> bytes:
    """Return the kernel's image whose functions about time make system calls."""
    numbers = {}
    for name in sorted(host.image.value_offsets):
        call = name.removeprefix("__vdso_").removeprefix("__kernel_")
        if call in _TELL_TIME:
            numbers[name] = host.arch.abis[0].syscalls[call]
    detour = Detour.of(host, numbers, len(host.arch.raw_function(0)))
    return detour.image + b"".join(host.arch.raw_function(numbers[one]) for one in detour.names)


def check_symbols(fake: VdsoImage, host: HostVdso) -> None:
    """Raise TracingUnavailable when the kernel's vDSO has a symbol that the fake one lacks."""
    missing = sorted(set(host.image.symbols) - set(fake.symbols))
    if missing:
        names = ", ".join(f"{name}@{version}" for name, version in missing)
        raise TracingUnavailable(
            f"the vDSO of Linux {os.uname().release} has symbols unknown to this release: {names}",
            "upgrade pytest-vdsotime",
        )


class Loader(NamedTuple):
    """The loader's code."""

    code: bytes
    entry_offset: int
    failed_offset: int
    """The program counter at its trap."""

    @classmethod
    def of(cls, arch: Arch) -> Loader:
        """Read it from its object file."""
        return cls._read(_native(arch, "loader.elf"))

    @classmethod
    @cache
    def _read(cls, path: Path) -> Loader:
        elf = Elf(path.read_bytes())
        (segment,) = [one for one in elf.segments if one.kind == PT_LOAD]
        assert segment.address == 0
        symbols, code = _local_symbols(elf), elf.segment_data(segment)
        return cls(code, symbols["loader_entry"], symbols["loader_failed"])


def loader_parameters(
    *,
    address: int,
    first_page: int,
    length: int,
    stamps: tuple[int, int],
    cookie: bytes,
    process: bytes,
    path: bytes,
    entry: int = 0,
    slot: int = 0,
) -> bytes:
    """Return what stands PARAMETERS_BELOW_STACK when the loader begins."""
    return pack(
        "loader_parameters",
        entry=entry,
        address=address,
        sysinfo_ehdr=slot,
        first_page=first_page,
        mapping_length=length,
        stamps_page=stamps[0],
        stamps_length=stamps[1],
        cookie=cookie,
        process=process,
        path=path,
    )


def loader_failure(result: int) -> tuple[str, int]:
    """(step, errno) from what the loader's trap leaves in the return register."""
    step = LOADER_STEPS.get(result >> 16)
    if step is None:
        raise VdsoTimeError(f"the loader stopped with {result:#x}, which is none of its failures")
    return step, result & 0xFFFF
