"""The clock into a program's memory, by system calls made inside it.

The shared page, or where it cannot open or execute that (no /proc, another mount or pid namespace,
another uid, no descriptors left), or reads other values (another time namespace), a private copy.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress

from pytest_vdsotime import page
from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.image import HostVdso
from pytest_vdsotime.kernel.memory import ProcessMemory
from pytest_vdsotime.page import ClockPage, PrivateCopy
from pytest_vdsotime.tracer.calls import machine
from pytest_vdsotime.tracer.state import Process
from pytest_vdsotime.tracer.takeover.native import ProgramAbi
from pytest_vdsotime.tracer.takeover.remote import RemoteSyscalls

_AT_FDCWD = constant("AT_FDCWD")
_MAP_FIXED = constant("MAP_FIXED")  # the mmap module lacks it
_PATH_BELOW_STACK = 512


def put_text(
    remote: RemoteSyscalls, memory: ProcessMemory, fd: int, file: tuple[str, bytes, bool]
) -> None:
    """Have a descriptor lead to a memfd: its name, what it holds, whether an exec closes it.

    It is open for reading alone, as a memfd that has just been made is not.
    """
    name, text, is_closed_by_exec = file
    address = remote.stack_pointer - _PATH_BELOW_STACK
    memory.write(address, os.fsencode(name) + b"\0")
    made = remote.call("memfd_create", address, 0)
    try:
        machine.write(remote.stopped.tid, made, text)
        memory.write(address, b"/proc/self/fd/%d\0" % made)
        opened = remote.call("openat", _AT_FDCWD, address, os.O_RDONLY)
        remote.call("close", made)
        made = opened
        remote.call("dup3", made, fd, os.O_CLOEXEC if is_closed_by_exec else 0)
    finally:
        remote.call("close", made)


def map_clock(
    remote: RemoteSyscalls,
    memory: ProcessMemory,
    process: Process,
    kind: ProgramAbi,
    room: int | None = None,
) -> int | None:
    """Where the clock is mapped now; None where the program may not map memory.

    `room` is where a path may be written; None: below the stack.
    """
    mapped = None
    if not any(process.time_offsets):
        path_address = remote.stack_pointer - _PATH_BELOW_STACK if room is None else room
        mapped = _map_shared(remote, memory, process.world.page, kind.arch, path_address)
    try:
        return _map_private(remote, memory, process, kind) if mapped is None else mapped
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EACCES, errno.EPERM):
            return None
        raise


def _map_shared(
    remote: RemoteSyscalls,
    memory: ProcessMemory,
    clock: ClockPage,
    arch: Arch,
    path_address: int,
) -> int | None:
    """Map the memfd as the loader does; None where the program cannot open or execute it."""
    part = clock.parts[arch.name]
    memory.write(path_address, page_path(clock) + b"\0")
    try:
        fd = remote.call("openat", _AT_FDCWD, path_address, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, ProcessLookupError):
            raise
        return None
    mapped = None
    try:
        protection = mmap.PROT_READ | mmap.PROT_EXEC
        start = part.offset // arch.mmap_unit
        mapped = remote.call("mmap", 0, part.size, protection, mmap.MAP_PRIVATE, fd, start)
        cookie = memory.read(mapped + page.PROCESS_PAGE * page.PAGE_SIZE, len(clock.cookie))
        if cookie != clock.cookie:
            remote.call("munmap", mapped, part.size)
            return None
        shared = mmap.MAP_SHARED | _MAP_FIXED
        remote.call("mmap", mapped, page.PAGE_SIZE, mmap.PROT_READ, shared, fd, 0)
        process_page = mapped + page.PROCESS_PAGE * page.PAGE_SIZE
        anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        remote.call("mmap", process_page, page.PAGE_SIZE, mmap.PROT_READ, anonymous, -1, 0)
        if part.stamps:
            code = part.code_at(mapped)
            remote.call("mprotect", code.stop, part.size - len(code), mmap.PROT_READ)
    except OSError as error:
        if isinstance(error, ProcessLookupError):
            raise
        if mapped is not None:
            remote.call("munmap", mapped, part.size)
        return None
    finally:
        remote.call("close", fd)
    return mapped


def _map_private(
    remote: RemoteSyscalls, memory: ProcessMemory, process: Process, kind: ProgramAbi
) -> int:
    """Map anonymous memory and write the page and the image into it.

    Never writable for the program: the tracer writes through /proc/PID/mem.
    """
    clock = process.world.page
    size = clock.parts[kind.arch.name].size
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    # The image's pages, as what is not executable may not become so everywhere (PR_SET_MDWE).
    executable = mmap.PROT_READ | mmap.PROT_EXEC
    mapped = remote.call("mmap", 0, size, executable, anonymous, -1, 0)
    remote.call("mprotect", mapped, page.HEADER_SIZE, mmap.PROT_READ)
    memory.write(mapped + page.HEADER_SIZE, kind.fake.data)
    _begin_copy(memory, process, mapped)
    return mapped


def _begin_copy(memory: ProcessMemory, process: Process, address: int) -> None:
    clock = process.world.page
    memory.write(address, clock.private_copy(process.time_offsets))
    process.copy = PrivateCopy(process.pid, address, clock.cookie, process.time_offsets)
    clock.copies.append(process.copy)


def entries_of(process: Process, host: HostVdso, base: int, mapped: int) -> bytes:
    """Return what stands in the process page of a program.

    Its vDSO lies at `base`, the clock at `mapped`.
    """
    clock = process.world.page
    stamps = clock.parts[host.arch.name].stamps_at(mapped) if process.copy is None else 0
    return host.process_entries(base, clock.cookie, stamps)


def map_copy(remote: RemoteSyscalls, memory: ProcessMemory, process: Process) -> None:
    """Map a private copy where the shared page is, or begins anew the one that is there."""
    start = process.mapped
    if process.copy is None:
        process_page = memory.read(start + page.PROCESS_PAGE * page.PAGE_SIZE, page.PAGE_SIZE)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        remote.call("mmap", start, page.HEADER_SIZE, mmap.PROT_READ, flags, -1, 0)
        memory.write(start + page.PROCESS_PAGE * page.PAGE_SIZE, process_page)
    process.drop_copy()
    _begin_copy(memory, process, start)


def inherit_copy(copy: PrivateCopy, process: Process) -> None:
    """Give a child its copy.

    That of a forked process is its own; that of a vforked one is its parent's, and is then written
    twice. It may have been duplicated between two writes: it is begun anew.

    Raises OSError when there is no descriptor to write it through.
    """
    clock = process.world.page
    process.copy = PrivateCopy(process.pid, copy.address, clock.cookie, process.time_offsets)
    clock.copies.append(process.copy)
    with suppress(ProcessLookupError):  # killed
        process.copy.write(0, clock.private_copy(process.time_offsets))


def page_path(clock: ClockPage) -> bytes:
    """Return the path by which programs open the page."""
    return b"/proc/%d/fd/%d" % (os.getpid(), clock.fd)
