"""System calls about timers.

On a clock that waits follow, the kernel's are never armed: the clock has one in place of each
(tracer/calls/expirations.py).

Where the kernel would have checked arguments, it does: the call runs, on a value that disarms.

Points of a clock at which a timer of the kernel expires, on a clock that leaves waits to it. A
program computes them from its own clock, the kernel compares them with the host's: so the kernel
gets the point at which, by the lines, the program's will have come.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable, Sequence

from pytest_vdsotime.abi import constant
from pytest_vdsotime.kernel import descriptors, procfs
from pytest_vdsotime.kernel.seccomp import Match
from pytest_vdsotime.timeline import CLOCKS, NS_PER_S, LineName, Lines, now_ns
from pytest_vdsotime.tracer.call import Answer, CallRow, NotThere, Refused, Request, Substitute
from pytest_vdsotime.tracer.calls.expirations import forget, kernel_may_run, overrun_of
from pytest_vdsotime.waits import NEVER_NS, Timer, deadlines, real_wait_ns

_ABSTIME = constant("TIMER_ABSTIME")  # and TFD_TIMER_ABSTIME
_CANCEL_ON_SET = constant("TFD_TIMER_CANCEL_ON_SET")
_ITIMER_REAL = constant("ITIMER_REAL")
_NS_PER_US = 1000
_SIGALRM = constant("SIGALRM")
_SIGEV_SIGNAL, _SIGEV_NONE = constant("SIGEV_SIGNAL"), constant("SIGEV_NONE")
_SIGEV_THREAD_ID = constant("SIGEV_THREAD_ID")


def _follows(request: Request) -> bool:
    return request.process.world.follows


def _changed(request: Request, timer: Timer) -> None:
    request.process.world.changed_timers.append(timer)


def _left(timer: Timer | None, request: Request) -> tuple[int, int]:
    """(nanoseconds until it expires, its interval), as the kernel tells them.

    An armed timer never has nothing left.
    """
    if timer is None or not timer.deadlines:
        return 0, 0 if timer is None else timer.interval_ns
    left_ns = timer.left_ns(request.process.world.page.lines, now_ns())
    return max(left_ns, 1), timer.interval_ns


def _arm(
    request: Request, timer: Timer, value_ns: int, interval_ns: int, *, is_absolute: bool
) -> None:
    """Disarm it by a value of zero."""
    world = request.process.world
    timer.interval_ns, timer.deadlines, timer.last_overrun = interval_ns, (), 0
    # A signal that is still queued counts as that of the next expiration.
    timer.overrun = -1 if timer.is_sent or timer.is_unsent else 0
    timer.is_absolute = is_absolute
    if value_ns or is_absolute:
        host_ns = now_ns()
        left_ns = request.left_ns(timer.clock_id, value_ns, host_ns) if is_absolute else value_ns
        line = CLOCKS[timer.clock_id if is_absolute else 1].line
        timer.set_ns, timer.length_ns = host_ns, left_ns
        timer.deadlines = deadlines(
            world.page.lines, host_ns, line, left_ns, ends_early=world.ends_early
        )
    _changed(request, timer)


# --- setitimer(2), alarm(2) ----------------------------------------------------------------------


def _itimer(request: Request) -> Timer:
    key = ("itimer", request.process.pid, 0)
    timers = request.process.world.timers
    return timers.setdefault(key, Timer(key, 1, signal=_SIGALRM))


def _write_itimerval(request: Request, address: int, left: tuple[int, int]) -> None:
    """Interval, then value.

    What is left of an armed timer is at least a microsecond (itimer_get_remtime,
    kernel/time/itimer.c).
    """
    value_ns, interval_ns = left
    spans = interval_ns, max(value_ns, _NS_PER_US) if value_ns else 0
    pack = request.abi.pack_span
    request.write(address, b"".join(pack(request.time64, ns, _NS_PER_US) for ns in spans))


def _setitimer(request: Request) -> Answer:
    if not _follows(request):
        return None
    value_ns = interval_ns = 0
    if request.arguments[1]:
        pair = request.abi.pair(request.time64)
        data = request.read(request.arguments[1], 2 * pair.size)
        interval, value = (request.pair_in(data[i * pair.size :][: pair.size]) for i in (0, 1))
        if any(seconds < 0 or not 0 <= us < 10**6 for seconds, us in (interval, value)):
            raise Refused(errno.EINVAL)
        interval_ns, value_ns = (s * NS_PER_S + us * _NS_PER_US for s, us in (interval, value))
    timer = _itimer(request)
    left = _left(timer, request)
    _arm(request, timer, value_ns, interval_ns if value_ns else 0, is_absolute=False)
    if request.arguments[2]:
        _write_itimerval(request, request.arguments[2], left)
    return 0


def _getitimer(request: Request) -> Answer:
    if not _follows(request):
        return None
    _write_itimerval(request, request.arguments[1], _left(_itimer(request), request))
    return 0


def _alarm(request: Request) -> Answer:
    """Return what was left in seconds, to the nearest but never 0 (alarm_setitimer)."""
    if not _follows(request):
        return None
    timer = _itimer(request)
    left_ns, _ = _left(timer, request)
    _arm(request, timer, request.arguments[0] % 2**32 * NS_PER_S, 0, is_absolute=False)
    return max((left_ns + NS_PER_S // 2) // NS_PER_S, 1) if left_ns else 0


# --- timerfd_create(2) --------------------------------------------------------------------------


def _fd_timer(request: Request) -> Timer | None:
    tid, fd = request.stopped.tid, request.number(0)
    clock_id = procfs.timerfd_clock(tid, fd)
    if clock_id is None or not request.process.world.page.serves(clock_id):
        return None
    found = request.process.world.timerfds.find(tid, fd)
    return found or Timer(("fd", tid, fd), clock_id)


def _timerfd_settime(request: Request) -> Answer:
    timer = _fd_timer(request)
    if timer is None or not request.arguments[2]:
        return None
    if not _follows(request):
        is_absolute = request.arguments[1] & _ABSTIME
        return translated_itimerspec(request, timer.clock_id) if is_absolute else None
    spec = _read_itimerspec(request)
    if spec is None:
        return None  # the kernel refuses it
    world = request.process.world
    if timer.copy < 0:
        try:
            descriptors.check_ticks()
            timer.copy = descriptors.copy_of(request.stopped.tid, request.number(0))
        except ProcessLookupError:
            return None  # it dies
        except OSError as error:
            world.warn(
                request.process.pid,
                f"a timerfd of {request.process.describe()} is in real time: {error.strerror}; "
                f"{descriptors.remedy(error)}",
            )
            return None
        former = world.timers.get(timer.key)
        if former is not None:  # closed meanwhile
            forget(world, former)
        world.timers[timer.key] = timer
        world.timerfds.add(timer.copy, timer)
    flags = request.arguments[1]
    is_absolute = bool(flags & _ABSTIME and spec[0])
    runs = kernel_may_run(world) and not (
        is_absolute and _is_before_host(request, timer.clock_id, spec[0])
    )
    left = None if timer.is_running else _left(timer, request)
    lines = world.page.lines
    # Setting it forgets what it has counted (timerfd_create(2)): nothing may be added after that.
    before, timer.deadlines = timer.deadlines, ()

    def armed(_stopped: object, result: int) -> int:
        # EFAULT: it was set, but its former value could not be written (timerfd_settime,
        # fs/timerfd.c). The new one has been read, or stands where the kernel can read it.
        if result not in (0, -errno.EFAULT):
            timer.deadlines = before
            _changed(request, timer)
        else:
            timer.is_canceled = False
            timer.is_canceled_when_set = flags & 3 == 3 and timer.clock_id in (0, 8)
            _arm(request, timer, *spec, is_absolute=is_absolute)
            timer.is_running = runs and kernel_may_run(world) and world.page.lines is lines
            if timer.is_running:
                _follow_kernel(timer, lines)
            elif runs:  # the lines have moved meanwhile
                descriptors.arm_timerfd(timer.copy, 0, 0)
            if left is not None and result == 0:
                _tell_former(request, request.arguments[3], left)
        return result

    if runs:
        translated = translated_itimerspec(request, timer.clock_id) if is_absolute else None
        if isinstance(translated, Substitute):
            return translated._replace(on_exit=armed)
        return lambda result: armed(None, result)
    size = 2 * request.abi.pair(request.time64).size
    return Substitute(2, bytes(size), on_exit=armed)


def _follow_kernel(timer: Timer, lines: Lines) -> None:
    """Have a periodic one expire as the kernel has armed it, if it came to know that late.

    So that it is known how often it has when the lines move. Requires: the program that has set it
    has not gone on yet.
    """
    goes = all(lines.line(name).rate.value == 1 for name, _ in timer.deadlines)
    if not (goes and timer.deadlines and timer.interval_ns):
        return
    first_ns = descriptors.first_expiration_ns(timer.copy, timer.interval_ns)
    host_ns = now_ns()
    way_ns = first_ns - host_ns - timer.left_ns(lines, host_ns)
    if first_ns and abs(way_ns) > timer.interval_ns // 4:
        timer.deadlines = tuple([(name, end + way_ns) for name, end in timer.deadlines])


def _is_before_host(request: Request, clock_id: int, value_ns: int) -> bool:
    """Whether a point of the clock is one at which the host's had not begun.

    The kernel, which has no negative times, would count too few expirations since.
    """
    passed_ns = -request.left_ns(clock_id, value_ns, now_ns())
    return passed_ns > min(time.clock_gettime_ns(clock_id), request.kernels_ns(clock_id))


def _timerfd_gettime(request: Request) -> Answer:
    timer = _fd_timer(request)
    if timer is None or timer.is_running or not _follows(request):
        return None
    return lambda result: (
        _write_left(request, request.arguments[1], _left(timer, request)) if result == 0 else result
    )


def _read_itimerspec(request: Request) -> tuple[int, int] | None:
    """(value, interval) in nanoseconds; None where the kernel refuses it."""
    pair = request.abi.pair(request.time64)
    data = request.read(request.arguments[2], 2 * pair.size)
    interval, value = (request.pair_in(data[i * pair.size :][: pair.size]) for i in (0, 1))
    if any(seconds < 0 or not 0 <= ns < NS_PER_S for seconds, ns in (interval, value)):
        return None
    value_ns, interval_ns = (seconds * NS_PER_S + ns for seconds, ns in (value, interval))
    return value_ns, interval_ns


def _write_left(request: Request, address: int, left: tuple[int, int]) -> int:
    spans = reversed(left)
    request.write(address, b"".join(request.abi.pack_span(request.time64, ns) for ns in spans))
    return 0


def _tell_former(request: Request, address: int, left: tuple[int, int]) -> int:
    """Of a timer that has been set: the program may not want to know."""
    return _write_left(request, address, left) if address else 0


# --- timer_create(2) -----------------------------------------------------------------------------


def _timer_create(request: Request) -> Answer:
    """CLOCK_REALTIME and the like; those of processors are the kernel's."""
    process, clock_id = request.process, request.number(0)
    if not _follows(request) or not process.world.page.serves(clock_id):
        return None

    try:
        event = _read_event(request)
    except NotThere:
        event = None  # who provides it does that for the kernel

    def created(result: int) -> int:
        if result != 0:
            return result
        number = int.from_bytes(request.read(request.arguments[2], 4), "little", signed=True)
        key = ("timer", process.pid, number)
        timer = process.world.timers[key] = Timer(key, clock_id, signal=_SIGALRM, value=number)
        if request.arguments[1]:
            timer.value, timer.signal, timer.tid = event or _read_event(request)
        return result

    return created


def _read_event(request: Request) -> tuple[int, int, int]:
    """Return the value, the signal and the thread of a struct sigevent (sigevent(3type)).

    The kernel reads it before it writes the timer's number, which may come to stand there.
    """
    if not request.arguments[1]:
        return 0, 0, 0
    long = request.abi.long_size  # of the value, which comes first
    data = request.read(request.arguments[1], long + 12)
    signal, notify, tid = struct.unpack_from("<3i", data, long)
    is_silent = notify & ~_SIGEV_THREAD_ID == _SIGEV_NONE
    value = int.from_bytes(data[:long], "little")
    return value, 0 if is_silent else signal, tid if notify == _SIGEV_THREAD_ID else 0


def _posix_timer(request: Request) -> Timer | None:
    key = ("timer", request.process.pid, request.number(0))
    return request.process.world.timers.get(key)


def _timer_settime(request: Request) -> Answer:
    timer = _posix_timer(request)
    if timer is None:
        clock_id = procfs.posix_timer_clock(request.stopped.tid, request.number(0))
        is_absolute = request.arguments[1] & _ABSTIME
        return translated_itimerspec(request, clock_id) if is_absolute else None
    if not request.arguments[2]:
        return None
    spec = _read_itimerspec(request)
    if spec is None:
        return None
    left = _left(timer, request)
    _arm(request, timer, *spec, is_absolute=bool(request.arguments[1] & _ABSTIME and spec[0]))
    return _tell_former(request, request.arguments[3], left)


def _timer_gettime(request: Request) -> Answer:
    timer = _posix_timer(request)
    if timer is None:
        return None
    return _write_left(request, request.arguments[1], _left(timer, request))


def _timer_getoverrun(request: Request) -> Answer:
    timer = _posix_timer(request)
    return None if timer is None else overrun_of(timer)


def _timer_delete(request: Request) -> Answer:
    timer = _posix_timer(request)
    if timer is not None:
        forget(request.process.world, timer)
        _changed(request, timer)
    return None


_REAL = Match(argument=0, values=(_ITIMER_REAL,))
_SUFFIXES: Sequence[str] = ("", "64")


def _rows(name: str, answer: Callable[[Request], Answer]) -> list[CallRow]:
    return [CallRow(name + suffix, answer, time64=bool(suffix)) for suffix in _SUFFIXES]


TIMER_CALLS = (
    CallRow("alarm", _alarm),
    CallRow("setitimer", _setitimer, _REAL),
    CallRow("getitimer", _getitimer, _REAL),
    *_rows("timerfd_settime", _timerfd_settime),
    *_rows("timerfd_gettime", _timerfd_gettime),
    CallRow("timer_create", _timer_create),
    *_rows("timer_settime", _timer_settime),
    *_rows("timer_gettime", _timer_gettime),
    CallRow("timer_getoverrun", _timer_getoverrun),
    CallRow("timer_delete", _timer_delete),
)


# --- deadlines of the kernel ---------------------------------------------------------------------


def _translated(request: Request, clock_id: int, seconds: int, nanoseconds: int) -> bytes | None:
    """Return the deadline for the kernel, or None where it gets the program's own."""
    page = request.process.world.page
    if seconds < 0 or not 0 <= nanoseconds < NS_PER_S or not page.serves(clock_id):
        return None
    name = CLOCKS[clock_id].line
    if name is LineName.MONOTONIC and page.lines.monotonic.is_the_hosts:
        return None
    lines, host = page.lines, now_ns()
    left_ns = request.left_ns(clock_id, seconds * NS_PER_S + nanoseconds, host)
    ends = deadlines(lines, host, name, left_ns, ends_early=request.process.world.ends_early)
    wait_ns = min(
        real_wait_ns(lines.line(one).rate, end - lines.line(one).at(host)) for one, end in ends
    )
    if left_ns < 0:  # a timer has expired all the more often
        wait_ns = max(left_ns, -request.kernels_ns(clock_id))
    host_ns = min(request.kernels_ns(clock_id) + wait_ns, NEVER_NS)
    pair = request.abi.pair(request.time64)
    host_seconds, host_nanoseconds = divmod(host_ns, NS_PER_S)
    return pair.pack(min(host_seconds, 2 ** (4 * pair.size - 1) - 1), host_nanoseconds)


def translated_itimerspec(request: Request, clock_id: int | None) -> Answer:
    """Return a call whose third argument points to a struct itimerspec.

    Interval, then value; a value of zero disarms.
    """
    if clock_id is None or request.arguments[2] == 0:
        return None
    pair = request.abi.pair(request.time64)
    data = request.read(request.arguments[2], 2 * pair.size)
    value = request.pair_in(data[pair.size :])
    if value == (0, 0):
        return None
    translated = _translated(request, clock_id, *value)
    return None if translated is None else Substitute(2, data[: pair.size] + translated)
