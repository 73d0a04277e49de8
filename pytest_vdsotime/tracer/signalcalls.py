"""rt_sigtimedwait(2), by which signals are waited for.

A signal that is ignored and not blocked is discarded when it is sent, also while a thread waits for
it (the mask from before the wait decides: sig_ignored, kernel/signal.c). For a traced thread the
kernel queues it all the same, and the wait would return it. So such signals are taken out of the
set that the kernel waits for.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.tracer import parking
from pytest_vdsotime.tracer.request import Answer, CallRow, Refused, Request, Substitute
from pytest_vdsotime.waits import WaitRow

_SET_SIZE = 8  # _NSIG bits, in every ABI (asm-generic/signal.h)


def _discarded(request: Request) -> int:
    """The signals that would be discarded, as the kernel's bit set."""
    tid, process = request.stopped.tid, request.process
    masks = procfs.signal_masks(tid)
    if procfs.is_namespace_init(process.pid):
        ignored = ~masks.caught  # SIGNAL_UNKILLABLE (sig_task_ignored, kernel/signal.c)
    else:
        ignored = masks.ignored | (procfs.IGNORED_BY_DEFAULT & ~masks.caught)
    return ignored & ~masks.blocked


def _sigtimedwait(row: WaitRow, request: Request) -> Answer:
    answer = parking.begin(row, request)
    try:
        wanted = int.from_bytes(request.read(request.arguments[0], _SET_SIZE), "little")
    except Refused:
        return answer  # the kernel says so
    unwanted = wanted & _discarded(request)
    if not unwanted:
        return answer
    data = (wanted & ~unwanted).to_bytes(_SET_SIZE, "little")
    if isinstance(answer, Substitute):
        return replace(answer, beside=(0, data))
    return Substitute(0, data)


def row_of(row: WaitRow) -> CallRow:
    """It stops at every such call: one without a timeout takes signals too."""
    return CallRow(row.name, partial(_sigtimedwait, row), wide=row.wide)
