"""Numbers and layouts of the kernel's interface and of native_stub, as the C headers have them.

Native_stub/build.py writes abi.json from those (native_stub/abi.c names what is in it).
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pytest_vdsotime.errors import TracingUnavailable, missing, source_tree

_PATH = Path(__file__).with_name("native") / "abi.json"
#: By the codes of the module struct. A char is a byte like others: a c_char array ends at a null.
_TYPES = {
    **{"Q": ctypes.c_uint64, "q": ctypes.c_int64, "I": ctypes.c_uint32, "i": ctypes.c_int32},
    **{"H": ctypes.c_uint16, "h": ctypes.c_int16, "B": ctypes.c_uint8, "b": ctypes.c_int8},
}


@cache
def _whole() -> Any:
    try:
        return json.loads(_PATH.read_bytes())
    except FileNotFoundError:
        raise TracingUnavailable(*missing(_PATH.name, source_tree())) from None


def syscalls(kind: str) -> Mapping[str, int]:
    """Return the numbers of all system calls by name, for a kind of program (Arch.name)."""
    numbers: Mapping[str, int] = _whole()["syscalls"][kind]
    return numbers


def constant(name: str) -> int:
    """Return a constant of the headers, as a signed 64-bit integer."""
    value: int = _whole()["constants"][name]
    return value


def fields(name: str) -> list[tuple[str, Any]]:
    """Return the `_fields_` of a ctypes.Structure that is a C struct."""
    return [
        (field, _type(kind) * count if count else _type(kind))
        for field, _offset, kind, count in _whole()["structs"][name][1]
    ]


@cache
def structure(name: str) -> type[ctypes.Structure]:
    """Return the ctypes.Structure that is a C struct; structs that hold it have the same."""
    return type(name, (ctypes.Structure,), {"_fields_": fields(name)})


def _type(kind: str) -> Any:
    return _TYPES.get(kind) or structure(kind)


def offset(name: str, field: str) -> int:
    """Return where a field of a C struct is."""
    found: int = next(one[1] for one in _whole()["structs"][name][1] if one[0] == field)
    return found


def packer(name: str, first: str | None = None, last: str | None = None) -> struct.Struct:
    """Return the layout of a C struct from one field to another.

    Its values are all the numbers there, in their order, those of structs and arrays within it too.
    """
    size, rows = _whole()["structs"][name]
    names = [row[0] for row in rows]
    start = names.index(first) if first else 0
    end = names.index(last) + 1 if last else len(names)
    beyond = rows[end][1] if end < len(rows) else size
    codes, at = ["="], rows[start][1]
    for place, code in _numbers(rows[start:end], 0):
        codes.append(f"{place - at}x{code}")
        at = place + struct.calcsize(f"={code}")
    return struct.Struct("".join([*codes, f"{beyond - at}x"]))


def _numbers(rows: Any, base: int) -> Iterator[tuple[int, str]]:
    for _field, place, kind, count in rows:
        size, within = _whole()["structs"].get(kind) or (struct.calcsize(f"={kind}"), None)
        for index in range(count or 1):
            at = base + place + index * size
            yield from [(at, kind)] if within is None else _numbers(within, at)


def pack(name: str, **values: Any) -> bytes:
    """Return a C struct with these fields, each a number or the bytes of it; the others are 0."""
    whole = bytearray(_whole()["structs"][name][0])
    view = structure(name).from_buffer(whole)
    for field, value in values.items():
        if isinstance(value, bytes):
            place = getattr(type(view), field)
            if len(value) > place.size:
                raise ValueError(f"{field} of struct {name} has {place.size} bytes")
            whole[place.offset : place.offset + len(value)] = value
        else:
            setattr(view, field, value)
    return bytes(whole)
