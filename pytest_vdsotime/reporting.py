"""What pytest's reports say of clocks: the section of a failed test.

Registered by the plugin; like that, it imports nothing heavier than pytest before it must.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock

_SECTION: Final = "frozen clock"
_MOST_CLOCKS: Final = 5
_CLOCKS = pytest.StashKey[list["FrozenClock"]]()


def note(item: pytest.Item, clock: FrozenClock) -> None:
    """`clock` is one of this test's."""
    item.stash.setdefault(_CLOCKS, []).append(clock)


class Reporting:
    """The hooks."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A failed test's report says of each of its clocks what is to be known."""
        report = yield
        if report.failed:
            found = [*dict.fromkeys(_clocks(item, call))]
            # One without a program says little.
            clocks = ([one for one in found if one.has_started] or found[:1])[:_MOST_CLOCKS]
            for number, clock in enumerate(clocks, start=1):
                title = _SECTION if len(clocks) == 1 else f"{_SECTION} {number}"
                report.sections.append((title, _describe(clock)))
        return report


def _describe(clock: FrozenClock) -> str:
    from pytest_vdsotime.failure import MOST_EVENTS

    return clock.describe(events=MOST_EVENTS)


def _clocks(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[FrozenClock]:
    """Those of fixtures, and those that the test has made itself: what failed knows them by some
    name."""
    yield from item.stash.get(_CLOCKS, [])
    module = sys.modules.get("pytest_vdsotime.clock")
    if module is None or call.excinfo is None:
        return  # nobody can have made one
    named = [*getattr(item, "funcargs", {}).values()]
    for entry in call.excinfo.traceback:
        named += entry.frame.f_locals.values()
    yield from (one for one in named if type(one) is module.FrozenClock)
