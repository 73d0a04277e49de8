"""The native part of the tracer: what it is told, and what it needs."""

from __future__ import annotations

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from pytest_vdsotime import image
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.takeover import Block, TakeOver


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
