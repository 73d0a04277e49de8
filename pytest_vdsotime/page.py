"""The shared page of a clock: native_stub/program/page.h in Python, and the memfd that carries it.

The memfd holds the header pages and the image of the fake vDSO, so that one descriptor is all
that a new program needs. It is sealed: nobody but this process can ever map it writable, and this
process only through the mapping made before the seal (F_SEAL_FUTURE_WRITE, fcntl(2)).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple, Protocol

from pytest_vdsotime.abi import constant, offset, packer
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.image import HostVdso, VdsoImage
from pytest_vdsotime.kernel import memory, procfs
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.stamps import HISTORY_SIZE, Stamps
from pytest_vdsotime.timeline import (
    CLOCKS,
    NO_OFFSETS,
    ClockRow,
    HostClocks,
    Lines,
    Rate,
    TimeOffsets,
    now_ns,
)

PAGE_SIZE = constant("VDSO_PAGE_SIZE")
IMAGE_PAGE = constant("VDSO_HEADER_PAGES")
CLOCK_PAGE, PROCESS_PAGE, MARKER_PAGE = range(IMAGE_PAGE)
HEADER_SIZE = IMAGE_PAGE * PAGE_SIZE
COOKIE_SIZE = 16
#: In struct vdso_process the mark, which is the cookie; behind it room for what the kernel reads in
#: place of a program's own.
MARK_OFFSET, PROCESS_SIZE = offset("vdso_process", "mark"), packer("vdso_process").size
SLOT_SIZE, SLOTS = 96, 41

_SEQUENCE = packer("vdso_page", "seq", "seq")
_READING, _READINGS_OFFSET = packer("vdso_clock", "sec", "nsec"), offset("vdso_page", "clocks")
_CLOCK_IDS = constant("VDSO_CLOCK_IDS")
#: The bits of served ids, the lines, the clocks
_BODY = packer("vdso_page", "served", "clocks")
_READ_MOVING, _READ_PRIVATE = constant("VDSO_MOVING"), constant("VDSO_PRIVATE")
_READ_TICKING, _READ_COARSE = constant("VDSO_TICKING"), constant("VDSO_COARSE")
BODY_OFFSET = _SEQUENCE.size
BODY_SIZE = _BODY.size

_MFD_EXEC = constant("MFD_EXEC")  # since Linux 6.3
_F_SEAL_FUTURE_WRITE = constant("F_SEAL_FUTURE_WRITE")  # since Linux 5.1
_NS_PER_S = 1_000_000_000


def pack_body(
    lines: Lines, host: HostClocks, *, private: bool, ahead: TimeOffsets = NO_OFFSETS
) -> bytes:
    """All of struct vdso_page but its sequence number.

    `private` is for a copy of the page: its readers also touch the marker page. `ahead` is for one
    in another time namespace: its readers find the host's CLOCK_MONOTONIC so far ahead.
    """
    pair = [
        line._replace(start_ns=line.start_ns + ahead.monotonic_ns)
        for line in (lines.wall, lines.monotonic)
    ]
    flags = _READ_PRIVATE if private else 0
    served, clocks = 0, [0] * (4 * _CLOCK_IDS)
    for clock_id, offset_ns in host.offsets_ns.items():
        served |= 1 << clock_id
        row = CLOCKS[clock_id]
        line, read = pair[row.line], _way_of_reading(row, pair[row.line].rate)
        base_ns = line.base_ns - line.start_ns if read & _READ_TICKING else line.base_ns
        reading_ns = base_ns + offset_ns + ahead.of(clock_id)
        seconds, nanoseconds = divmod(reading_ns, _NS_PER_S)
        clocks[4 * clock_id : 4 * clock_id + 4] = seconds, nanoseconds, read | flags, row.line
    values = [served]
    for line in pair:
        values += line.start_ns % 2**64, line.rate.mult, line.rate.shift, 0  # read as signed
    return _BODY.pack(*values, *clocks)


def _way_of_reading(row: ClockRow, rate: Rate) -> int:
    if row.is_coarse and rate.mult:
        return _READ_MOVING | _READ_COARSE
    if rate.value == 1:
        return _READ_TICKING
    return _READ_MOVING if rate.mult else 0


class PageCopy(Protocol):
    """A private copy of the clock page in a program.

    For one that cannot map the shared page, or is in another time namespace.
    """

    address: int
    """Where it is there."""
    offsets: TimeOffsets
    """Of that."""

    def open(self) -> int:
        """Return a descriptor of the program's memory. Raises as `write`."""

    def write(self, offset: int, data: bytes) -> None:
        """Write into the copy.

        Raises ProcessLookupError when its program is gone, OSError when there is no descriptor to
        write through.
        """


class Part(NamedTuple):
    """What a kind of program maps of the memfd: header pages and its image of the fake vDSO."""

    offset: int
    size: int
    stamps: int = 0
    """Where in it the history of the wall line begins; 0: none."""

    def code_at(self, mapped: int) -> range:
        """Where it runs code of it, mapped there."""
        return range(mapped, mapped + (self.stamps or self.size))

    def stamps_at(self, mapped: int) -> int:
        """Where the history is, mapped there; 0: nowhere."""
        return self.stamps and mapped + self.stamps


class PrivateCopy:
    """See PageCopy; written through /proc/PID/mem.

    It holds no descriptor: however many such programs there are, the test process keeps its own.
    """

    def __init__(self, pid: int, address: int, mark: bytes, offsets: TimeOffsets) -> None:
        self.pid = pid
        self.address = address
        self.offsets = offsets
        self._mark = mark

    def open(self) -> int:
        """Return a descriptor of the program's memory.

        Raises ProcessLookupError when its program is gone, or has just executed another, whose
        memory is another; OSError when there is no descriptor for it.
        """
        with self._memory() as memory:
            return os.dup(memory.fileno())

    def write(self, offset: int, data: bytes) -> None:
        """Write into the copy. Raises as `open`."""
        with self._memory() as memory:
            memory.write(self.address + offset, data)

    @contextmanager
    def _memory(self) -> Iterator[ProcessMemory]:
        mark = self.address + PROCESS_PAGE * PAGE_SIZE + MARK_OFFSET
        try:
            with ProcessMemory(self.pid) as memory:
                if memory.read(mark, len(self._mark)) == self._mark:
                    yield memory
                    return
        except (FileNotFoundError, ProcessLookupError):
            pass
        except OSError:
            if procfs.is_mapped(self.pid, self.address):  # else it has just executed another
                raise
        raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has no copy of the clock")


class ClockPage:
    """The memfd and the page in it; the one writer of every reading a program gets.

    The memfd has a part for each kind of program, but one clock page: that of the first part.

    Owned by one clock. Not thread-safe: the clock calls it from one thread at a time.
    """

    def __init__(
        self, lines: Lines, images: Mapping[str, bytes], *, has_history: bool = False
    ) -> None:
        """`images`: by the kind of program; `has_history`: stamps of files may follow the clock.

        Raises OSError (EMFILE, ENFILE, ENOMEM) when no memfd can be had.
        """
        self._host = HostClocks.read()
        self._sequence = 0
        self.lines = lines
        self.copies: list[PageCopy] = []
        self.stamps: Stamps | None = None
        """Of files, where they follow the clock."""
        self.serves_one_clock = False
        """A program that outlives the clock has had it."""
        self._failure: OSError | None = None
        self._stub: tuple[int, int] | tuple[()] = ()
        """Where its fake image is in this process, and how large, for `reader`."""
        self.cookie = os.urandom(COOKIE_SIZE)
        self.parts: dict[str, Part] = {}
        end = 0
        for name, image in images.items():
            self.parts[name] = Part(end, HEADER_SIZE + -(-len(image) // PAGE_SIZE) * PAGE_SIZE)
            end += self.parts[name].size
        self.history_pages = (end // PAGE_SIZE, HISTORY_SIZE) if has_history else (0, 0)
        """Which page of the memfd the history begins with, and its size in bytes."""
        # Programs of the last kind map it with their image, behind which it lies.
        if has_history and (len(self.parts) > 1 or not host_arch().maps_history_apart):
            self.parts[name] = Part(
                self.parts[name].offset, self.parts[name].size + HISTORY_SIZE, self.parts[name].size
            )
        end += self.history_pages[1]
        self.fd = self._create()
        self.inode = os.fstat(self.fd).st_ino
        try:
            os.truncate(self.fd, end)
            for name, part in self.parts.items():
                os.pwrite(self.fd, self.cookie, part.offset + PROCESS_PAGE * PAGE_SIZE)
                os.pwrite(self.fd, images[name], part.offset + HEADER_SIZE)
            self._view = mmap.mmap(self.fd, PAGE_SIZE, mmap.MAP_SHARED)
            self._history: mmap.mmap | None = None
            if has_history:
                first, size = self.history_pages
                self._history = mmap.mmap(self.fd, size, mmap.MAP_SHARED, offset=first * PAGE_SIZE)
            seals = (
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
            )
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        except BaseException:
            os.close(self.fd)
            raise
        self.change(lambda _host_ns: lines)

    def renew(self, lines: Lines) -> None:
        """Be the page of another clock. Requires: no program has it any more."""
        self._host = HostClocks.read()
        self.change(lambda _host_ns: lines)

    @staticmethod
    def _create() -> int:
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        try:
            return os.memfd_create("vdsotime", flags | _MFD_EXEC)
        except OSError:
            # EINVAL before Linux 6.3; EACCES where vm.memfd_noexec forbids executable ones. Then
            # the page is still shared, and the image becomes anonymous memory in each program.
            return os.memfd_create("vdsotime", flags)

    def serves(self, clock_id: int) -> bool:
        """Whether programs read a line by this id.

        If not, the id is the kernel's to answer or refuse.
        """
        return clock_id in self._host.offsets_ns

    def offset_ns(self, clock_id: int) -> int:
        """How far a served clock is from its line."""
        return self._host.offsets_ns[clock_id]

    def move_tai(self, by_ns: int) -> None:
        """Have CLOCK_TAI be that much further ahead of its line.

        For programs from the next change on.
        """
        offsets_ns = self._host.offsets_ns
        tai_ns = offsets_ns[time.CLOCK_TAI] + by_ns
        self._host = HostClocks({**offsets_ns, time.CLOCK_TAI: tai_ns})

    def reading_ns(self, clock_id: int, host_ns: int) -> int:
        """Return what a program reads from a served clock.

        When the host's clock for it (`host_id` in CLOCKS) reads `host_ns`.
        """
        line = self.lines.line(CLOCKS[clock_id].line)
        return line.at(host_ns) + self._host.offsets_ns[clock_id]

    def change(self, to: Callable[[int], Lines]) -> Lines:
        """Move the lines to ``to(host_ns)`` for every reader at once, and return them.

        Readers wait from before `host_ns` is sampled until the new lines stand, so that none reads
        the old line beyond the point where the new one starts. When `to` raises nothing changes.

        Raises OSError when a private copy could not be reached; the others have changed.
        """
        self._failure = None
        self._publish(self._sequence + 1)
        try:
            self.lines = to(now_ns())
            self._view[BODY_OFFSET : BODY_OFFSET + BODY_SIZE] = pack_body(
                self.lines, self._host, private=False
            )
            if self.stamps is not None:
                self.stamps.note(self.lines)
            if self.copies:
                offsets = {copy.offsets for copy in self.copies}
                bodies = {one: self._private_body(one) for one in offsets}
                self._write_copies(BODY_OFFSET, lambda copy: bodies[copy.offsets])
        finally:
            self._publish(self._sequence + 1)
        if self._failure is not None:
            raise self._failure
        return self.lines

    @property
    def address(self) -> int:
        """The address of the page in this process, for the native part to write to.

        See native_stub/tracer/engine.c.
        """
        return ctypes.addressof(ctypes.c_char.from_buffer(self._view))

    def follow(self, stamps: Stamps | None) -> None:
        """Have stamps of files follow the wall line, or not. Requires: no program has the page."""
        self.stamps = stamps
        if stamps is not None and self._history is not None:
            stamps.move_to(self._history)

    @property
    def stamps_address(self) -> int:
        """That of the history of its wall line, or 0."""
        return 0 if self.stamps is None else self.stamps.address

    def current(self) -> Lines:
        """Return the lines as programs read them: the native part may be moving both on.

        Any thread may ask. While they are being changed here, they are those of before or after.
        """
        with suppress(ValueError):  # it is being closed
            while not self._sequence % 2:
                number, lines = self._view[:BODY_OFFSET], self.lines
                seconds, nanoseconds = _READING.unpack_from(self._view, _READINGS_OFFSET)
                (sequence,) = _SEQUENCE.unpack(number)
                if number == self._view[:BODY_OFFSET] and not sequence % 2:
                    wall = lines.wall
                    known_ns = wall.base_ns - (wall.start_ns if wall.rate.value == 1 else 0)
                    by_ns = seconds * _NS_PER_S + nanoseconds - known_ns
                    return lines.shifted(by_ns) if by_ns else lines
        return self.lines

    def was_advanced(self, by_ns: int) -> None:
        """Note that the native part has moved both lines on."""
        (self._sequence,) = _SEQUENCE.unpack(self._view[:BODY_OFFSET])
        self.lines = self.lines.shifted(by_ns)

    def _publish(self, sequence: int) -> None:
        self._sequence = sequence % 2**32
        number = _SEQUENCE.pack(self._sequence)
        self._view[:BODY_OFFSET] = number
        if self.copies:
            self._write_copies(0, lambda _copy: number)

    def _write_copies(self, offset: int, data: Callable[[PageCopy], bytes]) -> None:
        for copy in tuple(self.copies):
            try:
                copy.write(offset, data(copy))
            except ProcessLookupError:
                self.copies.remove(copy)
            except OSError as error:
                self._failure = error

    def _private_body(self, offsets: TimeOffsets) -> bytes:
        return pack_body(self.lines, self._host, private=True, ahead=offsets)

    def private_copy(self, offsets: TimeOffsets = NO_OFFSETS) -> bytes:
        """Return what a new private copy starts with."""
        return _SEQUENCE.pack(self._sequence) + self._private_body(offsets)

    def reader(self, kind: str, fake: VdsoImage, host: HostVdso) -> tuple[int, int]:
        """Return the address of the fake image's clock_gettime here, and its clock ids as bits.

        (0, 0) where the kernel's own image reads clocks by system calls.
        """
        part = self.parts[kind]
        if part.offset or not procfs.reads_clocks_in_user_space():
            return 0, 0
        if not self._stub:
            entries, size = (
                host.process_entries(procfs.own_vdso(), self.cookie),
                len(part.code_at(0)),
            )
            self._stub = memory.map_stub(self.fd, size, entries, PAGE_SIZE), size
        address = self._stub[0] + HEADER_SIZE + (fake.offset(host.arch.vdso_entries[0]) or 0)
        served = sum(1 << clock_id for clock_id in self._host.offsets_ns)
        return (address, served) if self._stub[0] else (0, 0)

    def close(self) -> None:
        """Give up the memfd; programs that mapped it keep their mapping."""
        if self._stub:
            memory.unmap(*self._stub)
            self._stub = ()
        self._view.close()
        if self._history is not None:
            self._history.close()
        os.close(self.fd)
