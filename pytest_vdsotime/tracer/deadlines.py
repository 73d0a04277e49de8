"""Points of a clock at which a timer of the kernel expires, on a clock that leaves waits to it. A
program computes them from its own clock, the kernel compares them with the host's: so the kernel
gets the point at which, by the lines, the program's will have come.
"""

from __future__ import annotations

import time

from pytest_vdsotime.timeline import CLOCKS, NS_PER_S, LineName
from pytest_vdsotime.tracer.request import Answer, Request, Substitute
from pytest_vdsotime.waits import NEVER_NS, deadlines, real_wait_ns


def _translated(request: Request, clock_id: int, seconds: int, nanoseconds: int) -> bytes | None:
    """The deadline for the kernel, or None where it gets the program's own."""
    page = request.process.world.page
    if seconds < 0 or not 0 <= nanoseconds < NS_PER_S or not page.serves(clock_id):
        return None
    name = CLOCKS[clock_id].line
    if name is LineName.MONOTONIC and page.lines.monotonic.is_the_hosts:
        return None
    lines, host = page.lines, time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    left_ns = request.left_ns(clock_id, seconds * NS_PER_S + nanoseconds, host)
    ends = deadlines(lines, host, name, left_ns)
    wait_ns = min(real_wait_ns(lines, one, end - lines.line(one).at(host)) for one, end in ends)
    if left_ns < 0:  # a timer has expired all the more often
        wait_ns = max(left_ns, -request.kernels_ns(clock_id))
    host_ns = min(request.kernels_ns(clock_id) + wait_ns, NEVER_NS)
    pair = request.abi.pair(request.wide)
    host_seconds, host_nanoseconds = divmod(host_ns, NS_PER_S)
    return pair.pack(min(host_seconds, 2 ** (4 * pair.size - 1) - 1), host_nanoseconds)


def translated_itimerspec(request: Request, clock_id: int | None) -> Answer:
    """A call whose third argument points to a struct itimerspec: interval, then value; a value of
    zero disarms."""
    if clock_id is None or request.arguments[2] == 0:
        return None
    pair = request.abi.pair(request.wide)
    data = request.read(request.arguments[2], 2 * pair.size)
    value = request.pair_in(data[pair.size :])
    if value == (0, 0):
        return None
    translated = _translated(request, clock_id, *value)
    return None if translated is None else Substitute(2, data[: pair.size] + translated)
