"""TracedProcess: what a test may know of a process on its clock."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pytest_vdsotime.availability import explain_seizing
from pytest_vdsotime.errors import TracingUnavailable, VdsoTimeError
from pytest_vdsotime.future import Future
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.page import CLOCK_PAGE, MARKER_PAGE, PAGE_SIZE, ClockPage
from pytest_vdsotime.timeline import CLOCKS, NS_PER_S
from pytest_vdsotime.tracer.operations import Operations
from pytest_vdsotime.tracer.state import ClockState, Process
from pytest_vdsotime.tracer.thread import Tracer

_CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class TracedProcess:
    """A process on the clock, as it was when `FrozenClock.processes` was asked."""

    pid: int
    ppid: int
    """Of its parent."""
    argv: list[str]
    """Its command line."""
    has_read_clock: bool
    """It has read this clock since its exec, by the page or by a system call."""
    is_on_clock: bool
    """False: it runs in real time, by `only` or `skip`, or as it could not be given the clock."""


@dataclass(frozen=True, slots=True)
class PendingWait:
    """What a thread waits for that a deadline will end; one of `FrozenClock.waits`."""

    pid: int
    tid: int
    command: str
    """The program's name."""
    syscall: str
    """The kernel's name of what it waits in."""
    clock: str
    """Such as ``CLOCK_MONOTONIC``."""
    deadline_ns: int
    """A reading of that clock, as outside of any time namespace."""
    remaining: float
    """Seconds that this clock has to move on."""


@dataclass(frozen=True, slots=True)
class AttachedProcess(TracedProcess):
    """A process that ran before, by `FrozenClock.attach`; `close` lets it go."""

    close: Callable[[], None]
    """Lets it and what it has started go, as the clock's close does. Idempotent."""


def snapshot(process: Process) -> TracedProcess | None:
    """Of a process that is alive."""
    stat = procfs.stat_fields(process.pid)
    if stat is None or stat[0] in "ZX":
        return None
    is_on_clock = not (process.is_skipped or process.is_in_real_time)
    has_read_clock = is_on_clock and _has_read_clock(process)
    argv = procfs.argv(process.pid)
    return TracedProcess(process.pid, stat[1], argv, has_read_clock, is_on_clock)


def pending_waits(operations: Operations, world: ClockState) -> list[PendingWait]:
    """Of all threads on a clock, the soonest first. On the tracer thread."""
    page = world.page
    return [
        PendingWait(
            task.process.pid,
            task.tid,
            procfs.command(task.process.pid),
            wait.row.name,
            CLOCKS[wait.clock_id].name,
            wait.deadlines[0][1] + page.offset_ns(wait.clock_id),
            max(left_ns, 0) / NS_PER_S,
        )
        for left_ns, task, wait in operations.movement.waits(world)
    ]


def check_pid(pid: int) -> None:
    """Whether it may be that of a process to attach to.

    Raises TypeError, ValueError; ProcessLookupError when there is none.
    """
    if isinstance(pid, bool) or not isinstance(pid, int):
        raise TypeError(f"the pid is an int, not {pid!r}")
    if pid == os.getpid():
        raise ValueError("the test process keeps real time; use time-machine for its own clock")
    if pid <= 0:
        raise ValueError(f"{pid} is not the pid of a process")
    group = procfs.thread_group(pid)
    if group is None:
        raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}")
    if group != pid:
        raise ValueError(f"{pid} is a thread of process {group}: attach to that")


class Pages(Protocol):
    """Where the pages of clocks come from."""

    def give_back(self, page: ClockPage) -> None:
        """No program has `page` any more."""


@contextmanager
def explained(process: Process) -> Iterator[None]:
    """Attaching to it raises what a caller is to see."""
    try:
        yield
    except PermissionError as error:
        operation = f"PTRACE_SEIZE of {process.describe()}"
        reason = explain_seizing(process.pid, error.errno or 0, operation)
        raise TracingUnavailable(*reason) from None
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, f"process {process.pid} has ended") from None


def attached(process: Process, close: Callable[[], None]) -> AttachedProcess:
    """Of a process that was attached to."""
    _, ppid = procfs.stat_fields(process.pid) or ("", 0)
    return AttachedProcess(process.pid, ppid, procfs.argv(process.pid), False, True, close)


def end_programs(tracer: Tracer, world: ClockState, pages: Pages) -> None:
    """Kill and reap every program on a clock, for good, and give its page back behind them.

    Nothing waits for that where there is no program. Raises VdsoTimeError.
    """
    closed: Future[None] = Future()
    is_empty = not world.everyone

    def answered() -> None:
        tracer.forget(closed)
        pages.give_back(world.page)

    closed.then(answered)
    tracer.post(lambda loop: loop.clocks.close(world, closed), closed)
    if is_empty and not closed.is_given():
        return
    count = _threads(world)
    while not closed.wait(_CLOSE_TIMEOUT_S):
        former, count = count, _threads(world)
        if count < former:  # so many that this machine takes longer for them
            continue
        left = ", ".join(f"{procfs.name(pid)} (pid {pid})" for pid in list(world.everyone))
        raise VdsoTimeError(
            f"closing the clock: still alive {_CLOSE_TIMEOUT_S:.0f} s after SIGKILL: {left}"
        )
    closed.result()


def _threads(world: ClockState) -> int:
    return sum(len(process.threads) for process in list(world.everyone.values()))


def _has_read_clock(process: Process) -> bool:
    """Nobody but the program's own reads brings the clock page into its page table.

    A private copy is written by the tracer, so there the marker page tells.
    """
    if process.has_read_clock:
        return True
    copy = process.copy
    if copy is not None:
        return procfs.is_page_present(process.pid, copy.address + MARKER_PAGE * PAGE_SIZE)
    mappings = procfs.memfd_mappings(process.pid, "r--s")
    address = mappings.get(process.world.page.inode)
    return address is not None and procfs.is_page_present(
        process.pid, address + CLOCK_PAGE * PAGE_SIZE
    )
