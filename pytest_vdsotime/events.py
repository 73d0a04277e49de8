"""What happened on a clock: remembered as it happens, put into words when that is asked for.

An event is a small tuple in a ring; it holds the lines as they were, so that what they read is
computed when it is told. A Recording has all events, not the last ones alone.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

from pytest_vdsotime.instants import format_instant
from pytest_vdsotime.timeline import Lines, now_ns

#: How many of the last ones a report tells.
MAX_EVENTS = 15

_LATEST = 1000
_MAX_REMEMBERED = 10_000
_MAX_ARGUMENTS = 100


class EventKind(Enum):
    """What an event tells; and what its `what` is."""

    STARTED = "started"
    """The test has started a program: its arguments."""
    BORN = "born"
    """A process has a child: the child's pid."""
    THREAD = "thread"
    """A process has one more thread: its tid."""
    EXECUTED = "executed"
    """A process executes a program: its arguments."""
    ENDED = "ended"
    """A process: its status, as waitpid gives it."""
    THREAD_ENDED = "thread ended"
    ATTACHED = "attached"
    """The test has attached to a running program: its arguments."""
    BEGUN = "begun"
    """The test moves the clock: the call."""
    DONE = "done"
    """It has: (the call, what it raised)."""
    WAITS = "waits"
    """A thread begins a timed wait: a Deadline. During a recording alone."""
    WAITED = "waited"
    """It has ended, by whatever. During a recording alone."""
    EXPIRED = "expired"
    """The clock ends a thread's wait: its Deadline."""
    FIRED = "fired"
    """A timer expires: its Deadline."""
    SET = "set"
    """A program sets the clock: the wall line's new reading."""
    REFUSED = "refused"
    """A program may not trace."""
    WARNED = "warned"
    """A RealTimeWarning: its text."""


class Deadline(NamedTuple):
    """What something waits for."""

    name: str
    """The system call, or the kind of timer."""
    clock: str
    """Such as ``CLOCK_MONOTONIC``."""
    at_ns: int | None
    """On that clock."""


class Event(NamedTuple):
    """One thing that happened. The programs' own are recorded by the tracer."""

    kind: EventKind
    real_ns: int
    """By the host's CLOCK_MONOTONIC."""
    lines: Lines
    """As they were then, or have just become."""
    pid: int
    """0: the test."""
    tid: int
    what: Any

    @property
    def wall_ns(self) -> int:
        """Virtual time."""
        return self.lines.wall.at(self.real_ns)

    @property
    def monotonic_ns(self) -> int:
        """Virtual time."""
        return self.lines.monotonic.at(self.real_ns)


#: What the test itself does.
OF_TEST = EventKind.STARTED, EventKind.ATTACHED, EventKind.BEGUN, EventKind.DONE


class History:
    """The events of one clock. Written by any thread, and read by any other.

    `records`: all of them, for good. Otherwise the last ones are remembered, those of the programs
    and those of the test apart: however much happens, what the test did is there.
    """

    def __init__(self, records: bool = False) -> None:
        self.records = records
        self.start_ns = 0
        """What the monotonic line read when the clock got its first program."""
        self.forgotten_ns = 0
        """Up to when, by the host's CLOCK_MONOTONIC, some events may be missing."""
        self._forget_all()

    def _forget_all(self) -> None:
        most = None if self.records else _MAX_REMEMBERED
        self._events: deque[tuple[Any, ...]] = deque(maxlen=most)
        self._of_test: deque[tuple[Any, ...]] = deque(maxlen=most)

    def stop_recording(self) -> None:
        """Remember the last events alone from here on, and none of before."""
        self.records = False
        self._forget_all()

    def add(
        self,
        kind: EventKind,
        lines: Lines,
        pid: int = 0,
        tid: int = 0,
        what: Any = None,
        at_ns: int = 0,
    ) -> None:
        """Remembers an event, now or `at_ns`."""
        at_ns = at_ns or now_ns()
        events = self._of_test if kind in OF_TEST else self._events
        if len(events) == events.maxlen:
            self.forgotten_ns = events[0][1]
        events.append((kind, at_ns, lines, pid, tid, what))

    @property
    def events(self) -> Sequence[Event]:
        """Those that are remembered, the oldest first."""
        # Some were told later than they happened.
        found = [*self._events.copy(), *self._of_test.copy()]
        return sorted((Event(*one) for one in found), key=lambda one: one.real_ns)

    @property
    def latest(self) -> Sequence[Event]:
        """The last events of programs, the latest first: no more than the engine tells at once."""
        return [Event(*one) for one in [*islice(reversed(self._events), _LATEST)]]

    def take(self) -> Sequence[Event]:
        """Them all, which are forgotten here."""
        taken = []
        for events in (self._events, self._of_test):
            while events:
                taken.append(Event(*events.popleft()))
        return sorted(taken, key=lambda one: one.real_ns)


class Recording:
    """Where the histories of all clocks are during a recording."""

    def __init__(self) -> None:
        self.histories: list[History] = []


#: The one state of this package that belongs to no clock: the code that makes a clock need not know
#: of a recording.
_recordings: list[Recording] = []


@contextmanager
def recording() -> Iterator[Recording]:
    """While it is open, clocks remember everything from their first program on."""
    opened = Recording()
    _recordings.append(opened)
    try:
        yield opened
    finally:
        _recordings.remove(opened)


def new_history() -> History:
    """Of a new clock."""
    history = History(records=bool(_recordings))
    for one in _recordings:
        one.histories.append(history)
    return history


# --- in words ------------------------------------------------------------------------------------


def readable(text: str) -> str:
    """Without what cannot be written everywhere: lone surrogates, control characters."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def command_line(arguments: Any) -> str:
    """Arguments as one would type them, cut where they are long.

    A sequence of them, or bytes as in /proc/PID/cmdline.
    """
    is_whole = True
    if isinstance(arguments, bytes):
        if not arguments:
            return ""
        is_whole = arguments.endswith(b"\0")
        arguments = arguments.removesuffix(b"\0").split(b"\0")
    words = []
    for one in arguments:
        word = "?"
        with suppress(TypeError):
            word = os.fsdecode(one)
        words.append(readable(word))
    text = shlex.join(words)
    if len(text) > _MAX_ARGUMENTS or not is_whole:
        text = f"{text[:_MAX_ARGUMENTS]}..."
    return text


def ending(status: int) -> str:
    """How a process has ended, by waitpid's status."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def names(
    events: Sequence[Event], *, in_full: bool = False, known: Mapping[int, str] | None = None
) -> dict[int, str]:
    """By pid, what each process has executed last.

    A child that has executed nothing is called as its parent. `in_full`: with its arguments;
    `known`: what they were called before.
    """
    found = dict(known or {})
    for event in events:
        if event.kind in (EventKind.STARTED, EventKind.EXECUTED, EventKind.ATTACHED):
            text = command_line(event.what) or "?"
            name = text.partition(" ")[0].rpartition("/")[2]
            found[event.pid] = text if in_full else name
        elif event.kind is EventKind.BORN and event.pid in found:
            found[event.what] = found[event.pid]
    return found


def describe(event: Event, name: str) -> str:
    """Return what happened, where `name` is that of the process."""
    what = event.what
    of_thread = "" if event.tid in (0, event.pid) else f", thread {event.tid}"
    who = f"{name} (pid {event.pid}{of_thread})"
    match event.kind:
        case EventKind.STARTED:
            return f"the test starts {command_line(what)} (pid {event.pid})"
        case EventKind.ATTACHED:
            return f"the test attaches to {command_line(what)} (pid {event.pid})"
        case EventKind.EXECUTED:
            return f"pid {event.pid} executes {command_line(what)}"
        case EventKind.BORN:
            return f"{who} has a child: pid {what}"
        case EventKind.THREAD:
            return f"{who} has one more thread: {what}"
        case EventKind.ENDED:
            return f"{who} ends: {ending(what)}"
        case EventKind.THREAD_ENDED:
            return f"{who} ends"
        case EventKind.BEGUN:
            return f"the test calls {what}"
        case EventKind.DONE:
            call, error = what
            return f"{call} raises {error}" if error else f"{call} returns"
        case EventKind.WAITS:
            return f"{who} waits in {what.name}"
        case EventKind.WAITED:
            return f"{who} goes on"
        case EventKind.EXPIRED:
            return f"{who}: its {what.name} is over, as its time has come"
        case EventKind.FIRED:
            return f"{who}: its {what.name} fires"
        case EventKind.SET:
            return f"{who} sets the clock to {format_instant(what)}"
        case EventKind.REFUSED:
            return f"{who} tried to trace a process: EPERM"
        case EventKind.WARNED:
            return f"warning: {readable(what)}"


_IDS = re.compile(r"\b(pid|thread|thread:) \d+")
_MAX_BLOCK = 8


@dataclass(slots=True)
class Folded:
    """An event, and others that are the same but for their time and their ids."""

    first: Event
    last: Event
    text: str
    key: str
    pids: set[int]
    is_whole: bool
    """None before the first one may have been forgotten."""
    count: int = 1

    def add(self, other: Folded) -> None:
        """Have `other` be told with this one."""
        self.last = other.last
        self.count += other.count
        self.pids |= other.pids
        self.is_whole &= other.is_whole

    @property
    def is_the_tests(self) -> bool:
        """It is of what the test did."""
        return self.first.kind in OF_TEST


def folded(history: History) -> list[Folded]:
    """Tell what happens again and again once: between two acts of the test, and of these too.

    In the order of their first times.
    """
    events = history.events
    called = names(events)
    told: list[Folded] = []
    between: dict[str, Folded] = {}
    since_ns = 0
    for event in events:
        text = describe(event, called.get(event.pid, "?"))
        is_whole = since_ns > history.forgotten_ns
        one = Folded(event, event, text, _IDS.sub(r"\1", text), {event.pid}, is_whole)
        if one.is_the_tests:
            one.is_whole = True
            told += between.values()
            between.clear()
            since_ns = event.real_ns
            told.append(one)
        elif (same := between.setdefault(one.key, one)) is not one:
            same.add(one)
    return _without_repetitions([*told, *between.values()])


def _without_repetitions(told: Sequence[Folded]) -> list[Folded]:
    """Fold blocks of a few that come several times in a row."""
    kept: list[Folded] = []
    for one in told:
        kept.append(one)
        for length in range(1, _MAX_BLOCK + 1):
            block, former = (
                sorted(part, key=lambda one: one.key)
                for part in (kept[-length:], kept[-2 * length : -length])
            )
            if [one.key for one in block] == [one.key for one in former]:
                for earlier, later in zip(former, block, strict=True):
                    earlier.add(later)
                del kept[-length:]
                break
    return kept
