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
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

from pytest_vdsotime.session import ClockSession
from pytest_vdsotime.standard import Standard

if TYPE_CHECKING:
    from pytest_vdsotime.popen import FrozenPopen


def start_program(session: ClockSession, *args: Any, **keywords: Any) -> FrozenPopen[Any]:
    """Return a FrozenPopen on a clock, as `subprocess.Popen` of these arguments.

    What that needs is imported for the first one.
    """
    session.load()
    from pytest_vdsotime.popen import FrozenPopen

    return FrozenPopen(*args, session=session, **keywords)


def subprocess_functions(session: ClockSession) -> Mapping[str, Callable[..., Any]]:
    """run, call, check_call and check_output of the standard library, on a clock.

    Its own code, with another Popen in its scope.
    """
    scope = dict(vars(subprocess))
    scope["Popen"] = partial(start_program, session)
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
        for owner, name, method in _methods(session):
            _patch(patched, owner, name, method)
        if _LOOPS in sys.modules:
            _patch_loops(patched, session)
        else:
            patched.enter_context(_once_imported(partial(_patch_loops, patched, session)))
        yield


def _patch(patched: ExitStack, owner: type, name: str, method: Callable[..., Any]) -> None:
    if name in vars(owner):
        patched.callback(setattr, owner, name, vars(owner)[name])
    else:
        patched.callback(delattr, owner, name)
    setattr(owner, name, method)


_LOOPS = "asyncio.unix_events"


class _Finder:
    """Calls something once asyncio's event loops are imported, which is not done for nothing."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As of importlib.abc.MetaPathFinder."""
        spec = PathFinder.find_spec(name, path, target) if name == _LOOPS else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                for then in self.waiting:
                    then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_FINDER = _Finder()


@contextmanager
def _once_imported(then: Callable[[], None]) -> Iterator[None]:
    """Call `then` if the event loops are imported in the context, the outermost one's first."""
    if not _FINDER.waiting:
        sys.meta_path.insert(0, _FINDER)
    _FINDER.waiting.append(then)
    try:
        yield
    finally:
        _FINDER.waiting.remove(then)
        if not _FINDER.waiting and _FINDER in sys.meta_path:
            sys.meta_path.remove(_FINDER)


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
    frozen_class: Callable[[type], type] = cache(_frozen_class)

    @wraps(init)
    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        if _is_on_a_clock(self):
            init(self, *args, **keywords)
        else:
            session.load()
            from pytest_vdsotime.popen import FrozenPopen

            self.__class__ = frozen_class(type(self))
            FrozenPopen.__init__(self, *args, session=session, **keywords)

    return __init__


def _is_on_a_clock(popen: object) -> bool:
    module = sys.modules.get("pytest_vdsotime.popen")
    return module is not None and isinstance(popen, module.FrozenPopen)


def _frozen_class(cls: type) -> type:
    """Return `cls`, a class of Popen, as one of FrozenPopen too; a derived class goes first."""
    from pytest_vdsotime.popen import FrozenPopen

    bases = (FrozenPopen,) if cls is Standard.Popen else (cls, FrozenPopen)
    body = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
    return type(cls.__name__, bases, body)
