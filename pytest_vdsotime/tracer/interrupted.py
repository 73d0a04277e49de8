"""Threads stopped inside a system call or a signal handler, which they are to go on with as if
nothing had been.

A system call that is woken up for a stop ends with a code by which the kernel, when the thread goes
on, makes the call again or fails it with EINTR because of a handler
(arch_do_signal_or_restart, arch/x86/kernel/signal.c). Programs never see these codes.
"""

from __future__ import annotations

import errno
import re
import signal
from array import array
from collections.abc import Sequence
from typing import Any

from pytest_vdsotime.arch import Arch
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.ptrace import Stopped

# include/linux/errno.h
_ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, _ERESTART_RESTARTBLOCK = 512, 513, 514, 516
_MADE_AGAIN = errno.EINTR, _ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND
#: The errors of calls that are not over, as long as no handler ends them.
GOES_ON = frozenset((*_MADE_AGAIN, _ERESTART_RESTARTBLOCK))
#: Signals that stop a process, which end some calls with EINTR (signal(7)).
STOPPING = signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU
_WORD = 2**64
_MAX_ERRNO = 4095
#: How far up its stack the frame of a signal handler is looked for.
_HANDLERS_STACK = 256 * 1024
_EFLAGS_FIXED = 2  # X86_EFLAGS_FIXED, asm/processor-flags.h


def error_of(registers: Any, arch: Arch) -> int:
    """The errno of the system call that a thread was stopped in; 0 if it was in none."""
    if getattr(registers, arch.interrupted_syscall) >= _WORD // 2:
        return 0
    result = getattr(registers, arch.syscall_result)
    return _WORD - result if result >= _WORD - _MAX_ERRNO else 0


def is_in_call(registers: Any, arch: Arch) -> bool:
    """Whether a thread stopped in a system call will go on with it."""
    return error_of(registers, arch) in GOES_ON


def called_again(registers: Any, arch: Arch) -> int:
    """The program counter behind a call that a thread will make again with the same arguments; 0
    if it will not."""
    again = error_of(registers, arch) in _MADE_AGAIN
    return int(getattr(registers, arch.program_counter)) if again else 0


def hide_interrupt(stopped: Stopped, arch: Arch) -> None:
    """Some calls end with EINTR when they are woken up for anything (signal(7)): now it takes a
    signal with a handler for that, as it would alone."""
    registers = stopped.registers()
    # close(2) has given up the descriptor by then
    if (
        error_of(registers, arch) == errno.EINTR
        and getattr(registers, arch.interrupted_syscall) != arch.syscalls["close"]
    ):
        setattr(registers, arch.syscall_result, -ERESTARTNOHAND % _WORD)
        stopped.set_registers(registers)


def end_interrupted(stopped: Stopped, arch: Arch) -> None:
    """A signal that stops its process ends such calls too, and SIGCONT must not begin them anew."""
    registers = stopped.registers()
    if error_of(registers, arch) == errno.EINTR:
        setattr(registers, arch.interrupted_syscall, _WORD - 1)
        stopped.set_registers(registers)


def returns_into(code: Sequence[range], memory: ProcessMemory, registers: Any, arch: Arch) -> bool:
    """Whether the stack holds the frame of a signal handler that was called in this code."""
    width = array(arch.word).itemsize
    stack = getattr(registers, arch.stack_pointer) // width * width
    try:
        data = memory.read(stack, _HANDLERS_STACK)
    except OSError:
        return False
    segment, flags = (width * words for words in arch.frame_words)
    for piece in code:
        for upper in range(piece.start >> 16, (piece.stop - 1 >> 16) + 1):
            pattern = re.escape(upper.to_bytes(width - 2, "little"))
            for match in re.finditer(pattern, data, re.DOTALL):
                start = match.start() - 2
                counter = int.from_bytes(data[start : start + width], "little")
                if (
                    start % width == 0
                    and counter in piece
                    and int.from_bytes(data[start + segment :][:2], "little")
                    == arch.program_mode[1]
                    and _EFLAGS_FIXED & int.from_bytes(data[start + flags :][:4], "little")
                    and _is_on_stack(data, start, stack, arch)
                ):
                    return True
    return False


def _is_on_stack(data: bytes, start: int, stack: int, arch: Arch) -> bool:
    """Whether a frame that begins so is on the stack that the thread is on. Behind that of a
    goroutine may lie the one that its handlers are on, with what they have left there: a frame says
    where that is (sigaltstack(2))."""
    width = array(arch.word).itemsize
    base, size = (
        int.from_bytes(data[max(start - words * width, 0) :][:width], "little")
        for words in arch.frame_stack
    )
    alternate = range(base, base + size)
    return (stack in alternate) == (stack + start in alternate)
