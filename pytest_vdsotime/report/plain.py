"""What can be told of a clock with nothing that traces: its lines, and what is beside it.

Imported where no program was started on a clock, too.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator

from pytest_vdsotime.events import readable
from pytest_vdsotime.instants import format_instant
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.timeline import NS_PER_S, Line, Lines, now_ns


def told(lines: Lines, closed: str) -> str:
    """Where a clock stands that no program was started on; `closed`: since when, if it is."""
    host_ns = now_ns()
    text = [*of_lines(lines, lines.monotonic.at(host_ns), host_ns, closed)]
    text.append("no program was started on it")
    return "\n".join([*text, *([] if closed else apart())])


def of_lines(lines: Lines, start_ns: int, host_ns: int, closed: str) -> Iterator[str]:
    """Yield where the lines stand; `start_ns`: the monotonic one's reading at the first program."""
    if closed:
        yield f"The clock is {closed}; it read then"
    yield f"wall line       {format_instant(lines.wall.at(host_ns))}, {_pace(lines.wall)}"
    way = f"{(lines.monotonic.at(host_ns) - start_ns) / NS_PER_S:+.3f} s since the first program"
    yield f"monotonic line  {way}, {_pace(lines.monotonic)}"


def _pace(line: Line) -> str:
    rate = line.rate.value
    return {0.0: "stands still", 1.0: "flows"}.get(rate, f"flows at rate {rate:g}")


def apart() -> Iterator[str]:
    """Yield what the test process has started that is on no clock."""
    pids = [pid for pid in procfs.own_children() if _is_apart(pid)]
    if pids:
        yield "children of the test process that are on no clock, and so in real time"
    for pid in pids:
        yield f"  {readable(shlex.join(procfs.argv(pid))) or procfs.name(pid)} (pid {pid})"
    if pids:
        yield "Start them while the clock is patched in, or attach(pid, children=True) to them."


def _is_apart(pid: int) -> bool:
    tracer, stat = procfs.tracer_of(pid), procfs.stat_fields(pid)
    if stat is None or stat[0] in "ZX" or (tracer and procfs.thread_group(tracer) == os.getpid()):
        return False
    # Python's own, which reads no clock.
    return not any("multiprocessing.resource_tracker" in one for one in procfs.argv(pid))


def last_resort(have: Callable[[], str]) -> str:
    """Return what `have` says; and if it raises, that."""
    try:
        return have()
    except Exception as error:
        return f"nothing can be told of the clock: {error!r}"
