"""The standard library's subprocess functions on a clock.

And subprocess and asyncio patched to it.
"""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial, wraps
from typing import Any

from pytest_vdsotime.popen import FrozenPopen
from pytest_vdsotime.session import ClockSession


def subprocess_functions(session: ClockSession) -> Mapping[str, Callable[..., Any]]:
    """run, call, check_call and check_output of the standard library, on a clock.

    Its own code, with another Popen in its scope.
    """
    scope = dict(vars(subprocess))
    scope["Popen"] = partial(FrozenPopen, session=session)
    scope["__tracebackhide__"] = True  # pytest's: what fails is shown by the test's own line
    for name in ("run", "call", "check_call", "check_output"):
        function = getattr(subprocess, name)
        bound = types.FunctionType(
            function.__code__, scope, name, function.__defaults__, function.__closure__
        )
        bound.__kwdefaults__ = function.__kwdefaults__
        scope[name] = bound
    return scope


@contextmanager
def patch_subprocess(session: ClockSession) -> Iterator[None]:
    """Have every `subprocess.Popen` that is made in the context be on a clock.

    Under whatever name the class or a function that uses it was imported, and objects of derived
    classes too; so are the subprocesses of asyncio's event loops, and of uvloop's if that is
    loaded.

    Methods of classes are patched, not names in modules. They get back what they were.
    """
    session.load()  # what the tracer reads first may itself use subprocess
    with ExitStack() as patched:
        for owner, name, method in _methods(session):
            if name in vars(owner):
                patched.callback(setattr, owner, name, vars(owner)[name])
            else:
                patched.callback(delattr, owner, name)
            setattr(owner, name, method)
        yield


def _methods(session: ClockSession) -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """Yield (class, name, what is to have that name in it)."""
    from asyncio.unix_events import _UnixSelectorEventLoop

    from pytest_vdsotime import aio

    yield subprocess.Popen, "__init__", _frozen_init(session)

    def make_transport(loop: Any, *args: Any, **keywords: Any) -> Any:
        return aio.make_transport(session, loop, *args, **keywords)

    yield _UnixSelectorEventLoop, "_make_subprocess_transport", make_transport
    if "uvloop" in sys.modules:
        loop_class = sys.modules["uvloop"].Loop
        for name in ("subprocess_exec", "subprocess_shell"):
            yield loop_class, name, aio.loop_method(session, name)


def _frozen_init(session: ClockSession) -> Callable[..., None]:
    """`subprocess.Popen.__init__` that has its object be a FrozenPopen on a clock."""
    init = subprocess.Popen.__init__
    frozen_class: Callable[[type], type] = cache(_frozen_class)

    @wraps(init)
    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        if isinstance(self, FrozenPopen):
            init(self, *args, **keywords)
        else:
            self.__class__ = frozen_class(type(self))
            FrozenPopen.__init__(self, *args, session=session, **keywords)

    return __init__


def _frozen_class(cls: type) -> type:
    """Return `cls`, a class of Popen, as one of FrozenPopen too; a derived class goes first."""
    bases = (FrozenPopen,) if cls is subprocess.Popen else (cls, FrozenPopen)
    body = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
    return type(cls.__name__, bases, body)
