"""TracedProcess: what a test may know of a process on its clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.page import CLOCK_PAGE, MARKER_PAGE, PAGE_SIZE
from pytest_vdsotime.tracer.tasks import Process


@dataclass(frozen=True, slots=True)
class TracedProcess:
    """A process on the clock, as it was when it was asked for."""

    pid: int
    ppid: int
    argv: list[str]
    has_read_clock: bool
    """It has read this clock since its exec."""


@dataclass(frozen=True, slots=True)
class AttachedProcess(TracedProcess):
    """A process that ran before; `close` lets it go."""

    close: Callable[[], None]
    """Lets it go, alive and with its own vDSO again, as the clock's close does. Idempotent."""


def snapshot(process: Process) -> TracedProcess | None:
    """Of a process that is alive."""
    stat = procfs.stat_fields(process.pid)
    if stat is None or stat[0] in "ZX":
        return None
    return TracedProcess(process.pid, stat[1], procfs.argv(process.pid), _has_read_clock(process))


def attached(process: Process, close: Callable[[], None]) -> AttachedProcess:
    """Of a process that was attached to."""
    _, ppid = procfs.stat_fields(process.pid) or ("", 0)
    return AttachedProcess(process.pid, ppid, procfs.argv(process.pid), False, close)


def _has_read_clock(process: Process) -> bool:
    """Nobody but the program's own reads brings the clock page into its page table; a private
    copy is
    written by the tracer, so there the marker page tells."""
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
