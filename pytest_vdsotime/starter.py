"""What a clock has of `subprocess` and `asyncio`: how programs are started on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from pytest_vdsotime.clock import FrozenClock
    from pytest_vdsotime.popen import FrozenPopen

F = TypeVar("F")
Word: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
Command: TypeAlias = "Word | Sequence[Word]"
File: TypeAlias = "int | IO[Any] | None"
Environment: TypeAlias = "Mapping[bytes, Word] | Mapping[str, Word] | None"


class _PopenKeywords(TypedDict, total=False):
    """Of `subprocess.Popen`, but for those that decide between text and bytes."""

    bufsize: int
    executable: Word | None
    stdin: File
    stdout: File
    stderr: File
    preexec_fn: Callable[[], object] | None
    close_fds: bool
    shell: bool
    cwd: Word | None
    env: Environment
    startupinfo: Any
    creationflags: int
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None


class _Like(Generic[F]):
    """A function of a clock that has the parameters, and the types, of another one."""

    def __init__(self, _function: F, doc: str) -> None:
        self.__doc__ = doc
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, clock: Starter | None, owner: type) -> F:
        return cast("F", self if clock is None else clock._functions_of_subprocess()[self._name])


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
        **keywords: Unpack[_PopenKeywords],
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
        **keywords: Unpack[_PopenKeywords],
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
        **keywords: Unpack[_PopenKeywords],
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
        **keywords: Unpack[_PopenKeywords],
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
        **keywords: Unpack[_PopenKeywords],
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
        **keywords: Unpack[_PopenKeywords],
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

    run = _Like(
        subprocess.run,
        """`subprocess.run` on this clock, for what ends without the test's help::

            year = clock.run(["date", "+%Y"], capture_output=True, text=True).stdout

        `timeout` is in real seconds; the TimeoutExpired has a note of what each thread waits for.
        Raises what `subprocess.run` and `popen` raise.
        """,
    )
    call = _Like(
        subprocess.call,
        """`subprocess.call` on this clock: the exit status. Otherwise as `run`.""",
    )
    check_call = _Like(
        subprocess.check_call,
        """`subprocess.check_call` on this clock: CalledProcessError unless the program ends
        with 0. Otherwise as `run`.""",
    )
    check_output = _Like(
        subprocess.check_output,
        """`subprocess.check_output` on this clock: what the program printed, CalledProcessError
        unless it ends with 0. Otherwise as `run`.""",
    )

    def _functions_of_subprocess(self) -> Mapping[str, Callable[..., Any]]:
        if self._functions is None:
            from pytest_vdsotime.patching import subprocess_functions

            self._functions = subprocess_functions(self._clock())
        return self._functions

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
