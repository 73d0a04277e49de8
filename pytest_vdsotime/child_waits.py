"""`os.waitpid` and its kin, which show what a parent sees whose children nobody traces.

Linux shows the stops of a tracee to every thread of its tracer's process, where that is its parent
as well (wait_consider_task, kernel/exit.c). So these functions ask the kernel for ends alone, once
a descriptor of the process (pidfd_open(2)) tells of one, and the tracer's tables for stops by job
control.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.session import ClockSession

if TYPE_CHECKING:
    from pytest_vdsotime.future import Future
    from pytest_vdsotime.kernel.wait import Stop
    from pytest_vdsotime.tracer.state import Process

#: How often is looked for what no descriptor tells: stops, and new children.
_LOOK_MS = 20
_JOB_CONTROL = os.WUNTRACED | os.WCONTINUED
#: How long the tracer may take to see the end that this thread has seen.
_SEEN_S = 1.0
_CONTINUED = 0xFFFF
Children = Callable[[], Sequence[int]]


class ChildWaits:
    """The functions, in place of those of `os` from `install` to `remove`."""

    def __init__(self) -> None:
        self._adopted: dict[int, Process] = {}
        """Children that are traced and whose end is for this process."""
        self._told: dict[int, Stop] = {}
        """The last stop of each that was reported."""
        self.sessions: WeakSet[ClockSession] = WeakSet()
        """The clocks that have been patched in."""
        self._real: dict[str, Any] = {}
        self._own: dict[str, Any] = {}

    @property
    def is_installed(self) -> bool:
        """They are in place."""
        return bool(self._real)

    @property
    def has_children(self) -> bool:
        """Some traced child is alive."""
        return any(not one.exited.is_given() for one in self._adopted.values() if one.exited)

    def adopt(self, process: Process) -> None:
        """Take note of a child that the tracer has seized."""
        self._adopted[process.pid] = process
        self._told.pop(process.pid, None)

    def install(self) -> None:
        """Put them in the place of the functions of `os`."""
        for name in ("wait", "waitpid", "wait3", "wait4", "waitid"):
            self._real[name] = getattr(os, name)
            self._own[name] = getattr(self, f"_{name}")
            setattr(os, name, self._own[name])

    def remove(self) -> None:
        """Undo `install`, but for those that were replaced since."""
        for name, function in self._real.items():
            if getattr(os, name) is self._own[name]:
                setattr(os, name, function)
        self._real.clear()
        self._adopted.clear()
        self._told.clear()

    # --- the functions ---------------------------------------------------------------------------

    def _waitpid(self, pid: int, options: int, /) -> tuple[int, int]:
        program = self._exit_of(pid)
        if program is not None:
            is_known = program.wait(0 if options & os.WNOHANG else None)
            return (pid, program.result()) if is_known else (0, 0)
        found = self._next(_children_of(pid), options | os.WEXITED)
        if found is None:
            return 0, 0
        child, status = found
        if status is not None:
            return child, status
        result: tuple[int, int] = self._real["waitpid"](child, options & ~os.WNOHANG)
        return result

    def _wait(self) -> tuple[int, int]:
        return self._waitpid(-1, 0)

    def _wait4(self, pid: int, options: int) -> tuple[int, int, resource.struct_rusage]:
        found = self._next(_children_of(pid), options | os.WEXITED)
        if found is None:
            return 0, 0, resource.struct_rusage((0,) * 16)
        child, status = found
        if status is not None:
            return child, status, resource.struct_rusage((0,) * 16)
        result: tuple[int, int, resource.struct_rusage]
        result = self._real["wait4"](child, options & ~os.WNOHANG)
        return result

    def _wait3(self, options: int) -> tuple[int, int, resource.struct_rusage]:
        return self._wait4(-1, options)

    def _waitid(self, idtype: int, id: int, options: int, /) -> os.waitid_result | None:
        if not options & (os.WEXITED | _JOB_CONTROL):
            return self._real["waitid"](idtype, id, options)  # type: ignore[no-any-return]
        if idtype == os.P_ALL:
            children = _children_of(-1)
        elif idtype == os.P_PGID:
            children = _children_of(-id)
        else:
            children = _children_of(id if idtype == os.P_PID else _pid_of(id))
        found = self._next(children, options)
        if found is None:
            return None
        child, status = found
        if status is None:
            return self._real["waitid"](os.P_PID, child, options & ~os.WNOHANG)  # type: ignore[no-any-return]
        is_stop = status != _CONTINUED
        number = os.WSTOPSIG(status) if is_stop else signal.SIGCONT
        code = os.CLD_STOPPED if is_stop else os.CLD_CONTINUED
        return os.waitid_result((child, os.getuid(), signal.SIGCHLD, number, code))

    # --- what they wait for ----------------------------------------------------------------------

    def _next(self, children: Children, options: int) -> tuple[int, int | None] | None:
        """Return a child, with its status if it was stopped or continued; None: none is ready.

        One that has ended is there to be waited for, at once; in a child of the test process, once
        the tracer has done so (ptrace(2)).

        Raises ChildProcessError.
        """
        while True:
            candidates = [pid for pid in children() if not self._is_of_tracer(pid)]
            if not candidates:
                raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
            with _descriptors(candidates) as descriptors:
                is_job = bool(options & _JOB_CONTROL)
                for pid in candidates if is_job else ():
                    status = self._job_status(pid, options)
                    if status is not None:
                        return pid, status
                is_one = len(descriptors) == len(candidates) == 1 and not is_job
                patience = 0 if options & os.WNOHANG else None if is_one else _LOOK_MS
                ended = _ended(descriptors, patience) if options & os.WEXITED else []
                if not options & os.WEXITED and patience:
                    select.poll().poll(_LOOK_MS)
            for pid in ended:
                process = self._adopted.get(pid)
                if process is not None and process.exited is not None:
                    process.exited.wait(_SEEN_S)
                if not options & os.WNOWAIT:
                    self._adopted.pop(pid, None)
                return pid, None
            if options & os.WNOHANG:
                return None

    def _exit_of(self, pid: int) -> Future[int] | None:
        """Return the status to come of a program that `subprocess` has started on a clock."""
        programs = (one for session in tuple(self.sessions) for one in session.programs)
        return next((one.exited for one in programs if one.pid == pid), None)

    def _is_of_tracer(self, pid: int) -> bool:
        """Whether the tracer waits for a child, and nothing else in this process."""
        tracer = procfs.tracer_of(pid)
        is_ours = tracer != 0 and procfs.thread_group(tracer) == os.getpid()
        return is_ours and pid not in self._adopted

    def _job_status(self, pid: int, options: int) -> int | None:
        process = self._adopted.get(pid)
        if process is None:
            how = options & (_JOB_CONTROL | os.WNOWAIT) | os.WNOHANG
            with suppress(ChildProcessError):
                found = self._real["waitid"](os.P_PID, pid, how)
                if found is not None and found.si_code == os.CLD_CONTINUED:
                    return _CONTINUED
                if found is not None and found.si_code == os.CLD_STOPPED:
                    return int(found.si_status) << 8 | 0x7F
            return None
        stop, told = process.group_stop, self._told.get(pid)
        if stop is not None and stop is not told and options & os.WUNTRACED:
            self._told[pid] = stop
            return stop.value << 8 | 0x7F
        if stop is None and told is not None:
            del self._told[pid]
            return _CONTINUED if options & os.WCONTINUED else None
        return None


def _children_of(pid: int) -> Children:
    """Return what lists the children that waitpid(2) means by `pid`."""
    if pid > 0:
        return lambda: [pid] if _parent_of(pid) == os.getpid() else []
    if pid == -1:
        return procfs.own_children
    group = -pid if pid else os.getpgrp()
    return lambda: [one for one in procfs.own_children() if _group_of(one) == group]


def _parent_of(pid: int) -> int:
    return (procfs.stat_fields(pid) or ("", 0))[1]


def _group_of(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


def _pid_of(pidfd: int) -> int:
    text = procfs.read_text(f"/proc/self/fdinfo/{pidfd}")
    lines = [line for line in text.splitlines() if line.startswith("Pid:")]
    if not lines:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return int(lines[0].split()[1])


@contextmanager
def _descriptors(pids: Sequence[int]) -> Iterator[dict[int, int]]:
    """Descriptors of processes, by those; without the ones of which none can be had."""
    with ExitStack() as opened:
        descriptors = {}
        for pid in pids:
            with suppress(OSError):
                descriptors[os.pidfd_open(pid)] = pid
                opened.callback(os.close, [*descriptors][-1])
        yield descriptors


def _ended(descriptors: dict[int, int], patience: int | None) -> list[int]:
    """Wait until one has ended, for so many milliseconds; return those that have."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptors[descriptor] for descriptor, _ in poll.poll(patience)]
