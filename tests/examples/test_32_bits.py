"""The seconds that 32-bit programs fear: the one that needs a 33rd bit, and a leap second."""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

Ask = Callable[[], str]


@pytest.fixture
def ask(frozen_clock: FrozenClock, build: Any) -> Iterator[Ask]:
    program = build.c(str(Path(__file__).with_name("calendar")), "i386")
    with frozen_clock.popen([program], stdin=PIPE, stdout=PIPE) as calendar:
        ask, answer = calendar.stdin, calendar.stdout
        assert ask is not None and answer is not None
        yield lambda: (ask.write(b"\n"), ask.flush(), answer.readline().decode().strip())[-1]


@pytest.mark.frozen_time("2038-01-19T03:14:07Z", monotonic="freeze")
def test_2038(frozen_clock: FrozenClock, ask: Ask) -> None:
    assert ask() == "2038-01-19 03:14:07 or 2038-01-19 03:14:07, 0 s"
    frozen_clock.advance(1)
    assert ask() == "2038-01-19 03:14:08 or 1901-12-13 20:45:52, 1 s"


@pytest.mark.frozen_time("2016-12-31T23:59:59.5Z", monotonic="freeze")
def test_leap_second(frozen_clock: FrozenClock, ask: Ask) -> None:
    assert ask() == "2016-12-31 23:59:59 or 2016-12-31 23:59:59, 0 s"
    frozen_clock.advance(1)
    frozen_clock.move_to("2016-12-31T23:59:59.5Z")  # as Linux does: that second comes twice
    assert ask() == "2016-12-31 23:59:59 or 2016-12-31 23:59:59, 1 s"
    frozen_clock.advance(1)
    assert ask() == "2017-01-01 00:00:00 or 2017-01-01 00:00:00, 2 s"
