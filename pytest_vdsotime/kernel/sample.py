"""The native part of looking at tasks (native_stub/tracer/sample.c), which runs in this process.

Whether they are blocked, and in what.
"""

from __future__ import annotations

import ctypes
import resource
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
    is_known: int
    """It was blocked."""
    is_busy: int
    """Or has been in between two looks."""
    has_run: int
    state: int
    """The letter of /proc/TID/stat, R also for one that is about to run."""
    runs: int
    nr: int
    """Of the system call that it is blocked in; all bits set where it is in none."""
    arguments: Sequence[int]
    stack: int
    counter: int

    _fields_ = fields("sample")
    _forget: ClassVar[Any] = None

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
        forget = library.forget_files
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
        addresses = (ctypes.c_void_p * len(samples))(*map(ctypes.addressof, samples))
        busy: int = self._look(addresses, len(samples), is_brief)
        return busy
