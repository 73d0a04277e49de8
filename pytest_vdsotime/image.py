"""ELF images: the fake vDSO and the other native objects, and the kernel's own vDSO.

The fake one must have every dynamic symbol of the real one at the same version: where a symbol is
missing, libc makes the real system call and gets real time. So that is checked against the running
kernel, with pyelftools.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

from pytest_vdsotime.arch import Arch
from pytest_vdsotime.errors import TracingUnavailable, VdsoTimeError
from pytest_vdsotime.kernel import procfs

NATIVE = Path(__file__).resolve().parent / "native"

#: The argv[0] of the launcher.
LAUNCHER_NAME = "vdsotime-launch"
#: struct loader_parameters (native_stub/loader.h): entry, address, slot, first page, length,
#: cookie, process, path.
_PARAMETERS = struct.Struct("=QQQQQ16s64s40s")
_PROCESS = struct.Struct("=6Q16s")
#: Where in them these are.
ENTRY_OFFSET, ADDRESS_OFFSET, SLOT_OFFSET, PROCESS_OFFSET = 0, 8, 16, 56
#: (offset of st_value, its layout) in Elf32_Sym and Elf64_Sym (elf(5)), by class.
_ST_VALUE = {32: (4, struct.Struct("=I")), 64: (8, struct.Struct("=Q"))}
#: enum step of native_stub/loader.c.
LOADER_STEPS = {
    1: "openat",
    2: "mmap of the image",
    3: "comparing the cookie",
    4: "mmap of the clock page",
    5: "mmap of the process page",
    6: "mprotect of the process page",
}


def _native(arch: Arch, name: str) -> Path:
    path = NATIVE / arch.name / name
    if not path.exists():
        raise TracingUnavailable(
            f"{name} for {arch.name} is missing from the installation",
            "install pytest-vdsotime again, from a wheel or with its build hook",
        )
    return path


def tracer_path(arch: Arch) -> str:
    """What the tracer loads (native_stub/tracer.h). Raises TracingUnavailable if not built."""
    return str(_native(arch, "tracer.so"))


def _local_symbols(elf: ELFFile) -> dict[str, int]:
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols() if symbol.name}


@dataclass(frozen=True, slots=True)
class Launcher:
    """The launcher program (native_stub/launch.c): addresses in it, as it is not relocated."""

    path: str
    patience: int
    state: int
    alarm_time: int
    AWAKE: ClassVar[int] = 1

    @classmethod
    def of(cls, arch: Arch) -> Launcher:
        """Raises TracingUnavailable when it was not built."""
        path = _native(arch, "launch")
        with path.open("rb") as file:
            symbols = _local_symbols(ELFFile(file))
        return cls(str(path), *(symbols[name] for name in ("patience", "state", "alarm_time")))


def _loaded_bytes(elf: ELFFile) -> bytes:
    """The one PT_LOAD segment, from address 0."""
    (segment,) = elf.iter_segments("PT_LOAD")
    assert segment["p_vaddr"] == 0
    data: bytes = segment.data()
    return data


@dataclass(frozen=True, slots=True)
class VdsoImage:
    """A vDSO: what is mapped, and its dynamic symbols: (name, version) -> offset."""

    data: bytes
    symbols: Mapping[tuple[str, str], int]
    table_offset: int
    """Of the symbol table."""
    value_offsets: Mapping[str, int]
    """Where in `data` the value of each function's symbol stands,"""
    value: struct.Struct
    """and how."""

    @classmethod
    def parse(cls, raw: bytes) -> VdsoImage:
        """Reads an image, from a file or from memory."""
        elf = ELFFile(io.BytesIO(raw))
        table = elf.get_section_by_name(".dynsym")
        versions = elf.get_section_by_name(".gnu.version")
        definitions = elf.get_section_by_name(".gnu.version_d")
        assert isinstance(table, SymbolTableSection)
        assert isinstance(versions, GNUVerSymSection)
        assert isinstance(definitions, GNUVerDefSection)
        names = {entry["vd_ndx"]: next(aux).name for entry, aux in definitions.iter_versions()}
        symbols, value_offsets = {}, {}
        value_offset, value = _ST_VALUE[elf.elfclass]
        for index, symbol in enumerate(table.iter_symbols()):
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
                version = versions.get_symbol(index)["ndx"]
                symbols[symbol.name, names.get(version, "")] = symbol["st_value"]
                entry = table["sh_offset"] + index * table["sh_entsize"]
                value_offsets[symbol.name] = entry + value_offset
        return cls(_loaded_bytes(elf), symbols, table["sh_offset"], value_offsets, value)

    def offset(self, name: str) -> int | None:
        """Where a function lies, whatever its version; None if there is none."""
        return next((value for (symbol, _), value in self.symbols.items() if symbol == name), None)


def fake_vdso(arch: Arch) -> VdsoImage:
    """The image that programs get."""
    return VdsoImage.parse(_native(arch, "vdso.so").read_bytes())


@dataclass(frozen=True, slots=True)
class HostVdso:
    """The kernel's own vDSO: the same in every program of this architecture, but for its
    address."""

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
        """Reads it from the memory of a process, which is one of this architecture.

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
        image = VdsoImage.parse(raw)
        entries = tuple(image.offset(name) or 0 for name in arch.vdso_entries)
        if not entries[0]:
            raise TracingUnavailable(
                f"the vDSO of {arch.name} programs has no {arch.vdso_entries[0]}",
                "use Linux 5.3 or later",
            )
        instruction = image.data.index(arch.syscall_instruction)
        calls = re.finditer(re.escape(arch.syscall_instruction), image.data)
        call_offsets = frozenset(found.end() for found in calls)
        return cls(image, arch, end - start, instruction, entries, data_size, call_offsets)

    def process_entries(self, base: int, mark: bytes) -> bytes:
        """struct vdso_process of a program whose vDSO lies at `base`."""
        return _PROCESS.pack(*(offset and base + offset for offset in self.entry_offsets), mark)


@dataclass(frozen=True, slots=True)
class Detour:
    """A kernel's image whose symbols lead to other code, which stands behind it.

    /proc/self/auxv goes on to show where the kernel put its image, and programs that look it up
    there (Go's c-shared mode, some JITs) must not find real time. The image's own code stays, for
    the fake one to read the host's clock.
    """

    table: bytes
    """From the image's `table_offset` up to that code."""
    names: tuple[str, ...]
    """Of the functions, in the order of that code."""
    end: int
    """Where unused bytes begin behind that code."""

    @classmethod
    def of(cls, host: HostVdso, names: Iterable[str], code_size: int) -> Detour:
        """Of these functions, each to `code_size` bytes.

        Raises TracingUnavailable where there is no room for them.
        """
        image = host.image
        start = -(-len(image.data) // code_size) * code_size
        table = bytearray(image.data.ljust(start, b"\0"))
        first: dict[int, str] = {}
        for name in names:
            offset = image.offset(name) or 0
            first.setdefault(offset, name)  # a weak name is another for the same
            place = start + code_size * list(first).index(offset)
            image.value.pack_into(table, image.value_offsets[name], place)
        end = start + code_size * len(first)
        if end > host.size:
            raise TracingUnavailable(
                f"the vDSO of Linux {os.uname().release} has no room for {end - start} bytes",
                "use another kernel",
            )
        return cls(bytes(table[image.table_offset :]), tuple(first.values()), end)


def jumps(host: HostVdso) -> Detour:
    """To the fake image: of every function that is not to stay the kernel's own."""
    names = sorted(host.image.value_offsets.keys() - host.arch.kept_symbols)
    return Detour.of(host, names, len(host.arch.jump(0)))


def raw_functions(host: HostVdso) -> bytes:
    """From `table_offset` on: the kernel's image whose functions about time make system calls."""
    numbers = {}
    for name in sorted(host.image.value_offsets):
        call = name.removeprefix("__vdso_").removeprefix("__kernel_")
        if call in host.arch.abis[0].syscalls:
            numbers[name] = host.arch.abis[0].syscalls[call]
    detour = Detour.of(host, numbers, len(host.arch.raw_function(0)))
    return detour.table + b"".join(host.arch.raw_function(numbers[one]) for one in detour.names)


def check_symbols(fake: VdsoImage, host: HostVdso) -> None:
    """Raises TracingUnavailable when the kernel's vDSO has a symbol that the fake one lacks."""
    missing = sorted(set(host.image.symbols) - set(fake.symbols))
    if missing:
        names = ", ".join(f"{name}@{version}" for name, version in missing)
        raise TracingUnavailable(
            f"the vDSO of Linux {os.uname().release} has symbols unknown to this release: {names}",
            "upgrade pytest-vdsotime",
        )


@dataclass(frozen=True, slots=True)
class Loader:
    """The loader's code, and how to give it its parameters."""

    code: bytes
    entry_offset: int
    failed_offset: int
    """The program counter at its trap."""

    @classmethod
    def of(cls, arch: Arch) -> Loader:
        """Reads it from its object file."""
        with _native(arch, "loader.elf").open("rb") as file:
            elf = ELFFile(file)
            data = _loaded_bytes(elf)
            symbols = _local_symbols(elf)
        parameters = symbols["loader_parameters"]
        assert len(data) == parameters + _PARAMETERS.size
        return cls(data[:parameters], symbols["loader_entry"], symbols["loader_failed"])

    @property
    def size(self) -> int:
        """Code and parameters, in bytes."""
        return len(self.code) + _PARAMETERS.size

    def with_parameters(
        self,
        *,
        address: int,
        first_page: int,
        length: int,
        cookie: bytes,
        process: bytes,
        path: bytes,
        entry: int = 0,
        slot: int = 0,
    ) -> bytes:
        """The block to write into a program."""
        return self.code + _PARAMETERS.pack(
            entry, address, slot, first_page, length, cookie, process, path
        )


def loader_failure(result: int) -> tuple[str, int]:
    """(step, errno) from what the loader's trap leaves in the return register."""
    step = LOADER_STEPS.get(result >> 16)
    if step is None:
        raise VdsoTimeError(f"the loader stopped with {result:#x}, which is none of its failures")
    return step, result & 0xFFFF
