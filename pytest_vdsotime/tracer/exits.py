"""The exits of waits on machines that rewind early (Arch.rewinds_early), where these alone show how
a wait has ended; elsewhere none of it is needed."""

from __future__ import annotations

from pytest_vdsotime.arch import Arch
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.tracer import interrupted
from pytest_vdsotime.tracer.parking import Parking, finish
from pytest_vdsotime.tracer.tasks import Task


def at_exit(parking: Parking, task: Task, stopped: Stopped, *, is_as_written: bool) -> None:
    """`is_as_written`: the kernel times it so, which nobody has seen to yet.

    Requires: the task is at the exit of a system call.
    Leaves: it there, and what was found out in `task.rewound`.
    """
    if is_as_written:
        _end(parking, task, stopped)
    if task.rewound is None:
        task.rewound = interrupted.at_exit(stopped, parking.arch)
    if task.rewound is not None:
        parking.pump.hand_over(task.tid)


def at_group_stop(task: Task, stopped: Stopped, arch: Arch) -> None:
    """A call that this ends is not made again when the process goes on."""
    if task.rewound is not None:
        interrupted.end_interrupted(stopped, arch, task.rewound)


def _end(parking: Parking, task: Task, stopped: Stopped) -> None:
    """As Substitute.then of others."""
    record, wait, arch = parking.pump.record_of(task.tid), task.wait, parking.arch
    if record is not None:
        parking.pump.drop_record(task.tid)
        wait = parking.recorded(record)
    task.wait = None
    registers = stopped.registers()
    if wait is not None and parking.is_in(wait, registers):
        task.wait = wait
        result = finish(task, wait, stopped, -interrupted.error_of(registers, arch))
        setattr(registers, arch.syscall_result, result % 2**64)
        stopped.set_registers(registers)
    parking.pump.hand_over(task.tid, task.is_to_go_on)
