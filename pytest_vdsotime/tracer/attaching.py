"""Taking over a program that runs already, and letting it go.

Its libc holds addresses of the kernel's vDSO functions. So the kernel's image is moved (mremap(2)),
and a copy of it comes to where it was, whose functions begin with a jump into the fake image, which
goes on to call the moved one. A program under way can be given no seccomp filter that it would be
rid of again: it stops at every system call instead.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pytest_vdsotime import page
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.kernel import procfs, ptrace
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.mapping import map_clock
from pytest_vdsotime.tracer.native import Kind, NativeObjects, RealTime
from pytest_vdsotime.tracer.remote import RemoteSyscalls
from pytest_vdsotime.tracer.tasks import Moved, Process, Tables, Task, TaskState

_MREMAP_MAYMOVE_FIXED = 1 | 2  # linux/mman.h
_PROT_NONE = 0
_MAP_FIXED, _MAP_FIXED_NOREPLACE = 0x10, 0x100000  # asm-generic/mman-common.h
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
# How an interrupted system call is to go on; programs never see these (include/linux/errno.h).
_ERESTARTSYS, _ERESTARTNOINTR, _ERESTARTNOHAND, _ERESTART_RESTARTBLOCK = 512, 513, 514, 516
_QUIET_STOPS = StopKind.TRAP, StopKind.SIGNAL, StopKind.GROUP_STOP
_MOST_STEPS = 100_000
_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Attaching:
    """Attaches to processes and releases them; one per tracer, on its thread."""

    native: NativeObjects
    tables: Tables
    next_stop: Callable[[int, float | None], Stop]
    """Of a task, up to a point of time.monotonic()."""
    handle: Callable[[Stop], None]

    def attach(self, process: Process) -> None:
        """Gives a running process, all its threads and what they will start the clock.

        Requires: nobody traces it.
        Leaves: it running, on the clock; or after an error as it was, untraced.

        Raises OSError when it cannot be traced, UnsupportedProgram when it cannot be given the
        clock.
        """
        process.world.processes[process.pid] = process
        stops: dict[int, Stop] = {}
        try:
            self._seize_all(process)
            stops = self._stop_all(process)
            with _named("attaching to", process):
                self._move_in(process, stops)
        except BaseException:
            self._detach(process, stops)
            raise
        process.traces_calls = True
        for tid, stop in stops.items():
            self._hide_interrupt(Stopped(tid), stop, process)
            self.handle(stop)

    def release(self, process: Process) -> None:
        """Lets it go, with its own vDSO again; a program executed since it was attached to goes on
        with the fake one, in real time.

        Requires: it was attached to, or is a descendant of one that was.
        Leaves: it running, untraced. Nothing if it has just ended.

        Raises UnsupportedProgram when that cannot be; it was killed.
        """
        process.traces_calls = False
        stops: dict[int, Stop] = {}
        try:
            for tid in process.threads:
                with suppress(ProcessLookupError):
                    ptrace.interrupt(tid)
            stops = self._stop_all(process)
            with _named("releasing", process):
                self._move_out(process, stops)
        except ProcessLookupError:
            pass
        except (OSError, UnsupportedProgram):
            process.kill()
            raise
        self._detach(process, stops)

    # --- stopping and going on -------------------------------------------------------------------

    def _seize_all(self, process: Process) -> None:
        """Until a look finds no new thread; those that start meanwhile are traced from their
        start."""
        tables = self.tables
        while True:
            found = {int(tid) for tid in os.listdir(f"/proc/{process.pid}/task")}
            new = found - tables.tasks.keys() - tables.newborn.keys()
            if not new:
                return
            for tid in new:
                try:
                    ptrace.seize(tid)
                except ProcessLookupError:
                    if tid == process.pid:
                        raise
                    continue  # it has just ended
                process.threads.add(tid)
                tables.tasks[tid] = Task(tid, process, TaskState.RUNNING)
                ptrace.interrupt(tid)

    def _stop_all(self, process: Process) -> dict[int, Stop]:
        """The stop of each thread, yet to be handled. Other stops on the way there are handled now;
        they cancel an interrupt (ptrace_stop, kernel/signal.c)."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        stops: dict[int, Stop] = {}
        gone: set[int] = set()
        while left := process.threads - stops.keys() - gone:
            for tid in left:
                try:
                    stop = self.next_stop(tid, deadline_s)
                    if stop.kind in _QUIET_STOPS:
                        stops[tid] = stop
                    else:
                        self.handle(stop)
                        ptrace.interrupt(tid)
                except ProcessLookupError:
                    gone.add(tid)
        if not stops:
            raise ProcessLookupError(errno.ESRCH, f"process {process.pid} has ended")
        return stops

    def _detach(self, process: Process, stops: Mapping[int, Stop]) -> None:
        for tid in tuple(process.threads):
            stop = stops.get(tid)
            if stop is not None:
                with suppress(OSError):
                    self._hide_interrupt(Stopped(tid), stop, process)
                    Stopped(tid).detach(stop.value if stop.kind == StopKind.SIGNAL else 0)
            self.tables.tasks.pop(tid, None)
        process.threads.clear()
        process.world.processes.pop(process.pid, None)

    def _hide_interrupt(self, stopped: Stopped, stop: Stop, process: Process) -> None:
        """Some system calls end with EINTR at an interrupt, as they do for a handler (signal(7)):
        without one they are made again."""
        if stop.kind != StopKind.TRAP or process.host is None:
            return
        arch = process.host.arch
        with suppress(ProcessLookupError):
            registers = stopped.registers()
            if _interrupted_with(
                registers, arch
            ) == errno.EINTR and not procfs.has_deliverable_signal(stopped.tid):
                setattr(registers, arch.syscall_result, -_ERESTARTNOINTR % 2**64)
                stopped.set_registers(registers)

    def _calling(
        self, process: Process, stops: Mapping[int, Stop], instruction: int, arch: Arch
    ) -> RemoteSyscalls:
        """System calls by one of the stopped threads."""
        tid = _caller(stops)
        stopped = Stopped(tid)
        remote = RemoteSyscalls(stopped, instruction, arch, lambda tid: self.next_stop(tid, None))
        remote.finish_with(_restarted(stopped.registers(), arch))
        return remote

    # --- the images ------------------------------------------------------------------------------

    def _move_in(self, process: Process, stops: Mapping[int, Stop]) -> None:
        try:
            kind = self.native.kind_of(Stopped(_caller(stops)).registers(), process.pid)
        except RealTime as reason:
            raise UnsupportedProgram(str(reason)) from None
        if procfs.has_filter(process.pid):
            raise UnsupportedProgram(
                "it is under a seccomp filter, which decides what is called inside it; "
                "start it on the clock instead"
            )
        host, arch = kind.host, kind.arch
        areas = procfs.vdso_areas(process.pid)
        base = areas.get("[vdso]", range(0)).start
        _with_jumps(kind, 0)  # it can be done
        with ProcessMemory(process.pid) as memory:
            if not base or memory.read(base, len(host.image.data)) != host.image.data:
                raise UnsupportedProgram("its vDSO is not the kernel's own")
            with self._calling(process, stops, base + host.syscall_offset, arch) as remote:
                mapped = map_clock(remote, memory, process, kind)
                if mapped is None:
                    raise UnsupportedProgram("it may not map memory")
                fake_address = mapped + page.HEADER_SIZE
                fake_call = kind.fake.data.index(arch.syscall_instruction)
                remote.instruction = fake_address + fake_call
                way = _move_areas(remote, areas)
                executable = mmap.PROT_READ | mmap.PROT_EXEC
                flags = _ANONYMOUS | _MAP_FIXED_NOREPLACE
                remote.call("mmap", base, host.size, executable, flags, -1, 0)
                memory.write(base, _with_jumps(kind, fake_address))
                entries = host.process_entries(base + way, process.world.page.cookie)
                memory.write(mapped + page.PROCESS_PAGE * page.PAGE_SIZE, entries)
        process.host, process.vdso, process.mapped = host, base + way, mapped
        process.moved = Moved(tuple(areas.values()), base, way, fake_call)
        _shift(stops, arch, range(base, base + host.size), way)

    def _move_out(self, process: Process, stops: dict[int, Stop]) -> None:
        host, moved, mapped = process.host, process.moved, process.mapped
        if host is None or not mapped:
            return  # it reads the time by system calls
        arch = host.arch
        with ProcessMemory(process.pid) as memory:
            if moved is None:
                self._read_real_time(process, memory, stops)
                return
            size = process.world.page.parts[arch.name].size
            self._step_out(stops, arch, range(mapped, mapped + size))
            instruction = mapped + page.HEADER_SIZE + moved.fake_call
            _shift(stops, arch, range(process.vdso, process.vdso + host.size), -moved.way)
            with self._calling(process, stops, instruction, arch) as remote:
                remote.call("munmap", moved.base, host.size)
                for area in moved.areas:
                    _move_area(
                        remote, range(area.start + moved.way, area.stop + moved.way), -moved.way
                    )
                remote.instruction = moved.base + host.syscall_offset
                remote.call("munmap", mapped, size)

    def _read_real_time(
        self, process: Process, memory: ProcessMemory, stops: Mapping[int, Stop]
    ) -> None:
        """A clock page of its own that ticks as the host does."""
        host, mapped = process.host, process.mapped
        assert host is not None
        if process.copy is None:
            instruction = process.vdso + host.syscall_offset
            with self._calling(process, stops, instruction, host.arch) as remote:
                flags = _ANONYMOUS | _MAP_FIXED
                remote.call("mmap", mapped, page.PAGE_SIZE, mmap.PROT_READ, flags, -1, 0)
        memory.write(mapped, process.world.page.real_time())

    def _step_out(self, stops: dict[int, Stop], arch: Arch, code: range) -> None:
        """No thread is left in the fake image, nor in a function of the kernel's called by it."""
        for tid, stop in tuple(stops.items()):
            for _ in range(_MOST_STEPS):
                counter = getattr(Stopped(tid).registers(), arch.program_counter)
                if counter not in code:
                    break
                Stopped(tid).step()
                stop = self.next_stop(tid, None)
                if stop.kind == StopKind.SIGNAL and stop.value != signal.SIGTRAP:
                    stops[tid] = stop
                    break


@contextmanager
def _named(operation: str, process: Process) -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        raise
    except (OSError, UnsupportedProgram) as error:
        raise UnsupportedProgram(f"{operation} {process.describe()} failed: {error}") from error


def _caller(stops: Mapping[int, Stop]) -> int:
    for kind in (StopKind.TRAP, StopKind.SIGNAL):
        for tid, stop in stops.items():
            if stop.kind == kind:
                return tid
    raise UnsupportedProgram("it is stopped (SIGSTOP); let it go on first (SIGCONT)")


def _interrupted_with(registers: Any, arch: Arch) -> int:
    """The errno of the system call that a thread was interrupted in; 0 if it was in none."""
    if getattr(registers, arch.interrupted_syscall) >= 2**63:
        return 0
    result = getattr(registers, arch.syscall_result)
    return 2**64 - result if result >= 2**64 - 4095 else 0


def _restarted(registers: Any, arch: Arch) -> Any:
    """The registers with which a thread that was interrupted in a system call makes it again, as
    the kernel would have it do (arch_do_signal_or_restart, arch/x86/kernel/signal.c)."""
    number = _interrupted_with(registers, arch)
    if number in (errno.EINTR, _ERESTARTSYS, _ERESTARTNOINTR, _ERESTARTNOHAND):
        again = getattr(registers, arch.interrupted_syscall)
    elif number == _ERESTART_RESTARTBLOCK:
        again = arch.syscalls["restart_syscall"]
    else:
        return registers
    counter = getattr(registers, arch.program_counter) - len(arch.syscall_instruction)
    setattr(registers, arch.program_counter, counter)
    setattr(registers, arch.syscall_number, again)
    setattr(registers, arch.interrupted_syscall, -1 % 2**64)
    return registers


def _shift(stops: Mapping[int, Stop], arch: Arch, code: range, way: int) -> None:
    """Threads in a piece of code that is moved go on where it is now."""
    for tid in stops:
        with suppress(ProcessLookupError):
            registers = Stopped(tid).registers()
            counter = getattr(registers, arch.program_counter)
            if counter in code:
                setattr(registers, arch.program_counter, counter + way)
                Stopped(tid).set_registers(registers)


def _move_areas(remote: RemoteSyscalls, areas: Mapping[str, range]) -> int:
    """Moves the vDSO and its data, which its code reads at fixed distances; returns how far."""
    start = min(area.start for area in areas.values())
    size = max(area.stop for area in areas.values()) - start
    way = remote.call("mmap", 0, size, _PROT_NONE, _ANONYMOUS, -1, 0) - start
    moved: list[range] = []
    try:
        for area in areas.values():
            _move_area(remote, area, way)
            moved.append(range(area.start + way, area.stop + way))
    except OSError:
        for area in moved:
            _move_area(remote, area, -way)
        remote.call("munmap", start + way, size)
        raise
    return way


def _move_area(remote: RemoteSyscalls, area: range, way: int) -> None:
    size = len(area)
    remote.call("mremap", area.start, size, size, _MREMAP_MAYMOVE_FIXED, area.start + way)


def _with_jumps(kind: Kind, fake_address: int) -> bytes:
    """The kernel's image, whose functions begin with a jump into the fake one."""
    image, jump = kind.host.image, kind.arch.jump
    code = bytearray(image.data)
    starts = sorted(set(image.symbols.values()))
    for name, target in zip(kind.jumps.names, kind.targets, strict=True):
        start = image.offset(name) or 0
        instructions = jump(fake_address + target)
        following = [other for other in starts if start < other < start + len(instructions)]
        if following:
            raise UnsupportedProgram(f"{name} of its vDSO is shorter than a jump")
        code[start : start + len(instructions)] = instructions
    return bytes(code)
