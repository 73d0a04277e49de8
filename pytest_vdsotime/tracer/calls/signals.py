"""System calls by which signals are taken other than by handlers.

A signal that is not blocked and ignored is discarded when it is sent, and one that is not blocked
and fatal ends its process, also while a thread waits for it: the mask from before the wait decides
(sig_ignored, complete_signal, kernel/signal.c). For a traced thread the kernel queues both all the
same, for the tracer to see, and for anything that looks meanwhile:

- rt_sigtimedwait(2) gets a set without such signals;
- rt_sigpending(2) does not tell of ignored ones;
- a signalfd(2) for such signals, as of a program that has yet to block them, has its process stop
  at all system calls: what it tells of them is taken out, a fatal one is sent again, and a poll
  that ignored ones have ended is made again. Once all of its signals are blocked that is over.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

from pytest_vdsotime.arch import Arch
from pytest_vdsotime.kernel import memory, procfs, ptrace
from pytest_vdsotime.kernel.procfs import SignalMasks
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.tracer.call import Answer, CallRow, Refused, Request, Substitute
from pytest_vdsotime.tracer.calls import waits
from pytest_vdsotime.tracer.calls.restart import rewind
from pytest_vdsotime.tracer.state import Process, Task
from pytest_vdsotime.waits import WaitRow

_INFO_SIZE = 128  # struct signalfd_siginfo, which begins with the number (linux/signalfd.h)
_SET_SIZE = 8  # _NSIG bits, in every ABI (asm-generic/signal.h)


def _discarded(process: Process, masks: SignalMasks) -> int:
    """Return the signals that would be discarded, as the kernel's bit set."""
    if procfs.is_namespace_init(process.pid):
        ignored = ~masks.caught  # SIGNAL_UNKILLABLE (sig_task_ignored, kernel/signal.c)
    else:
        ignored = masks.ignored | (procfs.IGNORED_BY_DEFAULT & ~masks.caught)
    return ignored & ~masks.blocked


def _fatal(process: Process, masks: SignalMasks) -> int:
    """Return the signals that would end the process, as the kernel's bit set."""
    handled = masks.caught | masks.ignored | masks.blocked | _discarded(process, masks)
    return procfs.FATAL_BY_DEFAULT & ~handled


def _sigtimedwait(row: WaitRow, request: Request) -> Answer:
    answer = None if request.process.is_skipped else waits.begin(row, request)
    try:
        wanted = int.from_bytes(request.read(request.arguments[0], _SET_SIZE), "little")
    except Refused:
        return answer  # the kernel says so
    masks = procfs.signal_masks(request.stopped.tid)
    unwanted = wanted & (_discarded(request.process, masks) | _fatal(request.process, masks))
    if not unwanted:
        return answer
    data, wait = (wanted & ~unwanted).to_bytes(_SET_SIZE, "little"), request.task.wait
    if wait is not None:
        wait.has_other_set = True
    if isinstance(answer, Substitute):
        return answer._replace(beside=(0, data))
    on_exit = None if wait is None else partial(waits.end_of, request, wait)
    return Substitute(0, data, on_exit=on_exit)


def _sigpending(request: Request) -> Answer:
    """Of those for the whole process its first thread decides which are discarded."""

    def told(result: int) -> int:
        masks = procfs.signal_masks(request.stopped.tid)
        leaders = procfs.signal_masks(request.process.pid)
        if result == 0 and masks.shared & _discarded(request.process, leaders):
            told = int.from_bytes(request.read(request.arguments[0], _SET_SIZE), "little")
            told &= masks.pending | ~_discarded(request.process, leaders)
            request.write(request.arguments[0], told.to_bytes(_SET_SIZE, "little"))
        return result

    return told


def _signalfd(request: Request) -> Answer:
    def made(result: int) -> int:
        process = request.process
        if result >= 0 and _tells_of_unblocked(process):
            process.world.watchers.add(process.pid)
            for tid in process.threads - {request.stopped.tid}:
                with suppress(ProcessLookupError):
                    ptrace.interrupt(tid)
        return result

    return made


def _tells_of_unblocked(process: Process) -> bool:
    masks = procfs.signal_masks(process.pid)
    unwanted = _discarded(process, masks) | _fatal(process, masks)
    return any(mask & unwanted for mask in procfs.signalfd_masks(process.pid))


SIGNAL_CALLS = (
    CallRow("rt_sigpending", _sigpending),
    CallRow("signalfd", _signalfd),
    CallRow("signalfd4", _signalfd),
)
_POLLS = (
    *("poll", "ppoll", "ppoll_time64", "select", "pselect6", "pselect6_time64"),
    *("epoll_wait", "epoll_pwait", "epoll_pwait2"),
)


def at_exit(task: Task, stopped: Stopped, arch: Arch) -> None:
    """Of a process that has such a signalfd.

    Requires: the task is at the exit of a system call, and was stopped at its entry.
    Leaves: it there; its call may be made again.
    """
    registers, process = stopped.registers(), task.process
    kinds = (arch, *arch.runs_too)
    abi = next((one for one in kinds if one.runs_in(registers)), arch).abis[0]
    nr, result = (
        getattr(registers, name) for name in (arch.interrupted_syscall, arch.syscall_result)
    )
    is_read = nr == abi.syscalls["read"]
    if not is_read and nr not in (abi.syscalls.get(name) for name in _POLLS):
        return  # libc blocks all signals for a moment in some functions, but waits in none of them
    if not _tells_of_unblocked(process):
        process.world.watchers.discard(process.pid)
    if not 0 < result < 2**31:
        return
    masks = procfs.signal_masks(task.tid)
    discarded = _discarded(process, masks)
    if is_read:
        fatal, address = _fatal(process, masks), getattr(registers, abi.arguments[1])
        result = _without(discarded, fatal, task, stopped, address, result)
    else:
        result *= not (masks.pending | masks.shared) & discarded
    if result:
        setattr(registers, arch.syscall_result, result)
    else:
        if task.wait is not None:
            task.wait.is_continued = True
        is_number = arch.syscall_number == arch.syscall_result
        rewind(registers, arch, nr if is_number else task.first_argument)
    stopped.set_registers(registers)


def _without(
    discarded: int, fatal: int, task: Task, stopped: Stopped, address: int, size: int
) -> int:
    """Take these signals out of what was read, and send the fatal ones again.

    Return how much is left.
    """
    fd = task.first_argument & 0xFFFFFFFF
    if procfs.signalfd_mask(task.tid, fd) is None:
        return size
    data = memory.read_as_program(stopped, address, size)
    told = [data[start : start + _INFO_SIZE] for start in range(0, size, _INFO_SIZE)]
    for info in told:
        if fatal >> (info[0] - 1) & 1:
            with suppress(ProcessLookupError):
                os.kill(task.process.pid, info[0])
    left = [info for info in told if not (discarded | fatal) >> (info[0] - 1) & 1]
    if left and len(left) < len(told):
        memory.write_as_program(stopped, address, b"".join(left))
    return _INFO_SIZE * len(left)


def row_of(row: WaitRow) -> CallRow:
    """Return a row that stops at every such call: one without a timeout takes signals too."""
    return CallRow(row.name, partial(_sigtimedwait, row), time64=row.time64)
