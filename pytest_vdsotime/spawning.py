"""A start without the launcher: `subprocess`'s own code, with another fork and exec below it
(native_stub/tracer/spawn.c)."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pytest_vdsotime.kernel.spawn import ELSEWHERE, IN_DIRECTORY, Spawn
from pytest_vdsotime.launcher import launcher_failure
from pytest_vdsotime.tracer.state import Process
from pytest_vdsotime.tracer.thread import Tracer


def can_spawn(tracer: Tracer) -> bool:
    """Not where the kernel is too old for it, nor where somebody has put another function in the
    place of `subprocess.Popen._execute_child`."""
    function = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    is_own = getattr(function, "__globals__", None) is vars(subprocess)
    return is_own and tracer.load().spawner.works_here


class Spawning:
    """One start."""

    def __init__(self, tracer: Tracer, process: Process, code: bytes) -> None:
        """`process` is yet to be; `code` is its seccomp filter."""
        self._tracer = tracer
        self._process = process
        self._code = code
        self._spawn = Spawn(tracer.load().spawner)
        self._waker = 0
        self._cwd: Any = None

    def execute_child(self, popen: Any, *arguments: Any) -> None:
        """`subprocess.Popen._execute_child`. The child is announced to the tracer, which takes its
        time to wake up."""
        function = subprocess.Popen._execute_child  # type: ignore[attr-defined]
        scope = {**vars(subprocess), "_fork_exec": self._fork_exec}
        execute_child = types.FunctionType(
            function.__code__, scope, None, function.__defaults__, function.__closure__
        )
        process, spawn = self._process, self._spawn
        assert process.launch is not None and process.exited is not None
        answers = process.launch.ended, process.exited
        self._waker = self._tracer.announce(
            spawn, lambda loop: loop.launching.spawn(process, spawn), *answers
        )
        popen._posix_spawn = partial(self._posix_spawn, popen)
        try:
            execute_child(popen, *arguments)
        except BaseException:
            self._tracer.withdraw(spawn, *answers)
            raise
        finally:
            del popen._posix_spawn

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
        """With the parameters of `_posixsubprocess.fork_exec`; returns when the child is its
        program."""
        pipes, (restore_signals, start_new_session, process_group) = rest[:8], rest[8:11]
        self._cwd = cwd
        self._spawn.prepare(
            *(self._code, argv, executables, close_fds, kept_fds, cwd, env, *pipes),
            restore_signals=restore_signals,
            start_new_session=start_new_session,
            process_group=process_group,
            umask=rest[14],
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
        Programs get os.environ from it, not C's own environment."""
        close_fds, pipes = rest[:-6] == (True,), rest[-6:]  # the former since Python 3.13
        variables = []
        for name, value in (os.environ if env is None else env).items():
            if b"=" in os.fsencode(name):
                raise ValueError("illegal environment variable name")
            variables.append(b"%b=%b" % (os.fsencode(name), os.fsencode(value)))
        popen.pid = self._fork_exec(
            *(argv, [os.fsencode(executable)], close_fds, (), None, variables, *pipes, -1, -1),
            *(restore_signals, False, -1, None, None, None, -1),
        )
        popen._child_created = True
        popen._close_pipe_fds(*pipes)

    def failure(self, status: int, program: Any) -> Exception:
        """What the child's exit status means, as subprocess raises it."""
        if self._spawn.failed_in == IN_DIRECTORY:
            return OSError(status, os.strerror(status), self._cwd)
        if self._spawn.failed_in == ELSEWHERE:
            no_name = () if sys.version_info >= (3, 13) else (None,)
            return OSError(status, os.strerror(status), *no_name)
        return launcher_failure(status, program)
