"""The standard library's subprocess functions on a clock, and subprocess and asyncio patched to
it."""

from __future__ import annotations

import subprocess
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_vdsotime.popen import FrozenPopen

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock


def subprocess_functions(clock: FrozenClock) -> Mapping[str, Callable[..., Any]]:
    """run, call, check_call and check_output of the standard library, on `clock`: its own code,
    with
    another Popen in its scope."""
    scope = dict(vars(subprocess))
    scope["Popen"] = _bound_class(clock)
    for name in ("run", "call", "check_call", "check_output"):
        function = getattr(subprocess, name)
        bound = types.FunctionType(
            function.__code__, scope, name, function.__defaults__, function.__closure__
        )
        bound.__kwdefaults__ = function.__kwdefaults__
        scope[name] = bound
    return scope


def _bound_class(clock: FrozenClock) -> type[FrozenPopen]:
    class Popen(FrozenPopen):
        __doc__ = subprocess.Popen.__doc__

        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, clock=clock, **keywords)

    return Popen


@contextmanager
def patch_subprocess(clock: FrozenClock) -> Iterator[None]:
    """Inside it, whatever uses `subprocess.Popen` by that name starts programs on `clock`: run
    and the
    like, os.popen, asyncio's event loops."""
    import asyncio.unix_events as unix_events

    clock.load()  # what the tracer reads first may itself use subprocess
    loop_class: Any = unix_events._UnixSelectorEventLoop
    popen, make_transport = subprocess.Popen, loop_class._make_subprocess_transport
    subprocess.Popen = _bound_class(clock)  # type: ignore[misc]
    loop_class._make_subprocess_transport = _make_subprocess_transport
    try:
        yield
    finally:
        subprocess.Popen = popen  # type: ignore[misc]
        loop_class._make_subprocess_transport = make_transport


async def _make_subprocess_transport(
    loop: Any,
    protocol: Any,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    extra: Any = None,
    **keywords: Any,
) -> Any:
    """asyncio's own, but for who tells of the end: its child watcher would wait for the pid, and
    so take
    away the tracer's stops."""
    from asyncio.unix_events import _UnixSubprocessTransport  # type: ignore[attr-defined]

    waiter = loop.create_future()
    transport = _UnixSubprocessTransport(
        loop,
        protocol,
        args,
        shell,
        stdin,
        stdout,
        stderr,
        bufsize,
        waiter=waiter,
        extra=extra,
        **keywords,
    )
    process: FrozenPopen = transport.get_extra_info("subprocess")

    def tell() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(transport._process_exited, process._internal_poll())

    process.when_exited(tell)
    try:
        await waiter
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
