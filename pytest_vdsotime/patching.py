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
from typing import TYPE_CHECKING, Any

from pytest_vdsotime.errors import Short
from pytest_vdsotime.importing import once_imported
from pytest_vdsotime.other_starts import OtherStarts, is_on_a_clock, starts_of
from pytest_vdsotime.session import ClockSession
from pytest_vdsotime.standard import Standard

if TYPE_CHECKING:
    from pytest_vdsotime.popen import FrozenPopen

#: Among the positional parameters of `subprocess.Popen`.
_PREEXEC_FN = 6


def start_program(session: ClockSession, *args: Any, **keywords: Any) -> FrozenPopen[Any]:
    """Return a FrozenPopen on a clock, as `subprocess.Popen` of these arguments.

    What that needs is imported for the first one.
    """
    with Short():
        session.load()
    from pytest_vdsotime.popen import FrozenPopen

    return FrozenPopen(*args, session=session, **keywords)


def subprocess_functions(session: ClockSession) -> Mapping[str, Callable[..., Any]]:
    """run, call, check_call and check_output of the standard library, on a clock.

    Its own code, with another Popen in its scope.
    """
    scope = dict(vars(subprocess))
    scope["Popen"] = partial(start_program, session)
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
    with ExitStack() as patched:
        patched.enter_context(starts_of(session).patched())
        for owner, name, method in _methods(session):
            _patch(patched, owner, name, method)
        loops = partial(_patch_loops, patched, session)
        patched.enter_context(once_imported("asyncio.unix_events", loops))
        yield


def _patch(patched: ExitStack, owner: type, name: str, method: Callable[..., Any]) -> None:
    if name in vars(owner):
        patched.callback(setattr, owner, name, vars(owner)[name])
    else:
        patched.callback(delattr, owner, name)
    setattr(owner, name, method)


def _patch_loops(patched: ExitStack, session: ClockSession) -> None:
    from asyncio.unix_events import _UnixSelectorEventLoop

    def make_transport(loop: Any, *args: Any, **keywords: Any) -> Any:
        session.load()
        from pytest_vdsotime import aio

        return aio.make_transport(session, loop, *args, **keywords)

    _patch(patched, _UnixSelectorEventLoop, "_make_subprocess_transport", make_transport)


def _methods(session: ClockSession) -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """Yield (class, name, what is to have that name in it)."""
    yield Standard.Popen, "__init__", _frozen_init(session)
    if "uvloop" in sys.modules:
        loop_class = sys.modules["uvloop"].Loop
        for name in ("subprocess_exec", "subprocess_shell"):
            yield loop_class, name, _loop_method(session, name)


def _loop_method(session: ClockSession, name: str) -> Callable[..., Any]:
    def start(loop: Any, *args: Any, **keywords: Any) -> Any:
        session.load()
        from pytest_vdsotime import aio

        return aio.loop_method(session, name)(loop, *args, **keywords)

    return start


def _frozen_init(session: ClockSession) -> Callable[..., None]:
    """`subprocess.Popen.__init__` that has its object be a FrozenPopen on a clock."""
    init = Standard.Popen.__init__
    starts = starts_of(session)
    frozen_class: Callable[[type], type] = cache(_frozen_class)

    @wraps(init)
    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        if is_on_a_clock(self):
            init(self, *args, **keywords)
        elif not starts.is_here:
            _init_in_child(init, starts, self, *args, **keywords)
        else:
            with Short():
                session.load()
            from pytest_vdsotime.popen import FrozenPopen

            self.__class__ = frozen_class(type(self))
            FrozenPopen.__init__(self, *args, session=session, **keywords)

    return __init__


def _init_in_child(
    init: Callable[..., None], starts: OtherStarts, popen: Any, *args: Any, **keywords: Any
) -> None:
    """Start a program in a child of the test process, which has no tracer of its own."""
    if len(args) > _PREEXEC_FN:
        keywords["preexec_fn"], args = args[_PREEXEC_FN], (*args[:_PREEXEC_FN],)
    preexec_fn = keywords.get("preexec_fn")

    def enlist() -> None:
        if preexec_fn is not None:
            preexec_fn()
        starts.enlist()

    init(popen, *args, **{**keywords, "preexec_fn": enlist})


def _frozen_class(cls: type) -> type:
    """Return `cls`, a class of Popen, as one of FrozenPopen too; a derived class goes first."""
    from pytest_vdsotime.popen import FrozenPopen

    return _frozen_popen() if cls is Standard.Popen else _derived(cls, cls, FrozenPopen)


@cache
def _frozen_popen() -> type:
    """Return the one for Popen itself, which is the same on every clock."""
    from pytest_vdsotime.popen import FrozenPopen

    return _derived(Standard.Popen, FrozenPopen)


def _derived(named: type, *bases: type) -> type:
    body = {name: getattr(named, name) for name in ("__doc__", "__module__", "__qualname__")}
    return type(named.__name__, bases, body)
