"""The native part of looking at tasks (native_stub/look.c), which runs in this process: whether
they are blocked, and in what."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence


class Look(ctypes.Structure):
    """struct look of native_stub/look.h."""

    tid: int
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

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("tid", "is_busy", "has_run", "state", "runs", "nr")),
        ("arguments", ctypes.c_uint64 * 6),
        ("stack", ctypes.c_uint64),
        ("counter", ctypes.c_uint64),
    )


class LookAt:
    """The function, from its object file."""

    def __init__(self, path: str) -> None:
        self._function = ctypes.CDLL(path).look_at
        self._function.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
        self._function.restype = ctypes.c_long

    def __call__(self, tids: Sequence[int], *, is_brief: bool) -> tuple[int, Sequence[Look]]:
        """(how many are busy, a Look at each task). With `is_brief` it ends at the first that
        runs: the number is negative then, and the looks tell nothing.

        If none is busy, there was a moment when none was.
        """
        looks = (Look * len(tids))()
        for look, tid in zip(looks, tids, strict=True):
            look.tid = tid
        busy: int = self._function(looks, len(tids), is_brief)
        return busy, list(looks)
