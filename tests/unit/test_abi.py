"""abi.json in Python: structs of ctypes and of the module struct lie as the compiler laid them."""

from __future__ import annotations

import ctypes
import struct

import pytest

from pytest_vdsotime import abi

STRUCTS = ("fastpath", "loader_parameters", "sample", "spawn", "takeover_block", "vdso_page")


@pytest.mark.parametrize("name", STRUCTS)
def test_structures(name: str) -> None:
    kind = abi.structure(name)
    for field, _ in abi.fields(name):
        assert getattr(kind, field).offset == abi.offset(name, field)
    assert ctypes.sizeof(kind) == abi.packer(name).size


def test_packers() -> None:
    packed = abi.packer("loader_parameters").pack(*range(1, 60))
    found = abi.structure("loader_parameters").from_buffer_copy(packed)
    assert (found.entry, found.mapping_length, found.cookie[1]) == (1, 5, 9)
    assert (found.process.clock_gettime, found.process.mark[1], found.path[39]) == (10, 18, 59)


def test_a_part_of_a_struct() -> None:
    part = abi.packer("vdso_page", "served", "lines")
    assert part.size == abi.offset("vdso_page", "clocks") - abi.offset("vdso_page", "served")
    assert part.unpack(bytes(range(part.size)))[:2] == struct.unpack("=IQ", bytes(range(12)))


def test_fields_by_name() -> None:
    packed = abi.pack("loader_parameters", address=7, path=b"/proc")
    assert packed[abi.offset("loader_parameters", "address")] == 7
    assert packed[abi.offset("loader_parameters", "path") :] == b"/proc".ljust(40, b"\0")
    with pytest.raises(ValueError, match="path of struct loader_parameters has 40 bytes"):
        abi.pack("loader_parameters", path=bytes(41))
