"""The pytest plugin: fixtures, marker, option and ini keys around `pytest_vdsotime.FrozenClock`.

pytest imports this module at every start, so everything heavier than pytest itself is imported by
the first test that needs it. A clock is light until a program is started on it: then the one tracer
of the session is made, which all clocks share and no test waits for again.

A test with the marker (or any test under ``--vdso-time``) has ``subprocess`` patched from before
its own function-scoped fixtures until after their teardown. Fixtures of broader scope outlive the
test, and its clock takes its programs with it when it closes. So what they start does not run on
the test's clock: it runs on the session's clock, `frozen_session_clock`, from its first use on
(under ``--vdso-time`` from the beginning), otherwise in real time.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any, Final

import pytest

import pytest_vdsotime.standard  # noqa: F401  (before other plugins replace what it keeps)
from pytest_vdsotime.markers import (
    INI,
    SIGNATURE,
    default_options,
    defaults_of,
    freeze_first,
    ini_of,
    marks_of,
    obstacle_of,
    options_of,
    validate,
    validate_mark,
)
from pytest_vdsotime.reporting import Reporting, add_options, note
from pytest_vdsotime.terminal import keep_stderr

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock, FrozenClockFactory
    from pytest_vdsotime.containers import ContainerEngine
    from pytest_vdsotime.errors import TracingUnavailable
    from pytest_vdsotime.instants import Instant
    from pytest_vdsotime.options import Options
    from pytest_vdsotime.session import TracerHolder

_PACKAGE: Final = "pytest_vdsotime."


class _Plain:
    """Has the package's modules be imported as they were installed.

    pytest would rewrite the asserts of each: a third of a second wherever it finds no rewritten
    bytecode of an earlier run, as in each fresh container.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As of importlib.abc.MetaPathFinder."""
        return PathFinder.find_spec(name, path, target) if name.startswith(_PACKAGE) else None


class _Clocks:
    """The clocks of a run: how long each lasts, and which is patched in.

    A clock of `frozen_clock_factory` is closed behind the fixture that is being set up when it is
    made, or else behind the test under way.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._tracer: TracerHolder | None = None
        self._fixtures: list[pytest.FixtureRequest] = []
        self._item: pytest.Item | None = None
        self._lasting: list[tuple[FrozenClock, str]] = []
        """Those of broader fixtures, which every test may use, each with its name."""
        self._of_test = ExitStack()
        self._of_session: FrozenClock | None = None
        self._session = ExitStack()
        """What ends with the session's last fixture."""
        self._patch: AbstractContextManager[None] | None = None
        """``subprocess`` patched for the test under way, while in force."""
        self._patched: FrozenClock | None = None
        config.add_cleanup(self._session.close)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Have what outlives one test run on the session's clock, under --vdso-time."""
        self._item = item
        for clock, name in self._lasting:
            note(item, clock, name)
        if self._of_session is None and self._config.getoption("vdso_time") is not None:
            self.of_session()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Have a broader fixture of a frozen test step out of the test's clock."""
        __tracebackhide__ = True
        self._fixtures.append(request)
        try:
            if fixturedef.scope == "function":
                return (yield)
            with ExitStack() as steps:
                if self._patch is not None:
                    self._unpatch()
                    steps.callback(self._patch_in)
                if fixturedef.scope in ("class", "module") and any(marks_of(request.node)):
                    from pytest_vdsotime.other_starts import TooEarly

                    steps.enter_context(TooEarly(_name_of(fixturedef)))
                return (yield)
        finally:
            self._fixtures.pop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Last: fixtures that the test has given a clock to end what they have started on it."""
        __tracebackhide__ = True
        with self._of_test:
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Close the session's clock behind its fixtures, before the summary."""
        with self._session:
            return (yield)

    def tracer(self) -> TracerHolder:
        """Return the tracer that all clocks share. It is made for the first program."""
        if self._tracer is None:
            from pytest_vdsotime.session import TracerHolder

            self._tracer = TracerHolder()
            if self._config.getini("vdso_unavailable") == "skip":
                self._tracer.unavailable = _skip  # type: ignore[method-assign]
            self._config.add_cleanup(self._tracer.close)
        return self._tracer

    def of_test(self, request: pytest.FixtureRequest) -> FrozenClock:
        """Return the clock of the test under way; `request` is of a fixture of its scope."""
        item: pytest.Item = request.node
        if _CLOCK not in item.stash:
            from pytest_vdsotime.clock import clock_with

            clock = item.stash[_CLOCK] = clock_with(options_of(item), self.tracer())
            note(item, clock, "frozen_clock")
            request.addfinalizer(partial(self._close, item))
        return item.stash[_CLOCK]

    @staticmethod
    def _close(item: pytest.Item) -> None:
        clock = item.stash[_CLOCK]
        del item.stash[_CLOCK]
        clock.session.close(f"the test {item.name}, whose frozen_clock it was")

    def freeze(self, request: pytest.FixtureRequest) -> None:
        """Have the test's clock patched in until behind the test's other fixtures."""
        self._patched = self.of_test(request)
        self._patch_in()
        request.addfinalizer(self._unpatch)

    def _patch_in(self) -> None:
        assert self._patched is not None
        self._patch = self._patched.patch_subprocess()
        self._patch.__enter__()

    def _unpatch(self) -> None:
        patch, self._patch = self._patch, None
        assert patch is not None
        patch.__exit__(None, None, None)

    def of_session(self) -> FrozenClock:
        """Return the session's clock; from the first time on it is patched in."""
        if self._of_session is None:
            assert self._item is not None, "frozen_session_clock is for fixtures and tests"
            from pytest_vdsotime.clock import clock_with

            clock = clock_with(default_options(self._config), self.tracer())
            self._of_session = clock
            self._lasting.append((clock, "frozen_session_clock"))
            note(self._item, clock, "frozen_session_clock")
            of_session = "the session, whose frozen_session_clock it was"
            self._session.callback(clock.session.close, of_session)
            self._session.enter_context(clock.patch_subprocess())
        return self._of_session

    def of_factory(self, options: Options) -> FrozenClock:
        """Return one more clock."""
        assert self._item is not None, "frozen_clock_factory is for fixtures and tests"
        from pytest_vdsotime.clock import clock_with

        clock = clock_with(options, self.tracer())
        if not self._fixtures:
            note(self._item, clock)
            self._of_test.callback(clock.session.close, f"the test {self._item.name}")
            return clock
        request = self._fixtures[-1]
        name = request.fixturename or ""
        note(self._item, clock, name)
        fixture = f"the fixture {name} (scope {request.scope})"
        request.addfinalizer(partial(clock.session.close, fixture))
        if request.scope != "function":
            self._lasting.append((clock, name))
            request.addfinalizer(partial(self._lasting.remove, (clock, name)))
        return clock


def _skip(reason: str, remedy: str) -> TracingUnavailable:
    """End the test that starts a program where nothing can be traced."""
    pytest.skip(f"vdsotime: {reason}; {remedy}")


_CLOCKS = pytest.StashKey[_Clocks]()
_CLOCK = pytest.StashKey["FrozenClock"]()
_MISTAKE = pytest.StashKey[str]()


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
        "vdsotime: where nothing can be traced, error or skip the tests that start a program",
        default="error",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and the ini keys, and add the marker."""
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    config.add_cleanup(keep_stderr(worker))
    sys.meta_path.insert(0, _Plain)
    config.add_cleanup(_import_as_before)
    config.addinivalue_line(
        "markers",
        f"{SIGNATURE}: run the test's subprocesses on a FrozenClock with these parameters.",
    )
    for key, name, value in ini_of(config):
        validate(f"ini option {key} = {config.getini(key)}", {name: value})
    if (when := config.getoption("vdso_time")) is not None:
        validate(f"--vdso-time={when}", {"start": when})
    if (policy := config.getini("vdso_unavailable")) not in ("error", "skip"):
        raise pytest.UsageError(f"ini option vdso_unavailable = {policy}: it is 'error' or 'skip'")
    config.pluginmanager.register(Reporting(config), "vdsotime-reporting")
    config.stash[_CLOCKS] = _Clocks(config)
    config.pluginmanager.register(config.stash[_CLOCKS], "vdsotime-clocks")


def _import_as_before() -> None:
    with suppress(ValueError):  # another has taken it away
        sys.meta_path.remove(_Plain)


def pytest_report_header(config: pytest.Config) -> str:
    """Say where clocks start, and whether programs can be traced."""
    start = defaults_of(config).get("start")
    when = "now"
    if start is not None:
        from pytest_vdsotime.instants import format_instant, parse_instant

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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose marker is wrong before its broader fixtures begin."""
    if _MISTAKE in item.stash:
        pytest.fail(item.stash[_MISTAKE], pytrace=False)


def _name_of(fixturedef: pytest.FixtureDef[Any]) -> str:
    """Return what a fixture is called; pytest makes some of functions such as setup_class."""
    name = fixturedef.argname
    _, is_function, rest = name.partition("_xunit_" if "_xunit_" in name else "_unittest_")
    if is_function:
        return rest.partition("_fixture_")[0]
    return f"the fixture {name!r} of {fixturedef.scope} scope"


@pytest.fixture
def _vdsotime_freeze(request: pytest.FixtureRequest) -> None:
    """Freeze a marked test, before its other fixtures are set up."""
    request.config.stash[_CLOCKS].freeze(request)


@pytest.fixture
def frozen_clock(request: pytest.FixtureRequest) -> FrozenClock:
    """Return a FrozenClock for this test.

    It starts as the closest frozen_time marker, else --vdso-time, else the ini option vdso_time
    says, else now.
    """
    return request.config.stash[_CLOCKS].of_test(request)


@pytest.fixture
def frozen_containers(frozen_clock: FrozenClock) -> Generator[ContainerEngine, None, None]:
    """Return an engine whose containers are on frozen_clock, as its `containers` has it.

    docker-py, Testcontainers, Compose, docker and podman use it for as long as the test lasts.
    """
    with frozen_clock.containers() as engine:
        yield engine


@pytest.fixture(scope="session")
def frozen_session_clock(request: pytest.FixtureRequest) -> FrozenClock:
    """Return the FrozenClock of what fixtures of broader scope start.

    It is patched in from its first use to the end of the session, under --vdso-time from the
    beginning. It starts as frozen_clock does in a test without a marker; tests move it. A test's
    own frozen_clock is another one.
    """
    return request.config.stash[_CLOCKS].of_session()


@pytest.fixture(scope="session")
def frozen_clock_factory(request: pytest.FixtureRequest) -> FrozenClockFactory:
    """Return a function that makes one more FrozenClock, with the parameters of that.

    The clock is closed after the test; or, for a fixture of whatever scope that asks for it, behind
    that fixture.

    The ini options are the defaults of what is not given, but for the start, which is now.
    """
    from pytest_vdsotime.options import validate_options

    clocks = request.config.stash[_CLOCKS]
    defaults = {name: value for _, name, value in ini_of(request.config)}

    def make(start: Instant = None, **parameters: Any) -> FrozenClock:
        return clocks.of_factory(validate_options(**{**defaults, "start": start, **parameters}))

    return make
