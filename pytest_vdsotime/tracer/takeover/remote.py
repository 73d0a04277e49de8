"""System calls made inside a stopped task, everything restored afterwards."""

from __future__ import annotations

import copy
import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from pytest_vdsotime.arch import Arch
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind

_ALL_SIGNALS = 2**64 - 1
_MAX_ERRNO = 4095
_WORD = 2**64
#: Blocking them keeps none away (force_sig_info_to_task, kernel/signal.c).
_FAULTS = signal.SIGSEGV, signal.SIGBUS, signal.SIGILL


class RemoteSyscalls:
    """A scope in which a task makes system calls for its tracer.

    Requires: the task is stopped at an exec event or about to get a signal, and `instruction` is
    the address of a system call instruction in it.
    Leaves: the task in a ptrace stop, with the registers it is given by `finish` (those it had, if
    none are), and its signal mask as it was. Signals that arrive meanwhile stay pending; a stop
    signal, which cannot be blocked, is sent again.
    """

    def __init__(
        self, stopped: Stopped, instruction: int, arch: Arch, next_stop: Callable[[int], Stop]
    ) -> None:
        self._stopped = stopped
        self.instruction = instruction
        self._arch = arch
        self._next_stop = next_stop
        self._saved = stopped.registers()
        self._mask = stopped.signal_mask()
        self._stop_signals: set[int] = set()

    def __enter__(self) -> RemoteSyscalls:
        self._stopped.set_signal_mask(_ALL_SIGNALS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whatever the error says of it: one that was not killed would go on with what it was lent.
        with suppress(ProcessLookupError):
            for restore, value in (
                (self._stopped.set_registers, self._saved),
                (self._stopped.set_signal_mask, self._mask),
            ):
                try:
                    restore(value)
                except ProcessLookupError:
                    raise
                except OSError:
                    restore(value)  # which is known here alone
            for number in self._stop_signals:
                os.kill(self._stopped.tid, number)

    def finish_with(self, registers: Any) -> None:
        """Set the registers that the task will have after this scope."""
        self._saved = registers

    @property
    def stopped(self) -> Stopped:
        """The task's present stop."""
        return self._stopped

    @property
    def stack_pointer(self) -> int:
        """The task's own; below it lies memory that nobody uses."""
        return int(getattr(self._saved, self._arch.stack_pointer))

    def call(self, name: str, *arguments: int) -> int:
        """Make one system call and return its result.

        Raises OSError, with the call's name, for an error; ProcessLookupError when the task dies.
        """
        arch = self._arch
        registers = copy.copy(self._saved)
        setattr(registers, arch.program_counter, self.instruction)
        setattr(registers, arch.syscall_number, arch.syscalls[name])
        setattr(registers, arch.interrupted_syscall, _WORD - 1)
        for register, argument in zip(arch.syscall_arguments, arguments, strict=False):
            setattr(registers, register, argument % _WORD)
        # From an exec event the first stop is the exit of execve; set up again, and go on from
        # there.
        while True:
            self._stopped.set_registers(registers)
            self._to_syscall_stop()
            if self._stopped.system_call().is_entry:
                break
        self._to_syscall_stop()
        result = int(getattr(self._stopped.registers(), arch.syscall_result))
        if result >= _WORD - _MAX_ERRNO:
            number = _WORD - result
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result

    def _to_syscall_stop(self) -> None:
        while True:
            self._stopped.resume_to_syscall()
            stop = self._next_stop(self._stopped.tid)
            self._stopped = Stopped(stop.tid)
            if stop.kind == StopKind.SYSCALL:
                return
            if stop.kind == StopKind.SIGNAL and stop.value in _FAULTS:
                raise OSError(errno.EFAULT, "the instruction of a system call is not there")
            if stop.kind == StopKind.SIGNAL and stop.value == signal.SIGSTOP:
                self._stop_signals.add(stop.value)
