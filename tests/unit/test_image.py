"""The images of vDSOs: each is a whole ELF file, the fake ones as the wheel has them for every
architecture, and the kernel's own as programs find it on a clock."""

from __future__ import annotations

import io
import os
import re
import struct
from typing import Any

import pytest
from elftools.dwarf.callframe import CIE, FDE, ZERO
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection
from elftools.elf.hash import ELFHashSection, GNUHashSection
from elftools.elf.sections import NoteSection, SymbolTableSection
from elftools.elf.segments import NoteSegment

from pytest_vdsotime import image
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.elf import Elf
from pytest_vdsotime.errors import TracingUnavailable
from pytest_vdsotime.image import HostVdso, Loader, VdsoImage
from pytest_vdsotime.kernel import procfs

ARCHITECTURES = sorted(path.name for path in image.NATIVE.iterdir() if path.is_dir())
SHF_WRITE, SHF_ALLOC = 1, 2
NEEDS = {"DT_NEEDED", "DT_REL", "DT_RELA", "DT_RELR", "DT_JMPREL", "DT_PLTGOT", "DT_TEXTREL"}
POINTERS = "DT_HASH", "DT_GNU_HASH", "DT_STRTAB", "DT_SYMTAB", "DT_VERSYM", "DT_VERDEF"


def raw_fake(name: str) -> bytes:
    return (image.NATIVE / name / "vdso.so").read_bytes()


def parsed(data: bytes) -> ELFFile:
    return ELFFile(io.BytesIO(data))


def host_image() -> bytes:
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        area = procfs.vdso_areas("self")["[vdso]"]
        memory.seek(area.start)
        return memory.read(len(area))


@pytest.mark.parametrize("name", [*ARCHITECTURES, "the kernel's own"])
def test_read_as_by_pyelftools(name: str) -> None:
    raw = raw_fake(name) if name in ARCHITECTURES else host_image()
    own, elf = Elf(raw), parsed(raw)
    assert own.bits == elf.elfclass
    assert own.headers_end == elf["e_shoff"] + elf["e_shnum"] * elf["e_shentsize"]
    assert [(one.offset, one.address, one.file_size) for one in own.segments] == [
        (one["p_offset"], one["p_vaddr"], one["p_filesz"]) for one in elf.iter_segments()
    ]
    assert [(one.offset, one.size) for one in own.sections] == [
        (one["sh_offset"], one["sh_size"]) for one in elf.iter_sections()
    ]
    table, versions = elf.get_section_by_name(".dynsym"), elf.get_section_by_name(".gnu.version")
    definitions = elf.get_section_by_name(".gnu.version_d")
    assert isinstance(table, SymbolTableSection)
    assert isinstance(versions, GNUVerSymSection)
    assert isinstance(definitions, GNUVerDefSection)
    assert [(one.name, one.value, one.is_function) for one in own.symbols(".dynsym")] == [
        (
            one.name,
            one["st_value"],
            one["st_info"]["type"] == "STT_FUNC" and one["st_shndx"] != "SHN_UNDEF",
        )
        for one in table.iter_symbols()
    ]
    names = {entry["vd_ndx"]: next(aux).name for entry, aux in definitions.iter_versions()}
    assert own.versions() == [names.get(one["ndx"], "") for one in versions.iter_symbols()]
    assert [(owner, place.start, place.stop - place.start) for owner, _, place in own.notes()] == [
        (note["n_name"], note["n_offset"] + 12 + -(-note["n_namesz"] // 4) * 4, note["n_descsz"])
        for segment in elf.iter_segments("PT_NOTE")
        if isinstance(segment, NoteSegment)
        for note in segment.iter_notes()
    ]


@pytest.mark.parametrize("raw", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x02" + bytes(64)])
def test_what_is_no_image(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a little-endian ELF file"):
        Elf(raw)


def with_bytes(place: int, data: bytes, raw: bytes = raw_fake("x86_64")) -> bytes:
    return raw[:place] + data + raw[place + len(data) :]


FAKE = Elf(raw_fake("x86_64"))
SYMBOLS = next(FAKE.symbols(".dynsym")).offset
NAMES = raw_fake("x86_64").index(b"\0__vdso_")


@pytest.mark.parametrize(
    "raw",
    [
        raw_fake("x86_64")[:60],
        raw_fake("x86_64")[:-1],
        with_bytes(0x20, b"\xff" * 16),  # e_phoff, e_shoff
        with_bytes(0x36, b"\0\0"),  # e_phentsize
        with_bytes(0x3A, b"\1\0"),  # e_shentsize
        with_bytes(0x3C, b"\0\0"),  # e_shnum: no section .dynsym
        with_bytes(0x3E, b"\xff\xff"),  # e_shstrndx
        with_bytes(0x40, b"\6"),  # no PT_LOAD
        with_bytes(0x40 + 0x10, b"\0\x10"),  # p_vaddr
        with_bytes(0x40 + 0x20, b"\xff" * 8),  # p_filesz
        with_bytes(SYMBOLS + 24, b"\xff" * 4),  # st_name
        with_bytes(SYMBOLS + 24 + 8, b"\xff" * 8),  # st_value
        with_bytes(NAMES + 1, b"\xff"),  # no UTF-8
    ],
)
def test_what_is_not_as_it_should_be(raw: bytes) -> None:
    with pytest.raises(ValueError):
        VdsoImage.parse(raw)


def section(elf: ELFFile, name: str, kind: type[Any]) -> Any:
    found = elf.get_section_by_name(name)
    assert isinstance(found, kind)
    return found


def notes(elf: ELFFile) -> list[tuple[str, object, bytes]]:
    return [
        (note["n_name"], note["n_type"], note["n_descdata"])
        for segment in elf.iter_segments("PT_NOTE")
        if isinstance(segment, NoteSegment)
        for note in segment.iter_notes()
    ]


def segments(elf: ELFFile) -> set[str]:
    return {segment["p_type"] for segment in elf.iter_segments()}


def dynamic(elf: ELFFile) -> dict[str, int | str]:
    """The dynamic section: a number by each tag, and the soname."""
    (segment,) = elf.iter_segments("PT_DYNAMIC")
    assert isinstance(segment, DynamicSegment)
    return {tag["d_tag"]: getattr(tag, "soname", tag["d_val"]) for tag in segment.iter_tags()}


def test_there_are_images() -> None:
    assert set(ARCHITECTURES) == {"aarch64", "i386", "riscv64", "x86_64"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_mapped_is_the_whole_file(name: str) -> None:
    """Every header, segment and section of it."""
    raw = raw_fake(name)
    data = VdsoImage.parse(raw.ljust(0x4000, b"\0")).data
    assert data == raw
    elf = parsed(data)
    (load,) = elf.iter_segments("PT_LOAD")
    assert (load["p_vaddr"], load["p_offset"], load["p_flags"], load["p_align"]) == (0, 0, 5, 4096)
    for segment in elf.iter_segments():
        assert segment["p_vaddr"] == segment["p_offset"]
        assert 0 < segment["p_filesz"] == segment["p_memsz"] <= load["p_filesz"]
        assert segment["p_offset"] + segment["p_filesz"] <= load["p_filesz"]
    sections = list(elf.iter_sections())
    assert len({one.name for one in sections}) == len(sections)
    assert [one.name for one in sections if not one.name] == [""]
    for one in sections:
        assert one["sh_offset"] + one["sh_size"] <= len(data)
        # The kernel's .dynamic says that it is written to, too, and is as little.
        assert one.name == ".dynamic" or not one["sh_flags"] & SHF_WRITE
        if one["sh_flags"] & SHF_ALLOC:
            assert one["sh_addr"] == one["sh_offset"]
            assert one["sh_addr"] + one["sh_size"] <= load["p_filesz"]
        else:
            assert one.name in ("", ".shstrtab")  # no debug information


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_that_is_in_it_is_found(name: str) -> None:
    """Its notes, dynamic entries, symbols, versions and frames."""
    elf = parsed(raw_fake(name))
    assert [note[:2] for note in notes(elf)] == [("Linux", 0)]
    assert list(section(elf, ".note", NoteSection).iter_notes())

    tags = dynamic(elf)
    assert not tags.keys() & NEEDS
    sections = {one["sh_addr"]: one.name for one in elf.iter_sections()}
    names = {tag: sections[int(tags[tag])] for tag in POINTERS}
    assert names == {
        **{"DT_HASH": ".hash", "DT_GNU_HASH": ".gnu.hash", "DT_STRTAB": ".dynstr"},
        **{"DT_SYMTAB": ".dynsym", "DT_VERSYM": ".gnu.version", "DT_VERDEF": ".gnu.version_d"},
    }

    table = section(elf, ".dynsym", SymbolTableSection)
    code = section(elf, ".text", object)
    count = table.num_symbols()
    assert tags["DT_SYMENT"] == table["sh_entsize"]
    assert tags["DT_STRSZ"] == section(elf, ".dynstr", object)["sh_size"]
    versions = section(elf, ".gnu.version", GNUVerSymSection)
    definitions = section(elf, ".gnu.version_d", GNUVerDefSection)
    defined = {
        entry["vd_ndx"]: [aux.name for aux in names] for entry, names in definitions.iter_versions()
    }
    assert len(defined) == tags["DT_VERDEFNUM"]
    assert versions.num_symbols() == count
    old = section(elf, ".hash", ELFHashSection)
    new = section(elf, ".gnu.hash", GNUHashSection)
    assert old.get_number_of_symbols() == new.get_number_of_symbols() == count
    for index, symbol in list(enumerate(table.iter_symbols()))[1:]:
        for hashed in (old.get_symbol(symbol.name), new.get_symbol(symbol.name)):
            assert hashed is not None and hashed.entry == symbol.entry
        assert symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]
        assert elf.get_section(symbol["st_shndx"]).name == ".text"
        assert 0 <= symbol["st_value"] - code["sh_addr"] < code["sh_size"]
        assert versions.get_symbol(index)["ndx"] in defined

    header = section(elf, ".eh_frame_hdr", object).data()
    (frame_count,) = struct.unpack_from("<I", header, 8)
    entries = elf.get_dwarf_info().EH_CFI_entries()
    assert {type(entry) for entry in entries} <= {CIE, FDE, ZERO}
    assert sum(isinstance(entry, FDE) for entry in entries) == frame_count > 0


def test_it_is_as_the_kernels_own() -> None:
    """Headers, and whatever a reader may look for."""
    arch = host_arch()
    host = parsed(HostVdso.of_process("self", arch).image.data)
    fake = parsed(raw_fake(arch.name))
    same = "e_ident", "e_type", "e_version", "e_machine", "e_flags", "e_ehsize", "e_phoff"
    for field in (*same, "e_phentsize", "e_shentsize"):
        assert fake[field] == host[field], field
    known = {"PT_LOAD", "PT_DYNAMIC", "PT_NOTE", "PT_GNU_EH_FRAME"}
    assert segments(host) & known <= segments(fake)
    tags = {*POINTERS, "DT_SONAME", "DT_STRSZ", "DT_SYMENT", "DT_VERDEFNUM"}
    assert dynamic(host).keys() & tags <= dynamic(fake).keys()
    assert dynamic(fake)["DT_SONAME"] == dynamic(host)["DT_SONAME"]


def test_the_32_bit_image_begins_as_the_kernels_does() -> None:
    """glibc makes its system calls there where it has no AT_SYSINFO."""
    fake = VdsoImage.parse(raw_fake("i386"))
    assert parsed(fake.data)["e_entry"] == fake.offset("__kernel_vsyscall")


def test_it_names_the_kernels_release() -> None:
    """C libraries refuse to run where it is too old."""
    arch = host_arch()
    host, fake = HostVdso.of_process("self", arch).image, image.fake_vdso(arch)
    code = host.data[host.release]
    major, minor = map(int, re.findall(r"\d+", os.uname().release)[:2])
    assert (code[2], code[1]) == (major, minor)  # what follows distributions number by themselves
    told = fake.of_release(host)
    assert notes(parsed(fake.data)) == [("Linux", 0, b"\xff\xff\xff\0")]
    assert notes(parsed(told.data)) == [("Linux", 0, code)]
    silenced = bytearray(told.data)
    silenced[told.release] = fake.data[fake.release]
    assert silenced == fake.data
    silent = VdsoImage.parse(host.data.replace(b"Linux\0\0\0" + code, bytes(12)))
    assert fake.of_release(silent) == fake


def test_a_detour_leaves_the_kernels_image_whole() -> None:
    """With its section headers where the loader has room behind them, or without."""
    host = HostVdso.of_process("self", host_arch())
    kernels, room, unit = (
        parsed(host.image.data),
        len(Loader.of(host.arch).code),
        len(host.arch.jump(0)),
    )
    code_size = len(image.jumps(host).names) * unit
    least = up(host.image.loaded_size, unit) + code_size
    whole = up(len(host.image.data), unit) + code_size + room
    for size in (whole, whole - 1, least + room, least):
        detour = image.jumps(host._replace(size=size), room)
        assert detour.end == len(detour.image) + code_size
        assert detour.end + room <= size or size < least + room
        elf = parsed(detour.image.ljust(size, b"\0"))
        (load,) = elf.iter_segments("PT_LOAD")
        assert (load["p_vaddr"], load["p_filesz"], load["p_memsz"]) == (0, detour.end, detour.end)
        if size == whole:
            assert contents(elf) == contents(kernels)
        else:
            assert [elf[field] for field in ("e_shoff", "e_shnum", "e_shstrndx")] == [0, 0, 0]
        places = {
            host.image.offset(name): len(detour.image) + index * unit
            for index, name in enumerate(detour.names)
        }
        assert places.keys() == set(host.image.symbols.values())
        (segment,) = elf.iter_segments("PT_DYNAMIC")
        assert isinstance(segment, DynamicSegment)
        symbols = {symbol.name: symbol for symbol in segment.iter_symbols()}
        for name in host.image.value_offsets:
            found = symbols[name]["st_value"], symbols[name]["st_size"]
            assert found == (places[host.image.offset(name)], unit)
    with pytest.raises(TracingUnavailable, match="no room"):
        image.jumps(host._replace(size=least - 1), room)


def up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def contents(elf: ELFFile) -> list[tuple[str, Any, bytes]]:
    """Of all sections but the symbols."""
    return [
        (one.name, one.header, one.data()) for one in elf.iter_sections() if one.name != ".dynsym"
    ]
