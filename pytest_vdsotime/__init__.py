"""Virtual time for real programs: the clocks that subprocesses read are a test's to set.

The names load on first use: pytest imports this package at every start, to find the plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock, FrozenClockFactory
    from pytest_vdsotime.containers import ContainerEngine
    from pytest_vdsotime.errors import (
        ClockClosed,
        NotSettled,
        RealTimeWarning,
        TracingUnavailable,
        UnsupportedProgram,
        VdsoTimeError,
    )
    from pytest_vdsotime.popen import FrozenPopen
    from pytest_vdsotime.processes import AttachedProcess, PendingWait, TracedProcess

__version__ = "0.1.0"

__all__ = [
    "AttachedProcess",
    "ClockClosed",
    "ContainerEngine",
    "FrozenClock",
    "FrozenClockFactory",
    "FrozenPopen",
    "NotSettled",
    "PendingWait",
    "RealTimeWarning",
    "TracedProcess",
    "TracingUnavailable",
    "UnsupportedProgram",
    "VdsoTimeError",
]

_HOMES = {
    **{"FrozenClock": "clock", "FrozenClockFactory": "clock", "FrozenPopen": "popen"},
    "ContainerEngine": "containers",
    **dict.fromkeys(("AttachedProcess", "PendingWait", "TracedProcess"), "processes"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value  # from now on an ordinary attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
