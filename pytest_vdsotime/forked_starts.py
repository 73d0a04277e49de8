"""Programs that a child starts which Python has forked: what is to be done in it, and by whom.

For what `os.posix_spawn` and multiprocessing can have a child do that the native start cannot, and
for starts by children of the test process.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any


def prepare(
    *,
    file_actions: Iterable[Sequence[Any]] | None = (),
    setpgroup: int | None = None,
    resetids: bool = False,
    setsid: bool = False,
    setsigmask: Iterable[int] = (),
    setsigdef: Iterable[int] = (),
    scheduler: tuple[int | None, Any] | None = None,
) -> None:
    """In a child: do what posix_spawn(3) does before its exec, in that order."""
    for number in setsigdef:
        signal.signal(number, signal.SIG_DFL)
    if scheduler is not None and scheduler[0] is None:
        os.sched_setparam(0, scheduler[1])
    elif scheduler is not None:
        os.sched_setscheduler(0, *scheduler)  # type: ignore[arg-type]
    if setsid:
        os.setsid()
    if setpgroup is not None:
        os.setpgid(0, setpgroup)
    if resetids:
        os.setegid(os.getgid())
        os.seteuid(os.getuid())
    for action, fd, *rest in file_actions or ():
        if action == os.POSIX_SPAWN_CLOSE:
            with suppress(OSError):
                os.close(fd)
        elif action == os.POSIX_SPAWN_DUP2:
            os.dup2(fd, rest[0])
            os.set_inheritable(rest[0], True)
        elif action == os.POSIX_SPAWN_OPEN:
            _open_as(fd, *rest)
        else:  # POSIX_SPAWN_CLOSEFROM, since Python 3.13
            os.closerange(fd, os.sysconf("SC_OPEN_MAX"))
    if setsigmask:
        signal.pthread_sigmask(signal.SIG_SETMASK, setsigmask)


def _open_as(fd: int, path: Any, flags: int, mode: int) -> None:
    with suppress(OSError):
        os.close(fd)
    opened = os.open(path, flags, mode)
    os.dup2(opened, fd)
    os.set_inheritable(fd, True)
    if opened != fd:
        os.close(opened)


def start(
    argv: Sequence[Any],
    candidates: Sequence[bytes],
    env: Mapping[Any, Any] | None,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[int, int]:
    """Start a program by a child that prepares itself in Python.

    Returns its pid and the errno of what has failed, or 0.

    The child says an errno of its own through memory that it shares: any descriptor may be closed.
    """
    failed = memoryview(mmap.mmap(-1, 8)).cast("q")
    reader, writer = os.pipe()  # which closes at the exec, or the end
    with warnings.catch_warnings():
        # Python's own, since 3.12: "This process is multi-threaded". The child executes at once.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            prepare()
            for candidate in candidates:
                with suppress(FileNotFoundError, NotADirectoryError):
                    os.execve(candidate, [*argv], os.environ if env is None else env)
            failed[0] = errno.ENOENT
        except OSError as error:
            failed[0] = error.errno or errno.EINVAL
        finally:
            os._exit(127)
    os.close(writer)
    with open(reader, "rb") as pipe:
        pipe.read()
    return pid, failed[0]


def keep(kept: Sequence[int]) -> None:
    """In a child: close every descriptor but these and the standard streams."""
    first = 3
    for fd in kept:
        os.closerange(first, fd)
        os.set_inheritable(fd, True)
        first = max(first, fd + 1)
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


# --- the fork server of multiprocessing -----------------------------------------------------------

#: What it is known by, in `ForkServer`.
_SERVER = "_forkserver_address", "_forkserver_alive_fd", "_forkserver_pid"


@contextmanager
def own_fork_server(former_servers: list[int]) -> Iterator[None]:
    """Have a fork server that runs already, in real time, serve no process meanwhile.

    The first process starts another one, on the clock, which serves nobody afterwards:
    `former_servers` is to have its pid.
    """
    former = _exchange_fork_server([None] * len(_SERVER))
    try:
        yield
    finally:
        _, descriptor, pid = _exchange_fork_server(former)
        if pid is not None:
            os.close(descriptor)  # it ends with its last process, or with the clock
            former_servers.append(pid)


def _exchange_fork_server(state: Sequence[Any]) -> Sequence[Any]:
    """Set what is known of the fork server; return what was."""
    if "multiprocessing.forkserver" not in sys.modules:
        return [None] * len(_SERVER)
    server = sys.modules["multiprocessing.forkserver"]._forkserver
    former = [getattr(server, name) for name in _SERVER]
    for name, value in zip(_SERVER, state, strict=True):
        setattr(server, name, value)
    return former
