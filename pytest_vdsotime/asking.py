"""`frozen_clock_factory`: each of its clocks lasts as long as what has asked for it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime.reporting import note

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock


class Asking:
    """A plugin that knows who may ask for a clock: the fixture that is being set up, or else the
    test under way."""

    def __init__(self) -> None:
        self._fixtures: list[pytest.FixtureRequest] = []
        self._item: pytest.Item | None = None
        self._lasting: list[FrozenClock] = []
        """Those of broader fixtures, which every test may use."""
        self._of_test = ExitStack()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._item = item
        for clock in self._lasting:
            note(item, clock)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Of `fixturedef`."""
        __tracebackhide__ = True
        self._fixtures.append(request)
        try:
            return (yield)
        finally:
            self._fixtures.pop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Last: fixtures that the test has given a clock to end what they have started on it."""
        __tracebackhide__ = True
        with self._of_test:
            return (yield)

    def give(self, clock: FrozenClock) -> None:
        """It is closed behind the fixture that is being set up, or after the test's fixtures."""
        assert self._item is not None, "frozen_clock_factory is for fixtures and tests"
        note(self._item, clock)
        if not self._fixtures:
            self._of_test.callback(clock.close)
            return
        request = self._fixtures[-1]
        request.addfinalizer(clock.close)
        if request.scope != "function":
            self._lasting.append(clock)
            request.addfinalizer(partial(self._lasting.remove, clock))
