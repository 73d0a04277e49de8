"""The parameters of `FrozenClock`, checked before anything is started."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vdsotime import timeline
from pytest_vdsotime.python_clock import check_python
from pytest_vdsotime.timeline import Instant, Rate


@dataclass(frozen=True, slots=True)
class Options:
    """What a clock starts with, checked."""

    start: Instant
    rate: Rate
    monotonic: str
    follows: bool
    grace_ns: int
    jump_after_ns: int | None
    """None: it does not jump."""
    python: bool


def validate_options(
    start: Instant = None,
    *,
    rate: float = 0.0,
    monotonic: str = "flow",
    waits: str = "follow",
    autojump: bool | float = False,
    grace: float = 0.02,
    python: bool = False,
) -> Options:
    """Checks the parameters of `FrozenClock` without starting anything.

    Raises:
        TypeError, ValueError: naming the parameter and what it accepts.
        ImportError: naming the extra that `python` needs.
    """
    timeline.parse_instant(start)
    checked_rate = Rate.of(rate)
    if monotonic not in timeline.MONOTONIC_MODES:
        raise ValueError(f"monotonic is 'flow', 'freeze' or 'rate', not {monotonic!r}")
    if waits not in ("follow", "real"):
        raise ValueError(f"waits is 'follow' or 'real', not {waits!r}")
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"grace is a number of seconds, not {grace!r}")
    if not 0 <= grace < float("inf"):
        raise ValueError(f"grace is finite and not negative, not {grace!r}")
    jump_after_ns = _jump_after_ns(autojump)
    if jump_after_ns is not None:
        if waits == "real":
            raise ValueError("autojump has waits follow the clock: it cannot be with waits='real'")
        if monotonic == "rate" and checked_rate.mult:
            raise ValueError("autojump has the monotonic line stand still: not monotonic='rate'")
        monotonic = "freeze"
    check_python(python)
    grace_ns = timeline.seconds_to_ns(grace, "grace")
    follows = waits == "follow"
    return Options(start, checked_rate, monotonic, follows, grace_ns, jump_after_ns, python)


def _jump_after_ns(autojump: bool | float) -> int | None:
    if not isinstance(autojump, (bool, int, float)):
        raise TypeError(f"autojump is a bool or a number of real seconds, not {autojump!r}")
    if isinstance(autojump, bool):
        return 0 if autojump else None
    if not 0 <= autojump < float("inf"):
        raise ValueError(f"autojump is finite and not negative, not {autojump!r}")
    return timeline.seconds_to_ns(autojump, "autojump")


def check_timeout(timeout: float) -> None:
    if not timeout > 0:
        raise ValueError(f"timeout is a positive number of real seconds, not {timeout!r}")
