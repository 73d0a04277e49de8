"""Events as plain records, and what becomes of many: equal waits, one after the other, are one.

A server that wakes ten times a second waits 3000 times in five minutes. That is one record, which
says how often, how long each, and from when to when. So are equal expiries of a timer, and equal
children of a process, as a loop of a shell has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from pytest_vdsotime.events import EventKind
from pytest_vdsotime.instants import format_instant, format_span

#: The kind of a record that stands for many events. Its `what` is a Folded.
FOLDED: Final = "folded"
WAITS: Final = "waits"
FIRES: Final = "fires"
CALLS: Final = "calls"
LIVES: Final = "lives"

_EXECUTED: Final = EventKind.EXECUTED.value
_EXPIRED: Final = EventKind.EXPIRED.value
#: All that a child does which is folded, beside being born and ending.
_OF_A_LIFE: Final = {
    _EXECUTED,
    *(EventKind.WAITS.value, EventKind.WAITED.value),
    *(_EXPIRED, EventKind.FIRED.value),
}

#: So many of a kind are told one by one.
_FEW: Final = {WAITS: 3, FIRES: 3, CALLS: 3, LIVES: 20}
#: Waits are equal whose lengths differ by no more than a quarter, or by a millisecond: timeouts are
#: rounded.
_ALIKE: Final = 1.25
_ROUNDED_NS: Final = 1_000_000
#: Where more records than these are left, waits of any length are one, and equal calls of the test.
_MANY: Final = 800


class EventRecord(NamedTuple):
    """An event as data."""

    kind: str
    """The value of an EventKind, or FOLDED."""
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


class Part(NamedTuple):
    """What is alike among folded events."""

    name: str
    """The system call, the kind of timer, the call of the test, the child's command line."""
    clock: str
    """Of children: how they have ended."""
    is_expired: bool
    """The time of these waits has come."""
    times: int
    shortest_ns: int
    """Virtual time: of a wait, a call or a life; of timers, from one expiry to the next."""
    longest_ns: int


class Folded(NamedTuple):
    """What follows a record of the kind FOLDED, on the same thread, until its end."""

    of: str
    """WAITS, FIRES, CALLS or LIVES."""
    real_ns: int
    """The end."""
    wall_ns: int
    monotonic_ns: int
    parts: list[Part]

    @classmethod
    def of_record(cls, record: EventRecord) -> Folded:
        """Return what a record of the kind FOLDED stands for."""
        of, real_ns, wall_ns, monotonic_ns, parts = record.what
        return cls(of, real_ns, wall_ns, monotonic_ns, [Part(*part) for part in parts])

    @property
    def times(self) -> int:
        """How many there were."""
        return sum(part.times for part in self.parts)

    def end_of(self, record: EventRecord) -> EventRecord:
        """Return the record, at its end."""
        return record._replace(
            real_ns=self.real_ns, wall_ns=self.wall_ns, monotonic_ns=self.monotonic_ns
        )


class Span(NamedTuple):
    """A wait, or several, from beginning to end."""

    begin: EventRecord
    end: EventRecord
    """What has ended it; the last event of all if that is not known."""
    is_expired: bool
    """Its time has come; of several, the time of most."""


def waits(events: Sequence[EventRecord]) -> Iterator[Span]:
    """Those that were recorded, in the order of their ends; folded ones at their beginning.

    A wait ends with what its thread does next.
    """
    begun: dict[int, EventRecord] = {}
    expired: set[int] = set()
    for event in events:
        kind, tid = event.kind, event.tid
        if kind == _EXPIRED:
            expired.add(tid)
            continue
        if kind == EventKind.WAITS.value and tid not in expired:
            begin = begun.get(tid)
            if begin is not None and begin.what == event.what:
                continue  # a call that goes on until the same deadline, as one that was interrupted
        folded = Folded.of_record(event) if kind == FOLDED else None
        if kind == EventKind.FIRED.value or (folded and folded.of == FIRES) or not tid:
            continue
        ends = [tid]
        if kind in (EventKind.ENDED.value, EventKind.EXECUTED.value):  # and so do its other threads
            ends = [one for one, begin in begun.items() if begin.pid == event.pid]
        for one in ends:
            if one in begun:
                begin = begun.pop(one)
                yield Span(begin, event, one in expired or _is_over(begin, event))
            expired.discard(one)
        if folded is not None and folded.of == WAITS:
            over = sum(part.times for part in folded.parts if part.is_expired)
            yield Span(event, folded.end_of(event), 2 * over >= folded.times)
        if kind == EventKind.WAITS.value:
            begun[tid] = event
    for tid, begin in begun.items():
        yield Span(begin, events[-1], tid in expired or _is_over(begin, events[-1]))


def _is_over(begin: EventRecord, end: EventRecord) -> bool:
    """Whether the time of a wait had come at its end: on a line that flows the kernel ends it."""
    _, clock, deadline_ns = begin.what
    readings_ns = {"CLOCK_MONOTONIC": end.monotonic_ns, "CLOCK_REALTIME": end.wall_ns}
    return deadline_ns is not None and readings_ns.get(clock, deadline_ns - 1) >= deadline_ns


# --- folding -------------------------------------------------------------------------------------


def fold(events: Sequence[EventRecord]) -> list[EventRecord]:
    """Return the events with one record for equal ones that follow each other on one thread.

    Neither the test's calls nor what else a thread does is within such a record, unless the events
    are too many.
    """
    folded = _fold(events, is_loose=False)
    return folded if len(folded) <= _MANY else _fold(events, is_loose=True)


class _Unit(NamedTuple):
    """A wait, an expiry of a timer, or a call, which may be folded with others of its track."""

    track: tuple[str, int, str]
    epoch: tuple[int, int]
    """Units that something else comes between have another."""
    part: tuple[str, str, bool]
    indexes: list[int]
    """Of its own events."""
    end: int
    """Index of the event that ends it."""
    length_ns: int


def _fold(events: Sequence[EventRecord], *, is_loose: bool) -> list[EventRecord]:
    runs: dict[tuple[str, int, str], list[_Unit]] = {}
    complete: list[list[_Unit]] = []
    for unit in _units(events, is_loose):
        run = runs.get(unit.track)
        if run is None or not _continues(unit, run, is_loose):
            run = runs[unit.track] = []
            complete.append(run)
        run.append(unit)
    dropped: set[int] = set()
    records: dict[int, EventRecord] = {}
    # Last those of whole children, whose waits may be folded too.
    for run in sorted(complete, key=lambda run: run[0].track[0] == LIVES):
        if len(run) <= _FEW[run[0].track[0]]:
            continue
        for unit in run:
            dropped.update(unit.indexes)
        first = run[0].indexes[0]
        records[first] = _folded(events[first], events[run[-1].end], run)
        dropped.remove(first)
        # The expiry that an arrow of the trace leads to.
        if run[0].track[0] == WAITS:
            expiries = [one for one in run[0].indexes if events[one].kind == _EXPIRED]
            dropped.difference_update(expiries[:1])
    return [
        records.get(number, event) for number, event in enumerate(events) if number not in dropped
    ]


def _continues(unit: _Unit, run: Sequence[_Unit], is_loose: bool) -> bool:
    of, last = unit.track[0], run[-1]
    if unit.epoch != last.epoch or unit.indexes[0] < last.end:
        return False
    if unit.part != last.part and not (is_loose and of in (WAITS, LIVES)):
        return False
    # How far the first expiry was from the one before is not known.
    alike = run[1:] if of == FIRES else run
    if is_loose or not alike:
        return True
    shortest_ns, longest_ns = sorted((unit.length_ns, alike[0].length_ns))
    return longest_ns <= max(shortest_ns * _ALIKE, shortest_ns + _ROUNDED_NS)


def _units(events: Sequence[EventRecord], is_loose: bool) -> Iterator[_Unit]:
    begun: dict[int, list[int]] = {}
    expired: set[int] = set()
    lives: dict[int, list[int]] = {}
    before: dict[tuple[str, int, str], int] = {}
    breaks, breaks_of = 0, Counter[int]()

    def unit(
        of: str, part: tuple[str, str], indexes: list[int], end: int, is_expired: bool = True
    ) -> _Unit:
        first, last = events[indexes[0]], events[end]
        track = (of, first.pid if of == LIVES else first.tid, part[0] if of == FIRES else "")
        length_ns = last.monotonic_ns - before.get(track, first.monotonic_ns)
        epoch = (breaks, 0 if of == LIVES else breaks_of[first.tid])
        return _Unit(track, epoch, (*part, is_expired), indexes, end, length_ns)

    for number, event in enumerate(events):
        kind, pid, tid = event.kind, event.pid, event.tid
        if pid in lives:
            lives[pid].append(number)
            if kind == EventKind.ENDED.value:
                life = lives.pop(pid)
                yield unit(LIVES, (_command(events, life), event.what), life, number)
            elif kind not in _OF_A_LIFE:
                del lives[pid]
        if kind == EventKind.BORN.value:
            lives[event.what] = [number]
        if kind in (EventKind.WAITS.value, EventKind.WAITED.value):
            if tid in begun:
                first, is_expired = events[begun[tid][0]], tid in expired
                if kind == EventKind.WAITS.value and not is_expired and first.what == event.what:
                    begun[tid].append(number)
                    continue
                indexes = begun.pop(tid)
                is_expired = is_expired or _is_over(first, event)
                if kind == EventKind.WAITED.value:
                    indexes.append(number)
                yield unit(WAITS, tuple(first.what[:2]), indexes, number, is_expired)
            if kind == EventKind.WAITS.value:
                begun[tid] = [number]
                expired.discard(tid)
        elif kind == _EXPIRED:
            begun.get(tid, []).append(number)
            expired.add(tid)
        elif kind == EventKind.BEGUN.value and is_loose:
            begun[tid] = [number]
        elif kind == EventKind.DONE.value and tid in begun and not event.what[1]:
            yield unit(CALLS, (event.what[0], ""), [*begun.pop(tid), number], number)
        elif kind == EventKind.FIRED.value:
            fired = unit(FIRES, tuple(event.what[:2]), [number], number)
            before[fired.track] = event.monotonic_ns
            yield fired
        else:
            begun.pop(tid, None)
            breaks_of[tid] += 1
            breaks += not pid or kind == EventKind.SET.value


def _command(events: Sequence[EventRecord], life: Sequence[int]) -> str:
    """Return what a child has executed last; one that has executed nothing is as its parent."""
    commands = [events[number] for number in life if events[number].kind == _EXECUTED]
    return str(commands[-1].what if commands else events[life[0]].name)


def _folded(begin: EventRecord, end: EventRecord, run: Sequence[_Unit]) -> EventRecord:
    of = run[0].track[0]
    lengths: dict[tuple[str, str, bool], list[int]] = {}
    for unit in run:
        lengths.setdefault(unit.part, []).append(unit.length_ns)
    parts = []
    for part, found in lengths.items():
        told = found[1:] if of == FIRES else found
        parts.append(Part(*part, len(found), min(told), max(told)))
    folded = Folded(of, end.real_ns, end.wall_ns, end.monotonic_ns, parts)
    what = [*folded[:-1], [[*part] for part in parts]]
    return begin._replace(kind=FOLDED, what=what, text=_text(begin, folded))


def _text(begin: EventRecord, folded: Folded) -> str:
    of_thread = "" if begin.tid in (0, begin.pid) else f", thread {begin.tid}"
    who = f"{begin.name} (pid {begin.pid}{of_thread})"
    until = f"until {format_instant(folded.wall_ns)}"
    if folded.of == CALLS:
        return f"the test calls {folded.parts[0].name} {folded.times} times, {until}"
    if folded.of == FIRES:
        (part,) = folded.parts
        return f"{who}: its {part.name} fires {part.times} times, every {_lengths(part)}, {until}"
    if folded.of == LIVES:
        each = ", ".join(f"{part.name}, {part.times} times ({part.clock})" for part in folded.parts)
        return f"{who} has children, one after the other: {each}, {until}"
    each = ", ".join(
        f"{part.times} times in {part.name} for {_lengths(part)}"
        f"{'' if part.is_expired else ' (ended before the time)'}"
        for part in folded.parts
    )
    return f"{who} waits {each}, {until}"


def _lengths(part: Part) -> str:
    shortest, longest = (
        format_span(int(float(f"{length_ns:.4g}")))
        for length_ns in (part.shortest_ns, part.longest_ns)
    )
    return shortest if shortest == longest else f"{shortest} to {longest}"
