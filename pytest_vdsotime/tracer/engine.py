"""The native part of passing time (native_stub/tracer/engine.c), on the tracer thread.

It moves the lines from deadline to deadline, and ends what is due, as long as nothing that happens
needs Python. What is Python's of waits and timers becomes its own when it begins, and what it has
left is Python's again when it ends. Without it everything is the same, and slower
(``native=False``).
"""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Sequence
from enum import Enum, auto
from functools import partial

from pytest_vdsotime import faults
from pytest_vdsotime.abi import constant, structure
from pytest_vdsotime.events import Deadline, EventKind
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.page import ClockPage
from pytest_vdsotime.timeline import CLOCKS, LineName, Lines, now_ns
from pytest_vdsotime.tracer.calls import Calls
from pytest_vdsotime.tracer.calls.expirations import Timers
from pytest_vdsotime.tracer.calls.records import (
    AT_ENTRY,
    BY_KERNEL,
    EITHER,
    ENDLESS,
    REST_SIZE,
    WALL_ALONE,
    record_of_wait,
)
from pytest_vdsotime.tracer.calls.waits import TimedWaits, deadline_of, owner_of
from pytest_vdsotime.tracer.fastpath import FastPath, Record
from pytest_vdsotime.tracer.quiescence import leads_others
from pytest_vdsotime.tracer.state import Busy, ClockState, Tables, Task, TaskState
from pytest_vdsotime.tracer.stops import Shortcuts, Stops
from pytest_vdsotime.waits import NEVER_NS, Timer, Wait

_EVENTS, _DONE = constant("ENGINE_EVENTS"), constant("ENGINE_DONE")
_PYTHON = constant("ENGINE_PYTHON")
#: What the kernel would end within this is Python's to begin anew.
_SOON_NS = 2 * constant("RENEWED_NS")
_BY_LINES = {
    (LineName.MONOTONIC,): 0,
    (LineName.WALL,): WALL_ALONE,
    (LineName.WALL, LineName.MONOTONIC): EITHER,
}


class Passage(Enum):
    """How time has passed natively."""

    NONE = auto()
    """It could not."""
    ENDED = auto()
    """When the programs are at rest the next step is Python's, if there is one."""
    STOPPED = auto()
    """When they are it may go on natively."""


class Engine:
    """Passes time natively; one per tracer."""

    def __init__(
        self,
        tables: Tables,
        fastpath: FastPath,
        timed_waits: TimedWaits,
        timers: Timers,
        calls: Calls,
        shortcuts: Shortcuts,
        stops: Stops,
    ) -> None:
        self._tables = tables
        self._fastpath = fastpath
        self._timed_waits = timed_waits
        self._timers = timers
        self._calls = calls
        self._shortcuts = shortcuts
        self._stops = stops
        self._structure = structure("engine")()
        self._timer_type = structure("engine_timer")
        self._copy_type = structure("engine_copy")

    def run(self, world: ClockState, most_ns: int, rounds_ns: int) -> Passage:
        """Have time pass on a clock whose lines stand still, by `most_ns` at most.

        Its tasks may have stopped meanwhile (`Stops.next`).

        `rounds_ns`: how much further than to a deadline the lines may go for the wall line to read
        a whole millisecond.
        """
        copies = self._copy_records(world.page) if self._is_plain(world) else None
        if copies is None:
            return Passage.NONE
        try:
            return self._run(world, most_ns, rounds_ns, copies)
        finally:
            for copy in copies:
                os.close(copy.memory)

    def _run(
        self,
        world: ClockState,
        most_ns: int,
        rounds_ns: int,
        copies: ctypes.Array[ctypes.Structure],
    ) -> Passage:
        lines, host_ns = world.page.lines, now_ns()
        tasks = self._take(world, lines, host_ns)
        if not tasks:
            return Passage.NONE if tasks is None else Passage.ENDED
        timers = tuple(self._timers.armed(world))
        records = self._timer_records(timers, lines, host_ns)
        engine, count = self._structure, len(tasks)
        samples = array("Q", [task.sample.address for task in tasks])
        stopped = array(
            "Q",
            [
                task.sample.address
                for task in self._tables.tasks.values()
                if task.state is TaskState.LISTENING and task.process.world is world
            ],
        )
        changed = array("Q", bytes(8 * count))
        engine.page, engine.monotonic_ns = world.page.address, lines.monotonic.base_ns
        engine.stamps = world.page.stamps_address
        engine.most_ns, engine.rounds_ns = min(most_ns, NEVER_NS), rounds_ns
        engine.slack_ns = world.slack_ns
        engine.ends_early = world.ends_early
        engine.has_streams = world.network.has_streams
        engine.network_ns = world.network.next_look_ns
        engine.samples, _ = samples.buffer_info()
        engine.stopped, engine.stopped_count = stopped.buffer_info()
        engine.changed, engine.count = changed.buffer_info()
        engine.timers, engine.timer_count = ctypes.addressof(records), len(timers)
        engine.copies, engine.copy_count = ctypes.addressof(copies), len(copies)
        leave = partial(self._leave, world, tasks, changed, timers, records)
        self._stops.pass_deadlines(engine, leave)
        has_ended = engine.result in (_DONE, _PYTHON) or not engine.event_count
        return Passage.ENDED if has_ended else Passage.STOPPED

    def _is_plain(self, world: ClockState) -> bool:
        """Whether nothing is out of the ordinary with a clock and its processes."""
        tables, lines = self._tables, world.page.lines
        return (
            self._shortcuts.is_native
            and not faults.armed
            and not self._shortcuts.needs_care
            and not self._fastpath.hands_over_all
            and not tables.postponed
            and world.closed is None
            and world.follows
            and not world.sockets
            and not world.stops_at_calls
            and not lines.wall.rate.mult
            and not lines.monotonic.rate.mult
            and lines.monotonic.base_ns < NEVER_NS // 2
        )

    # --- what is Python's becomes the engine's ---------------------------------------------------

    def _take(self, world: ClockState, lines: Lines, host_ns: int) -> Sequence[Task] | None:
        """Return the tasks that it is to look at; None where some is not for it."""
        tasks: list[Task] = []
        taken: list[tuple[Task, Record]] = []
        anew, everyone = False, self._tables.tasks
        for process in world.processes.values():
            if process.launch is not None or process.traces_calls:
                return None
            if process.pid in everyone:
                leader = everyone[process.pid]
                leader.sample.leads_others = leads_others(leader)
            for tid in process.threads:
                task = everyone[tid]
                if task.state is TaskState.LISTENING:
                    continue
                task.sample.asks = world.network.asking.get(process.pid, 0)
                after = task.after
                if after.poll is not None or after.watched_calls or task.rewound:
                    return None
                if task.held is None and task.state != TaskState.RUNNING:
                    return None
                wait = task.wait
                if wait is None:
                    if task.at_exit is not None:
                        return None
                elif self._ends_soon(task, wait, host_ns):
                    anew = True
                else:
                    record = self._record(task, wait, lines, host_ns)
                    if record is None:
                        return None
                    taken.append((task, record))
                tasks.append(task)
        if anew and world.is_advancing:
            return None  # what does not end in the next step begins anew with it
        if anew:
            self._call_anew(world, host_ns)
            return ()
        for task, record in taken:
            if record.keeper == AT_ENTRY:
                task.sample.is_held = 1
                task.move(TaskState.RUNNING)
            task.wait = task.held = task.at_exit = None
            self._fastpath.put_record(record)
            self._fastpath.to_native(task.tid)
        return tasks

    def _ends_soon(self, task: Task, wait: Wait, host_ns: int) -> bool:
        """Whether the kernel might end its wait by a timeout that is none of the program's own."""
        is_of_tracer = task.held is None and task.at_exit is not None
        return is_of_tracer and wait.host_due_ns < host_ns + _SOON_NS

    def _call_anew(self, world: ClockState, host_ns: int) -> None:
        """Have such waits begin anew, without an end of their own while the lines stand still."""
        for process in world.processes.values():
            for task in [self._tables.tasks[tid] for tid in process.threads]:
                if task.wait is not None and self._ends_soon(task, task.wait, host_ns):
                    with process.answers_for("revising a wait of"):
                        self._timed_waits.call_anew(task, task.wait)

    def _record(self, task: Task, wait: Wait, lines: Lines, host_ns: int) -> Record | None:
        """Return how the engine keeps a wait that Python does; None if it cannot."""
        line = _BY_LINES.get(tuple([name for name, _ in wait.deadlines]))
        is_current = task.held is not None or task.at_exit is not None
        if (
            line is None
            or not self._timed_waits.knows(wait)
            or wait.is_expiring
            or wait.is_anew
            or wait.is_continued
            or wait.has_other_set
            or wait.length_ns <= 0
            or len(wait.rest_was) not in (0, REST_SIZE)
        ):
            return None
        due_ns = lines.monotonic.base_ns + wait.left_ns(lines, host_ns)
        keeper = BY_KERNEL if not is_current else ENDLESS if task.held is None else AT_ENTRY
        return record_of_wait(task.tid, wait, due_ns, line, keeper)

    def _timer_records(
        self, timers: Sequence[Timer], lines: Lines, host_ns: int
    ) -> ctypes.Array[ctypes.Structure]:
        records = (self._timer_type * len(timers))()
        for record, timer in zip(records, timers, strict=True):
            kind, record.tid, record.fd = timer.key
            record.is_native = kind == "fd" and not (timer.is_running or timer.is_canceled)
            record.copy = max(timer.copy, 0)
            left_ns = timer.left_ns(lines, host_ns)
            record.due_ns = max(min(lines.monotonic.base_ns + left_ns, NEVER_NS), 0)
            record.interval_ns, record.set_ns = min(timer.interval_ns, NEVER_NS), timer.set_ns
        return records

    def _copy_records(self, page: ClockPage) -> ctypes.Array[ctypes.Structure] | None:
        """Return how the engine writes to private copies; None where it has no descriptor for it.

        Each is open while it runs.
        """
        records = (self._copy_type * len(page.copies))()
        count = 0
        for copy in tuple(page.copies):
            try:
                memory = copy.open()
            except ProcessLookupError:
                page.copies.remove(copy)
                continue
            except OSError:
                for record in records[:count]:
                    os.close(record.memory)
                return None
            record = records[count]
            record.memory, record.address = memory, copy.address
            content = page.private_copy(copy.offsets)
            ctypes.memmove(ctypes.addressof(record.page), content, len(content))
            count += 1
        return (self._copy_type * count).from_buffer(records)

    # --- what the engine has left is Python's again ----------------------------------------------

    def _leave(
        self,
        world: ClockState,
        tasks: Sequence[Task],
        changed: array[int],
        timers: Sequence[Timer],
        records: ctypes.Array[ctypes.Structure],
    ) -> None:
        engine, lines = self._structure, world.page.lines
        self._note(world, lines, timers)
        if engine.passed_ns:
            world.page.was_advanced(engine.passed_ns)
            world.passed_ns += engine.passed_ns
        if engine.has_stale_copies:
            world.page.change(lambda _host_ns: world.page.lines)
        for timer, record in zip(timers, records, strict=True):
            if record.expirations:
                timer.has_expired(record.expirations, record.set_ns)
        for number in changed[: engine.changed_count]:
            task = tasks[number]
            if task.sample.has_waited:
                self._has_waited(task)
            if task.sample.is_held:
                task.sample.is_held = 0
                if self._fastpath.record_of(task.tid) is not None:  # else it has died
                    wait = self._timed_waits.take(task)
                    task.move(TaskState.STOPPED)
                    task.held = self._calls.request_of(task, Stopped(task.tid), wait)
            else:
                self._timed_waits.take_kept(task, is_by_wall=True)
        if engine.event_count:
            world.busy = Busy()  # they were at rest
            self._shortcuts.lines_moved()

    def _has_waited(self, task: Task) -> None:
        """As `later.relate` and `later.was_reached`."""
        sample, after = task.sample, task.after
        after.poll = None
        if sample.ends_polls:
            after.polls = 0
        sample.has_waited = sample.ends_polls = 0
        record = self._fastpath.record_of(task.tid)
        if record is not None:
            after.former = (record.stack, record.counter), record.length_ns

    def _note(self, world: ClockState, lines: Lines, timers: Sequence[Timer]) -> None:
        """Have what has expired remembered."""
        engine, tasks = self._structure, self._tables.tasks
        count: int = engine.event_count
        if count > _EVENTS:
            world.history.forgotten_ns = engine.events[count % _EVENTS].at_ns
        for number in range(max(count - _EVENTS, 0), count):
            event = engine.events[number % _EVENTS]
            then = lines.shifted(event.passed_ns)
            if not event.tid:
                timer = timers[event.what]
                deadline = deadline_of(world, timer)._replace(
                    at_ns=_reading_ns(world.page, lines, timer.clock_id, event.due_ns)
                )
                pid = tid = owner_of(world, timer)
                kind = EventKind.FIRED
            else:
                row = self._timed_waits.rows[event.what]
                at_ns = _reading_ns(world.page, lines, event.clock, event.due_ns)
                deadline = Deadline(row.name, CLOCKS[event.clock].name, at_ns)
                tid, pid = event.tid, tasks[event.tid].process.pid
                kind = EventKind.EXPIRED
            world.history.add(kind, then, pid, tid, deadline, event.at_ns)


def _reading_ns(page: ClockPage, lines: Lines, clock_id: int, due_ns: int) -> int:
    """Return what a clock reads when the monotonic line reads `due_ns`."""
    line = lines.line(CLOCKS[clock_id].line)
    return line.base_ns + due_ns - lines.monotonic.base_ns + page.offset_ns(clock_id)
