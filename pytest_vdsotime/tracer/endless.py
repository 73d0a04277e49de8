"""Calls that end with EINTR when they are woken up for anything (signal(7)), such as a signal that
is ignored, of which a tracer alone hears.

Where the kernel makes calls ready to be made again before it asks the tracer (Arch.rewinds_early),
it has forgotten by then what the first argument was, in whose place the result is. At their exit
it knows. So these calls stop at their entry even where they have no time limit, and are followed to
their exit (interrupted.at_exit); what has none but that of its socket does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pytest_vdsotime.arch import Arch
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.tracer.request import Answer, CallRow, Request

_IORING_ENTER_GETEVENTS = 1  # linux/io_uring.h
#: As in native_stub/arch/aarch64.h, by when they wait.
_CALLS: dict[str, Match | None] = {
    "epoll_pwait": Match(argument=3, any_bits=0xFFFFFFFF),
    "epoll_pwait2": None,
    "io_getevents": None,
    "io_uring_enter": Match(argument=3, any_bits=_IORING_ENTER_GETEVENTS),
    "rt_sigtimedwait": None,
    "semop": None,
    "semtimedop": None,
}


def followed(rows: Sequence[CallRow], arch: Arch) -> Sequence[CallRow]:
    """The rows, and these calls in place of those of the same name, which still answer what they
    hold for."""
    if not arch.rewinds_early:
        return rows
    own = {row.name: row for row in rows}
    others = [row for row in rows if row.name not in _CALLS]
    return (*others, *(_row(name, match, own.get(name)) for name, match in _CALLS.items()))


def _row(name: str, match: Match | None, own: CallRow | None) -> CallRow:
    return CallRow(name, partial(_answer, own), match, wide=own is not None and own.wide)


def _answer(own: CallRow | None, request: Request) -> Answer:
    answer = None
    if own is not None and own.holds(request.arguments):
        answer = own.answer(request)
    return _as_it_is if answer is None and request.task.wait is None else answer


def _as_it_is(result: int) -> int:
    return result
