"""What the pump may see to by itself: with one clock, on which nothing is out of the ordinary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_vdsotime.arch import Abi
from pytest_vdsotime.events import Kind
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.pump import KINDS, Pump
from pytest_vdsotime.tracer.request import CallRow
from pytest_vdsotime.tracer.takeover.exec import Takeover
from pytest_vdsotime.tracer.takeover.native import Kind as ProgramKind
from pytest_vdsotime.tracer.takeover.native import NativeObjects
from pytest_vdsotime.tracer.tasks import Process, Tables, TaskState, World
from pytest_vdsotime.waits import CLOCKS_TO_SLEEP_BY, NEVER_NS, WAITS, Unit, WaitRow

_BY_VALUE, _BY_POINTER = 1, 2  # enum wait_kind of native_stub/waits.h
_ALL, _NOT_NULL = 1, 2  # enum interest of native_stub/pump.h
#: Calls that wait for a time or until a point, which the pump can tell.
_TOLD_APART = "futex", "clock_nanosleep"


def own_rows(abi: Abi) -> Mapping[int, WaitRow]:
    """The rows of WAITS for one kind of system call, by number."""
    return {abi.syscalls[row.name]: row for row in WAITS if row.name in abi.syscalls}


def tell_of_waits(pump: Pump, rows: Mapping[int, WaitRow]) -> None:
    """Which waits the pump may let begin, as long as they last what they say."""
    kinds = {
        nr: _BY_VALUE if row.unit is Unit.MILLISECONDS else _BY_POINTER + row.argument
        for nr, row in rows.items()
        if not row.points or row.name in _TOLD_APART
    }
    pump.record_waits(kinds, sum(1 << clock_id for clock_id in CLOCKS_TO_SLEEP_BY))


def tell_of_calls(pump: Pump, rows: Mapping[int, CallRow]) -> None:
    """Which system calls are of interest."""
    pump.take_interest(
        {nr: _ALL if row.pointer is None else _NOT_NULL + row.pointer for nr, row in rows.items()}
    )


@dataclass(slots=True)
class Shortcuts:
    """Tells the pump; one per tracer, on its thread."""

    tables: Tables
    pump: Pump
    native: NativeObjects
    takeover: Takeover
    is_native: bool = True
    """False: every stop is handled in Python."""
    needs_care: bool = False
    """Of some process of any clock."""
    kinds: Sequence[ProgramKind] = ()
    """Of the programs that the pump takes over, as it names them."""

    def was_at_exec(self, process: Process, kind: int, base: int) -> None:
        """The pump has taken over a program, with its vDSO at `base`."""
        self.takeover.was_at_exec(process, self.kinds[kind], base)

    def know_kinds(self) -> None:
        """After the first program of a kind was taken over."""
        if len(self.kinds) < len(list(self.native.kinds)):
            self.choose()

    def take_care(self, process: Process) -> None:
        """Of a process whose state may have changed."""
        is_new = process.needs_care and not self.needs_care
        is_to_stop = process.changes_time_namespace or process.world.stops_at_calls
        if is_new or (is_to_stop and not self.pump.hands_over_all):
            self.choose()

    def choose(self) -> None:
        """After something has changed that this depends on."""
        worlds = self.tables.worlds
        everyone = [one for world in worlds for one in world.processes.values()]
        is_apart = procfs.has_time_namespace("self")  # what the test process starts
        self.needs_care = is_apart or any(one.needs_care for one in everyone)
        is_watched = (
            not self.is_native
            or bool(self.tables.leaving)
            or any(world.history.records for world in worlds)
            or any(world.closed is not None or world.stops_at_calls for world in worlds)
        )
        has_attached = any(one.origin is not None for one in everyone)
        # A child is in another time namespace from its first stop on.
        may_move = any(one.changes_time_namespace for one in everyone)
        self.pump.hands_over_all = is_watched or has_attached or may_move
        self.pump.lets_calls_go = has_attached and not is_watched
        kind, reader, ahead_ns = self.native.own, (0, 0), None
        self.kinds, blocks = list(self.native.kinds)[:KINDS], []
        if len(worlds) == 1 and self.is_native and not self.needs_care:
            page = worlds[0].page
            blocks = [self.takeover.block(one, page) for one in self.kinds]
            if not worlds[0].stops_at_calls:
                reader = page.reader(kind.arch.name, kind.fake, kind.host)
            ahead_ns = _ahead_ns(worlds[0])
        self.pump.take_over_with(blocks)
        self.pump.answer_reads(*reader)
        self.pump.let_waits_begin(ahead_ns)

    def lines_moved(self) -> None:
        """The lines of some clock have changed, or what moves them."""
        worlds = self.tables.worlds
        is_alone = len(worlds) == 1 and self.is_native and not self.needs_care
        self.pump.let_waits_begin(_ahead_ns(worlds[0]) if is_alone else None)

    def pass_sleeps(self, world: World, most_ns: int, rounds_ns: int) -> None:
        """Until its next stop of any other kind, the sleeps of a program that is alone pass at
        once. `rounds_ns`: see Pump.pass_sleeps."""
        tables = self.tables
        is_lone = len(tables.worlds) == len(tables.tasks) == len(world.processes) == 1
        if not is_lone or self.needs_care or self.pump.hands_over_all or tables.postponed:
            return
        (task,) = tables.tasks.values()
        is_plain = (
            task.state == TaskState.RUNNING
            and not task.process.traces_calls
            and not world.page.copies
            and not world.page.lines.wall.rate.mult
            and not any(timer.deadlines for timer in world.timers.values())
        )
        if is_plain:
            longest_ns = min(most_ns, NEVER_NS)
            self.pump.pass_sleeps(task.tid, world.page.address, longest_ns, rounds_ns)

    def sleeps_passed(self) -> None:
        """After each wait of the pump: some may have."""
        passed_ns = self.pump.passed_ns
        if passed_ns:
            (world,) = self.tables.worlds
            world.page.was_advanced(passed_ns)
            world.passed_ns += passed_ns
            for pid in world.processes:
                world.record(Kind.PASSED, pid, passed_ns)
            self.lines_moved()


def _ahead_ns(world: World) -> int | None:
    """How far the monotonic line is ahead of the host's clock, where it goes at its pace, nobody
    moves it, and tasks need not stop at every system call."""
    line = world.page.lines.monotonic
    is_plain = (
        world.follows
        and not world.is_advancing
        and not world.stops_at_calls
        and line.rate.value == 1
        and line.base_ns < NEVER_NS
    )
    return line.base_ns - line.start_ns if is_plain else None
