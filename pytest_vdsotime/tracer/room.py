"""Room in a program's memory, where the kernel finds what it is to read in place of the program's
own."""

from __future__ import annotations

from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.page import (
    COOKIE_SIZE,
    MARK_OFFSET,
    PAGE_SIZE,
    PROCESS_PAGE,
    PROCESS_SIZE,
    SLOT_SIZE,
    SLOTS,
)
from pytest_vdsotime.tracer.request import Request
from pytest_vdsotime.tracer.tasks import Process

#: Below the stack pointer, beyond what functions may use there (System V ABI x86-64, 3.2.2).
_BELOW_STACK, _ALIGNMENT = 192, 16


def room_for(request: Request, size: int) -> int | None:
    """The address of room for `size` bytes, at most SLOT_SIZE.

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
