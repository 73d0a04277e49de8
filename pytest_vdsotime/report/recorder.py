"""The events of clocks as data, for what draws them.

Plain enough for JSON, and for the connection between pytest-xdist's workers and their controller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_vdsotime.events import (
    Event,
    EventKind,
    Recording,
    command_line,
    describe,
    ending,
    names,
    readable,
)

#: Of a test, or a command: what it is called, how it went, its clocks. A clock is
#: {"id": ..., "start_ns": ..., "events": [[...], ...]}, each of them the values of a EventRecord.
Story = dict[str, Any]

_COMMANDS = EventKind.STARTED, EventKind.EXECUTED, EventKind.ATTACHED
_DEADLINES = EventKind.WAITS, EventKind.EXPIRED, EventKind.FIRED


class EventRecord(NamedTuple):
    """An event as data."""

    kind: str
    """The value of a EventKind."""
    real_ns: int
    wall_ns: int
    monotonic_ns: int
    pid: int
    tid: int
    name: str
    """Of the process's program."""
    what: Any
    """A command line, an id, how a process has ended, a call of the test, [call, error], [system
    call, clock, deadline], ...: as the EventKind says."""
    text: str


def _plain(event: Event) -> Any:
    if event.kind in _COMMANDS:
        return command_line(event.what)
    if event.kind is EventKind.ENDED:
        return ending(event.what)
    if event.kind is EventKind.WARNED:
        return readable(event.what)
    return list(event.what) if isinstance(event.what, tuple) else event.what


def _told(event: Event, called: Mapping[int, str]) -> EventRecord:
    name = called.get(event.pid, "?") if event.pid else ""
    return EventRecord(
        event.kind.value,
        *(event.real_ns, event.wall_ns, event.monotonic_ns, event.pid, event.tid, name),
        *(_plain(event), describe(event, name)),
    )


@dataclass(slots=True)
class Recorder:
    """Tells what has been recorded, bit by bit."""

    recording: Recording
    prefix: str = ""
    """Of the ids of clocks: what is told elsewhere has another."""
    _called: dict[int, dict[int, str]] = field(default_factory=dict)
    """By the number of the clock."""

    def tell(self, name: str, outcome: str) -> Story:
        """Return what has happened since the last time, on any clock."""
        clocks = []
        for number, history in enumerate(self.recording.histories):
            events = history.take()
            if not events:
                continue
            called = self._called.setdefault(number, {})
            called |= names(events, known=called)
            told = [[*_told(event, called)] for event in events]
            identity = f"{self.prefix}{number}"
            clocks.append({"id": identity, "start_ns": history.start_ns, "events": told})
        return {"name": readable(name), "outcome": outcome, "clocks": clocks}


class Span(NamedTuple):
    """A wait, from its beginning to its end."""

    begin: EventRecord
    end: EventRecord
    """What has ended it; the last event of all if that is not known."""
    is_expired: bool
    """Its time has come."""


def waits(events: Sequence[EventRecord]) -> Iterator[Span]:
    """Those that were recorded, in the order of their ends.

    A wait ends with what its thread does next.
    """
    begun: dict[int, EventRecord] = {}
    expired: set[int] = set()
    for event in events:
        kind, tid = event.kind, event.tid
        if kind == EventKind.EXPIRED.value:
            expired.add(tid)
            continue
        if kind == EventKind.FIRED.value or not tid:
            continue
        ends = [tid]
        if kind in (EventKind.ENDED.value, EventKind.EXECUTED.value):  # and so do its other threads
            ends = [one for one, begin in begun.items() if begin.pid == event.pid]
        for one in ends:
            if one in begun:
                yield Span(begun.pop(one), event, one in expired)
            expired.discard(one)
        if kind == EventKind.WAITS.value:
            begun[tid] = event
    for tid, begin in begun.items():
        yield Span(begin, events[-1], tid in expired)
