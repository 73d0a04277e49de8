"""What a clock has of `subprocess`: how programs are started on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
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

    def patch_subprocess(self) -> AbstractContextManager[None]:
        """Inside it, `subprocess.Popen`, `run` and the like start programs on this clock."""
        from pytest_vdsotime.patching import patch_subprocess

        return patch_subprocess(self._clock())
