"""System calls about time that programs make themselves, past the vDSO: the seccomp filter stops
them, and they are answered here.

CALLS is the table: a new call is a row and a test program. What its answer does not decide runs as
it is.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from pytest_vdsotime.arch import Abi, Arch
from pytest_vdsotime.kernel import memory
from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.kernel.seccomp import Rule, assemble
from pytest_vdsotime.page import COOKIE_SIZE, MARK_OFFSET, PAGE_SIZE, PROCESS_PAGE
from pytest_vdsotime.tracer.clockcalls import CLOCK_CALLS
from pytest_vdsotime.tracer.deadlines import DEADLINE_CALLS
from pytest_vdsotime.tracer.processcalls import PROCESS_CALLS
from pytest_vdsotime.tracer.request import CallRow, NotThere, Refused, Request, Substitute
from pytest_vdsotime.tracer.tasks import Process

CALLS = (*CLOCK_CALLS, *DEADLINE_CALLS, *PROCESS_CALLS)
_MINUS_ONE = 2**64 - 1


#: What the loader says when it fails (native_stub/loader_failed.h).
LOADER_FAILED = 32080
#: Below the stack pointer, beyond what functions may use there (System V ABI x86-64, 3.2.2).
_BELOW_STACK, _ALIGNMENT = 192, 16


class Calls:
    """The filter, and the answers to what it stops."""

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self._rows: dict[int, tuple[Abi, dict[int, CallRow]]] = {
            abi.audit_arch: (
                abi,
                {abi.syscalls[row.name]: row for row in CALLS if row.name in abi.syscalls},
            )
            for abi in arch.abis
        }
        own = Rule(LOADER_FAILED)
        self.filter = assemble(
            (
                abi.audit_arch,
                abi.refused_bit,
                [own, *(Rule(nr, row.match, row.pointer) for nr, row in rows.items())],
            )
            for abi, rows in self._rows.values()
        )
        self._timezone = memory.kernel_timezone(arch.abis[0].syscalls["gettimeofday"])

    def answer(
        self, stopped: Stopped, process: Process, call: SystemCall
    ) -> Callable[[Stopped], None] | None:
        """Decides one stopped call; returns what is to be done at its exit, if anything.

        Requires: the task is at a seccomp stop.
        Leaves: it stopped, its call answered or left to the kernel. ProcessLookupError: killed.
        """
        if process.is_in_real_time or self._is_of_vdso(stopped, process, call):
            return None
        abi, rows = self._rows[call.arch]
        mask = abi.mask
        arguments = tuple([argument & mask for argument in call.arguments])
        row = rows.get(call.nr)
        if row is None or not row.holds(arguments):
            if process.traces_calls:
                return None
            # A filter of the program's own wants it traced, which nobody does (seccomp(2)).
            self._return(stopped, -errno.ENOSYS)
            return None
        request = Request(process, stopped, call.stack, abi, row.wide, arguments, self._timezone)
        try:
            answer = row.answer(request)
            if isinstance(answer, Substitute):
                return self._substitute(request, answer)
        except Refused as refusal:
            answer = -refusal.number
        except NotThere:
            if not row.may_run_first:
                answer = -errno.EFAULT
            else:
                return self._at_exit(request, lambda result: self._again(row, request, result))
        if answer is None:
            return None
        if not isinstance(answer, int):
            return self._at_exit(request, answer)
        self._return(stopped, answer)
        return None

    def _again(self, row: CallRow, request: Request, result: int) -> int:
        """The kernel's own answer has had the memory provided that the clock's goes to."""
        try:
            answer = row.answer(request)
        except NotThere:
            answer = None
        return answer if isinstance(answer, int) else result

    def _return(self, stopped: Stopped, result: int) -> None:
        registers = stopped.registers()
        setattr(registers, self._arch.interrupted_syscall, _MINUS_ONE)
        setattr(registers, self._arch.syscall_result, result % 2**64)
        stopped.set_registers(registers)

    def _is_of_vdso(self, stopped: Stopped, process: Process, call: SystemCall) -> bool:
        """The kernel's vDSO makes the call itself where it cannot read the hardware."""
        host = process.host
        if host is None or call.counter - process.vdso not in host.call_offsets:
            return False
        if host.arch.vsyscall_caller is None:
            return True
        try:
            caller = stopped.peek(call.stack + host.arch.vsyscall_caller, 4)
        except MemoryError:
            return False  # the program jumped there, without a stack
        return 0 <= int.from_bytes(caller, "little") - process.vdso < host.size

    def _substitute(
        self, request: Request, substitute: Substitute
    ) -> Callable[[Stopped], None] | None:
        name = request.abi.arguments[substitute.argument]
        value = substitute.value
        if substitute.data:
            value = self._room_for(request, len(substitute.data))
            if value > request.abi.mask:
                return None  # a 32-bit call by a 64-bit program: its pointer does not reach there
            try:
                request.stopped.poke_bytes(value, substitute.data)
            except MemoryError:
                raise Refused(errno.EFAULT) from None
        registers = request.stopped.registers()
        own = getattr(registers, name)
        setattr(registers, name, value)
        request.stopped.set_registers(registers)

        def put_back(stopped: Stopped) -> None:
            registers = stopped.registers()
            setattr(registers, name, own)
            stopped.set_registers(registers)

        return put_back

    def _room_for(self, request: Request, size: int) -> int:
        """Where the kernel finds what it is to read in place of the program's own: in the process
        page, or where the program has none or something else there, below its stack."""
        process = request.process
        if process.mapped:
            mark = process.mapped + PROCESS_PAGE * PAGE_SIZE + MARK_OFFSET
            try:
                if request.stopped.peek(mark, COOKIE_SIZE) == process.world.page.cookie:
                    return process.next_slot()
            except MemoryError:
                pass
        return (request.stack - _BELOW_STACK - size) & -_ALIGNMENT

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
