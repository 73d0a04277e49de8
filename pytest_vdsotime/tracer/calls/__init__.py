"""System calls about time that programs make themselves, past the vDSO.

The seccomp filter stops them, and they are answered here.

CALLS is the table: a new call is a row and a test program. What its answer does not decide runs as
it is.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from pytest_vdsotime import faults
from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Abi, Arch
from pytest_vdsotime.kernel import memory
from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.kernel.seccomp import Match, Rule, assemble
from pytest_vdsotime.page import MARK_OFFSET, PAGE_SIZE, SLOT_SIZE
from pytest_vdsotime.tracer.call import (
    CallRow,
    Exit,
    NotThere,
    Refused,
    Request,
    Substitute,
    scratch_memory,
)
from pytest_vdsotime.tracer.calls import signals, waits
from pytest_vdsotime.tracer.calls.clocks import ADJUSTING_CALLS, CLOCK_CALLS
from pytest_vdsotime.tracer.calls.files import FILE_CALLS
from pytest_vdsotime.tracer.calls.peers import is_asking
from pytest_vdsotime.tracer.calls.process import PROCESS_CALLS
from pytest_vdsotime.tracer.calls.restart import put_back, rewind_interrupted
from pytest_vdsotime.tracer.calls.signals import SIGNAL_CALLS
from pytest_vdsotime.tracer.calls.sockets import DATAGRAM_CALLS, SOCKET_CALLS
from pytest_vdsotime.tracer.calls.timers import TIMER_CALLS
from pytest_vdsotime.tracer.calls.waits import followed
from pytest_vdsotime.tracer.state import Process, Task
from pytest_vdsotime.waits import WAITS, Unit, Wait

_SIGNAL_WAITS = tuple(signals.row_of(row) for row in WAITS if row.takes_signals)
WAIT_CALLS = tuple(
    CallRow(row.name, partial(waits.begin, row), row.condition, row.time64, row.pointer)
    for row in WAITS
    if not row.takes_signals
)
#: Those of them whose timeout is a point of a clock.
POINT_CALLS = tuple(
    CallRow(
        row.name,
        partial(waits.begin, row),
        row.points if isinstance(row.points, Match) else None,
        row.time64,
        row.pointer,
    )
    for row in WAITS
    if row.points
)
OTHER_CALLS = (
    *CLOCK_CALLS,
    *ADJUSTING_CALLS,
    *TIMER_CALLS,
    *SOCKET_CALLS,
    *PROCESS_CALLS,
    *SIGNAL_CALLS,
    *_SIGNAL_WAITS,
)
#: By name, those that are answered for programs in real time too: by them a child would leave its
#: tracer, another kind of program comes next, or a tracee sees more signals than it would alone.
OF_SKIPPED = {row.name for row in (*PROCESS_CALLS, *SIGNAL_CALLS, *_SIGNAL_WAITS)}
_OF_FILES = {row.name for row in FILE_CALLS}
CALLS = (*OTHER_CALLS, *WAIT_CALLS, *DATAGRAM_CALLS)
_MINUS_ONE = 2**64 - 1
_Result = TypeVar("_Result")


def _signed(register: int) -> int:
    return register - 2**64 if register >= 2**63 else register


def _result_of(on_exit: Callable[[int], _Result], result: int) -> _Result | int:
    """At the exit of a call that the kernel has ended with `result`: what it returns.

    The kernel may have used memory that is closed to the tracer (memfd_secret(2)), or gone by now.
    """
    try:
        return on_exit(result)
    except Refused as refusal:
        return -refusal.number
    except NotThere:
        return -errno.EFAULT


#: What the loader says when it fails (native_stub/program/loader_failed.h).
LOADER_FAILED = constant("LOADER_FAILED")
#: Places for a kind of system call (native_stub/tracer/fastpath.h).
_CALL_RETURNS = constant("CALL_RETURNS")
_NO_LOW_PAGE = (
    "{} waits in real time: a system call of 32-bit programs (int 0x80) needs a page below 4 GiB: "
    "{}"
)


def _rules(abi: Abi, rows: Iterable[CallRow], kind: int) -> Iterator[Rule]:
    numbers, first = abi.syscalls, 1 + kind * _CALL_RETURNS
    for row in rows:
        if row.name in numbers:
            data = first + abi.returns[row.name] if row.name in abi.returns else 0
            yield Rule(numbers[row.name], row.match, row.pointer, data)


def _by_number(abi: Abi, rows: Iterable[CallRow]) -> dict[int, CallRow]:
    return {abi.syscalls[row.name]: row for row in rows if row.name in abi.syscalls}


class Calls:
    """The filter, and the answers to what it stops."""

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self._following = followed(CALLS, arch)
        self._rows: dict[int, tuple[Abi, dict[int, CallRow]]] = {
            abi.audit_arch: (abi, _by_number(abi, (*self._following, *FILE_CALLS)))
            for abi in arch.abis
        }
        self._filters: dict[tuple[bool, bool], bytes] = {}
        self.own_rows: Mapping[int, CallRow] = _by_number(arch.abis[0], self._following)
        """For the host's own system calls, by number, but those about files."""
        self._polls: dict[int, Mapping[int, int]] = {
            abi.audit_arch: {
                abi.syscalls[row.name]: row.argument
                for row in WAITS
                if row.unit is Unit.MILLISECONDS and row.name in abi.syscalls
            }
            for abi in arch.abis
        }
        self._timezone = memory.kernel_timezone(arch.abis[0].syscalls["gettimeofday"])

    def filter(self, waits_follow: bool, files_follow: bool) -> bytes:
        """Return the seccomp filter of a clock whose waits follow it or not, and files."""
        which = waits_follow, files_follow
        if which not in self._filters:
            leaving_waits = followed((*OTHER_CALLS, *POINT_CALLS), self._arch)
            rows = *(self._following if waits_follow else leaving_waits), *FILE_CALLS * files_follow
            own = Rule(LOADER_FAILED)
            self._filters[which] = assemble(
                (
                    abi.audit_arch,
                    abi.refused_bit,
                    [own, *_rules(abi, rows, kind)],
                )
                for kind, abi in enumerate(self._arch.abis)
            )
        return self._filters[which]

    def answer_of_file(
        self, stopped: Stopped, task: Task, ended: SystemCall
    ) -> Callable[[Stopped], None] | None:
        """Return what is to be done at the exit of a call that the fast path has let run.

        The kernel leaves all arguments in their registers but one, which no such call is told by.
        """
        registers = stopped.registers()
        abi, rows = self._rows[ended.arch]
        row = rows.get(getattr(registers, self._arch.interrupted_syscall))
        if (
            row is None
            or row.name not in _OF_FILES
            or task.process.is_skipped
            or task.process.is_in_real_time
        ):
            return None
        arguments = tuple(getattr(registers, name) & abi.mask for name in abi.arguments)
        place = ended.stack, ended.counter
        request = Request(
            task, stopped, ended.nr, place, abi, row.time64, arguments, self._timezone
        )
        answer = row.answer(request)
        return self.at_exit(answer, request) if callable(answer) else None

    def answer(
        self, stopped: Stopped, task: Task, call: SystemCall
    ) -> Callable[[Stopped], None] | None:
        """Decides one stopped call; returns what is to be done at its exit, if anything.

        Requires: the task is at a seccomp stop.
        Leaves: it stopped, its call answered or left to the kernel, or the task held.
        ProcessLookupError: killed.
        """
        process = task.process
        if process.is_in_real_time or self._is_of_vdso(stopped, process, call):
            return None
        abi, rows = self._rows[call.arch]
        if process.is_skipped and (call.nr not in rows or rows[call.nr].name not in OF_SKIPPED):
            return None
        mask = abi.mask
        arguments = tuple([argument & mask for argument in call.arguments])
        row = rows.get(call.nr)
        if row is None or not row.holds(arguments):
            if process.traces_calls:
                return None
            # A filter of the program's own wants it traced, which nobody does (seccomp(2)).
            self.give(stopped, -errno.ENOSYS)
            return None
        place = call.stack, call.counter
        request = Request(task, stopped, call.nr, place, abi, row.time64, arguments, self._timezone)
        if faults.armed:
            faults.reach(f"call {row.name}", process.pid)
        try:
            if process.asks and is_asking(request, row.name):
                task.wait = None
                return None
            answer = row.answer(request)
            if isinstance(answer, Substitute):
                return self.substitute(request, answer)
        except Refused as refusal:
            answer = -refusal.number
        except NotThere:
            if not row.may_run_first:
                answer = -errno.EFAULT
            else:
                again = partial(self._again, row, request)
                return self.at_exit(again, request)
        if answer is None:
            return None
        if not isinstance(answer, int):
            return self.at_exit(answer, request)
        self.give(stopped, answer)
        return None

    def request_of(self, task: Task, stopped: Stopped, wait: Wait) -> Request:
        """Return the call at whose entry a task is stopped, which begins this wait."""
        arguments, is_time64 = wait.arguments, wait.row.time64
        return Request(
            *(task, stopped, wait.nr, wait.place, wait.abi, is_time64, arguments, self._timezone)
        )

    def _again(self, row: CallRow, request: Request, result: int) -> int:
        """Return the kernel's own answer has had the memory provided that the clock's goes to."""
        try:
            answer = row.answer(request)
        except NotThere:
            answer = None
        return answer if isinstance(answer, int) else result

    def sees(self, call: SystemCall) -> bool:
        """Whether it may stop by itself, on whatever clock."""
        row = self._rows[call.arch][1].get(call.nr)
        return row is not None and row.name not in _OF_FILES

    def is_poll(self, call: SystemCall) -> bool:
        """Whether it looks for events with a timeout of 0, at which it does not stop by itself."""
        argument = self._polls.get(call.arch, {}).get(call.nr)
        return argument is not None and not call.arguments[argument] & 0xFFFFFFFF

    def give(self, stopped: Stopped, result: int) -> None:
        """Give the call its result, without the kernel."""
        registers = stopped.registers()
        setattr(registers, self._arch.interrupted_syscall, _MINUS_ONE)
        setattr(registers, self._arch.syscall_result, result % 2**64)
        stopped.set_registers(registers)

    def _is_of_vdso(self, stopped: Stopped, process: Process, call: SystemCall) -> bool:
        """Return the kernel's vDSO makes the call itself where it cannot read the hardware."""
        host = process.host
        if host is None or call.counter - process.vdso not in host.call_offsets:
            return False
        if host.arch.vsyscall_caller is None:
            return True
        try:
            caller = stopped.peek(call.stack + host.arch.vsyscall_caller, 4)
        except MemoryError:
            return False  # the program jumped there, without a stack
        return process.has_in_vdso(int.from_bytes(caller, "little"))

    def substitute(
        self, request: Request, substitute: Substitute
    ) -> Callable[[Stopped], None] | None:
        """Has the kernel find another argument; returns what is to be done at the call's exit."""
        names = request.abi.arguments
        values = {names[substitute.argument]: substitute.value}
        if substitute.data or substitute.beside:
            room = scratch_memory(request, SLOT_SIZE)
            if room is None:
                if request.process.has_own_filter:  # which may kill who maps memory
                    self._has_no_low_page(request.process, "it has a seccomp filter of its own")
                return None if request.process.low_page is None else self._map_low_page(request)
            data = bytearray(substitute.data)
            if data:
                values[names[substitute.argument]] = room
            if substitute.points is not None:
                at, to = substitute.points
                data[at : at + 4] = (room + to).to_bytes(4, "little")
            if substitute.beside is not None:
                argument, more = substitute.beside
                values[names[argument]] = room + len(data)
                data += more
            try:
                request.stopped.poke_bytes(room, bytes(data))
            except MemoryError as error:
                raise OSError(
                    errno.EFAULT, f"its stack has no room for a timeout: {error}"
                ) from None
        registers = request.stopped.registers()
        if substitute.instead is not None:
            name, more_arguments = substitute.instead
            values |= {names[argument]: value for argument, value in more_arguments.items()}
            setattr(registers, self._arch.interrupted_syscall, request.abi.syscalls[name])
        own = {name: getattr(registers, name) for name in values}
        for name, value in values.items():
            setattr(registers, name, value)
        request.stopped.set_registers(registers)

        result_name, on_exit = self._arch.syscall_result, substitute.on_exit

        def at_exit(stopped: Stopped) -> None:
            registers = stopped.registers()
            put_back(registers, self._arch, own)
            if on_exit is not None:
                result = _result_of(
                    partial(on_exit, stopped), _signed(getattr(registers, result_name))
                )
                if isinstance(result, Exit):
                    result = self._leave(request, registers, result)
                setattr(registers, result_name, result % 2**64)
            rewind_interrupted(request.task, registers, self._arch, request.nr, own)
            stopped.set_registers(registers)

        return at_exit

    def _leave(self, request: Request, registers: Any, leaving: Exit) -> int:
        arch = self._arch
        for argument, value in leaving.arguments.items():
            setattr(registers, request.abi.arguments[argument], value)
        if leaving.result is not None:
            return leaving.result
        counter = getattr(registers, arch.program_counter) - len(arch.syscall_instruction)
        setattr(registers, arch.program_counter, counter)
        setattr(registers, arch.interrupted_syscall, _MINUS_ONE)
        # The register of the result is that of the number, or of an argument.
        if arch.syscall_number == arch.syscall_result:
            return request.nr
        first = request.abi.arguments.index(arch.syscall_result)
        return leaving.arguments.get(first, request.arguments[first])

    def _has_no_low_page(self, process: Process, reason: str) -> None:
        if process.low_page is not None:
            process.low_page = None
            process.world.warn(process.pid, _NO_LOW_PAGE.format(process.describe(), reason))

    def _map_low_page(self, request: Request) -> Callable[[Stopped], None]:
        """Has the call map a page where its pointers reach, and be made again.

        (mmap by such a call finds no other: get_mmap_base, arch/x86/mm/mmap.c.)
        """
        arch, abi, process = self._arch, request.abi, request.process
        if request.task.wait is not None:
            request.task.wait.is_continued = True
        registers = request.stopped.registers()
        own = {number: getattr(registers, name) for number, name in enumerate(abi.arguments)}
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        arguments = 0, PAGE_SIZE, mmap.PROT_READ, flags, abi.mask, 0
        for name, argument in zip(abi.arguments, arguments, strict=True):
            setattr(registers, name, argument)
        setattr(registers, arch.interrupted_syscall, abi.syscalls["mmap2"])
        request.stopped.set_registers(registers)

        def mapped(stopped: Stopped) -> None:
            registers = stopped.registers()
            result = _signed(getattr(registers, arch.syscall_result))
            try:
                if not 0 < result <= abi.mask:
                    raise OSError(-result, os.strerror(-result))
                cookie = process.world.page.cookie
                stopped.poke_bytes(result + MARK_OFFSET, cookie)
                process.low_page = result
            except (OSError, MemoryError) as error:
                self._has_no_low_page(process, f"mmap: {error}; make room (ulimit -v)")
            again = self._leave(request, registers, Exit(own))
            setattr(registers, arch.syscall_result, again)
            stopped.set_registers(registers)

        return mapped

    def is_read(self, call: SystemCall) -> bool:
        """Whether it is read(2)."""
        return call.nr == self._rows[call.arch][0].syscalls["read"]

    def ended_read(self, stopped: Stopped) -> int | None:
        """Return the descriptor that a task has just read, if it was stopped at the end of that."""
        registers, arch = stopped.registers(), self._arch
        kinds = (arch, *arch.runs_too)
        abi = next((one for one in kinds if one.runs_in(registers)), arch).abis[0]
        if getattr(registers, arch.interrupted_syscall) != abi.syscalls["read"]:
            return None
        fd: int = getattr(registers, abi.arguments[0]) & 0xFFFFFFFF
        return fd if 0 < getattr(registers, arch.syscall_result) < 2**31 else None

    def at_exit(
        self, answer: Callable[[int], int], request: Request | None = None
    ) -> Callable[[Stopped], None]:
        """Return what puts the result of a call right by `answer`."""
        name = self._arch.syscall_result

        def put_right(stopped: Stopped) -> None:
            if request is not None:
                request.stopped = stopped
            registers = stopped.registers()
            result = _result_of(answer, _signed(getattr(registers, name)))
            setattr(registers, name, result % 2**64)
            stopped.set_registers(registers)

        return put_right
