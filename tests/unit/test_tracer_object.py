"""The native part of the tracer: what it is told, and what it needs."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from pytest_vdsotime import image
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.sample import TaskSample
from pytest_vdsotime.kernel.spawn import PendingSpawns, SpawnStruct
from pytest_vdsotime.kernel.takeover import Block, Result, TakeOver
from pytest_vdsotime.tracer.fastpath import FastPath, Record

NATIVE_STUB = Path(__file__).parents[2] / "native_stub"


def block() -> Block:
    return Block(
        mode=0,
        word_size=8,
        data=b"1234567890",
        parameters=b"",
        reference_base=0,
        moving_words=[],
        start=0,
    )


@pytest.mark.parametrize(
    ("header", "name", "structure", "values"),
    [
        (
            "tracer/takeover.h",
            "takeover_block",
            block().structure,
            {one.name: one.value for one in Result},
        ),
        (
            "tracer/fastpath.h",
            "fastpath",
            FastPath(image.tracer_path(host_arch()), PendingSpawns()).structure,
            {"STOP": 0, "NEWS": 1, "NOTHING": 2, "INTEREST": 1, "INTEREST_BY_POINTER": 2},
        ),
        ("tracer/waits.h", "wait_record", Record(), {"WAIT_BY_VALUE": 1, "WAIT_BY_POINTER": 2}),
        ("tracer/sample.h", "sample", TaskSample(), {}),
        (
            "tracer/spawn.h",
            "spawn",
            SpawnStruct(),
            {"IN_DIRECTORY": 1, "ELSEWHERE": 2, "CHILD_COMES": 1},
        ),
    ],
    ids=["takeover", "fastpath", "waits", "look", "spawn"],
)
def test_the_header_agrees(
    tmp_path: Path, header: str, name: str, structure: ctypes.Structure, values: dict[str, int]
) -> None:
    kind = type(structure)
    offsets = {field[0]: getattr(kind, field[0]).offset for field in kind._fields_}
    asserts = [
        *(f"offsetof(struct {name}, {field}) == {offset}" for field, offset in offsets.items()),
        f"sizeof(struct {name}) == {ctypes.sizeof(kind)}",
        *(f"{constant} == {value}" for constant, value in values.items()),
    ]
    source = tmp_path / "layout.c"
    lines = ["#include <stddef.h>", f'#include "{header}"']
    lines += [f'_Static_assert({one}, "{one}");' for one in asserts]
    source.write_text("\n".join([*lines, ""]))
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl"]
    command = [*compiler, "-ffreestanding", f"-I{NATIVE_STUB}", "-c", "-o", f"{source}.o"]
    compiled = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=60)
    assert compiled.returncode == 0, compiled.stderr


def test_it_needs_no_library() -> None:
    """It is loaded into any Python, whatever its C library is."""
    with open(image.tracer_path(host_arch()), "rb") as file:
        (dynamic,) = ELFFile(file).iter_segments("PT_DYNAMIC")
        assert isinstance(dynamic, DynamicSegment)
        tags = {tag.entry.d_tag for tag in dynamic.iter_tags()}
    assert tags.isdisjoint({"DT_NEEDED", "DT_RELA", "DT_REL", "DT_JMPREL", "DT_INIT_ARRAY"})


def test_a_task_that_is_not_ours() -> None:
    take_over = TakeOver(image.tracer_path(host_arch()))
    with pytest.raises(ProcessLookupError):
        take_over(Stopped(1), 1, block())
