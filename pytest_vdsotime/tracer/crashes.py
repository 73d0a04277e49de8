"""Faults of the first process of a PID namespace, which a tracer keeps from dying of them.

The kernel spares such a process signals that it has no handler for (SIGNAL_UNKILLABLE). A fault
takes that protection away, but not while the process is traced (force_sig_info_to_task,
kernel/signal.c): the signal is dropped, the instruction faults again, and so on for ever. So the
tracer lets the thread go, which then dies of its next fault, with the status, and the core dump,
that it has alone.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pytest_vdsotime.arch import Arch
from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop, StopKind
from pytest_vdsotime.timeline import now_ns
from pytest_vdsotime.tracer.state import Process, Task, TaskState
from pytest_vdsotime.tracer.waker import Alarms

#: Sent by the kernel to a thread for what it has just done (signal(7));
#: native_stub/tracer/fastpath.c has them too.
FAULTS = frozenset(
    (
        *(signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV),
        signal.SIGSYS,
    )
)
_FIRST_LOOK_NS, _LAST_LOOK_NS, _PATIENCE_NS = 200_000, 50_000_000, 2_000_000_000


def is_of_namespace_init(process: Process, number: int, code: int) -> bool:
    """Whether a signal is for a fault that ends a process alone, but not while it is traced.

    Such a process is the init of a PID namespace.
    """
    return (
        number in FAULTS
        and code > 0  # it is the kernel's (sigaction(2))
        and procfs.is_namespace_init(process.pid)
        and not procfs.catches(process.pid, number)
    )


@dataclass(slots=True)
class Crashes:
    """Lets such processes die; one per tracer, on its thread."""

    arch: Arch
    alarms: Alarms
    handle: Callable[[Stop], None]

    def let_go(self, task: Task, stopped: Stopped, number: int) -> None:
        """Has a thread fault again, without a tracer.

        Requires: it is about to get the signal of its fault.
        Leaves: it no tracee any more; its process ends, which is noticed soon.
        """
        self._go_back(stopped, task.process, number)
        task.move(TaskState.RUNNING)
        stopped.detach()
        self._look_after(task, number, _FIRST_LOOK_NS, now_ns() + _PATIENCE_NS)

    def _go_back(self, stopped: Stopped, process: Process, number: int) -> None:
        """To the instruction, where the program counter is behind it."""
        registers = stopped.registers()
        arch = next(one for one in (self.arch, *self.arch.runs_too) if one.runs_in(registers))
        counter = getattr(registers, arch.program_counter)
        instruction = arch.trap_instruction if number == signal.SIGTRAP else b""
        if number == signal.SIGSYS:
            instruction = arch.syscall_instruction
        if not instruction:
            return
        before = counter - len(instruction)
        with ProcessMemory(process.pid) as memory:
            is_behind = number == signal.SIGSYS or memory.read(before, 1) == instruction
        if is_behind:
            setattr(registers, arch.program_counter, before)
            setattr(registers, arch.interrupted_syscall, 2**64 - 1)
            stopped.set_registers(registers)

    def _look_after(self, task: Task, number: int, delay_ns: int, last_ns: int) -> None:
        sample = partial(self._look, task, number, delay_ns, last_ns)
        self.alarms.set(("crash", task.tid), now_ns() + delay_ns, sample)

    def _look(self, task: Task, number: int, delay_ns: int, last_ns: int) -> None:
        process = task.process
        state = procfs.stat_fields(task.tid)
        if state is None or state[0] in "ZX":
            self.handle(Stop(task.tid, StopKind.EXITED.value, number))
            return
        if now_ns() > last_ns and not procfs.dumps_core(process.pid):
            process.kill_unsupported(
                UnsupportedProgram(f"{signal.Signals(number).name} did not come again"),
                "ending, for a fault,",
            )
        self._look_after(task, number, min(2 * delay_ns, _LAST_LOOK_NS), last_ns)
