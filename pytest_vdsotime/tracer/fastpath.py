"""The native part of waiting (native_stub/tracer/fastpath.c), on the tracer thread.

A waitpid that lets stops which need no thought go on by itself.

It gives up the interpreter lock, so that neither a busy test thread nor this one keeps the other
waiting for what Python has no part in.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_vdsotime.abi import constant, fields, structure
from pytest_vdsotime.arch import Abi
from pytest_vdsotime.image import VdsoImage
from pytest_vdsotime.kernel.ptrace import OPTIONS, check_killed
from pytest_vdsotime.kernel.spawn import PendingSpawns
from pytest_vdsotime.kernel.takeover import Block
from pytest_vdsotime.kernel.wait import Stop, StopKind, decode, has_left_status, take_end
from pytest_vdsotime.page import COOKIE_SIZE, HEADER_SIZE, ClockPage

#: How many kinds of programs a kernel may run, as far as the fast path is concerned.
KINDS = constant("FASTPATH_KINDS")
_MARKS = "MARK_SKIPPED", "MARK_EXECS", "MARK_ASKS", "MARK_REWINDS"
_SKIPPED, _EXECS, _ASKS, _REWINDS = (constant(name) for name in _MARKS)
_LIST, _TASKS = constant("FASTPATH_LIST"), constant("FASTPATH_TASKS")
_STOP, _NEWS, _NOTHING = 0, constant("NEWS"), constant("NOTHING")
_RECORDS = 1 << 14
_PROGRAMS, _MAX_PATHS = constant("FASTPATH_PROGRAMS"), constant("EXECUTED_PATHS")
_MAX_NS = 2**63 - 1
_ADDRESS = struct.Struct("Q")


#: Events beside those of ptrace(2): of an end, and of a start's child that was seized.
END, CHILD = 0, constant("EVENT_CHILD")


class Entry(NamedTuple):
    """What the fast path has seen to."""

    event: int
    """A StopKind, END or CHILD."""
    tid: int
    what: int
    """At a birth the child, at an exec the former id, at an end the status."""
    base: int
    """At an exec where the vDSO is, at a birth whether the child is a thread."""
    kind: int
    """At an exec which of the blocks the program was given; KINDS: none, as it is in real time."""
    at_ns: int
    """When, by the host's CLOCK_MONOTONIC."""
    argv: bytes
    """At an exec how its arguments begin, each ended by a null byte."""


class Record(ctypes.Structure):
    """struct wait_record of native_stub/tracer/waits.h: a timed wait that the kernel times."""

    _fields_ = fields("wait_record")


class _FastPathStruct(ctypes.Structure):
    """struct fastpath of native_stub/tracer/fastpath.h."""

    _fields_ = fields("fastpath")


_NEXT_REPORT = (
    *(ctypes.POINTER(_FastPathStruct), ctypes.c_long, ctypes.POINTER(ctypes.c_int)),
    ctypes.c_long,
)


class _Tasks:
    """A set of task ids, which the native code has as an array and its length."""

    def __init__(self, structure: _FastPathStruct, name: str) -> None:
        self._structure, self._count = structure, f"{name}_count"
        self._array = getattr(structure, name)
        self._tids: list[int] = []
        self._places: dict[int, int] = {}

    def __contains__(self, tid: int) -> bool:
        return tid in self._places

    @property
    def is_full(self) -> bool:
        """Some are not in the array."""
        return len(self._tids) > _TASKS

    def add(self, tid: int) -> None:
        """Add one; nothing if it is there."""
        if tid not in self._places:
            self._tids.append(tid)
            self._write(len(self._tids) - 1)

    def discard(self, tid: int) -> None:
        """Remove one, the last one takes its place; nothing if it is not there."""
        place = self._places.pop(tid, None)
        if place is None:
            return
        last = self._tids.pop()
        if place < len(self._tids):
            self._tids[place] = last
            self._write(place)
        setattr(self._structure, self._count, min(len(self._tids), _TASKS))

    def _write(self, place: int) -> None:
        self._places[self._tids[place]] = place
        if place < _TASKS:
            self._array[place] = self._tids[place]
        setattr(self._structure, self._count, min(len(self._tids), _TASKS))


class FastPath:
    """Waits for the next stop that is the tracer's to handle."""

    def __init__(self, path: str, pending_spawns: PendingSpawns) -> None:
        library = ctypes.CDLL(path)
        self._function = library.fastpath
        self._function.argtypes = (ctypes.POINTER(_FastPathStruct),)
        self._function.restype = ctypes.c_long
        self._next_report = library.next_report
        self.structure = _FastPathStruct()
        self._waits = self.structure.waits
        quick = ctypes.PyDLL(path)  # keeps the interpreter lock
        self._poll_report = quick.next_report
        for function in (self._next_report, self._poll_report):
            function.argtypes = _NEXT_REPORT
            function.restype = ctypes.c_long
        self._find_record, self._drop_record = quick.find_record, quick.drop_record
        self._end_call = quick.end_call
        self._end_call.argtypes = ctypes.c_uint64, ctypes.c_long
        self._put_record = quick.put_record
        self._put_record.argtypes = ctypes.POINTER(structure("wait_table")), ctypes.POINTER(Record)
        self._put_record.restype = None
        self._pass = library.pass_deadlines
        self._pass.argtypes = ctypes.POINTER(_FastPathStruct), ctypes.POINTER(structure("engine"))
        self._pass.restype = ctypes.c_long
        self._move_lines = quick.move_lines
        self._move_lines.argtypes = ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64
        self._move_lines.restype = None
        self._find_record.restype = ctypes.POINTER(Record)
        for function in (self._find_record, self._drop_record):
            function.argtypes = (ctypes.POINTER(structure("wait_table")), ctypes.c_uint64)
        self.structure.asks_privilege = os.geteuid() != 0
        self.structure.seize_options = OPTIONS
        self.structure.spawns = ctypes.addressof(pending_spawns.places)
        self._pending_spawns = pending_spawns  # keeps it alive
        self._marks = mmap.mmap(-1, constant("MARKED_TASKS"))  # memory once it is written to
        self.structure.marks = ctypes.addressof(ctypes.c_char.from_buffer(self._marks))
        self._mapped = mmap.mmap(-1, 8 * constant("MARKED_TASKS"))  # likewise
        self.structure.mapped = ctypes.addressof(ctypes.c_char.from_buffer(self._mapped))
        self._known_programs: set[bytes] = set()
        self._special = _Tasks(self.structure, "special")
        self._watched = _Tasks(self.structure, "watched")
        self.spared: set[int] = set()
        """Children of this process that were attached to: their end is for who waits for it here.
        A tracer of the same process would take it for good (wait_task_zombie, kernel/exit.c)."""
        self.left: set[int] = set()
        """Those that have ended, until they were waited for. They stand before the ends of others,
        which only show task by task meanwhile (`poll`)."""
        self.hands_over_all = self.lets_calls_go = self.was_interrupted = False

    def to_python(self, tid: int, is_special: bool = True) -> None:
        """Whether every stop of a task is the tracer's from now on."""
        if is_special != (tid in self._special):
            (self._special.add if is_special else self._special.discard)(tid)

    def hear(self, waker: int) -> None:
        """Take the children that ring here; every other stop of this process is the tracer's."""
        self.structure.waker = waker
        self.to_python(waker)

    def to_native(self, tid: int) -> None:
        """Undo `to_python`."""
        self.to_python(tid, False)

    def watch(self, tid: int) -> None:
        """Leave the end of a task to the tracer, and report its execs at once."""
        self._watched.add(tid)

    def expect(self, tid: int) -> None:
        """Expect a stop of a task, to which it is interrupted, and which needs no thought."""
        count = self.structure.expected_count
        if count < _LIST:
            self.structure.expected[count] = tid
            self.structure.expected_count = count + 1
        else:
            self.to_python(tid)

    def forget(self, tid: int) -> None:
        """Forget a task that has ended."""
        self._special.discard(tid)
        self._watched.discard(tid)
        self.mark(tid, mapped=0)

    def _is_full(self) -> bool:
        return self._special.is_full or self._watched.is_full

    def take_over_with(self, blocks: Sequence[Block | None]) -> None:
        """Set what execs are answered with, by the kind of program, KINDS at most.

        None: those are the tracer's.
        """
        self._blocks = blocks  # keeps them alive
        addresses = [0 if one is None else ctypes.addressof(one.structure) for one in blocks]
        self.structure.blocks[:] = (*addresses, *[0] * (KINDS - len(blocks)))

    def select_by(self, *, patterns: bool) -> None:
        """Whether some programs are not on the clock; of none is it known which."""
        self.structure.selects, self.structure.program_count = patterns, 0
        self._known_programs.clear()

    def know_program(self, paths: Sequence[str], *, is_on_clock: bool) -> None:
        """Have it known of a program that was executed by these paths (takeover/exec.py)."""
        count = self.structure.program_count
        key = b"\0".join(map(os.fsencode, paths))
        if len(paths) != 2 or len(key) > _MAX_PATHS or key in self._known_programs:
            return
        if count < _PROGRAMS:
            self._known_programs.add(key)
            program = self.structure.programs[count]
            program.is_on_clock, program.executed.size = is_on_clock, len(key)
            ctypes.memmove(program.executed.paths, key, len(key))
            self.structure.program_count = count + 1

    def answer_reads(self, read_clock: int, served: int) -> None:
        """Raw clock_gettime of these clock ids is answered by a function in this process.

        0: by the tracer.
        """
        self.structure.read_clock, self.structure.served = read_clock, served

    def take_interest(self, interests: Mapping[int, int]) -> None:
        """Of tasks that stop at every system call the tracer sees these, by number.

        1 all, 2 and more those where argument 0 and so on is not null. With `lets_calls_go` the
        others go on.
        """
        for number, interest in interests.items():
            self.structure.interests[number] = interest

    def take_interest_in_marked(self, skipped: Iterable[int], asking: Iterable[int]) -> None:
        """Which system calls the tracer sees, by number.

        Of tasks in real time; of those that ask for their clock.
        """
        for numbers, mark in ((skipped, _SKIPPED), (asking, _ASKS)):
            for number in numbers:
                self.structure.of_marked[number] |= mark

    def mark(
        self,
        tid: int,
        *,
        is_skipped: bool = False,
        sees_exec: bool = False,
        asks: bool = False,
        rewinds: bool = False,
        mapped: int | None = None,
    ) -> None:
        """Note what a task and its children are until their next exec.

        In real time; of those whose exec is the tracer's; of those that ask for their clock, or may
        read a file again that tells its time. `mapped`: where the shared clock page is in it, or 0;
        None: as it was.
        """
        mark = _SKIPPED * is_skipped | _EXECS * sees_exec | _ASKS * asks | _REWINDS * rewinds
        if self._marks[tid] != mark:
            self._marks[tid] = mark
        if mapped is not None:
            _ADDRESS.pack_into(self._mapped, _ADDRESS.size * tid, mapped)

    def record_waits(
        self, kinds: Mapping[int, int], expired: Mapping[int, int], clocks: int
    ) -> None:
        """From now on the fast path lets timed waits begin, by system call number.

        `kinds`: enum wait_kind of native_stub/tracer/waits.h; `expired`: their results when their
        time is up; `clocks`: a bit per clock id.
        """
        self._records = (Record * _RECORDS)()
        self._waits.mask, self._waits.clocks = _RECORDS - 1, clocks
        self._waits.records = ctypes.addressof(self._records)
        for number, kind in kinds.items():
            self._waits.kinds[number] = kind
        for number, result in expired.items():
            self._waits.expired[number] = result

    def let_waits_begin(self, ahead_ns: int | None) -> None:
        """Whether it does, with the monotonic line this far ahead of the host's.

        None: they are the tracer's. What is recorded stays.
        """
        self._waits.begins = ahead_ns is not None
        self._waits.ahead_ns = ahead_ns or 0

    def move_lines(self, page: ClockPage, by_ns: int) -> None:
        """Time passes on a page."""
        self._move_lines(page.address, page.stamps_address, by_ns)

    def know_file_calls(self, abis: Sequence[Abi], kinds: Mapping[str, int]) -> None:
        """Which system calls tell stamps, and by name the other ones about files.

        `kinds`: enum file_call of native_stub/tracer/stamps.h.
        """
        table = self.structure.stamp_table
        layouts = sorted({layout for abi in abis for layout in abi.stamps.values()})
        for number, layout in enumerate(layouts, start=1):
            row = table.layouts[number]
            row.argument, row.count = layout.argument, len(layout.places)
            row.second_size, row.nanosecond_size = layout.second_size, layout.nanosecond_size
            row.places[: row.count] = layout.places
        for calls, abi in zip(table.calls, abis, strict=False):
            calls.arch = abi.audit_arch
            of_layouts = {name: 1 + layouts.index(layout) for name, layout in abi.stamps.items()}
            for name, kind in {**of_layouts, **kinds}.items():
                if name in abi.syscalls:
                    calls.rows[abi.syscalls[name]] = kind

    def know_returns(self, kind: int, image: VdsoImage, host_clock: int) -> None:
        """Where in the fake image of a kind of program its own system calls may return to.

        `kind`: as in `know_file_calls`. `host_clock`: the address of the kernel's own clock_gettime
        in this process.
        """
        for number, place in enumerate(image.call_returns, start=kind * constant("CALL_RETURNS")):
            there = self.structure.returns[number]
            there.place = HEADER_SIZE + place
            size = ctypes.sizeof(there.code)
            ctypes.memmove(there.code, image.data[place : place + size], size)
            self.structure.host_clock = host_clock

    def follow_files(self, worlds: Sequence[ClockPage]) -> None:
        """Whether programs of these pages have files follow the clock."""
        following = [page for page in worlds if page.stamps is not None]
        self.structure.sees_files = bool(following)
        is_one = len(worlds) == len(following) == 1
        self.structure.stamps = following[0].stamps_address if is_one else 0
        if is_one:
            self.structure.page = following[0].address
            ctypes.memmove(self.structure.page_mark, following[0].cookie, COOKIE_SIZE)

    def record_of(self, tid: int) -> Record | None:
        """Return the wait that a task began last, if it was not the tracer's."""
        found = self._find_record(self._waits, tid)
        return found[0] if found else None

    def interrupted_of(self, tid: int) -> Any:
        """Return the place for how a system call of a task was interrupted, by struct fastpath.

        It may hold another's.
        """
        return self.structure.interrupted[tid % len(self.structure.interrupted)]

    def end_call(self, tid: int, result: int) -> None:
        """Have a task that is stopped at the entry of a system call go on behind it.

        Raises ProcessLookupError when it was killed.
        """
        error: int = self._end_call(tid, result)
        if error:
            operation = f"ending a system call of {tid}"
            if error == -errno.ESRCH:
                check_killed(tid, operation)
            raise OSError(-error, f"{operation}: {os.strerror(-error)}")

    def knows_wait(self, nr: int) -> bool:
        """Whether waits in a system call may be kept natively."""
        return nr < len(self._waits.kinds) and self._waits.kinds[nr] != 0

    def put_record(self, record: Record) -> None:
        """Have the wait that a task is in kept natively."""
        self._put_record(self._waits, record)

    def drop_record(self, tid: int) -> None:
        """Drop the record of a wait of which the tracer has its own."""
        self._drop_record(self._waits, tid)

    def wait(self, patience_ns: int = 0) -> Sequence[Stop]:
        """Return the next stops, in the order of their reports.

        Empty: there are none but news, or none within `patience_ns` (0: it waits until there are),
        or a signal to this thread ended the waiting, or there is no tracee (`was_interrupted`).
        """
        self.structure.patience_ns = min(patience_ns, _MAX_NS)
        self._prepare()
        return self._stops(self._function(self.structure))

    def pass_deadlines(self, engine: ctypes.Structure) -> Sequence[Stop]:
        """Have time pass (tracer/engine.py); return the next stops, as `wait`."""
        self._prepare()
        return self._stops(min(self._pass(self.structure, engine), _STOP))

    def _prepare(self) -> None:
        structure = self.structure
        structure.hands_over_all = self.hands_over_all or self._is_full()
        structure.lets_calls_go = self.lets_calls_go and not self._is_full()
        self._spare()

    def _stops(self, result: int) -> Sequence[Stop]:
        structure = self.structure
        # Without any tracee the waker was taken away, or has ended unseen.
        self.was_interrupted = result in (-errno.EINTR, -errno.ECHILD)
        if self.was_interrupted or result in (_NEWS, _NOTHING):
            return ()
        if result < 0:
            raise OSError(-result, f"waiting for tracees: {os.strerror(-result)}")
        reports = structure.reports[: structure.report_count]
        stops = [decode(report.tid, report.status) for report in reports]
        if structure.is_not_taken:
            self._take_end(stops[-1].tid)
        return stops

    def wait_any(self) -> Stop | None:
        """Wait for the next stop, whatever needs thought, and let none go on.

        None: a signal to this thread ended the waiting, which os.waitpid would go on with.

        Raises ChildProcessError when there is no tracee.
        """
        return self._next(self._next_report, -1, 0)

    def poll(self, tid: int) -> Stop | None:
        """Return the waiting report about one task.

        None if there is none, or it is no tracee any more.
        """
        try:
            return self._next(self._poll_report, tid, os.WNOHANG)
        except ChildProcessError:
            return None

    def _next(self, function: Callable[..., int], tid: int, options: int) -> Stop | None:
        status = ctypes.c_int()
        self._spare()
        found = function(self.structure, tid, status, options)
        if found in (0, -errno.EINTR):
            return None
        if found < 0:
            raise OSError(-found, f"waiting for tracees: {os.strerror(-found)}")
        if self.structure.is_not_taken:
            self._take_end(found)
        return decode(found, status.value)

    def _spare(self) -> None:
        self.left = {pid for pid in self.left if has_left_status(pid)}
        self.structure.overlooks_ends = bool(self.left)
        self.structure.looks_first = bool(self.left or self.spared)

    def _take_end(self, tid: int) -> None:
        if tid in self.spared:
            self.spared.remove(tid)
            self.left.add(tid)
        elif tid not in self.left:  # else it is told again
            take_end(tid)

    @property
    def entries(self) -> Iterator[Entry]:
        """What was seen to since the last wait began, in its order."""
        for entry in self.structure.entries[: self.structure.entry_count]:
            argv = entry.arguments
            words = bytes(argv.bytes)[: argv.size] if entry.event == StopKind.EXEC else b""
            numbers = entry.event, entry.tid, entry.what, entry.base, entry.kind, entry.at_ns
            yield Entry(*numbers, words)

    @property
    def failures(self) -> Iterator[tuple[int, int]]:
        """Yield the tasks that were to go on and did not, each with its errno."""
        for failure in self.structure.failures[: self.structure.failure_count]:
            yield failure.tid, failure.error

    @property
    def readers(self) -> Iterator[int]:
        """Tasks whose reads were answered since the last wait began."""
        return iter(self.structure.readers[: self.structure.reader_count])
