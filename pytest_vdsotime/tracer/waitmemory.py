"""What a wait leaves in its program's memory, where the kernel writes it: what is left of its
timeout, the sets of select(2)."""

from __future__ import annotations

import struct

from pytest_vdsotime.kernel import memory, procfs
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.page import PAGE_SIZE
from pytest_vdsotime.tracer.request import Request
from pytest_vdsotime.waits import Wait, WaitRow

_MASK_SIZE = 8


def rest_before(row: WaitRow, request: Request) -> bytes:
    """What stands where a signal leaves the rest, as far as there is memory."""
    address = row.rest is not None and request.arguments[row.rest]
    if not address:
        return b""
    size, tid = request.abi.pair(request.wide).size, request.stopped.tid
    return memory.read_running(tid, address, size) or memory.read_running(
        tid, address, min(-address % PAGE_SIZE, size)
    )


def write_rest(wait: Wait, stopped: Stopped, argument: int, left_ns: int) -> bool:
    """Returns whether it could be told to who wants to know."""
    data = wait.abi.pack_span(wait.row.wide, left_ns, wait.row.unit)
    return _write(wait, stopped, argument, data)


def restore_rest(wait: Wait, stopped: Stopped) -> None:
    """The program has not been interrupted."""
    if wait.rest_was and wait.row.rest is not None:
        _write(wait, stopped, wait.row.rest, wait.rest_was)


def clear_sets(wait: Wait, stopped: Stopped) -> bool:
    """Those of select(2), up to its first argument; false where one cannot be written
    (core_sys_select, fs/select.c)."""
    if not wait.row.sets:
        return True
    count = min(wait.words[0] & 0xFFFFFFFF, procfs.descriptor_table_size(stopped.tid))
    size = -(-count // (8 * wait.abi.long_size)) * wait.abi.long_size
    return all(_write(wait, stopped, argument, bytes(size)) for argument in wait.row.sets)


def is_mask_refused(wait: Wait, stopped: Stopped) -> bool:
    """Whether the call has failed before it began to wait: of ppoll(2) and pselect6(2), because of
    their signal mask (set_user_sigmask, kernel/signal.c)."""
    if wait.row.mask is None:
        return False
    words = wait.arguments[wait.row.mask :]
    try:
        if len(words) == 1:  # it leads to both
            pair = struct.Struct("<2Q" if wait.abi.long_size == 8 else "<2I")
            words = pair.unpack(memory.read_as_program(stopped, words[0], pair.size))
        if words[0]:
            memory.read_as_program(stopped, words[0], _MASK_SIZE)
    except MemoryError:
        return True
    return bool(words[0]) and words[1] != _MASK_SIZE


def _write(wait: Wait, stopped: Stopped, argument: int, data: bytes) -> bool:
    try:
        if wait.words[argument]:
            memory.write_as_program(stopped, wait.words[argument], data)
    except MemoryError:
        return False
    return True
