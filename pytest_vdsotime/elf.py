"""ELF files, as far as vDSOs and the package's own objects need reading: elf(5).

A library that reads all of ELF takes longer to be imported than all else that the tracer needs. The
tests hold this one against pyelftools.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

PT_LOAD, PT_NOTE = 1, 4
_STT_FUNC, _SHN_UNDEF = 2, 0
_VER_NDX_GLOBAL = 1
_NOTE = struct.Struct("<III")
#: Of Elf64_Sym and Elf32_Sym, in their order.
_SYMBOL_64, _SYMBOL_32 = struct.Struct("<IBBHQ"), struct.Struct("<IIIBBH")
_MAX_NAME = 4096
_VERSION = struct.Struct("<H")
#: Of Elf32_Verdef: vd_ndx, vd_aux, vd_next; vda_name. The same in both classes.
_VERDEF, _VERDAUX = struct.Struct("<4xH6xII"), struct.Struct("<I")


class Segment(NamedTuple):
    """A program header."""

    header_offset: int
    kind: int
    offset: int
    address: int
    file_size: int


class Section(NamedTuple):
    """A section header."""

    name_offset: int
    offset: int
    size: int
    link: int
    entry_size: int


class Symbol(NamedTuple):
    """An entry of a symbol table."""

    name: str
    value: int
    is_function: bool
    """Defined here."""
    offset: int
    """Of the entry, in the file."""


class _Layout(NamedTuple):
    """Of one class of files."""

    entry_sizes: tuple[int, int, int]
    """Of a program header, a section header and a symbol."""
    header: struct.Struct
    """e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx"""
    segment: struct.Struct
    """p_type, p_offset, p_vaddr, p_filesz"""
    section: struct.Struct
    """sh_name, sh_offset, sh_size, sh_link, sh_entsize"""
    sizes: tuple[struct.Struct, int, int]
    """A size, and where p_filesz and p_memsz stand in a program header."""
    no_sections: tuple[tuple[int, int], ...]
    """Where e_shoff, e_shnum and e_shstrndx stand, and how many bytes each has."""


_LAYOUTS = {
    32: _Layout(
        (32, 40, 16),
        struct.Struct("<28xII6xHHHHH"),
        struct.Struct("<III4xI"),
        struct.Struct("<I12xIII8xI"),
        (struct.Struct("<I"), 16, 20),
        ((32, 4), (48, 2), (50, 2)),
    ),
    64: _Layout(
        (56, 64, 24),
        struct.Struct("<32xQQ6xHHHHH"),
        struct.Struct("<I4xQQ8xQ"),
        struct.Struct("<I20xQQI12xQ"),
        (struct.Struct("<Q"), 32, 40),
        ((40, 8), (60, 2), (62, 2)),
    ),
}


class Elf:
    """A little-endian file, in memory.

    Nothing in it is believed: what is not as elf(5) has it is a ValueError, here and in each method
    that reads more of it.
    """

    def __init__(self, raw: bytes) -> None:
        """Raise ValueError where it is none."""
        if raw[:4] != b"\x7fELF" or raw[5:6] != b"\x01":
            raise ValueError("not a little-endian ELF file")
        self.bits = 64 if raw[4] == 2 else 32
        self._raw = raw
        self._layout = layout = _LAYOUTS[self.bits]
        ph_offset, sh_offset, ph_size, ph_count, sh_size, sh_count, names = self._unpack(
            layout.header, 0
        )
        *header_sizes, self._symbol_size = layout.entry_sizes
        if [ph_size, sh_size] != header_sizes:
            raise ValueError(f"its headers have {ph_size} and {sh_size} bytes")
        self.headers_end: int = sh_offset + sh_count * sh_size
        """Behind the section headers."""
        self.segments_end: int = ph_offset + ph_count * ph_size
        """Behind the program headers."""
        self._check(ph_offset, ph_count * ph_size)
        self._check(sh_offset, sh_count * sh_size)
        headers = range(ph_offset, self.segments_end, ph_size)
        self.segments = [Segment(at, *self._unpack(layout.segment, at)) for at in headers]
        headers = range(sh_offset, self.headers_end, sh_size)
        self.sections = [Section(*self._unpack(layout.section, at)) for at in headers]
        names_offset = self._section(names).offset if self.sections else 0
        self._by_name = {self._string(names_offset + one.name_offset): one for one in self.sections}

    def _check(self, offset: int, size: int) -> None:
        """Raise ValueError for what is not in the file."""
        if offset + size > len(self._raw):
            raise ValueError(f"{size} bytes at {offset:#x} are behind its end")

    def _unpack(self, layout: struct.Struct, offset: int) -> tuple[Any, ...]:
        self._check(offset, layout.size)
        return layout.unpack_from(self._raw, offset)

    def _string(self, offset: int) -> str:
        end = self._raw.find(b"\0", offset, offset + _MAX_NAME)
        if end < 0:
            raise ValueError(f"no name ends behind {offset:#x}")
        return self._raw[offset:end].decode()

    def _section(self, index: int) -> Section:
        if index >= len(self.sections):
            raise ValueError(f"it has no section {index}")
        return self.sections[index]

    def _table(self, name: str) -> Section:
        if name not in self._by_name:
            raise ValueError(f"it has no section {name}")
        table = self._by_name[name]
        self._check(table.offset, table.size)
        return table

    def segment_data(self, segment: Segment) -> bytes:
        """Return what is in the file of it."""
        self._check(segment.offset, segment.file_size)
        return self._raw[segment.offset : segment.offset + segment.file_size]

    def symbols(self, section_name: str) -> Iterator[Symbol]:
        """Yield those of a table, in its order."""
        table = self._table(section_name)
        strings = self._section(table.link).offset
        if table.entry_size != self._symbol_size:
            raise ValueError(f"its symbols have {table.entry_size} bytes")
        for at in range(table.offset, table.offset + table.size, table.entry_size):
            if self.bits == 64:
                name, info, _, index, value = self._unpack(_SYMBOL_64, at)
            else:
                name, value, _, info, _, index = self._unpack(_SYMBOL_32, at)
            is_function = info & 15 == _STT_FUNC and index != _SHN_UNDEF
            yield Symbol(self._string(strings + name), value, is_function, at)

    def versions(self) -> list[str]:
        """Return the version of each dynamic symbol, empty for one that has none."""
        definitions, names = self._table(".gnu.version_d"), {}
        strings, at = self._section(definitions.link).offset, definitions.offset
        while True:
            index, auxiliary, following = self._unpack(_VERDEF, at)
            (name,) = self._unpack(_VERDAUX, at + auxiliary)
            names[index] = self._string(strings + name)
            if not following:
                break
            at += following
        names.pop(_VER_NDX_GLOBAL, None)  # the name of the file itself
        table = self._table(".gnu.version")
        if table.size % _VERSION.size:
            raise ValueError(f"its versions have {table.size} bytes")
        data = self._raw[table.offset : table.offset + table.size]
        return [names.get(index, "") for (index,) in _VERSION.iter_unpack(data)]

    def notes(self) -> Iterator[tuple[str, int, slice]]:
        """Yield owner, type and place of each note of the segments."""
        for segment in self.segments:
            at, end = segment.offset, segment.offset + segment.file_size
            while segment.kind == PT_NOTE and at < end:
                name_size, size, kind = self._unpack(_NOTE, at)
                start = at + _NOTE.size + _aligned(name_size)
                self._check(start, size)
                name = self._raw[at + _NOTE.size : at + _NOTE.size + name_size]
                yield name.rstrip(b"\0").decode(), kind, slice(start, start + size)
                at = start + _aligned(size)

    def resize_load(self, data: bytearray, size: int) -> None:
        """Have the segment to load be that large, in `data`, which begins as this file does."""
        layout, *places = self._layout.sizes
        for segment in self.segments:
            if segment.kind == PT_LOAD:
                for place in places:
                    layout.pack_into(data, segment.header_offset + place, size)

    def drop_sections(self, data: bytearray) -> None:
        """Have the header in `data` say that there are none."""
        for offset, size in self._layout.no_sections:
            data[offset : offset + size] = bytes(size)


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
