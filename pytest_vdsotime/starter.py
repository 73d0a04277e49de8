"""What a clock has of `subprocess`: how programs are started on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from pytest_vdsotime.clock import FrozenClock
    from pytest_vdsotime.popen import FrozenPopen


class Starter:
    """Base of FrozenClock."""

    _functions: Mapping[str, Callable[..., Any]] | None = None

    def _clock(self) -> FrozenClock:
        return cast("FrozenClock", self)

    def popen(self, args: Any, *more: Any, **keywords: Any) -> FrozenPopen:
        """Starts a program on this clock: a `subprocess.Popen`, with the same parameters and
        exceptions.

        Raises:
            TracingUnavailable: programs cannot be traced here.
            UnsupportedProgram: it could not be given the clock, and was killed.
        """
        from pytest_vdsotime.popen import FrozenPopen

        return FrozenPopen(args, *more, clock=self._clock(), **keywords)

    def run(self, *args: Any, **keywords: Any) -> Any:
        """`subprocess.run` on this clock; `timeout` is real time."""
        return self._subprocess("run")(*args, **keywords)

    def call(self, *args: Any, **keywords: Any) -> int:
        """`subprocess.call` on this clock."""
        status: int = self._subprocess("call")(*args, **keywords)
        return status

    def check_call(self, *args: Any, **keywords: Any) -> int:
        """`subprocess.check_call` on this clock."""
        status: int = self._subprocess("check_call")(*args, **keywords)
        return status

    def check_output(self, *args: Any, **keywords: Any) -> Any:
        """`subprocess.check_output` on this clock."""
        return self._subprocess("check_output")(*args, **keywords)

    def _subprocess(self, name: str) -> Callable[..., Any]:
        if self._functions is None:
            from pytest_vdsotime.patching import subprocess_functions

            self._functions = subprocess_functions(self._clock())
        return self._functions[name]

    async def create_subprocess_exec(
        self,
        program: str | bytes | os.PathLike[Any],
        *args: str | bytes | os.PathLike[Any],
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        limit: int = 2**16,
        **keywords: Any,
    ) -> Process:
        """`asyncio.create_subprocess_exec` on this clock. Raises what it raises, and as `popen`.

        The tracer tells of the end, not the event loop's child watcher: it works on every loop of
        every thread.
        """
        from pytest_vdsotime.aio import create_subprocess

        pipes = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await create_subprocess(
            self._clock(), "exec", program, *args, limit=limit, **pipes, **keywords
        )

    async def create_subprocess_shell(
        self,
        cmd: str | bytes,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        limit: int = 2**16,
        **keywords: Any,
    ) -> Process:
        """`asyncio.create_subprocess_shell` on this clock, as `create_subprocess_exec`."""
        from pytest_vdsotime.aio import create_subprocess

        pipes = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await create_subprocess(
            self._clock(), "shell", cmd, limit=limit, **pipes, **keywords
        )

    def patch_subprocess(self) -> AbstractContextManager[None]:
        """Inside it, the test process's subprocesses start on this clock: `subprocess.Popen`, `run`
        and the like, under whatever name they were imported, classes derived from Popen, and
        those of asyncio's event loops and uvloop's. Leaving it undoes it exactly."""
        from pytest_vdsotime.patching import patch_subprocess

        return patch_subprocess(self._clock())
