"""Work that waits until a module is imported, which is not to be imported for that alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Finder:
    """Calls something once a module is imported."""

    def __init__(self, module: str) -> None:
        self.waiting: list[Callable[[], None]] = []
        self._module = module

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As of importlib.abc.MetaPathFinder."""
        spec = PathFinder.find_spec(name, path, target) if name == self._module else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                for then in tuple(self.waiting):
                    then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finders: dict[str, _Finder] = {}


@contextmanager
def once_imported(module: str, then: Callable[[], None]) -> Iterator[None]:
    """Call `then` now, if `module` is imported, or once it is, in the context.

    Of several contexts the outermost one's is called first.
    """
    if module in sys.modules:
        then()
        yield
        return
    finder = _finders.setdefault(module, _Finder(module))
    if not finder.waiting:
        sys.meta_path.insert(0, finder)
    finder.waiting.append(then)
    try:
        yield
    finally:
        finder.waiting.remove(then)
        if not finder.waiting and finder in sys.meta_path:
            sys.meta_path.remove(finder)
