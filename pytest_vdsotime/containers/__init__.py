"""An engine whose containers are on a clock: Podman's service or Docker's daemon.

It starts on the clock's tracer, and so does all that it starts. What has the machine's own root
directory below it is the engine's, in real time; what has another is a program in a container, on
the clock from the first instruction of PID 1.

::

    test process --- guardian (guardian.py; untraced, outlives the test process)
        |                | mount namespace
        '-- engine ------'
               '-- containers
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_vdsotime.containers import engines
from pytest_vdsotime.containers.engines import OTHER_ENGINES
from pytest_vdsotime.errors import VdsoTimeError
from pytest_vdsotime.patching import start_program
from pytest_vdsotime.session import ClockSession
from pytest_vdsotime.standard import Standard

if TYPE_CHECKING:
    from subprocess import Popen

    from pytest_vdsotime.popen import FrozenPopen
else:
    Popen = Standard.Popen

#: Real seconds.
_START_S: Final = 10.0
_PING_S: Final = 1.0
_MAX_ANSWER: Final = 64 * 1024 * 1024
_STOP_S: Final = 2.0
_CLEAN_UP_S: Final = 60.0
_LAST_LINES: Final = 12
_GUARDIAN: Final = Path(__file__).with_name("guardian.py")


@dataclass(frozen=True)
class ContainerEngine:
    """An engine that runs. Made by `FrozenClock.containers`."""

    name: str
    """``"podman"`` or ``"docker"``."""
    server: str
    """What it calls itself, with its version: ``"Libpod/4.3.1 (linux)"``."""
    url: str
    """Its address, as DOCKER_HOST has it: ``unix:///...``."""
    environment: Mapping[str, str]
    """The variables by which programs find it."""


def containers(
    session: ClockSession,
    engine: str | None,
    args: Iterable[str],
    data_root: str | os.PathLike[str] | None,
) -> AbstractContextManager[ContainerEngine]:
    """See `FrozenClock.containers`."""
    words = [args] if isinstance(args, (str, bytes)) else [*args]
    if isinstance(args, (str, bytes)) or not all(isinstance(one, str) for one in words):
        raise TypeError(f"args is a list of strings, not {args!r}")
    name, program = engines.choose(engine, data_root)
    session.load()
    root = None if data_root is None else os.path.abspath(os.fspath(data_root))
    return _running(session, name, program, words, root)


@contextmanager
def _running(
    session: ClockSession, name: str, program: str, args: Sequence[str], data_root: str | None
) -> Iterator[ContainerEngine]:
    run = _Run(session, name, program, data_root)
    try:
        run.start(args)
        url = run.plan.url
        found = ContainerEngine(name, run.server, url, _environment(url))
        with _named.in_force(found.environment):
            yield found
    except BaseException as error:
        try:
            run.leave()
        except VdsoTimeError as problem:
            error.add_note(str(problem))
        raise
    run.leave()


class _Run:
    """One engine, from its guardian's start to its end. It is a lookout of its clock's."""

    def __init__(
        self, session: ClockSession, engine: str, program: str, data_root: str | None
    ) -> None:
        self._session = session
        self._name, self._keeps_data = engine, data_root is not None
        self.server = ""
        """What the engine says that it is, once it answers."""
        self._problem: VdsoTimeError | None = None
        """What its end has left, to be raised when its context ends."""
        self._guardian: subprocess.Popen[str] | None = None
        self._engine: FrozenPopen[bytes] | None = None
        self._lock = threading.Lock()
        name = secrets.token_hex(5)
        self._made = [
            os.path.join(_run_directory(), f"vdsotime-{engine}-{name}"),
            os.path.join(tempfile.gettempdir(), f"vdsotime-data-{name}"),
        ]
        self._data_root = data_root or f"{self._made[1]}/docker"
        self._begin_guardian()
        try:
            for path in self._made:
                os.mkdir(path, 0o700)
            self.plan = engines.plan_of(engine, program, self._made, self._data_root)
        except BaseException:
            self.close()
            raise

    def start(self, args: Sequence[str]) -> None:
        """Return when the engine answers. Raises VdsoTimeError."""
        deadline_s = time.monotonic() + _START_S
        if engines.has_own_bridge(args):
            self.plan = replace(self.plan, bridge="")
        pid = self._instruct_guardian()
        self._session.lookouts.append(self)
        command = engines.command_of(self.plan, args, self._data_root)
        if self.plan.isolates:
            command = [*engines.entering(pid), *command]
        with open(self.plan.log, "wb") as log:
            self._engine = start_program(
                self._session,
                command,
                is_engine=True,
                env=self.plan.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not (server := _server(self.plan.socket)):
            status = self._engine.poll()
            if status is not None:
                raise self._failed(f"has ended with status {status}")
            if time.monotonic() > deadline_s:
                raise self._failed(f"does not answer within {_START_S:g} s")
            time.sleep(0.005)
        self.server = server
        self._remove_containers()

    def _begin_guardian(self) -> None:
        """Start it, so that it removes what this process makes, if that is killed in the midst.

        It is neither on the clock, where subprocess is patched, nor killed with this process.
        """
        self._guardian = _RealPopen(
            [sys.executable, "-I", "-S", str(_GUARDIAN), *self._made],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            start_new_session=True,
        )

    def _instruct_guardian(self) -> int:
        """Give it its plan; return its pid when the engine may start. Raises VdsoTimeError."""
        guardian = self._guardian
        assert guardian is not None and guardian.stdin and guardian.stdout
        guardian.stdin.write(f"{self.plan.as_json()}\n")
        guardian.stdin.flush()
        said = json.loads(guardian.stdout.readline() or '{"problem": "it has ended"}')
        if "no_bridge" in said:
            self.plan = replace(self.plan, bridge="")
            said = json.loads(guardian.stdout.readline())
        if said["problem"]:
            raise VdsoTimeError(f"{self.plan.engine} cannot be started: {said['problem']}")
        pid: int = guardian.pid
        return pid

    def _failed(self, how: str) -> VdsoTimeError:
        lines = Path(self.plan.log).read_text(errors="replace").splitlines()[-_LAST_LINES:]
        said = "\n".join(("; its last lines:", *lines)) if lines else "; it has said nothing"
        return VdsoTimeError(f"{os.path.basename(self.plan.program)} {how}{said}")

    def _remove_containers(self) -> None:
        """Remove the containers and networks that are in a kept data root."""
        if not self._keeps_data:
            return
        for one in _ask(self.plan.socket, "GET", "/containers/json?all=1"):
            _ask(self.plan.socket, "DELETE", f"/containers/{one.get('Id')}?force=1&v=1")
        for one in _ask(self.plan.socket, "GET", "/networks"):
            if one.get("Name") not in ("bridge", "host", "none"):
                _ask(self.plan.socket, "DELETE", f"/networks/{one.get('Id')}")

    # --- the end ---------------------------------------------------------------------------------

    def look(self) -> Iterable[str]:
        """Nothing of the engine is to be in real time that should not."""
        return ()

    def close(self) -> None:
        """End the engine and have its guardian clean up. Idempotent.

        The clock does so before it closes, if that is before the context ends.
        """
        with self._lock:
            engine, self._engine = self._engine, None
            guardian, self._guardian = self._guardian, None
        try:
            if engine is not None:
                self._stop(engine)  # which a tracer that has failed refuses
        finally:
            if guardian is not None:
                self._dismiss(guardian)

    def _dismiss(self, guardian: subprocess.Popen[str]) -> None:
        """Have the guardian clean up and end; note what it could not remove."""
        try:
            said, _ = guardian.communicate("null\n", timeout=_CLEAN_UP_S)
        except subprocess.TimeoutExpired:
            guardian.kill()
            guardian.communicate()
            said = json.dumps([f"its guardian took more than {_CLEAN_UP_S:g} s"])
        if problems := json.loads(said or '["its guardian was killed"]'):
            self._problem = VdsoTimeError(f"{self._name} has left: {'; '.join(problems)}")

    def end(self) -> None:
        """Nothing is left for after the clock's programs have ended."""

    def leave(self) -> None:
        """End the context. Raises VdsoTimeError."""
        self._session.lookouts[:] = [one for one in self._session.lookouts if one is not self]
        self.close()
        if self._problem is not None:
            raise self._problem

    def _stop(self, engine: FrozenPopen[bytes]) -> None:
        """Ask the engine to end where that matters, and kill it if it does not."""
        if self._keeps_data or self.plan.engine == "podman":
            with suppress(OSError, ValueError):
                self._remove_containers()
            exited = engine.exited
            with suppress(OSError):
                if exited is not None and not exited.is_given():
                    os.kill(engine.pid, signal.SIGTERM)
                    exited.wait(_STOP_S)
        engine.end()


class _RealPopen(Popen[Any]):
    """A program off every clock, whatever is patched."""

    __init__ = Standard.popen_init


def _run_directory() -> str:
    """Return where directories of engines are: a socket's path has to be short (unix(7))."""
    if os.geteuid() == 0 and os.path.isdir("/run"):
        return "/run"
    found = tempfile.gettempdir()
    return found if len(found) < 60 else "/tmp"


def _environment(url: str) -> Mapping[str, str]:
    # Ryuk would need an image, and is not needed: nothing is left.
    return {"DOCKER_HOST": url, "CONTAINER_HOST": url, "TESTCONTAINERS_RYUK_DISABLED": "true"}


class _Named:
    """Which engine the variables of this process name: the last one that is still in force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_force: list[Mapping[str, str]] = []
        self._before: dict[str, str | None] = {}

    @contextmanager
    def in_force(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Have the variables name an engine in the context."""
        with self._lock:
            if not self._in_force:
                names = {*OTHER_ENGINES, *variables}
                self._before = {name: os.environ.get(name) for name in names}
            self._in_force.append(variables)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._in_force = [one for one in self._in_force if one is not variables]
                self._set()

    def _set(self) -> None:
        """Undo what a test has made of the variables meanwhile, too."""
        wanted: Mapping[str, str | None] = self._before
        if self._in_force:
            wanted = {**dict.fromkeys(self._before), **self._in_force[-1]}
        _update(os.environ, wanted)


_named = _Named()


def _update(environment: MutableMapping[str, str], wanted: Mapping[str, str | None]) -> None:
    for name, text in wanted.items():
        if text is None:
            environment.pop(name, None)
        else:
            environment[name] = text


def _server(path: str) -> str:
    """Return what an engine calls itself; "" while it does not answer."""
    try:
        answer = _request(path, "GET", "/_ping", timeout_s=_PING_S)
        status, *headers = answer.decode(errors="replace").splitlines()
    except (OSError, ValueError):
        return ""
    named = [line[len("server:") :] for line in headers if line.lower().startswith("server:")]
    return (*named, "an engine")[0].strip() if " 200 " in status else ""


def _request(path: str, method: str, what: str, *, timeout_s: float = _START_S) -> bytes:
    """Return the whole answer of an engine."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        connection.sendall(f"{method} {what} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
        answer = bytearray()
        while data := connection.recv(65536):
            answer += data
            if len(answer) > _MAX_ANSWER:
                raise ValueError(f"the engine's answer has more than {_MAX_ANSWER} bytes")
        return bytes(answer)


def _ask(path: str, method: str, what: str) -> list[dict[str, Any]]:
    """Return what an engine lists; nothing where it refuses, or has no list to tell.

    Raises OSError, ValueError.
    """
    head, _, body = _request(path, method, what).partition(b"\r\n\r\n")
    if not body or b" 200 " not in head.partition(b"\r\n")[0]:
        return []
    try:
        found = json.loads(body)
    except RecursionError:
        raise ValueError("the engine's answer is nested too deeply") from None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
