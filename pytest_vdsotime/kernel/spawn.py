"""The native part of a start (native_stub/tracer/spawn.c), which runs in this process.

A fork, what a child of `subprocess` does, and an exec for which it waits until its tracer lets it.

It gives up the interpreter lock, as the tracer needs it meanwhile.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

from pytest_vdsotime.abi import constant, fields, offset, packer

_environ = ctypes.c_void_p.in_dll(ctypes.pythonapi, "environ")
_INT_MAX = 2**31 - 1
_INSTRUCTION_SIZE = packer("sock_filter").size
#: Where a child failed before its exec: enum stage of native_stub/tracer/spawn.h.
IN_DIRECTORY, ELSEWHERE = constant("IN_DIRECTORY"), constant("ELSEWHERE")
#: The exit status of a child that seccomp refuses the filter.
EXIT_NO_FILTER = constant("EXIT_NO_FILTER")
_AS_IT_IS = -1
_MAX_ID = 2**32 - 2  # (uid_t)-1 changes nothing (setreuid(2))


class Identity(NamedTuple):
    """What a child is to become, as `subprocess` gives it to its `_fork_exec`; None: as it is."""

    gid: int | None = None
    groups: Sequence[int] | None = None
    uid: int | None = None


class SpawnStruct(ctypes.Structure):
    """struct spawn of native_stub/tracer/spawn.h."""

    _fields_ = fields("spawn")


# At once.
_PREPARED = packer("spawn", "parent", "uid")
_PREPARED_AT = offset("spawn", "parent")


class PendingSpawns:
    """Starts whose child the fast path may take when it is born (native_stub/tracer/fastpath.c)."""

    ROOM = constant("FASTPATH_LIST")

    def __init__(self) -> None:
        self.places = (ctypes.c_uint64 * self.ROOM)()
        self._lock = threading.Lock()
        self._withdrawn: list[Spawn] = []

    def offer(self, spawn: Spawn) -> None:
        """If there is room; else the child is to ring. From any thread."""
        with self._lock:
            for place in range(self.ROOM):
                if not self.places[place]:
                    self.places[place] = spawn.address
                    return
        spawn.have_ring()

    def withdraw(self, spawn: Spawn) -> None:
        """If it is there still.

        By the tracer, or for one that will never be born: the fast path may be looking at it.
        """
        with self._lock:
            for place in range(self.ROOM):
                if self.places[place] == spawn.address:
                    self.places[place] = 0
                    self._withdrawn.append(spawn)

    def forget_withdrawn(self) -> None:
        """While the fast path does not run."""
        self._withdrawn.clear()


class Spawner:
    """The functions, from their object file."""

    def __init__(self, path: str) -> None:
        library, quick = ctypes.CDLL(path), ctypes.PyDLL(path)  # which keeps the interpreter lock
        self.spawn = library.spawn
        self.release, self.cancel = quick.release_spawn, quick.cancel_spawn
        self.have_ring = quick.have_ring
        self.become, self.enlist = quick.become, quick.enlist
        functions = self.spawn, self.release, self.cancel, self.have_ring, self.become, self.enlist
        for function in functions:
            function.argtypes = (ctypes.POINTER(SpawnStruct),)
            function.restype = ctypes.c_long
        self.have_ring.restype = self.become.restype = None
        self.can_share_memory = bool(quick.can_share_memory())
        """The kernel has the vfork that this takes."""
        self._addresses: dict[bytes, int] = {}

    def address_of(self, code: bytes) -> int:
        """Where a filter lies."""
        address = self._addresses.get(code)
        if address is None:
            address = ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p).value or 0
            self._addresses[code] = address
        return address


class Spawn:
    """One start.

    `prepare`, `run` and `become` are for the thread that starts, the rest for the tracer's.
    """

    def __init__(self, spawner: Spawner, *, shares_memory: bool) -> None:
        """`shares_memory`.

        The child has its parent's memory until its exec; else it has a copy, and this structure
        stands in memory of both.
        """
        self._spawner = spawner
        if shares_memory and spawner.can_share_memory:
            self.structure = SpawnStruct(shares_memory=1)
        else:
            shared = mmap.mmap(-1, ctypes.sizeof(SpawnStruct))
            self.structure = SpawnStruct.from_buffer(shared)
        self.structure.patience = 1

    def prepare(
        self,
        code: bytes,
        argv: Sequence[Any],
        executables: Sequence[bytes],
        close_fds: bool,
        kept_fds: Sequence[int],
        cwd: Any,
        env: Sequence[bytes] | None,
        *pipes: int,
        restore_signals: bool,
        start_new_session: bool,
        process_group: int,
        umask: int,
        identity: Identity = Identity(),  # noqa: B008
    ) -> None:
        """`code` is the seccomp filter, the rest what `subprocess` gives its `_fork_exec`.

        Raises TypeError, ValueError: as that does.
        """
        stdin, to_stdin, from_stdout, stdout, from_stderr, stderr, from_child, to_parent = pipes
        if kept_fds and any(not 0 <= fd <= _INT_MAX for fd in kept_fds):
            raise ValueError("bad value(s) in fds_to_keep")
        kept = [fd for fd in kept_fds if fd != to_parent]
        candidates, words, descriptors = _strings(executables), _strings(argv), _integers(kept)
        if env is None:  # C's own, which libraries change behind os.environ
            variables, environment = None, _environ.value or 0
        else:
            variables = _strings(env)
            environment = ctypes.addressof(variables)
        directory = None if cwd is None else ctypes.create_string_buffer(_encoded(cwd))
        gid, groups, uid = identity
        numbers = _array(ctypes.c_uint32, len(groups or ()))(*map(_id, groups or ()))
        self._kept_alive = candidates, words, descriptors, variables, directory, numbers
        _PREPARED.pack_into(
            *(self.structure, _PREPARED_AT, os.getpid()),
            *(self._spawner.address_of(code), len(code) // _INSTRUCTION_SIZE),
            *(ctypes.addressof(candidates), len(executables), ctypes.addressof(words), environment),
            0 if directory is None else ctypes.addressof(directory),
            *(ctypes.addressof(descriptors), len(kept)),
            *(bool(one) for one in (close_fds, restore_signals, start_new_session)),
            *(index(process_group), index(umask), to_stdin, from_stdout, from_stderr, from_child),
            *(stdin, stdout, stderr, ctypes.addressof(numbers)),
            _AS_IT_IS if groups is None else len(groups),
            *(_AS_IT_IS if one is None else _id(one) for one in (gid, uid)),
        )

    def run(self, waker: int) -> int:
        """Return the child's pid.

        If the child shares memory, when it has executed its program, or has ended. The process
        `waker` is to hear of the birth, if need be.

        Raises OSError when there is no child.
        """
        self.structure.waker = waker
        error = self._spawner.spawn(self.structure)
        if error:
            raise OSError(error, os.strerror(error))
        return self.pid

    def become(self, *, parent: int = 0, has_own_environment: bool = True) -> None:
        """Have this process execute the program, once the tracer has seized it.

        Another fork has made this process and others have prepared it; it ends where the exec
        fails.

        `parent` is that of this process, by default the one that has prepared the start. Without an
        environment of its own the program gets C's, as it is now.
        """
        if parent:
            self.structure.parent = parent
        if not has_own_environment:
            self.structure.envp = _environ.value or 0
        self._spawner.become(self.structure)

    def have_ring_by(self, number: int) -> None:
        """Have the child ring by this signal at its birth."""
        self.structure.rings = number

    def have_ring(self) -> None:
        """If the child is not born yet, it is to ring the waker: look for its pid once more."""
        self._spawner.have_ring(self.structure)

    @property
    def pid(self) -> int:
        """The child's; 0: it is not born yet."""
        pid: int = self.structure.pid
        return pid

    @property
    def address(self) -> int:
        """Of its struct spawn."""
        return ctypes.addressof(self.structure)

    def sees_exec(self) -> None:
        """Leave the child's exec to Python."""
        self.structure.mark = constant("MARK_EXECS")

    @property
    def is_taken(self) -> bool:
        """The fast path has seized and released the child."""
        return bool(self.structure.is_taken)

    @property
    def is_asleep(self) -> bool:
        """A child that was taken waits for a stop yet, to which it could not be interrupted."""
        return bool(self.structure.is_asleep)

    @property
    def failed_in(self) -> int:
        """Where it failed before its exec; 0: it did not."""
        stage: int = self.structure.failed_in
        return stage

    def release(self) -> bool:
        """Lets the child execute its program. False: it sleeps, and a stop is to wake it up."""
        return bool(self._spawner.release(self.structure))

    def cancel(self) -> int:
        """Return a child that is not born yet is to end at once. Returns the pid of one that is."""
        pid: int = self._spawner.cancel(self.structure)
        return pid


#: Why a gate lets nobody through.
_CLOSED, _FAILED = 1, 2


class Gate:
    """Where descendants of this process wait for its tracer before they execute a program.

    `enlist` is for the descendants, the rest for this process. One structure stands in the memory
    of all.
    """

    is_taken = is_asleep = False
    """The fast path takes none of them."""

    def __init__(self, spawner: Spawner, code: bytes) -> None:
        """`code` is the seccomp filter."""
        self._spawner, self._code = spawner, code
        shared = mmap.mmap(-1, ctypes.sizeof(SpawnStruct))
        self.structure = SpawnStruct.from_buffer(shared)
        self.structure.parent = os.getpid()
        self.structure.filter = spawner.address_of(code)
        self.structure.filter_length = len(code) // _INSTRUCTION_SIZE

    def enlist(self) -> bool:
        """Wait until the tracer has seized this process. False: it does so no more."""
        return not self._spawner.enlist(self.structure)

    def open(self, waker: int) -> None:
        """Have them ring this process."""
        self.structure.waker = waker

    def close(self) -> None:
        """Let nobody through any more; those that come go on in real time."""
        self.structure.is_closed = _CLOSED

    def fail(self) -> None:
        """Let nobody through any more, as the tracer has failed; those that come are to end."""
        self.structure.is_closed = _FAILED

    @property
    def is_closed(self) -> bool:
        """Nobody is let through any more, as the clock has ended before its process."""
        return bool(self.structure.is_closed == _CLOSED)

    @property
    def has_failed(self) -> bool:
        """Nobody is let through any more, as the tracer has failed."""
        return bool(self.structure.is_closed == _FAILED)

    @property
    def is_waiting(self) -> bool:
        """Some process waits to be seized."""
        return bool(self.structure.pid) and self.structure.patience == 1

    @property
    def pid(self) -> int:
        """Which process that is."""
        pid: int = self.structure.pid
        return pid

    def release(self) -> bool:
        """Let it go on. False: it sleeps, and a stop is to wake it up."""
        return bool(self._spawner.release(self.structure))


def _id(number: int) -> int:
    if not 0 <= number <= _MAX_ID:
        raise OverflowError(f"{number} is no id of a user or group")
    return number


def _encoded(word: Any) -> bytes:
    encoded = os.fsencode(word)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


@lru_cache
def _array(kind: Any, length: int) -> Any:
    """Return the type of an array, which takes as long to make as ten arrays."""
    return kind * length


def _strings(words: Sequence[Any]) -> ctypes.Array[ctypes.c_char_p]:
    array: ctypes.Array[ctypes.c_char_p] = _array(ctypes.c_char_p, len(words) + 1)(
        *map(_encoded, words)
    )
    return array


def _integers(numbers: Sequence[int]) -> ctypes.Array[ctypes.c_int]:
    array: ctypes.Array[ctypes.c_int] = _array(ctypes.c_int, len(numbers) + 1)(*numbers)
    return array
