"""Threads stopped inside a system call or a signal handler.

They are to go on as if nothing had been.

A system call that is woken up for a stop ends with a code by which the kernel, when the thread goes
on, makes the call again or fails it with EINTR because of a handler
(arch_do_signal_or_restart, arch/x86/kernel/signal.c). Programs never see these codes.

Where the kernel has the call ready to be made again before it asks the tracer (Arch.rewinds_early;
do_signal, arch/arm64/kernel/signal.c), the code shows at the exit of the call alone. The tracer
remembers it there, and registers at a later stop are read and written as if they still held it.
"""

from __future__ import annotations

import ctypes
import errno
import re
import signal
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.procfs import BlockedCall
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.timeline import now_ns
from pytest_vdsotime.tracer.state import Rewound, Task
from pytest_vdsotime.waits import WAITS, Wait

# include/linux/errno.h
_ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, _ERESTART_RESTARTBLOCK = 512, 513, 514, 516
_MADE_AGAIN = errno.EINTR, _ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND
#: The errors of calls that are not over, as long as no handler ends them.
GOES_ON = frozenset((*_MADE_AGAIN, _ERESTART_RESTARTBLOCK))
#: Signals that stop a process, which end some calls with EINTR (signal(7)).
STOPPING = signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU
_FAILING = frozenset(row.name for row in WAITS if row.may_fail)
_WORD = 2**64
_AGAIN_NS = constant("AGAIN_NS")
_MAX_ERRNO = 4095
#: How far up its stack the frame of a signal handler is looked for.
_HANDLERS_STACK = 256 * 1024


def at_exit(stopped: Stopped, arch: Arch) -> Rewound | None:
    """Return what is to be remembered of the exit of a call, on a machine that rewinds early.

    Leaves: one that ends with EINTR when it is woken up for anything made again without a handler.
    """
    registers = stopped.registers()
    error, nr = error_of(registers, arch), getattr(registers, arch.interrupted_syscall)
    if error not in GOES_ON or nr == arch.syscalls["close"]:
        return None
    if error == errno.EINTR:
        setattr(registers, arch.syscall_result, -ERESTARTNOHAND % _WORD)
        stopped.set_registers(registers)
    return Rewound(nr, error, getattr(registers, arch.program_counter))


def rewind(registers: Any, arch: Arch, argument: int) -> None:
    """Has a call made again with this first argument, in whose place its result is."""
    counter = getattr(registers, arch.program_counter) - len(arch.syscall_instruction)
    setattr(registers, arch.program_counter, counter)
    setattr(registers, arch.syscall_result, argument)
    setattr(registers, arch.interrupted_syscall, _WORD - 1)


def put_back(registers: Any, arch: Arch, own: Mapping[str, int]) -> None:
    """Put back arguments that a call was made with others for, at its exit.

    By the names of registers; not the one in whose place its result is.
    """
    for name, value in own.items():
        if name != arch.syscall_result:
            setattr(registers, name, value)


def rewind_interrupted(
    task: Task, registers: Any, arch: Arch, nr: int, own: Mapping[str, int]
) -> None:
    """Have such a call, if it is to be made again, find also the argument that is left.

    On a machine that rewinds early. On another, a wait that is over is not taken for one that was
    interrupted, at a trap before its task goes on.
    """
    error, first = error_of(registers, arch), own.get(arch.syscall_result)
    if error == errno.EFAULT and task.wait is None and not arch.rewinds_early:
        setattr(registers, arch.interrupted_syscall, _WORD - 1)
    if first is not None and error in GOES_ON:
        task.rewound = Rewound(nr, error, getattr(registers, arch.program_counter), first)
        rewind(registers, arch, first)


def find_rewound(stopped: Stopped, arch: Arch, wait: Wait) -> Rewound | None:
    """Of a wait that began without a stop, so that its exit was none either."""
    if not arch.rewinds_early or not wait.row.is_of_socket:
        return None
    registers = stopped.registers()
    stack, counter = wait.place
    is_same = getattr(registers, arch.syscall_number) == wait.nr
    if not is_same or getattr(registers, arch.stack_pointer) != stack:
        return None
    here = getattr(registers, arch.program_counter)
    if here + len(arch.syscall_instruction) == counter:
        return Rewound(wait.nr, ERESTARTNOHAND, counter)
    if here == counter and getattr(registers, arch.syscall_result) == -errno.EINTR % _WORD:
        return Rewound(wait.nr, errno.EINTR, counter, wait.arguments[0])
    return None


def read_interrupted(stopped: Stopped, arch: Arch, call: Any) -> int:
    """Return the error by which a call was interrupted that a task is stopped in; 0 if in none.

    Where it stands before a call that it is to make again, it is put back into that, as it was by
    `call` (struct interrupted_call of native_stub/tracer/fastpath.h): a handler that comes in
    between would not end the call. Not on machines that rewind early.

    Requires: the task is at a trap, at an exit or about to get a signal.
    Leaves: it there, with the registers of an interrupted call.
    """
    registers = stopped.registers()
    if call.tid == stopped.tid:
        was = type(registers).from_buffer(call.registers)
        if _is_before(was, registers, arch, call.at_ns):
            registers = was
            stopped.set_registers(was)
        else:
            call.tid = 0
    error = error_of(registers, arch)
    return error if error in GOES_ON else 0


def _is_before(was: Any, registers: Any, arch: Arch, at_ns: int) -> bool:
    """Whether all is as it was, but for what the kernel sets to have a call made again.

    As it will be when the program makes such a call another time, which is not at once.
    """
    kinds = (arch, *arch.runs_too)
    numbers = next((one for one in kinds if one.runs_in(registers)), arch).abis[0].syscalls
    nr, here = (getattr(one, arch.interrupted_syscall) for one in (was, registers))
    # It has none if it was interrupted behind the kernel's way back.
    is_again = getattr(registers, arch.syscall_result) in (nr, numbers["restart_syscall"])
    is_again &= now_ns() <= at_ns + _AGAIN_NS
    if not (is_again if here >= _WORD // 2 else here == nr):
        return False
    before = type(registers).from_buffer_copy(was)
    counter = getattr(was, arch.program_counter) - len(arch.syscall_instruction)
    setattr(before, arch.program_counter, counter)
    for name in (arch.syscall_result, arch.interrupted_syscall):
        setattr(before, name, getattr(registers, name))
    return bytes(before) == bytes(registers)


def keep_interrupted(stopped: Stopped, arch: Arch, call: Any, error: int) -> None:
    """Keep in `call` how a call was interrupted, `error` at first, if it is to be made again."""
    registers = stopped.registers()
    if is_in_call(registers, arch):
        if error == errno.EINTR:
            setattr(registers, arch.syscall_result, -error % _WORD)
        call.tid, call.at_ns = stopped.tid, now_ns()
        ctypes.memmove(call.registers, ctypes.addressof(registers), ctypes.sizeof(registers))


def call_registers(stopped: Stopped, arch: Arch, rewound: Rewound | None) -> Any:
    """Return the registers of a thread as they were at the exit of a call.

    Of the call that it was stopped in.
    """
    registers = stopped.registers()
    if rewound is None:
        return registers
    counter = getattr(registers, arch.program_counter)
    if counter in (rewound.counter, rewound.counter - len(arch.syscall_instruction)):
        setattr(registers, arch.program_counter, rewound.counter)
        setattr(registers, arch.interrupted_syscall, rewound.nr)
        setattr(registers, arch.syscall_result, -rewound.error % _WORD)
    return registers


def set_call_registers(
    stopped: Stopped, arch: Arch, rewound: Rewound | None, registers: Any
) -> None:
    """Write registers that `call_registers` has read: a result, or that the call is made again."""
    if rewound is not None and getattr(registers, arch.program_counter) == rewound.counter:
        if is_in_call(registers, arch):
            if rewound.argument is None:
                return  # it is ready for that
            rewind(registers, arch, rewound.argument)
        setattr(registers, arch.interrupted_syscall, _WORD - 1)
    stopped.set_registers(registers)


def error_of(registers: Any, arch: Arch) -> int:
    """Return the errno of the system call that a thread was stopped in; 0 if it was in none."""
    if getattr(registers, arch.interrupted_syscall) >= _WORD // 2:
        return 0
    result = getattr(registers, arch.syscall_result)
    return _WORD - result if result >= _WORD - _MAX_ERRNO else 0


def is_in_call(registers: Any, arch: Arch) -> bool:
    """Whether a thread stopped in a system call will go on with it."""
    return error_of(registers, arch) in GOES_ON


def called_again(registers: Any, arch: Arch) -> int:
    """Return the program counter behind a call that a thread will make again.

    With the same arguments; 0 if it will not.
    """
    again = error_of(registers, arch) in _MADE_AGAIN
    return int(getattr(registers, arch.program_counter)) if again else 0


def hide_interrupt(stopped: Stopped, arch: Arch, number: int = 0) -> None:
    """Handle an interrupt.

    Some calls end with EINTR when they are woken up for anything (signal(7)), some with EFAULT
    (WaitRow.may_fail): now it takes a signal with a handler for that, as it would alone. `number`:
    of the one that is to be delivered. Not on machines that rewind early: the kernel tells nobody
    the first argument, in whose place the result is.
    """
    registers = stopped.registers()
    error, nr = error_of(registers, arch), getattr(registers, arch.interrupted_syscall)
    if nr == _WORD - 1:
        return  # it is in no call
    kinds = (arch, *arch.runs_too)
    numbers = next((one for one in kinds if one.runs_in(registers)), arch).abis[0].syscalls
    is_failing = error == errno.EFAULT and nr in {numbers.get(name) for name in _FAILING}
    # close(2) has given up the descriptor by then
    if (error == errno.EINTR and nr != arch.syscalls["close"]) or (
        is_failing and not (number and procfs.catches(stopped.tid, number))
    ):
        setattr(registers, arch.syscall_result, -ERESTARTNOHAND % _WORD)
        stopped.set_registers(registers)


def recall(stopped: Stopped, arch: Arch, call: BlockedCall) -> int:
    """Have a thread go on that was blocked in a call, at its first stop.

    On a machine that rewinds early, where the exit of the call was none. Returns the program
    counter behind the call; 0 if it has ended.

    Requires: no signal with a handler is to be delivered.
    """
    registers, counter = stopped.registers(), call.counter
    numbers = arch.abis[0].syscalls
    if (
        getattr(registers, arch.syscall_number) != call.nr
        or getattr(registers, arch.stack_pointer) != call.stack
    ):
        return 0
    here, result = (
        getattr(registers, name) for name in (arch.program_counter, arch.syscall_result)
    )
    if here == counter and result == -errno.EINTR % _WORD and call.nr != arch.syscalls["close"]:
        rewind(registers, arch, call.arguments[0])
    elif here != counter - len(arch.syscall_instruction):
        return 0
    for name, (argument, mask, value) in arch.restarting.items():
        if call.nr == numbers[name] and call.arguments[argument] & mask == value:
            is_timed = name != "futex" or call.arguments[3]
            # As the kernel does (setup_restart_syscall), which forgets it if other calls are made.
            if is_timed:
                setattr(registers, arch.syscall_number, numbers["restart_syscall"])
    stopped.set_registers(registers)
    return counter


def end_interrupted(stopped: Stopped, arch: Arch, rewound: Rewound | None = None) -> None:
    """End such a call by a signal that stops its process: SIGCONT must not begin it anew."""
    registers = call_registers(stopped, arch, rewound)
    if error_of(registers, arch) in (errno.EINTR, errno.EFAULT):
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
    _, mask, mode = arch.program_mode
    flag_mask, flag_bits = arch.frame_flags
    for piece in code:
        for upper in range(piece.start >> 16, (piece.stop - 1 >> 16) + 1):
            pattern = re.escape(upper.to_bytes(width - 2, "little"))
            for match in re.finditer(pattern, data, re.DOTALL):
                start = match.start() - 2
                counter = int.from_bytes(data[start : start + width], "little")
                if (
                    start % width == 0
                    and counter in piece
                    and int.from_bytes(data[start + segment :][:2], "little") & mask == mode
                    and int.from_bytes(data[start + flags :][:4], "little") & flag_mask == flag_bits
                    and _is_on_stack(data, start, stack, arch)
                ):
                    return True
    return False


def returns_to(address: int, memory: ProcessMemory, registers: Any, arch: Arch) -> bool:
    """Whether it is in a signal handler that returns to an address, or may be: by its stack."""
    if address in (getattr(registers, name) for name in arch.zero_at_entry):
        return True
    width = array(arch.word).itemsize
    stack = getattr(registers, arch.stack_pointer) // width * width
    try:
        data = memory.read(stack, _HANDLERS_STACK)
    except OSError:
        return False
    flags, distance = arch.frame_flags[1].to_bytes(4, "little"), width * arch.frame_words[1]
    frames = (match.start() - distance for match in re.finditer(re.escape(flags), data, re.DOTALL))
    return address.to_bytes(width, "little") in data and any(
        start >= 0 and start % width == 0 and _is_on_stack(data, start, stack, arch)
        for start in frames
    )


def _is_on_stack(data: bytes, start: int, stack: int, arch: Arch) -> bool:
    """Whether a frame that begins so is on the stack that the thread is on.

    Behind that of a goroutine may lie the one that its handlers are on, with what they have left
    there: a frame says where that is (sigaltstack(2)).
    """
    width = array(arch.word).itemsize
    base, size = (
        int.from_bytes(data[max(start - words * width, 0) :][:width], "little")
        for words in arch.frame_stack
    )
    alternate = range(base, base + size)
    return (stack in alternate) == (stack + start in alternate)
