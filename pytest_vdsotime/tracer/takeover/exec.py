"""Giving a program the clock at exec.

At the exec event the new image is complete and has not run (KERNEL ABI: execve(2), ptrace(2)).
The fast way takes this one stop: the loader (native_stub/program/loader.c) goes into the unused end
of the program's vDSO, its parameters below the stack, and the program counter to the loader. A
loader that fails makes a system call that does not exist, and the same is done from outside, by
system calls made inside the program; where the program cannot open the shared page (no /proc,
another mount or pid namespace, another uid, no descriptors left), it gets a private copy of it.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from pytest_vdsotime import image, page
from pytest_vdsotime.abi import constant
from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.kernel import procfs, ptrace
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.kernel.takeover import Block, Result, TakeOver
from pytest_vdsotime.kernel.wait import Stop
from pytest_vdsotime.page import ClockPage
from pytest_vdsotime.tracer.call import is_marked
from pytest_vdsotime.tracer.calls.machine import MachineFile
from pytest_vdsotime.tracer.state import Process
from pytest_vdsotime.tracer.takeover.mapping import (
    entries_of,
    map_clock,
    map_copy,
    page_path,
    put_text,
)
from pytest_vdsotime.tracer.takeover.native import NativeObjects, ProgramAbi, RealTime
from pytest_vdsotime.tracer.takeover.relocate import arch_of
from pytest_vdsotime.tracer.takeover.remote import RemoteSyscalls

_AT_NULL, _AT_SYSINFO_EHDR = constant("AT_NULL"), constant("AT_SYSINFO_EHDR")
_AT_EXECFN = constant("AT_EXECFN")
_MAX_PATH = 4096  # PATH_MAX, linux/limits.h
_REFERENCE_BASE = 1 << 30  # of a vDSO, in either word size
_FIRST_READ = 2 * 1024
_MAX_STACK = 64 * 1024 * 1024


def _find_sysinfo_ehdr(memory: ProcessMemory, stack_pointer: int, word: str) -> tuple[int, int]:
    """(address of the value of AT_SYSINFO_EHDR, its value) on a new program's stack.

    The stack holds argc, argv, NULL, envp, NULL, auxv (System V ABI, 3.4.1). The vectors may be
    megabytes long: they are read in growing pieces until the auxv is whole.
    """
    words = array(word)
    size = _FIRST_READ
    while size <= _MAX_STACK:
        data = memory.read(stack_pointer, size)
        words = array(word, data[: len(data) // words.itemsize * words.itemsize])
        try:
            auxv = words.index(0, words[0] + 2) + 1
            keys = words[auxv::2]
            end = keys.index(_AT_NULL)
        except (IndexError, ValueError):
            if len(data) < size:
                break  # the stack ends here
            size *= 8
            continue
        try:
            index = auxv + 2 * keys.index(_AT_SYSINFO_EHDR, 0, end) + 1
        except ValueError:
            raise RealTime("the kernel gave it no vDSO") from None
        if words[index] == 0:
            raise RealTime("the kernel gave it no vDSO")
        return stack_pointer + index * words.itemsize, words[index]
    raise UnsupportedProgram("its initial stack has no auxiliary vector")


def select(process: Process) -> Sequence[str]:
    """At an exec, decide whether the new program is on the clock.

    Return by which paths of it, if that holds for each execution by these.
    """
    selection, is_skipped, paths = process.world.selection, False, list[str]()
    if process.is_engine and not procfs.is_in_other_root(process.pid):
        is_skipped = True
    elif not selection.is_of_all:
        paths = _executed_paths(process.pid)
        if paths:
            is_skipped = not selection.has(paths)
        else:  # it may be one of `only`: a warning says that it is in real time
            is_skipped = not replace(selection, only=None).has([procfs.command(process.pid)])
    set_aside(process, is_skipped=is_skipped)
    return paths


def _executed_paths(pid: int) -> list[str]:
    """Return the paths of a program that has just been executed.

    That which was given to execve(2), by the auxiliary vector (AT_EXECFN, getauxval(3)), and that
    of the file that the kernel runs: a script's interpreter, what a link leads to. None of a
    program that is closed to its tracer.
    """
    try:
        paths = [os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")]
        given = _executed_file(pid)
        if given:
            directory = "" if given.startswith("/") else os.readlink(f"/proc/{pid}/cwd")
            paths.append(os.path.normpath(os.path.join(directory, given)))
    except OSError as error:
        procfs.check_shortage(error)
        return []
    return paths


def _is_closed(pid: int) -> bool:
    """Whether the memory of a program is closed to its tracer."""
    try:
        ProcessMemory(pid).close()
    except PermissionError:
        return True
    return False


def _executed_file(pid: int) -> str:
    with open(f"/proc/{pid}/auxv", "rb") as file:
        raw = file.read()
    for word in "QI":  # of a 32-bit program no pair of words is one of those keys
        words = array(word, raw)
        keys = words[::2]
        if _AT_EXECFN in keys:
            address = words[2 * keys.index(_AT_EXECFN) + 1]
            with ProcessMemory(pid) as memory:
                path = memory.read(address, _MAX_PATH)
            return os.fsdecode(path.partition(b"\0")[0])
    return ""


def set_aside(process: Process, *, is_skipped: bool) -> None:
    """Have a program be in real time, or on the clock."""
    world = process.world
    if is_skipped != process.is_skipped:
        process.is_skipped = is_skipped
        before, now = world.processes, world.skipped
        if not is_skipped:
            before, now = now, before
        now[process.pid] = before.pop(process.pid)


def warn_of_reservations(process: Process) -> None:
    """Of what a program that has the clock does not have as it would alone."""
    world, pid = process.world, process.pid
    privilege = procfs.ignored_privilege(f"/proc/{process.pid}/exe")
    if privilege:
        world.warn(
            pid,
            f"{process.describe()} is {privilege}, which the kernel ignores for a program "
            "traced by an ordinary user (execve(2)): it runs without that privilege; "
            "run the tests as root",
        )


def _block(kind: ProgramAbi, clock: ClockPage) -> Block:
    """Return what the vDSO of a new program becomes.

    The kernel's image, jumps, and behind them the loader.
    """
    arch, host, loader, part = kind.arch, kind.host, kind.loader, clock.parts[kind.arch.name]
    address = _REFERENCE_BASE - host.data_size - part.size
    detour = kind.detour(address + page.HEADER_SIZE)
    word = array(arch.word)
    word.append(_REFERENCE_BASE)
    jump = arch.jump(_REFERENCE_BASE)
    first_jump = len(kind.jumps.image) + jump.index(word.tobytes())
    return Block(
        mode=arch.program_mode[2],
        word_size=word.itemsize,
        data=detour + loader.code,
        parameters=image.loader_parameters(
            address=address,
            first_page=part.offset // page.PAGE_SIZE,
            length=part.size,
            stamps=clock.history_pages if kind.fake.call_returns else (0, 0),
            cookie=clock.cookie,
            process=host.process_entries(_REFERENCE_BASE, clock.cookie, part.stamps_at(address)),
            path=page_path(clock),
        ),
        reference_base=_REFERENCE_BASE,
        moving_words=range(first_jump, len(detour), len(jump)),
        start=kind.jumps.end + loader.entry_offset,
    )


class Takeover:
    """Takes programs over; one per tracer."""

    def __init__(self, native: NativeObjects, next_stop: Callable[[int], Stop]) -> None:
        self._native = native
        self._next_stop = next_stop
        self._take_over = TakeOver(image.tracer_path(native.arch))
        self._blocks: WeakKeyDictionary[ClockPage, dict[str, Block]] = WeakKeyDictionary()

    def at_exec(self, stopped: Stopped, process: Process) -> Stopped:
        """Give a program the clock.

        Requires: the task is at its exec event.
        Leaves: the task stopped, at the stop that is returned. Once resumed it reads the clock from
        its first instruction on.

        Raises:
            RealTime: it cannot be given the clock, and was not touched; still stopped.
            UnsupportedProgram, OSError: it could not be taken over and must not run on; still
            stopped. ProcessLookupError: it was killed.
        """
        self._has_entered_time_namespace(process, process.pid)
        try:
            self._may_suspend_filters(stopped, process)
            # Of a loader's failure such a filter may tell nothing: its answer comes first.
            if not process.has_own_filter and not any(process.time_offsets):
                for kind in self._native.kinds:
                    if self._with_loader(stopped, process, kind):
                        return stopped
            ProcessMemory(process.pid).close()
        except PermissionError as error:
            if not _is_closed(process.pid):
                raise
            raise RealTime(
                f"it is closed to its tracer ({error}): its file is execute-only; "
                "make it readable, or run the tests as root"
            ) from None
        # Filters of its own, another time namespace, no room in the vDSO, or the first
        # program of its kind
        registers = stopped.registers()
        try:
            kind = self._native.kind_of(registers, process.pid)
            return self._from_outside(stopped, process, kind, registers)
        except (RealTime, UnsupportedProgram) as error:
            if ptrace.signal_info(stopped.tid) is not None:
                raise
            # What has been killed has no memory, where nothing was found.
            raise ProcessLookupError(errno.ESRCH, f"task {stopped.tid} was killed") from error

    def _with_loader(self, stopped: Stopped, process: Process, kind: ProgramAbi) -> bool:
        """Whether the program is of this kind, and begins with the loader now."""
        block = self.block(kind, process.world.page)
        if block is None:
            return False
        result, base = self._take_over(stopped, process.pid, block)
        if result != Result.TAKEN_OVER:
            return False
        self.was_at_exec(process, kind, base)
        return True

    def block(self, kind: ProgramAbi, clock: ClockPage) -> Block | None:
        """Return what comes into new programs of this kind; None where there is no room for it."""
        blocks = self._blocks.setdefault(clock, {})
        if kind.arch.name not in blocks and kind.has_room:
            blocks[kind.arch.name] = _block(kind, clock)
        return blocks.get(kind.arch.name)

    def was_at_exec(self, process: Process, kind: ProgramAbi, base: int) -> None:
        """Note that a program with its vDSO at `base` has been given its block."""
        host = kind.host
        process.host, process.vdso = host, base
        process.mapped = base - host.data_size - process.world.page.parts[kind.arch.name].size
        process.loader_failed_at = base + kind.jumps.end + kind.loader.failed_offset

    def after_loader_failure(self, stopped: Stopped, process: Process, call: SystemCall) -> Stopped:
        """Goes the other way with a program whose loader has failed.

        Requires: the task is in the system call by which the loader says so.
        Leaves, Raises: as `at_exec`; RealTime does not happen.
        """
        registers = stopped.registers()
        kind = self._native.kind_of(registers, process.pid)
        step, number = image.loader_failure(call.arguments[0])
        process.mapped = 0
        try:
            at_entry = self._as_at_entry(registers, process, kind)
            return self._from_outside(stopped, process, kind, at_entry)
        except (OSError, UnsupportedProgram) as error:
            if isinstance(error, ProcessLookupError):
                raise
            cause = f"{step}: {errno.errorcode.get(number, 'a foreign file at its path')}"
            raise UnsupportedProgram(f"{cause}; then {error}") from error

    def follow_moved_vdso(self, stopped: Stopped, process: Process) -> bool:
        """At a SIGSEGV, whether it was for a call by the fake image of the moved kernel's one.

        Where the kernel's image was before the program moved it (mremap(2)). Then the task can go
        on, as if nothing was.
        """
        host = process.host
        if host is None or not process.mapped:
            return False
        registers = stopped.registers()
        counter = getattr(registers, host.arch.program_counter)
        if not process.has_in_vdso(counter):
            return False
        base = procfs.vdso_areas(process.pid).get("[vdso]", range(0)).start
        if base in (0, process.vdso):
            return False
        entries = entries_of(process, host, base, process.mapped)
        with ProcessMemory(process.pid) as memory:
            memory.write(process.mapped + page.PROCESS_PAGE * page.PAGE_SIZE, entries)
        setattr(registers, host.arch.program_counter, counter - process.vdso + base)
        stopped.set_registers(registers)
        process.vdso = base
        return True

    def follow_time_namespace(self, stopped: Stopped, process: Process) -> Stopped:
        """Give a process that may have come to another time namespace the readings there.

        By a fork or setns(2).

        Requires: the task is stopped, and in no system call that is to be made again if it is
        another one now.
        Leaves: it stopped, at the stop that is returned. ProcessLookupError: it was killed.
        """
        process_page = process.mapped + page.PROCESS_PAGE * page.PAGE_SIZE
        try:
            if not self._has_entered_time_namespace(process, stopped.tid):
                return stopped
        except OSError as error:
            process.kill_unsupported(error)
            return stopped
        if not process.mapped or not is_marked(stopped, process, process_page):
            return stopped  # it reads the time by system calls
        arch = arch_of(stopped.registers(), self._native)
        call = self._native.fakes[arch.name].data.index(arch.syscall_instruction)
        self._may_suspend_filters(stopped, process)
        instruction = process.mapped + page.HEADER_SIZE + call
        remote = RemoteSyscalls(stopped, instruction, arch, self._next_stop)
        try:
            with ProcessMemory(stopped.tid) as memory, remote:
                map_copy(remote, memory, process)
        except ProcessLookupError:
            raise
        except OSError as error:
            process.kill_unsupported(error)
        self._may_suspend_filters(remote.stopped, process, is_suspended=False)
        return remote.stopped

    def serve_opened(self, stopped: Stopped, process: Process) -> Stopped:
        """Have a descriptor that has just been opened lead to the text on the program's clock.

        Nothing for files that do not tell the machine's time, or are open for writing.

        Requires: the task is at the exit of the call that has opened it.
        Leaves: it stopped, at the stop that is returned. ProcessLookupError: it was killed.
        """
        tid, fd, process.opened = stopped.tid, process.opened, None
        file = None if fd is None else MachineFile.opened(tid, fd)
        if fd is None or file is None:
            return stopped
        try:
            is_read_only, is_closed_by_exec = procfs.is_read_only(tid, fd)
            text = file.text(process, tid, f"/proc/{tid}/fd/{fd}") if is_read_only else None
        except FileNotFoundError:
            return stopped  # another thread has closed it
        if text is None:
            return stopped
        may_call = self._may_suspend_filters(stopped, process) or not process.has_own_filter
        registers = stopped.registers()
        arch = arch_of(registers, self._native)
        instruction = getattr(registers, arch.program_counter) - len(arch.syscall_instruction)
        remote = RemoteSyscalls(stopped, instruction, arch, self._next_stop)
        try:
            if not may_call:
                raise PermissionError(errno.EPERM, "it has a seccomp filter of its own")
            with ProcessMemory(tid) as memory, remote:
                put_text(remote, memory, fd, (file.name, text, is_closed_by_exec))
            process.rewinds = True
        except ProcessLookupError:
            raise
        except OSError as error:
            what = f"{process.describe()} reads {file.own_path} in real time"
            process.world.warn(process.pid, f"{what}: {error.strerror or error}")
        self._may_suspend_filters(remote.stopped, process, is_suspended=False)
        return remote.stopped

    def _has_entered_time_namespace(self, process: Process, tid: int) -> bool:
        if not process.changes_time_namespace or process.is_in_real_time:
            return False
        offsets, former = procfs.time_offsets(tid), process.time_offsets
        if offsets is not None:
            process.time_offsets = offsets
        return process.time_offsets != former

    def _as_at_entry(self, registers: Any, process: Process, kind: ProgramAbi) -> Any:
        """Return the registers that the kernel gave the program.

        All zero but the stack pointer and the program counter, with which the loader's parameters
        begin.
        """
        stack_pointer = getattr(registers, kind.arch.stack_pointer)
        with ProcessMemory(process.pid) as memory:
            entry = memory.read(stack_pointer - image.PARAMETERS_BELOW_STACK, 8)
        for name in kind.arch.zero_at_entry:
            setattr(registers, name, 0)
        setattr(registers, kind.arch.interrupted_syscall, -1 % 2**64)
        setattr(registers, kind.arch.program_counter, int.from_bytes(entry, "little"))
        return registers

    def _from_outside(
        self, stopped: Stopped, process: Process, kind: ProgramAbi, registers: Any
    ) -> Stopped:
        arch, host = kind.arch, kind.host
        process.loader_failed_at = 0
        with ProcessMemory(process.pid) as memory:
            slot, base = _find_sysinfo_ehdr(
                memory, getattr(registers, arch.stack_pointer), arch.word
            )
            instruction = base + host.syscall_offset
            with RemoteSyscalls(stopped, instruction, arch, self._next_stop) as remote:
                remote.finish_with(registers)
                mapped = map_clock(remote, memory, process, kind)
                if mapped is None:
                    memory.write(base, image.raw_functions(host))
                else:
                    entries = entries_of(process, host, base, mapped)
                    memory.write(mapped + page.PROCESS_PAGE * page.PAGE_SIZE, entries)
                    image_address = mapped + page.HEADER_SIZE
                    width = array(arch.word).itemsize
                    memory.write(slot, image_address.to_bytes(width, "little"))
                    memory.write(base, kind.detour(image_address))
                    process.mapped = mapped
                process.host, process.vdso = host, base
        if process.has_own_filter:
            self._may_suspend_filters(remote.stopped, process, is_suspended=False)
        return remote.stopped

    def _may_suspend_filters(
        self, stopped: Stopped, process: Process, *, is_suspended: bool = True
    ) -> bool:
        """Whether a program's own filters decide nothing now.

        They may kill a task that opens or maps a file. An ordinary user has to let them.
        """
        if not process.has_own_filter:
            return False
        try:
            stopped.suspend_seccomp(is_suspended)
        except ProcessLookupError:
            raise
        except OSError:
            return False
        return True
