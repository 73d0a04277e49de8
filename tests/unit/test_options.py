"""The parameters of a clock are the same in every place that has them."""

from __future__ import annotations

import inspect
from typing import Any

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.options import PARAMETERS, ClockParameters, validate_options


def test_the_constructor_has_the_rows() -> None:
    """In their order, with their defaults."""
    parameters = inspect.signature(FrozenClock).parameters.values()
    assert [(one.name, one.default) for one in parameters] == [
        (one.name, one.default) for one in PARAMETERS
    ]


def test_type_checkers_know_the_keywords_of_the_factory() -> None:
    assert list(ClockParameters.__annotations__) == [one.name for one in PARAMETERS[1:]]


def test_the_defaults_are_valid() -> None:
    defaults: dict[str, Any] = {one.name: one.default for one in PARAMETERS}
    assert validate_options() == validate_options(**defaults)
