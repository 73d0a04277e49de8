"""The native part of looking at tasks (native_stub/tracer/sample.c), which runs in this process.

Whether they are blocked, and in what.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from pytest_vdsotime.abi import fields


class TaskSample(ctypes.Structure):
    """struct sample of native_stub/tracer/sample.h."""

    tid: int
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


class Sampler:
    """The function, from its object file."""

    def __init__(self, path: str) -> None:
        self._function = ctypes.CDLL(path).sample_tasks
        self._function.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
        self._function.restype = ctypes.c_long

    def __call__(
        self, tids: Sequence[int], *, is_brief: bool, before: Sequence[TaskSample | None] = ()
    ) -> tuple[int, Sequence[TaskSample]]:
        """(how many are busy, a sample of each task).

        With `is_brief` it ends at the first that has not come to sleep: the number is -1 less its
        place then, and the samples tell nothing.

        If none is busy, there was a moment when none was. `before`: earlier samples of these tasks,
        which then take less time if they have not run since.
        """
        samples = (TaskSample * len(tids))()
        for sample, tid in zip(samples, tids, strict=True):
            sample.tid = tid
        for place, known in enumerate(before):
            if known is not None:
                samples[place] = known
        busy: int = self._function(samples, len(tids), is_brief)
        return busy, list(samples)
