"""Events, and the words for them."""

from __future__ import annotations

import signal

import pytest

from pytest_vdsotime.events import (
    Event,
    EventKind,
    History,
    command_line,
    ending,
    names,
    new_history,
    readable,
    recording,
)
from pytest_vdsotime.timeline import NS_PER_S, Lines, Rate, initial_lines


def lines(wall_ns: int = 0, host_ns: int = 0) -> Lines:
    return initial_lines(wall_ns, Rate.of(60), "flow", host_ns)


def test_an_event_knows_when_it_was() -> None:
    history = History()
    history.add(EventKind.BEGUN, lines(5 * NS_PER_S), what="advance(1)", at_ns=NS_PER_S)
    (event,) = history.events
    assert (event.real_ns, event.wall_ns, event.monotonic_ns) == (
        NS_PER_S,
        65 * NS_PER_S,
        NS_PER_S,
    )


def test_what_is_told_late_has_its_place() -> None:
    history = History()
    for at_ns in (3, 1, 2):
        history.add(EventKind.THREAD_ENDED, lines(), pid=at_ns, at_ns=at_ns)
    assert [event.pid for event in history.events] == [1, 2, 3]


def test_the_last_ten_thousand_are_remembered_unless_somebody_records() -> None:
    with recording() as wanted:
        whole = new_history()
    assert wanted.histories == [whole]
    ring = new_history()
    for history in (ring, whole):
        for pid in range(1, 15_001):
            history.add(EventKind.THREAD_ENDED, lines(), pid=pid, at_ns=pid)
    assert [event.pid for event in ring.events] == [*range(5001, 15_001)]
    assert (ring.forgotten_ns, whole.forgotten_ns) == (5000, 0)
    assert len(whole.take()) == 15_000
    assert whole.take() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sh", "-c", "exit 3"], "sh -c 'exit 3'"),
        ([b"caf\xc3\xa9", "\udcff"], "'caf\u00e9' '\\udcff'"),
        (["a\nb"], "'a\\nb'"),
        (b"sleep\0001h\0", "sleep 1h"),
        (b"sleep\0001", "sleep 1..."),
        (["x" * 200], "x" * 100 + "..."),
        ([object()], "'?'"),
        (b"", ""),
    ],
)
def test_arguments(arguments: object, text: str) -> None:
    assert command_line(arguments) == text


def test_readable_text_can_be_written_anywhere() -> None:
    assert readable("\udcff\x1b[31m\u00fc").encode() == b"\\udcff\\x1b[31m\xc3\xbc"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (3 << 8, "exit status 3"),
        (int(signal.SIGKILL), "killed by SIGKILL"),
        (signal.SIGSEGV | 0x80, "killed by SIGSEGV"),
        (35, "killed by signal 35"),
    ],
)
def test_endings(status: int, text: str) -> None:
    assert ending(status) == text


def test_what_the_test_did_is_remembered_whatever_its_programs_do() -> None:
    history = History()
    history.add(EventKind.BEGUN, lines(), what="advance(1)", at_ns=1)
    for pid in range(1, 15_001):
        history.add(EventKind.THREAD_ENDED, lines(), pid=pid, at_ns=pid + 1)
    history.add(EventKind.DONE, lines(), what=("advance(1)", ""), at_ns=20_000)
    begun, *_, done = history.events
    assert (begun.kind, done.kind) == (EventKind.BEGUN, EventKind.DONE)
    assert len(history.events) == 10_002


def test_names() -> None:
    events = [
        Event(EventKind.STARTED, 1, lines(), 7, 7, ["/bin/sh", "-c", "date"]),
        Event(EventKind.BORN, 2, lines(), 7, 7, 8),
        Event(EventKind.BORN, 3, lines(), 7, 7, 9),
        Event(EventKind.EXECUTED, 4, lines(), 9, 9, b"date\0"),
    ]
    assert names(events) == {7: "sh", 8: "sh", 9: "date"}
    assert names(events, in_full=True)[7] == "/bin/sh -c date"
