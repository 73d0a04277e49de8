"""The vDSO of a running program, moved for the clock and brought back.

Its libc holds addresses of the kernel's vDSO functions. So the kernel's image is moved (mremap(2)),
and a copy of it comes to where it was, whose functions begin with a jump into the fake image, which
goes on to call the moved one.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pytest_vdsotime import page
from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.image import HostVdso, VdsoImage
from pytest_vdsotime.kernel import procfs, ptrace
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.tracer.call import is_marked
from pytest_vdsotime.tracer.calls.restart import returns_into, returns_to
from pytest_vdsotime.tracer.state import Moved, Process
from pytest_vdsotime.tracer.takeover.mapping import entries_of, map_clock
from pytest_vdsotime.tracer.takeover.native import NativeObjects, ProgramAbi, RealTime
from pytest_vdsotime.tracer.takeover.remote import RemoteSyscalls
from pytest_vdsotime.waits import Timer

_MREMAP_MAYMOVE_FIXED = constant("MREMAP_MAYMOVE") | constant("MREMAP_FIXED")
_PROT_NONE = constant("PROT_NONE")
_MAP_FIXED = constant("MAP_FIXED")
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_EXECUTABLE = mmap.PROT_READ | mmap.PROT_EXEC
_MAX_STEPS = 100_000
#: Blocked while a thread is stepped. Not those that an instruction can cause: the kernel kills a
#: program that blocks one (force_sig_info_to_task, kernel/signal.c).
_MASK_OF_STEPS = 2**64 - 1
for _fault in (signal.SIGTRAP, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
    _MASK_OF_STEPS &= ~(1 << (_fault - 1))
#: Words on the stack of __kernel_vsyscall, its caller among them (vdso32/system_call.S).
_VSYSCALL_FRAME = 4

#: Where the setting of a timer is written: below what a function may use of its stack.
_SETTING_BELOW_STACK = 512

Stops = dict[int, Stop]


def arch_of(registers: Any, native: NativeObjects) -> Arch:
    """Of the program that a thread with these registers is in."""
    kinds = (native.arch, *native.arch.runs_too)
    return next((one for one in kinds if one.runs_in(registers)), native.arch)


@dataclass(slots=True)
class Moving:
    """Moves vDSOs; one per tracer, on its thread.

    Every method requires that all threads of the process are stopped, as `stops` has it; the last
    stop of a thread may be another afterwards.
    """

    native: NativeObjects
    next_stop: Callable[[int], Stop]

    def move_in(self, process: Process, stops: Stops) -> None:
        """Give it the clock.

        Raises OSError, UnsupportedProgram: it was left as it was.
        """
        tid = _caller(stops, (StopKind.TRAP,))
        try:
            kind = self.native.kind_of(Stopped(tid).registers(), tid)
        except RealTime as reason:
            raise UnsupportedProgram(str(reason)) from None
        host, arch = kind.host, kind.arch
        areas = procfs.vdso_areas(tid)
        base = areas.get("[vdso]", range(0)).start
        _with_jumps(kind, 0)  # it can be done
        with ProcessMemory(tid) as memory:
            if not base or memory.read(base, len(host.image.data)) != host.image.data:
                raise UnsupportedProgram(
                    "its vDSO is not the kernel's own, as of a program that was executed on a "
                    "clock and then let go"
                )
            self._step_out(stops, host, [range(base, base + host.size)])
            with _unfiltered(tid) as obstacle:
                if obstacle:
                    raise UnsupportedProgram(obstacle)
                with self._calling(stops, tid, base + host.syscall_offset, arch) as remote:
                    moved = process.moved = self._swap(remote, memory, process, kind, areas)
                    process.host, process.vdso = host, base + moved.way
        _shift(stops, arch, range(base, base + host.size), moved.way)

    def _swap(
        self,
        remote: RemoteSyscalls,
        memory: ProcessMemory,
        process: Process,
        kind: ProgramAbi,
        areas: Mapping[str, range],
    ) -> Moved:
        host, arch, base = kind.host, kind.arch, areas["[vdso]"].start
        part = process.world.page.parts[arch.name]
        new: list[range] = []
        way = 0

        def map_new(length: int, protection: int) -> int:
            address = remote.call("mmap", 0, length, protection, _ANONYMOUS, -1, 0)
            new.append(range(address, address + length))
            return address

        try:
            # Not below the stack: a goroutine's is small.
            room = map_new(page.PAGE_SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
            mapped = map_clock(remote, memory, process, kind, room)
            if mapped is None:
                raise UnsupportedProgram("it may not map memory")
            new.append(range(mapped, mapped + part.size))
            remote.call("munmap", room, page.PAGE_SIZE)
            del new[0]
            fake_address = mapped + page.HEADER_SIZE
            fake_call = kind.fake.data.index(arch.syscall_instruction)
            entries = page.PROCESS_PAGE * page.PAGE_SIZE + mapped
            copy = map_new(host.size, _EXECUTABLE)
            memory.write(copy, _with_jumps(kind, fake_address))
            way = map_new(_extent(areas).stop - _extent(areas).start, _PROT_NONE)
            way -= _extent(areas).start
            memory.write(entries, entries_of(process, host, base + way, mapped))
            remote.instruction = fake_address + fake_call
            for area in areas.values():
                _move_area(remote, area, way)
                # Nobody else's memory comes to where it will be again.
                reserved = _ANONYMOUS | _MAP_FIXED
                remote.call("mmap", area.start, len(area), _PROT_NONE, reserved, -1, 0)
            _move_area(remote, range(copy, copy + host.size), base - copy)
        except (OSError, UnsupportedProgram) as error:
            if not isinstance(error, ProcessLookupError):
                now = procfs.vdso_areas(remote.stopped.tid)
                for name, area in areas.items():
                    if now[name] != area:
                        _move_area(remote, now[name], -way)
                remote.instruction = base + host.syscall_offset
                for one in new:
                    remote.call("munmap", one.start, len(one))
            raise
        process.mapped = mapped
        return Moved(tuple(areas.values()), base, way, fake_call)

    def follow(self, stopped: Stopped, process: Process) -> bool:
        """At a SIGSEGV: whether it was for the data of the copy, which are elsewhere.

        By a handler that has returned there. Then the thread can go on in the moved one.
        """
        host, moved = process.host, process.moved
        if host is None or moved is None:
            return False
        registers = stopped.registers()
        code = range(moved.base, moved.base + host.size)
        copied = range(code.start + moved.way, code.stop + moved.way)
        counter = getattr(registers, host.arch.program_counter)
        if counter not in code and counter not in copied:
            return False
        names = [
            name
            for name in (host.arch.program_counter, *host.arch.zero_at_entry)
            if any(getattr(registers, name) in area for area in moved.areas)
        ]
        for name in names:
            setattr(registers, name, getattr(registers, name) + moved.way)
        stopped.set_registers(registers)
        return bool(names)

    def move_out(self, process: Process, stops: Stops, *, in_use: bool = False) -> None:
        """Give it its own vDSO again.

        A program executed since it got the clock goes on with the fake one, in real time; one that
        filters its system calls, or where code to be moved is `in_use`, with the moved one.

        Raises OSError, UnsupportedProgram.
        """
        host, moved, mapped = process.host, process.moved, process.mapped
        if host is None or not mapped:
            return  # it reads the time by system calls
        arch = host.arch
        tid = _caller(stops, (StopKind.TRAP, StopKind.GROUP_STOP))
        vdso = range(process.vdso, process.vdso + host.size)
        with ProcessMemory(tid) as memory:
            if moved is None:
                self._lead_through(process, memory, stops)
                return
            with _unfiltered(tid) as obstacle:
                if in_use or obstacle:
                    functions = _functions(host, process.vdso)
                    memory.write(moved.base, _autojump(host.image, functions, arch))
                    return
                part = process.world.page.parts[arch.name]
                copy = range(moved.base, moved.base + host.size)
                self._step_out(stops, host, [part.code_at(mapped), copy, vdso])
                instruction = mapped + page.HEADER_SIZE + moved.fake_call
                with self._calling(stops, tid, instruction, arch) as remote:
                    for area in moved.areas:
                        there = range(area.start + moved.way, area.stop + moved.way)
                        _move_area(remote, there, -moved.way)
                    remote.instruction = moved.base + host.syscall_offset
                    start = min(area.start for area in moved.areas) + moved.way
                    end = max(area.stop for area in moved.areas) + moved.way
                    remote.call("munmap", start, end - start)
                    remote.call("munmap", mapped, part.size)
                    if process.low_page and is_marked(remote.stopped, process, process.low_page):
                        remote.call("munmap", process.low_page, page.PAGE_SIZE)
                _shift(stops, arch, vdso, -moved.way)

    def give_back_timers(
        self, process: Process, stops: Stops, timers: Sequence[Timer], host_ns: int
    ) -> None:
        """Have the kernel time what is left of timers that send signals, in real time.

        Requires: it has its own vDSO again. Raises OSError, UnsupportedProgram.
        """
        if process.host is None:
            raise UnsupportedProgram("it has no vDSO")
        arch, lines = process.host.arch, process.world.page.lines
        pack = arch.abis[0].pack_span
        tid = _caller(stops, (StopKind.TRAP, StopKind.GROUP_STOP))
        instruction = procfs.vdso_areas(process.pid)["[vdso]"].start + process.host.syscall_offset
        with (
            self._calling(stops, tid, instruction, arch) as remote,
            ProcessMemory(process.pid) as memory,
        ):
            address = remote.stack_pointer - _SETTING_BELOW_STACK
            for timer in timers:
                unit_ns = 1000 if timer.key[0] == "itimer" else 1
                left_ns = max(timer.left_ns(lines, host_ns), unit_ns)
                spans = [pack(False, ns, unit_ns) for ns in (timer.interval_ns, left_ns)]
                memory.write(address, b"".join(spans))
                if timer.key[0] == "itimer":
                    remote.call("setitimer", timer.key[2], address, 0)
                else:
                    remote.call("timer_settime", timer.key[2], 0, address, 0)

    def _lead_through(self, process: Process, memory: ProcessMemory, stops: Stops) -> None:
        """From the fake image to the kernel's own, which stands where the kernel put it."""
        host, mapped = process.host, process.mapped
        assert host is not None
        part = process.world.page.parts[host.arch.name]
        code = part.code_at(mapped), range(process.vdso, process.vdso + host.size)
        self._step_out(stops, host, code)  # the loader may be at work in the latter
        fake = self.native.fakes[host.arch.name]
        places = _functions(host, process.vdso)
        memory.write(mapped + page.HEADER_SIZE, _autojump(fake, places, host.arch))

    @contextmanager
    def _calling(
        self, stops: Stops, tid: int, instruction: int, arch: Arch
    ) -> Iterator[RemoteSyscalls]:
        """Make system calls by a stopped thread.

        Afterwards, and after an error, it is stopped again where the kernel decides how its own
        call goes on.
        """
        remote = RemoteSyscalls(Stopped(tid), instruction, arch, self.next_stop)
        try:
            with remote:
                yield remote
        except BaseException:
            if ptrace.signal_info(tid) is not None:  # else it was killed
                self._stop_again(stops, remote.stopped)
            raise
        self._stop_again(stops, remote.stopped)

    def _stop_again(self, stops: Stops, stopped: Stopped) -> None:
        ptrace.interrupt(stopped.tid)
        stopped.resume()
        stops[stopped.tid] = self.next_stop(stopped.tid)

    # --- threads inside --------------------------------------------------------------------------

    def to_move(self, process: Process, tid: int) -> list[range]:
        """Return the code that a move takes away."""
        host, mapped, moved = process.host, process.mapped, process.moved
        if not mapped or host is None:
            return [procfs.vdso_areas(tid).get("[vdso]", range(0))]
        code = [process.world.page.parts[host.arch.name].code_at(mapped)]
        if moved is not None:
            code.append(range(process.vdso, process.vdso + host.size))
            code.append(range(moved.base, moved.base + host.size))
        return code

    def to_return(self, process: Process, stops: Stops) -> list[int]:
        """Return the threads in a signal handler that will return into what is to be moved."""
        found = []
        for tid in stops:
            registers = Stopped(tid).registers()
            arch = arch_of(registers, self.native)
            with ProcessMemory(tid) as memory:
                code = self.to_move(process, tid)
                is_gone = process.moved is not None and bool(arch.handlers_return)
                if returns_into(code, memory, registers, arch) or (
                    is_gone and returns_to(_handlers_return(process), memory, registers, arch)
                ):
                    found.append(tid)
        return found

    def _step_out(self, stops: Stops, host: HostVdso, code: Sequence[range]) -> None:
        """Have no thread be left in these pieces of code.

        But those whose call by way of __kernel_vsyscall is waiting: these have their caller
        outside.
        """
        for tid in stops:
            registers = Stopped(tid).registers()
            counter = getattr(registers, host.arch.program_counter)
            if any(counter in piece for piece in code) and not _serves_others(
                Stopped(tid), registers, host, code
            ):
                self._step_thread_out(tid, stops, host.arch, code)

    def _step_thread_out(self, tid: int, stops: Stops, arch: Arch, code: Sequence[range]) -> None:
        mask = Stopped(tid).signal_mask()
        # A signal that has come is delivered outside.
        delayed = Stopped(tid).signal() if stops[tid].kind == StopKind.SIGNAL else None
        is_to_stop = False
        Stopped(tid).set_signal_mask(_MASK_OF_STEPS)
        try:
            for _ in range(_MAX_STEPS):
                Stopped(tid).step()
                stop = self.next_stop(tid)
                if stop.kind == StopKind.SIGNAL and stop.value == signal.SIGSTOP:
                    is_to_stop = True  # which cannot be blocked, and is sent again
                    continue
                if stop.kind == StopKind.SIGNAL and stop.value != signal.SIGTRAP:
                    stops[tid] = stop  # a fault of the program's
                    delayed = None
                    break
                counter = getattr(Stopped(tid).registers(), arch.program_counter)
                if not any(counter in piece for piece in code):
                    break
        finally:
            Stopped(tid).set_signal_mask(mask)
        if delayed is not None:
            Stopped(tid).set_signal(delayed)
        if is_to_stop:
            os.kill(tid, signal.SIGSTOP)


def _serves_others(stopped: Stopped, registers: Any, host: HostVdso, code: Sequence[range]) -> bool:
    """Whether a thread is in a function of the vDSO that stays the kernel's own.

    Called from outside: it may wait there for long, and keeps no address of the vDSO.
    """
    arch, image = host.arch, host.image
    counter, stack = (
        getattr(registers, name) for name in (arch.program_counter, arch.stack_pointer)
    )
    piece = next(piece for piece in code if counter in piece)
    starts = {offset: name for (name, _), offset in image.symbols.items()}
    first = max((offset for offset in starts if offset <= counter - piece.start), default=None)
    if first is None or starts[first] not in arch.kept_symbols:
        return False
    try:
        frame = stopped.peek(stack, _VSYSCALL_FRAME * 4)
    except MemoryError:
        return False
    words = [int.from_bytes(frame[i : i + 4], "little") for i in range(0, len(frame), 4)]
    return not any(word in piece for word in words for piece in code)


@contextmanager
def _unfiltered(tid: int) -> Iterator[str]:
    """Have a thread make system calls whatever its own filters decide; yield why it cannot, or "".

    (PTRACE_O_SUSPEND_SECCOMP, ptrace(2); check_ptrace_options, kernel/ptrace.c.)
    """
    if not procfs.has_filter(tid):
        yield ""
        return
    try:
        Stopped(tid).suspend_seccomp(True)
    except ProcessLookupError:
        raise
    except OSError as error:
        yield f"it is under a seccomp filter, which the tracer may not suspend: {_missing(error)}"
        return
    try:
        yield ""
    finally:
        Stopped(tid).suspend_seccomp(False)


def _missing(error: OSError) -> str:
    if error.errno == errno.EINVAL:
        return "the kernel lacks CONFIG_CHECKPOINT_RESTORE; start the program on the clock instead"
    if procfs.has_filter(threading.get_native_id()):
        return (
            "the test process is under one itself; start the program on the clock instead, or run "
            "the tests outside of that sandbox"
        )
    return "that takes CAP_SYS_ADMIN; run the tests as root, or start the program on the clock"


def _caller(stops: Mapping[int, Stop], kinds: Sequence[StopKind]) -> int:
    for kind in kinds:
        for tid, stop in stops.items():
            if stop.kind == kind:
                return tid
    raise UnsupportedProgram("it is stopped (SIGSTOP); let it go on first (SIGCONT)")


def _extent(areas: Mapping[str, range]) -> range:
    """Of the vDSO and its data, which its code reads at fixed distances."""
    return range(
        min(area.start for area in areas.values()), max(area.stop for area in areas.values())
    )


def _shift(stops: Mapping[int, Stop], arch: Arch, code: range, way: int) -> None:
    """Threads in a piece of code that is moved go on where it is now."""
    for tid in stops:
        with suppress(ProcessLookupError):
            registers = Stopped(tid).registers()
            counter = getattr(registers, arch.program_counter)
            if counter in code:
                setattr(registers, arch.program_counter, counter + way)
                Stopped(tid).set_registers(registers)


def _move_area(remote: RemoteSyscalls, area: range, way: int) -> None:
    size = len(area)
    remote.call("mremap", area.start, size, size, _MREMAP_MAYMOVE_FIXED, area.start + way)


def _with_jumps(kind: ProgramAbi, fake_address: int) -> bytes:
    """Return the kernel's image, whose functions begin with a jump into the fake one."""
    places = {
        name: fake_address + target
        for name, target in zip(kind.jumps.names, kind.targets, strict=True)
    }
    return _autojump(kind.host.image, places, kind.arch)


def _handlers_return(process: Process) -> int:
    """Where signal handlers return to in its vDSO."""
    host = process.host
    assert host is not None
    return process.vdso + host.image.data.index(host.arch.handlers_return)


def _functions(host: HostVdso, vdso: int) -> dict[str, int]:
    """Of the kernel's vDSO at an address."""
    names = {name for name, _ in host.image.symbols} - host.arch.kept_symbols
    return {name: vdso + (host.image.offset(name) or 0) for name in names}


def _autojump(image: VdsoImage, places: Mapping[str, int], arch: Arch) -> bytes:
    """Return an image whose functions begin with a jump to these places."""
    code = bytearray(image.data)
    starts = sorted(set(image.symbols.values()))
    for name, place in places.items():
        start = image.offset(name)
        if start is None:
            continue
        instructions = arch.jump(place)
        if any(start < other < start + len(instructions) for other in starts):
            raise UnsupportedProgram(f"{name} of its vDSO is shorter than a jump")
        code[start : start + len(instructions)] = instructions
    return bytes(code)
