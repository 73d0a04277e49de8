"""The filter, run by an interpreter of its instructions: what it stops and what it lets through."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence

import pytest

from pytest_vdsotime.abi import constant, packer
from pytest_vdsotime.arch import Abi, host_arch
from pytest_vdsotime.kernel.seccomp import INSTRUCTION_SIZE, Match, Rule, assemble
from pytest_vdsotime.timeline import CLOCKS
from pytest_vdsotime.tracer.call import CallRow
from pytest_vdsotime.tracer.calls import CALLS, LOADER_FAILED, Calls
from pytest_vdsotime.tracer.calls.files import FILE_CALLS
from pytest_vdsotime.tracer.calls.waits import followed

ALLOW, TRACE = constant("SECCOMP_RET_ALLOW"), constant("SECCOMP_RET_TRACE")
DATA = packer("seccomp_data")
ALL_CALLS = *followed(CALLS, host_arch()), *FILE_CALLS

NO_ARGUMENTS = (0,) * 6
RISCV64 = constant("AUDIT_ARCH_RISCV64")  # not an ABI of this host
INTEGERS = [*range(-8, 64), 1000, 2**31 - 1, -(2**31)]


def code(*names: str) -> int:
    return sum(constant(f"BPF_{name}") for name in names)


class Bpf:
    LOAD = code("LD", "W", "ABS")
    LOAD_NUMBER = code("LD", "IMM")
    TO_INDEX = code("MISC", "TAX")
    SHIFT_BY_INDEX = code("ALU", "LSH", "X")
    AND = code("ALU", "AND", "K")
    JUMP_EQUAL = code("JMP", "JEQ", "K")
    JUMP_AT_LEAST = code("JMP", "JGE", "K")
    JUMP_ANY_BIT = code("JMP", "JSET", "K")
    JUMP = code("JMP", "JA", "K")
    RETURN = code("RET", "K")


def run(code: bytes, nr: int, arch: int, arguments: Sequence[int] = NO_ARGUMENTS) -> int:
    """The filter's verdict on a system call, as the kernel's interpreter comes to it (the subset of
    linux/bpf_common.h that filters here are made of)."""
    data = DATA.pack(nr, arch, 0, *(value % 2**64 for value in arguments))
    instructions = list(packer("sock_filter").iter_unpack(code))
    accumulator = index = position = 0
    while True:
        operation, if_true, if_false, operand = instructions[position]
        position += 1
        match operation:
            case Bpf.LOAD:
                assert operand % 4 == 0  # seccomp_check_filter
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case Bpf.JUMP:
                position += operand
            case Bpf.JUMP_AT_LEAST:
                position += if_true if accumulator >= operand else if_false
            case Bpf.JUMP_EQUAL:
                position += if_true if accumulator == operand else if_false
            case Bpf.JUMP_ANY_BIT:
                position += if_true if accumulator & operand else if_false
            case Bpf.AND:
                accumulator &= operand
            case Bpf.TO_INDEX:
                index = accumulator
            case Bpf.LOAD_NUMBER:
                accumulator = operand
            case Bpf.SHIFT_BY_INDEX:
                assert index < 32
                accumulator = accumulator << index & 0xFFFFFFFF
            case Bpf.RETURN:
                return int(operand)
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


def calls_of(abi: Abi) -> Iterator[tuple[int, CallRow]]:
    """(system call number, row) of each row that the ABI has a call for."""
    return ((abi.syscalls[row.name], row) for row in ALL_CALLS if row.name in abi.syscalls)


ABIS = host_arch().abis
FILTER = Calls(host_arch()).filter(waits_follow=True, files_follow=True)


def place_of(abi: Abi, row: CallRow) -> int:
    """What the filter says beside that a call is to stop: where a stat may return to."""
    if row.name not in abi.returns:
        return 0
    return 1 + ABIS.index(abi) * constant("CALL_RETURNS") + abi.returns[row.name]


def holds(match: Match, value: int) -> bool:
    if match.is_positive:
        return 0 < value < 2**31
    if match.values:
        return value & ~match.ignored_bits in match.values
    return bool(value & match.any_bits)


def with_argument(index: int, value: int) -> list[int]:
    """Arguments of which the others would match or not, were they looked at; none is NULL."""
    arguments = [1, 1000, 1, 1000, 1, 1000]
    arguments[index] = value
    return arguments


def stopping_arguments(row: CallRow) -> list[int]:
    arguments = with_argument(0, 1)
    if row.match is not None:
        match = row.match
        arguments[match.argument] = next(value for value in INTEGERS if holds(match, value))
    return arguments


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: f"{abi.audit_arch:#x}")
def test_every_call_stops_for_its_arguments(abi: Abi) -> None:
    for nr, row in calls_of(abi):
        verdict = run(FILTER, nr, abi.audit_arch, stopping_arguments(row))
        assert verdict == TRACE | place_of(abi, row), row
        if row.match is None:
            continue
        for value in INTEGERS:
            expected = TRACE if holds(row.match, value) else ALLOW
            arguments = with_argument(row.match.argument, value)
            assert run(FILTER, nr, abi.audit_arch, arguments) == expected, row
            # It is an int: the kernel ignores what is above it.
            arguments[row.match.argument] = value % 2**32 | 0xABC << 32
            assert run(FILTER, nr, abi.audit_arch, arguments) == expected, row


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: f"{abi.audit_arch:#x}")
def test_a_call_with_null_stops_unless_it_needs_the_pointer(abi: Abi) -> None:
    """Either half of a pointer makes it one."""
    for nr, row in calls_of(abi):
        arguments = stopping_arguments(row)
        for argument in set(range(6)) - {row.match.argument if row.match else None}:
            for value in (0, 1, 1 << 32, 2**64 - 1):
                arguments[argument] = value
                needs_it = argument == row.pointer and value == 0
                expected = ALLOW if needs_it else TRACE | place_of(abi, row)
                assert run(FILTER, nr, abi.audit_arch, arguments) == expected, row
            arguments[argument] = 1


@pytest.mark.parametrize("name", ["clock_gettime", "clock_gettime64"])
def test_reading_a_clock_stops_for_the_ids_that_are_served(name: str) -> None:
    (row,) = (row for row in ALL_CALLS if row.name == name)
    assert row.match == Match(argument=0, values=tuple(CLOCKS))


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: f"{abi.audit_arch:#x}")
def test_nothing_else_stops(abi: Abi) -> None:
    stopping = {nr for nr, _ in calls_of(abi)}
    for nr in set(range(1024)) - stopping:
        for arguments in (NO_ARGUMENTS, (2**64 - 1,) * 6):
            assert run(FILTER, nr, abi.audit_arch, arguments) == ALLOW


def test_the_loader_is_heard() -> None:
    for abi in ABIS:
        assert run(FILTER, LOADER_FAILED, abi.audit_arch) == TRACE


def test_x32_calls_are_none() -> None:
    """As on a kernel without CONFIG_X86_X32_ABI."""
    refused = constant("SECCOMP_RET_ERRNO") | errno.ENOSYS
    own = host_arch().abis[0]
    nr = constant("__X32_SYSCALL_BIT") | own.syscalls["clock_gettime"]
    assert run(FILTER, nr, own.audit_arch) == refused


def test_calls_of_another_kind_do_not_stop() -> None:
    for nr in range(1024):
        assert run(FILTER, nr, RISCV64) == ALLOW


def test_the_filter_fits_the_kernel() -> None:
    assert len(FILTER) % INSTRUCTION_SIZE == 0
    assert len(FILTER) // INSTRUCTION_SIZE <= constant("BPF_MAXINSNS")


def test_bits_of_an_argument() -> None:
    code = assemble([(1, 0, [Rule(5, Match(argument=3, any_bits=0b110))])])
    for value in range(16):
        expected = TRACE if value & 0b110 else ALLOW
        assert run(code, 5, 1, with_argument(3, value)) == expected
        assert run(code, 5, 1, with_argument(3, value | 0b110 << 32)) == expected


def test_each_kind_of_call_has_its_own_rules() -> None:
    code = assemble([(1, 0, [Rule(5)]), (2, 0, []), (3, 0, [Rule(5), Rule(6)])])
    verdicts = {(arch, nr): run(code, nr, arch) for arch in range(5) for nr in range(8)}
    stops = {call: verdict for call, verdict in verdicts.items() if verdict != ALLOW}
    assert stops == {(1, 5): TRACE, (3, 5): TRACE, (3, 6): TRACE}


def test_a_pointer_alone() -> None:
    code = assemble([(1, 0, [Rule(5, pointer=2)])])
    for value in (0, 1, 1 << 32):
        assert run(code, 5, 1, with_argument(2, value)) == (TRACE if value else ALLOW)
