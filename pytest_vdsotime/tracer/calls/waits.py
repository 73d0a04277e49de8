"""Waits that follow the clock: how a wait begins, and how it is brought to its end.

The kernel times a wait as long as that is right: it gets the timeout after which, by the lines as
they are, the wait will expire, and none on a frozen line. Where the program's own timeout says that
already, the call runs untouched. Once the lines move past the deadline of a wait, it is interrupted
and gets the result of an expired one; if it has ended for real at that moment, that result stands.

The program's memory is written only where the kernel writes it: what is left of a timeout, the sets
of select(2). Events are recorded of how waits and timers expire by the clock and, during a
recording, of when each wait begins and ends.

On machines that rewind early (Arch.rewinds_early) the kernel makes a call ready to be restarted
before it asks the tracer. By then it has overwritten the first argument with the result, and how
the wait has ended shows at the exit of the call alone. So calls that end with EINTR by any signal,
ignored ones too (signal(7)), stop there at their entry even without a timeout, and are followed to
their exit (restart.at_exit); a call whose only timeout is that of its socket is not.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.events import Deadline, EventKind
from pytest_vdsotime.kernel import memory, procfs, ptrace
from pytest_vdsotime.kernel.ptrace import Stopped, SystemCall
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.page import PAGE_SIZE
from pytest_vdsotime.timeline import CLOCKS, NS_PER_S, LineName, now_ns
from pytest_vdsotime.tracer.call import Answer, CallRow, Refused, Request, Substitute
from pytest_vdsotime.tracer.calls import later, restart
from pytest_vdsotime.tracer.calls.records import ENDLESS, WALL_ALONE, wait_of_record
from pytest_vdsotime.tracer.calls.restart import (
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    GOES_ON,
    STOPPING,
    call_registers,
    error_of,
    put_back,
    rewind_interrupted,
    set_call_registers,
)
from pytest_vdsotime.tracer.fastpath import FastPath, Record
from pytest_vdsotime.tracer.state import ClockState, Task
from pytest_vdsotime.waits import NEVER_NS, Timer, Unit, Wait, WaitRow, deadlines

_MAX_S = _MAX_MS = 2**31 - 1
_BLOCK = struct.Struct("<5I")  # that of select(2)
#: How much longer than it says a wait may last for its own timeout to be left to the kernel, and
#: one that was held while the test had the clock advance.
_TOLERANCE_NS, HELD_TOLERANCE_NS = 200_000, 500_000
#: The errors with which a stop ends a wait that has them.
_FINAL = errno.EINTR, errno.EFAULT


# --- it begins -----------------------------------------------------------------------------------


def begin(row: WaitRow, request: Request) -> Answer:
    """At the entry of a call.

    On a clock that leaves waits to the kernel, points of a line alone are translated.
    """
    task, world = request.task, request.process.world
    wait, task.wait = task.wait, None
    is_new = (
        wait is None
        or not wait.is_continued
        or not wait.is_same(request.nr, request.arguments, request.place)
    )
    if is_new:
        try:
            wait = _new(row, request)
        except Refused:
            if row.is_block:
                raise
            # The kernel says that, or what it finds before; if it can read what the tracer cannot
            # (memfd_secret(2)), it is not to wait for that in real time.
            return Substitute(row.argument, value=request.abi.mask)
    if wait is None:
        return None
    wait.is_anew = False
    if is_new:
        later.relate(task, wait)
    if world.follows:
        task.wait = wait
        # One whose time was up before it was made again is about to be interrupted.
        if row.is_sleep and world.is_passing and not wait.is_expiring:
            task.held = request
            return None
    elif not wait.is_absolute:
        return None
    return in_kernel(request, wait)


def _new(row: WaitRow, request: Request) -> Wait | None:
    page, basis = request.process.world.page, row.basis(request.arguments)
    block = _BLOCK.unpack(request.read(request.arguments[0], _BLOCK.size)) if row.is_block else ()
    words = block or request.arguments
    if basis is None or not page.serves(basis[0]):
        return None
    if row.unit is Unit.MILLISECONDS:
        timeout_ns: int | None = request.number(row.argument) * Unit.MILLISECONDS
    elif words[row.argument] == 0:
        return None
    else:
        timeout_ns = row.timeout_ns(*request.read_pair(words[row.argument]))
    if timeout_ns is None or timeout_ns < 0:
        return None
    if timeout_ns == 0 and not row.is_sleep:
        later.polls(request.task, request.place, (request.nr, request.arguments))
        return None
    clock_id, is_absolute = basis
    host_ns, name, left_ns = now_ns(), CLOCKS[clock_id].line, timeout_ns
    if is_absolute:
        left_ns = request.left_ns(clock_id, timeout_ns, host_ns)
    return Wait(
        row,
        *(request.nr, request.arguments, request.place, request.abi),
        *(clock_id, is_absolute, timeout_ns, left_ns),
        deadlines(page.lines, host_ns, name, left_ns, ends_early=request.process.world.ends_early),
        set_ns=host_ns,
        rest_was=rest_before(row, request),
        block=block,
    )


def in_kernel(request: Request, wait: Wait, tolerance_ns: int = _TOLERANCE_NS) -> Answer:
    """How the kernel is to time it."""
    is_new, wait.is_continued = not wait.is_continued, False
    world, lines, host_ns = request.process.world, request.process.world.page.lines, now_ns()
    as_written_ns = host_ns + wait.timeout_ns
    if wait.is_absolute:
        as_written_ns -= request.kernels_ns(wait.clock_id)
    wait.has_grace = later.is_brief(wait, world)
    if wait.has_grace:
        wait.host_due_ns = host_ns + wait.left_ns(lines, host_ns)
        return _substitute(request, wait, host_ns)
    wait.host_due_ns = wait.due_ns(lines, host_ns)
    if is_new and 0 <= as_written_ns - wait.host_due_ns <= tolerance_ns:
        wait.host_due_ns = as_written_ns
        return None
    return _substitute(request, wait, host_ns)


def _substitute(request: Request, wait: Wait, host_ns: int) -> Substitute:
    row = wait.row
    left_ns = max(wait.host_due_ns - host_ns, 0)
    is_endless = wait.host_due_ns >= NEVER_NS
    on_exit = partial(end_of, request, wait)
    if row.unit is Unit.MILLISECONDS:
        value = -1 if is_endless else min(-(-left_ns // Unit.MILLISECONDS), _MAX_MS)
        return Substitute(row.argument, value=value & request.abi.mask, on_exit=on_exit)
    if is_endless and row.is_block:
        return Substitute(0, _BLOCK.pack(*wait.block[: row.argument], 0), on_exit=on_exit)
    if is_endless and not row.is_sleep:
        return Substitute(row.argument, value=0, on_exit=on_exit)
    if wait.is_absolute:
        left_ns += request.kernels_ns(wait.clock_id)
    seconds, rest_ns = divmod(left_ns, NS_PER_S)
    if seconds > _MAX_S:
        seconds, rest_ns = _MAX_S, 0
    data = request.abi.pair(row.time64).pack(seconds, -(-rest_ns // row.unit))
    if row.is_block:
        pointer = _BLOCK.size // len(wait.block) * row.argument, _BLOCK.size
        return Substitute(0, _BLOCK.pack(*wait.block) + data, on_exit=on_exit, points=pointer)
    return Substitute(row.argument, data, on_exit=on_exit)


# --- it ends -------------------------------------------------------------------------------------


def end_of(request: Request, wait: Wait, stopped: Stopped, result: int) -> int:
    """As `finish`, at the exit of a call that was made with another argument."""
    task = request.task
    if task.wait is not wait:  # its clock leaves waits to the kernel
        return result
    return finish(task, wait, stopped, result)


def finish(task: Task, wait: Wait, stopped: Stopped, result: int) -> int:
    """Return what a call returns that the kernel has ended with `result`, or interrupted.

    And what it leaves in memory.
    """
    row, lines = wait.row, task.process.world.page.lines
    left_ns = max(wait.left_ns(lines, now_ns()), 0)
    is_expiring, is_anew = wait.is_expiring, wait.is_anew
    wait.is_expiring = wait.is_anew = False
    is_fault = result == -errno.EFAULT
    is_interrupted = -result in GOES_ON or (
        is_fault and (row.rest is not None or (row.tells_events and (is_expiring or is_anew)))
    )
    if not is_interrupted:
        if wait.has_grace and result == row.expired:
            later.spend_grace(task.process.world, wait)
        # A signal may show yet that it was (at_signal).
        task.wait = wait if is_fault and row.tells_events else None
        is_late = not (is_fault or result == -errno.EINVAL) or not is_mask_refused(wait, stopped)
        if row.writes_back and is_late:
            write_rest(wait, stopped, row.argument, 0 if result == row.expired else left_ns)
        return result
    if is_expiring:
        task.wait = None
        if row.writes_back:
            write_rest(wait, stopped, row.argument, 0)
        restore_rest(wait, stopped)
        is_told = clear_sets(wait, stopped) and not (is_fault and row.tells_events)
        return row.expired if is_told else -errno.EFAULT
    wait.is_continued = True
    if is_anew:
        restore_rest(wait, stopped)
    elif row.rest is not None and not wait.is_absolute:
        wait.cannot_tell_rest = not write_rest(wait, stopped, row.rest, left_ns)
    if row.writes_back:
        wait.cannot_tell_rest = not write_rest(wait, stopped, row.argument, left_ns)
    if row.writes_back and result == -errno.EINTR:
        result = -ERESTARTNOHAND  # it could not write into the process page (poll_select_finish)
    is_ended_by_handlers = not row.keeps_restarting and -result not in (
        errno.EINTR,
        ERESTARTNOINTR,
    )
    return -ERESTARTNOHAND if is_anew or is_ended_by_handlers else result


@dataclass(slots=True)
class TimedWaits:
    """Brings waits to their end; one per tracer, on its thread."""

    arch: Arch
    fastpath: FastPath
    rows: Mapping[int, WaitRow]
    """Of the host's own system calls, by number."""

    def recorded(self, record: Record) -> Wait:
        """Return the wait that the native code has recorded."""
        return wait_of_record(record, self.rows[record.nr], self.arch.abis[0])

    def knows(self, wait: Wait) -> bool:
        """Whether the native code may keep it."""
        return wait.abi is self.arch.abis[0] and self.fastpath.knows_wait(wait.nr)

    def take(self, task: Task) -> Wait:
        """Take over the wait that the native code has recorded of a task."""
        record = self.fastpath.record_of(task.tid)
        assert record is not None
        wait = self.recorded(record)
        line = record.line
        if line:
            lines, host_ns = task.process.world.page.lines, now_ns()
            left_ns = wait.left_ns(lines, host_ns)
            wait.deadlines = deadlines(
                lines, host_ns, LineName.WALL, left_ns, ends_early=line != WALL_ALONE
            )
        self._hold_on(task, wait)
        return wait

    def take_kept(self, task: Task, *, is_by_wall: bool = False) -> None:
        """Take over its wait if it is kept natively, and if it `is_by_wall` alone.

        That is known there as long as both lines go equally far.
        """
        record = self.fastpath.record_of(task.tid)
        if record is not None and record.keeper == ENDLESS and (record.line or not is_by_wall):
            self.take(task)

    def _hold_on(self, task: Task, wait: Wait) -> None:
        task.wait = wait
        self.fastpath.drop_record(task.tid)
        self.fastpath.to_python(task.tid)
        if wait.is_kept and task.at_exit is None:
            task.at_exit = partial(self._put_back, task, wait)

    def _put_back(self, task: Task, wait: Wait, stopped: Stopped) -> None:
        """At the exit of a call that was endless to the kernel."""
        registers, name = stopped.registers(), self.arch.syscall_result
        own = {wait.abi.arguments[wait.row.argument]: wait.arguments[wait.row.argument]}
        put_back(registers, self.arch, own)
        result = getattr(registers, name)
        if task.wait is wait:
            result = finish(task, wait, stopped, result - 2**64 if result >= 2**63 else result)
        setattr(registers, name, result % 2**64)
        rewind_interrupted(task, registers, self.arch, wait.nr, own)
        stopped.set_registers(registers)

    def expire(self, task: Task, wait: Wait) -> None:
        """Its time is up: ends it, soon."""
        tell_expired(task, wait)
        later.was_reached(task, wait.length_ns)
        wait.is_expiring = True
        self._interrupt(task, wait)

    def call_anew(self, task: Task, wait: Wait) -> None:
        """Have the call made again, soon, as the kernel is to time it otherwise from now on."""
        wait.is_anew = True
        self._interrupt(task, wait)

    def _interrupt(self, task: Task, wait: Wait) -> None:
        self._hold_on(task, wait)
        ptrace.interrupt(task.tid)

    def at_stop(
        self,
        task: Task,
        stopped: Stopped,
        *,
        goes_on: bool = False,
        is_interrupted: bool = False,
    ) -> None:
        """At a stop other than the exit of its call: does what is due to a wait.

        `goes_on`: its process may have been stopped, and the lines have moved meanwhile.
        `is_interrupted`: the tracer has, and not to end a wait (Task.interrupt).

        Requires: the task is at a trap, at a group stop, or about to get a signal.
        Leaves: it there.
        """
        wait = task.wait
        record = self.fastpath.record_of(task.tid)
        if record is not None:
            wait = self.recorded(record)
        if wait is None:
            if is_interrupted:
                restart.hide_interrupt(stopped, self.arch)
            return
        wait.is_anew |= is_interrupted and not wait.is_expiring
        if task.rewound is None:
            task.rewound = restart.find_rewound(stopped, self.arch, wait)
        registers = call_registers(stopped, self.arch, task.rewound)
        if not (wait.is_expiring or wait.is_anew):
            if not goes_on or not self.is_in(wait, registers):
                return
            world, lines, host_ns = task.process.world, task.process.world.page.lines, now_ns()
            wait.is_expiring = wait.left_ns(lines, host_ns) <= 0
            is_kernels = not (wait.row.is_of_socket or later.is_brief(wait, world))
            is_failing = error_of(registers, self.arch) == errno.EFAULT
            is_mistimed = wait.is_mistimed(lines, host_ns, _TOLERANCE_NS)
            wait.is_anew = is_failing or (is_mistimed and is_kernels)
            if not (wait.is_expiring or wait.is_anew):
                return
        task.wait = wait
        self.fastpath.drop_record(task.tid)
        if not self.is_in(wait, registers):  # it has ended, for real
            task.wait = None
            restart.hide_interrupt(stopped, self.arch)
            return
        result = finish(task, wait, stopped, -error_of(registers, self.arch))
        if wait.is_continued:
            self.fastpath.to_python(task.tid)  # to whom it would be a new one
        setattr(registers, self.arch.syscall_result, result % 2**64)
        # Not restart_syscall, by which the kernel goes on as it was told before; and what is over
        # is not to be taken for a call that was interrupted, at another trap before it goes on.
        is_over = not wait.is_continued and not self.arch.rewinds_early
        setattr(registers, self.arch.interrupted_syscall, 2**64 - 1 if is_over else wait.nr)
        set_call_registers(stopped, self.arch, task.rewound, registers)

    def at_signal(self, task: Task, stopped: Stopped, number: int) -> None:
        """About to get a signal.

        As `at_stop`; and whether the wait that it has interrupted is to go on, which the kernel
        knows, or the tracer by the call being made again.
        """
        record = self.fastpath.record_of(task.tid)
        if record is not None:
            task.wait = self.recorded(record)
            self.fastpath.drop_record(task.tid)
        self.at_stop(task, stopped)
        wait = task.wait
        if wait is None:
            return
        registers = call_registers(stopped, self.arch, task.rewound)
        if self.is_in(wait, registers):
            wait.is_continued = self._goes_on(task, wait, stopped, registers, number)
        else:
            task.wait = None
        if self.arch.rewinds_early and not wait.is_continued:
            task.wait = None  # its exit is not to be waited for
        self.fastpath.to_python(task.tid, task.is_to_go_on or task.at_exit is not None)

    def _goes_on(
        self, task: Task, wait: Wait, stopped: Stopped, registers: Any, number: int
    ) -> bool:
        """Whether a wait does after a signal.

        What is made again is the call itself: not restart_syscall, of which the tracer would not
        hear.
        """
        error, row = error_of(registers, self.arch), wait.row
        is_stopping, is_caught = number in STOPPING, procfs.catches(task.tid, number)
        tells_rest = row.rest is not None and not wait.is_absolute
        if row.rest is not None and tells_rest and (is_stopping or is_caught):
            left_ns = wait.left_ns(task.process.world.page.lines, now_ns())
            wait.cannot_tell_rest = not write_rest(wait, stopped, row.rest, max(left_ns, 0))
        is_over = (
            # As with a timeout, whatever the handler says (sock_intr_errno, net/sock.h).
            (row.is_of_socket and (is_stopping or is_caught))
            # What was left cannot be told (poll_select_finish, fs/select.c; nanosleep_copyout,
            # kernel/time/hrtimer.c).
            or (is_stopping and (wait.cannot_tell_rest or error in _FINAL))
            or (is_caught and tells_rest and wait.cannot_tell_rest)
        )
        if is_over:
            is_fault = error == errno.EFAULT or (tells_rest and wait.cannot_tell_rest)
            number = errno.EFAULT if is_fault else errno.EINTR
            setattr(registers, self.arch.syscall_result, -number % 2**64)
            setattr(registers, self.arch.interrupted_syscall, 2**64 - 1)
        elif is_caught:
            if task.rewound is not None and task.rewound.argument is not None:
                setattr(registers, self.arch.syscall_result, -errno.EINTR % 2**64)
                setattr(registers, self.arch.interrupted_syscall, 2**64 - 1)
                set_call_registers(stopped, self.arch, task.rewound, registers)
            return False
        else:
            if not is_stopping:
                restore_rest(wait, stopped)
            setattr(registers, self.arch.interrupted_syscall, wait.nr)
            setattr(registers, self.arch.syscall_result, -ERESTARTNOHAND % 2**64)
        set_call_registers(stopped, self.arch, task.rewound, registers)
        return not is_over

    def is_in(self, wait: Wait, registers: Any) -> bool:
        """Whether a stopped task will go on with this wait."""
        abi, arch = wait.abi, self.arch
        nr = getattr(registers, arch.interrupted_syscall) & 0xFFFFFFFF
        arguments = [getattr(registers, name) & abi.mask for name in abi.arguments]
        if arch.syscall_result in abi.arguments:
            place_of_result = abi.arguments.index(arch.syscall_result)
            arguments[place_of_result] = wait.arguments[place_of_result]
        place = getattr(registers, arch.stack_pointer), getattr(registers, arch.program_counter)
        if nr == abi.syscalls["restart_syscall"]:
            nr = wait.nr
        error = error_of(registers, arch)
        is_interrupted = error in GOES_ON or (error == errno.EFAULT and wait.row.may_fail)
        return is_interrupted and wait.is_same(nr, arguments, place)


# --- memory of the program that a wait needs -----------------------------------------------------

_MASK_SIZE = 8


def rest_before(row: WaitRow, request: Request) -> bytes:
    """Return what stands where a signal leaves the rest, as far as there is memory."""
    address = row.rest is not None and request.arguments[row.rest]
    if not address:
        return b""
    size, tid = request.abi.pair(request.time64).size, request.stopped.tid
    return memory.read_running(tid, address, size) or memory.read_running(
        tid, address, min(-address % PAGE_SIZE, size)
    )


def write_rest(wait: Wait, stopped: Stopped, argument: int, left_ns: int) -> bool:
    """Return whether it could be told to who wants to know."""
    data = wait.abi.pack_span(wait.row.time64, left_ns, wait.row.unit)
    return _write(wait, stopped, argument, data)


def restore_rest(wait: Wait, stopped: Stopped) -> None:
    """Let the program go on as if it had not been interrupted."""
    if wait.rest_was and wait.row.rest is not None:
        _write(wait, stopped, wait.row.rest, wait.rest_was)


def clear_sets(wait: Wait, stopped: Stopped) -> bool:
    """Those of select(2), up to its first argument.

    False where one cannot be written (core_sys_select, fs/select.c).
    """
    if not wait.row.fd_sets:
        return True
    count = min(wait.words[0] & 0xFFFFFFFF, procfs.descriptor_table_size(stopped.tid))
    size = -(-count // (8 * wait.abi.long_size)) * wait.abi.long_size
    return all(_write(wait, stopped, argument, bytes(size)) for argument in wait.row.fd_sets)


def is_mask_refused(wait: Wait, stopped: Stopped) -> bool:
    """Whether the call has failed before it began to wait.

    Of ppoll(2) and pselect6(2), because of their signal mask (set_user_sigmask, kernel/signal.c).
    """
    if wait.row.mask is None:
        return False
    words = wait.arguments[wait.row.mask :]
    try:
        if len(words) == 1:  # it leads to both
            pair = struct.Struct("<2Q" if wait.abi.long_size == 8 else "<2I")
            words = pair.unpack(memory.read_as_program(stopped, words[0], pair.size))
        if words[0]:
            memory.read_as_program(stopped, words[0], _MASK_SIZE)
    except MemoryError:
        return True
    return bool(words[0]) and words[1] != _MASK_SIZE


def _write(wait: Wait, stopped: Stopped, argument: int, data: bytes) -> bool:
    try:
        if wait.words[argument]:
            memory.write_as_program(stopped, wait.words[argument], data)
    except MemoryError:
        return False
    return True


# --- spans ---------------------------------------------------------------------------------------

_TIMERS = {"fd": "timerfd", "itimer": "interval timer", "timer": "timer"}


def deadline_of(world: ClockState, what: Wait | Timer) -> Deadline:
    """Return what ends it."""
    clock_id, at_ns = what.clock_id, None
    if what.deadlines:
        at_ns = what.deadlines[0][1] + world.page.offset_ns(clock_id)
    name = what.row.name if isinstance(what, Wait) else _TIMERS[what.key[0]]
    return Deadline(name, CLOCKS[clock_id].name, at_ns)


def owner_of(world: ClockState, timer: Timer) -> int:
    """Return the process that it belongs to; its descriptor may be a thread's."""
    _, owner, _ = timer.key
    if owner in world.everyone:
        return owner
    everyone = world.everyone.values()
    return next((one.pid for one in everyone if owner in one.threads), owner)


def tell_fired(world: ClockState, timer: Timer, deadline: Deadline) -> None:
    """Have a wait expire."""
    world.record(EventKind.FIRED, owner_of(world, timer), deadline)


def tell_expired(task: Task, wait: Wait, *, is_over: bool = False) -> None:
    """Its time is up. `is_over`: its task goes on by that, without another word."""
    world, pid = task.process.world, task.process.pid
    world.record(EventKind.EXPIRED, pid, deadline_of(world, wait), task.tid)
    if is_over and world.history.records:
        world.record(EventKind.WAITED, pid, tid=task.tid)


def follow_wait(task: Task, call: SystemCall, at_stop: Callable[[Task, Stopped], None]) -> None:
    """At the entry of a call that was answered.

    If it is a wait, its end is told too, unless the task is held there. `at_stop` does what is due
    to a wait: where a task stops at the end of its call, that is the stop to which it was
    interrupted.
    """
    wait, world, pid = task.wait, task.process.world, task.process.pid
    if wait is None or wait.nr != call.nr:
        return
    world.record(EventKind.WAITS, pid, deadline_of(world, wait), task.tid)
    if task.held is not None:
        return
    on_exit = task.at_exit

    def ended(stopped: Stopped) -> None:
        world.record(EventKind.WAITED, pid, tid=task.tid)
        (on_exit or partial(at_stop, task))(stopped)

    task.at_exit = ended


# --- exits ---------------------------------------------------------------------------------------


def at_exit(timed_waits: TimedWaits, task: Task, stopped: Stopped, *, is_as_written: bool) -> None:
    """`is_as_written`: the kernel times it so, which nobody has seen to yet.

    Requires: the task is at the exit of a system call.
    Leaves: it there, and what was found out in `task.rewound`.
    """
    if is_as_written:
        _end(timed_waits, task, stopped)
    if task.rewound is None:
        task.rewound = restart.at_exit(stopped, timed_waits.arch)
    if task.rewound is not None:
        timed_waits.fastpath.to_python(task.tid)


def at_group_stop(task: Task, stopped: Stopped, arch: Arch) -> None:
    """Have a call that a group-stop ends not be made again when the process goes on."""
    if task.rewound is not None:
        restart.end_interrupted(stopped, arch, task.rewound)


def _end(timed_waits: TimedWaits, task: Task, stopped: Stopped) -> None:
    """As Substitute.then of others."""
    record, wait, arch = timed_waits.fastpath.record_of(task.tid), task.wait, timed_waits.arch
    if record is not None:
        timed_waits.fastpath.drop_record(task.tid)
        wait = timed_waits.recorded(record)
    task.wait = None
    registers = stopped.registers()
    if wait is not None and timed_waits.is_in(wait, registers):
        task.wait, error = wait, restart.error_of(registers, arch)
        result = finish(task, wait, stopped, -error)
        setattr(registers, arch.syscall_result, result % 2**64)
        stopped.set_registers(registers)
        if -result in GOES_ON and error not in GOES_ON:  # EFAULT, maybe of its time: then nothing
            ptrace.interrupt(stopped.tid)  # else has the kernel look at it (exit_to_user_mode)
    timed_waits.fastpath.to_python(task.tid, task.is_to_go_on)


# --- calls that any signal ends ------------------------------------------------------------------

_IORING_ENTER_GETEVENTS = constant("IORING_ENTER_GETEVENTS")
#: As in native_stub/arch/aarch64.h, by when they wait.
_CALLS: dict[str, Match | None] = {
    "epoll_pwait": Match(argument=3, any_bits=0xFFFFFFFF),
    "epoll_pwait2": None,
    "io_getevents": None,
    "io_uring_enter": Match(argument=3, any_bits=_IORING_ENTER_GETEVENTS),
    "rt_sigtimedwait": None,
    "semop": None,
    "semtimedop": None,
}


def followed(rows: Sequence[CallRow], arch: Arch) -> Sequence[CallRow]:
    """Return the rows, with these calls in place of those of the same name.

    They still answer what those hold for.
    """
    if not arch.rewinds_early:
        return rows
    own = {row.name: row for row in rows}
    others = [row for row in rows if row.name not in _CALLS]
    return (*others, *(_row(name, match, own.get(name)) for name, match in _CALLS.items()))


def _row(name: str, match: Match | None, own: CallRow | None) -> CallRow:
    return CallRow(name, partial(_answer, own), match, time64=own is not None and own.time64)


def _answer(own: CallRow | None, request: Request) -> Answer:
    answer = None
    if own is not None and own.holds(request.arguments):
        answer = own.answer(request)
    return _as_it_is if answer is None and request.task.wait is None else answer


def _as_it_is(result: int) -> int:
    return result
