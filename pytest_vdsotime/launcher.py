"""What a child executes first, in place of the program: native_stub/launch.c, and its arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_vdsotime.kernel import procfs

_NAME = "vdsotime-launch"
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

    def copy_to_memory(self) -> None:
        """Where the host forbids executable memory files, the path has to do."""
        flags = os.MFD_CLOEXEC
        with open(self.path, "rb") as file:
            code = file.read()
        for flag in (_MFD_EXEC, 0):
            try:
                self._fd = os.memfd_create(_NAME, flags | flag)
            except OSError:
                continue
            os.write(self._fd, code)
            return

    def use_memory(self, kept_fds: Sequence[int] | None) -> Sequence[int]:
        """Executes the copy. `kept_fds`: all but these are closed before; None if none is.
        Returns them, with its own."""
        if self._fd == _NO_FD:
            return kept_fds or ()
        self.path = f"/proc/self/fd/{self._fd}"
        if kept_fds is None:
            return ()  # it closes itself on exec
        self._fd_to_close = self._fd
        return [*kept_fds, self._fd]

    def arguments(self, candidates: Sequence[bytes], argv: Sequence[Any]) -> list[Any]:
        """The launcher's argv (native_stub/launch.c)."""
        return [
            _NAME,
            str(os.getpid()),
            str(self._fd_to_close),
            str(len(candidates)),
            *candidates,
            *argv,
        ]

    def before_exec(
        self,
        preexec_fn: Callable[[], Any],
        arguments: list[Any],
        env: Mapping[Any, Any] | None,
        kept_fds: Sequence[int] | None,
    ) -> Callable[[], None]:
        """A preexec_fn that goes on with the copy where the path is out of reach after the user's
        own."""

        def run() -> None:
            preexec_fn()
            if self._fd == _NO_FD or os.access(self.path, os.X_OK):
                return
            if kept_fds is not None:
                _close_all_but({0, 1, 2, self._fd, *kept_fds})
            os.execve(self._fd, arguments, os.environ if env is None else env)

        return run

    def close(self) -> None:
        """Gives up the copy."""
        if self._fd != _NO_FD:
            os.close(self._fd)


def _close_all_but(kept: set[int]) -> None:
    """What is inheritable; subprocess's own error pipe is not, and closes on exec."""
    for name in (
        os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else map(str, range(65536))
    ):
        fd = int(name)
        try:
            if fd not in kept and os.get_inheritable(fd):
                os.close(fd)
        except OSError:
            continue
