"""recvmmsg(2), whose timeout ends nothing: the kernel looks at it after each datagram alone, and a
call that waits for the next one goes on for as long as that takes.

So the kernel is told to return after each, by a timeout of zero where it leaves the rest of it
anyway, and the call is made again for more while its time is not up. What it returns in the end is
the sum. (An error behind the first datagram ends it too; the kernel keeps that for the next call,
here it is lost.)
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from functools import partial

from pytest_vdsotime.kernel import memory
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.timeline import NS_PER_S
from pytest_vdsotime.tracer.parking import finish, now_ns
from pytest_vdsotime.tracer.request import Answer, CallRow, Exit, Refused, Request, Substitute
from pytest_vdsotime.waits import Receipt

_MESSAGES, _COUNT, _FLAGS, _TIMEOUT = 1, 2, 3, 4
_MSG_WAITFORONE = 0x10000  # linux/socket.h
_MOST = 1024  # UIO_MAXIOV, linux/uio.h


def _recvmmsg(request: Request) -> Answer:
    task, arguments = request.task, request.arguments
    receipt, task.receipt = task.receipt, None
    if receipt is None or not _is_the_rest(request, receipt):
        pair = request.abi.pair(request.wide)
        timeout = request.read(arguments[_TIMEOUT], pair.size)
        seconds, nanoseconds = request.pair_in(timeout)
        if seconds < 0 or not 0 <= nanoseconds < NS_PER_S:
            return None
        end_ns = _line_ns(request) + seconds * NS_PER_S + nanoseconds
        receipt = Receipt(arguments, timeout, end_ns)
        try:
            request.write(arguments[_TIMEOUT], bytes(pair.size))
        except Refused:
            with suppress(Refused):  # a part of it may have been written
                request.write(arguments[_TIMEOUT], timeout)
            return None  # it fails once it has received something: what is left has no place
    then = partial(_received, request, receipt)
    return Substitute(_TIMEOUT, value=arguments[_TIMEOUT], then=then)


def _line_ns(request: Request) -> int:
    return request.process.world.page.lines.monotonic.at(now_ns())


def _is_the_rest(request: Request, receipt: Receipt) -> bool:
    rest = _rest(request, receipt)
    return all(request.arguments[number] == value for number, value in rest.items())


def _left(receipt: Receipt) -> int:
    """How many more it may receive."""
    return min(receipt.arguments[_COUNT] & 0xFFFFFFFF, _MOST) - receipt.received


def _rest(request: Request, receipt: Receipt) -> dict[int, int]:
    """The arguments of the call for that."""
    size = 8 * request.abi.long_size  # of struct mmsghdr: seven words and an int, filled up
    flags = receipt.arguments[_FLAGS]
    return {
        _MESSAGES: receipt.arguments[_MESSAGES] + receipt.received * size,
        _COUNT: _left(receipt),
        _FLAGS: flags | socket.MSG_DONTWAIT if flags & _MSG_WAITFORONE else flags,
    }


def _received(request: Request, receipt: Receipt, stopped: Stopped, result: int) -> int | Exit:
    task, left_ns = request.task, max(receipt.end_ns - _line_ns(request), 0)
    if task.wait is not None and task.wait.row.is_of_socket:  # by its timeout
        result = finish(task, task.wait, stopped, result)
    if result > 0:
        receipt.received += result
        is_urgent = receipt.arguments[_FLAGS] & socket.MSG_OOB
        if left_ns and _left(receipt) > 0 and not is_urgent:
            task.receipt = receipt
            return Exit(_rest(request, receipt))
    own = {number: receipt.arguments[number] for number in (_MESSAGES, _COUNT, _FLAGS)}
    rest = request.abi.pack_span(request.wide, left_ns)
    try:
        memory.write_as_program(
            stopped, receipt.arguments[_TIMEOUT], rest if receipt.received else receipt.timeout
        )
    except MemoryError:
        return Exit(own, -errno.EFAULT)
    return Exit(own, receipt.received or result)


DATAGRAM_CALLS = tuple(
    CallRow(name, _recvmmsg, pointer=_TIMEOUT, wide=is_wide)
    for name, is_wide in (("recvmmsg", False), ("recvmmsg_time64", True))
)
