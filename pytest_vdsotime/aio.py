"""asyncio's subprocesses on a clock.

Protocols, streams and `Process` are asyncio's own. Its transports are too, but that their program
is a FrozenPopen, and that the tracer tells of its end: a child watcher would wait for the pid, and
so take away the tracer's stops.
"""

from __future__ import annotations

import asyncio
from asyncio.base_events import BaseEventLoop
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pytest_vdsotime.errors import Short, VdsoTimeError
from pytest_vdsotime.popen import FrozenPopen
from pytest_vdsotime.session import ClockSession


class _Program(FrozenPopen[bytes]):
    """The program of a transport, which has its pipes."""

    def _close_pipes(self) -> None:
        """Leave the pipes to the event loop, which watches them and closes them at their end."""


class _Transport(BaseSubprocessTransport):
    _session: ClockSession

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **keywords: Any,
    ) -> None:
        self._session = session = keywords.pop("session")
        loop: asyncio.AbstractEventLoop = self._loop
        program = _Program(
            args,
            session=session,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=bufsize,
            **keywords,
        )
        self._proc = program

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._has_ended, program)

        program.when_exited(tell)

    def _has_ended(self, program: _Program) -> None:
        with suppress(VdsoTimeError):  # a tracer that fails ends its programs, and says so itself
            program._internal_poll()
        self._process_exited(program.returncode)

    async def _wait(self) -> int:
        status: int = await super()._wait()
        self._session.raise_news()
        return status


async def make_transport(
    session: ClockSession,
    loop: asyncio.AbstractEventLoop,
    protocol: Any,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    extra: Any = None,
    **keywords: Any,
) -> BaseSubprocessTransport:
    """Return what the `_make_subprocess_transport` of asyncio's event loops does, on a clock."""
    pipes = loop.create_future()
    transport = _Transport(
        loop,
        protocol,
        args,
        shell,
        stdin,
        stdout,
        stderr,
        bufsize,
        waiter=pipes,
        extra=extra,
        session=session,
        **keywords,
    )
    try:
        await pipes
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await BaseSubprocessTransport._wait(transport)
        raise
    return transport


class _LoopOnClock:
    """What `BaseEventLoop.subprocess_exec` and `subprocess_shell` ask of an event loop."""

    _debug = False

    def __init__(self, session: ClockSession, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop

    async def _make_subprocess_transport(self, *args: Any, **keywords: Any) -> Any:
        return await make_transport(self._session, self._loop, *args, **keywords)


def loop_method(session: ClockSession, name: str) -> Callable[..., Any]:
    """`subprocess_exec` or `subprocess_shell` for any event loop: asyncio's own, on a clock."""
    method = getattr(BaseEventLoop, name)

    def start(loop: asyncio.AbstractEventLoop, *args: Any, **keywords: Any) -> Any:
        return method(_LoopOnClock(session, loop), *args, **keywords)

    return start


async def create_subprocess(
    session: ClockSession, how: str, *args: Any, limit: int, **keywords: Any
) -> Process:
    """`asyncio.create_subprocess_exec` or, as `how` says, `_shell`, on a clock."""
    loop = asyncio.get_running_loop()
    with Short():
        transport, protocol = await loop_method(session, f"subprocess_{how}")(
            loop, lambda: SubprocessStreamProtocol(limit, loop), *args, **keywords
        )
    return Process(transport, protocol, loop)
