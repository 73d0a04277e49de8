"""ClockSession: a clock as the test process has it.

It owns what `FrozenClock`, programs, asyncio's transports and the patched `subprocess` share: the
options, the tracer, the lines before the first program, the programs to end, the warnings to raise.

What traces is imported and made for the first program: a clock that has none costs little, and
works where nothing can be traced.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from weakref import WeakSet, ref

from pytest_vdsotime.errors import (
    ClockClosed,
    NotSettled,
    RealTimeWarning,
    Short,
    TracingUnavailable,
)
from pytest_vdsotime.instants import parse_instant
from pytest_vdsotime.options import Options
from pytest_vdsotime.timeline import Lines, host_wall_ns, initial_lines, now_ns

if TYPE_CHECKING:
    from pytest_vdsotime.future import Future
    from pytest_vdsotime.page import ClockPage
    from pytest_vdsotime.processes import AttachedProcess, TracedProcess
    from pytest_vdsotime.stamps import Stamps
    from pytest_vdsotime.tracer.operations import Operations
    from pytest_vdsotime.tracer.state import ClockState
    from pytest_vdsotime.tracer.thread import Tracer

T = TypeVar("T")

#: Packages between a warning and the line that it is of.
_BETWEEN = frozenset({"pytest_vdsotime", "subprocess", "asyncio", "contextlib"})


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

    def take_page(self, tracer: Tracer, lines: Lines, stamps: Stamps | None) -> ClockPage:
        """Return the page of a new clock. Raises OSError (EMFILE, ENFILE, ENOMEM)."""
        page = self._spare.pop() if self._spare and stamps is None else None
        if page is None:
            from pytest_vdsotime.page import ClockPage

            page = ClockPage(lines, tracer.load().images, has_history=stamps is not None)
        else:
            page.renew(lines)
        page.follow(stamps)
        return page

    def give_back(self, page: ClockPage) -> None:
        """Keep the page of a clock that has ended, or close it."""
        stamps = page.stamps
        page.follow(None)
        if stamps is not None:
            stamps.close()
        is_used = page.copies or page.serves_one_clock or any(page.history_pages)
        if self._is_made_here and not (self._spare or is_used):
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

    @property
    def exited(self) -> Future[int] | None:
        """The status to come; None where the tracer does not wait for it."""

    def end(self) -> None:
        """Kill and reap the program, if that is still to be done."""


@dataclass(frozen=True, slots=True)
class Verb(Generic[T]):
    """What a test may ask of a clock."""

    call: str
    """The test's own call where it may move the clock or settle; else ""."""
    operation: Callable[[Operations, ClockState], T]
    """What the tracer does."""
    transform: Callable[[Lines, int], Lines] | None = None
    """What becomes of the lines before the first program."""
    advice: str = ""
    """What would take less time."""


class Asked(Generic[T]):
    """A verb that the tracer has been asked for."""

    def __init__(self, tracer: Tracer, world: ClockState, verb: Verb[T]) -> None:
        from pytest_vdsotime.progress import Progress

        self.world = world
        self._tracer = tracer
        self._progress = Progress(world, verb.call, verb.advice)
        self.answer: Future[T] = tracer.begin(lambda operations: verb.operation(operations, world))
        """To come."""

    @property
    def pause_s(self) -> float | None:
        """Real seconds to wait for the answer before it is to `speak`; None: it is not."""
        return self._progress.pause_s

    def speak(self, hint: str = "") -> None:
        """Say on the terminal how far it is, and a hint."""
        is_under_way = self._tracer.is_under_way(self.answer)
        self._progress.speak(*filter(None, [hint]), is_under_way=is_under_way)

    def stands_still(self) -> str:
        """Return what to say where the event loop of this thread serves a program; else ""."""
        from pytest_vdsotime.progress import stands_still

        return stands_still(self.world)

    def cancel(self) -> None:
        """Have it stop at the next deadline: the answer soon comes."""
        self._tracer.cancel(self.answer)


def _callers_level() -> int:
    """Return how far the line that has called the package is from the function that asks."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _package_of(frame) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    return level


def _package_of(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


class Programs:
    """The programs of a clock, which keeps them: a test need not keep what the clock ends."""

    def __init__(self) -> None:
        self._all: WeakSet[Program] = WeakSet()
        self._kept: set[Program] = set()
        self._ended: deque[ref[Program]] = deque()

    def add(self, program: Program) -> None:
        """Have `program` end with the clock."""
        while self._ended:
            if (ended := self._ended.popleft()()) is not None:
                self._kept.discard(ended)
        self._all.add(program)
        self._kept.add(program)

    def has_ended(self, program: Program) -> None:
        """Keep `program` no longer than others do, from the start of the next one on.

        Not at once: on the tracer thread no pipe of it is to be closed, which may take long.
        """
        self._ended.append(ref(program))

    def release(self, program: Program) -> None:
        """Leave `program`, whose end the test has seen, to those who keep it."""
        self._kept.discard(program)

    def __iter__(self) -> Iterator[Program]:
        return iter(tuple(self._all))

    def end(self) -> None:
        """End them all."""
        for program in self:
            program.end()
        self._kept.clear()
        self._ended.clear()


class Lookout(Protocol):
    """What finds out by itself that something runs in real time."""

    def look(self) -> Iterable[str]:
        """Yield what a RealTimeWarning is to say that none has said yet."""

    def close(self) -> None:
        """Find out what is left; the clock is about to close."""

    def end(self) -> None:
        """Undo what lasts for as long as the clock; its programs have ended."""


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
        self._stamps: Stamps | None = None
        if options.files == "follow":
            from pytest_vdsotime.stamps import Stamps

            self._stamps = Stamps(self._lines)
        self._options = options
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._owns_tracer = tracer is None
        self.holder = tracer or TracerHolder()
        self._tracer: Tracer
        """Since there is a world."""
        self._world: ClockState | None = None
        self.programs = Programs()
        self._warnings: deque[str] = deque()
        self.lookouts: list[Lookout] = []
        """They are asked with the news."""
        self._is_closed = False
        self._closed = "closed"
        """And since when, where that is known."""
        self.addresses: set[str] = set()
        """Where it is served: programs that ask there are not waited for."""
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
        return self._lines if world is None or self._is_closed else world.page.current()

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

    def perform(self, verb: Verb[T]) -> T | None:
        """Have the tracer do what a verb says and return its result; None before the first program.

        A call that takes long says so on the terminal.
        """
        with Short(), self.asking(verb) as asked:
            if asked is None:
                return None
            try:
                while not asked.answer.wait(asked.pause_s):
                    asked.speak(asked.stands_still())
                found = asked.answer.result()
            except NotSettled as error:
                if hint := asked.stands_still():
                    error.args = (f"{error}; {hint}",)
                raise
        self.raise_news()
        return found

    def ask(self, verb: Verb[T]) -> T | None:
        """As `perform`, for whom the test's news are not, and without a word on the terminal."""
        with self.asking(verb) as asked:
            return None if asked is None else asked.answer.result()

    @contextmanager
    def asking(self, verb: Verb[T]) -> Iterator[Asked[T] | None]:
        """Ask the tracer to do what a verb says, for the block to wait for its answer.

        Before the first program the lines are moved at once, and there is nothing to wait for. What
        ends the block before the answer is there, as Ctrl-C does, cancels the verb.
        """
        self.check_open()
        with self._lock:
            self.moves += bool(verb.call)
            world = self._world
            if world is None and verb.transform is not None:
                self._lines = verb.transform(self._lines, now_ns())
                if self._stamps is not None:
                    self._stamps.note(self._lines)
        if world is None:
            yield None
            return
        self.asks()
        with world.step(verb.call):
            asked = Asked(self._tracer, world, verb)
            try:
                yield asked
            finally:
                if not asked.answer.is_given():
                    asked.cancel()
                self._tracer.forget(asked.answer)

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
                from pytest_vdsotime.selection import Selection
                from pytest_vdsotime.tracer.state import ClockState, Control, Network

                page = self.holder.take_page(tracer, self._lines, self._stamps)
                options = self._options
                world = ClockState(
                    page,
                    follows=options.waits == "follow",
                    grace_ns=options.grace_ns,
                    jump_after_ns=options.jump_after_ns,
                    stride_ns=options.stride_ns,
                    network=Network(options.patience_ns, control=Control(self.addresses, set())),
                    selection=Selection(options.only, options.skip),
                )
                try:
                    tracer.call(lambda loop: loop.clocks.add(world))
                except BaseException:  # the tracer has just failed, or is closed
                    page.follow(None)
                    page.close()
                    raise
                self._tracer, self._world = tracer, world
            return tracer, self._world

    def leave_untraced(self, program: Program, reason: str) -> None:
        """Warn that `program` runs in real time, untouched; it ends with the clock like others."""
        self._warnings.append(
            f"{program.args!r} (pid {program.pid}) runs in real time: {reason}; "
            "run the tests as root"
        )

    def processes(self) -> list[TracedProcess]:
        """Return the processes of this clock that are alive, by pid."""
        self.check_open()
        world = self._world
        if world is None:
            return []
        from pytest_vdsotime.processes import snapshot

        self.asks()
        found = self._tracer.call(lambda _loop: [*world.everyone.values()])
        snapshots = [snapshot(process) for process in found if process.launch is None]
        return sorted((one for one in snapshots if one), key=lambda one: one.pid)

    def attach(self, pid: int, *, children: bool) -> AttachedProcess:
        """Take over a running process: see `FrozenClock.attach`."""
        self.load()
        from pytest_vdsotime.processes import attached, check_pid, explained
        from pytest_vdsotime.tracer.state import Process

        check_pid(pid)
        tracer, world = self.start_tracing()
        world.page.serves_one_clock = True
        process = Process(pid, world)
        process.origin = process
        with Short(), explained(process):
            tracer.call_later(lambda loop: loop.clocks.attach(process, children=children))
        self.raise_news()

        def release() -> None:
            if not self._is_closed:
                tracer.call_later(lambda loop: loop.clocks.release(process))
                self.raise_news()

        try:
            return attached(process, release)
        except BaseException:
            release()
            raise

    # --- what the test hears ---------------------------------------------------------------------

    def raise_news(self) -> None:
        """Warn of and raise what happened since the last call, in the test's own thread."""
        world = self._world
        for lookout in self.lookouts:
            self._warnings.extend(lookout.look())
        for texts in (self._warnings, world.warnings if world else self._warnings):
            while texts:
                warnings.warn(texts.popleft(), RealTimeWarning, stacklevel=_callers_level())
        if world and world.errors:
            raise world.errors.popleft()

    def describe(self, *, events: int = 0) -> str:
        """Return the clock, its threads and the last `events` events in words. Never raises."""
        from pytest_vdsotime.report import plain

        world, lines = self._world, self.lines
        closed = self._closed if self._is_closed else ""
        if world is None:
            return plain.last_resort(lambda: plain.told(lines, closed))
        from pytest_vdsotime.report import describe

        return plain.last_resort(
            lambda: describe.told(self._tracer, world, lines, closed=closed, events=events)
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
            raise ClockClosed(f"the clock is {self._closed}")

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ClockClosed(
                "this clock belongs to the parent process: after os.fork(), make a new one"
            )

    def close(self, behind: str = "") -> None:
        """Kill and reap every program on this clock. Idempotent. Raises as `raise_news`.

        `behind`: what has ended before the clock, such as a fixture, for those that use the clock
        afterwards.
        """
        self._check_owner()
        with self._lock:
            if self._is_closed:
                return
            self._lines = self.lines
            self._is_closed = True
            if behind:
                self._closed = f"closed since the end of {behind}"
        if self._python is not None:
            self._python.stop()
        for lookout in self.lookouts:
            lookout.close()
        world = self._world
        try:
            if world is not None:
                from pytest_vdsotime.processes import end_programs

                end_programs(self._tracer, world, self.holder)
        finally:
            self.programs.end()
            for lookout in self.lookouts:
                lookout.end()
            if self._stamps is not None and world is None:
                self._stamps.close()  # else with the page
            if self._owns_tracer:
                self.holder.close()
        try:
            self.raise_news()
        finally:
            self.lookouts.clear()  # which know it too: no work for the garbage collector
