"""What the test process starts past `subprocess`, on the clock that is patched in.

A child that `os.fork` has made runs in real time, seen by nobody; when it is about to execute a
program, an audit hook in it (PEP 578) has it wait until the tracer has seized it, at a gate in
memory that all such children share (kernel/spawn.py). `os.system`, `os.posix_spawn` and
`multiprocessing.util.spawnv_passfds` start their child inside C, so functions of ours stand in
their place. What reaches the C functions past those, and forks that execute nothing, run in real
time, which a warning says for each place.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_vdsotime import forked_starts
from pytest_vdsotime.child_waits import ChildWaits
from pytest_vdsotime.errors import RealTimeWarning, UnsupportedProgram, VdsoTimeError
from pytest_vdsotime.importing import once_imported
from pytest_vdsotime.kernel import procfs
from pytest_vdsotime.session import ClockSession

if TYPE_CHECKING:
    from pytest_vdsotime.kernel.spawn import Gate
    from pytest_vdsotime.tracer.loop import Loop
    from pytest_vdsotime.tracer.thread import Tracer

#: A place in a program's text.
Place = tuple[str, int]

_FORKS = frozenset({"os.fork", "os.forkpty"})
_STARTS = frozenset({"os.system", "os.posix_spawn"})
_EVENTS = _FORKS | _STARTS | {"os.exec", "subprocess.Popen"}
#: Packages whose own frames are no place that forks: their caller is.
_BELOW = frozenset(
    {"concurrent", "multiprocessing", "os", "pty", "pytest_vdsotime", "subprocess", "threading"}
)
#: What a child says of itself in the record of its fork.
_FORKED, _ENLISTED, _PRIVILEGED, _LEFT = 0, 1, 2, 3
#: The exit status of a child that does not outlive the test process, or its tracer.
_NO_TEST_PROCESS = 125
#: How long a child may take to say its pid.
_BIRTH_MS = 50
#: A child that has executed nothing for so long is one that only forks.
_SOON_S = 1.0


class _Fork(NamedTuple):
    """A child that may yet execute a program."""

    place: Place
    at_s: float
    """When, by time.monotonic."""
    record: memoryview
    """Its pid and what has become of it, in memory that it shares."""


class _Now(threading.local):
    """What this thread is about to do."""

    fork: _Fork | None = None
    caller: str | None = None
    """The module that has called a function of ours in place of one of `os`."""


_now = _Now()
_patched: list[OtherStarts] = []
"""The clocks that are patched in, the innermost last."""
_too_early: list[TooEarly] = []
"""Contexts in which a program comes before a clock, the innermost last."""
_waits = ChildWaits()
_real: dict[str, Callable[..., Any]] = {}
"""The functions of `os` and multiprocessing that ours stand for, by their names."""
_own_fork: _Fork | None = None
"""In a child: the fork that it comes from."""


class TooEarly:
    """A context in which a program is started before the clock that is meant to have it."""

    def __init__(self, what: str) -> None:
        """Make one that names what starts it as `what`."""
        self._what: str | None = what
        self._owner = os.getpid()

    def __enter__(self) -> None:
        _install_hooks()
        _too_early.append(self)

    def __exit__(self, *_error: object) -> None:
        _too_early.remove(self)

    def tell(self, event: str, frame: FrameType) -> None:
        """Warn once, of a program that is on no clock."""
        caller = frame.f_globals.get("__name__", "")
        is_own = is_on_a_clock(frame.f_locals.get("self")) or event == "os.exec"
        if is_own or caller.startswith("pytest_vdsotime.") or os.getpid() != self._owner:
            return
        what, self._what = self._what, None
        if what is not None:
            warnings.warn_explicit(f"{what} {_EARLY}", RealTimeWarning, *_place())


def starts_of(session: ClockSession) -> OtherStarts:
    """Return those of a clock; there is one object for each."""
    for one in session.lookouts:
        if isinstance(one, OtherStarts):
            return one
    _install_hooks()
    return OtherStarts(session)


def is_on_a_clock(popen: object) -> bool:
    """Whether it is a FrozenPopen; there is none before the first program."""
    module = sys.modules.get("pytest_vdsotime.popen")
    return module is not None and isinstance(popen, module.FrozenPopen)


class OtherStarts:
    """Of one clock."""

    def __init__(self, session: ClockSession) -> None:
        self._session = session
        self._owner = os.getpid()
        self._namespace = procfs.pid_namespace()
        self._gate: Gate | None = None
        self._tracer: Tracer | None = None
        self._forks: list[_Fork] = []
        self._told: set[Place] = set()
        self._news: list[str] = []
        self.fork_servers: list[int] = []
        """Those that serve nobody any more."""
        session.lookouts.append(self)

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have them be on the clock in the context."""
        _patched.append(self)
        try:
            with (
                _in_place() if len(_patched) == 1 else nullcontext(),
                forked_starts.own_fork_server(self.fork_servers),
            ):
                if not _waits.is_installed:
                    _waits.install()
                _waits.sessions.add(self._session)
                yield
        finally:
            _patched.remove(self)
            _remove_waits()

    def load(self) -> None:
        """Have what starts programs ready to be imported. Raises ClockClosed, TracingUnavailable.

        In a child it is.
        """
        if self.is_here:
            self._session.load()

    @property
    def is_here(self) -> bool:
        """This is the test process, and no child of it."""
        return os.getpid() == self._owner

    # --- what runs in real time ------------------------------------------------------------------

    def look(self) -> Iterable[str]:
        """Yield what is to be told of children that have executed nothing."""
        for fork in tuple(self._forks):
            self._look_at(fork, is_last=time.monotonic() - fork.at_s > _SOON_S)
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Have nobody come to the clock any more."""
        for fork in tuple(self._forks):
            self._look_at(fork, is_last=True)
        if self._gate is not None and self._tracer is not None:
            self._tracer.close_gate(self._gate)
        self._gate = None

    def end(self) -> None:
        """Undo what lasts for as long as the clock."""
        _remove_waits()
        for pid in self.fork_servers:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.fork_servers.clear()

    def _look_at(self, fork: _Fork, *, is_last: bool) -> None:
        pid, state = fork.record
        for _ in range(_BIRTH_MS if is_last else 0):
            if pid:
                break
            time.sleep(0.001)
            pid, state = fork.record
        stat = procfs.stat_fields(pid) if pid else None
        is_ended = pid != 0 and (stat is None or stat[0] in "ZX")
        if not (state or is_ended or is_last):
            return
        with suppress(ValueError):  # another thread was here
            self._forks.remove(fork)
        if state == _PRIVILEGED:
            self._tell(
                fork.place,
                f"executes a program (pid {pid}) with privileges, which the kernel ignores for "
                "traced programs: it runs in real time; run the tests as root",
            )
        elif state == _LEFT:
            self._tell(
                fork.place,
                f"executes a program (pid {pid}) that the tracer could not take: it runs in real "
                "time; start it by subprocess",
            )
        elif state == _FORKED and pid:
            self._tell(fork.place, _ONLY_FORKS)

    def _tell(self, place: Place, what: str) -> None:
        if place not in self._told:
            self._told.add(place)
            self._news.append(f"{place[0]}:{place[1]} {what}")

    def _warn_here(self, place: Place, what: str) -> None:
        if place not in self._told:
            self._told.add(place)
            text = f"{place[0]}:{place[1]} {what}"
            warnings.warn_explicit(text, RealTimeWarning, *place)

    # --- forks -----------------------------------------------------------------------------------

    def before_fork(self, caller: str) -> None:
        """Take note of a fork that this thread is about to make in the module `caller`."""
        if self._gate is None:  # what executes nothing needs no tracer that works still
            self.open()
        place = _place()
        if caller == "multiprocessing.popen_fork":
            self._warn_here(place, _BY_FORK)
            return
        record = memoryview(mmap.mmap(-1, 16)).cast("q")
        _now.fork = _Fork(place, time.monotonic(), record)

    def has_forked(self, fork: _Fork) -> None:
        """Watch what becomes of the child."""
        self._forks.append(fork)

    def before_start(self, name: str) -> None:
        """Tell of a start that is past the functions that stand for those of `os`."""
        self._warn_here(_place(), f"has the C function of {name}: {_PAST.format(name=name)}")

    def enlist(self) -> None:
        """In a child: have the tracer take this process, if there is one still."""
        if self._gate is not None and not procfs.tracer_of(os.getpid()):
            self._pass(self._gate)

    def before_exec(self, path: Any) -> None:
        """In a child: have the tracer take this process, if it can."""
        global _own_fork
        gate, fork = self._gate, _own_fork
        if gate is None:
            return
        if isinstance(path, int):
            path = f"/proc/self/fd/{path}"
        state = _ENLISTED
        if procfs.ignored_privilege(os.fsdecode(path)) is not None:
            state = _PRIVILEGED
        elif procfs.tracer_of(os.getpid()):
            return
        elif not self._pass(gate):
            state = _LEFT
        if fork is not None:
            fork.record[1] = state

    def _pass(self, gate: Gate) -> bool:
        """In a child: whether the tracer has taken this process.

        It ends where the test process has ended before its clock, or the tracer has failed: it
        would be in real time, and seen by nobody.
        """
        if gate.enlist():
            return True
        if gate.has_failed:
            os._exit(_NO_TEST_PROCESS)
        is_known = procfs.pid_namespace() == self._namespace  # else its pid says nothing
        state = (procfs.stat_fields(self._owner) or "Z")[0]
        if is_known and state in "ZX" and not gate.is_closed:
            os._exit(_NO_TEST_PROCESS)
        return False

    def open(self) -> None:
        """Have children come to the clock. Raises VdsoTimeError, as when the tracer has failed."""
        if not self.is_here:
            return
        if self._tracer is not None:
            self._tracer.check_usable()
            return
        tracer, world = self._session.start_tracing()
        from pytest_vdsotime.future import Future
        from pytest_vdsotime.kernel.spawn import Gate
        from pytest_vdsotime.tracer.state import Process

        native = tracer.load()
        gate = Gate(native.spawner, native.calls.filter(*world.filter))

        def let_in(loop: Loop) -> None:
            pid = gate.pid
            _, parent = procfs.stat_fields(pid) or ("", 0)
            is_child = parent == os.getpid()
            exited: Future[int] = Future()
            process = Process(pid, world, exited=exited, is_spared=is_child)
            process.is_in_real_time = True  # until its exec
            if is_child:
                _waits.adopt(process)
            try:
                loop.launching.start(process, gate)
            except ProcessLookupError:
                exited.give(0)
                return
            except (OSError, VdsoTimeError) as error:
                exited.give(0)
                text = (
                    f"taking over {process.describe()} at its exec failed: {error}; it was killed"
                )
                world.errors.append(UnsupportedProgram(text))
                return
            loop.shortcuts.choose()

        tracer.open_gate(gate, let_in)
        self._tracer, self._gate = tracer, gate

    # --- starts inside C -------------------------------------------------------------------------

    def start(
        self,
        argv: Sequence[Any],
        candidates: Sequence[bytes],
        env: Mapping[Any, Any] | None = None,
        **keywords: Any,
    ) -> tuple[int, int]:
        """Start a program on the clock; return its pid and the errno of a failed exec, or 0.

        Its end is for who waits for it. `keywords` are those of `Spawning.start`. Raises what
        `FrozenPopen` raises.
        """
        tracer, world = self._session.start_tracing()
        from pytest_vdsotime.future import Future
        from pytest_vdsotime.spawning import Spawning
        from pytest_vdsotime.tracer.state import Launch, Process

        launch = Launch(argv=argv)
        process = Process(0, world, exited=Future(), launch=launch, is_spared=True)
        code = tracer.load().calls.filter(*world.filter)
        spawning = Spawning(tracer, process, code, shares_memory=True)
        pid = spawning.start(argv, candidates, env, **keywords)
        _waits.adopt(process)
        try:
            error = launch.ended.result()
        except ProcessLookupError:  # it was killed before
            error = 0
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        finally:
            tracer.forget(launch.ended)
        return pid, error

    def leaves_alone(self, candidates: Sequence[bytes]) -> bool:
        """Whether a program is to start in real time, as it has privileges; then that is told."""
        program = next((os.fsdecode(one) for one in candidates if os.access(one, os.X_OK)), "")
        privilege = procfs.ignored_privilege(program) if program else None
        if privilege is not None:
            what = f"starts {program}, {privilege}, which the kernel ignores for traced programs"
            self._warn_here(_place(), f"{what}: it runs in real time; run the tests as root")
        return privilege is not None


_EARLY = (
    "starts a program, which runs in real time: it comes before the clock of the marker, and is to "
    "outlive it; start it by a fixture of function scope, or on frozen_session_clock, or attach to "
    "it in the test"
)
_ONLY_FORKS = (
    "forks a child that runs in real time: a clock has programs from their exec on, and this child "
    "executes none; start it by subprocess, or by multiprocessing with the start method spawn"
)
_BY_FORK = (
    "starts processes of multiprocessing by fork, which run in real time: a clock has programs "
    'from their exec on; take the start method "spawn" or "forkserver"'
)
_PAST = "what it starts runs in real time; call it as os.{name}"


# --- the hooks ------------------------------------------------------------------------------------


@cache
def _install_hooks() -> None:
    """For good: there is no way to take them out again. They do nothing while none is patched."""
    sys.addaudithook(_audit)
    os.register_at_fork(after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS or not (_patched or _too_early):
        return
    if not _patched:
        _too_early[-1].tell(event, sys._getframe(1))
        return
    starts = _patched[-1]
    if event == "os.exec":
        if not starts.is_here:
            starts.before_exec(arguments[0])
        return
    caller = _now.caller or sys._getframe(1).f_globals.get("__name__", "")
    if (
        not starts.is_here
        or caller == "subprocess"
        or event == "subprocess.Popen"
        or caller.startswith("pytest_vdsotime.")
    ):
        return
    if event in _FORKS:
        starts.before_fork(caller)
    else:
        starts.before_start(event.removeprefix("os."))


def _after_in_parent() -> None:
    fork, _now.fork = _now.fork, None
    if fork is not None and _patched:
        _patched[-1].has_forked(fork)


def _after_in_child() -> None:
    global _own_fork
    fork, _now.fork = _now.fork, None
    if fork is not None:
        fork.record[0] = os.getpid()
        _own_fork = fork


def _place() -> Place:
    """Return where the code of the test, or of a library that it uses, has called this."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_below(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _is_below(module: str) -> bool:
    return module.partition(".")[0] in _BELOW


# --- the functions in place of others -------------------------------------------------------------


#: Module, name, what it has had by that name, the function in its place.
_Change = tuple[Any, str, Any, Callable[..., Any]]


@contextmanager
def _in_place() -> Iterator[None]:
    """Have functions of ours stand for those that start programs inside C."""
    changes: list[_Change] = []
    try:
        _put_in_place(changes, os, _OF_OS)
        with once_imported(_UTIL, partial(_put_in_util, changes)):
            yield
    finally:
        _put_back(changes)


def _put_in_place(
    changes: list[_Change], module: Any, functions: Mapping[str, Callable[..., Any]]
) -> None:
    for name, function in functions.items():
        _real[name] = former = getattr(module, name)
        changes.append((module, name, former, function))
        setattr(module, name, function)


def _put_in_util(changes: list[_Change]) -> None:
    _put_in_place(changes, sys.modules[_UTIL], {"spawnv_passfds": _spawnv_passfds})


def _put_back(changes: list[_Change]) -> None:
    for module, name, former, function in changes:
        if getattr(module, name) is function:
            setattr(module, name, former)


def _remove_waits() -> None:
    """Once no traced child is left whose stops would show."""
    if _waits.is_installed and not _patched and not _waits.has_children:
        _waits.remove()


def _here() -> OtherStarts | None:
    """Return what serves a function that was called from outside; None: the real one is to."""
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if not _patched or caller == "subprocess" or caller.startswith("pytest_vdsotime."):
        return None
    return _patched[-1]


def _system(command: Any) -> int:
    starts = _here()
    if starts is None:
        return _real["system"](command)  # type: ignore[no-any-return]
    encoded = os.fsencode(command)
    sys.audit("os.system", encoded)
    argv, candidates = ["sh", "-c", encoded], [b"/bin/sh"]
    if starts.is_here:
        pid, error = starts.start(argv, candidates)
    else:
        pid, error = _fork_and_execute(argv, candidates, None)
    with _ignored(signal.SIGINT, signal.SIGQUIT):
        status: int = os.waitpid(pid, 0)[1]
    return 127 << 8 if error else status


@contextmanager
def _ignored(*numbers: int) -> Iterator[None]:
    """Ignore signals in C, as system(3) does while its child runs, from any thread."""
    import ctypes

    set_handler = ctypes.pythonapi.PyOS_setsig
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    former = [(number, set_handler(number, int(signal.SIG_IGN))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in former:
            set_handler(number, handler)


def _posix_spawn(path: Any, argv: Any, env: Any = None, /, **keywords: Any) -> int:
    starts = _here()
    if starts is None:
        return _real["posix_spawn"](path, argv, env, **keywords)  # type: ignore[no-any-return]
    return _spawn(starts, "posix_spawn", (path, argv, env), keywords)


def _posix_spawnp(path: Any, argv: Any, env: Any = None, /, **keywords: Any) -> int:
    starts = _here()
    if starts is None:
        return _real["posix_spawnp"](path, argv, env, **keywords)  # type: ignore[no-any-return]
    return _spawn(starts, "posix_spawnp", (path, argv, env), keywords)


def _spawn(
    starts: OtherStarts, name: str, arguments: tuple[Any, Any, Any], keywords: Mapping[str, Any]
) -> int:
    path, argv, env = arguments
    encoded = os.fsencode(path)
    candidates = [encoded]
    if name == "posix_spawnp":
        starts.load()
        from pytest_vdsotime.spawning import candidates_of

        candidates = candidates_of(encoded, None)
    if not isinstance(argv, (list, tuple)) or not argv or starts.leaves_alone(candidates):
        return _real[name](path, argv, env, **keywords)  # type: ignore[no-any-return]
    sys.audit("os.posix_spawn", path, argv, env)
    if starts.is_here and not any(keywords.values()) and keywords.get("setpgroup") is None:
        pid, error = starts.start(argv, candidates, env)
    else:
        starts.open()
        pid, error = _fork_and_execute(
            argv, candidates, env, lambda: forked_starts.prepare(**keywords)
        )
    if error:
        os.waitpid(pid, 0)
        raise OSError(error, os.strerror(error), path)
    return pid


def _fork_and_execute(
    argv: Sequence[Any],
    candidates: Sequence[bytes],
    env: Mapping[Any, Any] | None,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[int, int]:
    """Start a program by a fork in Python; return as `OtherStarts.start`."""

    def begin() -> None:
        global _own_fork
        _own_fork = None  # this process is none that the test has made itself
        prepare()

    return forked_starts.start(argv, candidates, env, begin)


def _spawnv_passfds(path: Any, args: Sequence[Any], passfds: Iterable[int]) -> int:
    """Start a process of multiprocessing, or its fork server.

    But its resource tracker, which goes on for longer than any test, and reads no clock.
    """
    starts = _here()
    if starts is None or any("multiprocessing.resource_tracker" in str(one) for one in args):
        return _real["spawnv_passfds"](path, args, passfds)  # type: ignore[no-any-return]
    kept = sorted(map(int, passfds))
    if starts.is_here:
        return starts.start(args, [os.fsencode(path)], kept_fds=kept)[0]
    return _fork_and_execute(args, [os.fsencode(path)], None, lambda: forked_starts.keep(kept))[0]


def _fork() -> int:
    return _forked("fork")  # type: ignore[no-any-return]


def _forkpty() -> tuple[int, int]:
    return _forked("forkpty")  # type: ignore[no-any-return]


def _forked(name: str) -> Any:
    """Fork, without Python's warning of threads (since 3.12) where all of them are the tracer's."""
    _now.caller = sys._getframe(2).f_globals.get("__name__", "")
    own = [one for one in threading.enumerate() if one.name.startswith("vdsotime-")]
    is_alone = len(os.listdir("/proc/self/task")) - len(own) == 1
    try:
        if sys.version_info < (3, 12) or not is_alone:
            return _real[name]()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process", DeprecationWarning)
            return _real[name]()
    finally:
        _now.caller = None


_UTIL = "multiprocessing.util"
_OF_OS: Mapping[str, Callable[..., Any]] = {
    "fork": _fork,
    "forkpty": _forkpty,
    "system": _system,
    "posix_spawn": _posix_spawn,
    "posix_spawnp": _posix_spawnp,
}
