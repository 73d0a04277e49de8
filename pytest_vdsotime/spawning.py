"""How a program starts: `subprocess`'s own code, with a fork and exec of ours below it.

By these (native_stub/tracer/spawn.c) the tracer has seized the child before its program begins.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.spawn import ELSEWHERE, EXIT_NO_FILTER, IN_DIRECTORY, Identity, Spawn
from pytest_vdsotime.standard import Standard
from pytest_vdsotime.tracer.state import Process
from pytest_vdsotime.tracer.thread import Tracer

#: Of a child whose descriptors `subprocess` has arranged.
NO_PIPES = (-1,) * 8


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
    """Return the paths to try, in order.

    A name without a slash is looked up in the PATH of `env`.
    """
    path = os.fsencode(program)
    if os.path.dirname(path):
        return [path]
    return [os.path.join(os.fsencode(directory), path) for directory in os.get_exec_path(env)]


def ignored_privilege(program: Any, env: Mapping[Any, Any] | None, cwd: Any) -> str | None:
    """Return what a program would have alone, and the kernel does not give it under a tracer."""
    if os.geteuid() == 0:
        return None
    for candidate in candidates_of(program, env):
        path = os.path.join(os.fsencode(cwd or "."), candidate)
        if b"\0" not in path and os.access(path, os.X_OK):
            return procfs.ignored_privilege(os.fsdecode(path))
    return None


def is_own_code() -> bool:
    """Whether `subprocess.Popen._execute_child` is the standard library's.

    Tools that tell of subprocesses put another function in its place.
    """
    function = Standard.Popen._execute_child  # type: ignore[attr-defined]
    return getattr(function, "__globals__", None) is vars(subprocess)


class Spawning:
    """One start."""

    def __init__(
        self, tracer: Tracer, process: Process, code: bytes, *, shares_memory: bool
    ) -> None:
        """`process` is yet to be; `code` is its seccomp filter.

        A child that changes its identity, or that Python has forked, does not share its parent's
        memory.
        """
        self._tracer = tracer
        self._process = process
        self._code = code
        self._spawn = Spawn(tracer.load().spawner, shares_memory=shares_memory)
        if process.is_engine:
            self._spawn.sees_exec()
        self._waker = 0
        self._cwd: Any = None

    def execute_child(self, popen: Any, *arguments: Any) -> None:
        """Do what `subprocess.Popen._execute_child` does.

        The child is announced to the tracer, which takes its time to wake up.
        """
        function = Standard.Popen._execute_child  # type: ignore[attr-defined]
        spawn = self._spawn
        scope = {**vars(subprocess), "_fork_exec": self._fork_exec}
        execute_child = types.FunctionType(
            function.__code__, scope, None, function.__defaults__, function.__closure__
        )
        self._announce()
        popen._posix_spawn = partial(self._posix_spawn, popen)
        try:
            execute_child(popen, *arguments)
        except BaseException:
            self._tracer.withdraw(spawn, *self._answers())
            raise
        finally:
            del popen._posix_spawn

    def start(
        self,
        argv: Sequence[Any],
        executables: Sequence[bytes],
        env: Mapping[Any, Any] | None = None,
        *,
        kept_fds: Sequence[int] | None = None,
        begins_session: bool = False,
        group: int = -1,
    ) -> int:
        """Start a program with what this process has; return its pid.

        Without `env` with C's environment; `kept_fds` are the only descriptors that it gets, None
        for all that are inherited.
        """
        self._announce()
        try:
            self._spawn.prepare(
                *(self._code, argv, executables, kept_fds is not None, kept_fds or (), None),
                None if env is None else _variables(env),
                *NO_PIPES,
                restore_signals=False,
                start_new_session=begins_session,
                process_group=group,
                umask=-1,
            )
            return self._spawn.run(self._waker)
        except BaseException:
            self._tracer.withdraw(self._spawn, *self._answers())
            raise

    def _announce(self) -> None:
        process, spawn = self._process, self._spawn
        self._waker = self._tracer.announce(
            spawn,
            lambda loop: loop.launching.start(process, spawn),
            *self._answers(),
            is_native=not process.is_spared,  # which is to be known before it can end
        )

    def _answers(self) -> Sequence[Any]:
        process = self._process
        assert process.launch is not None and process.exited is not None
        return process.launch.ended, process.exited

    def after_fork(
        self,
        preexec_fn: Callable[[], Any] | None,
        argv: Sequence[Any],
        candidates: Sequence[bytes],
        env: Mapping[Any, Any] | None,
        kept_fds: Sequence[int] | None,
    ) -> Callable[[], None]:
        """Return a preexec_fn that does the same behind the user's own.

        For where Python is to run in the child. `kept_fds`: the child closes all but these; None if
        it closes none.
        """
        spawn, closes_others = self._spawn, kept_fds is not None
        spawn.prepare(
            *(self._code, argv, candidates, closes_others, sorted(kept_fds or ()), None),
            None if env is None else _variables(env),
            *NO_PIPES,
            restore_signals=False,
            start_new_session=False,
            process_group=-1,
            umask=-1,
        )

        def run() -> None:
            closing = closing_fds()  # those of subprocess; /proc may be out of reach afterwards
            if preexec_fn is not None:
                preexec_fn()
            for fd in () if closes_others else closing:
                with suppress(OSError):
                    os.close(fd)
            spawn.become(has_own_environment=env is not None)

        return run

    def announce_forked(self, pid: int) -> None:
        """Have the tracer seize the child that runs what `after_fork` has returned."""
        process, spawn = self._process, self._spawn
        process.pid = pid
        self._tracer.post(lambda loop: loop.launching.start(process, spawn, pid), *self._answers())

    def _fork_exec(
        self,
        argv: Sequence[Any],
        executables: Sequence[bytes],
        close_fds: bool,
        kept_fds: Sequence[int],
        cwd: Any,
        env: Sequence[bytes] | None,
        *rest: Any,
    ) -> int:
        """Do what `_posixsubprocess.fork_exec` does, with its parameters."""
        pipes, (restore_signals, start_new_session, process_group) = rest[:8], rest[8:11]
        self._cwd = cwd
        self._spawn.prepare(
            *(self._code, argv, executables, close_fds, kept_fds, cwd, env, *pipes),
            restore_signals=restore_signals,
            start_new_session=start_new_session,
            process_group=process_group,
            umask=rest[14],
            identity=Identity(*rest[11:14]),
        )
        return self._spawn.run(self._waker)

    def _posix_spawn(
        self,
        popen: Any,
        argv: Sequence[Any],
        executable: Any,
        env: Mapping[Any, Any] | None,
        restore_signals: bool,
        *rest: Any,
    ) -> None:
        """With the parameters of `subprocess.Popen._posix_spawn`, which that takes where it can.

        Programs get os.environ from it, not C's own environment.
        """
        close_fds, pipes = rest[:-6] == (True,), rest[-6:]  # the former since Python 3.13
        variables = _variables(os.environ if env is None else env)
        popen.pid = self._fork_exec(
            *(argv, [os.fsencode(executable)], close_fds, (), None, variables, *pipes, -1, -1),
            *(restore_signals, False, -1, None, None, None, -1),
        )
        popen._child_created = True
        popen._close_pipe_fds(*pipes)

    def failure(self, status: int, program: Any) -> Exception:
        """Return what the child's exit status means, as subprocess raises it."""
        if self._spawn.failed_in == IN_DIRECTORY:
            return OSError(status, os.strerror(status), self._cwd)
        if self._spawn.failed_in == ELSEWHERE:
            no_name = () if sys.version_info >= (3, 13) else (None,)
            return OSError(status, os.strerror(status), *no_name)
        if status == EXIT_NO_FILTER:
            return UnsupportedProgram(
                f"starting {program!r} failed: seccomp refuses the filter that catches system "
                "calls about time; the kernel needs CONFIG_SECCOMP_FILTER, and a sandbox has to "
                "allow seccomp"
            )
        return OSError(status, os.strerror(status), program)


def _variables(env: Mapping[Any, Any]) -> list[bytes]:
    variables = []
    for name, value in env.items():
        if b"=" in os.fsencode(name):
            raise ValueError("illegal environment variable name")
        variables.append(b"%b=%b" % (os.fsencode(name), os.fsencode(value)))
    return variables


def closing_fds() -> list[int]:
    """Return the descriptors of this process that close at its exec."""
    closing = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the listing's own
            if not os.get_inheritable(fd):
                closing.append(fd)
    return closing
