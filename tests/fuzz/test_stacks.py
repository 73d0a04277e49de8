"""The first stack of a program: arguments, environment and auxiliary vector, or anything else."""

from __future__ import annotations

import ctypes
import mmap
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import abi, image
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.takeover import Block, Result, TakeOver
from pytest_vdsotime.tracer.takeover.exec import _find_sysinfo_ehdr
from pytest_vdsotime.tracer.takeover.native import RealTime

Examples = Callable[..., Callable[[Callable[..., None]], None]]

ARCH = host_arch()
AT_NULL, AT_SYSINFO_EHDR, AT_BASE = 0, 33, 7
SIZE = 64 * 1024


class Stack:
    """Memory of this process, behind which there is none."""

    def __init__(self) -> None:
        self._libc = libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (
            *(ctypes.c_void_p, ctypes.c_size_t),
            *(ctypes.c_int,) * 3,
            ctypes.c_long,
        )
        libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._start: int = libc.mmap(
            None, SIZE + 4096, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0
        )
        self.end: int = self._start + SIZE
        libc.munmap(self.end, 4096)

    def put(self, data: bytes) -> int:
        """Where it stands."""
        ctypes.memmove(self.end - len(data), data, len(data))
        return self.end - len(data)

    def close(self) -> None:
        self._libc.munmap(self._start, SIZE)


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack()
    yield stack
    stack.close()


def as_bytes(word: str, numbers: list[int]) -> bytes:
    mask = 256 ** array(word).itemsize - 1
    return array(word, [number & mask for number in numbers]).tobytes()


words = st.sampled_from("QI")
numbers = st.sampled_from([0, 1, 2, 33, 2**31, 2**32 - 1, 2**63, 2**64 - 1]) | st.integers(0, 40)
pointers = st.integers(1, 2**32 - 1)
pairs = st.lists(st.tuples(st.sampled_from([1, 3, AT_BASE, AT_SYSINFO_EHDR]), numbers), max_size=20)


def test_any_stack_has_an_image_or_none(examples: Examples, stack: Stack) -> None:
    numbers_ = st.lists(numbers, max_size=300)

    with ProcessMemory(os.getpid()) as memory:

        @examples(words, numbers_, st.binary(max_size=7), count=400)
        def check(word: str, numbers: list[int], rest: bytes) -> None:
            data = as_bytes(word, numbers) + rest
            place = stack.put(data)
            with suppress(RealTime, UnsupportedProgram, OSError):
                slot, value = _find_sysinfo_ehdr(memory, place, word)
                width = array(word).itemsize
                assert place < slot <= stack.end - width
                assert data[slot - place :][:width] == value.to_bytes(width, "little")
                assert value != 0


@pytest.mark.parametrize("data", [b"\0", bytes(7), bytes(8), b"\xff" * 16, bytes(64)])
@pytest.mark.parametrize("word", "QI")
def test_a_stack_that_ends_at_once(word: str, data: bytes, stack: Stack) -> None:
    with ProcessMemory(os.getpid()) as memory, pytest.raises((RealTime, UnsupportedProgram)):
        _find_sysinfo_ehdr(memory, stack.put(data), word)


def test_a_stack_as_the_kernel_makes_it(examples: Examples, stack: Stack) -> None:
    """However long its vectors are, the image is the one of the auxiliary vector."""
    strings = st.lists(pointers, max_size=2000)

    with ProcessMemory(os.getpid()) as memory:

        @examples(
            words, strings, strings, pairs, pairs, pointers, st.binary(max_size=100), count=100
        )
        def check(
            word: str,
            arguments: list[int],
            variables: list[int],
            before: list[tuple[int, int]],
            behind: list[tuple[int, int]],
            base: int,
            rest: bytes,
        ) -> None:
            before = [pair for pair in before if pair[0] != AT_SYSINFO_EHDR]
            auxv = [*before, (AT_SYSINFO_EHDR, base), *behind, (AT_NULL, 0)]
            vector = [number for pair in auxv for number in pair]
            head = [len(arguments), *arguments, 0, *variables, 0]
            place = stack.put(as_bytes(word, [*head, *vector]) + rest)
            slot, value = _find_sysinfo_ehdr(memory, place, word)
            index = len(head) + 2 * len(before) + 1
            assert (slot, value) == (place + index * array(word).itemsize, base)


def test_the_native_code_finds_the_same(examples: Examples, executed: Stopped) -> None:
    """It fails where it has found a vDSO, as nothing is there that it could write to."""
    take_over = TakeOver(image.tracer_path(ARCH))
    registers = executed.registers()
    with open(f"/proc/{executed.tid}/maps") as maps:
        end = next(int(line.split("-")[1].split()[0], 16) for line in maps if "[stack]" in line)
    blocks = {
        word: Block(
            mode=ARCH.program_mode[2],
            word_size=array(word).itemsize,
            data=bytes(8),
            parameters=bytes(ctypes.sizeof(abi.structure("loader_parameters"))),
            reference_base=0,
            moving_words=[],
            start=0,
        )
        for word in "QI"
    }

    with ProcessMemory(executed.tid) as memory:

        @examples(words, st.lists(numbers, max_size=300), st.booleans(), count=400)
        def check(word: str, numbers: list[int], has_end: bool) -> None:
            data = as_bytes(word, numbers) + bytes(64 * has_end)
            place = end - len(data)
            executed.poke_bytes(place, data)
            setattr(registers, ARCH.stack_pointer, place)
            executed.set_registers(registers)
            expected = 0
            with suppress(RealTime, UnsupportedProgram, OSError):
                _, expected = _find_sysinfo_ehdr(memory, place, word)
            try:
                result, base = take_over(executed, executed.tid, blocks[word])
            except OSError:
                assert expected or not has_end
            else:
                assert (result, base) == (Result.NO_VDSO_FOUND, expected)
