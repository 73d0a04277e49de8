"""FrozenClock: what a test holds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, Unpack, cast, overload

from pytest_vdsotime import instants, timeline, verbs
from pytest_vdsotime.instants import Instant, Span, TimedeltaKeywords
from pytest_vdsotime.options import ClockParameters, Options, validate_options
from pytest_vdsotime.session import ClockSession, TracerHolder, Verb
from pytest_vdsotime.verbs import SETTLE_TIMEOUT_S, AsyncVerbs

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from os import PathLike
    from types import EllipsisType

    from pytest_vdsotime.containers import ContainerEngine
    from pytest_vdsotime.control.server import ControlServer
    from pytest_vdsotime.popen import Command, File, FrozenPopen, PopenKeywords, Word
    from pytest_vdsotime.processes import AttachedProcess, PendingWait, TracedProcess
    from pytest_vdsotime.tracer.thread import Tracer

F = TypeVar("F")


class _OnClock(Generic[F]):
    """A function of the standard library's `subprocess` whose programs are on a clock.

    It has the function's parameters and types.
    """

    def __init__(self, _function: F, doc: str) -> None:
        self.__doc__ = doc
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, clock: FrozenClock | None, owner: type) -> F:
        found = self if clock is None else clock._subprocess_functions[self._name]
        return cast("F", found)


class FrozenClock:
    """A clock for real programs.

    As a context manager or the fixture `frozen_clock`::

        with FrozenClock("2038-01-19", monotonic="freeze") as clock:
            server = clock.popen(["./server", "--ttl", "1h"], stdout=PIPE)
            clock.advance(hours=1)  # its timers fire; returns when it waits again

    Programs started through it, and what they start, read two lines over real time: the wall line
    and the monotonic one. Leaving it kills what is left. Any thread may use it.

    Args:
        start: where the wall line is: ISO 8601 string, datetime (naive is UTC), date, seconds since
            the epoch, timedelta or span (``"-15d"``, ``"2 days ago"``) from now, or None for now;
            any instant from 0001 to 9999.
        rate: seconds of the wall line per real second: 0 frozen, 1 ticking, 60 a minute a second.
        monotonic: the other line flows on from the host's own value at rate 1 (``"flow"``),
            stands still (``"freeze"``), or moves at the wall's rate (``"rate"``).
        waits: timed waits and timers obey their line (``"follow"``), or the kernel (``"real"``,
            with absolute deadlines translated).
        autojump: whenever all programs wait, or have for that many real seconds, on to the next
            deadline. The monotonic line stands still otherwise: waiting takes no time. Work does,
            once the programs have been busy for 0.1 s of real time without rest.
        stride: how finely time passes in `advance` and by `autojump`: from deadline to deadline
            (None), or by so many seconds, a timedelta or a span (``"1h"``) at once.
        grace: waits of at most so many seconds pass in real time while nobody moves a frozen
            monotonic line. That goes on by the length of each, by five times `grace` at most until
            the test moves or asks the clock again.
        patience: for so many real seconds at most the clock moves to no deadline while a program
            waits for the answer of a peer off the clock, such as a mock server in the test process.
        python: the test process's own Python clock (`time.time`, `datetime.now`) reads the wall
            line too, until `close`; by time-machine, ``pytest-vdsotime[python]``.
        only: patterns (fnmatch) of the programs on the clock, by file name or path: at each exec it
            is decided anew. The others run in real time, and nothing waits for them; what they
            execute may be on the clock. None: all programs.
        skip: patterns of the programs that run in real time, whatever `only` says.
        files: time stamps of files, and what /proc tells of the machine's time, are the host's
            (``"real"``), or as the clock has them (``"follow"``): a file that was written while it
            read T says T. Stamps from before it and those that programs set are what they are.

    Raises:
        TypeError, ValueError: bad parameters, before anything is started.
        ImportError: `python` without time-machine, likewise.
    """

    _last_words = ""
    """The description of a clock that an exception ended."""

    def __init__(
        self,
        start: Instant = None,
        *,
        rate: float = 0.0,
        monotonic: str = "flow",
        waits: str = "follow",
        autojump: bool | float = False,
        stride: Span | None = None,
        grace: float = 0.02,
        patience: float = 1.0,
        python: bool = False,
        only: Iterable[str] | None = None,
        skip: Iterable[str] | None = None,
        files: str = "real",
    ) -> None:
        self.session = ClockSession(
            validate_options(
                start,
                rate=rate,
                monotonic=monotonic,
                waits=waits,
                autojump=autojump,
                stride=stride,
                grace=grace,
                patience=patience,
                python=python,
                only=only,
                skip=skip,
                files=files,
            )
        )

    # --- reading ---------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The wall line, as an aware UTC datetime rounded to microseconds. Raises ClockClosed."""
        return timeline.to_datetime(self.time_ns())

    def time_ns(self) -> int:
        """Return the wall line, in nanoseconds since the epoch, exact."""
        self.session.check_open()
        self.session.asks()
        return self.session.wall_ns()

    def time(self) -> float:
        """Return the wall line, in seconds since the epoch."""
        return self.time_ns() / timeline.NS_PER_S

    def monotonic_ns(self) -> int:
        """Return the monotonic line: what programs read from CLOCK_MONOTONIC, in nanoseconds."""
        self.session.check_open()
        self.session.asks()
        return self.session.monotonic_ns()

    # --- moving ----------------------------------------------------------------------------------

    def advance(
        self,
        delta: Span | None = None,
        /,
        *,
        stride: Span | EllipsisType | None = ...,
        timeout: float = 5.0,
        **timedelta_kwargs: Unpack[TimedeltaKeywords],
    ) -> None:
        """Time passes: both lines move on by seconds, a timedelta, ``"1h30m"`` or ``hours=1``.

        The programs settle first (see `settle`). Then whatever is due by the new time ends or
        fires, one deadline after the other, those of one instant in the order in which they were
        set, and the programs settle after each. With a `stride`, by default the clock's, time goes
        on by so much at once: what is due within one ends or fires at its end, once, and the
        programs settle. So a month of a program that wakes ten times a second costs as many steps
        as strides::

            clock.advance(days=30, stride="1h")

        What it costs is deadlines: 0.03 to 0.1 ms of real time each for a lone program, more beside
        many others; `stride` and `jump` are the ways to fewer steps. One that takes long says so on
        the terminal, past pytest's capture, after ten real seconds and then each thirty: how far it
        is, and which programs wake how often. Ctrl-C stops it at the next deadline.

        Raises:
            ValueError: negative, not finite, or beyond the year 9999; a stride of no length.
            TypeError: no or several amounts, unknown keywords.
            NotSettled: the programs did not, `timeout` real seconds long after one of the
                deadlines; the clock stays where it got to.
        """
        self.session.perform(verbs.advance(self.session, delta, timedelta_kwargs, stride, timeout))

    def jump(
        self,
        delta: Span | None = None,
        /,
        *,
        timeout: float = 5.0,
        **timedelta_kwargs: Unpack[TimedeltaKeywords],
    ) -> None:
        """Jump on, as if the machine had slept for that long: `advance` in one stride.

        What is due by then ends or fires once, late, at the end: a timerfd counts all its
        expirations, a ticker goes on from the new now. It costs what waits, not what would have
        been due::

            clock.jump(days=30)

        Raises what `advance` raises.
        """
        self.session.perform(verbs.jump(delta, timedelta_kwargs, timeout))

    def advance_to_next(self) -> datetime | None:
        """On to the earliest pending deadline, as `advance` does.

        Returns the wall line's reading, None if nothing waits for a deadline.

        Raises:
            NotSettled, ValueError: as `advance`.
        """
        return self.session.perform(verbs.advance_to_next())

    def settle(self, timeout: float = SETTLE_TIMEOUT_S) -> None:
        """Return when every traced thread is blocked or stopped.

        Raises NotSettled, which names the busy ones, after `timeout` real seconds.
        """
        self.session.perform(verbs.settle(timeout))

    @property
    def waits(self) -> list[PendingWait]:
        """What the traced threads wait for that a deadline will end, the soonest first.

        Each has `pid`, `tid`, `command`, `syscall`, `clock`, `deadline_ns` and `remaining` seconds.
        """
        self.session.check_open()
        if not self.session.has_started:
            return []
        from pytest_vdsotime.processes import pending_waits

        return self.session.perform(Verb("", pending_waits)) or []

    def move_to(self, when: Instant) -> None:
        """Set the clock: the wall line is at `when`, the monotonic one stays.

        Waits until a point of the wall clock notice; returns when the programs have settled.

        Takes every form of `start`; a timedelta and a span count from the clock's own now, None is
        the host's now. Raises TypeError, ValueError; NotSettled as `settle` does.
        """
        self.session.perform(verbs.move_to(self.session, when))

    @property
    def rate(self) -> float:
        """Seconds of the wall line per real second; set it to go on at another rate from here.

        It is finite and not negative, else TypeError or ValueError.
        """
        return self.session.rate

    @rate.setter
    def rate(self, value: float) -> None:
        self.session.perform(verbs.set_rate(value))

    @cached_property
    def aio(self) -> AsyncVerbs:
        """The verbs that move the clock or settle, and `close`, for async tests.

        ``await clock.aio.advance(60)``: the event loop, and a server of the test's own on it, runs
        on meanwhile. `rate` is set by ``await clock.aio.set_rate(60)``.
        """
        return AsyncVerbs(self.session)

    def serve(self, address: str | None = None) -> ControlServer:
        """Serve the clock over HTTP, as ``vdsotime --control`` does, for tests in any language.

        ``unix:PATH``, ``127.0.0.1:PORT`` (0: any free one), or by default a Unix socket in a
        directory of its own. The returned server is a context manager, with `close`, and ends with
        the clock; its `environ` are the variables by which programs and ``vdsotime ctl`` find it::

            with clock.serve() as server:
                clock.run(["go", "test", "./..."], env={**os.environ, **server.environ})

        Raises ValueError and OSError for an address that cannot be, ClockClosed.
        """
        from pytest_vdsotime.control.server import ControlServer

        return ControlServer.serve(self.session, address)

    # --- programs --------------------------------------------------------------------------------

    @property
    def processes(self) -> list[TracedProcess]:
        """The processes on this clock that are alive, by pid.

        Each has `pid`, `ppid`, `argv` and `has_read_clock` ("did it take effect?").
        """
        found = self.session.processes()
        self.session.raise_news()
        return found

    def attach(self, pid: int, *, children: bool = False) -> AttachedProcess:
        """Take over a running process, all its threads and what they start from now on.

        With `children` what it has started before, and those have, comes with it, as far as that is
        on no clock yet; else a RealTimeWarning counts what stays in real time.

        Kernel waits that are under way end in real time, the next ones follow the clock. The
        returned object's `close`, or the clock's, lets the process and what it has started go,
        alive, in real time, it itself with its own vDSO at its place again. Every system call of
        them stops meanwhile, as a running program can be given no seccomp filter that it would be
        rid of again. For a child of this process: wait for it once it was let go or has ended, as
        Linux would show each of its stops to `waitpid`, and so to `Popen.poll`, before that.

        Raises:
            TypeError, ValueError: not the pid of another process that is on no clock yet.
            ProcessLookupError: there is no such process.
            TracingUnavailable: it may not be traced, or another process traces it.
            UnsupportedProgram: it cannot be given the clock; it runs on as it was, or was killed
                where the text says so.
        """
        return self.session.attach(pid, children=children)

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        text: Literal[True],
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        encoding: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        errors: str,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        universal_newlines: Literal[True],
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[str]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        text: Literal[False] | None = None,
        universal_newlines: Literal[False] | None = None,
        encoding: None = None,
        errors: None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[bytes]: ...

    @overload
    def popen(
        self,
        args: Command,
        *more: Any,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **keywords: Unpack[PopenKeywords],
    ) -> FrozenPopen[Any]: ...

    def popen(self, args: Any, *more: Any, **keywords: Any) -> FrozenPopen[Any]:
        """Start a program on this clock.

        A `subprocess.Popen`, with the same parameters and exceptions. It ends with the clock at the
        latest::

            server = clock.popen(["redis-server", "--port", "0"], stdout=PIPE, text=True)

        Warns with RealTimeWarning, here or in the next call, of a program that runs in real time.

        Raises:
            ClockClosed: this clock is closed, or was inherited through fork.
            FileNotFoundError, PermissionError, OSError: as `subprocess.Popen`.
            TracingUnavailable: programs cannot be traced here; it has `reason` and `remedy`.
            UnsupportedProgram: it could not be given the clock, and was killed.
        """
        from pytest_vdsotime.patching import start_program

        return start_program(self.session, args, *more, **keywords)

    run = _OnClock(
        subprocess.run,
        """`subprocess.run` on this clock, for what ends without the test's help::

            year = clock.run(["date", "+%Y"], capture_output=True, text=True).stdout

        `timeout` is in real seconds; the TimeoutExpired has a note of what each thread waits for.
        Raises what `subprocess.run` and `popen` raise.
        """,
    )
    call = _OnClock(
        subprocess.call,
        """`subprocess.call` on this clock: the exit status. Otherwise as `run`.""",
    )
    check_call = _OnClock(
        subprocess.check_call,
        """`subprocess.check_call` on this clock: CalledProcessError unless the program ends
        with 0. Otherwise as `run`.""",
    )
    check_output = _OnClock(
        subprocess.check_output,
        """`subprocess.check_output` on this clock: what the program printed, CalledProcessError
        unless it ends with 0. Otherwise as `run`.""",
    )

    @cached_property
    def _subprocess_functions(self) -> Mapping[str, Callable[..., Any]]:
        from pytest_vdsotime.patching import subprocess_functions

        return subprocess_functions(self.session)

    async def create_subprocess_exec(
        self,
        program: Word,
        *args: Word,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        limit: int = 2**16,
        **keywords: Any,
    ) -> Process:
        """`asyncio.create_subprocess_exec` on this clock. Raises what it raises, and as `popen`.

        The tracer tells of the end, not the event loop's child watcher: it works on every loop of
        every thread.
        """
        self.session.load()
        from pytest_vdsotime.aio import create_subprocess

        pipes: dict[str, File] = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await create_subprocess(
            self.session, "exec", program, *args, limit=limit, **pipes, **keywords
        )

    async def create_subprocess_shell(
        self,
        cmd: str | bytes,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        limit: int = 2**16,
        **keywords: Any,
    ) -> Process:
        """`asyncio.create_subprocess_shell` on this clock, as `create_subprocess_exec`."""
        self.session.load()
        from pytest_vdsotime.aio import create_subprocess

        pipes: dict[str, File] = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await create_subprocess(self.session, "shell", cmd, limit=limit, **pipes, **keywords)

    def patch_subprocess(self) -> AbstractContextManager[None]:
        """Inside it, the test process's subprocesses start on this clock.

        `subprocess.Popen`, `run` and the like, under whatever name they were imported, classes
        derived from Popen, and those of asyncio's event loops and uvloop's. Leaving it undoes it
        exactly::

            with clock.patch_subprocess():
                subprocess.run(["./job.sh"])

        Where nothing can be traced, what starts a program raises TracingUnavailable.
        """
        from pytest_vdsotime.patching import patch_subprocess

        return patch_subprocess(self.session)

    def containers(
        self,
        engine: str | None = None,
        *,
        args: Iterable[str] = (),
        data_root: str | PathLike[str] | None = None,
    ) -> AbstractContextManager[ContainerEngine]:
        """Have an engine whose containers are on this clock, for as long as the context lasts.

        Inside it docker-py, Testcontainers, Compose, `docker` and `podman` use it, by DOCKER_HOST
        and CONTAINER_HOST; what it runs of its own is in real time::

            with clock.containers() as engine:
                redis = docker.from_env().containers.run("redis", detach=True, ports={6379: None})
                clock.jump(days=30)

        When it ends no container, mount, network, process or file of it is left, nor does it if the
        test process is killed.

        Args:
            engine: ``"podman"``: Podman's service, with the user's images; ``"docker"``: Docker's
                daemon, as root, with images of its own, which come by pull or load; None: the first
                that is there.
            args: further arguments for ``podman system service`` or ``dockerd``.
            data_root: where Docker's daemon keeps its images, to find them again.

        Raises:
            ValueError, TypeError: an unknown engine, `args` that is no list of strings.
            VdsoTimeError: there is no engine, it did not start, or it has left something; the text
                has the last lines of what it said.
            TracingUnavailable, ClockClosed: as `popen`.
        """
        from pytest_vdsotime.containers import containers

        return containers(self.session, engine, args, data_root)

    # --- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Kills every program on this clock and reaps it. Idempotent.

        Raises what was still to be told: UnsupportedProgram for a program that was killed unseen.
        """
        self.session.close()

    def __enter__(self) -> FrozenClock:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if error is not None and not self.session.is_closed:
            from pytest_vdsotime.events import MAX_EVENTS

            self._last_words = self.describe(events=MAX_EVENTS)
        self.close()

    def __repr__(self) -> str:
        if self.session.is_closed:
            return "<FrozenClock closed>"
        now = instants.format_instant(self.session.wall_ns())
        return f"<FrozenClock {now} rate={self.rate:g}>"

    def describe(self, *, events: int = 0) -> str:
        """Return in words where the clock stands and what each traced thread does now.

        With the last `events` events. Never raises.
        """
        return self._last_words or self.session.describe(events=events)


class FrozenClockFactory(Protocol):
    """The type of the fixture `frozen_clock_factory`."""

    def __call__(self, start: Instant = None, **parameters: Unpack[ClockParameters]) -> FrozenClock:
        """Make one more clock, with the parameters of `FrozenClock`.

        The ini options are the defaults of what is not given, but for the start, which is now. The
        clock is closed behind the test, or behind the fixture that has made it.
        """


def clock_on(
    tracer: Tracer | TracerHolder, start: Instant = None, **parameters: Any
) -> FrozenClock:
    """Return a clock of these parameters on a tracer that other clocks share, as the plugin's do.

    Raises what `FrozenClock` raises.
    """
    holder = tracer if isinstance(tracer, TracerHolder) else TracerHolder(tracer)
    return clock_with(validate_options(start, **parameters), holder)


def clock_with(options: Options, holder: TracerHolder) -> FrozenClock:
    """Return a clock of parameters that were checked before."""
    clock = FrozenClock.__new__(FrozenClock)
    clock.session = ClockSession(options, holder)
    return clock
