"""ClockSession: a clock as the test process has it.

It owns what `FrozenClock`, programs, asyncio's transports and the patched `subprocess` share: the
options, the tracer, the lines before the first program, the programs to end, the warnings to raise.

What traces is imported and made for the first program: a clock that has none costs little, and
works where nothing can be traced.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet

from pytest_vdsotime.errors import ClockClosed, RealTimeWarning, TracingUnavailable
from pytest_vdsotime.options import Options
from pytest_vdsotime.timeline import (
    Lines,
    describe_lines,
    host_wall_ns,
    initial_lines,
    now_ns,
    parse_instant,
)

if TYPE_CHECKING:
    from pytest_vdsotime.page import ClockPage
    from pytest_vdsotime.processes import AttachedProcess, TracedProcess
    from pytest_vdsotime.tracer.operations import Operations
    from pytest_vdsotime.tracer.state import ClockState
    from pytest_vdsotime.tracer.thread import Tracer

T = TypeVar("T")


class TracerHolder:
    """The tracer of one or more clocks, made for their first program.

    The first refusal stands: what cannot be traced now cannot be a moment later. The page of a
    clock that has ended is kept for the next one, with all that the tracer has made for it.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        """`tracer` is one that its owner closes."""
        self._is_made_here = tracer is None
        self._lock = threading.Lock()
        self._tracer = tracer
        self._refusal: tuple[str, str] | None = None
        self._spare: deque[ClockPage] = deque()

    def unavailable(self, reason: str, remedy: str) -> TracingUnavailable:
        """Return what is raised where nothing can be traced; the plugin may have it skip a test."""
        return TracingUnavailable(reason, remedy)

    def start(self) -> Tracer:
        """Return the tracer, running. Raises TracingUnavailable, and again each time from then."""
        tracer = self.load()
        try:
            tracer.start()
        except TracingUnavailable as error:
            self._refusal = error.reason, error.remedy
            raise self.unavailable(*self._refusal) from None
        return tracer

    def load(self) -> Tracer:
        """Return the tracer, which need not run yet. Raises TracingUnavailable."""
        if self._refusal is not None:
            raise self.unavailable(*self._refusal)
        if self._tracer is not None:
            return self._tracer
        with self._lock:
            if self._tracer is None:
                from pytest_vdsotime.availability import known_obstacle

                self._refusal = known_obstacle()
                if self._refusal is not None:
                    raise self.unavailable(*self._refusal)
                try:
                    from pytest_vdsotime.tracer.thread import Tracer

                    tracer = Tracer()
                    tracer.load()
                    self._tracer = tracer
                except TracingUnavailable as error:
                    self._refusal = error.reason, error.remedy
                    raise self.unavailable(*self._refusal) from None
            return self._tracer

    def take_page(self, tracer: Tracer, lines: Lines) -> ClockPage:
        """Return the page of a new clock. Raises OSError (EMFILE, ENFILE, ENOMEM)."""
        try:
            page = self._spare.pop()
        except IndexError:
            from pytest_vdsotime.page import ClockPage

            return ClockPage(lines, tracer.load().images)
        page.renew(lines)
        return page

    def give_back(self, page: ClockPage) -> None:
        """Keep the page of a clock that has ended, or close it."""
        if self._is_made_here and not (self._spare or page.copies or page.serves_one_clock):
            self._spare.append(page)
        else:
            page.close()

    def close(self) -> None:
        """End what was made. Idempotent."""
        if self._tracer is not None:
            self._tracer.close()
        while self._spare:
            self._spare.pop().close()


class Program(Protocol):
    """A program that ends with its clock."""

    @property
    def args(self) -> object:
        """Its command."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def end(self) -> None:
        """Kill and reap the program, if that is still to be done."""


class ClockSession:
    """One clock of this process. Any thread may use it; after `os.fork` the child may not."""

    def __init__(self, options: Options, tracer: TracerHolder | None = None) -> None:
        """Start nothing yet.

        `tracer` is one that several clocks share; without it the clock has its own.
        """
        host_ns = now_ns()
        start_ns = parse_instant(options.start, host_wall_ns(host_ns))
        self._lines = initial_lines(
            start_ns, options.rate, options.monotonic, host_ns, is_now=options.start is None
        )
        self._options = options
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._owns_tracer = tracer is None
        self.holder = tracer or TracerHolder()
        self._tracer: Tracer
        """Since there is a world."""
        self._world: ClockState | None = None
        self._programs: WeakSet[Program] = WeakSet()
        self._warnings: deque[str] = deque()
        self._is_closed = False
        self.moves = 0
        """How often the test has moved it."""
        self._python = None
        if options.python:
            from pytest_vdsotime.python_clock import PythonClock

            self._python = PythonClock()
            self._python.start(self.wall_ns)

    # --- the lines -------------------------------------------------------------------------------

    @property
    def lines(self) -> Lines:
        """Those of the page, while programs read it."""
        world = self._world
        return self._lines if world is None or self._is_closed else world.page.lines

    @property
    def rate(self) -> float:
        """Of the wall line, while nobody moves it."""
        world = self._world
        return (self._lines.wall.rate if world is None else world.rates[0]).value

    @property
    def stride_ns(self) -> int | None:
        """How finely time passes, unless a call says so."""
        return self._options.stride_ns

    def asks(self) -> None:
        """Note that the test asks the clock: what passes by `grace` is counted anew."""
        if self._world is not None:
            self._world.grace.renew()

    def wall_ns(self) -> int:
        """Return the wall line's reading, of a closed clock too."""
        return self.lines.wall.at(now_ns())

    def monotonic_ns(self) -> int:
        """Return the monotonic line's reading."""
        return self.lines.monotonic.at(now_ns())

    def ask(self, operation: Callable[[Operations, ClockState], T], call: str = "") -> T | None:
        """Run `operation` on the tracer thread and return its result.

        None before the first program. `call` is the test's own call where it may move the clock.
        """
        self.check_open()
        self.moves += bool(call)
        world = self._world
        if world is None:
            return None
        self.asks()
        with world.step(call):
            found = self._tracer.operate(lambda operations: operation(operations, world))
        self.raise_news()
        return found

    def move(
        self,
        call: str,
        operation: Callable[[Operations, ClockState], object],
        transform: Callable[[Lines, int], Lines],
    ) -> None:
        """Run `operation` as `ask` does; before the first program `transform` moves the lines."""
        self.check_open()
        with self._lock:
            if self._world is None:
                host_ns = now_ns()
                self._lines = transform(self._lines, host_ns)
                self.moves += 1
                return
        self.ask(operation, call)

    # --- programs --------------------------------------------------------------------------------

    @property
    def has_started(self) -> bool:
        """The clock has had a program."""
        return self._world is not None

    def load(self) -> None:
        """Have what starts programs ready to be imported. Raises ClockClosed, TracingUnavailable.

        Where there is a known obstacle, that may not even load.
        """
        self.check_open()
        self.holder.load()

    def start_tracing(self) -> tuple[Tracer, ClockState]:
        """Return the tracer, running, and this clock's side of it.

        Raises ClockClosed, TracingUnavailable.
        """
        self.check_open()
        tracer = self.holder.start()
        with self._lock:
            if self._world is None:
                from pytest_vdsotime.tracer.state import ClockState

                page = self.holder.take_page(tracer, self._lines)
                options = self._options
                world = ClockState(
                    page,
                    follows=options.waits == "follow",
                    grace_ns=options.grace_ns,
                    jump_after_ns=options.jump_after_ns,
                    stride_ns=options.stride_ns,
                )
                tracer.call(lambda loop: loop.clocks.add(world))
                self._tracer, self._world = tracer, world
            return tracer, self._world

    def add(self, program: Program) -> None:
        """Have `program` end with the clock."""
        self._programs.add(program)

    def leave_untraced(self, program: Program, reason: str) -> None:
        """Warn that `program` runs in real time, untouched; it ends with the clock like others."""
        self._warnings.append(
            f"{program.args!r} (pid {program.pid}) runs in real time: {reason}; "
            "run the tests as root"
        )

    def processes(self) -> list[TracedProcess]:
        """Return the processes on this clock that are alive, by pid."""
        self.check_open()
        world = self._world
        if world is None:
            return []
        from pytest_vdsotime.processes import snapshot

        self.asks()
        found = self._tracer.call(lambda _loop: [*world.processes.values()])
        snapshots = [snapshot(process) for process in found if process.launch is None]
        self.raise_news()
        return sorted((one for one in snapshots if one), key=lambda one: one.pid)

    def attach(self, pid: int) -> AttachedProcess:
        """Take over a running process: see `FrozenClock.attach`."""
        self.load()
        from pytest_vdsotime.processes import attached, check_pid, explained
        from pytest_vdsotime.tracer.state import Process

        check_pid(pid)
        tracer, world = self.start_tracing()
        world.page.serves_one_clock = True
        process = Process(pid, world)
        process.origin = process
        with explained(process):
            tracer.call_later(lambda loop: loop.clocks.attach(process))

        def release() -> None:
            if not self._is_closed:
                tracer.call_later(lambda loop: loop.clocks.release(process))
                self.raise_news()

        return attached(process, release)

    # --- what the test hears ---------------------------------------------------------------------

    def raise_news(self) -> None:
        """Warn of and raise what happened since the last call, in the test's own thread."""
        world = self._world
        for texts in (self._warnings, world.warnings if world else self._warnings):
            while texts:
                warnings.warn(texts.popleft(), RealTimeWarning, stacklevel=3)
        if world and world.errors:
            raise world.errors.popleft()

    def describe(self, *, events: int = 0) -> str:
        """Return the clock, its threads and the last `events` events in words. Never raises."""
        world, lines, is_closed = self._world, self.lines, self._is_closed
        if world is None:
            return "\n".join([*describe_lines(lines, is_closed), "no program was started on it"])
        from pytest_vdsotime.report import describe

        return describe.last_resort(
            lambda: describe.told(self._tracer, world, lines, is_closed=is_closed, events=events)
        )

    # --- the end ---------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Every question to the clock raises ClockClosed."""
        return self._is_closed

    def check_open(self) -> None:
        """Raise ClockClosed for a closed clock, and in a forked child."""
        self._check_owner()
        if self._is_closed:
            raise ClockClosed("the clock is closed")

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ClockClosed(
                "this clock belongs to the parent process: after os.fork(), make a new one"
            )

    def close(self) -> None:
        """Kill and reap every program on this clock. Idempotent. Raises as `raise_news`."""
        self._check_owner()
        with self._lock:
            if self._is_closed:
                return
            self._lines = self.lines
            self._is_closed = True
        if self._python is not None:
            self._python.stop()
        world = self._world
        try:
            if world is not None:
                from pytest_vdsotime.processes import end_programs

                end_programs(self._tracer, world, self.holder)
        finally:
            for program in tuple(self._programs):
                program.end()
            if self._owns_tracer:
                self.holder.close()
        self.raise_news()
