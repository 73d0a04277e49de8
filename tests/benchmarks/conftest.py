"""What the benchmarks share: runs that alternate, and one table at the end.

Every figure is set against a bare run of the same thing, and the two alternate in one process:
whatever else the machine does meets both. Medians, because a disturbed run is always slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

import pytest

LEAST_ROUNDS = 30
Measure = Callable[[], float]
TABLE = pytest.StashKey["Table"]()


class Medians(Protocol):
    """Each measure once a round, in turn; returns the median of each."""

    def __call__(self, *measures: Measure, rounds: int = LEAST_ROUNDS) -> list[float]: ...


class Timed(Protocol):
    """Makes a measure of an action: the seconds that it takes."""

    def __call__(self, action: Callable[[], object]) -> Measure: ...


@dataclass
class Table:
    """The rows of the report, in the order of the tests."""

    rows: list[tuple[str, ...]] = field(default_factory=list)

    def check(self, what: str, figures: str, value: float, bar: float, unit: str = "") -> None:
        """Adds a row, and fails the test when `value` is above `bar`."""
        self.rows.append((what, figures, f"{value:.3g}{unit}", f"{bar:g}{unit}"))
        assert value <= bar, f"{what}: {value:.3g}{unit} is above {bar:g}{unit} ({figures})"

    def add(self, what: str, figures: str, value: float) -> None:
        """Adds a row without a bar: what others are to be seen against."""
        self.rows.append((what, figures, f"{value:.3g}", ""))

    def lines(self) -> Iterator[str]:
        """As Markdown, for the page about speed."""
        head = ("what", "medians", "measured", "at most")
        widths = [max(map(len, column)) for column in zip(head, *self.rows, strict=True)]
        for cells in (head, tuple("-" * width for width in widths), *self.rows):
            yield "| " + " | ".join(map(str.ljust, cells, widths)) + " |"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[TABLE].rows:
        terminalreporter.section("speed and memory")
        for line in config.stash[TABLE].lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    return pytestconfig.stash[TABLE]


@pytest.fixture(scope="session")
def medians() -> Medians:
    def measure_all(*measures: Measure, rounds: int = LEAST_ROUNDS) -> list[float]:
        assert rounds >= LEAST_ROUNDS
        for measure in measures:
            measure()  # fills caches, and starts what starts once
        samples = [[measure() for measure in measures] for _ in range(rounds)]
        return [median(column) for column in zip(*samples, strict=True)]

    return measure_all


@pytest.fixture(scope="session")
def timed() -> Timed:
    def measure(action: Callable[[], object]) -> Measure:
        def seconds() -> float:
            start = time.perf_counter()
            action()
            return time.perf_counter() - start

        return seconds

    return measure
