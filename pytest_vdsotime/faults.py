"""Named points at which a test has the tracer fail, to show what a failure there leaves alive.

Nothing is armed outside of such a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

armed: dict[str, Callable[[int], object]] = {}
"""By the name of the point: called with the id of the task or process that is being handled, 0
where there is none."""


def reach(point: str, pid: int) -> None:
    """Say that the tracer is at this point. Raises what the test wants."""
    action = armed.get(point)
    if action is not None:
        action(pid)


@contextmanager
def injected(point: str, action: Callable[[int], object]) -> Iterator[None]:
    """Arms a point for as long as the block lasts."""
    armed[point] = action
    try:
        yield
    finally:
        del armed[point]
