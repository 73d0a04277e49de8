"""Files in place of those that tell the machine's time (tracer/calls/machine.py)."""

from __future__ import annotations

import os
from collections.abc import Callable

from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.wait import Stop
from pytest_vdsotime.tracer.calls import machine
from pytest_vdsotime.tracer.calls.machine import MachineFile
from pytest_vdsotime.tracer.state import Process, Task
from pytest_vdsotime.tracer.takeover.native import NativeObjects
from pytest_vdsotime.tracer.takeover.relocate import arch_of
from pytest_vdsotime.tracer.takeover.remote import RemoteSyscalls

_NAME_BELOW_STACK = 512
_REAL_TIME = "{} reads {} in real time: {}"


class ServedFiles:
    """Puts them into programs."""

    def __init__(self, native: NativeObjects, next_stop: Callable[[int], Stop]) -> None:
        self._native = native
        self._next_stop = next_stop

    def serve(self, stopped: Stopped, task: Task) -> Stopped:
        """Have the descriptor that a task has just opened lead to the text on its clock.

        Nothing for other files, and for one that is open for writing.

        Requires: the task is at the exit of the call that has opened it.
        Leaves: it stopped, at the stop that is returned. ProcessLookupError: it was killed.
        """
        tid, process, fd = task.tid, task.process, task.opened
        task.opened = None
        file = None if fd is None else MachineFile.opened(tid, fd)
        if fd is None or file is None:
            return stopped
        try:
            is_read_only, is_closed_by_exec = procfs.is_read_only(tid, fd)
            text = file.text(process, tid, f"/proc/{tid}/fd/{fd}") if is_read_only else None
        except OSError:
            return stopped  # another thread has closed it
        if text is None:
            return stopped
        if process.has_own_filter:
            self._warn(process, file, "it has a seccomp filter of its own")
            return stopped
        arch = arch_of(stopped.registers(), self._native)
        counter = getattr(stopped.registers(), arch.program_counter)
        remote = RemoteSyscalls(
            stopped, counter - len(arch.syscall_instruction), arch, self._next_stop
        )
        try:
            with ProcessMemory(tid) as memory, remote:
                self._put(remote, memory, (fd, is_closed_by_exec), file.name, text)
            process.rewinds = True
        except ProcessLookupError:
            raise
        except OSError as error:
            self._warn(process, file, str(error))
        return remote.stopped

    def _put(
        self,
        remote: RemoteSyscalls,
        memory: ProcessMemory,
        place: tuple[int, bool],
        name: str,
        text: bytes,
    ) -> None:
        (fd, is_closed_by_exec), address = place, remote.stack_pointer - _NAME_BELOW_STACK
        memory.write(address, os.fsencode(name) + b"\0")
        made = remote.call("memfd_create", address, 0)
        try:
            machine.write(remote.stopped.tid, made, text)
            remote.call("dup3", made, fd, os.O_CLOEXEC if is_closed_by_exec else 0)
        finally:
            remote.call("close", made)

    @staticmethod
    def _warn(process: Process, file: MachineFile, reason: str) -> None:
        what = f"/proc/{f'{file.pid}/' if file.pid else ''}{file.kind}"
        process.world.warn(process.pid, _REAL_TIME.format(process.describe(), what, reason))
