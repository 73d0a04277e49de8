"""The pytest plugin: fixtures, marker, option and ini keys around `pytest_vdsotime.FrozenClock`.

pytest imports this module at every start, so everything heavier than pytest itself is imported by
the first test that needs it. There is one tracer for a session, made by that test too.

A test with the marker (or any test under ``--vdso-time``) has ``subprocess`` patched from before
its own function-scoped fixtures until after their teardown. Fixtures of broader scope outlive the
test, and its clock takes its programs with it when it closes. So what they start does not run on
the test's clock: under ``--vdso-time`` it runs on the suite's clock, which stands at WHEN until the
session ends, otherwise in real time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_vdsotime.asking import Asking
from pytest_vdsotime.options import NAMES, PARAMETERS, validate_options
from pytest_vdsotime.reporting import Reporting, add_options, note

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock
    from pytest_vdsotime.errors import TracingUnavailable
    from pytest_vdsotime.timeline import Instant
    from pytest_vdsotime.tracer.thread import Tracer

_MARKER: Final = "frozen_time"
_SIGNATURE: Final = f"frozen_time(start=None, *, {', '.join(NAMES[1:])})"
_FREEZE: Final = "_vdsotime_freeze"
_INI: Final = [one for one in PARAMETERS if one.ini]
_NEEDS_TRACER: Final = frozenset({_FREEZE, "_vdsotime_tracer"})


_OBSTACLE = pytest.StashKey[tuple[str, str] | None]()
_TRACER = pytest.StashKey["Tracer | TracingUnavailable"]()
_SUITE_CLOCK = pytest.StashKey["FrozenClock"]()
_MISTAKE = pytest.StashKey[str]()
_PATCH = pytest.StashKey["_Patch"]()
_ASKING = pytest.StashKey[Asking]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vdsotime", "virtual time for the programs that tests start")
    group.addoption(
        "--vdso-time",
        metavar="WHEN",
        help="run the subprocesses of every test without a frozen_time marker of its own at WHEN: "
        "ISO 8601, or @SECONDS since the epoch",
    )
    add_options(group)
    for one in _INI:
        parser.addini(one.key, f"vdsotime: {one.ini}")
    parser.addini(
        "vdso_unavailable",
        "vdsotime: where programs cannot be traced, error or skip the tests that need it",
        default="error",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{_SIGNATURE}: run the test's subprocesses on a FrozenClock with these parameters.",
    )
    for key, name, value in _given_ini(config):
        _validate(config, f"ini option {key} = {config.getini(key)}", {name: value})
    if (when := config.getoption("vdso_time")) is not None:
        _validate(config, f"--vdso-time={when}", {"start": when})
    if (policy := config.getini("vdso_unavailable")) not in ("error", "skip"):
        raise pytest.UsageError(f"ini option vdso_unavailable = {policy}: it is 'error' or 'skip'")
    config.pluginmanager.register(Reporting(config), "vdsotime-reporting")
    config.stash[_ASKING] = Asking()
    config.pluginmanager.register(config.stash[_ASKING], "vdsotime-asking")


def pytest_report_header(config: pytest.Config) -> str:
    start = _defaults(config).get("start")
    when = "now"
    if start is not None:
        from pytest_vdsotime.timeline import format_instant, parse_instant

        when = format_instant(parse_instant(start))
    if (obstacle := _obstacle(config)) is not None:
        return f"vdsotime: {when}, unavailable: {obstacle[0]}"
    from pytest_vdsotime.availability import program_kinds

    return f"vdsotime: {when}, ptrace ok ({', '.join(program_kinds())})"


# What a test asks for.


def _given_ini(config: pytest.Config) -> Iterator[tuple[str, str, object]]:
    """Ini key, parameter and value of each ini option that is not empty."""
    for one in _INI:
        if given := config.getini(one.key):
            try:
                value = one.from_ini(given)
            except ValueError:
                raise pytest.UsageError(
                    f"ini option {one.key} = {given}: it is {one.ini}"
                ) from None
            yield one.key, one.name, value


def _defaults(config: pytest.Config) -> dict[str, Any]:
    """The parameters that no marker gave: from the option, else from the ini file."""
    given: dict[str, Any] = {name: value for _, name, value in _given_ini(config)}
    if (when := config.getoption("vdso_time")) is not None:
        given["start"] = when
    return given


def _marks(item: pytest.Item) -> Iterator[pytest.Mark]:
    """The test's markers, the closest first."""
    for node in reversed(item.listchain()):
        marks = [mark for mark in node.own_markers if mark.name == _MARKER]
        if isinstance(node, pytest.Class):
            # pytest has those of base classes first.
            marks.reverse()
        elif (callspec := getattr(node, "callspec", None)) is not None:
            # pytest.param(..., marks=...) speaks for one case, a decorator for them all.
            marks.sort(key=lambda mark: mark not in callspec.marks)
        yield from marks


def _given_mark(mark: pytest.Mark) -> dict[str, Any]:
    """The parameters that a marker gives. Raises TypeError where it is not called as _SIGNATURE."""
    given = dict(mark.kwargs)
    if len(mark.args) > 1 or (mark.args and "start" in given):
        raise TypeError(f"only start may be positional, and only once: {_SIGNATURE}")
    if unknown := sorted(given.keys() - set(NAMES)):
        raise TypeError(f"there is no parameter {unknown[0]}: {_SIGNATURE}")
    return {"start": mark.args[0], **given} if mark.args else given


def _parameters(item: pytest.Item) -> dict[str, Any]:
    """What the test's clock is made with: for each parameter the closest marker, option, ini."""
    merged = _defaults(item.config)
    for mark in reversed([*_marks(item)]):
        merged |= _given_mark(mark)
    return merged


def _obstacle(config: pytest.Config) -> tuple[str, str] | None:
    """Why nothing can be traced, and the remedy, as far as it is known without trying."""
    if _OBSTACLE not in config.stash:
        from pytest_vdsotime.availability import known_obstacle

        config.stash[_OBSTACLE] = known_obstacle()
    return config.stash[_OBSTACLE]


def _validate(config: pytest.Config, where: str, given: dict[str, Any]) -> None:
    """Raises pytest.UsageError that says `where` unless a clock can be made with `given`.

    Where nothing can be traced, the engine that knows may not even load: there only the start is
    looked at.
    """
    from pytest_vdsotime.timeline import parse_instant

    try:
        parse_instant(given.get("start"))
        if _obstacle(config) is None:
            validate_options(**given)
    except (TypeError, ValueError, ImportError) as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Validates every marker before the first test, and puts the freezing fixture in its place."""
    suite_is_frozen = session.config.getoption("vdso_time") is not None
    valid: set[int] = set()
    for item in session.items:
        marks = [*_marks(item)]
        try:
            for mark in marks:
                if id(mark) not in valid:
                    _validate_mark(item, mark)
                    valid.add(id(mark))
        except pytest.UsageError as error:
            if not hasattr(session.config, "workerinput"):
                raise
            # What ends a worker of pytest-xdist is not shown: there the tests say it.
            item.stash[_MISTAKE] = str(error)
        if marks or suite_is_frozen:
            _freeze_first(item)


def _validate_mark(item: pytest.Item, mark: pytest.Mark) -> None:
    arguments = [
        *map(repr, mark.args),
        *(f"{name}={value!r}" for name, value in mark.kwargs.items()),
    ]
    where = f"{item.nodeid}: marker frozen_time({', '.join(arguments)})"
    try:
        given = _given_mark(mark)
    except TypeError as error:
        raise pytest.UsageError(f"{where}: {error}") from None
    _validate(item.config, where, given)


def _freeze_first(item: pytest.Item) -> None:
    """Makes the freezing fixture the first function-scoped one that the test sets up.

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
    item.fixturenames = [*names[:at], _FREEZE, *names[at:]]  # type: ignore[attr-defined]


# What it gets.


def _tracer(config: pytest.Config) -> Tracer | TracingUnavailable:
    """The session's tracer, or why there is none."""
    if _TRACER not in config.stash:
        config.stash[_TRACER] = _start_tracer(config)
    return config.stash[_TRACER]


def _start_tracer(config: pytest.Config) -> Tracer | TracingUnavailable:
    from pytest_vdsotime.errors import TracingUnavailable

    if (obstacle := _obstacle(config)) is not None:
        return TracingUnavailable(*obstacle)
    from pytest_vdsotime.tracer.thread import Tracer

    tracer = Tracer()
    try:
        tracer.start()
    except TracingUnavailable as error:
        return error
    config.add_cleanup(tracer.close)
    return tracer


def _required_tracer(config: pytest.Config) -> Tracer:
    """The session's tracer, or the end of the test that needs it."""
    tracer = _tracer(config)
    if not isinstance(tracer, Exception):
        return tracer
    if config.getini("vdso_unavailable") == "skip":
        pytest.skip(f"vdsotime: {tracer}")
    pytest.fail(f"vdsotime: {tracer}", pytrace=False)


def _suite_clock(config: pytest.Config) -> FrozenClock | None:
    """The clock of what outlives one test under --vdso-time; it lasts until the session ends."""
    if _SUITE_CLOCK not in config.stash:
        tracer = _tracer(config)
        if isinstance(tracer, Exception):
            return None  # each test says so
        from pytest_vdsotime.clock import clock_on

        clock = config.stash[_SUITE_CLOCK] = clock_on(tracer, **_defaults(config))
        config.add_cleanup(clock.close)
    return config.stash[_SUITE_CLOCK]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    clock = None
    if item.config.getoption("vdso_time") is not None:
        clock = _suite_clock(item.config)
    if clock is None:
        return (yield)
    note(item, clock)
    with clock.patch_subprocess():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What keeps a test from being frozen ends it before its broader fixtures begin."""
    if _MISTAKE in item.stash:
        pytest.fail(item.stash[_MISTAKE], pytrace=False)
    names: Iterable[str] = getattr(item, "fixturenames", ())
    if item.config.getoption("vdso_time") is not None or not _NEEDS_TRACER.isdisjoint(names):
        _required_tracer(item.config)


class _Patch:
    """``subprocess`` patched for the test under way; in the config's stash while in force."""

    def __init__(self, config: pytest.Config, clock: FrozenClock) -> None:
        self._config = config
        self._clock = clock
        self._context = ExitStack()

    def install(self) -> None:
        self._context.enter_context(self._clock.patch_subprocess())
        self._config.stash[_PATCH] = self

    def remove(self) -> None:
        del self._config.stash[_PATCH]
        self._context.close()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """A broader fixture that a frozen test is the first to ask for steps out of its clock."""
    __tracebackhide__ = True
    patch = request.config.stash.get(_PATCH, None)
    if patch is None or fixturedef.scope == "function":
        return (yield)
    patch.remove()
    try:
        return (yield)
    finally:
        patch.install()


@pytest.fixture(scope="session")
def _vdsotime_tracer(request: pytest.FixtureRequest) -> Tracer:
    """What every test with a clock sets up, also where a suite has fixtures of the same names."""
    return _required_tracer(request.config)


@pytest.fixture
def _vdsotime_clock(
    _vdsotime_tracer: Tracer, request: pytest.FixtureRequest
) -> Iterator[FrozenClock]:
    """The test's clock, for the fixture and for the freezing."""
    from pytest_vdsotime.clock import clock_on

    with clock_on(_vdsotime_tracer, **_parameters(request.node)) as clock:
        note(request.node, clock)
        yield clock


@pytest.fixture
def _vdsotime_freeze(
    _vdsotime_clock: FrozenClock, request: pytest.FixtureRequest
) -> Iterator[None]:
    """What a marked test sets up first."""
    patch = _Patch(request.config, _vdsotime_clock)
    patch.install()
    yield
    patch.remove()


@pytest.fixture
def frozen_clock(_vdsotime_clock: FrozenClock) -> FrozenClock:
    """A FrozenClock for this test; it starts as the closest frozen_time marker, else --vdso-time,
    else the ini option vdso_time says, else now."""
    return _vdsotime_clock


@pytest.fixture(scope="session")
def frozen_clock_factory(
    _vdsotime_tracer: Tracer, request: pytest.FixtureRequest
) -> Callable[..., FrozenClock]:
    """frozen_clock_factory(start=None, **kw) makes one more FrozenClock, which is closed after the
    test; or, for a fixture of whatever scope that asks for it, behind that fixture.

    The ini options are the defaults of what is not given, but for the start, which is now.
    """
    from pytest_vdsotime.clock import clock_on

    defaults = {name: value for _, name, value in _given_ini(request.config)}

    def make(start: Instant = None, **parameters: Any) -> FrozenClock:
        clock = clock_on(_vdsotime_tracer, **{**defaults, "start": start, **parameters})
        request.config.stash[_ASKING].give(clock)
        return clock

    return make
