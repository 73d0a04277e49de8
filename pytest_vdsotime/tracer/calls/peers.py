"""Which programs wait for the answer of a peer off the clock.

A program that has asked a server in real time is not at rest, though all its threads are blocked:
the answer is on its way, and where the clock moved on meanwhile the program would time out. So
while the last word on a connection was the program's own, its clock waits, as long as `patience`.

Connections are noted at connect(2); pipes and sockets that a program has from its starter, at the
first look at it. Who the peer is, and whose the last word was, the kernel's tables tell: of TCP the
times of the last segment each way (TCP_INFO, tcp(7)), of pipes those of the last write to each
(pipe_write, fs/pipe.c). Unix sockets have no such times: where a program has a stream to a peer off
the clock all tasks of the clock stop at system calls, and its words are heard. Of datagrams, a
program waits for the answer while a thread waits for that socket alone.

A program that sleeps waits for no answer. What it has from its starter counts where a thread waits
for that alone, with a timeout: mostly it is the test that asks there, and the program that answers.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
import sys
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Final, NamedTuple

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.kernel import descriptors, memory, procfs
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.timeline import now_ns
from pytest_vdsotime.tracer.call import Answer, NotThere, Refused, Request
from pytest_vdsotime.tracer.state import (
    ClockState,
    Endpoint,
    Peer,
    SocketName,
    Task,
)

#: What the engine leaves to Python of a process: whatever is not a sleep, or waits for one
#: descriptor alone.
ASKS, ASKS_ALONE = constant("ASKS"), constant("ASKS_ALONE")
_NS_PER_MS = 10**6
#: How long a peer may take from one part of its answer to the next; two ticks of a slow kernel.
_ANSWERING_MS = 8
_CLOCK_OF_STAMPS: Final = 5  # CLOCK_REALTIME_COARSE, linux/time.h
_INTERNET = socket.AF_INET, socket.AF_INET6
_MAPPED = bytes(10) + b"\xff\xff"  # before an IPv4 address to an IPv6 socket
_LOOPBACK_NET, _LOOPBACK6, _IPV4_SIZE = 127, bytes(15) + b"\1", 4
_MAX_ADDRESS = 128  # sizeof(struct sockaddr_storage)
_UCRED = struct.Struct("=iII")
_POLLFD = struct.Struct("=ihh")
_MAX_SELECTED, _MAX_POLLED = 1024, 4

_RECEIVING = frozenset({"read", "readv", "recvfrom", "recvmsg", "recvmmsg", "connect"})
_SAYING = frozenset({"write", "writev", "sendto", "sendmsg", "sendmmsg"})
_HEARING = _RECEIVING - {"connect"}
_POLLING = frozenset({"poll", "ppoll", "ppoll_time64"})
_SELECTING = frozenset({"select", "_newselect", "pselect6", "pselect6_time64"})
#: Calls by which a program may wait for the answer of its clock alone.
ASKING = _POLLING | _SELECTING
_SLEEPING = frozenset({"nanosleep", "clock_nanosleep", "clock_nanosleep_time64"})
_CALLS = _RECEIVING | _POLLING | _SELECTING | _SLEEPING


# --- connections are noted -----------------------------------------------------------------------


def connect(request: Request) -> Answer:
    """Note a connection that is being made; the call runs as it is."""
    world = request.process.world
    network = world.network
    if not world.follows or not (network.patience_ns or network.control.addresses):
        return None
    descriptor, address, size = request.arguments[:3]
    if request.nr == request.abi.syscalls.get("socketcall"):
        descriptor, address, size = struct.unpack("=3I", request.read(request.arguments[1], 12))
    descriptor &= 0xFFFFFFFF
    name = b""
    # The kernel refuses such memory too, or another thread has yet to provide it.
    with suppress(Refused, NotThere):
        name = request.read(address, min(size, _MAX_ADDRESS))
    inode = procfs.socket_inode(request.task.tid, descriptor)
    if inode is None:
        return None
    if _is_control(world, name):
        network.control.connections.add(inode)
        request.process.asks = True
        return None
    network.control.connections.discard(inode)  # of a socket that has had this number before
    if network.patience_ns:
        _note(world, inode, Peer(request.process.pid, descriptor, *_named(name)))
    return None


def is_asking(request: Request, name: str) -> bool:
    """Whether a call polls for an answer of the clock itself: such a wait is in real time.

    Else the clock that is asked to move on would end it, and with it the request. Not a wait by
    epoll(7), by which a program's own timers may expire.
    """
    control, tid, arguments = (
        request.process.world.network.control,
        request.task.tid,
        request.arguments,
    )
    polled: Iterable[int] = ()
    if name in _POLLING and arguments[1] <= _MAX_SELECTED:
        data = request.read(arguments[0], _POLLFD.size * arguments[1])
        polled = (descriptor for descriptor, *_ in _POLLFD.iter_unpack(data))
    elif name in _SELECTING and arguments[1] and arguments[0] <= _MAX_SELECTED:
        bits = int.from_bytes(request.read(arguments[1], -(-arguments[0] // 8)), "little")
        polled = (bit for bit in range(arguments[0]) if bits >> bit & 1)
    return any(procfs.socket_inode(tid, descriptor) in control.connections for descriptor in polled)


def _named(address: bytes) -> tuple[tuple[str, int] | None, str]:
    """Return the (address, port) of a struct sockaddr, if it has such, and the peer in words."""
    family = int.from_bytes(address[:2], sys.byteorder)
    if family == socket.AF_INET and len(address) >= 8:
        host, port = socket.inet_ntop(family, address[4:8]), int.from_bytes(address[2:4])
        return (host, port), f"{host}:{port}"
    if family == socket.AF_INET6 and len(address) >= 24:
        host, port = socket.inet_ntop(family, address[8:24]), int.from_bytes(address[2:4])
        return (host, port), f"[{host}]:{port}"
    if family == socket.AF_UNIX:
        name = address[2:].split(b"\0")[0] or address[2:].replace(b"\0", b"@", 1)
        return None, os.fsdecode(name)
    return None, "its peer"


def _is_control(world: ClockState, address: bytes) -> bool:
    """Whether the clock itself is served there."""
    addresses = world.network.control.addresses
    if not addresses:
        return False
    if int.from_bytes(address[:2], sys.byteorder) == socket.AF_UNIX:
        path = os.fsdecode(address[2:].partition(b"\0")[0])
        return f"unix:{path}" in addresses
    name, _ = _named(address)
    if name is None:
        return False
    ip, port = _endpoint(name)
    is_short = len(ip) == _IPV4_SIZE  # an IPv6 socket may have such an address too
    host = socket.inet_ntop(socket.AF_INET if is_short else socket.AF_INET6, ip)
    return (f"{host}:{port}" if is_short else f"[{host}]:{port}") in addresses


def _note(world: ClockState, number: int, peer: Peer) -> None:
    network = world.network
    network.peers[number] = peer
    network.quiet_at = None
    _asks(world, peer)
    if len(network.peers) > network.most_peers:  # where nobody waits for rest, none was forgotten
        machine = _Machine(world)
        for other, one in tuple(network.peers.items()):
            if not machine.has(other, one):
                del network.peers[other]
        network.most_peers = max(2 * len(network.peers), network.most_peers)


def _asks(world: ClockState, peer: Peer) -> None:
    asking = world.network.asking
    if peer.is_away is not False and asking.get(peer.pid) != ASKS:
        asking[peer.pid] = ASKS_ALONE if peer.is_inherited else ASKS


def _relate(world: ClockState) -> None:
    """Note which processes have peers off the clock, for the engine."""
    network = world.network
    network.asking.clear()
    network.listens = any(peer.is_listened for peer in network.peers.values())
    for peer in network.peers.values():
        _asks(world, peer)


def _inherit(world: ClockState) -> None:
    """Note what programs have from their starter, which is not on this clock."""
    network = world.network
    for pid, process in world.processes.items():
        if pid in network.seen or process.launch is not None:
            continue
        network.seen.add(pid)
        found = procfs.stat_fields(pid)
        if found is not None and found[1] not in world.processes:
            for number, peer in _inherited(pid):
                if number not in network.peers and number not in network.control.connections:
                    _note(world, number, peer)
    network.seen &= world.processes.keys()


def _inherited(pid: int) -> Iterator[tuple[int, Peer]]:
    served, found = _ports(pid), list(procfs.descriptors(pid))
    read: dict[int, int] = {}
    written = set()
    for descriptor, status in found:
        if stat.S_ISFIFO(status.st_mode):
            access = _access(pid, descriptor)
            if access == os.O_RDONLY:
                read[descriptor] = status.st_ino
            else:
                written.add(status.st_ino)
    for descriptor, status in found:
        if descriptor in read and status.st_ino not in written:  # else it has made that itself
            yield (
                status.st_ino,
                Peer(pid, descriptor, words="its input", is_inherited=True, is_pipe=True),
            )
        elif stat.S_ISSOCK(status.st_mode):
            with descriptors.socket_of(pid, descriptor) as copy:
                words = "" if copy is None else _connected(copy, served)
                if copy is not None and words:
                    is_inherited = copy.family not in _INTERNET
                    yield (
                        status.st_ino,
                        Peer(pid, descriptor, words=words, is_inherited=is_inherited),
                    )


def _ports(pid: int) -> set[int]:
    """Return the ports on which a process accepts connections."""
    found = set()
    for descriptor, status in procfs.descriptors(pid):
        if stat.S_ISSOCK(status.st_mode):
            with descriptors.socket_of(pid, descriptor) as copy:
                if copy is not None and copy.family in _INTERNET and _accepts(copy):
                    found.add(copy.getsockname()[1])
    return found


def _accepts(copy: socket.socket) -> bool:
    return bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _connected(copy: socket.socket, served: Container[int]) -> str:
    """Return the peer of a connection that was made on this side, in words; "" of any other."""
    try:
        peer = copy.getpeername()
    except OSError:
        return ""
    if copy.family not in _INTERNET:
        return str(peer) or "its starter"
    low, high = _ephemeral_ports()
    port = copy.getsockname()[1]
    return f"{peer[0]}:{peer[1]}" if low <= port <= high and port not in served else ""


def _ephemeral_ports() -> tuple[int, int]:
    """Return the first and the last port that the kernel gives by itself (ip(7))."""
    text = procfs.read_text("/proc/sys/net/ipv4/ip_local_port_range")
    first, last = text.split() or (32768, 60999)
    return int(first), int(last)


def _access(pid: int, descriptor: int) -> int | None:
    """Return O_RDONLY, O_WRONLY or O_RDWR (fdinfo, proc(5))."""
    text = procfs.read_text(f"/proc/{pid}/fdinfo/{descriptor}")
    found = re.search(r"^flags:\s*(\d+)$", text, re.MULTILINE)
    return int(found[1], 8) & os.O_ACCMODE if found else None


# --- whose was the last word? --------------------------------------------------------------------


def are_quiet(world: ClockState, tasks: Sequence[Task]) -> bool:
    """Whether it is known that no program waits for a peer off the clock."""
    network = world.network
    if not network.patience_ns:
        return True
    _inherit(world)
    # A program's own word begins such a wait, and none has run since.
    return not network.peers or network.quiet_at == _runs(tasks)


def _runs(tasks: Sequence[Task]) -> tuple[int, int]:
    return len(tasks), sum(task.sample.runs for task in tasks)


def awaited(world: ClockState, tasks: Sequence[Task], timed: Container[int]) -> Sequence[str]:
    """Return which programs wait for a peer off the clock, in words, when all are at rest.

    `timed`: the threads that are in a timed wait.
    """
    blocked, machine = _Blocked(tasks, timed), _Machine(world)
    found = []
    for number, peer in tuple(world.network.peers.items()):
        if not machine.has(number, peer):
            del world.network.peers[number]
        elif _is_awaited(world, number, peer, blocked, machine):
            name = procfs.command(peer.pid)
            found.append(f"{name} (pid {peer.pid}) waits for the answer of {peer.words}")
    _relate(world)
    world.network.quiet_at = None if found else _runs(tasks)
    return found


def _is_awaited(
    world: ClockState, number: int, peer: Peer, blocked: _Blocked, machine: _Machine
) -> bool:
    if peer.is_away is None or blocked.is_awake(peer.pid):
        alone = blocked.waiting_for(peer)
        if peer.is_inherited and (alone is None or not blocked.is_timed(alone)):
            return False
        ago_ns = None
        if peer.is_pipe:
            peer.is_away = machine.is_written_elsewhere(number)
            ago_ns = _written_ns(peer) if peer.is_away else None
        else:
            with descriptors.socket_of(peer.pid, peer.descriptor) as copy:
                if copy is not None and peer.is_away is None:
                    peer.is_away = machine.is_away(peer, copy)
                if copy is not None and peer.is_away:
                    ago_ns = _last_word_ns(peer, copy, blocked, alone)
        return ago_ns is not None and ago_ns < world.network.patience_ns
    return False


def _last_word_ns(
    peer: Peer, copy: socket.socket, blocked: _Blocked, alone: Task | None
) -> int | None:
    """Return how long ago a program had the last word; None where that is the peer's."""
    if copy.family in _INTERNET and copy.type == socket.SOCK_STREAM:
        with suppress(OSError):  # another protocol
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            tcp = _TcpInfo(*_TCP_INFO.unpack(info))
            is_timed = alone is not None and blocked.is_timed(alone)
            answered_ns = _answered_ns(copy, tcp, is_timed=is_timed)
            sent_ns = _sent_ns(peer, tcp, is_alone=alone is not None)
            return answered_ns if sent_ns is None else sent_ns
    if copy.family == socket.AF_UNIX and copy.type != socket.SOCK_DGRAM and not peer.is_inherited:
        return _said_ns(peer, blocked, alone)
    if alone is None:
        return None
    at = alone.tid, alone.sample.runs
    if peer.since_at != at:
        peer.since_at, peer.spoke_ns = at, now_ns()
    return now_ns() - peer.spoke_ns


def _said_ns(peer: Peer, blocked: _Blocked, alone: Task | None) -> int | None:
    """As `_last_word_ns`, of a stream for whose words the tracer listens from now on."""
    at = peer.pid, blocked.runs(peer.pid)
    if not peer.is_listened:
        peer.is_listened, peer.since_at, peer.spoke_ns = True, at, now_ns()
    elif peer.since_at is not None and peer.since_at != at:
        peer.since_at, peer.heard_ns = None, now_ns()  # before anybody listened it has run on
    if peer.spoke_ns > peer.heard_ns:
        return now_ns() - peer.spoke_ns
    is_timed = alone is not None and blocked.is_timed(alone)
    ago_ns = now_ns() - peer.heard_ns
    return ago_ns if is_timed or ago_ns < _ANSWERING_MS * _NS_PER_MS else None


def at_exit(task: Task, stopped: Stopped, arch: Arch) -> None:
    """Note a word on a connection that is listened to.

    Requires: the task is at the exit of a system call, and was stopped at its entry.
    Leaves: it there.
    """
    registers = stopped.registers()
    abi = next((one for one in (arch, *arch.runs_too) if one.runs_in(registers)), arch).abis[0]
    nr, result = (
        getattr(registers, name) for name in (arch.interrupted_syscall, arch.syscall_result)
    )
    speaks, hears = ({abi.syscalls.get(name) for name in names} for names in (_SAYING, _HEARING))
    if nr not in speaks | hears or result >= 2**31:
        return
    inode = procfs.socket_inode(task.tid, task.first_argument & 0xFFFFFFFF)
    peer = task.process.world.network.peers.get(inode or 0)
    if peer is not None and peer.is_listened:
        peer.since_at = None
        if nr in speaks:
            peer.spoke_ns = now_ns()
        else:
            peer.heard_ns = now_ns()


class _TcpInfo(NamedTuple):
    """Fields of struct tcp_info (linux/tcp.h); times in ms, as long ago as the last segment was."""

    state: int
    unacked: int
    data_sent: int
    data_received: int
    ack_received: int
    bytes_received: int


_TCP_INFO = struct.Struct("=B23xI16xI4xII68xQ")
_TCP_ESTABLISHED, _TCP_SYN_SENT, _TCP_FIN_WAIT1, _TCP_FIN_WAIT2 = 1, 2, 4, 5  # net/tcp_states.h
_ASKING = _TCP_ESTABLISHED, _TCP_FIN_WAIT1, _TCP_FIN_WAIT2


def _sent_ns(peer: Peer, info: _TcpInfo, *, is_alone: bool) -> int | None:
    """Return how long ago the last word on a TCP connection was sent, if that was the last.

    The kernel's times are ticks, some milliseconds long. Where a segment each way has the same, the
    last was the program's if it is yet to be acknowledged, or was later than the last data from the
    peer, or if a thread waits for this connection alone.
    """
    if info.state == _TCP_SYN_SENT:
        peer.spoke_ns = peer.spoke_ns or now_ns()
        return now_ns() - peer.spoke_ns
    if info.state not in _ASKING or info.data_sent > info.data_received:
        return None
    is_last = (
        info.data_sent < info.data_received
        or not info.bytes_received
        or info.unacked
        or info.ack_received < info.data_received
        or is_alone
    )
    return info.data_sent * _NS_PER_MS if is_last else None


def _answered_ns(copy: socket.socket, info: _TcpInfo, *, is_timed: bool) -> int | None:
    """Return how long ago a part of an answer came on a TCP connection, if more may come.

    Many servers write the head and the body of an answer apart, and the second waits in the peer's
    kernel for the first to be acknowledged (Nagle's algorithm), which the program's would do some
    40 ms later. With TCP_QUICKACK it does so now (tcp(7)).
    """
    if info.state not in _ASKING:
        return None
    copy.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    is_recent = info.data_received < _ANSWERING_MS
    return info.data_received * _NS_PER_MS if is_timed or is_recent else None


def _written_ns(peer: Peer) -> int | None:
    """Return how long ago a program wrote to a pipe, if its peer has not written since."""
    with suppress(OSError):
        asked_ns = [
            status.st_mtime_ns
            for descriptor, status in procfs.descriptors(peer.pid)
            if stat.S_ISFIFO(status.st_mode) and _access(peer.pid, descriptor) == os.O_WRONLY
        ]
        answered_ns = os.stat(f"/proc/{peer.pid}/fd/{peer.descriptor}").st_mtime_ns
        if asked_ns and max(asked_ns) >= answered_ns:
            return _stamped_ns(peer, max(asked_ns))
    return None


def _stamped_ns(peer: Peer, stamp_ns: int) -> int:
    """Return how long ago a program left a stamp.

    By the wall clock at the first look alone: that clock may be set while the answer is awaited.
    """
    at = stamp_ns, 0
    if peer.since_at != at:
        ago_ns = max(time.clock_gettime_ns(_CLOCK_OF_STAMPS) - stamp_ns, 0)
        peer.since_at, peer.spoke_ns = at, now_ns() - ago_ns
    return now_ns() - peer.spoke_ns


# --- what programs are blocked in ----------------------------------------------------------------


class _Blocked:
    """What tasks that are at rest wait in."""

    def __init__(self, tasks: Iterable[Task], timed: Container[int]) -> None:
        self._timed = timed
        self._tasks: dict[int, list[Task]] = {}
        for task in tasks:
            self._tasks.setdefault(task.process.pid, []).append(task)

    def is_awake(self, pid: int) -> bool:
        """Whether some thread of a process does not sleep."""
        return any(_call(task) not in _SLEEPING for task in self._tasks.get(pid, ()))

    def runs(self, pid: int) -> int:
        """Return how often the threads of a process have run."""
        return sum(task.sample.runs for task in self._tasks.get(pid, ()))

    def waiting_for(self, peer: Peer) -> Task | None:
        """Return a thread that waits for the peer, and for nothing else."""
        tasks = self._tasks.get(peer.pid, ())
        return next((task for task in tasks if _only(task) == peer.descriptor), None)

    def is_timed(self, task: Task) -> bool:
        """Whether a thread waits with a timeout."""
        return task.tid in self._timed


def _call(task: Task) -> str:
    """Return the name of the call that a task is blocked in; "" if that tells nothing here."""
    if task.held is not None:
        return "nanosleep"
    host = task.process.host
    numbers = {} if host is None else host.arch.abis[0].syscalls
    return next((name for name in _CALLS if numbers.get(name) == task.sample.nr), "")


def _only(task: Task) -> int | None:
    """Return the one descriptor that a task waits to read from."""
    name, arguments = _call(task), task.sample.arguments
    if name in _RECEIVING:
        return int(arguments[0]) & 0xFFFFFFFF
    with suppress(OSError):
        if name in _POLLING and 0 < arguments[1] <= _MAX_POLLED:
            data = memory.read_running(task.tid, arguments[0], _POLLFD.size * arguments[1])
            polled = [int(one[0]) for one in _POLLFD.iter_unpack(data)]
            if len(polled) > 1:  # curl's are its connection and its own means to wake itself up
                polled = [one for one in polled if not _wakes_itself(task.process.pid, one)]
            return polled[0] if len(polled) == 1 else None
        if name in _SELECTING and arguments[1] and arguments[0] <= _MAX_SELECTED:
            data = memory.read_running(task.tid, arguments[1], -(-arguments[0] // 8))
            bits = int.from_bytes(data, "little")
            return bits.bit_length() - 1 if bits.bit_count() == 1 else None
    return None


def _wakes_itself(pid: int, descriptor: int) -> bool:
    """Whether a descriptor is an eventfd, or of a pair of sockets that its process has made."""
    with suppress(OSError):
        link = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        if link == "anon_inode:[eventfd]":
            return True
        if link.startswith("socket:"):
            with descriptors.socket_of(pid, descriptor) as copy:
                return (
                    copy is not None
                    and copy.family == socket.AF_UNIX
                    and not copy.getsockname()
                    and not copy.getpeername()
                    and _starter_of(copy) == pid
                )
    return False


def _starter_of(copy: socket.socket) -> int:
    """Return the pid of a Unix socket's peer when it was connected (SO_PEERCRED, unix(7))."""
    credentials = copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(credentials)[0])


# --- who is at the other end ---------------------------------------------------------------------


class _Machine:
    """What the kernel tells of the descriptors of a clock's programs, once."""

    def __init__(self, world: ClockState) -> None:
        self._world = world

    @cached_property
    def _holders(self) -> Mapping[int, Sequence[tuple[int, int]]]:
        """Who has a pipe or socket: (pid, descriptor) by inode number."""
        found: dict[int, list[tuple[int, int]]] = {}
        for pid in self._world.processes:
            for descriptor, status in procfs.descriptors(pid):
                if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
                    found.setdefault(status.st_ino, []).append((pid, descriptor))
        return found

    @cached_property
    def _sockets(self) -> Iterable[SocketName]:
        """The addresses of all that listen, are connected or take datagrams."""
        known = self._world.network.names
        for number in known.keys() - self._holders.keys():
            del known[number]
        for number in self._holders.keys() - known.keys():
            with descriptors.socket_of(*self._holders[number][0]) as copy:
                name = None if copy is None else _name_of(copy)
            if name is not None:
                known[number] = name
        return known.values()

    def has(self, number: int, peer: Peer) -> bool:
        """Whether a program still has its end; note which."""
        with suppress(OSError):
            if os.stat(f"/proc/{peer.pid}/fd/{peer.descriptor}").st_ino == number:
                return peer.pid in self._world.processes
        holders = self._holders.get(number)
        if not holders:
            return False
        peer.pid, peer.descriptor = holders[0]
        return True

    def is_written_elsewhere(self, number: int) -> bool:
        """Whether no program of this clock writes to a pipe."""
        return all(_access(*holder) == os.O_RDONLY for holder in self._holders.get(number, ()))

    def is_away(self, peer: Peer, copy: socket.socket) -> bool | None:
        """Whether the other end is no program's of this clock; None: that is not known yet."""
        if copy.family == socket.AF_UNIX:
            with suppress(OSError):
                return _starter_of(copy) not in self._world.processes
            return None
        if copy.family not in _INTERNET:
            return True
        address = peer.address
        with suppress(OSError):
            address = copy.getpeername()[:2]
        if address is None:
            return None
        here, there = _endpoint(copy.getsockname()), _endpoint(address)
        return not any(_is_other_end(one, here, there) for one in self._sockets)


def _endpoint(address: Sequence[Any]) -> Endpoint:
    """Return what `socket.getsockname` and the like give."""
    host = address[0].partition("%")[0]
    ip = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    return Endpoint(ip.removeprefix(_MAPPED), address[1])


def _is_loopback(ip: bytes) -> bool:
    return ip[0] == _LOOPBACK_NET if len(ip) == _IPV4_SIZE else ip == _LOOPBACK6


def _name_of(copy: socket.socket) -> SocketName | None:
    """Return the addresses of a socket; None where it has none for good yet."""
    if copy.family not in _INTERNET:
        return None
    here, there = _endpoint(copy.getsockname()), None
    with suppress(OSError):
        there = _endpoint(copy.getpeername())
    takes = copy.type == socket.SOCK_DGRAM or _accepts(copy)
    return SocketName(here, there) if there or (takes and here.port) else None


def _is_other_end(one: SocketName, here: Endpoint, there: Endpoint) -> bool:
    """Whether a socket is at the other end of a connection, or what accepts it there."""
    if one.there is not None:
        return (one.here, one.there) == (there, here)
    is_near = _is_loopback(there.ip) or not any(there.ip) or there.ip == here.ip
    is_there = not any(one.here.ip) or one.here.ip == there.ip
    return one.here.port == there.port and is_near and is_there
