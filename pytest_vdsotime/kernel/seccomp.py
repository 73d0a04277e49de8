"""The seccomp filter that stops programs at system calls about time (seccomp(2)).

It is assembled from rows: what no row names never stops, and since Linux 5.11 does not even run the
filter. Each row carries a number that the tracer finds in the stop's event message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# linux/bpf_common.h, linux/seccomp.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_TRACE = 0x7FF00000
# struct seccomp_data: nr, arch, instruction_pointer, args[6]
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_INSTRUCTION = struct.Struct("=HBBI")
INSTRUCTION_SIZE = _INSTRUCTION.size
_LONGEST_LIST = 2


@dataclass(frozen=True, slots=True)
class Match:
    """A condition on the lower half of an argument."""

    argument: int
    values: tuple[int, ...] = ()
    """It is one of these."""
    any_bits: int = 0
    """Or, where there are no values, it has one of these bits."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Stop at system call `nr` where `match` holds, and tell the tracer `number`."""

    nr: int
    number: int
    match: Match | None = None
    pointer: int | None = None
    """And this argument is not NULL."""


def _return(value: int) -> bytes:
    return _INSTRUCTION.pack(_RETURN, 0, 0, value)


def _load(offset: int) -> bytes:
    return _INSTRUCTION.pack(_LOAD, 0, 0, offset)


def _body(rule: Rule) -> list[bytes]:
    """What is run once the system call is known to be the rule's: ends by returning."""
    code = [_return(_TRACE | rule.number)]
    if rule.match is not None:
        code = [*_test(rule.match), _return(_ALLOW), *code]
    if rule.pointer is not None:
        low, high = (_load(_ARGUMENTS + 8 * rule.pointer + half) for half in (0, 4))
        is_set = _INSTRUCTION.pack(_JUMP_ANY_BIT, 3, 0, 2**32 - 1)
        is_set_too = _INSTRUCTION.pack(_JUMP_ANY_BIT, 1, 0, 2**32 - 1)
        code = [low, is_set, high, is_set_too, _return(_ALLOW), *code]
    return code


def _test(match: Match) -> list[bytes]:
    """Goes on behind the instruction that follows where the condition holds, else with it."""
    test = [_load(_ARGUMENTS + 8 * match.argument)]
    if not match.values:
        return [*test, _INSTRUCTION.pack(_JUMP_ANY_BIT, 1, 0, match.any_bits)]
    count = len(match.values)
    return test + [
        _INSTRUCTION.pack(_JUMP_EQUAL, count - index, 0, value % 2**32)
        for index, value in enumerate(match.values)
    ]


def _arm(rules: Sequence[Rule]) -> list[bytes]:
    return [_load(_NR), *_tree(sorted(rules, key=lambda rule: rule.nr))]


def _tree(rules: Sequence[Rule]) -> list[bytes]:
    """A search by halves: when a filter is installed, the kernel runs it for every system call
    there
    is, to know those that are always allowed."""
    if len(rules) > _LONGEST_LIST:
        middle = len(rules) // 2
        below, above = _tree(rules[:middle]), _tree(rules[middle:])
        return [
            _INSTRUCTION.pack(_JUMP_AT_LEAST, 0, 1, rules[middle].nr),
            _INSTRUCTION.pack(_JUMP, 0, 0, len(below)),
            *below,
            *above,
        ]
    code = []
    for rule in rules:
        body = _body(rule)
        code += [_INSTRUCTION.pack(_JUMP_EQUAL, 0, len(body), rule.nr), *body]
    return [*code, _return(_ALLOW)]


def assemble(arms: Iterable[tuple[int, Sequence[Rule]]]) -> bytes:
    """The filter's instructions, from (AUDIT_ARCH_*, rules) for each kind of system call there is;
    calls of any other kind are allowed."""
    code = [_load(_ARCH)]
    for arch, rules in arms:
        arm = _arm(rules)
        # A conditional jump reaches 255 instructions, an arm may be longer.
        code.append(_INSTRUCTION.pack(_JUMP_EQUAL, 1, 0, arch))
        code.append(_INSTRUCTION.pack(_JUMP, 0, 0, len(arm)))
        code += arm
    return b"".join([*code, _return(_ALLOW)])
