"""What becomes of many records: which are one, and what that one says."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pytest_vdsotime.events import Deadline, EventKind, History, Recording
from pytest_vdsotime.report.recorder import Recorder
from pytest_vdsotime.report.records import FOLDED, EventRecord, Folded, Part, fold, waits
from pytest_vdsotime.report.trace import TraceFile
from pytest_vdsotime.timeline import Lines, Rate, initial_lines

Told = tuple[int, str, int, Any]
MS = 1_000_000
SLEEP = ["clock_nanosleep", "CLOCK_BOOTTIME", 0]
POLL = ["poll", "CLOCK_BOOTTIME", 0]


def records(told: Iterable[Told]) -> list[EventRecord]:
    """At (milliseconds of both lines, kind, thread of process 1, what)."""
    return [
        EventRecord(kind, number, ms * MS, ms * MS, min(tid, 1), tid, "server", what, kind)
        for number, (ms, kind, tid, what) in enumerate(told)
    ]


def by_process(told: Iterable[Told]) -> list[EventRecord]:
    """Likewise, where each thread is a process."""
    return [event._replace(pid=event.tid) for event in records(told)]


def wait(begin: int, end: int, tid: int = 1, what: Any = SLEEP, expires: bool = True) -> list[Told]:
    expired = [(end, "expired", tid, what)] if expires else []
    return [(begin, "waits", tid, what), *expired, (end, "waited", tid, None)]


def kinds(events: Sequence[EventRecord]) -> list[str]:
    return [event.kind for event in events]


def folded(events: Sequence[EventRecord]) -> list[Folded]:
    return [Folded.of_record(event) for event in events if event.kind == FOLDED]


def test_equal_waits_that_follow_each_other() -> None:
    told = [one for n in range(50) for one in wait(n * 100, n * 100 + 100)]
    events = fold(records([*told, (5000, "ended", 1, "exit status 0")]))
    assert kinds(events) == [FOLDED, "expired", "ended"]
    (one,) = folded(events)
    assert one.parts == [Part("clock_nanosleep", "CLOCK_BOOTTIME", True, 50, 100 * MS, 100 * MS)]
    assert (events[0].monotonic_ns, one.monotonic_ns, one.times) == (0, 5000 * MS, 50)
    assert events[0].text == (
        "server (pid 1) waits 50 times in clock_nanosleep for 100 ms, until 1970-01-01T00:00:05Z"
    )


def test_few_are_told_one_by_one() -> None:
    told = records(one for n in range(3) for one in wait(n, n + 1))
    assert fold(told) == told


def test_a_wait_ends_with_the_next_one() -> None:
    told = [
        one
        for n in range(9)
        for one in ((n * 100, "waits", 1, SLEEP), (n * 100 + 100, "expired", 1, SLEEP))
    ]
    events = fold(records([*told, (900, "waits", 1, SLEEP)]))
    assert kinds(events) == [FOLDED, "expired", "waits"]
    assert folded(events)[0].parts == [
        Part("clock_nanosleep", "CLOCK_BOOTTIME", True, 9, 100 * MS, 100 * MS)
    ]


def test_a_wait_that_was_interrupted_goes_on() -> None:
    told: list[Told] = []
    for n in range(10):
        at, what = n * 100, [*SLEEP[:2], n * 100 + 100]
        told += [(at, "waits", 1, what)] * 2
        told += [(at + 100, "expired", 1, what)]
    events = fold(records([*told, (1000, "waited", 1, None)]))
    assert kinds(events) == [FOLDED, "expired"]
    assert folded(events)[0].times == 10
    (span,) = waits(records(told[:3]))
    assert (span.begin.real_ns, span.is_expired) == (0, True)


@pytest.mark.parametrize(
    "between", [(0, "begun", 0, "settle()"), (0, "born", 1, 7), (0, "set", 2, 0)]
)
def test_what_comes_between(between: Told) -> None:
    told = [one for n in range(10) for one in wait(n * 100, n * 100 + 100)]
    events = fold(records([*told[:15], (500, *between[1:]), *told[15:]]))
    assert kinds(events) == [FOLDED, "expired", between[1], FOLDED, "expired"]
    assert [one.times for one in folded(events)] == [5, 5]


def test_other_threads_do_not() -> None:
    told = [
        one
        for n in range(10)
        for one in (*wait(n * 100, n * 100 + 50, tid=2), *wait(n * 100, n * 100 + 100))
    ]
    events = fold(records(told))
    assert [(one.times, one.parts[0].longest_ns) for one in folded(events)] == [
        (10, 50 * MS),
        (10, 100 * MS),
    ]


def test_others_are_kept_apart() -> None:
    """Of another length, in another call, that ended before their time."""
    lengths = [100] * 5 + [200] * 5
    ends = [sum(lengths[: n + 1]) for n in range(10)]
    told = [
        one for length, end in zip(lengths, ends, strict=True) for one in wait(end - length, end)
    ]
    told += [one for n in range(5) for one in wait(2000 + n * 200, 2200 + n * 200, what=POLL)]
    told += [one for n in range(5) for one in wait(4000, 4200, what=POLL, expires=False)]
    parts = [one.parts for one in folded(fold(records(told)))]
    assert parts == [
        [Part("clock_nanosleep", "CLOCK_BOOTTIME", True, 5, 100 * MS, 100 * MS)],
        [Part("clock_nanosleep", "CLOCK_BOOTTIME", True, 5, 200 * MS, 200 * MS)],
        [Part("poll", "CLOCK_BOOTTIME", True, 5, 200 * MS, 200 * MS)],
        [Part("poll", "CLOCK_BOOTTIME", False, 5, 200 * MS, 200 * MS)],
    ]


def test_a_timer() -> None:
    told = [(n * 1000, "fired", 1, ["alarm", "CLOCK_BOOTTIME", 0]) for n in range(1, 61)]
    (event,) = fold(records(told))
    assert (
        event.text
        == "server (pid 1): its alarm fires 60 times, every 1 s, until 1970-01-01T00:01:00Z"
    )
    assert [*waits([event])] == []


def life(begin: int, end: int, pid: int, command: str = "sleep 1", status: int = 0) -> list[Told]:
    return [
        (begin, "born", 1, pid),
        (begin, "executed", pid, command),
        *wait(begin, end, pid),
        (end, "ended", pid, f"exit status {status}"),
    ]


def test_children_one_after_the_other() -> None:
    told = [one for n in range(30) for one in life(n * 1000, n * 1000 + 1000, 100 + n)]
    events = fold(by_process([(0, "executed", 1, "sh"), *told, (30_000, "ended", 1, "killed")]))
    assert kinds(events) == ["executed", FOLDED, "ended"]
    assert folded(events)[0].parts == [
        Part("sleep 1", "exit status 0", True, 30, 1000 * MS, 1000 * MS)
    ]
    assert events[1].text == (
        "server (pid 1) has children, one after the other: sleep 1, 30 times (exit status 0), "
        "until 1970-01-01T00:00:30Z"
    )
    assert [*waits(events)] == []


def test_other_children_are_told() -> None:
    """At the same time, few, with children or warnings of their own."""
    at_once = [one for n in range(30) for one in life(0, 0, 100 + n)[:-1]]
    at_once += [(1, "ended", 100 + n, "exit status 0") for n in range(30)]
    few = [one for n in range(19) for one in life(2, 3, 200 + n)]
    with_children = [
        one
        for n in range(30)
        for one in (
            (4, "born", 1, 300 + n),
            (4, "born", 300 + n, 400 + n),
            (4, "ended", 400 + n, "exit status 0"),
            (4, "ended", 300 + n, "exit status 0"),
        )
    ]
    events = by_process([*at_once, (1, "born", 1, 5), *few, *with_children])
    ends = [event.tid for event in fold(events) if event.kind in ("ended", FOLDED)]
    assert ends == [event.tid for event in events if event.kind == "ended"]


def test_where_there_are_too_many() -> None:
    """Waits of any length are one, calls of the test too."""
    told: list[Told] = []
    for n in range(500):
        at = n * 1000
        told += [(at, "begun", 0, "advance(1 s)"), *wait(at, at + n, what=POLL)]
        told += [*wait(at + n, at + 1000), (at + 1000, "done", 0, ["advance(1 s)", ""])]
    events = fold(records(told))
    assert kinds(events) == [FOLDED, FOLDED, "expired"]
    calls, both = folded(events)
    assert calls.parts == [Part("advance(1 s)", "", True, 500, 1000 * MS, 1000 * MS)]
    assert [(part.name, part.times, part.shortest_ns, part.longest_ns) for part in both.parts] == [
        ("poll", 500, 0, 499 * MS),
        ("clock_nanosleep", 500, 501 * MS, 1000 * MS),
    ]
    assert events[0].text == "the test calls advance(1 s) 500 times, until 1970-01-01T00:08:20Z"
    assert "500 times in poll for 0 s to 499 ms, 500 times in clock_nanosleep for" in events[1].text


def test_spans() -> None:
    told = [one for n in range(10) for one in wait(n * 100, n * 100 + 100)]
    events = fold(records([(0, "waits", 1, POLL), *told, (1000, "waits", 1, POLL)]))
    spans = [(one.begin.kind, one.end.monotonic_ns // MS, one.is_expired) for one in waits(events)]
    assert spans == [("waits", 0, False), (FOLDED, 1000, True), ("waits", 1000, False)]


def lines(host_ns: int) -> Lines:
    return initial_lines(0, Rate.of(0), "flow", host_ns)


def test_a_process_that_begins_anew_has_ended() -> None:
    """One that was attached to twice, and whose end is not known, has two slices; what is told late
    has none of less than no length."""
    history, recording, stream = History(records=True), Recording(), io.StringIO()
    recording.histories.append(history)
    recorder, trace = Recorder(recording), TraceFile(stream)
    for at_ns in (1, 9):
        history.add(EventKind.ATTACHED, lines(0), 7, 7, ["sleep"], at_ns=at_ns)
    trace.add(recorder.tell("one", "passed"))
    history.add(EventKind.ENDED, lines(0), 7, 7, 0, at_ns=5)
    trace.add(recorder.tell("two", "passed"))
    told = json.loads(stream.getvalue() + "]}")["traceEvents"]
    slices = [one for one in told if one["ph"] == "X" and one["name"] == "sleep"]
    assert [one["dur"] for one in slices] == [8 / 1000, 0, 0]
    assert len({one["pid"] for one in slices}) == 2


def test_a_wait_that_began_in_an_earlier_story() -> None:
    history, recording = History(records=True), Recording()
    recording.histories.append(history)
    recorder = Recorder(recording)
    history.add(EventKind.STARTED, lines(0), 7, 7, ["sleep", "1"], at_ns=1)
    history.add(EventKind.WAITS, lines(0), 7, 7, Deadline("pause", "CLOCK_BOOTTIME", 5), at_ns=2)
    recorder.tell("one", "passed")
    history.add(EventKind.BEGUN, lines(0), what="settle()", at_ns=3)
    recorder.tell("two", "passed")
    history.add(EventKind.BEGUN, lines(0), what="advance(90)", at_ns=4)
    history.add(EventKind.EXPIRED, lines(0), 7, 7, Deadline("pause", "CLOCK_BOOTTIME", 5), at_ns=5)
    history.add(EventKind.ENDED, lines(0), 7, 7, 0, at_ns=6)
    (clock,) = recorder.tell("three", "passed")["clocks"]
    events = [EventRecord(*values) for values in clock["events"]]
    assert [(event.kind, event.real_ns) for event in events] == [
        ("waits", 4),
        ("begun", 4),
        ("expired", 5),
        ("ended", 6),
    ]
    assert events[1].text == "the test calls advance(1 min 30 s)"
    assert [one.is_expired for one in waits(events)] == [True]


def test_rates() -> None:
    history, recording = History(records=True), Recording()
    recording.histories.append(history)
    still = initial_lines(0, Rate.of(0), "freeze", 0)
    fast = still.at_rate(0, Rate.of(60))
    for kind, now in (
        (EventKind.STARTED, lines(0)),
        (EventKind.BEGUN, lines(0)),
        (EventKind.WARNED, still),  # within the call
        (EventKind.DONE, fast),
        (EventKind.WARNED, fast),
    ):
        what: Any = {EventKind.STARTED: ["true"], EventKind.DONE: ("rate = 60", "")}.get(kind, "x")
        history.add(kind, now, 0, what=what, at_ns=len(history.events) + 1)
    (clock,) = Recorder(recording).tell("one", "passed")["clocks"]
    assert clock["rates"] == [[1, 0.0, 1.0], [4, 60.0, 0.0]]
