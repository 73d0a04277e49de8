"""The native part of a takeover (native_stub/tracer/takeover.c), which runs in this process.

One call in place of a dozen. It keeps the interpreter lock, for the reason told in ptrace.py.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from enum import IntEnum

from pytest_vdsotime.abi import constant, fields
from pytest_vdsotime.kernel import ptrace
from pytest_vdsotime.kernel.ptrace import Stopped

#: In bytes, of what `TakeOver` can write (native_stub/tracer/takeover.h).
MAX_BLOCK = constant("LARGEST_BLOCK")


class Result(IntEnum):
    """enum takeover_result of native_stub/tracer/takeover.h."""

    TAKEN_OVER = constant("TAKEN_OVER")
    ANOTHER_KIND = constant("ANOTHER_KIND")
    NO_VDSO_FOUND = constant("NO_VDSO_FOUND")


class _Block(ctypes.Structure):
    """struct takeover_block of native_stub/tracer/takeover.h."""

    _fields_ = fields("takeover_block")


class Block:
    """What comes into the programs of one kind on one clock.

    And what in it depends on where their vDSO is: see struct takeover_block for each.
    """

    def __init__(
        self,
        *,
        mode: int,
        word_size: int,
        data: bytes,
        parameters: bytes,
        reference_base: int,
        moving_words: Sequence[int],
        start: int,
    ) -> None:
        padded = data.ljust(-(-len(data) // 8) * 8, b"\0")
        self._bytes = ctypes.create_string_buffer(padded, len(padded))
        self._parameters = ctypes.create_string_buffer(parameters, len(parameters))
        self._moving = (ctypes.c_uint32 * len(moving_words))(*moving_words)
        self.structure = _Block(
            mode=mode,
            word_size=word_size,
            size=len(data),
            bytes=ctypes.addressof(self._bytes),
            parameters=ctypes.addressof(self._parameters),
            reference_base=reference_base,
            moving=ctypes.addressof(self._moving),
            moving_words=len(moving_words),
            start=start,
        )


class TakeOver:
    """The function, from its object file."""

    def __init__(self, path: str) -> None:
        self._function = ctypes.PyDLL(path).take_over
        self._function.argtypes = (
            *(ctypes.c_long, ctypes.c_long, ctypes.POINTER(_Block)),
            ctypes.POINTER(ctypes.c_uint64),
            ctypes.c_void_p,
        )
        self._function.restype = ctypes.c_long
        self._base = ctypes.c_uint64()

    def __call__(self, stopped: Stopped, pid: int, block: Block) -> tuple[int, int]:
        """Return (a Result, where the vDSO of the program is); change nothing but for TAKEN_OVER.

        Requires: the task is at its exec event. Leaves: it stopped there.

        Raises OSError: PermissionError for a program closed to its tracer, ProcessLookupError.
        """
        result: int = self._function(stopped.tid, pid, block.structure, self._base, None)
        if result == -errno.EIO and ptrace.signal_info(stopped.tid) is None:
            result = -errno.ESRCH  # what has been killed has no memory (mem_rw, fs/proc/base.c)
        if result < 0:
            raise OSError(-result, f"taking over process {pid}: {os.strerror(-result)}")
        return result, self._base.value
