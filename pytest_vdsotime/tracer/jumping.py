"""Time that passes by itself (`autojump`): when all is at rest, on to the next deadline."""

from __future__ import annotations

from pytest_vdsotime import faults
from pytest_vdsotime.timeline import LATEST_NS
from pytest_vdsotime.tracer.alarms import Alarms
from pytest_vdsotime.tracer.calls.waits import now_ns
from pytest_vdsotime.tracer.passing import (
    FIRST_NAP_NS,
    LAST_NAP_NS,
    LONGEST_HOLD_NS,
    Passing,
    rounding_ns,
)
from pytest_vdsotime.tracer.quiet import Quiet
from pytest_vdsotime.tracer.shortcuts import Shortcuts
from pytest_vdsotime.tracer.tasks import Tables, World


class Jumping:
    """Has the clocks jump; one per tracer, on its thread."""

    def __init__(
        self, tables: Tables, alarms: Alarms, quiet: Quiet, passing: Passing, shortcuts: Shortcuts
    ) -> None:
        self._tables = tables
        self._alarms = alarms
        self._quiet = quiet
        self._passing = passing
        self._shortcuts = shortcuts
        self._nap_ns = FIRST_NAP_NS

    def tick(self) -> int:
        """Between two stops: rings alarms, jumps. Returns how long to wait for the next stop, in
        nanoseconds; 0: until it comes."""
        self._alarms.ring()
        patiences = [
            self._try_to_jump(world)
            for world in self._tables.worlds
            if world.jump_after_ns is not None and world.closed is None and world.processes
        ]
        return min(filter(None, patiences), default=0)

    def was_active(self) -> None:
        """Some task had a stop."""
        self._nap_ns = FIRST_NAP_NS

    def _try_to_jump(self, world: World) -> int:
        """An exception ends the programs of this clock, and of no other."""
        try:
            if faults.armed:
                faults.reach("jump", next(iter(world.processes)))
            return self._jump(world)
        except Exception as error:
            for process in tuple(world.processes.values()):
                process.kill_unsupported(error, "moving the clock of")
            return FIRST_NAP_NS

    def _jump(self, world: World) -> int:
        looks = self._quiet.looks(world)
        if looks is None:
            self._nap_ns = min(2 * self._nap_ns, LAST_NAP_NS)
            if self._nap_ns > LONGEST_HOLD_NS:
                self._passing.let_in(world)
            return self._nap_ns
        pending = self._passing.pending(world, looks)
        if not pending:
            return 0  # whoever is woken from outside has a stop before he waits
        if world.jump_after_ns:
            runs = sum(look.runs for look in looks.values())
            if runs != world.idle[0]:
                world.idle = runs, now_ns()
            idle_ns = now_ns() - world.idle[1]
            if idle_ns < world.jump_after_ns:
                return max(world.jump_after_ns - idle_ns, FIRST_NAP_NS)
        step_ns = max(pending[0].left_ns, 0)
        most_ns = LATEST_NS - world.page.lines.wall.at(now_ns())
        if step_ns > most_ns:
            self._passing.let_in(world)
            return 0
        self._passing.fire(world, step_ns, pending)
        if not world.jump_after_ns:
            self._shortcuts.pass_sleeps(world, most_ns - step_ns, rounding_ns(world))
        self._nap_ns = FIRST_NAP_NS
        return FIRST_NAP_NS
