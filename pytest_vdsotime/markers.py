"""What a test asks for: the marker, the option and the ini keys, read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from pytest_vdsotime.options import NAMES, PARAMETERS, Options, validate_options

MARKER: Final = "frozen_time"
SIGNATURE: Final = f"frozen_time(start=None, *, {', '.join(NAMES[1:])})"
FREEZE: Final = "_vdsotime_freeze"
"""The fixture that freezes a test."""
INI: Final = [one for one in PARAMETERS if one.ini]
_OBSTACLE = pytest.StashKey[tuple[str, str] | None]()
_DEFAULT = pytest.StashKey[Options]()


def ini_of(config: pytest.Config) -> Iterator[tuple[str, str, object]]:
    """Ini key, parameter and value of each ini option that is not empty."""
    for one in INI:
        if given := config.getini(one.key):
            try:
                value = one.from_ini(given)
            except ValueError:
                raise pytest.UsageError(
                    f"ini option {one.key} = {given}: it is {one.ini}"
                ) from None
            yield one.key, one.name, value


def defaults_of(config: pytest.Config) -> dict[str, Any]:
    """Return the parameters that no marker gave: from the option, else from the ini file."""
    given: dict[str, Any] = {name: value for _, name, value in ini_of(config)}
    if (when := config.getoption("vdso_time")) is not None:
        given["start"] = when
    return given


def marks_of(item: pytest.Item) -> Iterator[pytest.Mark]:
    """Yield the test's markers, the closest first."""
    for node in reversed(item.listchain()):
        marks = [mark for mark in node.own_markers if mark.name == MARKER]
        if isinstance(node, pytest.Class):
            # pytest has those of base classes first.
            marks.reverse()
        elif (callspec := getattr(node, "callspec", None)) is not None:
            # pytest.param(..., marks=...) speaks for one case, a decorator for them all.
            marks.sort(key=lambda mark: mark not in callspec.marks)
        yield from marks


def parameters_of_mark(mark: pytest.Mark) -> dict[str, Any]:
    """Return the parameters that a marker gives. Raises TypeError where it is called otherwise."""
    given = dict(mark.kwargs)
    if len(mark.args) > 1 or (mark.args and "start" in given):
        raise TypeError(f"only start may be positional, and only once: {SIGNATURE}")
    if unknown := sorted(given.keys() - set(NAMES)):
        raise TypeError(f"there is no parameter {unknown[0]}: {SIGNATURE}")
    return {"start": mark.args[0], **given} if mark.args else given


def options_of(item: pytest.Item) -> Options:
    """Return what the test's clock is made with.

    For each parameter the closest marker, option, ini.
    """
    marks = [*marks_of(item)]
    if not marks:
        return default_options(item.config)
    merged = defaults_of(item.config)
    for mark in reversed(marks):
        merged |= parameters_of_mark(mark)
    return validate_options(**merged)


def default_options(config: pytest.Config) -> Options:
    """Return what a clock is made with that no marker is about."""
    if _DEFAULT not in config.stash:
        config.stash[_DEFAULT] = validate_options(**defaults_of(config))
    return config.stash[_DEFAULT]


def obstacle_of(config: pytest.Config) -> tuple[str, str] | None:
    """Why nothing can be traced, and the remedy, as far as it is known without trying."""
    if _OBSTACLE not in config.stash:
        from pytest_vdsotime.availability import known_obstacle

        config.stash[_OBSTACLE] = known_obstacle()
    return config.stash[_OBSTACLE]


def validate(where: str, given: dict[str, Any]) -> None:
    """Raise pytest.UsageError that says `where` unless a clock can be made with `given`."""
    try:
        validate_options(**given)
    except (TypeError, ValueError, ImportError) as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def validate_mark(item: pytest.Item, mark: pytest.Mark) -> None:
    """Raise pytest.UsageError unless a clock can be made with what the marker gives."""
    arguments = [
        *map(repr, mark.args),
        *(f"{name}={value!r}" for name, value in mark.kwargs.items()),
    ]
    where = f"{item.nodeid}: marker frozen_time({', '.join(arguments)})"
    try:
        given = parameters_of_mark(mark)
    except TypeError as error:
        raise pytest.UsageError(f"{where}: {error}") from None
    validate(where, given)


def freeze_first(item: pytest.Item) -> None:
    """Make the freezing fixture the first function-scoped one that the test sets up.

    Before the test's arguments pytest sets up the names in `fixturenames`, in that order and with
    broader scopes first; it is shared between the cases of a parametrized test, so it is replaced.
    """
    names: list[str] | None = getattr(item, "fixturenames", None)
    if names is None:
        return  # not a Python test: nothing of it is set up by fixtures
    definitions = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]

    def lasts_for_one_test(name: str) -> bool:
        return name not in definitions or definitions[name][-1].scope == "function"

    at = next((i for i, name in enumerate(names) if lasts_for_one_test(name)), len(names))
    item.fixturenames = [*names[:at], FREEZE, *names[at:]]  # type: ignore[attr-defined]
