"""The seccomp filter that stops programs at system calls about time (seccomp(2)).

It is assembled from rows: what no row names never stops, and since Linux 5.11 does not even run the
filter.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pytest_vdsotime.abi import constant, offset, packer


def _code(*names: str) -> int:
    return sum(constant(f"BPF_{name}") for name in names)


_LOAD = _code("LD", "W", "ABS")
_LOAD_NUMBER = _code("LD", "IMM")
_TO_INDEX = _code("MISC", "TAX")
_SHIFT_BY_INDEX = _code("ALU", "LSH", "X")
_AND = _code("ALU", "AND", "K")
_JUMP_EQUAL = _code("JMP", "JEQ", "K")
_JUMP_AT_LEAST = _code("JMP", "JGE", "K")
_JUMP_ANY_BIT = _code("JMP", "JSET", "K")
_JUMP = _code("JMP", "JA", "K")
_RETURN = _code("RET", "K")
_ALLOW = constant("SECCOMP_RET_ALLOW")
_TRACE = constant("SECCOMP_RET_TRACE")
_NO_SUCH_CALL = constant("SECCOMP_RET_ERRNO") | errno.ENOSYS
_NR, _ARCH, _ARGUMENTS = (offset("seccomp_data", name) for name in ("nr", "arch", "args"))
_INSTRUCTION = packer("sock_filter")
INSTRUCTION_SIZE = _INSTRUCTION.size
_MAX_LIST = 4
_MAX_WAY = 255  # of a conditional jump
_WORD_BITS = 32
_SIGN = 1 << 31


class Match(NamedTuple):
    """A condition on the lower half of an argument."""

    argument: int
    values: tuple[int, ...] = ()
    """It is one of these, all below 32,"""
    ignored_bits: int = 0
    """whatever these bits are."""
    any_bits: int = 0
    """Or, where there are no values, it has one of these bits."""
    is_positive: bool = False
    """Or, as an int, it is above zero."""

    def holds(self, arguments: Sequence[int]) -> bool:
        """Return what the filter decides."""
        value = arguments[self.argument] & 0xFFFFFFFF
        if self.is_positive:
            return 0 < value < _SIGN
        if self.values:
            return value & ~self.ignored_bits in self.values
        return bool(value & self.any_bits)


class Rule(NamedTuple):
    """Stop at system call `nr` where `match` holds."""

    nr: int
    match: Match | None = None
    pointer: int | None = None
    """And this argument is not NULL."""
    data: int = 0
    """What PTRACE_GETEVENTMSG says at that stop (SECCOMP_RET_DATA), of one without conditions."""


class _Label:
    """A place in the code, known when all of it is."""


class _Code:
    """Instructions, their jumps by labels.

    Jumps only lead forward (seccomp(2)).
    """

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, _Label | None, _Label | None]] = []
        self._places: dict[_Label, int] = {}

    def add(
        self,
        operation: int,
        operand: int = 0,
        if_true: _Label | None = None,
        if_false: _Label | None = None,
    ) -> None:
        """Without a label it goes on with the next instruction."""
        self._instructions.append((operation, operand, if_true, if_false))

    def place(self, label: _Label) -> None:
        self._places[label] = len(self._instructions)

    def assembled(self) -> bytes:
        """Return it as the kernel has it.

        A conditional jump that leads further goes by way of an unconditional one behind it.
        """
        far: set[tuple[int, int]] = set()
        while True:
            starts = [0]
            for at in range(len(self._instructions)):
                starts.append(starts[at] + 1 + ((at, 0) in far) + ((at, 1) in far))
            found = {
                (at, which)
                for at, (_, _, *labels) in enumerate(self._instructions)
                for which, label in enumerate(labels)
                if label is not None and starts[self._places[label]] - starts[at] - 1 > _MAX_WAY
            }
            if found <= far:
                break
            far |= found
        code = []
        for at, (operation, operand, *labels) in enumerate(self._instructions):
            ways, jumps = [], list[int]()
            for which, label in enumerate(labels):
                if (at, which) in far and label is not None:
                    ways.append(len(jumps))
                    jumps.append(starts[self._places[label]] - starts[at] - 1 - len(jumps) - 1)
                else:
                    target = starts[at + 1 if label is None else self._places[label]]
                    ways.append(target - starts[at] - 1)
            code.append(_INSTRUCTION.pack(operation, *ways, operand % 2**32))
            code += [_INSTRUCTION.pack(_JUMP, 0, 0, way) for way in jumps]
        return b"".join(code)


_Condition: TypeAlias = tuple[Match | None, int | None, int]


@dataclass(slots=True)
class _Run:
    """Numbers one behind the other, with the same conditions."""

    first: int
    end: int
    found: _Label


def _runs(rules: Sequence[Rule], conditions: dict[_Condition, _Label]) -> list[_Run]:
    runs: list[_Run] = []
    for rule in sorted(rules, key=lambda rule: rule.nr):
        label = conditions.setdefault((rule.match, rule.pointer, rule.data), _Label())
        if runs and (runs[-1].end, runs[-1].found) == (rule.nr, label):
            runs[-1].end += 1
        else:
            runs.append(_Run(rule.nr, rule.nr + 1, label))
    return runs


def _search(code: _Code, runs: Sequence[_Run], allow: _Label) -> None:
    """By halves."""
    if len(runs) > _MAX_LIST:
        middle, above = len(runs) // 2, _Label()
        code.add(_JUMP_AT_LEAST, runs[middle].first, above)
        _search(code, runs[:middle], allow)
        code.place(above)
        _search(code, runs[middle:], allow)
        return
    for run in runs:
        otherwise = allow if run is runs[-1] else None
        if run.end == run.first + 1:
            code.add(_JUMP_EQUAL, run.first, run.found, otherwise)
        else:
            code.add(_JUMP_AT_LEAST, run.first, None, allow)
            code.add(_JUMP_AT_LEAST, run.end, otherwise, run.found)


def _test(
    code: _Code, match: Match | None, pointer: int | None, trace: _Label, allow: _Label
) -> None:
    if pointer is not None:
        is_set = trace if match is None else _Label()
        code.add(_LOAD, _ARGUMENTS + 8 * pointer)
        code.add(_JUMP_ANY_BIT, -1, is_set)
        code.add(_LOAD, _ARGUMENTS + 8 * pointer + 4)
        code.add(_JUMP_ANY_BIT, -1, is_set, allow)
        code.place(is_set)
    if match is None:
        return
    code.add(_LOAD, _ARGUMENTS + 8 * match.argument)
    if match.is_positive:
        code.add(_JUMP_ANY_BIT, _SIGN, allow)
        code.add(_JUMP_ANY_BIT, -1, trace, allow)
        return
    if not match.values:
        code.add(_JUMP_ANY_BIT, match.any_bits, trace, allow)
        return
    if match.ignored_bits:
        code.add(_AND, ~match.ignored_bits)
    if len(match.values) <= _MAX_LIST:
        for value in match.values:
            code.add(_JUMP_EQUAL, value, trace, allow if value == match.values[-1] else None)
        return
    # However many values there are: bit `argument` of a set.
    code.add(_JUMP_AT_LEAST, _WORD_BITS, allow)
    code.add(_TO_INDEX)
    code.add(_LOAD_NUMBER, 1)
    code.add(_SHIFT_BY_INDEX)
    code.add(_JUMP_ANY_BIT, sum(1 << value for value in match.values), trace, allow)


def assemble(arms: Iterable[tuple[int, int, Sequence[Rule]]]) -> bytes:
    """Return the filter's instructions.

    Each kind of system call there is has (AUDIT_ARCH_*, a bit of numbers that do not exist, rules);
    calls of any other kind are allowed.

    The fewer instructions the better: a filter is translated at the start of each program, and then
    run for every system call there is, for the kernel to know those that are always allowed. So
    rules with the same conditions share them, whatever the kind of system call.
    """
    code, allow, trace, refuse = _Code(), _Label(), _Label(), _Label()
    conditions: dict[_Condition, _Label] = {(None, None, 0): trace}
    kinds = [(arch, refused_bit, rules, _Label()) for arch, refused_bit, rules in arms]
    code.add(_LOAD, _ARCH)
    for arch, _, _, arm in kinds:
        code.add(_JUMP_EQUAL, arch, arm)
    code.add(_RETURN, _ALLOW)
    for _, refused_bit, rules, arm in kinds:
        code.place(arm)
        code.add(_LOAD, _NR)
        if refused_bit:
            code.add(_JUMP_ANY_BIT, refused_bit, refuse)
        _search(code, _runs(rules, conditions), allow)
        if not rules:
            code.add(_RETURN, _ALLOW)
    for (match, pointer, data), label in conditions.items():
        if data:
            code.place(label)
            code.add(_RETURN, _TRACE | data)
        elif label is not trace:
            code.place(label)
            _test(code, match, pointer, trace, allow)
    for label, verdict in ((allow, _ALLOW), (trace, _TRACE), (refuse, _NO_SUCH_CALL)):
        code.place(label)
        code.add(_RETURN, verdict)
    return code.assembled()
