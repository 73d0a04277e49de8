"""System calls that tell time stamps of files or set them, and those that open files of /proc.

With ``files="follow"`` alone: the kernel answers, and at the exit of the call its stamps become the
clock's (stamps.py). "Now" is written as the host's stamp, which reads as the clock's now.
"""

from __future__ import annotations

import errno
from functools import partial

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch.model import StampLayout
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.stamps import Stamps
from pytest_vdsotime.timeline import NS_PER_S
from pytest_vdsotime.tracer.call import Answer, CallRow, Refused, Request, Substitute
from pytest_vdsotime.tracer.calls import machine
from pytest_vdsotime.tracer.calls.machine import MachineFile

_NOW, _OMIT = 0x3FFFFFFF, 0x3FFFFFFE  # UTIME_NOW, UTIME_OMIT (linux/stat.h)
_NS_PER_US = 1000
_STAMPS_LEFT, _OPENED_FILE = constant("STAMPS_LEFT"), constant("OPENED_FILE")
_EMPTY_PATH = constant("AT_EMPTY_PATH")
#: Which argument has the flags.
_FLAGS = {"newfstatat": 3, "fstatat64": 3, "statx": 2}
#: For a call by descriptor that by path.
_BY_PATH = {"fstat": "newfstatat", "fstat64": "fstatat64"}


def _stat(name: str, request: Request) -> Answer:
    stamps, layout = request.process.world.page.stamps, request.abi.stamps[name]
    if stamps is None:
        return None

    def told(result: int) -> int:
        if result == 0:
            _tell(request, stamps, layout, request.arguments[layout.argument])
        return result

    def told_of_other(stopped: Stopped, result: int) -> int:
        request.stopped = stopped
        return told(result)

    other = _served(name, request) if request.process.rewinds else None
    return told if other is None else other._replace(on_exit=told_of_other)


def _served(name: str, request: Request) -> Substitute | None:
    """Of a descriptor of a memfd that is served: what it stands for is asked by its path."""
    by_path = _BY_PATH.get(name)
    if by_path is None:
        flags = _FLAGS.get(name)
        is_of_path = flags is None or not request.number(flags) & _EMPTY_PATH
        if is_of_path or request.read(request.arguments[1], 1) != b"\0":
            return None
    file = MachineFile.served(request.stopped.tid, request.number(0))
    if file is None:
        return None
    path = file.own_path.encode() + b"\0"
    if by_path is None:
        return Substitute(1, path)
    return Substitute(1, path, instead=(by_path, {2: request.arguments[1], 3: 0}))


def _left(request: Request) -> Answer:
    """Tell what the program could not find itself (native_stub/program/vdso.c)."""
    stamps = request.process.world.page.stamps
    if stamps is None:
        return None
    for name, layout in request.abi.stamps.items():
        if request.abi.syscalls[name] == request.arguments[2]:
            _tell(request, stamps, layout, request.arguments[1])
            return 0
    raise Refused(errno.EBADF)  # as the kernel has it


def _tell(request: Request, stamps: Stamps, layout: StampLayout, address: int) -> None:
    """Have the stamps that a call has left at `address` be the clock's."""
    first, size = min(layout.places), layout.second_size + layout.nanosecond_size
    cut_ns = 1 if layout.nanosecond_size else NS_PER_S
    was = request.read(address + first, max(layout.places) + size - first)
    data = bytearray(was)
    for place in layout.places:
        at = place - first
        middle, end = at + layout.second_size, at + size
        second = int.from_bytes(data[at:middle], "little", signed=layout.second_size == 8)
        reading = stamps.reading(second, int.from_bytes(data[middle:end], "little"), cut_ns)
        if reading is not None:
            # What does not fit is cut, as by the kernel (cp_new_stat, fs/stat.c).
            parts = zip(reading, (layout.second_size, layout.nanosecond_size), strict=True)
            data[at:end] = b"".join(
                (value % 2 ** (8 * width)).to_bytes(width, "little") for value, width in parts
            )
    if data != was:
        request.write(address + first, bytes(data))


def _set_stamps(argument: int, unit_ns: int, request: Request) -> Answer:
    """Keep both stamps of a utimensat or utimes, as the program gives them."""
    stamps, address = request.process.world.page.stamps, request.arguments[argument]
    if stamps is not None:
        size = request.abi.pair(request.time64).size
        data = request.read(address, 2 * size)
        for start in (0, size):
            seconds, rest = request.pair_in(data[start : start + size])
            if rest not in (_NOW, _OMIT):
                stamps.keep(seconds, rest % 2**32 * unit_ns % 2**32)
    return None


def _utime(request: Request) -> Answer:
    stamps, size = request.process.world.page.stamps, request.abi.long_size
    if stamps is not None:
        data = request.read(request.arguments[1], 2 * size)
        for part in (data[:size], data[size:]):
            stamps.keep(int.from_bytes(part, "little", signed=True), 0)
    return None


def _open(request: Request) -> Answer:
    if request.process.world.page.stamps is None:
        return None

    def opened(result: int) -> int:
        if result >= 0:
            request.process.opened = result
        return result

    return opened


def _opened(request: Request) -> Answer:
    if request.process.world.page.stamps is None:
        return None

    def ended(_result: int) -> int:
        request.process.opened = request.number(1)
        return 0

    return ended


def _rewind(request: Request) -> Answer:
    """Renew a file that tells the clock's time, which is about to be read again."""
    if request.process.world.page.stamps is not None and request.process.rewinds:
        try:
            machine.renew(request.process, request.stopped.tid, request.number(0))
        except OSError as error:  # no file of its, or one that it cannot have written
            procfs.check_shortage(error)
    return None


def _pread(request: Request) -> Answer:
    left = {_STAMPS_LEFT: _left, _OPENED_FILE: _opened}.get(request.number(0), _rewind)
    return left(request)


_STATS = {
    *("stat", "lstat", "fstat", "newfstatat", "statx", "oldstat", "oldlstat", "oldfstat"),
    *("stat64", "lstat64", "fstat64", "fstatat64"),
}
_OPENING = tuple(CallRow(name, _open) for name in ("open", "openat", "openat2"))
_REWINDING = (
    CallRow("lseek", _rewind, Match(1, (0,))),
    CallRow("_llseek", _rewind, Match(2, (0,))),
    CallRow("pread64", _pread, Match(3, (0,))),
    *(CallRow(name, _rewind, Match(3, (0,))) for name in ("preadv", "preadv2")),
)
_SETTING = (
    CallRow("utimensat", partial(_set_stamps, 2, 1), pointer=2),
    CallRow("utimensat_time64", partial(_set_stamps, 2, 1), pointer=2, time64=True),
    CallRow("futimesat", partial(_set_stamps, 2, _NS_PER_US), pointer=2),
    CallRow("utimes", partial(_set_stamps, 1, _NS_PER_US), pointer=1),
    CallRow("utime", _utime, pointer=1),
)
FILE_CALLS = (
    *(CallRow(name, partial(_stat, name)) for name in sorted(_STATS)),
    *_OPENING,
    *_REWINDING,
    *_SETTING,
)
#: By name, what the fast path knows them as.
KINDS = {
    row.name: constant(kind)
    for kind, rows in (
        ("OPENS_FILE", _OPENING),
        ("REWINDS_FILE", _REWINDING),
        ("ASKS_FOR_MORE", [row for row in _REWINDING if row.name == "pread64"]),
        ("SETS_STAMPS", _SETTING),
    )
    for row in rows
}
