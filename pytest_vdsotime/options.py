"""The parameters of a clock, checked."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vdsotime import timeline
from pytest_vdsotime.timeline import Instant, Rate


@dataclass(frozen=True, slots=True)
class Options:
    """What a clock starts with, checked."""

    start: Instant
    rate: Rate
    monotonic: str


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
    for name, is_asked in (
        ("waits='real'", waits == "real"),
        ("autojump", autojump),
        ("python", python),
    ):
        if is_asked:
            raise ValueError(f"{name} is not in this release: waits take real time in it")
    return Options(start, checked_rate, monotonic)
