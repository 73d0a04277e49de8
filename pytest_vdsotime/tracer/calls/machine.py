"""Files that tell the machine's time: /proc/uptime, /proc/stat, /proc/PID/stat, utmp(5).

A program that opens one for reading gets a memfd of the same text on its clock
(`Takeover.serve_opened`), which is written anew when the program goes back to its beginning, as the
kernel makes the text of such a file when its first byte is read (seq_file).
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from stat import S_ISREG
from typing import NamedTuple

from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.timeline import NS_PER_S, now_ns
from pytest_vdsotime.tracer.state import Process

SERVED = "vdsotime:"  # how the names of the memfds begin
_TICK_NS = NS_PER_S // 100  # USER_HZ (times(2))
_UPTIME = re.compile(rb"(\d+)\.(\d\d) (\d+\.\d\d\n)")
_BTIME = re.compile(rb"^btime \d+$", re.MULTILINE)
_START = 20  # which word behind the name of a /proc/PID/stat (proc(5))
_SERVED_NAME = re.compile(rf"/memfd:{SERVED}(uptime|stat|utmp)(?:-(\d+))?(?:-(\d+))? \(deleted\)")
_NAME = re.compile(r"(?:^|/)(?:(\d+)/(?:task/(\d+)/)?)?(uptime|stat|utmp)$")
_BOOT_TIME = 2  # utmp(5)
_PROC_STAT = re.compile(rb"\d+ \(.*\) [A-Za-z](?: -?\d+){40,}\n", re.DOTALL)


#: File systems that have such files: lxcfs has its own over those of /proc.
_OF_PROC = "proc", "fuse.lxcfs"


@contextmanager
def _opened(path: str, flags: int) -> Iterator[FileIO]:
    """Open a file of a program's, which it may have put another in the place of: none waits."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "r+b" if flags & os.O_RDWR else "rb", buffering=0) as file:
        yield file


def _is_regular(tid: int, fd: int) -> bool:
    try:
        return S_ISREG(os.stat(f"/proc/{tid}/fd/{fd}").st_mode)
    except OSError as error:
        procfs.check_shortage(error)
        return False


class MachineFile(NamedTuple):
    """One that a program has opened."""

    kind: str
    """uptime, stat or utmp,"""
    pid: int = 0
    """and of a process which, as the file system numbers it,"""
    tid: int = 0
    """or of a thread of it."""

    @classmethod
    def opened(cls, tid: int, fd: int) -> MachineFile | None:
        """Return what a descriptor of a task is; None for any other file."""
        try:
            path = os.readlink(f"/proc/{tid}/fd/{fd}")
        except OSError as error:
            procfs.check_shortage(error)
            return None
        found = _NAME.search(path)
        if found is None or (found[1] and found[3] != "stat"):
            return None
        system = procfs.file_system_of(tid, fd)
        is_utmp = found[3] == "utmp" and system and not system.startswith("fuse")
        if not (is_utmp and _is_regular(tid, fd)) and system not in _OF_PROC:
            return None
        return cls(found[3], int(found[1] or 0), int(found[2] or 0))

    @classmethod
    def served(cls, tid: int, fd: int) -> MachineFile | None:
        """Return what a descriptor of a task is, where it is a memfd in place of one."""
        try:
            name = os.readlink(f"/proc/{tid}/fd/{fd}")
        except OSError as error:
            procfs.check_shortage(error)
            return None
        found = _SERVED_NAME.fullmatch(name)
        return found and cls(found[1], int(found[2] or 0), int(found[3] or 0))

    @property
    def name(self) -> str:
        """Of its memfd."""
        numbers = [str(number) for number in (self.pid, self.tid) if number]
        return SERVED + "-".join([self.kind, *numbers])

    @property
    def own_path(self) -> str:
        """Return where a program finds it again."""
        if self.kind == "utmp":
            return "/run/utmp"
        process = f"{self.pid}/" if self.pid else ""
        thread = f"task/{self.tid}/" if self.tid else ""
        return f"/proc/{process}{thread}{self.kind}"

    def text(self, process: Process, tid: int, path: str) -> bytes | None:
        """Return what a program is to read, in place of what `path` says.

        None where that is no such file, or tells nothing that is the clock's.
        """
        try:
            with _opened(path, os.O_RDONLY) as file:
                system = procfs.file_system_of(tid, file.fileno(), "self")
                if self.kind != "utmp" and system not in _OF_PROC:
                    return None
                was = file.read()
        except OSError as error:
            procfs.check_shortage(error)
            return None
        now = self._on_clock(was, process, tid)
        return None if now == was else now

    def _on_clock(self, was: bytes, process: Process, tid: int) -> bytes:
        if self.kind == "uptime":
            if uptime := _UPTIME.fullmatch(was):
                hundredths = _boot_ns(process) // _TICK_NS
                return b"%d.%02d %b" % (*divmod(hundredths, 100), uptime[3])
        elif self.kind == "utmp":
            return _utmp(was, process)
        elif not self.pid:
            return _BTIME.sub(b"btime %d" % _began_s(process), was)
        elif _PROC_STAT.fullmatch(was):
            number = self.tid or self.pid
            born_ns = process.world.births.get(_host_tid(number, process, tid))
            if born_ns is not None:
                return _with_start(was, (born_ns + _boot_offset_ns(process)) // _TICK_NS)
        return was


def _boot_offset_ns(process: Process) -> int:
    """How far CLOCK_BOOTTIME, as the program reads it, is ahead of its clock's monotonic line."""
    boot = time.CLOCK_BOOTTIME
    return process.world.page.offset_ns(boot) + process.time_offsets.of(boot)


def _boot_ns(process: Process) -> int:
    process.has_read_clock = True
    return process.world.page.lines.monotonic.at(now_ns()) + _boot_offset_ns(process)


def _began_s(process: Process) -> int:
    """When the machine was started, by the wall line; not before the epoch (show_stat)."""
    wall_ns = process.world.page.lines.wall.at(now_ns())
    return max((wall_ns - _boot_ns(process)) // NS_PER_S, 0)


def _with_start(stat: bytes, ticks: int) -> bytes:
    head, end, tail = stat.rpartition(b") ")
    words = tail.split(b" ")
    words[_START - 1] = b"%d" % ticks
    return head + end + b" ".join(words)


def _utmp(was: bytes, process: Process) -> bytes:
    """Return the records, of which that of the machine's start has the clock's."""
    arch = host_arch() if process.host is None else process.host.arch
    size, place, width = arch.utmp
    records, began_s = bytearray(was), _began_s(process) % 2 ** (8 * width)
    for start in range(0, len(was) - size + 1, size):
        if int.from_bytes(records[start : start + 2], "little") == _BOOT_TIME:
            time_at = slice(start + place, start + place + 2 * width)
            records[time_at] = began_s.to_bytes(width, "little") + bytes(width)
    return bytes(records)


def _host_tid(number: int, process: Process, tid: int) -> int:
    """Return the task that a number means to a program."""
    try:
        space = os.readlink(f"/proc/{tid}/ns/pid")
        if space == os.readlink("/proc/self/ns/pid"):
            return number
        for other in process.world.births:
            if procfs.number_within(other) == number:
                with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                    if os.readlink(f"/proc/{other}/ns/pid") == space:
                        return other
    except OSError as error:
        procfs.check_shortage(error)
    return 0


def renew(process: Process, tid: int, fd: int) -> None:
    """Write a memfd in place of a file of /proc anew, if that is what a program reads again."""
    file = MachineFile.served(tid, fd)
    if file is None or file.kind == "utmp":
        return
    text = file.text(process, tid, f"/proc/{tid}/root{file.own_path}")
    if text is not None:
        write(tid, fd, text)


def write(tid: int, fd: int, text: bytes) -> None:
    """Have a memfd of a task hold this; where it reads that stays as it is.

    Raises OSError when the task has ended, or has another file there meanwhile.
    """
    with _opened(f"/proc/{tid}/fd/{fd}", os.O_RDWR) as file:
        if not _SERVED_NAME.fullmatch(os.readlink(f"/proc/self/fd/{file.fileno()}")):
            raise OSError(errno.EBADF, f"descriptor {fd} of {tid} is another file")
        file.write(text)
        file.truncate()
