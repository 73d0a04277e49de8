"""What pytest's reports say of clocks: the section of a failed test, the trace, the page.

Registered by the plugin; like that, it imports nothing heavier than pytest before it must.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

import pytest

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock
    from pytest_vdsotime.report.html import ReportFile
    from pytest_vdsotime.report.recorder import Recorder
    from pytest_vdsotime.report.trace import TraceFile

_STORY: Final = "vdsotime_story"
_SECTION: Final = "frozen clock"
_MAX_CLOCKS: Final = 5


class _Noted(NamedTuple):
    """A clock that a test may use."""

    clock: FrozenClock
    name: str
    """Empty where the plugin knows none."""
    moves: int = 0
    """How often it had been moved before the test began."""

    @property
    def is_driven(self) -> bool:
        """The test has moved it."""
        return self.clock.session.moves > self.moves


_OUTCOME = pytest.StashKey[str]()
_CLOCKS = pytest.StashKey[list[_Noted]]()


def note(item: pytest.Item, clock: FrozenClock, name: str = "") -> None:
    """`clock` is one of this test's."""
    noted = _Noted(clock, name, clock.session.moves)
    item.stash.setdefault(_CLOCKS, []).append(noted)


def add_options(group: pytest.OptionGroup) -> None:
    """To the plugin's."""
    group.addoption(
        "--vdso-trace",
        metavar="FILE",
        help="write what happened on the clocks of the tests to FILE, as Trace Event JSON, which "
        "opens in Perfetto (ui.perfetto.dev) and chrome://tracing",
    )
    group.addoption(
        "--vdso-report",
        metavar="FILE",
        help="write an HTML page with the timeline of each test that has a clock to FILE",
    )


class Reporting:
    """The hooks.

    On a worker of pytest-xdist the stories go with the tests' reports to the controller, which
    alone writes files.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Raise pytest.UsageError where a file cannot be written."""
        self._recorder: Recorder | None = None
        self._writers: list[TraceFile | ReportFile] = []
        wanted = {
            name: path for name in ("trace", "report") if (path := config.getoption(f"vdso_{name}"))
        }
        if not wanted:
            return
        from pytest_vdsotime.events import recording
        from pytest_vdsotime.report.html import ReportFile
        from pytest_vdsotime.report.recorder import Recorder
        from pytest_vdsotime.report.trace import TraceFile

        worker = getattr(config, "workerinput", {}).get("workerid", "")
        kinds: dict[str, Callable[[TextIO], TraceFile | ReportFile]]
        kinds = {} if worker else {"trace": TraceFile, "report": ReportFile}
        with ExitStack() as context:
            self._recorder = Recorder(context.enter_context(recording()), f"{worker}:")
            for name in wanted.keys() & kinds.keys():
                try:
                    file = context.enter_context(open(wanted[name], "w", encoding="utf-8"))
                except OSError as error:
                    raise pytest.UsageError(
                        f"--vdso-{name}={wanted[name]}: it cannot be written: {error.strerror}"
                    ) from None
                writer = kinds[name](file)
                context.callback(writer.close)
                self._writers.append(writer)
            config.add_cleanup(context.pop_all().close)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """On the controller, and where there is none."""
        story = getattr(report, _STORY, None)
        if story is not None and story["clocks"]:
            for writer in self._writers:
                writer.add(story)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Yield a failed test's report says of each of its clocks what is to be known."""
        if call.excinfo is not None:
            _hide_frames()
        report = yield
        if self._recorder is not None:
            before = "passed" if report.when == "setup" else item.stash[_OUTCOME]
            outcome = item.stash[_OUTCOME] = _worse(before, report)
            if report.when == "teardown":
                setattr(report, _STORY, self._recorder.tell(item.nodeid, outcome))
        if report.failed:
            report.sections += _sections(_clocks(item, call))
        if report.when == "teardown" and _CLOCKS in item.stash:
            del item.stash[_CLOCKS]  # and with it what has happened on them
        return report


def _hide_frames() -> None:
    """Have an error shown by the test's own line: the package's frames explain only its faults."""
    from pytest_vdsotime.errors import is_explained

    def hides(excinfo: pytest.ExceptionInfo[BaseException] | None) -> bool:
        return excinfo is None or is_explained(excinfo.value)

    for name, module in tuple(sys.modules.items()):
        if name.startswith("pytest_vdsotime."):
            module.__dict__.setdefault("__tracebackhide__", hides)


def _worse(outcome: str, report: pytest.TestReport) -> str:
    """Return what becomes of a test's outcome by one more report."""
    if outcome == "failed" or report.failed:
        return "failed"
    return report.outcome if report.when != "teardown" else outcome


def _sections(found: Sequence[_Noted]) -> Iterator[tuple[str, str]]:
    """Yield title and text for each clock that has programs or that the test has moved."""
    from pytest_vdsotime.events import MAX_EVENTS

    used = [one for one in found if one.clock.session.has_started or one.is_driven]
    shown = (used or found)[: _MAX_CLOCKS if used else 1]
    names = _distinct([one.name for one in shown])
    running = [
        name for name, one in zip(names, shown, strict=True) if one.clock.session.has_started
    ]
    for name, one in zip(names, shown, strict=True):
        text = one.clock.describe(events=MAX_EVENTS)
        if running and not one.clock.session.has_started:
            text += (
                f"\nThe test moves this clock, and programs are on another: {', '.join(running)}."
            )
        yield _SECTION if len(shown) == 1 else f"{_SECTION}: {name}", text


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with numbers where there are several of one."""
    return [
        f"{name} {names[: at + 1].count(name)}" if names.count(name) > 1 else name
        for at, name in enumerate(names)
    ]


def _clocks(item: pytest.Item, call: pytest.CallInfo[Any]) -> list[_Noted]:
    """Those of fixtures, and those that the test has made itself.

    What failed knows them by some name.
    """
    found: dict[FrozenClock, _Noted] = {}
    for noted in item.stash.get(_CLOCKS, []):
        found.setdefault(noted.clock, noted)
    module = sys.modules.get("pytest_vdsotime.clock")
    if module is None or call.excinfo is None:
        return [*found.values()]  # none can have been made
    named = [*getattr(item, "funcargs", {}).items()]
    for entry in call.excinfo.traceback:
        named += entry.frame.f_locals.items()
    for name, one in named:
        # Bad parameters leave one without a session.
        if type(one) is module.FrozenClock and hasattr(one, "session"):
            known = found.setdefault(one, _Noted(one, name))
            found[one] = known._replace(name=known.name or name)
    return [one._replace(name=one.name or "a clock") for one in found.values()]
