"""What a child executes before its program where spawning.py does not do:
native_stub/program/launch.c, and its arguments."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.image import LAUNCHER_NAME
from pytest_vdsotime.kernel import procfs

_MFD_EXEC = 0x10  # linux/memfd.h, since Linux 6.3
# Of native_stub/program/launch.c
_EXIT_IDENTITY, _EXIT_NO_FILTER = 128, 255


def program_of(args: Any, executable: Any, shell: bool) -> tuple[list[Any], Any]:
    """(argv, the program to execute), as `subprocess.Popen` makes them of its parameters."""
    if isinstance(args, (str, bytes)):
        argv: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        argv = [args]
    else:
        argv = list(args)
    if shell:
        argv = ["/bin/sh", "-c", *argv]
        if executable:
            argv[0] = executable
    return argv, argv[0] if executable is None else executable


def candidates_of(program: Any, env: Mapping[Any, Any] | None) -> list[bytes]:
    """The paths to try, in order: a name without a slash is looked up in the PATH of `env`."""
    path = os.fsencode(program)
    if os.path.dirname(path):
        return [path]
    return [os.path.join(os.fsencode(directory), path) for directory in os.get_exec_path(env)]


def ignored_privilege(program: Any, env: Mapping[Any, Any] | None, cwd: Any) -> str | None:
    """What a program would have alone, and the kernel does not give it under a tracer."""
    if os.geteuid() == 0:
        return None
    for candidate in candidates_of(program, env):
        path = os.path.join(os.fsencode(cwd or "."), candidate)
        if b"\0" not in path and os.access(path, os.X_OK):
            return procfs.ignored_privilege(os.fsdecode(path))
    return None


@dataclass(frozen=True, slots=True)
class Identity:
    """What a child is to become; None: as it is."""

    uid: int | None = None
    gid: int | None = None
    groups: Sequence[int] | None = None

    def arguments(self) -> list[str]:
        """In the launcher's argv."""
        groups = "-" if self.groups is None else ",".join(map(str, self.groups))
        return [*("-" if one is None else str(one) for one in (self.uid, self.gid)), groups]


AS_IT_IS = Identity()


def launcher_arguments(
    parent: int, code: bytes, identity: Identity, candidates: Sequence[bytes], argv: Sequence[Any]
) -> list[Any]:
    """The launcher's argv (native_stub/program/launch.c); `code` is the seccomp filter."""
    head = [LAUNCHER_NAME, str(parent), code.hex(), *identity.arguments(), str(len(candidates))]
    return [*head, *candidates, *argv]


def launcher_failure(status: int, program: Any) -> Exception:
    """What its exit status means, as subprocess raises it."""
    if status == _EXIT_NO_FILTER:
        return UnsupportedProgram(
            f"starting {program!r} failed: seccomp refuses the filter that catches system calls "
            "about time; the kernel needs CONFIG_SECCOMP_FILTER, and a sandbox has to allow seccomp"
        )
    if status > _EXIT_IDENTITY:
        number = status - _EXIT_IDENTITY
        return OSError(number, os.strerror(number))
    return OSError(status, os.strerror(status), program)


def with_launcher_in_reach(
    launcher: str,
    preexec_fn: Callable[[], Any],
    arguments: list[Any],
    env: Mapping[Any, Any] | None,
    kept_fds: Sequence[int] | None,
) -> Callable[[], None]:
    """A preexec_fn that goes on with a copy of the launcher where its path is out of reach after
    the
    user's own: it may have entered a chroot, or become a user who may not go there.

    `kept_fds`: the child closes all but these first; None if it closes none.
    """
    with open(launcher, "rb") as file:
        code = file.read()
    environment = c_environment() if env is None else env
    superfluous: set[int] = set()
    if kept_fds is not None:
        superfluous = set(_inheritable_fds()) - {0, 1, 2, *kept_fds}

    def run() -> None:
        preexec_fn()
        if os.access(launcher, os.X_OK):
            return
        fd = _memory_file(code)
        # What close_fds does; the rest, subprocess's own error pipe among it, closes on exec.
        for other in superfluous:
            with suppress(OSError):
                os.close(other)
        os.execve(fd, arguments, environment)

    return run


def _memory_file(code: bytes) -> int:
    """A descriptor of an executable memory file, which closes on exec.

    Raises PermissionError where the host forbids them (vm.memfd_noexec).
    """
    try:
        fd = os.memfd_create(LAUNCHER_NAME, os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(LAUNCHER_NAME, os.MFD_CLOEXEC)  # before Linux 6.3
    os.write(fd, code)
    return fd


def c_environment() -> dict[bytes, bytes]:
    """What an exec without an environment passes on: C's own, which libraries change behind
    os.environ (readline sets COLUMNS)."""
    entries = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    environment: dict[bytes, bytes] = {}
    for entry in itertools.takewhile(
        lambda entry: entry is not None, map(entries.__getitem__, itertools.count())
    ):
        name, _, value = entry.partition(b"=")
        environment[name] = value
    return environment


def _inheritable_fds() -> list[int]:
    inheritable = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the listing's own
            if os.get_inheritable(fd):
                inheritable.append(fd)
    return inheritable
