"""Time stamps of files as a clock has them: how its wall line has gone, for ``files="follow"``.

A real stamp of the clock's life is shown as the wall line's reading at that instant. The history of
the line is memory that the native code (native_stub/tracer/stamps.c) writes and reads too, as it
moves the line and answers `stat` without a word to Python.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

from pytest_vdsotime.abi import structure
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.image import tracer_path
from pytest_vdsotime.timeline import NS_PER_S, Lines, host_wall_ns

_PAGE_SIZE = 4096
#: Of what a history is in, in bytes.
HISTORY_SIZE = -(-ctypes.sizeof(structure("stamps")) // _PAGE_SIZE) * _PAGE_SIZE
_PIECE = structure("stamp_piece")


class Stamps:
    """The history of one clock's wall line.

    Its memory is bounded: of more than 65,536 moves the older ones are told less finely, the oldest
    least, and of stamps that programs have set within the clock's life the last 30,000 and more are
    known.
    """

    def __init__(self, lines: Lines) -> None:
        """Begin the life of a clock.

        Raises TracingUnavailable without the native objects, OSError (EMFILE, ENFILE, ENOMEM).
        """
        library = ctypes.CDLL(tracer_path(host_arch()))
        self._note, self._read, self._keep = (
            getattr(library, name) for name in ("note_piece", "read_stamp", "keep_stamp")
        )
        self._note.argtypes = ctypes.c_uint64, ctypes.POINTER(_PIECE)
        self._note.restype = None
        self._move = library.move_stamps
        self._move.argtypes = ctypes.c_uint64, ctypes.c_uint64
        self._move.restype = None
        self._read.argtypes = (
            *(ctypes.c_uint64, ctypes.c_uint32, ctypes.POINTER(ctypes.c_int64)),
            ctypes.POINTER(ctypes.c_uint32),
        )
        self._keep.argtypes = ctypes.c_uint64, ctypes.c_int64, ctypes.c_uint32
        self._keep.restype = None
        self._memory = mmap.mmap(-1, HISTORY_SIZE)  # memory once it is written to
        self._owns_memory = True
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        try:
            self._file = os.memfd_create("vdsotime-stamps", os.MFD_CLOEXEC)
        except BaseException:
            self._memory.close()
            raise
        library.begin_stamps.argtypes = ctypes.c_uint64, ctypes.c_long
        library.begin_stamps(self.address, self._file)
        self.note(lines)

    def note(self, lines: Lines) -> None:
        """Take note of the line that stamps follow from now on.

        Requires: nobody reads the clock before this has returned. Before Linux 6.13 that takes
        until the kernel's next tick, 10 ms at most.
        """
        line = lines.wall
        seconds, nanoseconds = divmod(line.base_ns, NS_PER_S)
        start_ns = line.start_ns + host_wall_ns(0)
        piece: Any = _PIECE(0, start_ns, line.rate.mult, seconds, nanoseconds, line.rate.shift)
        self._note(self.address, piece)

    def move_to(self, memory: mmap.mmap) -> None:
        """Have the history in other memory, that of a clock page.

        Requires: no program has set a stamp yet.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._move(address, self.address)
        self.address = address
        self._memory.close()
        self._owns_memory = False

    def reading(self, seconds: int, nanoseconds: int, cut_ns: int = 1) -> tuple[int, int] | None:
        """Return what the clock has for a stamp of the host; None: what the host has.

        `cut_ns`: by less than this it may have been cut (native_stub/program/stamps.h).
        """
        second, nanosecond = ctypes.c_int64(seconds), ctypes.c_uint32(nanoseconds)
        if not self._read(self.address, cut_ns, second, nanosecond):
            return None
        return second.value, nanosecond.value

    def keep(self, seconds: int, nanoseconds: int) -> None:
        """Note that a program has set a stamp, which reads back as it was set."""
        if -(2**63) <= seconds < 2**63:
            self._keep(self.address, seconds, nanoseconds)

    def close(self) -> None:
        """Give up what is its own; nothing knows its address any more."""
        if self._owns_memory:
            self._memory.close()
        os.close(self._file)
