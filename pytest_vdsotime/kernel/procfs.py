"""What /proc says about processes (proc(5)).

Every function copes with a process that has just ended. Where nothing can be found out it raises
OSError (EMFILE, ENFILE, ENOMEM), but for `argv`, `name` and `command`, which are for messages.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from pytest_vdsotime.events import readable
from pytest_vdsotime.timeline import NO_OFFSETS, NS_PER_S, TimeOffsets

_PAGEMAP_PRESENT = 1 << 63
_PAGEMAP_ENTRY = struct.Struct("=Q")
_PAGE_SIZE = 4096
#: Errors that say that this process, or the machine, is short of something, and nothing of a
#: process that was asked about.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def check_shortage(error: OSError) -> None:
    """Raise an error again that says nothing of what was asked about: EMFILE, ENFILE, ENOMEM."""
    if error.errno in _SHORTAGES:
        raise error


def argv(pid: int) -> list[str]:
    """Return the argument vector; empty for a process that has ended.

    A title that the program has written in its place is one argument (setproctitle(3)): the rest of
    the memory is empty then.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read()
    except OSError:
        return []
    if not raw:
        return []
    first, *others = raw.removesuffix(b"\0").split(b"\0")
    if not any(others) and (b" " in first or len(others) > 1):
        others = []
    return [os.fsdecode(argument) for argument in (first, *others)]


def read_text(path: str) -> str:
    """Return a whole file; empty when the process it is about has ended.

    Names that programs choose stand in such files, of any bytes: the kernel escapes no more of them
    than the end of a line, which is a line feed alone (seq_file_path, fs/seq_file.c).
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read()
    except OSError as error:
        check_shortage(error)
        return ""


def _lines(path: str) -> list[str]:
    """Return the lines of a file, as `read_text`."""
    return read_text(path).removesuffix("\n").split("\n")


def name(pid: int) -> str:
    """Return what to call a process in a message.

    Its executable, else its command name, else ``?``.
    """
    try:
        return readable(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
    except OSError:
        pass
    return command(pid)


def is_in_other_root(pid: int) -> bool:
    """Whether a process has another root directory than this one has, as in a container."""
    try:
        root, own = os.stat(f"/proc/{pid}/root"), os.stat("/")
    except OSError as error:  # it has ended
        check_shortage(error)
        return False
    return (root.st_dev, root.st_ino) != (own.st_dev, own.st_ino)


def command(tid: int) -> str:
    """Return the name of a process or thread, as ps(1) has it: what cannot be shown is escaped."""
    try:
        return readable(read_text(f"/proc/{tid}/comm").removesuffix("\n")) or "?"
    except OSError:
        return "?"


def stat_fields(pid: int) -> tuple[str, int] | None:
    """(state letter, parent's pid), or None for a process that is gone."""
    fields = _stat(pid)
    return (fields[0], int(fields[1])) if fields else None


def _stat(pid: int) -> list[str]:
    # The command name stands in parentheses before them and may itself hold anything.
    return read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()


def processes() -> list[int]:
    """Return the processes that this one may see."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those, each behind its parent.

    But this process and what that has started.
    """
    children: dict[int, list[int]] = {}
    for one in processes():
        stat = stat_fields(one)
        if stat is not None and stat[0] not in "ZX" and one != os.getpid():
            children.setdefault(stat[1], []).append(one)
    parents = [pid]
    for parent in parents:
        parents += children.get(parent, ())
        if parent != pid:
            yield parent


#: By their command lines: the guardian of an engine, and the sweeper of a socket.
_HELPERS = "pytest_vdsotime/containers/guardian.py", "vdsotime-sweeper"


def own_children() -> list[int]:
    """Return the children of this process, those that have ended too.

    But those that the package has beside it, which neither read a clock nor end before it.
    """
    return [
        pid
        for pid in processes()
        if (stat_fields(pid) or ("", 0))[1] == os.getpid()
        and not any(one.endswith(_HELPERS) for one in argv(pid))
    ]


def has_capability(tid: int, capability: int) -> bool:
    """Whether a thread has a capability in this process's user namespace (capabilities(7)).

    What is in the effective set of one in another user namespace counts there alone.
    """
    try:
        if os.readlink(f"/proc/{tid}/ns/user") != os.readlink("/proc/self/ns/user"):
            return False
    except OSError as error:
        check_shortage(error)
        return False
    return bool(int(_status_fields(tid).get("CapEff", "0"), 16) >> capability & 1)


@cache
def _own_time_namespace(_pid: int) -> str:
    """Return that of this process, which none with several threads leaves (setns(2))."""
    return os.readlink("/proc/self/ns/time")


def starts_elsewhere() -> bool:
    """Whether what this thread starts is in another time namespace than this process."""
    try:
        own = _own_time_namespace(os.getpid())
        return os.readlink("/proc/thread-self/ns/time_for_children") != own
    except OSError as error:
        check_shortage(error)
        return False


def pid_namespace() -> int:
    """Return what tells the PID namespace of this process from others; 0: nothing does."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError as error:
        check_shortage(error)
        return 0


def has_time_namespace(pid: int | str, of: int | str = "self") -> bool:
    """Whether a task, or what it starts, is in another time namespace than `of`.

    One that has ended is not.
    """
    try:
        own = os.readlink(f"/proc/{of}/ns/time")
        return {os.readlink(f"/proc/{pid}/ns/{name}") for name in _TIME_NAMESPACES} != {own}
    except OSError as error:
        check_shortage(error)
        return False


def time_offsets(tid: int) -> TimeOffsets | None:
    """How far the clocks of a task's time namespace are ahead of this process's.

    None where that cannot be told: it has ended, or what it starts is to be in another one, which
    the file is about then (proc_timens_show_offsets, kernel/time/namespace.c).

    Raises OSError (EMFILE, ENFILE) when there is no descriptor to read it through.
    """
    try:
        if os.readlink(f"/proc/{tid}/ns/time") == os.readlink("/proc/self/ns/time"):
            return NO_OFFSETS
        if has_time_namespace(tid, of=tid):
            return None
        theirs = _offsets_ns(tid)
        # One that has but unshared its children's is taken to be in the machine's first.
        own = [0, 0] if has_time_namespace("self") else _offsets_ns("self")
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return None
    return TimeOffsets(*(offset_ns - own_ns for offset_ns, own_ns in zip(theirs, own, strict=True)))


_TIME_NAMESPACES = "time", "time_for_children"


def _offsets_ns(pid: int | str) -> list[int]:
    """Of CLOCK_MONOTONIC and CLOCK_BOOTTIME, as the kernel lists them."""
    with open(f"/proc/{pid}/timens_offsets") as file:
        lines = [line.split() for line in file]
    return [int(seconds) * NS_PER_S + int(nanoseconds) for _name, seconds, nanoseconds in lines]


def thread_group(tid: int) -> int | None:
    """Return the pid of the process that a thread belongs to, or None for one that is gone."""
    for _ in _looks_at(tid):
        if number := int(_status_fields(tid).get("Tgid", "0")):
            return number
    return None


def threads(pid: int) -> set[int]:
    """Return the threads of a process, ended ones too; none of one that is gone."""
    for _ in _looks_at(pid):
        try:
            return {int(tid) for tid in os.listdir(f"/proc/{pid}/task")}
        except OSError as error:
            check_shortage(error)
    return set()


def is_over(pid: int) -> bool:
    """Whether all threads of a process have ended, reaped or not."""
    for _ in _looks_at(pid):
        fields = _stat(pid)
        # None and X: of a first thread whose number another has by now.
        if len(fields) > 17 and fields[0] != "X" and fields[17] != "0":
            return (fields[0], fields[17]) == ("Z", "1")
    return True


def has_ended(tid: int) -> bool:
    """Whether a thread has ended, reaped or not."""
    for _ in _looks_at(tid):
        fields = stat_fields(tid)
        if fields is not None:
            return fields[0] in "ZX"
    return True


def _looks_at(tid: int) -> Iterator[None]:
    """Yield while a thread may be there.

    As another takes its number /proc may miss both (exchange_tids, kernel/pid.c).
    """
    for _ in range(20):  # in vain, where /proc is mounted with hidepid (proc(5))
        yield
        try:
            os.kill(tid, 0)
        except (ProcessLookupError, OverflowError):
            return
        except PermissionError:  # it is another user's
            continue


def memfd_mappings(pid: int, permissions: str) -> dict[int, int]:
    """Inode -> address of a mapping of a clock's memfd with these permissions (``"r--s"``).

    Of its beginning.
    """
    found = {}
    for line in _lines(f"/proc/{pid}/maps"):
        if line.endswith("/memfd:vdsotime (deleted)"):
            addresses, mode, offset, _device, inode, path = line.split(maxsplit=5)
            is_beginning = not int(offset, 16) and path.startswith("/memfd:")
            if mode == permissions and is_beginning:
                found[int(inode)] = int(addresses.partition("-")[0], 16)
    return found


def is_mapped(pid: int, address: int) -> bool:
    """Whether a process has memory at an address."""
    for line in _lines(f"/proc/{pid}/maps"):
        first, _, end = line.partition(" ")[0].partition("-")
        if end and int(first, 16) <= address < int(end, 16):
            return True
    return False


def vdso_areas(pid: int | str) -> dict[str, range]:
    """Where the kernel's vDSO lies now, by "[vdso]", and its data, by names such as "[vvar]"."""
    areas = {}
    for line in _lines(f"/proc/{pid}/maps"):
        if line.endswith("]"):
            addresses, *_, name = line.split(maxsplit=5)
            if name.startswith(("[vdso", "[vvar")):
                areas[name] = range(*(int(address, 16) for address in addresses.split("-")))
    return areas


@cache
def own_vdso() -> int:
    """Where the vDSO of this process lies, for as long as it runs.

    Raises OSError where /proc does not tell, or the kernel gives none (vdso=0).
    """
    area = vdso_areas("self").get("[vdso]")
    if area is None:
        raise FileNotFoundError(errno.ENOENT, "no vDSO of this process is told", "/proc/self/maps")
    return area.start


#: What the kernel's vDSO can read (Documentation/timers/timekeeping.rst).
_VDSO_CLOCKSOURCES = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"}
_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


@cache
def reads_clocks_in_user_space() -> bool:
    """Whether the kernel's vDSO reads its clocks without a system call."""
    return read_text(_CLOCKSOURCE).strip() in _VDSO_CLOCKSOURCES


@cache
def processor_flags() -> frozenset[str]:
    """Return what the processors can, as the kernel names it."""
    lines = (line.partition(":") for line in _lines("/proc/cpuinfo"))
    return next(
        (frozenset(of.split()) for name, _, of in lines if name.strip() == "flags"), frozenset()
    )


def _status_fields(tid: int | str) -> dict[str, str]:
    lines = _lines(f"/proc/{tid}/status")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_filter(tid: int) -> bool:
    """Whether seccomp decides on a thread's system calls, by filters or its strict mode."""
    return _status_fields(tid).get("Seccomp", "0") != "0"


def is_namespace_init(pid: int) -> bool:
    """Whether a process is the first one of its PID namespace, which is not this process's."""
    ids = _status_fields(pid).get("NStgid", "").split()
    return len(ids) > 1 and ids[-1] == "1"


def number_within(tid: int) -> int:
    """Return the number of a task in its own PID namespace; 0 for one that is gone."""
    return int(_status_fields(tid).get("NSpid", "0").split()[-1])


def is_read_only(tid: int, fd: int) -> tuple[bool, bool]:
    """Whether a descriptor of a task is open for reading alone, and whether an exec closes it.

    Raises FileNotFoundError when there is none.
    """
    with open(f"/proc/{tid}/fdinfo/{fd}") as file:
        line = next(line for line in file if line.startswith("flags:"))
    flags = int(line.split()[1], 8)
    return not flags & os.O_ACCMODE, bool(flags & os.O_CLOEXEC)


def file_system_of(tid: int, fd: int, of: int | str | None = None) -> str:
    """Return the type of the file system of a descriptor of `of`, by default the task itself.

    "" where it is not mounted where the task or this process are. That asks no file system, which
    may be a program's (FUSE) that waits for its tracer.
    """
    info = read_text(f"/proc/{tid if of is None else of}/fdinfo/{fd}")
    found = re.search(r"^mnt_id:\s*(\d+)$", info, re.MULTILINE)
    for whose in (tid, "self") if found else ():  # a task that has changed its root sees fewer
        for line in read_text(f"/proc/{whose}/mountinfo").splitlines():
            mount, _, source = line.partition(" - ")
            if found and mount.partition(" ")[0] == found[1]:
                return source.partition(" ")[0]
    return ""


def dumps_core(pid: int) -> bool:
    """Whether a process is on its way to a core dump's end."""
    return _status_fields(pid).get("CoreDumping", "0") != "0"


def descriptor_table_size(tid: int) -> int:
    """How many descriptors its table has room for."""
    return int(_status_fields(tid).get("FDSize", "0"))


class BlockedCall(NamedTuple):
    """A system call that a thread is blocked in, and where behind its instruction."""

    nr: int
    arguments: tuple[int, ...]
    stack: int
    counter: int


def blocked_call(tid: int) -> BlockedCall | None:
    """None where it is in none, or that is closed to this process."""
    words = read_text(f"/proc/{tid}/syscall").split()
    if len(words) != 9:
        return None
    nr, (*arguments, stack, counter) = int(words[0]), (int(word, 16) for word in words[1:])
    return BlockedCall(nr, tuple(arguments), stack, counter)


_CGROUPS = "/sys/fs/cgroup"


def is_frozen(tid: int) -> bool:
    """Whether a task is to stand still by its cgroup, as in a paused container (cgroups(7))."""
    for line in filter(None, _lines(f"/proc/{tid}/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer":
            state = read_text(f"{_CGROUPS}/freezer{path}/freezer.state")
            if state.startswith(("FROZEN", "FREEZING")):
                return True
        elif not controllers:  # version 2, beside version 1 or alone
            places = f"{_CGROUPS}{path}", f"{_CGROUPS}/unified{path}"
            if any("frozen 1" in read_text(f"{place}/cgroup.events") for place in places):
                return True
    return False


def catches(tid: int, number: int) -> bool:
    """Whether a thread has a handler for a signal."""
    return bool(int(_status_fields(tid).get("SigCgt", "0"), 16) >> (number - 1) & 1)


class SignalMasks(NamedTuple):
    """What a thread does about signals, as the kernel's bit sets."""

    blocked: int
    ignored: int
    caught: int
    pending: int
    """For the thread alone;"""
    shared: int
    """and for its process."""


def _signal_set(*numbers: int) -> int:
    return sum(1 << number - 1 for number in numbers)


IGNORED_BY_DEFAULT = _signal_set(
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGURG,
    signal.SIGWINCH,  # signal(7)
)
#: The signals that end a process without a core dump (signal(7)): all but those that are ignored,
#: stop it or dump its core (linux/signal.h).
FATAL_BY_DEFAULT = (2**64 - 1) & ~(
    IGNORED_BY_DEFAULT
    | _signal_set(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
    | _signal_set(signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGFPE)
    | _signal_set(signal.SIGSEGV, signal.SIGBUS, signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ)
)


def signal_masks(tid: int) -> SignalMasks:
    """Of a thread and its process."""
    fields = _status_fields(tid)
    names = "SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"
    return SignalMasks(*(int(fields.get(name, "0"), 16) for name in names))


def signalfd_mask(tid: int, fd: int) -> int | None:
    """Return the signals that a descriptor tells of (signalfd(2)), as the kernel's bit set.

    None if it is none of that kind.
    """
    text = read_text(f"/proc/{tid}/fdinfo/{fd}")
    found = re.search(r"^sigmask:\t([0-9a-f]+)$", text, re.MULTILINE)
    return int(found[1], 16) if found else None


def signalfd_masks(pid: int) -> list[int]:
    """Of all descriptors of a process that are such ones."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError as error:
        check_shortage(error)
        return []
    masks = (signalfd_mask(pid, int(name)) for name in names)
    return [mask for mask in masks if mask is not None]


def is_pending(tid: int, number: int, *, shared: bool) -> bool:
    """Whether a signal waits to be delivered to a thread, or `shared` to its process."""
    pending = _status_fields(tid).get("ShdPnd" if shared else "SigPnd", "0")
    return bool(int(pending, 16) >> (number - 1) & 1)


def timerfd_clock(tid: int, fd: int) -> int | None:
    """Return the clock id of a timerfd; None if the descriptor is none."""
    text = read_text(f"/proc/{tid}/fdinfo/{fd}")
    found = re.search(r"^clockid: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def timerfds(pid: int) -> list[int]:
    """Return the descriptors of a process that are timerfds."""
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:[timerfd]":
                found.append(int(name))
    except OSError as error:
        check_shortage(error)  # it, or one of them, is gone
    return found


def sockets(pid: int) -> Iterator[tuple[int, int]]:
    """Yield the descriptors of a process that are sockets, each with its number (inode)."""
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            inode = socket_inode(pid, int(name))
            if inode is not None:
                yield int(name), inode
    except OSError as error:  # it, or one of them, is gone
        check_shortage(error)


def descriptors(pid: int) -> Iterator[tuple[int, os.stat_result]]:
    """Yield the descriptors of a process, each with the status of its file."""
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            yield int(name), os.stat(f"/proc/{pid}/fd/{name}")
    except OSError as error:  # it, or one of them, is gone
        check_shortage(error)


def socket_inode(tid: int, descriptor: int) -> int | None:
    """Return the number of a socket; None if the descriptor is none."""
    try:
        found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{tid}/fd/{descriptor}"))
    except OSError as error:
        check_shortage(error)
        return None
    return int(found[1]) if found else None


def posix_timer_clock(tid: int, number: int) -> int | None:
    """Return the clock id of a timer made by timer_create(2).

    None if there is none that is known.
    """
    text = read_text(f"/proc/{tid}/timers")
    found = re.search(rf"^ID: {number}\n(?:.+\n)*?ClockID: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def tracer_of(tid: int) -> int:
    """Return the thread that traces a thread; 0 if none does."""
    seen = []  # the first may be of one that has just lost its number to another
    for _ in _looks_at(tid):
        seen.append(int(_status_fields(tid).get("TracerPid", "0")))
        if any(seen) or len(seen) > 1:
            break
    return seen[-1]


def is_page_present(pid: int, address: int) -> bool:
    """Whether the page at `address` is in the process's page table.

    For a page that only the process itself touches, whether it ever did
    (Documentation/admin-guide/mm/pagemap.rst).
    """
    try:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
            file.seek(address // _PAGE_SIZE * _PAGEMAP_ENTRY.size)
            entry = file.read(_PAGEMAP_ENTRY.size)
    except OSError as error:
        check_shortage(error)
        return False
    return len(entry) == _PAGEMAP_ENTRY.size and bool(
        _PAGEMAP_ENTRY.unpack(entry)[0] & _PAGEMAP_PRESENT
    )


def ignored_privilege(path: str) -> str | None:
    """Return the privilege that a program file gives, and not while it is traced.

    By its mode or its capabilities. The kernel does not give it to a program traced by an ordinary
    user (execve(2), capabilities(7)). None if there is none or the tracer is root.
    """
    if os.geteuid() == 0:
        return None
    try:
        status = os.stat(path)
    except OSError as error:
        check_shortage(error)
        return None
    if status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid():
        return f"set-user-ID {status.st_uid}"
    if (
        status.st_mode & stat.S_ISGID
        and status.st_mode & stat.S_IXGRP
        and status.st_gid != os.getegid()
    ):
        return f"set-group-ID {status.st_gid}"
    if _file_capabilities(path) & ~_own_capabilities():
        return "a file with capabilities"
    return None


def _file_capabilities(path: str) -> int:
    """Return the set that a file permits its programs (struct vfs_cap_data, linux/capability.h)."""
    try:
        data = os.getxattr(path, "security.capability")
    except OSError as error:  # none, or a file system without
        check_shortage(error)
        return 0
    words = struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4])
    return sum(word << 32 * place for place, word in enumerate(words[1:4:2]))


def _own_capabilities() -> int:
    return int(_status_fields("self").get("CapPrm", "0"), 16)
