"""What a clock has of `subprocess`: how programs are started on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from subprocess import CompletedProcess

    from typing_extensions import Buffer

    from pytest_vdsotime.clock import FrozenClock
    from pytest_vdsotime.keywords import (
        CallKeywords,
        Command,
        File,
        OutputKeywords,
        PopenKeywords,
        RunKeywords,
        Word,
    )
    from pytest_vdsotime.popen import FrozenPopen


class Starter:
    """Base of FrozenClock."""

    _functions: Mapping[str, Callable[..., Any]] | None = None

    def _clock(self) -> FrozenClock:
        return cast("FrozenClock", self)

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        text: Literal[True],
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        encoding: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        errors: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        universal_newlines: Literal[True],
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        text: Literal[False] | None = None,
        universal_newlines: Literal[False] | None = None,
        encoding: None = None,
        errors: None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[bytes]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[Any]: ...

    def popen(self, args: Any, *more: Any, **keywords: Any) -> FrozenPopen[Any]:
        """Starts a program on this clock: a `subprocess.Popen`, with the same parameters and
        exceptions. It ends with the clock at the latest::

            server = clock.popen(["redis-server", "--port", "0"], stdout=PIPE, text=True)

        Warns with RealTimeWarning, here or in the next call, of a program that runs in real time.

        Raises:
            ClockClosed: this clock is closed, or was inherited through fork.
            FileNotFoundError, PermissionError, OSError: as `subprocess.Popen`.
            TracingUnavailable: programs cannot be traced here; it has `reason` and `remedy`.
            UnsupportedProgram: it could not be given the clock, and was killed.
        """
        from pytest_vdsotime.popen import FrozenPopen

        return FrozenPopen(args, *more, clock=self._clock(), **keywords)

    @overload
    def run(
        self,
        args: Command,
        *more: Any,
        text: Literal[True],
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        input: str | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...

    @overload
    def run(
        self,
        args: Command,
        *more: Any,
        encoding: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        errors: str | None = None,
        input: str | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...

    @overload
    def run(
        self,
        args: Command,
        *more: Any,
        errors: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        input: str | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...

    @overload
    def run(
        self,
        args: Command,
        *more: Any,
        universal_newlines: Literal[True],
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        input: str | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...

    @overload
    def run(
        self,
        args: Command,
        *more: Any,
        text: Literal[False] | None = None,
        universal_newlines: Literal[False] | None = None,
        encoding: None = None,
        errors: None = None,
        input: Buffer | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[bytes]: ...

    @overload
    def run(
        self,
        args: Command,
        *more: Any,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        input: str | Buffer | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[Any]: ...

    def run(self, *args: Any, **keywords: Any) -> Any:
        """`subprocess.run` on this clock, for what ends without the test's help::

            year = clock.run(["date", "+%Y"], capture_output=True, text=True).stdout

        `timeout` is in real seconds; the TimeoutExpired has a note of what each thread waits for.
        Raises what `subprocess.run` and `popen` raise.
        """
        return self._subprocess("run")(*args, **keywords)

    def call(self, args: Command, *more: Any, **keywords: Unpack[CallKeywords]) -> int:
        """`subprocess.call` on this clock: the exit status. Otherwise as `run`."""
        status: int = self._subprocess("call")(args, *more, **keywords)
        return status

    def check_call(self, args: Command, *more: Any, **keywords: Unpack[CallKeywords]) -> int:
        """`subprocess.check_call` on this clock: CalledProcessError unless the program ends
        with 0. Otherwise as `run`."""
        status: int = self._subprocess("check_call")(args, *more, **keywords)
        return status

    @overload
    def check_output(
        self,
        args: Command,
        *more: Any,
        text: Literal[True],
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        input: str | None = None,
        **keywords: Unpack[OutputKeywords],
    ) -> str: ...

    @overload
    def check_output(
        self,
        args: Command,
        *more: Any,
        encoding: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        errors: str | None = None,
        input: str | None = None,
        **keywords: Unpack[OutputKeywords],
    ) -> str: ...

    @overload
    def check_output(
        self,
        args: Command,
        *more: Any,
        errors: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        input: str | None = None,
        **keywords: Unpack[OutputKeywords],
    ) -> str: ...

    @overload
    def check_output(
        self,
        args: Command,
        *more: Any,
        universal_newlines: Literal[True],
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        input: str | None = None,
        **keywords: Unpack[OutputKeywords],
    ) -> str: ...

    @overload
    def check_output(
        self,
        args: Command,
        *more: Any,
        text: Literal[False] | None = None,
        universal_newlines: Literal[False] | None = None,
        encoding: None = None,
        errors: None = None,
        input: Buffer | None = None,
        **keywords: Unpack[OutputKeywords],
    ) -> bytes: ...

    @overload
    def check_output(
        self,
        args: Command,
        *more: Any,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        input: str | Buffer | None = None,
        **keywords: Unpack[OutputKeywords],
    ) -> Any: ...

    def check_output(self, *args: Any, **keywords: Any) -> Any:
        """`subprocess.check_output` on this clock: what the program printed, CalledProcessError
        unless it ends with 0. Otherwise as `run`."""
        return self._subprocess("check_output")(*args, **keywords)

    def _subprocess(self, name: str) -> Callable[..., Any]:
        if self._functions is None:
            from pytest_vdsotime.patching import subprocess_functions

            self._functions = subprocess_functions(self._clock())
        return self._functions[name]

    async def create_subprocess_exec(
        self,
        program: Word,
        *args: Word,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        limit: int = 2**16,
        **keywords: Any,
    ) -> Process:
        """`asyncio.create_subprocess_exec` on this clock. Raises what it raises, and as `popen`.

        The tracer tells of the end, not the event loop's child watcher: it works on every loop of
        every thread.
        """
        from pytest_vdsotime.aio import create_subprocess

        pipes: dict[str, File] = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await create_subprocess(
            self._clock(), "exec", program, *args, limit=limit, **pipes, **keywords
        )

    async def create_subprocess_shell(
        self,
        cmd: str | bytes,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        limit: int = 2**16,
        **keywords: Any,
    ) -> Process:
        """`asyncio.create_subprocess_shell` on this clock, as `create_subprocess_exec`."""
        from pytest_vdsotime.aio import create_subprocess

        pipes: dict[str, File] = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await create_subprocess(
            self._clock(), "shell", cmd, limit=limit, **pipes, **keywords
        )

    def patch_subprocess(self) -> AbstractContextManager[None]:
        """Inside it, the test process's subprocesses start on this clock: `subprocess.Popen`, `run`
        and the like, under whatever name they were imported, classes derived from Popen, and those
        of asyncio's event loops and uvloop's. Leaving it undoes it exactly::

            with clock.patch_subprocess():
                subprocess.run(["./job.sh"])

        Raises TracingUnavailable.
        """
        from pytest_vdsotime.patching import patch_subprocess

        return patch_subprocess(self._clock())
