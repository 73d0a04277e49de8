"""Waits as the native code has them (struct wait_record, native_stub/tracer/waits.h).

There are those that it has begun, and those that it takes over while time passes.
"""

from __future__ import annotations

import ctypes

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Abi
from pytest_vdsotime.timeline import NS_PER_S, LineName
from pytest_vdsotime.tracer.fastpath import Record
from pytest_vdsotime.waits import NEVER_NS, Unit, Wait, WaitRow

BY_KERNEL, ENDLESS = constant("KEPT_BY_KERNEL"), constant("KEPT_ENDLESS")
AT_ENTRY = constant("KEPT_AT_ENTRY")
REST_SIZE = Record.rest.size
WALL_ALONE, EITHER = constant("WALL_LINE"), constant("EITHER_LINE")


def wait_of_record(record: Record, row: WaitRow, abi: Abi) -> Wait:
    """Return the wait that a record is of, with a point of the monotonic line for its deadline."""
    nr, arguments = record.nr, tuple(record.arguments)
    if row.unit is Unit.MILLISECONDS:
        timeout_ns: int | None = (arguments[row.argument] & 0xFFFFFFFF) * Unit.MILLISECONDS
    else:
        timeout_ns = row.timeout_ns(*abi.pair(True).unpack(bytes(record.timeout)))
    return Wait(
        row,
        *(nr, arguments, (record.stack, record.counter), abi),
        *(record.clock, bool(record.is_absolute), timeout_ns or 0, record.length_ns),
        ((LineName.MONOTONIC, record.due_ns),),
        set_ns=record.began_ns,
        host_due_ns=record.due_ns - record.ahead_ns,
        is_kept=record.keeper == ENDLESS,
        is_carried=bool(record.is_carried),
        is_expiring=bool(record.is_expiring),
        rest_was=bytes(record.rest) if record.has_rest else b"",
    )


def record_of_wait(tid: int, wait: Wait, due_ns: int, line: int, keeper: int) -> Record:
    """Return the record of a wait that a task is in.

    `due_ns`, `line`, `keeper`: its fields.
    """
    record = Record(tid, wait.nr)
    record.arguments[:] = wait.arguments
    record.stack, record.counter = wait.place
    due_ns = min(due_ns, NEVER_NS)
    record.clock, record.line, record.due_ns = wait.clock_id, line, due_ns
    record.is_absolute, record.keeper = wait.is_absolute, keeper
    record.is_carried = wait.is_carried
    record.began_ns, record.length_ns = wait.set_ns, min(wait.length_ns, NEVER_NS)
    record.ahead_ns = due_ns - min(wait.host_due_ns, NEVER_NS)
    if wait.row.unit is not Unit.MILLISECONDS:
        seconds, rest_ns = divmod(wait.timeout_ns, NS_PER_S)
        record.timeout[:] = seconds, rest_ns // wait.row.unit
    if wait.rest_was:
        record.has_rest = 1
        ctypes.memmove(record.rest, wait.rest_was, len(wait.rest_was))
    return record
