"""The events of clocks as data, for what draws them.

Plain enough for JSON, and for the connection between pytest-xdist's workers and their controller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

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
from pytest_vdsotime.instants import format_span
from pytest_vdsotime.report.records import EventRecord, fold
from pytest_vdsotime.timeline import NS_PER_S

#: Of a test, or a command: what it is called, how it went, its clocks. A clock is {"id": ...,
#: "start_ns": ..., "events": [[...], ...], "readings": [[...], ...], "rates": [[...], ...]}. Events
#: are the values of an EventRecord; readings, of the lines while much happened, are real time, wall
#: line and monotonic line; rates are a real time, and the rates of both lines from then on.
Story = dict[str, Any]

_COMMANDS = EventKind.STARTED, EventKind.EXECUTED, EventKind.ATTACHED
_READINGS: Final = 200
_SECONDS: Final = re.compile(r"(?<=[(=])\d[\d.e+-]*(?=[,)])")


def _plain(event: Event) -> Any:
    if event.kind in _COMMANDS:
        return command_line(event.what)
    if event.kind is EventKind.ENDED:
        return ending(event.what)
    if event.kind is EventKind.WARNED:
        return readable(event.what)
    return list(event.what) if isinstance(event.what, tuple) else event.what


def _with_units(event: Event) -> Event:
    """Return the event with the seconds of a call in larger units: ``advance(2 d)``."""

    def in_units(match: re.Match[str]) -> str:
        return format_span(round(float(match[0]) * NS_PER_S))

    if event.kind is EventKind.BEGUN:
        return event._replace(what=_SECONDS.sub(in_units, event.what))
    if event.kind is EventKind.DONE:
        call, error = event.what
        return event._replace(what=(_SECONDS.sub(in_units, call), error))
    return event


def _told(event: Event, called: Mapping[int, str]) -> EventRecord:
    name = called.get(event.pid, "?") if event.pid else ""
    return EventRecord(
        event.kind.value,
        *(event.real_ns, event.wall_ns, event.monotonic_ns, event.pid, event.tid, name),
        *(_plain(event), describe(event, name)),
    )


def _continued(
    events: Sequence[EventRecord], begun: MutableMapping[int, EventRecord]
) -> Iterator[EventRecord]:
    """Yield the events, before them the waits that end here and began in an earlier story.

    `begun`: by thread, the waits under way; afterwards, those that still are.
    """
    earlier = dict(begun)
    ends = (EventKind.ENDED.value, EventKind.EXECUTED.value)
    first = events[0]
    for event in events:
        if event.kind == EventKind.FIRED.value:
            continue
        tids = [event.tid]
        if event.kind in ends:
            tids = [tid for tid, begin in begun.items() if begin.pid == event.pid]
        for tid in tids:
            if (begin := earlier.pop(tid, None)) is not None:
                yield begin._replace(
                    real_ns=first.real_ns, wall_ns=first.wall_ns, monotonic_ns=first.monotonic_ns
                )
            if event.kind != EventKind.EXPIRED.value:
                begun.pop(tid, None)
        if event.kind == EventKind.WAITS.value:
            begun[event.tid] = event
    yield from events


def _rates(events: Sequence[Event]) -> Iterator[list[float]]:
    """Yield since when the lines have gone at which rates: while the test moves them they stand."""
    rates: tuple[float, float] | None = None
    is_moved = False
    for event in events:
        lines = event.lines
        now = lines.wall.rate.value, lines.monotonic.rate.value
        is_moved = is_moved and event.kind is not EventKind.DONE
        if not is_moved and now != rates:
            rates = now
            yield [event.real_ns, *now]
        is_moved = is_moved or event.kind is EventKind.BEGUN


@dataclass(slots=True)
class Recorder:
    """Tells what has been recorded, bit by bit."""

    recording: Recording
    prefix: str = ""
    """Of the ids of clocks: what is told elsewhere has another."""
    _called: dict[int, dict[int, str]] = field(default_factory=dict)
    """By the number of the clock."""
    _begun: dict[int, dict[int, EventRecord]] = field(default_factory=dict)
    """By the number of the clock, the waits under way, by thread."""

    def tell(self, name: str, outcome: str) -> Story:
        """Return what has happened since the last time, on any clock."""
        clocks = []
        for number, history in enumerate(self.recording.histories):
            events = history.take()
            if not events:
                continue
            called = self._called.setdefault(number, {})
            called |= names(events, known=called)
            told = [_told(_with_units(event), called) for event in events]
            told = [*_continued(told, self._begun.setdefault(number, {}))]
            folded = fold(told)
            some = told[:: len(told) // _READINGS + 1] if len(folded) < len(told) else []
            clocks.append(
                {
                    "id": f"{self.prefix}{number}",
                    "start_ns": history.start_ns,
                    "events": [[*one] for one in folded],
                    "readings": [[one.real_ns, one.wall_ns, one.monotonic_ns] for one in some],
                    "rates": [*_rates(events)],
                }
            )
        return {"name": readable(name), "outcome": outcome, "clocks": clocks}
