"""Stories as Trace Event JSON, which Perfetto and chrome://tracing open.

The file has real time as its own; virtual time stands in the arguments of what happened, and as two
counters, how far each line has come: since 1970 an hour more would be no step to see; two more are
the rates of the lines. Equal waits, one after the other, are one slice. Each clock is
a process of the trace with the test's calls on one thread, and each traced process is one more,
below it. Numbers of processes come again, so the trace has its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from pytest_vdsotime.events import EventKind, command_line, recording
from pytest_vdsotime.instants import format_instant
from pytest_vdsotime.report.recorder import Recorder, Story
from pytest_vdsotime.report.records import (
    CALLS,
    FIRES,
    FOLDED,
    LIVES,
    WAITS,
    EventRecord,
    Folded,
    Span,
    waits,
)
from pytest_vdsotime.timeline import NS_PER_S, now_ns

_COMMANDS: Final = {EventKind.STARTED.value, EventKind.EXECUTED.value, EventKind.ATTACHED.value}
_WAKES: Final = {EventKind.EXPIRED.value, EventKind.FIRED.value}
_INSTANTS: Final = {EventKind.SET.value, EventKind.REFUSED.value, EventKind.WARNED.value}

Record = dict[str, Any]


@dataclass(slots=True)
class _Clock:
    """The tracks of one clock: numbers of the trace."""

    track: int
    start_wall_ns: int
    processes: dict[int, int] = field(default_factory=dict)
    """By pid, those alive."""
    threads: dict[int, int] = field(default_factory=dict)
    """By tid."""
    programs: dict[int, EventRecord] = field(default_factory=dict)
    """By pid, the event that began what it runs."""
    counters: dict[str, float] = field(default_factory=dict)
    """By name, what each stands at."""


class TraceFile:
    """A trace, written as its stories come. What is written so far opens too.

    Raises OSError when it cannot be written.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._start_ns = now_ns()
        self._numbers = itertools.count(1)
        self._clocks: dict[str, _Clock] = {}
        self._is_first = True
        file.write('{"displayTimeUnit": "ms", "traceEvents": [')

    def add(self, story: Story) -> None:
        """Add what happened in one test, or under one command."""
        for clock in story["clocks"]:
            events = [EventRecord(*values) for values in clock["events"]]
            for record in self._records(story, clock, events):
                self._file.write("\n" if self._is_first else ",\n")
                self._is_first = False
                # Perfetto shows escapes as they are; only a lone surrogate cannot be without one.
                text = json.dumps(record, ensure_ascii=False)
                self._file.write(text.encode(errors="backslashreplace").decode())
        self._file.flush()

    def close(self) -> None:
        """Complete the trace."""
        self._file.write("\n]}\n")
        self._file.close()

    def _us(self, real_ns: int) -> float:
        return (real_ns - self._start_ns) / 1000

    def _records(self, story: Story, told: Record, events: list[EventRecord]) -> Iterator[Record]:
        first, last = events[0], events[-1]
        identity, start_ns = told["id"], told["start_ns"]
        clock = self._clocks.get(identity)
        if clock is None:
            clock = self._clocks[identity] = _Clock(next(self._numbers), first.wall_ns)
            yield from _named("process", clock.track, clock.track, f"clock of {story['name']}")
            yield _sorted(clock.track)
            yield from _named("thread", clock.track, clock.track, "the test")
        outcome = {"outcome": story["outcome"], **_virtual(first, start_ns)}
        yield self._slice(clock.track, clock.track, story["name"], first, last, outcome)
        yield from self._lines(clock, told, events)
        # The tracks come with what happens on them; a process may have had its number before.
        pending: dict[int, list[Span]] = {}
        for span in waits(events):
            at = span.begin if span.begin.kind == FOLDED else span.end
            pending.setdefault(id(at), []).append(span)
        step: EventRecord | None = None
        stepped_ns = 0
        """The end of folded calls."""
        for event in events:
            for span in pending.pop(id(event), ()):
                yield self._wait(clock, span, start_ns)
            yield from self._processes(clock, event, start_ns)
            if event.kind == EventKind.BEGUN.value:
                step = event
            elif event.kind == EventKind.DONE.value and step is not None:
                call, error = event.what
                arguments = {"raises": error, **_virtual(event, start_ns)}
                yield self._slice(clock.track, clock.track, call, step, event, arguments)
                step = None
            elif event.kind in _WAKES or (event.kind == FOLDED and event.what[0] == FIRES):
                is_step = step is not None or event.real_ns <= stepped_ns
                yield from self._arrow(clock, event, start_ns, is_step=is_step)
            elif event.kind == FOLDED and event.what[0] == CALLS:
                stepped_ns = Folded.of_record(event).real_ns
                yield self._fold(clock, event, start_ns)
            elif event.kind == FOLDED and event.what[0] == LIVES:
                yield from self._lives(event, start_ns)
            elif event.kind in _INSTANTS:
                yield self._instant(clock, event, start_ns)
        for pid, begun in clock.programs.items():
            yield self._program(clock, pid, begun, last, start_ns)
            now = {name: getattr(last, name) for name in ("real_ns", "wall_ns", "monotonic_ns")}
            clock.programs[pid] = begun._replace(**now)  # it goes on in the next story

    def _slice(
        self,
        process: int,
        thread: int,
        name: str,
        begin: EventRecord,
        end: EventRecord,
        arguments: Record,
    ) -> Record:
        return {
            "ph": "X",
            "name": name,
            "pid": process,
            "tid": thread,
            "ts": self._us(begin.real_ns),
            # What comes late may have happened before the story's beginning.
            "dur": max(end.real_ns - begin.real_ns, 0) / 1000,
            "args": arguments,
        }

    def _lines(self, clock: _Clock, told: Record, events: list[EventRecord]) -> Iterator[Record]:
        """Yield counters of how far the lines have come, and of their rates.

        What a counter stands at lasts until it says otherwise.
        """
        readings = {(one.real_ns, one.wall_ns, one.monotonic_ns) for one in events}
        readings |= {tuple(one) for one in told["readings"]}
        counted = [
            (
                real_ns,
                {
                    "wall line": (wall_ns - clock.start_wall_ns) / NS_PER_S,
                    "monotonic line": (monotonic_ns - told["start_ns"]) / NS_PER_S,
                },
                "seconds from its start",
            )
            for real_ns, wall_ns, monotonic_ns in sorted(readings)
        ]
        counted += [
            (
                real_ns,
                {"rate of the wall line": wall, "rate of the monotonic line": monotonic},
                "seconds per real second",
            )
            for real_ns, wall, monotonic in told["rates"]
        ]
        for real_ns, values, unit in counted:
            for name, value in values.items():
                if clock.counters.get(name) == value:
                    continue
                clock.counters[name] = value
                yield {
                    "ph": "C",
                    "name": name,
                    "pid": clock.track,
                    "ts": self._us(real_ns),
                    "args": {unit: value},
                }

    def _processes(self, clock: _Clock, event: EventRecord, start_ns: int) -> Iterator[Record]:
        """Tracks and programs begin and end."""
        pid = event.pid
        if event.kind in _COMMANDS:
            yield from self._ends(clock, event, start_ns)
            if event.kind != EventKind.EXECUTED.value:
                clock.processes.pop(pid, None)
            yield from self._track(clock, pid, event.what)
            track = clock.processes[pid]
            yield from _named("process", track, track, f"{event.what} (pid {pid})")
            clock.programs[pid] = event
        elif event.kind == EventKind.BORN.value:
            child = event.what
            clock.processes.pop(child, None)
            yield from self._track(clock, child, event.name)
            clock.programs[child] = event
        elif event.kind == EventKind.THREAD.value:
            yield from self._track(clock, pid, event.name)
            yield from self._thread(clock, pid, event.what)
        elif event.kind == EventKind.THREAD_ENDED.value:
            clock.threads.pop(event.tid, None)
        elif event.kind == EventKind.ENDED.value:
            yield from self._ends(clock, event, start_ns)
            clock.processes.pop(pid, None)

    def _ends(self, clock: _Clock, event: EventRecord, start_ns: int) -> Iterator[Record]:
        """Yield what a process has run until now."""
        begun = clock.programs.pop(event.pid, None)
        if begun is not None:
            yield self._program(clock, event.pid, begun, event, start_ns)

    def _program(
        self, clock: _Clock, pid: int, begun: EventRecord, end: EventRecord, start_ns: int
    ) -> Record:
        track = clock.processes[pid]
        arguments = _virtual(begun, start_ns)
        if end.kind == EventKind.ENDED.value and end.pid == pid:
            arguments["ended"] = end.what
        name = begun.what if begun.kind in _COMMANDS else begun.name
        return self._slice(track, track, name, begun, end, arguments)

    def _track(self, clock: _Clock, pid: int, name: str) -> Iterator[Record]:
        if pid not in clock.processes:
            track = clock.processes[pid] = clock.threads[pid] = next(self._numbers)
            yield from _named("process", track, track, f"{name} (pid {pid})")
            yield _sorted(track)
            yield from _named("thread", track, track, f"thread {pid}")

    def _thread(self, clock: _Clock, pid: int, tid: int) -> Iterator[Record]:
        thread = clock.threads[tid] = next(self._numbers)
        yield from _named("thread", clock.processes[pid], thread, f"thread {tid}")

    def _place(self, clock: _Clock, event: EventRecord) -> tuple[int, int]:
        """Of what is left of a process that has ended, the test's own."""
        process = clock.processes.get(event.pid)
        if process is None:
            return clock.track, clock.track
        return process, clock.threads.get(event.tid, process)

    def _wait(self, clock: _Clock, span: Span, start_ns: int) -> Record:
        if span.begin.kind == FOLDED:
            return self._fold(clock, span.begin, start_ns)
        name, of, deadline_ns = span.begin.what
        arguments = {
            "clock": of,
            "deadline_ns": deadline_ns,
            "its time has come": span.is_expired,
            **_virtual(span.begin, start_ns),
            "virtual seconds": (span.end.monotonic_ns - span.begin.monotonic_ns) / NS_PER_S,
        }
        process, thread = self._place(clock, span.begin)
        return self._slice(process, thread, name, span.begin, span.end, arguments)

    def _fold(self, clock: _Clock, begin: EventRecord, start_ns: int) -> Record:
        """Equal waits or calls that follow each other."""
        folded = Folded.of_record(begin)
        name = " and ".join(dict.fromkeys(part.name for part in folded.parts))
        process, thread = self._place(clock, begin)
        arguments = _folded(begin, folded, start_ns)
        end = folded.end_of(begin)
        return self._slice(process, thread, f"{name} × {folded.times}", begin, end, arguments)

    def _lives(self, begin: EventRecord, start_ns: int) -> Iterator[Record]:
        """Equal children that follow each other, on a track of their own."""
        folded = Folded.of_record(begin)
        name = ", ".join(dict.fromkeys(part.name for part in folded.parts))
        track = next(self._numbers)
        yield from _named("process", track, track, f"{name} ({folded.times} processes)")
        yield _sorted(track)
        yield from _named("thread", track, track, f"children of {begin.pid}")
        arguments, end = _folded(begin, folded, start_ns), folded.end_of(begin)
        yield self._slice(track, track, f"{name} × {folded.times}", begin, end, arguments)

    def _arrow(
        self, clock: _Clock, event: EventRecord, start_ns: int, *, is_step: bool
    ) -> Iterator[Record]:
        """From the test's call to whom it wakes."""
        yield self._instant(clock, event, start_ns)
        if not is_step:
            return
        process, thread = self._place(clock, event)
        common = {
            "name": "wakes",
            "cat": "wakes",
            "id": next(self._numbers),
            "ts": self._us(event.real_ns),
        }
        yield {"ph": "s", "pid": clock.track, "tid": clock.track, **common}
        yield {"ph": "f", "bp": "e", "pid": process, "tid": thread, **common}

    def _instant(self, clock: _Clock, event: EventRecord, start_ns: int) -> Record:
        process, thread = self._place(clock, event)
        arguments = _virtual(event, start_ns)
        if event.kind == FOLDED:
            arguments = _folded(event, Folded.of_record(event), start_ns)
        return {
            "ph": "i",
            "s": "t",
            "name": event.text,
            "pid": process,
            "tid": thread,
            "ts": self._us(event.real_ns),
            "args": arguments,
        }


@contextmanager
def recorded(descriptor: int, command: Sequence[str]) -> Iterator[None]:
    """Write what happens inside, to a program and all that it starts, to a file.

    Raises OSError when it cannot be.
    """
    with open(descriptor, "w", encoding="utf-8") as stream, recording() as recorded:
        file = TraceFile(stream)
        yield
        file.add(Recorder(recorded).tell(command_line(command), ""))
        file.close()


def _virtual(event: EventRecord, start_ns: int) -> Record:
    return {
        "wall line": format_instant(event.wall_ns),
        "monotonic line": (event.monotonic_ns - start_ns) / NS_PER_S,
    }


def _folded(begin: EventRecord, folded: Folded, start_ns: int) -> Record:
    """How many there were, from when to when, and of what length, in virtual seconds."""
    end = folded.end_of(begin)
    arguments: Record = {
        "times": folded.times,
        "from": _virtual(begin, start_ns),
        "until": _virtual(end, start_ns),
        "virtual seconds": (end.monotonic_ns - begin.monotonic_ns) / NS_PER_S,
    }
    parts = []
    for part in folded.parts:
        about: Record = {"name": part.name, "times": part.times}
        if folded.of != CALLS:
            about["ended" if folded.of == LIVES else "clock"] = part.clock
        if folded.of == WAITS:
            about["its time has come"] = part.is_expired
        lengths_ns = {"shortest": part.shortest_ns, "longest": part.longest_ns}
        parts.append(about | {name: ns / NS_PER_S for name, ns in lengths_ns.items()})
    return arguments | (parts[0] if len(parts) == 1 else {"parts": parts})


def _named(what: str, process: int, thread: int, name: str) -> Iterator[Record]:
    yield {
        "ph": "M",
        "name": f"{what}_name",
        "pid": process,
        "tid": thread,
        "args": {"name": name},
    }


def _sorted(process: int) -> Record:
    """Viewers put processes in an order of their own, unless they are told another."""
    return {
        "ph": "M",
        "name": "process_sort_index",
        "pid": process,
        "tid": process,
        "args": {"sort_index": process},
    }
