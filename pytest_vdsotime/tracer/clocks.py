"""The clocks of a session, as the tracer has them: they come, get programs that ran before, and
end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pytest_vdsotime.events import Kind
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.kernel.pump import Pump
from pytest_vdsotime.tracer.shortcuts import Shortcuts
from pytest_vdsotime.tracer.takeover.attach import Attaching
from pytest_vdsotime.tracer.tasks import Process, Reply, Tables, World


@dataclass(slots=True)
class Clocks:
    """One per tracer, on its thread."""

    tables: Tables
    pump: Pump
    attaching: Attaching
    shortcuts: Shortcuts
    later: deque[Callable[[], None]]
    """Actions for when no stop is being handled."""

    def add(self, world: World) -> None:
        """A clock's first program is to come."""
        self.tables.worlds.append(world)
        self.shortcuts.choose()

    def attach(self, process: Process) -> None:
        """Takes over a running process; see Attaching.attach. For `later`."""
        self.pump.hands_over_all, self.pump.lets_calls_go = True, False
        try:
            self.attaching.attach(process)
            process.world.record(Kind.ATTACHED, process.pid, procfs.argv(process.pid))
        finally:
            self.end_if_empty(process.world)
            self.shortcuts.choose()

    def release(self, process: Process) -> None:
        """Lets a process that was attached to, and what it has started, go; see Attaching.release.
        For `later`."""
        self.pump.lets_calls_go = False
        process.world.errors.extend(self.attaching.release(process))
        self.end_if_empty(process.world)
        self.shortcuts.choose()

    def _release_for_good(self, process: Process) -> None:
        with process.answers_for("letting go"):
            self.release(process)

    def close(self, world: World, closed: Reply[None]) -> None:
        """Kills every process of a clock; answers `closed` when the last one has ended."""
        world.closed = closed
        self.shortcuts.choose()
        for process in tuple(world.processes.values()):
            if process.origin is None:
                process.kill()
            else:
                self.later.append(partial(self._release_for_good, process.origin))
        self.end_if_empty(world)

    def end_if_empty(self, world: World) -> None:
        """A clock that is being closed ends with its last process."""
        if world.closed is not None and not world.processes:
            world.closed.give(None)
            if world in self.tables.worlds:
                self.tables.worlds.remove(world)
                self.shortcuts.choose()
