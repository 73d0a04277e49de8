"""What a call that takes long says of itself on the terminal, while it lasts.

The words are made by the thread that waits for the tracer, from what the tracer keeps anyway: how
far the lines have gone, and the last events. Nothing is counted for them alone.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pytest_vdsotime import terminal
from pytest_vdsotime.events import EventKind, readable
from pytest_vdsotime.kernel import descriptors, procfs
from pytest_vdsotime.timeline import NS_PER_S, now_ns
from pytest_vdsotime.tracer.state import ClockState

if TYPE_CHECKING:
    from socket import socket as Socket

#: After so many real seconds a call speaks, and then each so many. A test lowers them here, as
#: `monkeypatch.setattr(progress, "FIRST_S", 0.1)`: they are read when a call begins to wait.
FIRST_S, NEXT_S = 10.0, 30.0
_MAX_NAMED, _MAX_LOOKS = 3, 1000
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


class Progress:
    """Of one call of a test on a clock, by the real time since it was made."""

    def __init__(self, world: ClockState, call: str, advice: str = "") -> None:
        """`call` "" never speaks; `advice`: what would take less time."""
        self._world = world
        self._call = call
        self._advice = advice
        self._began_ns = now_ns()
        self._next_ns = self._began_ns + round(FIRST_S * NS_PER_S)
        self._passed_ns = world.passed_ns

    @property
    def pause_s(self) -> float | None:
        """Real seconds until it is to speak; None: it is not."""
        return max(self._next_ns - now_ns(), 0) / NS_PER_S if self._call else None

    def speak(self, *more: str, is_under_way: bool) -> None:
        """Say how far it is and why, and `more`; or that it waits its turn."""
        host_ns, world = now_ns(), self._world
        self._next_ns = host_ns + round(NEXT_S * NS_PER_S)
        took_ns = host_ns - self._began_ns
        head = f"{self._call} has taken {span(took_ns)} of real time"
        if not is_under_way:
            terminal.say([f"{head}: it waits for another call on this tracer to end", *more])
            return
        has_moved, self._passed_ns = world.passed_ns != self._passed_ns, world.passed_ns
        lines = [*(_wakers(world, self._began_ns) if has_moved else _busy(world))]
        if self._advice and has_moved:
            lines.append(self._advice)
        terminal.say([head + _way(world, took_ns), *lines, *more])


def _way(world: ClockState, took_ns: int) -> str:
    """Return how far an `advance` has come."""
    began_ns, goal_ns = world.way
    gone_ns, whole_ns = world.passed_ns - began_ns, goal_ns - began_ns
    if not world.is_advancing or not 0 < gone_ns <= whole_ns:
        return ""
    text = f": {span(gone_ns)} of {span(whole_ns)} have passed ({100 * gone_ns / whole_ns:.3g} %)"
    return f"{text}, some {span(took_ns * (whole_ns - gone_ns) // gone_ns)} more at this pace"


def _wakers(world: ClockState, since_ns: int) -> Iterator[str]:
    """Say which programs wake most often, of late."""
    ends = [
        event
        for event in world.history.latest
        if event.kind in (EventKind.EXPIRED, EventKind.FIRED) and event.real_ns >= since_ns
    ]
    counts = Counter((event.pid, event.what.name) for event in ends)
    for (pid, call), count in counts.most_common(_MAX_NAMED):
        own = [event for event in ends if (event.pid, event.what.name) == (pid, call)]
        times = [event.monotonic_ns for event in own]
        if count > 1:
            often = _often((max(times) - min(times)) / (count - 1))
            yield f"{readable(procfs.command(pid))} (pid {pid}) wakes {often} ({call})"


def _often(interval_ns: float) -> str:
    if interval_ns < 1:
        return "again and again at one instant"
    times = NS_PER_S / interval_ns
    return f"{times:.3g} times a second" if times >= 1.5 else f"every {span(round(interval_ns))}"


def _busy(world: ClockState) -> Iterator[str]:
    """Say which programs run now, that all others wait for."""
    running = [pid for pid in tuple(world.processes) if _runs(pid)]
    names = [f"{readable(procfs.command(pid))} (pid {pid})" for pid in running[:_MAX_NAMED]]
    yield f"it waits for programs to come to rest{': ' if names else ''}{', '.join(names)}"


def _runs(pid: int) -> bool:
    """Whether some thread of a process does."""
    with suppress(OSError):  # it has ended
        tids = os.listdir(f"/proc/{pid}/task")[:_MAX_LOOKS]
        return any((procfs.stat_fields(int(tid)) or ("", 0))[0] == "R" for tid in tids)
    return False


def span(span_ns: int) -> str:
    """Return a span of time in words: its two largest units."""
    seconds = span_ns / NS_PER_S
    if seconds < 60:
        return f"{seconds:.3g} s"
    left = round(seconds)
    words: list[str] = []
    for unit, length in (*_UNITS, ("s", 1)):
        count, left = divmod(left, length)
        if count or words:
            words.append(f"{count} {unit}" if count else "")
    return " ".join(filter(None, words[:2]))


# --- who serves whom -----------------------------------------------------------------------------

_ANY = ("0.0.0.0", "::")
_MAPPED = "::ffff:"  # an IPv4 address to an IPv6 socket


def stands_still(world: ClockState) -> str:
    """Return what to do where the event loop of this thread serves a program on the clock.

    It cannot while the thread waits for the tracer. "": there is no such loop or program.
    """
    served = set(_served_by_loop())
    for pid in tuple(world.processes) if served else ():
        if any(_serves(served, peer) for peer in _peers(pid)):
            return (
                f"{readable(procfs.command(pid))} (pid {pid}) has a connection to the event loop "
                "of this thread, which stands still meanwhile: await clock.aio.advance(...) and "
                "the like let it go on"
            )
    return ""


def _served_by_loop() -> Iterator[tuple[object, ...]]:
    """Yield the addresses of the sockets that the running asyncio loop of this thread watches."""
    asyncio = sys.modules.get("asyncio")
    loop = asyncio and asyncio._get_running_loop()
    if not loop:
        return
    import socket

    if socket.getdefaulttimeout() is not None:  # which a copy of a socket would get
        return
    selector = getattr(loop, "_selector", None)  # uvloop's loop has its epoll descriptor alone
    epoll = loop._get_backend_id() if selector is None else getattr(selector, "fileno", int)()
    watched = re.findall(r"^tfd:\s*(\d+)", procfs.read_text(f"/proc/self/fdinfo/{epoll}"), re.M)
    for fd in map(int, watched):
        with suppress(OSError), _socket(os.dup(fd)) as one:
            yield _address(one, one.getsockname())


def _peers(pid: int) -> Iterator[tuple[object, ...]]:
    """Yield the addresses that sockets of a process are connected to."""
    for fd, _ in procfs.sockets(pid):
        with suppress(OSError), _socket(descriptors.copy_of(pid, fd)) as one:
            yield _address(one, one.getpeername())


@contextmanager
def _socket(copy: int) -> Iterator[Socket]:
    """Give a descriptor as a socket and close it. Raises OSError if it is none."""
    import socket

    try:
        one = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with one:
        yield one


def _address(one: Socket, name: object) -> tuple[object, ...]:
    if isinstance(name, tuple):
        return one.type, str(name[0]).removeprefix(_MAPPED), name[1]
    return one.type, name


def _serves(served: set[tuple[object, ...]], peer: tuple[object, ...]) -> bool:
    kind, name, *port = peer
    return bool(name) and any((kind, host, *port) in served for host in (name, *_ANY))
