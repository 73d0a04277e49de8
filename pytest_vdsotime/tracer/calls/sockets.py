"""Timeouts of sockets (SO_RCVTIMEO, SO_SNDTIMEO, socket(7)).

A call that waits for a socket names no time, so nobody hears when it begins. But on a line that
goes at the host's pace the kernel's own timeout is right until the line moves, and on one
that stands still, where the kernel's socket has none, a wait that is found has begun at the time
that it is now. So sockets with timeouts are remembered, and a thread that is found waiting for one
waits for its timeout from then on. The kernel's sockets are set through copies of their descriptors
(pidfd_getfd(2)).

recvmmsg(2), whose timeout ends nothing: the kernel looks at it after each datagram alone, and a
call that waits for the next one goes on for as long as that takes.

So the kernel is told to return after each, by a timeout of zero where it leaves the rest of it
anyway, and the call is made again for more while its time is not up. What it returns in the end is
the sum. (An error behind the first datagram ends it too; the kernel keeps that for the next call,
here it is lost.)
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Abi
from pytest_vdsotime.kernel import descriptors, memory, procfs
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.sample import TaskSample
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.timeline import NS_PER_S, LineName, now_ns
from pytest_vdsotime.tracer.call import Answer, CallRow, Exit, Refused, Request, Substitute
from pytest_vdsotime.tracer.calls import peers
from pytest_vdsotime.tracer.calls.waits import finish
from pytest_vdsotime.tracer.fastpath import FastPath
from pytest_vdsotime.tracer.state import ClockState, Task
from pytest_vdsotime.waits import (
    NEVER_NS,
    RecvmmsgState,
    SocketTimeouts,
    Wait,
    WaitRow,
    real_wait_ns,
)

_OPTIONS = socket.SO_RCVTIMEO, socket.SO_SNDTIMEO
# Those with 64-bit times for 32-bit programs differ by one bit (asm-generic/socket.h).
_NEW_OPTIONS, _NEW_BIT = (
    dict(zip((constant("SO_RCVTIMEO_NEW"), constant("SO_SNDTIMEO_NEW")), _OPTIONS, strict=True)),
    64,
)
_SETSOCKOPT, _GETSOCKOPT = constant("SYS_SETSOCKOPT"), constant("SYS_GETSOCKOPT")  # socketcall(2)
_CONNECT = constant("SYS_CONNECT")
_TIMEVAL = struct.Struct("=qq")

_RECEIVING = (
    *("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "accept", "accept4"),
)
_SENDING = "write", "writev", "sendto", "sendmsg", "sendmmsg", "connect"
_MULTIPLEXED = {
    **{constant("SYS_SEND"): "sendto", constant("SYS_RECV"): "recvfrom"},
    **{
        constant(f"SYS_{name.upper()}"): name
        for name in (
            *("accept", "accept4", "connect", "recvfrom", "recvmmsg", "recvmsg"),
            *("sendmmsg", "sendmsg", "sendto"),
        )
    },
}
_ROWS = {
    name: WaitRow(
        name,
        0,
        expired=-errno.EAGAIN,
        is_of_socket=True,
    )
    for name in (*_RECEIVING, *_SENDING)
}
#: A connection over a network is being made for as long as it takes (connect(2)).
_CONNECT_ELSEWHERE = WaitRow("connect", 0, expired=-errno.EINPROGRESS, is_of_socket=True)


# --- the options are set -------------------------------------------------------------------------


def _option(request: Request) -> tuple[int, int] | None:
    """(descriptor, SO_RCVTIMEO or SO_SNDTIMEO) that a call is about."""
    if not request.process.world.follows:
        return None
    descriptor, level, option = (argument & 0xFFFFFFFF for argument in request.arguments[:3])
    if request.nr == request.abi.syscalls.get("socketcall"):
        data = request.read(request.arguments[1], 12)
        descriptor, level, option = struct.unpack("=3I", data)
    option = _NEW_OPTIONS.get(option, option)
    return (descriptor, option) if level == socket.SOL_SOCKET and option in _OPTIONS else None


def _setsockopt(request: Request) -> Answer:
    found = _option(request)
    if found is None:
        return None

    def was_set(result: int) -> int:
        if result == 0:
            _remember(request.task, *found)
        return result

    return was_set


def _owner(task: Task, descriptor: int, inode: int) -> int:
    """Of a task's descriptor: its process, or the task, if it has descriptors of its own."""
    pid = task.process.pid
    return pid if procfs.socket_inode(pid, descriptor) == inode else task.tid


def _remember(task: Task, descriptor: int, option: int) -> None:
    process, world = task.process, task.process.world
    inode = procfs.socket_inode(task.tid, descriptor)
    if inode is None:
        return  # closed meanwhile
    owner = _owner(task, descriptor, inode)
    try:
        copy = socket.socket(fileno=descriptors.copy_of(owner, descriptor))
    except OSError as error:
        what = f"a socket's timeout of {process.describe()} is in real time"
        world.warn(process.pid, f"{what}: {error.strerror}; {descriptors.remedy(error)}")
        return
    with copy:
        timeouts = world.sockets.setdefault(inode, SocketTimeouts(owner, descriptor))
        seconds, microseconds = _TIMEVAL.unpack(
            copy.getsockopt(socket.SOL_SOCKET, option, _TIMEVAL.size)
        )
        timeouts.by_option[option] = seconds * NS_PER_S + microseconds * 1000
        if timeouts.by_option[option]:  # else none, or none at all: of the negative that is told
            _tell_kernel(copy, world, timeouts, option)


def _tell_kernel(
    copy: socket.socket, world: ClockState, timeouts: SocketTimeouts, option: int
) -> None:
    timeout_ns = timeouts.by_option[option]
    real_ns = real_wait_ns(world.rates[1], timeout_ns)
    if world.has_grace and timeout_ns <= world.grace_ns:
        real_ns = timeout_ns
    if real_ns >= NEVER_NS:
        real_ns = 0
    _set(copy, option, real_ns)


def _set(copy: socket.socket, option: int, timeout_ns: int) -> None:
    seconds, rest_ns = divmod(timeout_ns, NS_PER_S)
    copy.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(seconds, -(-rest_ns // 1000)))


def _getsockopt(request: Request) -> Answer:
    """Return the kernel tells it what the program has set."""
    world, found = request.process.world, _option(request)
    if found is None:
        return None
    descriptor, option = found
    inode = procfs.socket_inode(request.task.tid, descriptor) or 0
    timeouts = world.sockets.get(inode)
    if timeouts is None or not timeouts.by_option.get(option):
        return None
    owner = _owner(request.task, descriptor, inode)
    with descriptors.socket_of(owner, descriptor) as copy:
        if copy is not None:
            _set(copy, option, timeouts.by_option[option])

    def was_told(result: int) -> int:
        with descriptors.socket_of(owner, descriptor) as copy:
            if copy is not None:
                _tell_kernel(copy, world, timeouts, option)
        return result

    return was_told


def revise(world: ClockState) -> None:
    """After the lines have changed their rate."""
    for inode, timeouts in tuple(world.sockets.items()):
        pid, descriptor = timeouts.pid, timeouts.descriptor
        if procfs.socket_inode(pid, descriptor) != inode:
            continue
        with descriptors.socket_of(pid, descriptor) as copy:
            for option, timeout_ns in timeouts.by_option.items():
                if copy is not None and timeout_ns:
                    _tell_kernel(copy, world, timeouts, option)


_ABOUT_TIME = Match(
    argument=2,
    values=(*_OPTIONS, *(option & ~_NEW_BIT for option in _NEW_OPTIONS)),
    ignored_bits=_NEW_BIT,
)


def _socketcall(request: Request) -> Answer:
    if request.arguments[0] == _CONNECT:
        return peers.connect(request)
    return _setsockopt(request) if request.arguments[0] == _SETSOCKOPT else _getsockopt(request)


SOCKET_CALLS = (
    CallRow("connect", peers.connect),
    CallRow("setsockopt", _setsockopt, _ABOUT_TIME),
    CallRow("getsockopt", _getsockopt, _ABOUT_TIME),
    CallRow(
        "socketcall",
        _socketcall,
        Match(argument=0, values=(_CONNECT, _SETSOCKOPT, _GETSOCKOPT)),
    ),
)


# --- and a thread waits
# ----------------------------------------------------------------------------


@dataclass(slots=True)
class SocketWaits:
    """Finds who waits for a socket with a timeout; one per tracer, on its thread."""

    fastpath: FastPath
    names: dict[int, Mapping[int, str]] = field(default_factory=dict)
    """Of the calls that wait for sockets, by kind of call and number."""

    def _names(self, abi: Abi) -> Mapping[int, str]:
        if abi.audit_arch not in self.names:
            waiting = (*_ROWS, "socketcall")
            self.names[abi.audit_arch] = {
                abi.syscalls[name]: name for name in waiting if name in abi.syscalls
            }
        return self.names[abi.audit_arch]

    def wait_of(self, task: Task, sample: TaskSample) -> Wait | None:
        """Return the wait that a task is in, if it is in one for a socket."""
        process = task.process
        world, host = process.world, process.host
        if not world.sockets or host is None:
            return None
        abi = host.arch.abis[0]
        arguments = tuple([argument & abi.mask for argument in sample.arguments])
        name, descriptor = self._names(abi).get(sample.nr, ""), arguments[0]
        if name == "socketcall":
            name = _MULTIPLEXED.get(arguments[0], "")
            data = memory.read_running(task.tid, arguments[1], 4)
            descriptor = int.from_bytes(data, "little")
        row = _ROWS.get(name)
        inode = procfs.socket_inode(task.tid, descriptor) if row is not None else None
        timeouts = world.sockets.get(inode or 0)
        if row is None or timeouts is None:
            return None
        timeout_ns = timeouts.by_option.get(_OPTIONS[name in _SENDING], 0)
        if not timeout_ns:
            return None
        wait, place = task.wait, (sample.stack, sample.counter)
        if (
            wait is None
            or not wait.is_same(sample.nr, arguments, place)
            or (wait.runs != sample.runs and not wait.is_continued)
        ):
            if name == "connect" and not _is_local(task.tid, descriptor):
                row = _CONNECT_ELSEWHERE
            wait = task.wait = _begun_now(row, task, sample, arguments, timeout_ns)
            self.fastpath.to_python(task.tid)  # for signals not to change its deadline
        wait.runs, wait.is_continued = sample.runs, False
        return wait


def _is_local(tid: int, descriptor: int) -> bool:
    with descriptors.socket_of(tid, descriptor) as copy:
        return copy is None or copy.family == socket.AF_UNIX


def _begun_now(
    row: WaitRow, task: Task, sample: TaskSample, arguments: tuple[int, ...], timeout_ns: int
) -> Wait:
    world, host_ns = task.process.world, now_ns()
    assert task.process.host is not None
    wait = Wait(
        row,
        *(sample.nr, arguments, (sample.stack, sample.counter), task.process.host.arch.abis[0]),
        *(1, False, timeout_ns, timeout_ns),
        ((LineName.MONOTONIC, world.page.lines.monotonic.at(host_ns) + timeout_ns),),
    )
    wait.host_due_ns = wait.due_ns(world.page.lines, host_ns)
    return wait


# --- data on its way -----------------------------------------------------------------------------

_UNACKED, _NOTSENT_BYTES = constant("TCP_UNACKED"), constant("TCP_NOTSENT_BYTES")
_STREAM = socket.AF_INET, socket.AF_INET6


def unsent(world: ClockState) -> set[int]:
    """Return the numbers of sockets of which the kernel holds back data for a moment.

    And note whether there are any that may (`has_streams`).
    """
    held_back = {
        inode: is_so
        for pid in world.processes
        for descriptor, inode in procfs.sockets(pid)
        if (is_so := _is_held_back(pid, descriptor)) is not None
    }
    world.network.has_streams = bool(held_back)
    return {inode for inode, is_so in held_back.items() if is_so}


def _is_held_back(pid: int, descriptor: int) -> bool | None:
    """Whether data is to be sent after an acknowledgement; None where none can be.

    Not where the receiver has no room.
    """
    with descriptors.socket_of(pid, descriptor) as copy:
        if copy is None or copy.family not in _STREAM or copy.type != socket.SOCK_STREAM:
            return None
        try:
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _NOTSENT_BYTES + 4)
        except OSError:
            return None  # another protocol
        unacked, left = info[_UNACKED : _UNACKED + 4], info[_NOTSENT_BYTES : _NOTSENT_BYTES + 4]
        return any(unacked) and any(left)


# --- recvmmsg ------------------------------------------------------------------------------------

_MESSAGES, _COUNT, _FLAGS, _TIMEOUT = 1, 2, 3, 4
_MSG_WAITFORONE = 0x10000  # linux/socket.h
_MOST = constant("UIO_MAXIOV")


def _recvmmsg(request: Request) -> Answer:
    task, arguments = request.task, request.arguments
    recvmmsg, task.recvmmsg = task.recvmmsg, None
    if recvmmsg is None or not _is_the_rest(request, recvmmsg):
        pair = request.abi.pair(request.time64)
        timeout = request.read(arguments[_TIMEOUT], pair.size)
        seconds, nanoseconds = request.pair_in(timeout)
        if seconds < 0 or not 0 <= nanoseconds < NS_PER_S:
            return None
        end_ns = _line_ns(request) + seconds * NS_PER_S + nanoseconds
        recvmmsg = RecvmmsgState(arguments, timeout, end_ns)
        try:
            request.write(arguments[_TIMEOUT], bytes(pair.size))
        except Refused:
            with suppress(Refused):  # a part of it may have been written
                request.write(arguments[_TIMEOUT], timeout)
            return None  # it fails once it has received something: what is left has no place
    on_exit = partial(_received, request, recvmmsg)
    return Substitute(_TIMEOUT, value=arguments[_TIMEOUT], on_exit=on_exit)


def _line_ns(request: Request) -> int:
    return request.process.world.page.lines.monotonic.at(now_ns())


def _is_the_rest(request: Request, recvmmsg: RecvmmsgState) -> bool:
    rest = _rest(request, recvmmsg)
    return all(request.arguments[number] == value for number, value in rest.items())


def _left(recvmmsg: RecvmmsgState) -> int:
    """How many more it may receive."""
    return min(recvmmsg.arguments[_COUNT] & 0xFFFFFFFF, _MOST) - recvmmsg.received


def _rest(request: Request, recvmmsg: RecvmmsgState) -> dict[int, int]:
    """Return the arguments of the call for that."""
    size = 8 * request.abi.long_size  # of struct mmsghdr: seven words and an int, filled up
    flags = recvmmsg.arguments[_FLAGS]
    return {
        _MESSAGES: recvmmsg.arguments[_MESSAGES] + recvmmsg.received * size,
        _COUNT: _left(recvmmsg),
        _FLAGS: flags | socket.MSG_DONTWAIT if flags & _MSG_WAITFORONE else flags,
    }


def _received(
    request: Request, recvmmsg: RecvmmsgState, stopped: Stopped, result: int
) -> int | Exit:
    task, left_ns = request.task, max(recvmmsg.end_ns - _line_ns(request), 0)
    if task.wait is not None and task.wait.row.is_of_socket:  # by its timeout
        result = finish(task, task.wait, stopped, result)
    if result > 0:
        recvmmsg.received += result
        is_urgent = recvmmsg.arguments[_FLAGS] & socket.MSG_OOB
        if left_ns and _left(recvmmsg) > 0 and not is_urgent:
            task.recvmmsg = recvmmsg
            return Exit(_rest(request, recvmmsg))
    own = {number: recvmmsg.arguments[number] for number in (_MESSAGES, _COUNT, _FLAGS)}
    rest = request.abi.pack_span(request.time64, left_ns)
    try:
        memory.write_as_program(
            stopped, recvmmsg.arguments[_TIMEOUT], rest if recvmmsg.received else recvmmsg.timeout
        )
    except MemoryError:
        return Exit(own, -errno.EFAULT)
    return Exit(own, recvmmsg.received or result)


DATAGRAM_CALLS = tuple(
    CallRow(name, _recvmmsg, pointer=_TIMEOUT, time64=is_wide)
    for name, is_wide in (("recvmmsg", False), ("recvmmsg_time64", True))
)
