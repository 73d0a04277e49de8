"""The native part of looking at tasks (native_stub/tracer/sample.c), which runs in this process.

Whether they are blocked, and in what.
"""

from __future__ import annotations

import ctypes
import resource
from array import array
from collections.abc import Sequence
from typing import Any, ClassVar

from pytest_vdsotime.abi import fields

#: The part of the descriptors that a user may open which are kept to look at tasks sooner.
_PART = 4
_MAX_KEPT = 1 << 14


class TaskSample(ctypes.Structure):
    """struct sample of native_stub/tracer/sample.h: what is known of one task."""

    tid: int
    pid: int
    leads_others: int
    """It is its process's first thread, and not the last: its end is told after theirs."""
    is_held: int
    """By the native code, at the entry of a sleep."""
    has_waited: int
    """It has begun a wait that the native code knows,"""
    ends_polls: int
    """which shows that it does not poll for a later time."""
    reached_ns: int
    """The length of its wait whose deadline was reached; 0 once it waits for something else."""
    is_known: int
    """It was blocked."""
    is_busy: int
    """Or has been in between two looks."""
    has_run: int
    state: int
    """The letter of /proc/TID/stat, R also for one that is about to run."""
    runs: int
    asks: int
    """Its process has peers off the clock: what the engine leaves to Python, enum asks."""
    nr: int
    """Of the system call that it is blocked in; all bits set where it is in none."""
    arguments: Sequence[int]
    stack: int
    counter: int

    _fields_ = fields("sample")
    _forget: ClassVar[Any] = None

    def __init__(self, tid: int, pid: int) -> None:
        super().__init__(tid, pid)
        self.address = ctypes.addressof(self)

    def close(self) -> None:
        """Close the descriptors that are kept for it."""
        if self._forget is not None:
            self._forget(self)

    __del__ = close  # with the tracer


class Sampler:
    """The function, from its object file."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self._look = library.look
        self._look.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
        self._look.restype = ctypes.c_long
        forget = ctypes.PyDLL(path).forget_files  # keeps the interpreter lock
        forget.argtypes, forget.restype = (ctypes.POINTER(TaskSample),), None
        TaskSample._forget = forget
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        library.keep_files.argtypes, library.keep_files.restype = (ctypes.c_uint64,), None
        library.keep_files(min(most // _PART, _MAX_KEPT))

    def __call__(self, samples: Sequence[TaskSample], *, is_brief: bool) -> int:
        """Return how many of these tasks are busy, and put into each what was seen of it.

        With `is_brief` it ends at the first that has not come to sleep: the number is -1 less its
        place then, and the samples tell nothing. If none is busy, there was a moment when none was.
        """
        addresses = array("Q", [sample.address for sample in samples])
        busy: int = self._look(*addresses.buffer_info(), is_brief)
        return busy
