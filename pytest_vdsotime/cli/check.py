"""``vdsotime --check``: what works on this machine, line by line.

First what programs on a clock need; without any of it the plugin cannot run. Then the doors: each
way to the time that a program has, tried by one that goes it on a clock of its own. That program
is this Python, as no other is on every machine; for 32 bits one comes with the package. Last, each
engine whose containers can be on a clock is started.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_vdsotime.abi import constant
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.availability import NATIVE, Facts, obstacle
from pytest_vdsotime.containers.engines import ENGINES
from pytest_vdsotime.errors import RealTimeWarning, TracingUnavailable, VdsoTimeError

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock

_INSTANT: Final = "1970-01-01T00:00:00Z"
_SECOND: Final = 42
_WAIT_NS: Final = 30_000_000
_TIMEOUT_S: Final = 5


class _Open(Exception):
    """A door that leads to real time; the text says what was seen."""


class _NoDoor(Exception):
    """Going there is SIGSEGV or ENOEXEC: the machine has no such door."""


class _Untested(Exception):
    """A door that could not be tried; the text says why."""


def check() -> int:
    """Print a line for each thing that programs on a clock need, each door, and each engine.

    The lines end at the first need that is missing; doors are tried if none is.

    Returns the exit status: 0 if the plugin can run.
    """
    for name, examine in CHECKS.items():
        try:
            print(f"ok    {name}: {examine()}")
        except TracingUnavailable as error:
            print(f"FAIL  {name}: {error.reason}\n      remedy: {error.remedy}")
            return 1
        except (VdsoTimeError, OSError, subprocess.SubprocessError) as error:
            print(f"FAIL  {name}: {error}")
            return 1
    for name, examine in DOORS.items():
        try:
            print(f"ok    {name}: {examine()}")
        except _NoDoor:
            print(f"ok    {name}: none on this machine")
        except _Open as error:
            print(f"OPEN  {name}: {error}")
        except (_Untested, VdsoTimeError, OSError, subprocess.SubprocessError) as error:
            print(f"skip  {name}: cannot be tested: {error}")
    for name in ENGINES:
        try:
            print(f"ok    {name}: {_engine(name)}")
        except (VdsoTimeError, OSError) as error:
            print(f"skip  {name}: {' '.join(str(error).split())}")
    return 0


def _permission() -> str:
    facts = Facts.read()
    found = obstacle(facts)
    if found is not None:
        raise TracingUnavailable(*found)
    capable = "with" if facts.may_ptrace else "without"
    filtered = "a seccomp filter" if facts.filtered else "no seccomp filter"
    return (
        f"{facts.machine}, traced by nobody, Yama ptrace_scope {facts.yama_scope}, "
        f"{capable} CAP_SYS_PTRACE, {filtered}"
    )


def _system() -> str:
    system = os.uname()
    return f"{system.sysname} {system.release}"


def _native_objects() -> str:
    return ", ".join(sorted(folder.name for folder in NATIVE.glob("*/")))


def _vdso() -> str:
    from pytest_vdsotime.tracer.thread import Tracer

    symbols = Tracer().load().own.host.image.symbols
    return f"every symbol is known: {', '.join(sorted(name for name, _ in symbols))}"


def _memory_files() -> str:
    try:
        os.close(os.memfd_create("vdsotime-check", os.MFD_CLOEXEC | constant("MFD_EXEC")))
    except PermissionError:
        return "may not be executable here (vm.memfd_noexec): programs get the code by a copy"
    except OSError:
        return "are always executable here: the kernel is older than 6.3"
    return "may be executable"


def _ptrace() -> str:
    from pytest_vdsotime.tracer.thread import Tracer

    tracer = Tracer()
    try:
        tracer.start()
    finally:
        tracer.close()
    return "PTRACE_SEIZE of a child works"


def _new_clock() -> FrozenClock:
    from pytest_vdsotime.clock import FrozenClock

    return FrozenClock(_INSTANT)


def _takeover() -> str:
    with _new_clock() as clock:
        read = clock.check_output(["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"], text=True).strip()
    if read != _INSTANT:
        raise VdsoTimeError(f"date on a clock at {_INSTANT} printed {read}")
    return f"date on a clock of its own prints {read}"


CHECKS: Final[Mapping[str, Callable[[], str]]] = {
    "system": _system,
    "native objects": _native_objects,
    "permission": _permission,
    "vDSO": _vdso,
    "memory files": _memory_files,
    "ptrace": _ptrace,
    "takeover": _takeover,
}


def _engine(name: str) -> str:
    # Docker's daemon has programs of other architectures try themselves, under another root.
    with warnings.catch_warnings(), _new_clock() as clock:
        warnings.simplefilter("ignore", RealTimeWarning)
        with clock.containers(name) as engine:
            return f"{engine.server} serves containers on a clock"


# The doors. A program gets numbers as its arguments and prints numbers.

_PRELUDE: Final = """
import ctypes, mmap, os, signal, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
numbers = [int(argument) for argument in sys.argv[1:]]
read = ctypes.create_string_buffer(bytes([255]) * 16)
def call(*arguments):
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return result if result != -1 else -ctypes.get_errno()
def pair(*words):
    return ctypes.create_string_buffer(struct.pack("@%dl" % len(words), *words))
def vdso_time(base, offset):
    value = struct.unpack("@Q", ctypes.string_at(base + offset, 8))[0]
    function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int, ctypes.c_void_p)
    function((base + value) % 2**64)(0, ctypes.addressof(read))
    return struct.unpack("@ll", read.raw[:16])[0]
"""
_GIVEN_VDSO: Final = """
libc.getauxval.restype = ctypes.c_ulong
libc.getauxval.argtypes = (ctypes.c_ulong,)
print(vdso_time(libc.getauxval(33), *numbers))
"""
_KERNELS_VDSO: Final = """
entries = struct.iter_unpack("@QQ", open("/proc/self/auxv", "rb").read())
print(vdso_time(dict(entries)[33], *numbers))
"""
_RAW_CALLS: Final = """
print(call(numbers[0], 0, read), struct.unpack("@ll", read.raw[:16])[0])
"""
# Code in a page of its own, and room for the result in the next, where a 32-bit pointer reaches.
_FOREIGN_CALLS: Final = """
MAP_32BIT = 0x40
pages = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT)
pages[: len(numbers) - 1] = bytes(numbers[1:])
address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
if libc.mprotect(address, 4096, mmap.PROT_READ | mmap.PROT_EXEC):
    sys.exit("no code may be made here: " + os.strerror(ctypes.get_errno()))
function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_uint)(address)
print(function(numbers[0], 0, address + 4096), struct.unpack_from("=i", pages, 4096)[0])
"""
_VSYSCALL: Final = """
print(ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(numbers[0])(None))
"""
_SET_CLOCK: Final = """
print(call(numbers[0], 0, pair(*divmod(numbers[1], 10**9))))
"""
_SLEEP: Final = """
start = time.monotonic_ns()
print(call(numbers[0], 0, 1, pair(0, numbers[1]), None))
print(time.monotonic_ns() - start)
"""
_TIMERFD: Final = """
fd = libc.timerfd_create(0, 0)
start = time.monotonic_ns()
print(call(numbers[0], fd, 1, pair(0, 0, 0, numbers[1]), None))
os.read(fd, 8)
print(time.monotonic_ns() - start)
"""
_TIMER: Final = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
timer = ctypes.c_void_p()
if libc.timer_create(0, None, ctypes.byref(timer)):
    sys.exit("timer_create: " + os.strerror(ctypes.get_errno()))
start = time.monotonic_ns()
print(libc.timer_settime(timer, 1, pair(0, 0, 0, numbers[0]), None))
signal.sigwait([signal.SIGALRM])
print(time.monotonic_ns() - start)
"""


def _numbers(clock: FrozenClock, program: str, *arguments: int) -> list[int]:
    """Return what a program prints."""
    command = [sys.executable, "-I", "-S", "-c", _PRELUDE + program, *map(str, arguments)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RealTimeWarning)
        try:
            done = clock.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except RealTimeWarning as warning:
            raise _Untested(str(warning)) from None
        except subprocess.TimeoutExpired:
            raise _Untested(f"a program took more than {_TIMEOUT_S} s") from None
    if done.returncode == -signal.SIGSEGV:
        raise _NoDoor
    if done.returncode != 0:
        said = done.stderr.strip().rpartition("\n")[2]
        raise _Untested(said or f"a program ended with status {done.returncode}")
    return [int(number) for number in done.stdout.split()]


def _read(way: str, program: str, *arguments: int) -> str:
    """Try a door at which a frozen clock is read, in seconds."""
    with _new_clock() as clock:
        *result, seconds = _numbers(clock, program, *arguments)
    if any(result):
        return f"{way} is refused: {os.strerror(-result[0])}"
    if seconds != 0:
        raise _Open(f"{way} reads {seconds} on a clock at 0")
    return f"{way} reads the clock"


def _wait(way: str, why_not: str, program: str, *arguments: int) -> str:
    """Try a door at which a deadline is left to the kernel."""
    with _new_clock() as clock:
        result, passed_ns = _numbers(clock, program, *arguments, _WAIT_NS)
    if result < 0:
        raise _Untested(f"{way}: {os.strerror(-result)}")
    passed = f"{way} until {_WAIT_NS // 10**6} ms from now lasts {passed_ns / 10**6:.0f} ms"
    if passed_ns < _WAIT_NS:
        raise _Open(f"{passed}: {why_not}")
    return passed


def _number(call: str) -> int:
    return host_arch().abis[0].syscalls[call]


def _given_vdso() -> str:
    from pytest_vdsotime.tracer.thread import Tracer

    return _read(
        "clock_gettime of the fake vDSO",
        _GIVEN_VDSO,
        Tracer().load().own.fake.value_offsets[host_arch().vdso_entries[0]],
    )


def _kernels_vdso() -> str:
    from pytest_vdsotime.tracer.thread import Tracer

    return _read(
        "the image that /proc/self/auxv names",
        _KERNELS_VDSO,
        Tracer().load().own.host.image.value_offsets[host_arch().vdso_entries[0]],
    )


def _raw_calls() -> str:
    return _read("clock_gettime by a system call", _RAW_CALLS, _number("clock_gettime"))


def _foreign_calls() -> str:
    arch = host_arch()
    if not arch.foreign_call:
        return "none on this architecture"
    number = arch.abis[1].syscalls["clock_gettime"]
    return _read("clock_gettime by int 0x80", _FOREIGN_CALLS, number, *arch.foreign_call)


def _foreign_programs() -> str:
    for arch in host_arch().runs_too:
        status = _status_of(arch.time_program)
        if status < 0:
            raise _Untested(f"a program of {arch.name} died: {signal.Signals(-status).name}")
        if status != _SECOND:
            raise _Open(f"time() of {arch.name} reads another time on a clock at {_SECOND}")
        return f"time() of {arch.name} reads the clock"
    return "none on this architecture"


def _status_of(program: bytes) -> int:
    """Of a program on a clock at _SECOND."""
    from pytest_vdsotime.clock import FrozenClock

    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        path = Path(directory, "program")
        path.write_bytes(program)
        path.chmod(0o755)
        warnings.simplefilter("error", RealTimeWarning)
        try:
            with FrozenClock(_SECOND) as clock:
                return clock.call([path], timeout=_TIMEOUT_S)
        except RealTimeWarning as warning:
            raise _Open(str(warning)) from None
        except OSError as error:
            raise _NoDoor if error.errno == errno.ENOEXEC else error from None


def _vsyscall() -> str:
    if not host_arch().vsyscall_time:
        return "none on this architecture"
    with open("/proc/self/maps") as maps:
        is_closed = any("--xp" in line and "[vsyscall]" in line for line in maps)
    way = f"time() of the{' execute-only' if is_closed else ''} page"
    return _read(way, _VSYSCALL, host_arch().vsyscall_time)


def _set_clock() -> str:
    """To the host's own time: were it the host's clock, no harm would be done."""
    instant_ns = time.time_ns()
    with _new_clock() as clock:
        (result,) = _numbers(clock, _SET_CLOCK, _number("clock_settime"), instant_ns)
        moved_to_ns = clock.time_ns()
    if result < 0:
        return f"clock_settime is refused: {os.strerror(-result)}"
    if moved_to_ns != instant_ns:
        raise _Open("clock_settime reaches the host's clock")
    return "clock_settime moves the program's clock, not the host's"


def _sleep() -> str:
    return _wait(
        "clock_nanosleep", "it went to the host's clock", _SLEEP, _number("clock_nanosleep")
    )


def _timerfd() -> str:
    why_not = "/proc/PID/fdinfo does not tell its clock"
    return _wait("timerfd_settime", why_not, _TIMERFD, _number("timerfd_settime"))


def _timerfd_jump() -> str:
    from pytest_vdsotime.clock import FrozenClock

    with FrozenClock(_INSTANT, autojump=True) as clock:
        try:
            _numbers(clock, _TIMERFD, _number("timerfd_settime"), _WAIT_NS)
        except _Untested as error:
            raise _Open(f"a timerfd does not follow its clock: {error}") from None
    return "a timerfd expires as its clock jumps"


def _timer() -> str:
    why_not = "/proc/PID/timers does not tell its clock (CONFIG_CHECKPOINT_RESTORE)"
    return _wait("timer_settime", why_not, _TIMER)


DOORS: Final[Mapping[str, Callable[[], str]]] = {
    "vDSO reads": _given_vdso,
    "the kernel's vDSO": _kernels_vdso,
    "raw calls": _raw_calls,
    "32-bit calls": _foreign_calls,
    "32-bit programs": _foreign_programs,
    "vsyscall page": _vsyscall,
    "setting the clock": _set_clock,
    "deadlines": _sleep,
    "timerfd deadlines": _timerfd,
    "timerfd expirations": _timerfd_jump,
    "timer deadlines": _timer,
}
