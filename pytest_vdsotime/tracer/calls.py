"""System calls about time that programs make themselves, past the vDSO: the seccomp filter stops
them, and they are answered here.

CALLS is the table: a new call is a row and a test program. What its answer does not decide runs as
it is.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from pytest_vdsotime.arch import Abi, Arch
from pytest_vdsotime.kernel import memory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.seccomp import Rule, assemble
from pytest_vdsotime.tracer.clockcalls import CLOCK_CALLS
from pytest_vdsotime.tracer.deadlines import DEADLINE_CALLS
from pytest_vdsotime.tracer.request import CallRow, Refused, Request, Substitute
from pytest_vdsotime.tracer.tasks import Process

CALLS = (*CLOCK_CALLS, *DEADLINE_CALLS)
_MINUS_ONE = 2**64 - 1


class Calls:
    """The filter, and the answers to what it stops."""

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self._rows: list[tuple[Abi, dict[int, CallRow]]] = [
            (abi, {abi.syscalls[row.name]: row for row in CALLS if row.name in abi.syscalls})
            for abi in arch.abis
        ]
        self.filter = assemble(
            (abi.audit_arch, [Rule(nr, row.match, row.pointer) for nr, row in rows.items()])
            for abi, rows in self._rows
        )
        self._timezone = memory.kernel_timezone(arch.abis[0].syscalls["gettimeofday"])

    def answer(self, stopped: Stopped, process: Process) -> Callable[[Stopped], None] | None:
        """Decides one stopped call; returns what is to be done at its exit, if anything.

        Requires: the task is at a seccomp stop.
        Leaves: it stopped, its call answered or left to the kernel. ProcessLookupError: killed.
        """
        abi, rows = self._rows[stopped.event_message()]
        registers = stopped.registers()
        arch = self._arch
        row = rows[getattr(registers, arch.interrupted_syscall) & 0xFFFFFFFF]
        if process.is_in_real_time or self._is_of_vdso(stopped, process, registers):
            return None
        arguments = tuple(getattr(registers, name) & abi.mask for name in abi.arguments)
        request = Request(process, stopped, abi, row.wide, arguments, self._timezone)
        try:
            answer = row.answer(request)
            if isinstance(answer, Substitute):
                return self._substitute(request, answer, registers)
        except Refused as refusal:
            answer = -refusal.number
        if answer is None:
            return None
        if not isinstance(answer, int):
            return self._at_exit(request, answer)
        setattr(registers, arch.interrupted_syscall, _MINUS_ONE)
        setattr(registers, arch.syscall_result, answer % 2**64)
        stopped.set_registers(registers)
        return None

    def _is_of_vdso(self, stopped: Stopped, process: Process, registers: Any) -> bool:
        """The kernel's vDSO makes the call itself where it cannot read the hardware."""
        caller = getattr(registers, self._arch.program_counter)
        if caller not in process.vdso or process.arch is None:
            return False
        if process.arch.vsyscall_caller is None:
            return True
        stack = getattr(registers, self._arch.stack_pointer) + process.arch.vsyscall_caller
        return int.from_bytes(stopped.peek(stack, 4), "little") in process.vdso

    def _substitute(
        self, request: Request, substitute: Substitute, registers: Any
    ) -> Callable[[Stopped], None] | None:
        slot = request.process.next_slot()
        if not slot or slot > request.abi.mask:
            return None  # a 32-bit call by a 64-bit program: its pointer does not reach there
        name = request.abi.arguments[substitute.argument]
        own = getattr(registers, name)
        try:
            request.stopped.poke_bytes(slot, substitute.data)
        except MemoryError:  # the program has unmapped what it was given
            raise Refused(errno.EFAULT) from None
        setattr(registers, name, slot)
        request.stopped.set_registers(registers)

        def put_back(stopped: Stopped) -> None:
            registers = stopped.registers()
            setattr(registers, name, own)
            stopped.set_registers(registers)

        return put_back

    def _at_exit(self, request: Request, answer: Callable[[int], int]) -> Callable[[Stopped], None]:
        name = self._arch.syscall_result

        def put_right(stopped: Stopped) -> None:
            request.stopped = stopped
            registers = stopped.registers()
            result = getattr(registers, name)
            try:
                result = answer(result - 2**64 if result >= 2**63 else result)
            except Refused as refusal:
                result = -refusal.number
            setattr(registers, name, result % 2**64)
            stopped.set_registers(registers)

        return put_right
