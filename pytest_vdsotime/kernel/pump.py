"""The native part of waiting (native_stub/pump.c), on the tracer thread: a waitpid that lets stops
which need no thought go on by itself.

It gives up the interpreter lock, so that neither a busy test thread nor this one keeps the other
waiting for what Python has no part in.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_vdsotime.kernel.takeover import Block
from pytest_vdsotime.kernel.wait import Stop, decode

_LIST, _BATCH = 64, 256
_NEWS = 1  # enum pump_result


END = 0


class Entry(NamedTuple):
    """What the pump has seen to."""

    event: int
    """A StopKind, or END."""
    tid: int
    what: int
    """At a birth the child, at an exec the former id, at an end the status."""
    base: int
    """At an exec where the vDSO is."""


class _Entry(ctypes.Structure):
    """struct pump_entry of native_stub/pump.h."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in Entry._fields)


class _Report(ctypes.Structure):
    """struct pump_report of native_stub/pump.h."""

    _fields_ = (("tid", ctypes.c_int64), ("status", ctypes.c_int64))


class _Pump(ctypes.Structure):
    """struct pump of native_stub/pump.h."""

    _fields_ = (
        ("hands_over_all", ctypes.c_uint64),
        ("special_count", ctypes.c_uint64),
        ("special", ctypes.c_uint64 * _LIST),
        ("watched_count", ctypes.c_uint64),
        ("watched", ctypes.c_uint64 * _LIST),
        ("block", ctypes.c_uint64),
        ("asks_privilege", ctypes.c_uint64),
        ("read_clock", ctypes.c_uint64),
        ("served", ctypes.c_uint64),
        ("report_count", ctypes.c_uint64),
        ("reports", _Report * _BATCH),
        ("entry_count", ctypes.c_uint64),
        ("entries", _Entry * _LIST),
        ("reader_count", ctypes.c_uint64),
        ("readers", ctypes.c_uint64 * _LIST),
        ("expected_count", ctypes.c_uint64),
        ("expected", ctypes.c_uint64 * _LIST),
        ("early_count", ctypes.c_uint64),
        ("early", ctypes.c_uint64 * _LIST),
    )


class Pump:
    """Waits for the next stop that is the tracer's to handle."""

    def __init__(self, path: str) -> None:
        self._function = ctypes.CDLL(path).pump
        self._function.argtypes = (ctypes.POINTER(_Pump),)
        self._function.restype = ctypes.c_long
        self.structure = _Pump()
        self.structure.asks_privilege = os.geteuid() != 0
        self._special: set[int] = set()
        self._watched: set[int] = set()
        self.hands_over_all = self.was_interrupted = False

    def hand_over(self, tid: int) -> None:
        """From now on every stop of a task is the tracer's."""
        self._special.add(tid)
        self._write()

    def keep(self, tid: int) -> None:
        """Ends that."""
        if tid in self._special:
            self._special.remove(tid)
            self._write()

    def watch(self, tid: int) -> None:
        """The end of a task is the tracer's, and its execs are news."""
        self._watched.add(tid)
        self._write()

    def forget(self, tid: int) -> None:
        """A task has ended."""
        if tid in self._special or tid in self._watched:
            self._special.discard(tid)
            self._watched.discard(tid)
            self._write()

    def _write(self) -> None:
        structure = self.structure
        structure.special_count, structure.watched_count = len(self._special), len(self._watched)
        if not self._is_full():
            structure.special[: len(self._special)] = list(self._special)
            structure.watched[: len(self._watched)] = list(self._watched)

    def _is_full(self) -> bool:
        return max(len(self._special), len(self._watched)) > _LIST

    def take_over_with(self, block: Block | None) -> None:
        """What execs are seen to with; None: they are the tracer's."""
        self._block = block  # keeps it alive
        self.structure.block = 0 if block is None else ctypes.addressof(block.structure)

    def answer_reads(self, read_clock: int, served: int) -> None:
        """Raw clock_gettime of these clock ids is answered by a function in this process; 0: by the
        tracer."""
        self.structure.read_clock, self.structure.served = read_clock, served

    def wait(self) -> Sequence[Stop]:
        """The next stops, in the order of their reports. Empty: there are none but news, or a
        signal to this thread ended the waiting (`was_interrupted`).

        Raises ChildProcessError when there is no tracee.
        """
        structure = self.structure
        structure.hands_over_all = self.hands_over_all or self._is_full()
        result: int = self._function(structure)
        self.was_interrupted = result == -errno.EINTR
        if self.was_interrupted or result == _NEWS:
            return ()
        if result < 0:
            raise OSError(-result, f"waiting for tracees: {os.strerror(-result)}")
        reports = structure.reports[: structure.report_count]
        return [decode(report.tid, report.status) for report in reports]

    @property
    def entries(self) -> Iterator[Entry]:
        """What was seen to since the last wait began, in its order."""
        for entry in self.structure.entries[: self.structure.entry_count]:
            yield Entry(entry.event, entry.tid, entry.what, entry.base)

    @property
    def readers(self) -> Iterator[int]:
        """Tasks whose reads were answered since the last wait began."""
        return iter(self.structure.readers[: self.structure.reader_count])
