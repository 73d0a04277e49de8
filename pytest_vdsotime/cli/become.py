"""COMMAND takes the place of ``vdsotime``.

COMMAND is not a child of ``vdsotime``: it takes its place, in the same process, as under ``env``.
So its exit status, signals, job control, terminal, limits and its parent are its own, and
nothing has to be handed on. The tracer is what moves aside: a process outside of the terminal's
session, which lives as long as any program on the clock (as that of ``strace -D``).

    vdsotime (pid 100) --fork--> --fork--> tracer (pid 102): clock made, ready to trace
        | <--------------------------------- "ready"
        waits (native_stub/tracer/spawn.c) <- seizes 100, releases it
        exec COMMAND (pid 100)                takes it over, and whatever it starts

With a trace or an engine the tracer takes note of COMMAND's end and leaves it unreaped until the
trace is written and the engine has ended: until then the kernel reports the end to nobody else
(ptrace(2): "the tracer must wait for it first"; ptrace_reparented of wait_task_zombie,
kernel/exit.c).

A parent that forwards signals was tried first: it cannot tell a signal for itself from one for the
whole process group, nor see when COMMAND stops.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Container, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pytest_vdsotime.abi import constant
from pytest_vdsotime.errors import TracingUnavailable

if TYPE_CHECKING:
    from pytest_vdsotime.control.address import Served
    from pytest_vdsotime.control.server import ControlServer
    from pytest_vdsotime.kernel.spawn import Spawn
    from pytest_vdsotime.session import ClockSession
    from pytest_vdsotime.tracer.state import ClockState
    from pytest_vdsotime.tracer.thread import Tracer

# As env(1) and timeout(1).
EXIT_USAGE, EXIT_OWN_ERROR, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND = 2, 125, 126, 127


def complain(text: str) -> None:
    """Write one line to stderr."""
    with suppress(OSError):  # nobody listens
        os.write(2, f"vdsotime: {' '.join(text.split())}\n".encode(errors="surrogateescape"))


def fail(status: int, text: str) -> NoReturn:
    """Complain, and end with this exit status."""
    complain(text)
    sys.exit(status)


def open_trace(path: str) -> int:
    """Return a descriptor of the file, which is empty now."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        fail(EXIT_USAGE, f"--trace {path}: it cannot be written: {error.strerror}")


class Beside(NamedTuple):
    """What COMMAND finds beside it, by variables of its environment."""

    served: Served | None
    """The clock over HTTP."""
    has_engine: bool
    """An engine whose containers are on the clock; it ends with COMMAND."""


def become(
    command: list[str], parameters: Mapping[str, Any], trace: int | None, beside: Beside
) -> NoReturn:
    """Execute `command` in this process, traced by another. Raises TracingUnavailable, OSError.

    `trace`: the file to write one to.
    """
    served = beside.served
    from pytest_vdsotime.spawning import NO_PIPES, candidates_of, closing_fds, ignored_privilege

    _fill_standard_streams()
    environment = _own_environment()
    if served is not None:
        for name, value in served.environ.items():
            environment[os.fsencode(name)] = os.fsencode(value)
    candidates = candidates_of(command[0], environment)
    privilege = ignored_privilege(command[0], environment, None)
    if privilege is not None:
        complain(
            f"{command[0]} runs in real time: "
            f"it is {privilege}, which the kernel ignores for traced programs; run it as root"
        )
        if served is not None:
            served.remove()
        _restore_signals()
        os.execvpe(command[0], command, environment)
    spawn, (tracer_pid, code, *more), say_go = _start_tracer(command, parameters, trace, beside)
    environment.update(pair.partition(b"=")[::2] for pair in more)
    _rehearse(command, environment)
    # Where Yama lets only ancestors trace; elsewhere it is EINVAL (prctl(2)).
    _libc().prctl(constant("PR_SET_PTRACER"), int(tracer_pid), 0, 0, 0)
    _restore_signals()
    variables = [b"%b=%b" % pair for pair in environment.items()]
    spawn.prepare(
        *(bytes.fromhex(code.decode()), command, candidates, False, (), None, variables, *NO_PIPES),
        restore_signals=False,
        start_new_session=False,
        process_group=-1,
        umask=-1,
    )
    os.write(say_go, b"!")
    for fd in closing_fds():
        with suppress(OSError):  # the listing's own
            os.close(fd)
    spawn.become(parent=os.getppid())
    raise AssertionError("this process is another program, or has ended")


def _fill_standard_streams() -> None:
    """Nothing that is opened from here on gets the number of a standard stream that was closed.

    COMMAND finds it closed, as all that Python opens closes on exec.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _own_environment() -> dict[bytes, bytes]:
    """Return the environment that vdsotime was given: Python adds LC_CTYPE to its own (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().split(b"\0")
    pairs = (entry.partition(b"=") for entry in entries)
    return {name: value for name, equals, value in pairs if equals and name}


def _restore_signals() -> None:
    """Restore what Python ignores at its start (it does not tell whether that was so before)."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _rehearse(command: Sequence[str], environment: Mapping[bytes, bytes]) -> None:
    """Execute `command` in a child up to its first instruction.

    A traced process stops there (ptrace(2)). If the exec fails vdsotime ends, with the status of
    env(1): from then on there is no way back.
    """
    libc, parent = _libc(), os.getpid()

    def stop_at_exec() -> None:
        libc.prctl(constant("PR_SET_PDEATHSIG"), signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # which has been killed before
            os._exit(EXIT_OWN_ERROR)
        if libc.ptrace(constant("PTRACE_TRACEME"), 0, 0, 0) == -1:
            raise OSError(ctypes.get_errno(), "PTRACE_TRACEME")

    try:
        rehearsal = subprocess.Popen(
            command, preexec_fn=stop_at_exec, close_fds=False, env=environment
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        fail(EXIT_NOT_FOUND, f"{command[0]}: {error.strerror}")
    except (OSError, ValueError) as error:
        fail(EXIT_NOT_EXECUTABLE, f"{command[0]}: {getattr(error, 'strerror', error)}")
    os.kill(rehearsal.pid, signal.SIGKILL)  # Popen.kill would take the stop for the end
    rehearsal.returncode = -signal.SIGKILL
    _reap(rehearsal.pid)


def _reap(pid: int) -> None:
    try:
        while os.WIFSTOPPED(os.waitpid(pid, 0)[1]):
            pass
    except ChildProcessError:
        pass  # vdsotime was started with SIGCHLD ignored: the kernel reaps (wait(2))


def _start_tracer(
    command: list[str], parameters: Mapping[str, Any], trace: int | None, beside: Beside
) -> tuple[Spawn, list[bytes], int]:
    """Fork the tracer.

    Return how this process is to start; the tracer's pid, the seccomp filter in hexadecimal digits
    and more variables for COMMAND; and a pipe: the tracer goes ahead when something was written to
    it and it is closed.

    Raises TracingUnavailable, OSError.
    """
    import pytest_vdsotime.session  # noqa: F401  (here, so that it is loaded once)
    from pytest_vdsotime.arch import host_arch
    from pytest_vdsotime.image import tracer_path
    from pytest_vdsotime.kernel.spawn import Spawn, Spawner

    spawn = Spawn(Spawner(tracer_path(host_arch())), shares_memory=False)
    program = os.getpid()
    ready, is_ready = os.pipe()
    go, say_go = os.pipe()
    intermediate = os.fork()
    if intermediate == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                served = beside.served
                listener = None if served is None else served.listener.fileno()
                _close_all_but({2, is_ready, go, trace, listener})
                story = None if trace is None else _begin_story(trace, command)
                _trace(program, spawn, command, parameters, (is_ready, go), beside, story)
        finally:
            os._exit(0)
    _reap(intermediate)
    os.close(is_ready)
    os.close(go)
    with open(ready, "rb") as pipe:
        outcome, *details = pipe.read().split(b"\0")
    if outcome == b"ready":
        return spawn, details, say_go
    if outcome == b"unavailable":
        raise TracingUnavailable(details[0].decode(), details[1].decode())
    raise OSError(details[0].decode() if details else "its tracer was killed")


# The tracer's process.


class _Spoken(deque[Any]):
    """News of a clock that nobody asks: each is said as it comes."""

    def append(self, news: Any) -> None:
        complain(str(news))


def _close_all_but(kept: Container[int | None]) -> None:
    """Close what the tracer would keep open for COMMAND's readers, and locked for others."""
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in kept:
            with suppress(OSError):  # the listing's own
                os.close(fd)


def _trace(
    program: int,
    spawn: Spawn,
    command: list[str],
    parameters: Mapping[str, Any],
    pipes: tuple[int, int],
    beside: Beside,
    story: ExitStack | None,
) -> None:
    """Trace process `program` until nothing is left of it and of what it started.

    From when it waits for the tracer. `pipes`: to say that it may, and from which it says that it
    goes ahead; `story` writes the trace.
    """
    from pytest_vdsotime.kernel import descriptors
    from pytest_vdsotime.options import validate_options
    from pytest_vdsotime.session import ClockSession

    os.chdir("/")
    is_ready, go = pipes
    ends = _Ends(story)
    try:
        try:
            pidfd = descriptors.of_process(program)
            session = ClockSession(validate_options(**parameters))
            tracer, world = session.start_tracing()
            if beside.served is not None:
                from pytest_vdsotime.control.server import ControlServer

                ends.server = ControlServer(session, beside.served)
            more = []
            if beside.has_engine:
                ends.engine = ExitStack()
                more = _start_engine(session, ends.engine)
        except TracingUnavailable as error:
            os.write(is_ready, f"unavailable\0{error.reason}\0{error.remedy}".encode())
            return
        except Exception as error:
            os.write(is_ready, f"failed\0{error}".encode())
            return
        world.warnings = _Spoken()
        world.errors = _Spoken()
        code = tracer.load().calls.filter(*world.filter).hex().encode()
        os.write(is_ready, b"\0".join([b"ready", b"%d" % os.getpid(), code, *more]))
        os.close(is_ready)
        if os.read(go, 1) == b"" or os.read(go, 1) or _has_ended(pidfd):
            return  # vdsotime has ended before it could wait
        try:
            _follow(program, spawn, command, (tracer, world), ends)
        except Exception as error:
            complain(str(error))
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # it may be waiting for us
            return
        ends.with_all()  # a request that has ended the last program is answered first
        session.close()
    finally:
        ends.with_command()
        ends.with_all()


def _begin_story(trace: int, command: list[str]) -> ExitStack:
    from pytest_vdsotime.report.trace import recorded

    story = ExitStack()
    story.enter_context(recorded(trace, command))
    return story


@dataclass(slots=True)
class _Ends:
    """What is to end with COMMAND, or with all that it has left."""

    story: ExitStack | None
    """Writes the trace."""
    engine: ExitStack | None = None
    server: ControlServer | None = None

    @property
    def is_any(self) -> bool:
        """Something is to end before the end of COMMAND is reported."""
        return (self.story or self.engine) is not None

    def with_command(self) -> None:
        """End the engine, and write the trace. Idempotent."""
        if self.engine is not None:
            self.engine.close()
        if self.story is not None:
            try:
                self.story.close()
            except OSError as error:
                complain(f"the trace is not complete: {error.strerror}")

    def with_all(self) -> None:
        """End the server. Idempotent."""
        if self.server is not None:
            self.server.close()


def _start_engine(session: ClockSession, engine: ExitStack) -> list[bytes]:
    """Return the variables by which COMMAND finds it. Raises VdsoTimeError."""
    from pytest_vdsotime.containers import containers

    found = engine.enter_context(containers(session, None, (), None))
    return [os.fsencode("=".join(pair)) for pair in found.environment.items()]


def _follow(
    program: int,
    spawn: Spawn,
    command: list[str],
    clock: tuple[Tracer, ClockState],
    ends: _Ends,
) -> None:
    from pytest_vdsotime.future import Future
    from pytest_vdsotime.kernel.wait import reap
    from pytest_vdsotime.tracer.state import Launch, Process

    tracer, world = clock
    launch, exited = Launch(argv=command), Future[int]()
    process = Process(0, world, exited=exited, launch=launch, is_spared=ends.is_any)
    tracer.post(lambda loop: loop.launching.start(process, spawn, program), launch.ended, exited)
    if number := launch.ended.result():
        complain(f"it could be executed a moment ago, and now not: {os.strerror(number)}")
    exited.result()
    tracer.operate(lambda operations: operations.stay(world))
    if ends.is_any:
        ends.with_command()
        if ends.story is not None:
            world.history.stop_recording()
        reap(program)  # now its end is reported
        tracer.call(lambda loop: loop.shortcuts.choose())  # what stopped for the trace alone
    # Those who wait for the end of its output need not wait for that of its daemons.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while left := tracer.call(lambda _loop: [*world.everyone]):
        for pid in left:
            _wait_for_end(pid)


def _wait_for_end(pid: int) -> None:
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        select.select([pidfd], [], [])
        os.close(pidfd)


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])
