"""FrozenClock: what a test holds."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from pytest_vdsotime import failure, timeline
from pytest_vdsotime.attacher import Attacher
from pytest_vdsotime.errors import ClockClosed, RealTimeWarning
from pytest_vdsotime.options import check_timeout, validate_options
from pytest_vdsotime.page import ClockPage
from pytest_vdsotime.processes import (
    PendingWait,
    TracedProcess,
    end_programs,
    pending_waits,
    snapshot,
)
from pytest_vdsotime.python_clock import PythonClock
from pytest_vdsotime.starter import Starter
from pytest_vdsotime.timeline import Instant, Line, Lines, Rate
from pytest_vdsotime.tracer.passing import Passing
from pytest_vdsotime.tracer.tasks import World
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from pytest_vdsotime.popen import FrozenPopen

T = TypeVar("T")

_SETTLE_TIMEOUT_S = 5.0


class FrozenClock(Attacher, Starter):
    """A clock for real programs, as a context manager or the fixture `frozen_clock`::

        with FrozenClock("2038-01-19", monotonic="freeze") as clock:
            server = clock.popen(["./server", "--ttl", "1h"], stdout=PIPE)
            clock.advance(hours=1)  # its timers fire; returns when it waits again

    Programs started through it, and what they start, read two lines over real time: the wall line
    and the monotonic one. Leaving it kills what is left. Any thread may use it.

    Args:
        start: where the wall line is: ISO 8601 string, datetime (naive is UTC), date, seconds since
            the epoch, timedelta from now, or None for now; any instant from 0001 to 9999.
        rate: seconds of the wall line per real second: 0 frozen, 1 ticking, 60 a minute a second.
        monotonic: the other line flows on from the host's own value at rate 1 (``"flow"``),
            stands still (``"freeze"``), or moves at the wall's rate (``"rate"``).
        waits: timed waits and timers obey their line (``"follow"``), or the kernel (``"real"``,
            with points of the wall clock translated).
        autojump: whenever all programs wait, or have for that many real seconds, on to the next
            deadline; the monotonic line stands still otherwise.
        grace: waits of at most so many seconds pass in real time while nobody moves a frozen line.
        python: the test process's own Python clock (`time.time`, `datetime.now`) reads the wall
            line too, until `close`; by time-machine, ``pytest-vdsotime[python]``.
        tracer: lets several clocks share a tracer thread; without it the clock has its own.

    Raises:
        TypeError, ValueError: bad parameters, before anything is started.
        ImportError: `python` without time-machine, likewise.
    """

    def __init__(
        self,
        start: Instant = None,
        *,
        rate: float = 0.0,
        monotonic: str = "flow",
        waits: str = "follow",
        autojump: bool | float = False,
        grace: float = 0.02,
        python: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        options = validate_options(
            start,
            rate=rate,
            monotonic=monotonic,
            waits=waits,
            autojump=autojump,
            grace=grace,
            python=python,
        )
        host_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        start_ns = timeline.parse_instant(options.start, timeline.host_wall_ns(host_ns))
        self._first_lines = timeline.initial_lines(
            start_ns, options.rate, options.monotonic, host_ns, is_now=options.start is None
        )
        self._options = options
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._owns_tracer = tracer is None
        self._tracer = tracer or Tracer()
        self._world: World | None = None
        self._programs: WeakSet[FrozenPopen[Any]] = WeakSet()
        self._warnings: deque[str] = deque()
        self._is_closed = False
        self._python = PythonClock(self._wall_ns) if options.python else None
        self._last_words = ""
        """What was to be told of it when an exception ended it."""

    # --- reading ---------------------------------------------------------------------------------

    @property
    def _lines(self) -> Lines:
        """The page's, once programs read it."""
        world = self._world
        return self._first_lines if world is None else world.page.lines

    def _read(self, line: Line) -> int:
        self._check_open()
        return line.at(time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    def _wall_ns(self) -> int:
        return self._lines.wall.at(time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    @property
    def now(self) -> datetime:
        """The wall line, as an aware UTC datetime rounded to microseconds. Raises ClockClosed."""
        return timeline.to_datetime(self.time_ns())

    def time_ns(self) -> int:
        """The wall line, in nanoseconds since the epoch, exact."""
        return self._read(self._lines.wall)

    def time(self) -> float:
        """The wall line, in seconds since the epoch."""
        return self.time_ns() / timeline.NS_PER_S

    def monotonic_ns(self) -> int:
        """The monotonic line: what programs read from CLOCK_MONOTONIC, in nanoseconds."""
        return self._read(self._lines.monotonic)

    # --- moving ----------------------------------------------------------------------------------

    def advance(
        self,
        delta: timedelta | float | None = None,
        /,
        *,
        timeout: float = 5.0,
        **timedelta_kwargs: float,
    ) -> None:
        """Time passes: both lines move on by seconds, a timedelta, or ``hours=1`` and the like.

        The programs settle first (see `settle`). Then whatever is due by the new time ends or
        fires, one deadline after the other, and the programs settle after each.

        Raises:
            ValueError: negative, not finite, or beyond the year 9999.
            TypeError: no or several amounts, unknown keywords.
            NotSettled: the programs did not, `timeout` real seconds long after one of the
                deadlines; the clock stays where it got to.
        """
        span_ns = timeline.parse_delta(delta, timedelta_kwargs)
        check_timeout(timeout)
        self._pass(
            f"advance({span_ns / timeline.NS_PER_S:.12g})",
            lambda passing, world: passing.advance(world, span_ns, timeout),
            lambda lines, host_ns: lines.advanced(host_ns, span_ns),
        )

    def advance_to_next(self) -> datetime | None:
        """On to the earliest pending deadline, as `advance` does; returns the wall line's reading,
        None if nothing waits for a deadline.

        Raises:
            NotSettled, ValueError: as `advance`.
        """
        found = self._ask(
            lambda passing, world: passing.advance_to_next(world, _SETTLE_TIMEOUT_S),
            "advance_to_next()",
        )
        return self.now if found else None

    def settle(self, timeout: float = _SETTLE_TIMEOUT_S) -> None:
        """Returns when every traced thread is blocked or stopped.

        Raises NotSettled, which names the busy ones, after `timeout` real seconds.
        """
        check_timeout(timeout)
        self._pass("settle()", lambda passing, world: passing.settle(world, timeout), None)

    @property
    def waits(self) -> list[PendingWait]:
        """What the traced threads wait for that a deadline will end, the soonest first. Each has
        `pid`, `tid`, `command`, `syscall`, `clock`, `deadline_ns` and `remaining` seconds."""
        return self._ask(pending_waits) or []

    def move_to(self, when: Instant) -> None:
        """Somebody sets the clock: the wall line is at `when`, the monotonic one stays. Waits until
        a point of the wall clock notice; returns when the programs have settled.

        Takes every form of `start`; a timedelta counts from the clock's own now, None is the
        host's now. Raises TypeError, ValueError; NotSettled as `settle` does.
        """
        now_ns = self.time_ns() if isinstance(when, timedelta) else None
        instant_ns = timeline.parse_instant(when, now_ns)
        self._move(
            f"move_to({timeline.format_instant(instant_ns)})",
            lambda lines, host_ns: lines.moved_to(host_ns, instant_ns),
            is_set=True,
        )

    @property
    def rate(self) -> float:
        """Seconds of the wall line per real second; set it to go on at another rate from here.
        It is finite and not negative, else TypeError or ValueError."""
        return self._lines.wall.rate.value

    @rate.setter
    def rate(self, value: float) -> None:
        rate = Rate.of(value)
        self._move(f"rate = {value:g}", lambda lines, host_ns: lines.at_rate(host_ns, rate))

    def _move(self, call: str, to: Callable[[Lines, int], Lines], is_set: bool = False) -> None:
        def have(passing: Passing, world: World) -> None:
            passing.move(world, to, is_set=is_set)
            if is_set:
                world.discipline.wall_was_set(by_program=False)
                passing.settle(world, _SETTLE_TIMEOUT_S)

        self._pass(call, have, to)

    def _ask(self, have: Callable[[Passing, World], T], call: str = "") -> T | None:
        """What the tracer says of this clock's programs; None if there are none yet. `call` is
        what the test has called, if that may move the clock."""
        self._check_open()
        world = self._world
        if world is None:
            return None
        with world.step(call):
            found = self._tracer.call_later(lambda loop: have(loop.passing, world))
        self.raise_news()
        return found

    def _pass(
        self,
        call: str,
        have: Callable[[Passing, World], object],
        to: Callable[[Lines, int], Lines] | None,
    ) -> None:
        """Has the tracer move this clock, or if there is none yet moves its lines."""
        self._check_open()
        with self._lock:
            world = self._world
            if world is None and to is not None:
                host_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                self._first_lines = to(self._first_lines, host_ns)
        if world is not None:
            self._ask(have, call)

    # --- programs --------------------------------------------------------------------------------

    @property
    def processes(self) -> list[TracedProcess]:
        """The processes on this clock that are alive, by pid. Each has `pid`, `ppid`, `argv` and
        `has_read_clock` ("did it take effect?")."""
        self._check_open()
        world = self._world
        if world is None:
            return []
        found = self._tracer.call(lambda _loop: [*world.processes.values()])
        snapshots = [snapshot(process) for process in found if process.launch is None]
        self.raise_news()
        return sorted((one for one in snapshots if one), key=lambda one: one.pid)

    # --- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Kills every program on this clock and reaps it. Idempotent.

        Raises what was still to be told: UnsupportedProgram for a program that was killed unseen.
        """
        self._check_owner()
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self._python is not None:
            self._python.stop()
        world = self._world
        try:
            if world is not None:
                end_programs(self._tracer, world)
        finally:
            for program in tuple(self._programs):
                program.end()
            if self._owns_tracer:
                self._tracer.close()
            if world is not None:
                world.page.close()
        self.raise_news()

    def __enter__(self) -> FrozenClock:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if error is not None and not self._is_closed:
            self._last_words = self.describe(events=failure.MOST_EVENTS)
        self.close()

    def __repr__(self) -> str:
        if self._is_closed:
            return "<FrozenClock closed>"
        return f"<FrozenClock {timeline.format_instant(self._wall_ns())} rate={self.rate:g}>"

    def describe(self, *, events: int = 0) -> str:
        """Where it stands, what each traced thread does now, and the last `events` events, for
        people. Never raises."""

        def text() -> str:
            tracer, lines = self._tracer, self._lines
            is_closed = self._is_closed
            return failure.told(tracer, self._world, lines, is_closed=is_closed, events=events)

        return self._last_words or failure.last_resort(text)

    # --- for other modules -----------------------------------------------------------------------

    def load(self) -> None:
        """Reads what the first program will need. Raises TracingUnavailable."""
        self._tracer.load()

    @property
    def has_started(self) -> bool:
        """It has had a program."""
        return self._world is not None

    @property
    def is_closed(self) -> bool:
        """Nothing can be asked of it any more."""
        return self._is_closed

    def add(self, program: FrozenPopen[Any]) -> None:
        """`program` ends with the clock."""
        self._programs.add(program)

    def leave_untraced(self, program: FrozenPopen[Any], reason: str) -> None:
        """`program` runs in real time, untouched; it ends with the clock like the others."""
        self._warnings.append(
            f"{program.args!r} (pid {program.pid}) runs in real time: {reason}; "
            "run the tests as root"
        )

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ClockClosed(
                "this clock belongs to the parent process: after os.fork(), make a new one"
            )

    def _check_open(self) -> None:
        self._check_owner()
        if self._is_closed:
            raise ClockClosed("the clock is closed")

    def start_tracing(self) -> tuple[Tracer, World]:
        """The tracer, running, and this clock's side of it.

        Raises ClockClosed, TracingUnavailable.
        """
        self._check_open()
        self._tracer.start()
        with self._lock:
            if self._world is None:
                page = ClockPage(self._first_lines, self._tracer.load().images)
                options = self._options
                world = World(
                    page,
                    follows=options.follows,
                    grace_ns=options.grace_ns,
                    jump_after_ns=options.jump_after_ns,
                )
                self._tracer.call(lambda loop: loop.clocks.add(world))
                self._world = world
            return self._tracer, self._world

    def raise_news(self) -> None:
        """Raises what happened since the last call, in the test's own thread."""
        world = self._world
        for texts in (self._warnings, world.warnings if world else self._warnings):
            while texts:
                warnings.warn(texts.popleft(), RealTimeWarning, stacklevel=3)
        if world and world.errors:
            raise world.errors.popleft()
