"""What a recording tells is JSON, whatever has happened, in whatever order it was told."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from pytest_vdsotime.events import Deadline, EventKind, History, Recording, folded
from pytest_vdsotime.report.recorder import Recorder
from pytest_vdsotime.report.trace import TraceFile
from pytest_vdsotime.timeline import EARLIEST_NS, LATEST_NS, Rate, initial_lines

Examples = Callable[..., Callable[[Callable[..., None]], None]]

ids = st.integers(1, 4)
instants = st.integers(EARLIEST_NS, LATEST_NS)
deadlines = st.builds(
    Deadline,
    st.sampled_from(["poll", "nanosleep", "timer_create"]),
    st.sampled_from(["CLOCK_MONOTONIC", "CLOCK_REALTIME", "CLOCK_BOOTTIME"]),
    st.none() | st.integers(0, 20) | instants,
)
argv = st.lists(st.text(max_size=5) | st.binary(max_size=5), max_size=3) | st.binary(max_size=12)
texts = st.builds("advance({:.12g}, stride={:.12g})".format, *(st.floats(0, 1e14),) * 2) | (
    st.sampled_from(["settle()", "move_to(1970-01-01T00:00:00Z)", "rate = 1e+06"])
)
OF_KIND: dict[EventKind, st.SearchStrategy[Any]] = {
    **dict.fromkeys((EventKind.STARTED, EventKind.EXECUTED, EventKind.ATTACHED), argv),
    **dict.fromkeys((EventKind.BORN, EventKind.THREAD), ids),
    **dict.fromkeys((EventKind.WAITS, EventKind.EXPIRED, EventKind.FIRED), deadlines),
    EventKind.ENDED: st.integers(0, 127).map(lambda one: one if one < 64 else one - 63)
    | st.integers(0, 255).map(lambda code: code << 8),
    EventKind.BEGUN: texts,
    EventKind.DONE: st.tuples(texts, st.none() | st.just("NotSettled")),
    EventKind.SET: instants,
    EventKind.WARNED: st.text(),
}
events = st.one_of(
    [
        st.tuples(
            st.just(kind), instants, ids, ids, OF_KIND.get(kind, st.none()), st.integers(1, 200)
        )
        for kind in EventKind
    ]
)


def test_any_events_are_told(examples: Examples) -> None:
    few = st.lists(events, max_size=30)

    @examples(few, few, st.integers(1, 30), count=75)
    def check(first: list[Any], second: list[Any], repeated: int) -> None:
        recording = Recording()
        history = History(records=True)
        recording.histories.append(history)
        recorder, stream = Recorder(recording), io.StringIO()
        close, stream.close = stream.close, lambda: None  # type: ignore[method-assign]
        trace = TraceFile(stream)
        for name, part in (("one \ud800", first), ("two", second * repeated)):
            for number, (kind, wall_ns, pid, tid, what, at_ns) in enumerate(part):
                lines = initial_lines(wall_ns, Rate.of(number % 2), "flow", 0)
                history.add(kind, lines, pid, tid, what, at_ns=at_ns + number)
            folded(history)
            story = recorder.tell(name, "passed")
            assert json.loads(json.dumps(story)) == story
            trace.add(story)
        trace.close()
        told = stream.getvalue()
        told.encode()  # it can be written
        for one in json.loads(told)["traceEvents"]:
            assert one["ph"] in "XCMisf" and isinstance(one["pid"], int)
            assert "dur" not in one or one["dur"] >= 0
        close()
