"""The standard library's subprocess functions on a clock, and subprocess and asyncio patched to
it."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any

from pytest_vdsotime.popen import FrozenPopen

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock


def subprocess_functions(clock: FrozenClock) -> Mapping[str, Callable[..., Any]]:
    """run, call, check_call and check_output of the standard library, on `clock`: its own code,
    with another Popen in its scope."""
    scope = dict(vars(subprocess))
    scope["Popen"] = partial(FrozenPopen, clock=clock)
    for name in ("run", "call", "check_call", "check_output"):
        function = getattr(subprocess, name)
        bound = types.FunctionType(
            function.__code__, scope, name, function.__defaults__, function.__closure__
        )
        bound.__kwdefaults__ = function.__kwdefaults__
        scope[name] = bound
    return scope


@contextmanager
def patch_subprocess(clock: FrozenClock) -> Iterator[None]:
    """Inside it, every `subprocess.Popen` that is made is on `clock`, under whatever name the class
    or a function that uses it was imported, and objects of derived classes too; so are the
    subprocesses of asyncio's event loops, and of uvloop's if that is loaded.

    Methods of classes are patched, not names in modules. They get back what they were.
    """
    clock.load()  # what the tracer reads first may itself use subprocess
    with ExitStack() as patched:
        for owner, name, method in _methods(clock):
            if name in vars(owner):
                patched.callback(setattr, owner, name, vars(owner)[name])
            else:
                patched.callback(delattr, owner, name)
            setattr(owner, name, method)
        yield


def _methods(clock: FrozenClock) -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """(class, name, what is to have that name in it)"""
    from asyncio.unix_events import _UnixSelectorEventLoop

    from pytest_vdsotime import aio

    yield subprocess.Popen, "__init__", _frozen_init(clock)

    def make_transport(loop: Any, *args: Any, **keywords: Any) -> Any:
        return aio.make_transport(clock, loop, *args, **keywords)

    yield _UnixSelectorEventLoop, "_make_subprocess_transport", make_transport
    if "uvloop" in sys.modules:
        loop_class = sys.modules["uvloop"].Loop
        for name in ("subprocess_exec", "subprocess_shell"):
            yield loop_class, name, aio.loop_method(clock, name)


def _frozen_init(clock: FrozenClock) -> Callable[..., None]:
    """`subprocess.Popen.__init__` that has its object be a FrozenPopen on `clock`."""
    init = subprocess.Popen.__init__
    frozen_class: Callable[[type], type] = cache(_frozen_class)

    @wraps(init)
    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        if isinstance(self, FrozenPopen):
            init(self, *args, **keywords)
        else:
            self.__class__ = frozen_class(type(self))
            FrozenPopen.__init__(self, *args, clock=clock, **keywords)

    return __init__


def _frozen_class(cls: type) -> type:
    """`cls`, a class of Popen, that is also of FrozenPopen; whoever derived it goes first."""
    bases = (FrozenPopen,) if cls is subprocess.Popen else (cls, FrozenPopen)
    body = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
    return type(cls.__name__, bases, body)
