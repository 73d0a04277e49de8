"""FrozenPopen: a `subprocess.Popen` whose program is on a clock, and what is built on it.

The standard library starts it, as always, with another fork and exec below it (spawning.py): the
child waits until the tracer has seized it, and then executes the program.
The exit status comes from the tracer: a waitpid here would take away its stops.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any, AnyStr, TypeAlias, TypedDict, cast

from pytest_vdsotime.errors import Short, VdsoTimeError
from pytest_vdsotime.future import Future
from pytest_vdsotime.session import ClockSession
from pytest_vdsotime.spawning import (
    Spawning,
    candidates_of,
    ignored_privilege,
    is_own_code,
    program_of,
)
from pytest_vdsotime.standard import Standard
from pytest_vdsotime.tracer.state import Launch, Process
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from subprocess import Popen
else:
    Popen = Standard.Popen

Word: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
Command: TypeAlias = "Word | Sequence[Word]"
File: TypeAlias = "int | IO[Any] | None"
Environment: TypeAlias = "Mapping[bytes, Word] | Mapping[str, Word] | None"


class PopenKeywords(TypedDict, total=False):
    """Of `subprocess.Popen`, but for those that decide between text and bytes."""

    bufsize: int
    executable: Word | None
    stdin: File
    stdout: File
    stderr: File
    preexec_fn: Callable[[], object] | None
    close_fds: bool
    shell: bool
    cwd: Word | None
    env: Environment
    startupinfo: Any
    creationflags: int
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None


class FrozenPopen(Popen[AnyStr]):
    """A program on a clock. Made by `FrozenClock.popen`; everything else is `subprocess.Popen`'s.

    Raises what `subprocess.Popen` raises, and TracingUnavailable, UnsupportedProgram, ClockClosed.
    """

    _forget: Callable[[Future[int]], None]
    _exited: Future[int] | None = None
    """The status to come; None for a program that is not traced, which the standard library waits
    for."""

    def __init__(
        self, *args: Any, session: ClockSession, is_engine: bool = False, **keywords: Any
    ) -> None:
        """Start it. `is_engine`: a container engine, in real time with all but its containers."""
        self._session = session
        self._is_engine = is_engine
        with Short():
            super().__init__(*args, **keywords)
        session.programs.add(self)
        if self._exited is not None:
            self._exited.then(partial(session.programs.has_ended, self))
        try:
            session.raise_news()
        except BaseException:
            self.end()
            raise

    # subprocess calls it with positional arguments; those behind `shell` differ between versions
    # of Python.
    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Callable[[], Any] | None,
        close_fds: bool,
        pass_fds: Sequence[int],
        cwd: Any,
        env: Mapping[Any, Any] | None,
        startupinfo: Any,
        creationflags: int,
        shell: bool,
        *rest: Any,
    ) -> None:
        execute_child = super()._execute_child  # type: ignore[misc]
        argv, program = program_of(args, executable, shell)
        privilege = ignored_privilege(program, env, cwd)
        if privilege is not None:
            execute_child(
                *(args, executable, preexec_fn, close_fds, pass_fds, cwd, env),
                *(startupinfo, creationflags, shell, *rest),
            )
            self._session.leave_untraced(
                self, f"{program} is {privilege}, which the kernel ignores for traced programs"
            )
            return
        tracer, world = self._session.start_tracing()
        native = tracer.load()
        exited: Future[int] = Future()
        launch = Launch(argv=argv)
        process = Process(0, world, exited=exited, launch=launch, is_engine=self._is_engine)
        self._exited = exited
        self._forget = tracer.forget
        is_alone = preexec_fn is None and is_own_code()
        keeps_identity = rest[_IDENTITY] == (None, None, None)
        spawning = Spawning(
            *(tracer, process, native.calls.filter(*world.filter)),
            shares_memory=is_alone and keeps_identity,
        )
        if is_alone:
            spawning.execute_child(
                *(self, args, executable, None, close_fds, pass_fds, cwd, env),
                *(startupinfo, creationflags, shell, *rest),
            )
        else:
            kept_fds = pass_fds if close_fds else None
            become = spawning.after_fork(
                preexec_fn, argv, candidates_of(program, env), env, kept_fds
            )
            execute_child(
                *(args, executable, become, close_fds, pass_fds, cwd, env),
                *(startupinfo, creationflags, shell, *rest),
            )
            spawning.announce_forked(self.pid)
        self._await_start(tracer, launch, program, spawning.failure)

    def _await_start(
        self,
        tracer: Tracer,
        launch: Launch,
        program: Any,
        failure: Callable[[int, Any], Exception],
    ) -> None:
        """Wait until the child has become the program; raise what made it fail."""
        try:
            number = launch.ended.result()
        except ProcessLookupError:  # it was killed before
            self._exited = None
            return
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            if launch.ended.is_given():  # it is not traced; otherwise Ctrl-C ended the waiting
                self._exited = None
                self._wait(timeout=None)
            raise
        finally:
            tracer.forget(launch.ended)
        if number:
            self.returncode = 255
            raise failure(number, program)

    @property
    def exited(self) -> Future[int] | None:
        """The status to come, as waitpid gives it; None for a program that is not traced."""
        return self._exited

    def end(self) -> None:
        """Kill and reap it and close its pipes, unless its end was seen."""
        if self.returncode is not None:
            return
        try:
            # Not `kill`, which may warn of another program, and so leave this one.
            if self._internal_poll() is None:
                os.kill(self.pid, signal.SIGKILL)
        except PermissionError:
            return  # a set-user-ID program has become another user's
        except (ProcessLookupError, VdsoTimeError):
            pass  # it has ended; or the tracer has failed, and says so elsewhere
        self._close_pipes()
        self._wait(timeout=None)

    def __del__(self, *args: Any, **keywords: Any) -> None:
        """Reap in silence what has ended: it is the clock's to see to, not the test's."""
        if self._exited is not None and self.returncode is None and self._exited.is_given():
            with suppress(VdsoTimeError):  # the tracer has failed, and says so elsewhere
                self._collect()
            self._close_pipes()
        super().__del__(*args, **keywords)

    def _close_pipes(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):  # what was still to be written to it
                    stream.close()

    def _collect(self) -> None:
        """Take over the status that has come."""
        assert self._exited is not None
        try:
            self.returncode = os.waitstatus_to_exitcode(self._exited.result())
        except VdsoTimeError:
            self.returncode = -signal.SIGKILL  # by which a failing tracer ends its programs
            raise
        self._forget(self._exited)
        self._session.programs.release(self)

    def _internal_poll(self, *args: Any, **keywords: Any) -> int | None:
        if self._exited is None:
            is_new = self.returncode is None
            status: int | None = super()._internal_poll(*args, **keywords)  # type: ignore[misc]
            if is_new and status is not None:
                self._session.programs.release(self)
            return status
        if self.returncode is None and self._exited.is_given():
            self._collect()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._exited is None:
            status: int = super()._wait(timeout)  # type: ignore[misc]
            self._session.programs.release(self)
            return status
        if self.returncode is None:
            if not self._exited.wait(timeout):
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._collect()
        return self.returncode

    def poll(self) -> int | None:
        """As `subprocess.Popen.poll`."""
        status = super().poll()
        self._session.raise_news()
        return status

    def communicate(
        self, input: AnyStr | None = None, timeout: float | None = None
    ) -> tuple[AnyStr, AnyStr]:
        """As `subprocess.Popen.communicate`; `timeout` is real time."""
        with Short(), self._explained():
            output = super().communicate(cast("Any", input), timeout)
            return cast("tuple[AnyStr, AnyStr]", output)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Have a timeout say what the programs wait for."""
        try:
            yield
        except subprocess.TimeoutExpired as error:
            if not hasattr(error, "__notes__"):  # `communicate` calls `wait`
                error.add_note(self._session.describe())
            raise

    def wait(self, timeout: float | None = None) -> int:
        """As `subprocess.Popen.wait`; `timeout` is real time."""
        with Short(), self._explained():
            status = super().wait(timeout)
        self._session.raise_news()
        return status

    def when_exited(self, then: Callable[[], None]) -> None:
        """Call `then` when the program has ended.

        On the tracer thread, at once if it has, or on a thread of its own for a program that is not
        traced.
        """
        if self._exited is not None:
            self._exited.then(then)
            return

        def wait() -> None:
            self._wait(timeout=None)
            then()

        threading.Thread(target=wait, name="vdsotime-wait", daemon=True).start()


# Where subprocess has gid, gids and uid among the parameters behind `shell`.
_IDENTITY = slice(7, 10)
