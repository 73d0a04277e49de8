"""Descriptors of other processes: pidfd_getfd(2), kcmp(2), and the ioctl of timerfd_create(2)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import signal
import socket
import struct
import time
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Generic, TypeVar

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.timeline import NS_PER_S

T = TypeVar("T")
# The headers that abi.json comes from are too old for these two.
_PIDFD_THREAD = os.O_EXCL  # linux/pidfd.h, since Linux 6.9
_DUPFD_QUERY = 1027  # F_DUPFD_QUERY, linux/fcntl.h, since Linux 6.10
_KCMP_FILE, _KCMP_VM = constant("KCMP_FILE"), constant("KCMP_VM")
_REFUSED = "allow pidfd_getfd (in a container: --cap-add=SYS_PTRACE)"
_REMEDIES = {
    errno.ENOSYS: f"{_REFUSED}; without a sandbox it takes Linux 5.6 or later",
    errno.EMFILE: "raise the tests' limit of open files (RLIMIT_NOFILE, ulimit -n)",
    errno.ENOTTY: "it takes a kernel with CONFIG_CHECKPOINT_RESTORE",  # of check_ticks
}
_ITIMERSPEC = struct.Struct("=qqqq")  # interval, then value
_MAX_TICKS = 2**64 - 1
#: An expiration that the kernel may come to while a timerfd is disarmed.
_NEAR_NS = 50_000
#: One that may be come to as its thread waits for a processor; how much a read of it tells.
_SOON_NS, _EXPIRATIONS_SIZE = 10**8, 8
#: How long a look at a timerfd may take for it to be known of when it is; how often it is tried.
_DELAY_NS, _MOST_LOOKS = 10**6, 100
_TFD_IOC_SET_TICKS = constant("TFD_IOC_SET_TICKS")

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(name: str, *arguments: int) -> int:
    number = host_arch().syscalls[name]
    result: int = _libc.syscall(*(ctypes.c_long(one) for one in (number, *arguments)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def remedy(error: OSError) -> str:
    """Return what to do about an error of these functions."""
    return _REMEDIES.get(error.errno or 0, _REFUSED)


def of_process(pid: int) -> int:
    """Return a descriptor of a process. Raises OSError, with the call's name."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise OSError(error.errno, f"pidfd_open: {error.strerror}") from error


def copy_of(tid: int, fd: int) -> int:
    """Return a copy of a thread's descriptor.

    Raises OSError: before Linux 6.9, for a thread with descriptors of its own, or whose process's
    first thread has ended.
    """
    owner = tid
    try:
        pidfd = os.pidfd_open(tid, _PIDFD_THREAD)
    except OSError:
        owner = procfs.thread_group(tid) or tid
        pidfd = of_process(owner)
    try:
        copy = _call("pidfd_getfd", pidfd, fd, 0)
    finally:
        os.close(pidfd)
    try:
        if owner == tid or _compare(copy, tid, fd):
            return copy
        raise OSError(errno.EBADF, f"pidfd_getfd: thread {tid} has descriptors of its own")
    except OSError:
        os.close(copy)
        raise


@contextmanager
def socket_of(pid: int, descriptor: int) -> Iterator[socket.socket | None]:
    """Give a copy of a process's socket; None where that is refused, or there is none."""
    try:
        number = copy_of(pid, descriptor)
    except OSError:
        yield None
        return
    timeout = socket.getdefaulttimeout()
    try:
        if timeout is not None:  # with which Python has the program's own socket not block
            socket.setdefaulttimeout(None)
        copy = socket.socket(fileno=number)
    except OSError:
        os.close(number)
        yield None
        return
    finally:
        if timeout is not None:
            socket.setdefaulttimeout(timeout)
    with copy:
        yield copy


def is_copy(copy: int, tid: int, fd: int) -> bool:
    """Whether a descriptor of this process and one of another are of one open file."""
    try:
        return _compare(copy, tid, fd)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            return False  # one is closed
    # Containers refuse kcmp where they allow pidfd_getfd.
    try:
        other = copy_of(tid, fd)
    except OSError:
        return False
    try:
        return _are_of_one_file(copy, other)
    finally:
        os.close(other)


class OpenFiles(Generic[T]):
    """What is known of open files, by a descriptor of this process for each.

    One is found in few comparisons, as kcmp(2) tells an order of files; where it is refused, all
    are looked at.
    """

    def __init__(self) -> None:
        self._known: dict[int, T] = {}
        self._ordered: list[int] = []
        self._is_ordered = True

    def add(self, copy: int, what: T) -> None:
        """Have `find` return this for any descriptor of the file."""
        self._known[copy] = what
        try:
            insort(self._ordered, copy, key=lambda one: _order(one, os.getpid(), copy))
        except OSError:
            self._is_ordered = False

    def remove(self, copy: int) -> None:
        """Forget a file."""
        del self._known[copy]
        if copy in self._ordered:
            self._ordered.remove(copy)

    def find(self, tid: int, fd: int) -> T | None:
        """Return what is known of the file that a thread's descriptor is of."""
        with suppress(OSError):
            at = bisect_left(self._ordered, 0, key=lambda one: _order(one, tid, fd))
            found = self._ordered[at : at + 1]
            if found and _compare(found[0], tid, fd):
                return self._known[found[0]]
            if self._is_ordered:
                return None
        return next((one for copy, one in self._known.items() if is_copy(copy, tid, fd)), None)


def share_memory(pid: int, other: int) -> bool:
    """Whether two processes have one memory (CLONE_VM, clone(2)), as far as kcmp(2) may tell.

    By threads that have not ended: those have no memory any more, which is equal for kcmp(2) too.
    """
    one, another = _living_thread(pid), _living_thread(other)
    with suppress(OSError):
        return bool(one and another) and _call("kcmp", one, another, _KCMP_VM, 0, 0) == 0
    return False


def _living_thread(pid: int) -> int:
    """Return a thread of a process that has not ended, as its first one may have; else 0."""
    if not procfs.has_ended(pid):
        return pid
    return next((tid for tid in procfs.threads(pid) if not procfs.has_ended(tid)), 0)


def _compare(copy: int, tid: int, fd: int) -> bool:
    return _order(copy, tid, fd) == 0


def _order(copy: int, tid: int, fd: int) -> int:
    """Return whether the one's open file is before the other's (-1), the same (0), or behind it."""
    return {0: 0, 1: -1}.get(_call("kcmp", os.getpid(), tid, _KCMP_FILE, copy, fd), 1)


def _are_of_one_file(one: int, other: int) -> bool:
    """Of two descriptors of this process.

    Before Linux 6.10, by a property of open files that means nothing to a timerfd (F_SETSIG,
    fcntl(2)): it is put back.
    """
    with suppress(OSError):
        return fcntl.fcntl(one, _DUPFD_QUERY, other) == 1
    before = fcntl.fcntl(one, fcntl.F_GETSIG)
    try:
        for number in (signal.SIGRTMIN, signal.SIGRTMAX):
            fcntl.fcntl(one, fcntl.F_SETSIG, number)
            if fcntl.fcntl(other, fcntl.F_GETSIG) != number:
                return False
        return True
    finally:
        fcntl.fcntl(one, fcntl.F_SETSIG, before)


def check_ticks() -> None:
    """Raise OSError where a timerfd's expirations cannot be set.

    ENOTTY on a kernel without CONFIG_CHECKPOINT_RESTORE.
    """
    timer = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    try:
        _set_ticks(timer, 1)
    finally:
        os.close(timer)


def add_ticks(copy: int, count: int) -> None:
    """Have a timerfd expire that often; what waits for it is woken."""
    _set_ticks(copy, min(_take_ticks(copy) + count, _MAX_TICKS))


def _take_ticks(copy: int, taken: int = 0) -> int:
    """Return how often a timerfd has expired, which no program is to read any more.

    With what was taken before. Before Linux 6.10, which cannot read a timerfd without waiting
    unless the program's own reads are not to wait either, a program that reads it just then is
    told as well.
    """
    ticks = bytearray(8)
    try:
        os.preadv(copy, [ticks], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        return taken
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return _unread_ticks(copy)
    return taken + int(struct.unpack("=Q", ticks)[0])


def _unread_ticks(copy: int) -> int:
    path = f"/proc/self/fdinfo/{copy}"
    found = re.search(r"^ticks: (\d+)$", procfs.read_text(path), re.MULTILINE)
    if found is None:
        raise OSError(errno.ENOENT, f"{path} does not tell a timerfd's expirations")
    return int(found[1])


def _set_ticks(copy: int, count: int) -> None:
    try:
        fcntl.ioctl(copy, _TFD_IOC_SET_TICKS, struct.pack("=Q", count))
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, f"TFD_IOC_SET_TICKS: {os.strerror(number)}") from None


def has_ticks(copy: int) -> bool:
    """Whether a timerfd has expired since it was read."""
    return _unread_ticks(copy) > 0


def arm_timerfd(copy: int, value_ns: int, interval_ns: int, *, is_absolute: bool = False) -> None:
    """Have a timerfd expire in `value_ns`, or then; it forgets what is unread."""
    spec = _ITIMERSPEC.pack(*divmod(interval_ns, NS_PER_S), *divmod(value_ns, NS_PER_S))
    if _libc.timerfd_settime(copy, int(is_absolute), spec, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")


def rearm_timerfd(copy: int, value_ns: int, interval_ns: int) -> None:
    """As `arm_timerfd`, but what is unread stays. Requires: no program reads it meanwhile."""
    unread = _take_ticks(copy)
    arm_timerfd(copy, value_ns, interval_ns)
    if unread:
        _set_ticks(copy, unread)


def first_expiration_ns(copy: int, interval_ns: int) -> int:
    """Return when a timerfd that nobody has read expires first, or has, by CLOCK_MONOTONIC.

    Not too early a time; 0: that is not known.
    """
    for _ in range(_MOST_LOOKS if not 0 < interval_ns < 4 * _NEAR_NS else 0):
        unread = _unread_ticks(copy)
        _, left_ns = _look(copy, interval_ns)
        told_ns = time.monotonic_ns()
        if _unread_ticks(copy) == unread:
            return told_ns + left_ns - unread * interval_ns if left_ns else 0
    return 0


def disarm_timerfd(copy: int, interval_ns: int, readers: Collection[int] = ()) -> int:
    """Return when it was to expire next, by the host's CLOCK_MONOTONIC; keep what is unread.

    0 if it was not to, or if it has come and did not count, as the kernel's interrupt was about to
    do that (do_timerfd_settime, fs/timerfd.c).

    It may expire meanwhile, and be read by a program. One that is near is waited for, if another is
    to come: the kernel's interrupt for the last may be late. Where it expires between the last look
    and the end all the same, as this thread had to wait for a processor, the kernel forgets it
    there, and how much the `readers` have read since tells whether it was read before.
    """
    unread = 0
    for looks in count(1):
        seen_ns, left_ns = _look(copy, interval_ns)
        unread = _take_ticks(copy, unread)
        near = readers if left_ns < _SOON_NS else ()
        read_before = _bytes_read(near)
        again_seen_ns, again_ns = _look(copy, interval_ns)
        later_ns = again_seen_ns + again_ns - seen_ns - left_ns
        has_expired = later_ns > interval_ns // 2 if interval_ns else left_ns and not again_ns
        if interval_ns and interval_ns < 4 * _NEAR_NS:
            break  # it always has: how often is known but roughly
        if has_expired and looks < _MOST_LOOKS:
            continue
        if not 0 < again_ns < _NEAR_NS or not interval_ns:
            break
        time.sleep(again_ns / NS_PER_S)
    before = ctypes.create_string_buffer(_ITIMERSPEC.size)
    begin_ns = time.monotonic_ns() - seen_ns
    if _libc.timerfd_settime(copy, 0, bytes(_ITIMERSPEC.size), before) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    end_ns = time.monotonic_ns() - seen_ns
    rest_ns = _value_ns(before.raw)
    least = most = int(left_ns > 0 and not rest_ns)
    if interval_ns:  # how late the call itself was is not known
        least = max(round((begin_ns + rest_ns - left_ns) / interval_ns), 0)
        most = max(round((end_ns + rest_ns - left_ns) / interval_ns), 0)
    were_read = 0
    if most:
        read_bytes = max(_bytes_read(near) - read_before, 0)
        were_read = min(read_bytes // _EXPIRATIONS_SIZE, most)
    meanwhile = max(least, were_read)
    if unread + meanwhile > were_read:
        _set_ticks(copy, unread + meanwhile - were_read)
    return seen_ns + left_ns + meanwhile * interval_ns if rest_ns else 0


def _bytes_read(pids: Iterable[int]) -> int:
    """Return how many bytes processes have read (`rchar`, proc_pid_io(5)).

    A kernel without CONFIG_TASK_IO_ACCOUNTING tells of none.
    """
    found = 0
    for pid in pids:
        fields = procfs.read_text(f"/proc/{pid}/io").split(maxsplit=2)
        found += int(fields[1]) if fields else 0  # it has ended, or the kernel does not tell
    return found


def _look(copy: int, interval_ns: int) -> tuple[int, int]:
    """Return how long it is until a timerfd expires, and since when, by the host's CLOCK_MONOTONIC.

    That is known well where no other thread or process has run meanwhile.
    """
    for looks in count(1):
        seen_ns, left_ns, told_ns = time.monotonic_ns(), _left_ns(copy), time.monotonic_ns()
        is_late = told_ns - seen_ns > _DELAY_NS and interval_ns >= 4 * _DELAY_NS
        if not is_late or looks == _MOST_LOOKS:
            break
    return seen_ns, left_ns


def _left_ns(copy: int) -> int:
    spec = ctypes.create_string_buffer(_ITIMERSPEC.size)
    if _libc.timerfd_gettime(copy, spec) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_gettime")
    return _value_ns(spec.raw)


def _value_ns(spec: bytes) -> int:
    _, _, seconds, nanoseconds = _ITIMERSPEC.unpack(spec)
    return int(seconds * NS_PER_S + nanoseconds)
