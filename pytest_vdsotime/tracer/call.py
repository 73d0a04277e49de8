"""One system call that a program has stopped at, and what may become of it.

Scratch memory is where the kernel finds, in the program, what it is to read in place of the
program's own.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pytest_vdsotime.arch import Abi
from pytest_vdsotime.kernel import memory, procfs
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.page import (
    COOKIE_SIZE,
    MARK_OFFSET,
    PAGE_SIZE,
    PROCESS_PAGE,
    PROCESS_SIZE,
    SLOT_SIZE,
    SLOTS,
)
from pytest_vdsotime.timeline import CLOCKS
from pytest_vdsotime.tracer.state import Process, Task


class Refused(Exception):
    """The call fails with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


class NotThere(Exception):
    """Memory that another thread has to provide first, for which the tracer must not wait."""


@dataclass(slots=True)
class Request:
    """One stopped system call."""

    task: Task
    stopped: Stopped
    nr: int
    place: tuple[int, int]
    """The stack pointer and the program counter."""
    abi: Abi
    time64: bool
    """Its time structures have 64-bit fields."""
    arguments: tuple[int, ...]
    timezone: bytes
    """The kernel's struct timezone."""

    @property
    def process(self) -> Process:
        """Of the task."""
        return self.task.process

    def number(self, argument: int) -> int:
        """Return an int argument."""
        value = self.arguments[argument] & 0xFFFFFFFF
        return value - 2**32 if value >= 2**31 else value

    def read_pair(self, address: int) -> tuple[int, int]:
        """Return a timespec or timeval; Refused(EFAULT) as the kernel would."""
        return self.pair_in(self.read(address, self.abi.pair(self.time64).size))

    def pair_in(self, data: bytes) -> tuple[int, int]:
        """Return the two fields of a timespec or timeval.

        Of one with 64-bit fields in a 32-bit call the second field's upper half is padding, and may
        be anything (get_timespec64, kernel/time/time.c).
        """
        first, second = self.abi.pair(self.time64).unpack(data)
        return first, second & 0xFFFFFFFF if self.time64 and self.abi.long_size == 4 else second

    def write_pair(self, address: int, first: int, second: int) -> None:
        """Return a timespec or timeval."""
        self.write(address, self.abi.pack_pair(self.time64, first, second))

    def read(self, address: int, size: int) -> bytes:
        """From the program's memory; Refused(EFAULT) as the kernel would, NotThere."""
        self._check_presence(address, size)
        try:
            return memory.read_as_program(self.stopped, address, size)
        except MemoryError:
            raise Refused(errno.EFAULT) from None

    def write(self, address: int, data: bytes) -> None:
        """Into the program's memory; Refused(EFAULT) as the kernel would, NotThere."""
        self._check_presence(address, len(data))
        try:
            memory.write_as_program(self.stopped, address, data)
        except MemoryError:
            raise Refused(errno.EFAULT) from None

    def _check_presence(self, address: int, size: int) -> None:
        process = self.process
        if process.provides_memory and not all(
            procfs.is_page_present(process.pid, one) for one in (address, address + size - 1)
        ):
            raise NotThere

    def now_ns(self, clock_id: int) -> int:
        """Return what the program reads from a served clock now."""
        self.process.has_read_clock = True
        host_ns = time.clock_gettime_ns(CLOCKS[clock_id].host_id)
        reading_ns = self.process.world.page.reading_ns(clock_id, host_ns)
        return reading_ns + self.process.time_offsets.of(clock_id)

    def left_ns(self, clock_id: int, point_ns: int, host_ns: int) -> int:
        """How far a served clock, as the program reads it, has to go to a point of it.

        When the host's CLOCK_MONOTONIC reads `host_ns`.

        A point at which the host's had not begun is taken for its beginning, as by the kernel
        (do_timens_ktime_to_host, kernel/time/namespace.c).
        """
        line_ns = point_ns - self.process.time_offsets.of(clock_id)
        return max(line_ns, 0) - self.process.world.page.reading_ns(clock_id, host_ns)

    def kernels_ns(self, clock_id: int) -> int:
        """Return what the kernel's own clock reads now where the program is.

        Points that the kernel gets are points of that.
        """
        return time.clock_gettime_ns(clock_id) + self.process.time_offsets.of(clock_id)


class Exit(NamedTuple):
    """What a call leaves.

    Other arguments, by their number, and its result; without one it is made again.
    """

    arguments: Mapping[int, int]
    result: int | None = None


class Substitute(NamedTuple):
    """The call runs with another argument: a value, or a pointer to data."""

    argument: int
    data: bytes = b""
    value: int = 0
    on_exit: Callable[[Stopped, int], int | Exit] | None = None
    """Called at its exit with its result, returns what the program gets instead."""
    beside: tuple[int, bytes] | None = None
    """Another argument, whose pointer leads to this data."""
    points: tuple[int, int] | None = None
    """Where in the data the address of another place in it is to stand, of 32 bits."""
    instead: tuple[str, Mapping[int, int]] | None = None
    """The name of another call that is made, and further arguments of that."""


#: What becomes of a call: its result, or None (it runs as it is), or it runs and then this is
#: called with its result and returns what the program gets instead, or it runs on other data. (Or
#: None, and the task is held: its clock decides when it goes on.)
Answer: TypeAlias = int | Callable[[int], int] | Substitute | None


class CallRow(NamedTuple):
    """One system call."""

    name: str
    answer: Callable[[Request], Answer]
    """Or raises Refused."""
    match: Match | None = None
    time64: bool = False
    """Its time structures have 64-bit fields whatever the architecture."""
    pointer: int | None = None
    """It is only of interest where this argument is not NULL."""
    may_run_first: bool = False
    """The kernel's own answer does no harm, and is written where the other one goes."""

    def holds(self, arguments: Sequence[int]) -> bool:
        """Whether a call with these arguments is of interest, as the filter decides."""
        if self.pointer is not None and not arguments[self.pointer]:
            return False
        return self.match is None or self.match.holds(arguments)


# --- scratch memory ------------------------------------------------------------------------------

#: Below the stack pointer, beyond what functions may use there (System V ABI x86-64, 3.2.2).
_BELOW_STACK, _ALIGNMENT = 192, 16


def scratch_memory(request: Request, size: int) -> int | None:
    """Return the address of room for `size` bytes, at most SLOT_SIZE.

    It is in the process page, or where the program has none or something else there, below its
    stack. A 32-bit call by a 64-bit program, whose pointers do not reach either, has it in a page
    of its own; None where that is not there yet.

    The kernel reads it when the call begins; by the time that a slot comes round again that was
    long ago.
    """
    process, highest = request.process, request.abi.mask
    process_page = process.mapped and process.mapped + PROCESS_PAGE * PAGE_SIZE
    for page in (process_page, process.low_page):
        if page and page <= highest and is_marked(request.stopped, process, page):
            return page + PROCESS_SIZE + next(process.slots) % SLOTS * SLOT_SIZE
    below_stack = (request.place[0] - _BELOW_STACK - size) & -_ALIGNMENT
    return below_stack if below_stack <= highest else None


def is_marked(stopped: Stopped, process: Process, page: int) -> bool:
    """Whether it is still there."""
    cookie = process.world.page.cookie
    try:
        return stopped.peek(page + MARK_OFFSET, COOKIE_SIZE) == cookie
    except MemoryError:
        return False
