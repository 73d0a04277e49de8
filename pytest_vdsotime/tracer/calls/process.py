"""System calls by which a program changes what its tracer may do with it, or whether it has one."""

from __future__ import annotations

import errno
import os

from pytest_vdsotime.abi import constant
from pytest_vdsotime.events import EventKind
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.tracer.call import Answer, CallRow, NotThere, Refused, Request, Substitute

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = constant("PR_GET_DUMPABLE"), constant("PR_SET_DUMPABLE")
_PR_SET_SECCOMP = constant("PR_SET_SECCOMP")
_SECCOMP_SET_MODE_FILTER = constant("SECCOMP_SET_MODE_FILTER")
_CLONE_UNTRACED, _CLONE_NEWTIME = constant("CLONE_UNTRACED"), constant("CLONE_NEWTIME")
_CLONE_ARGS_FLAGS_SIZE = 8  # struct clone_args begins with its flags (clone(2))
_MAX_CLONE_ARGS = 96


def _prctl(request: Request) -> Answer:
    if request.number(0) == _PR_SET_SECCOMP:
        return _installs_filter(request)
    return _dumpable(request)


def _dumpable(request: Request) -> Answer:
    """Answer prctl of a program that is to be undumpable.

    An ordinary user may not look into one, its tracer neither (ptrace(2)): so there the program
    stays as it is, and gets the answer that it has changed, which it could tell by trying alone.
    """
    process = request.process
    if os.geteuid() == 0:
        return None
    if request.number(0) == _PR_GET_DUMPABLE:
        return None if process.says_dumpable else 0
    if request.arguments[1] in (0, 1):
        process.says_dumpable = bool(request.arguments[1])
        return 0
    return None  # the kernel refuses it


def _seccomp(request: Request) -> Answer:
    return _installs_filter(request)


def _installs_filter(request: Request) -> Answer:
    """Return what it filters may be what its takeover at exec would call."""

    def installed(result: int) -> int:
        if result == 0:
            request.process.has_own_filter = True
        return result

    return installed


def _clone(request: Request) -> Answer:
    """CLONE_UNTRACED would let the child out of the clock and of every bound (clone(2))."""
    flags = request.arguments[0] & ~_CLONE_UNTRACED
    return Substitute(0, value=flags)


def _clone3(request: Request) -> Answer:
    address, size = request.arguments[:2]
    if not _CLONE_ARGS_FLAGS_SIZE <= size <= _MAX_CLONE_ARGS:
        return None  # the kernel refuses it, or it is of a later kernel
    try:
        arguments = request.read(address, size)
    except (Refused, NotThere):
        return None
    flags = int.from_bytes(arguments[:_CLONE_ARGS_FLAGS_SIZE], "little")
    request.process.changes_time_namespace |= bool(flags & _CLONE_NEWTIME)
    if not flags & _CLONE_UNTRACED:
        return None
    changed = (flags & ~_CLONE_UNTRACED).to_bytes(_CLONE_ARGS_FLAGS_SIZE, "little")
    return Substitute(0, data=changed + arguments[_CLONE_ARGS_FLAGS_SIZE:])


def _ptrace(request: Request) -> Answer:
    """Who is traced already is refused a tracer, which is worth knowing."""

    def answered(result: int) -> int:
        if result == -errno.EPERM:
            request.process.world.record(
                EventKind.REFUSED, request.process.pid, request.number(0), request.task.tid
            )
        return result

    return answered


def _userfaultfd(request: Request) -> Answer:
    request.process.provides_memory = True
    return None


def _unshare(request: Request) -> Answer:
    """Note that what the process starts will be in another time namespace.

    And what it executes; the process itself is not yet.
    """
    request.process.changes_time_namespace = True
    return None


def _setns(request: Request) -> Answer:
    process = request.process

    def entered(result: int) -> int:
        process.changes_time_namespace |= procfs.has_time_namespace(request.stopped.tid)
        return result

    return entered


def _io_uring_setup(request: Request) -> Answer:
    """Refuse io_uring while waits or files follow the clock: those in it are not seen.

    Programs use their other path, as under many sandboxes.
    """
    process = request.process
    return -errno.ENOSYS if any(process.world.filter) and not process.is_skipped else None


PROCESS_CALLS = (
    CallRow("io_uring_setup", _io_uring_setup),
    CallRow(
        "prctl",
        _prctl,
        Match(argument=0, values=(_PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_SET_SECCOMP)),
    ),
    CallRow("seccomp", _seccomp, Match(argument=0, values=(_SECCOMP_SET_MODE_FILTER,))),
    CallRow("clone", _clone, Match(argument=0, any_bits=_CLONE_UNTRACED)),
    CallRow("clone3", _clone3),
    CallRow("ptrace", _ptrace),
    CallRow("userfaultfd", _userfaultfd),
    CallRow("unshare", _unshare, Match(argument=0, any_bits=_CLONE_NEWTIME)),
    CallRow("setns", _setns),
)
