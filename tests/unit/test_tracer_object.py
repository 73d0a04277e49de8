"""The native part of the tracer: what it is told, and what it needs."""

from __future__ import annotations

import struct

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from pytest_vdsotime import image
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.takeover import Block, Result, TakeOver

ARCH = host_arch()


def block(mode: int = 0) -> Block:
    return Block(
        mode=mode,
        word_size=8,
        data=b"1234567890",
        parameters=b"",
        reference_base=0,
        moving_words=[],
        start=0,
    )


def test_it_needs_no_library() -> None:
    """It is loaded into any Python, whatever its C library is."""
    with open(image.tracer_path(ARCH), "rb") as file:
        (dynamic,) = ELFFile(file).iter_segments("PT_DYNAMIC")
        assert isinstance(dynamic, DynamicSegment)
        tags = {tag.entry.d_tag for tag in dynamic.iter_tags()}
    assert tags.isdisjoint({"DT_NEEDED", "DT_RELA", "DT_REL", "DT_JMPREL", "DT_INIT_ARRAY"})


def test_a_task_that_is_not_ours() -> None:
    take_over = TakeOver(image.tracer_path(ARCH))
    with pytest.raises(ProcessLookupError):
        take_over(Stopped(1), 1, block())


@pytest.mark.parametrize("below_end", range(1, 8))
def test_a_count_of_arguments_that_leads_around_the_end(executed: Stopped, below_end: int) -> None:
    """A process that may write the memory of a program may do so before the tracer reads it."""
    stack = getattr(executed.registers(), ARCH.stack_pointer)
    count = (2**64 - 8 * below_end - stack) // 8 - 2
    executed.poke_bytes(stack, struct.pack("=Q", count))
    take_over = TakeOver(image.tracer_path(ARCH))
    result, _ = take_over(executed, executed.tid, block(ARCH.program_mode[2]))
    assert result == Result.NO_VDSO_FOUND


def test_a_stack_without_an_end(executed: Stopped) -> None:
    """No entry of the auxiliary vector is its last: it is read as far as there is memory."""
    stack = getattr(executed.registers(), ARCH.stack_pointer)
    with open(f"/proc/{executed.tid}/maps") as maps:
        end = next(int(line.split("-")[1].split()[0], 16) for line in maps if "[stack]" in line)
    executed.poke_bytes(stack + 8, b"\1" * (end - stack - 8))
    take_over = TakeOver(image.tracer_path(ARCH))
    result, _ = take_over(executed, executed.tid, block(ARCH.program_mode[2]))
    assert result == Result.NO_VDSO_FOUND
