"""What a child executes first, in place of the program: native_stub/launch.c, and its arguments."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pytest_vdsotime.image import LAUNCHER_NAME
from pytest_vdsotime.kernel import procfs

_MFD_EXEC = 0x10  # linux/memfd.h, since Linux 6.3
_NO_FD = -1


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


def ignored_privilege(candidates: Sequence[bytes], cwd: Any) -> str | None:
    if os.geteuid() == 0:
        return None
    for candidate in candidates:
        path = os.path.join(os.fsencode(cwd or "."), candidate)
        if b"\0" not in path and os.access(path, os.X_OK):
            return procfs.ignored_privilege(os.fsdecode(path))
    return None


class Launcher:
    """The launcher's file, reachable whatever the child has become by the time it executes it.

    Its path serves every child that keeps its identity. Another user may not reach it, and a
    `preexec_fn` may enter a chroot: those get a copy in memory, by descriptor.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = _NO_FD
        self._fd_to_close = _NO_FD

    def copy_to_memory(self, kept_fds: Sequence[int] | None) -> Sequence[int]:
        """Executes a copy, by descriptor.

        `kept_fds`: the child closes all but these first; None if it closes none. Returns them, and
        what must be kept too.
        """
        with open(self.path, "rb") as file:
            self._fd = _memory_file(file.read())
        self.path = f"/proc/self/fd/{self._fd}"
        if kept_fds is None:
            return ()  # the descriptor closes on exec
        self._fd_to_close = self._fd
        return [*kept_fds, self._fd]

    def arguments(self, candidates: Sequence[bytes], argv: Sequence[Any]) -> list[Any]:
        """The launcher's argv (native_stub/launch.c)."""
        head = [LAUNCHER_NAME, os.getpid(), self._fd_to_close, len(candidates)]
        return [*map(str, head), *candidates, *argv]

    def before_exec(
        self,
        preexec_fn: Callable[[], Any],
        arguments: list[Any],
        env: Mapping[Any, Any] | None,
        kept_fds: Sequence[int] | None,
    ) -> Callable[[], None]:
        """A preexec_fn that goes on with a copy where the path is out of reach after the user's."""
        with open(self.path, "rb") as file:
            code = file.read()
        environment = _environment() if env is None else env
        superfluous: set[int] = set()
        if kept_fds is not None:
            superfluous = set(_inheritable_fds()) - {0, 1, 2, *kept_fds}

        def run() -> None:
            preexec_fn()
            if os.access(self.path, os.X_OK):
                return
            fd = _memory_file(code)
            # What close_fds does; the rest, subprocess's own error pipe among it, closes on exec.
            for other in superfluous:
                with suppress(OSError):
                    os.close(other)
            os.execve(fd, arguments, environment)

        return run

    def close(self) -> None:
        """Gives up the copy."""
        if self._fd != _NO_FD:
            os.close(self._fd)


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


def _environment() -> dict[bytes, bytes]:
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
