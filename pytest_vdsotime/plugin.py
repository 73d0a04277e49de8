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

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_vdsotime.markers import (
    FREEZE,
    INI,
    SIGNATURE,
    defaults_of,
    freeze_first,
    ini_of,
    marks_of,
    obstacle_of,
    parameters_of,
    validate,
    validate_mark,
)
from pytest_vdsotime.reporting import Reporting, add_options, note
from pytest_vdsotime.terminal import keep_stderr

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock, FrozenClockFactory
    from pytest_vdsotime.errors import TracingUnavailable
    from pytest_vdsotime.timeline import Instant
    from pytest_vdsotime.tracer.thread import Tracer

_NEEDS_TRACER: Final = frozenset({FREEZE, "_vdsotime_tracer"})


class _Lifetimes:
    """A plugin that closes each clock of `frozen_clock_factory` in its time.

    Behind the fixture that is being set up when the clock is made, or else behind the test under
    way.
    """

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
        """Close the clock behind the fixture that is being set up, or after the test's fixtures."""
        assert self._item is not None, "frozen_clock_factory is for fixtures and tests"
        note(self._item, clock)
        if not self._fixtures:
            self._of_test.callback(clock.session.close, f"the test {self._item.name}")
            return
        request = self._fixtures[-1]
        fixture = f"the fixture {request.fixturename} (scope {request.scope})"
        request.addfinalizer(partial(clock.session.close, fixture))
        if request.scope != "function":
            self._lasting.append(clock)
            request.addfinalizer(partial(self._lasting.remove, clock))


_TRACER = pytest.StashKey["Tracer | TracingUnavailable"]()
_SUITE_CLOCK = pytest.StashKey["FrozenClock"]()
_MISTAKE = pytest.StashKey[str]()
_PATCH = pytest.StashKey["_Patch"]()
_LIFETIMES = pytest.StashKey[_Lifetimes]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the ini keys."""
    group = parser.getgroup("vdsotime", "virtual time for the programs that tests start")
    group.addoption(
        "--vdso-time",
        metavar="WHEN",
        help="run the subprocesses of every test without a frozen_time marker of its own at WHEN: "
        "ISO 8601, or @SECONDS since the epoch",
    )
    add_options(group)
    for one in INI:
        parser.addini(one.key, f"vdsotime: {one.ini}")
    parser.addini(
        "vdso_unavailable",
        "vdsotime: where programs cannot be traced, error or skip the tests that need it",
        default="error",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and the ini keys, and add the marker."""
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    config.add_cleanup(keep_stderr(worker))
    config.addinivalue_line(
        "markers",
        f"{SIGNATURE}: run the test's subprocesses on a FrozenClock with these parameters.",
    )
    for key, name, value in ini_of(config):
        validate(config, f"ini option {key} = {config.getini(key)}", {name: value})
    if (when := config.getoption("vdso_time")) is not None:
        validate(config, f"--vdso-time={when}", {"start": when})
    if (policy := config.getini("vdso_unavailable")) not in ("error", "skip"):
        raise pytest.UsageError(f"ini option vdso_unavailable = {policy}: it is 'error' or 'skip'")
    config.pluginmanager.register(Reporting(config), "vdsotime-reporting")
    config.stash[_LIFETIMES] = _Lifetimes()
    config.pluginmanager.register(config.stash[_LIFETIMES], "vdsotime-lifetimes")


def pytest_report_header(config: pytest.Config) -> str:
    """Say where clocks start, and whether programs can be traced."""
    start = defaults_of(config).get("start")
    when = "now"
    if start is not None:
        from pytest_vdsotime.timeline import format_instant, parse_instant

        when = format_instant(parse_instant(start))
    if (obstacle := obstacle_of(config)) is not None:
        return f"vdsotime: {when}, unavailable: {obstacle[0]}"
    from pytest_vdsotime.availability import program_kinds

    return f"vdsotime: {when}, ptrace ok ({', '.join(program_kinds())})"


# --- what a test asks for -------------------------------------------------------------------------


def pytest_collection_finish(session: pytest.Session) -> None:
    """Validate every marker before the first test, and put the freezing fixture in its place."""
    suite_is_frozen = session.config.getoption("vdso_time") is not None
    valid: set[int] = set()
    for item in session.items:
        marks = [*marks_of(item)]
        try:
            for mark in marks:
                if id(mark) not in valid:
                    validate_mark(item, mark)
                    valid.add(id(mark))
        except pytest.UsageError as error:
            if not hasattr(session.config, "workerinput"):
                raise
            # What ends a worker of pytest-xdist is not shown: there the tests say it.
            item.stash[_MISTAKE] = str(error)
        if marks or suite_is_frozen:
            freeze_first(item)


# --- what a test gets -----------------------------------------------------------------------------


def _tracer(config: pytest.Config) -> Tracer | TracingUnavailable:
    """Return the session's tracer, or why there is none."""
    if _TRACER not in config.stash:
        config.stash[_TRACER] = _start_tracer(config)
    return config.stash[_TRACER]


def _start_tracer(config: pytest.Config) -> Tracer | TracingUnavailable:
    from pytest_vdsotime.errors import TracingUnavailable

    if (obstacle := obstacle_of(config)) is not None:
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
    """Return the session's tracer, or the end of the test that needs it."""
    tracer = _tracer(config)
    if not isinstance(tracer, Exception):
        return tracer
    if config.getini("vdso_unavailable") == "skip":
        pytest.skip(f"vdsotime: {tracer}")
    pytest.fail(f"vdsotime: {tracer}", pytrace=False)


def _suite_clock(config: pytest.Config) -> FrozenClock | None:
    """Return the clock of what outlives one test under --vdso-time.

    It lasts until the session ends.
    """
    if _SUITE_CLOCK not in config.stash:
        tracer = _tracer(config)
        if isinstance(tracer, Exception):
            return None  # each test says so
        from pytest_vdsotime.clock import clock_on

        clock = config.stash[_SUITE_CLOCK] = clock_on(tracer, **defaults_of(config))
        config.add_cleanup(clock.close)
    return config.stash[_SUITE_CLOCK]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have what outlives one test run on the suite's clock, under --vdso-time."""
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
    """Fail a test that cannot be frozen before its broader fixtures begin."""
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
    """Yield a broader fixture that a frozen test is the first to ask for steps out of its clock."""
    __tracebackhide__ = True
    if fixturedef.scope == "function":
        return (yield)
    patch = request.config.stash.get(_PATCH, None)
    with ExitStack() as steps:
        if patch is not None:
            patch.remove()
            steps.callback(patch.install)
        if fixturedef.scope in ("class", "module") and any(marks_of(request.node)):
            from pytest_vdsotime.other_starts import TooEarly

            steps.enter_context(TooEarly(_name_of(fixturedef)))
        return (yield)


def _name_of(fixturedef: pytest.FixtureDef[Any]) -> str:
    """Return what a fixture is called; pytest makes some of functions such as setup_class."""
    name = fixturedef.argname
    _, is_function, rest = name.partition("_xunit_" if "_xunit_" in name else "_unittest_")
    if is_function:
        return rest.partition("_fixture_")[0]
    return f"the fixture {name!r} of {fixturedef.scope} scope"


@pytest.fixture(scope="session")
def _vdsotime_tracer(request: pytest.FixtureRequest) -> Tracer:
    """Give the tracer to every test with a clock.

    Also where a suite has fixtures of the same names.
    """
    return _required_tracer(request.config)


@pytest.fixture
def _vdsotime_clock(
    _vdsotime_tracer: Tracer, request: pytest.FixtureRequest
) -> Iterator[FrozenClock]:
    """Give the test its clock, for the fixture and for the freezing."""
    from pytest_vdsotime.clock import clock_on

    clock = clock_on(_vdsotime_tracer, **parameters_of(request.node))
    note(request.node, clock)
    yield clock
    clock.session.close(f"the test {request.node.name}, whose frozen_clock it was")


@pytest.fixture
def _vdsotime_freeze(
    _vdsotime_clock: FrozenClock, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Freeze a marked test, before its other fixtures are set up."""
    patch = _Patch(request.config, _vdsotime_clock)
    patch.install()
    yield
    patch.remove()


@pytest.fixture
def frozen_clock(_vdsotime_clock: FrozenClock) -> FrozenClock:
    """Return a FrozenClock for this test.

    It starts as the closest frozen_time marker, else --vdso-time, else the ini option vdso_time
    says, else now.
    """
    return _vdsotime_clock


@pytest.fixture(scope="session")
def frozen_clock_factory(
    _vdsotime_tracer: Tracer, request: pytest.FixtureRequest
) -> FrozenClockFactory:
    """Return a function that makes one more FrozenClock, with the parameters of that.

    The clock is closed after the test; or, for a fixture of whatever scope that asks for it, behind
    that fixture.

    The ini options are the defaults of what is not given, but for the start, which is now.
    """
    from pytest_vdsotime.clock import clock_on

    defaults = {name: value for _, name, value in ini_of(request.config)}

    def make(start: Instant = None, **parameters: Any) -> FrozenClock:
        clock = clock_on(_vdsotime_tracer, **{**defaults, "start": start, **parameters})
        request.config.stash[_LIFETIMES].give(clock)
        return clock

    return make
