"""Whether programs can be traced here, and if not, why and what mends it.

:func:`known_obstacle` knows from a few small files, so that pytest's header costs nothing;
:func:`explain` puts words to a refusal that only shows when it is tried.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pytest_vdsotime.arch import MACHINES
from pytest_vdsotime.errors import missing, source_tree

NATIVE = Path(__file__).with_name("native")
#: What else a machine's kernel may run, and a file that it has then (CONFIG_IA32_EMULATION).
_RUNS_TOO = {"x86_64": ("i386", Path("/proc/sys/abi/vsyscall32"))}

_PAGE_SIZE = 4096
_CAP_SYS_PTRACE = 19  # linux/capability.h
_SECCOMP_MODE_FILTER = 2  # proc_pid_status(5)

#: Why not, and what to change.
Obstacle = tuple[str, str]


class Facts(NamedTuple):
    """What decides whether this process may trace the programs that it starts."""

    platform: str
    machine: str
    built_machines: frozenset[str]
    tracer: str | None
    """The program that traces this process, with its pid."""
    yama_scope: int
    may_ptrace: bool
    """CAP_SYS_PTRACE is in the effective set."""
    filtered: bool
    """A seccomp filter is in force."""
    has_proc: bool = True
    """/proc is mounted."""
    is_open: bool = True
    """To its own user: it is dumpable (prctl(2), PR_SET_DUMPABLE)."""
    page_size: int = _PAGE_SIZE
    """Of its memory, in bytes."""
    source_tree: str = ""
    """The checkout that this package was imported from, if it was."""

    @classmethod
    def read(cls) -> Facts:
        """Return the facts about this process."""
        built = frozenset(folder.name for folder in NATIVE.glob("*/"))
        if sys.platform != "linux":
            return cls(sys.platform, "", built, None, 0, False, False)
        status = _status("/proc/self")
        return cls(
            sys.platform,
            os.uname().machine,
            built,
            _program_with_pid(int(status.get("TracerPid", "0"))),
            _yama_scope(),
            bool(int(status.get("CapEff", "0"), 16) >> _CAP_SYS_PTRACE & 1),
            status.get("Seccomp") == str(_SECCOMP_MODE_FILTER),
            bool(status),
            not status or os.access("/proc/self/mem", os.R_OK, effective_ids=True),
            os.sysconf("SC_PAGE_SIZE"),
            source_tree(),
        )


def program_kinds() -> list[str]:
    """Return the architectures whose programs can be given the clock here.

    The machine's own comes first.
    """
    machine = os.uname().machine
    if machine in _RUNS_TOO:
        name, shown_by = _RUNS_TOO[machine]
        if (NATIVE / name).is_dir() and shown_by.exists():
            return [machine, name]
    return [machine]


def _status(directory: str) -> Mapping[str, str]:
    """Empty for what has ended."""
    try:
        text = Path(directory, "status").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    lines = text.split("\n")  # a program's own name may have any other end of a line in it
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}


def _program_with_pid(pid: int) -> str | None:
    if pid == 0:
        return None
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:  # another pid namespace, or /proc mounted with hidepid
        name = "another program"
    return f"{name} (pid {pid})"


def _yama_scope() -> int:
    """kernel.yama.ptrace_scope (Documentation/admin-guide/LSM/Yama.rst); 0 without Yama."""
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except OSError:
        return 0


def obstacle(facts: Facts) -> Obstacle | None:
    """Return what in `facts` makes tracing impossible, or None."""
    if facts.platform != "linux":
        return (
            f"tracing programs needs Linux, and this is {facts.platform}",
            "run these tests on Linux",
        )
    if not facts.built_machines:
        return missing("native/, the code that runs in programs,", facts.source_tree)
    if facts.machine not in facts.built_machines:
        built = ", ".join(sorted(facts.built_machines))
        return (
            f"there are no native objects for {facts.machine} in this installation (only: {built})",
            "install a release that supports this architecture",
        )
    if facts.machine not in MACHINES:
        return (
            f"programs for {facts.machine} cannot be given the clock",
            f"run these tests on one of {', '.join(MACHINES)}",
        )
    if not facts.has_proc:
        return "/proc is not mounted, which tells what programs do", "mount -t proc proc /proc"
    if not facts.is_open:
        return (
            "this process is closed to its own user (PR_SET_DUMPABLE, prctl(2)), as after a change "
            "of its user",
            "start it as that user, with 'setpriv --reuid' or 'su'",
        )
    if facts.page_size != _PAGE_SIZE:
        return (
            f"this kernel has memory pages of {facts.page_size} bytes, not {_PAGE_SIZE}",
            f"boot a kernel with pages of {_PAGE_SIZE} bytes",
        )
    if facts.tracer:
        return _traced_by(facts.tracer)
    if facts.yama_scope >= 3:
        return (
            "kernel.yama.ptrace_scope is 3: nothing may be traced until the next boot",
            "set kernel.yama.ptrace_scope to 1 in /etc/sysctl.d and reboot",
        )
    if facts.yama_scope == 2 and not facts.may_ptrace:
        return (
            "kernel.yama.ptrace_scope is 2, and this process lacks CAP_SYS_PTRACE",
            "run 'sysctl kernel.yama.ptrace_scope=1' as root",
        )
    return None


def _traced_by(tracer: str) -> Obstacle:
    return (
        f"this process is traced by {tracer}, and so is what it starts",
        "run it without strace -f, a debugger or another vdsotime around it",
    )


def known_obstacle() -> Obstacle | None:
    """Why programs cannot be traced here and what to change, or None if nothing is known.

    It starts nothing: a refusal by a sandbox shows only when it is tried (:func:`explain`).
    """
    return obstacle(Facts.read())


def explain_seizing(pid: int, error: int, operation: str) -> Obstacle:
    """Return the reason and the remedy when a running process cannot be traced."""
    reason = f"{operation} failed"
    tracers = [_status(f"/proc/{pid}/task/{tid}").get("TracerPid", "0") for tid in _threads(pid)]
    tracer = max(map(int, tracers), default=0)
    if tracer:
        return (
            f"{reason}: {_program_with_pid(tracer)} traces it already",
            "end that, or start the program on the clock instead",
        )
    facts = Facts.read()
    uids = set(_status(f"/proc/{pid}").get("Uid", "").split())
    if not facts.may_ptrace and uids != {str(os.geteuid())}:
        return (
            f"{reason}: it has the rights of another user",
            "run the tests as that user or as root, or start the program on the clock instead",
        )
    if not facts.may_ptrace and facts.yama_scope == 1:
        return (
            f"{reason}: kernel.yama.ptrace_scope is 1, and it is no descendant of this process",
            "run 'sysctl kernel.yama.ptrace_scope=0' as root, or start the program on the clock "
            "instead",
        )
    if not facts.may_ptrace and not os.access(f"/proc/{pid}/environ", os.R_OK):
        return (
            f"{reason}: it is closed to its own user (PR_SET_DUMPABLE, prctl(2); or its file is "
            "execute-only)",
            "run the tests as root",
        )
    return explain(error, operation, facts)


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def explain(error: int, operation: str, facts: Facts | None = None) -> Obstacle:
    """Return the reason and the remedy when `operation` failed with `error`.

    An operation is such as "PTRACE_SEIZE".
    """
    facts = facts or Facts.read()
    reason = f"{operation} failed: {os.strerror(error)}"
    known = obstacle(facts)
    if known is not None:
        return f"{reason}; {known[0]}", known[1]
    if error == errno.EIO:  # as for any request that is not known (ptrace(2))
        return f"{reason}; the kernel is too old", "run these tests on Linux 5.3 or later"
    if facts.filtered or error == errno.ENOSYS:
        return (
            f"{reason}; a sandbox (seccomp) forbids it",
            "allow ptrace in the sandbox: a container needs --cap-add=SYS_PTRACE "
            "or --security-opt seccomp=unconfined",
        )
    return (
        f"{reason}; a security module forbids it",
        "allow ptrace to this user: kernel.yama.ptrace_scope=1, SELinux deny_ptrace=off, "
        "an AppArmor profile with 'ptrace'",
    )
