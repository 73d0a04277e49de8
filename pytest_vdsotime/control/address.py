"""Where a clock is served, and how it is found: by both ends."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

ADDRESS_VARIABLE, TOKEN_VARIABLE = "VDSOTIME_CONTROL", "VDSOTIME_TOKEN"
FORMS = "unix:PATH or 127.0.0.1:PORT"
_BACKLOG = 512
_ENDING_S = 0.5  # of a server whose programs have just ended, or that has just been killed
_MAX_UNIX_PATH = 107  # sizeof(sun_path) - 1, unix(7)
_LOOPBACK: Final = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a clock is served."""

    path: str = ""
    """Of a Unix socket; "" for TCP."""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return what a text stands for. Raises ValueError, saying what can be written there."""
        kind, colon, rest = text.partition(":")
        if colon and kind == "unix":
            path = os.path.abspath(rest)
            if not rest or "\0" in rest:
                raise ValueError(f"{text!r} names no socket; it is {FORMS}")
            if len(os.fsencode(path)) > _MAX_UNIX_PATH:
                raise ValueError(
                    f"{path!r} is longer than the {_MAX_UNIX_PATH} bytes of a Unix socket's path"
                )
            return cls(path=path)
        host, colon, number = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not re.fullmatch(r"[0-9]{1,5}", number) or int(number) > 65535:
            raise ValueError(f"{text!r} is not {FORMS}")
        if host not in _LOOPBACK:
            raise ValueError(
                f"{text!r} is not on this machine's loopback: it is {FORMS}, 0 for any free port"
            )
        return cls(host=host, port=int(number))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address) -> tuple[Address, socket.socket]:
    """Return the address, with its port, and a socket that listens there.

    A Unix socket that nobody serves any more is replaced. Raises OSError, also where the path or
    the port is in use, by a server that does not end within a moment.
    """
    until = time.monotonic() + _ENDING_S
    while True:
        try:
            return (address, _listen_at(address.path)) if address.path else _listen_on(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _listen_on(address: Address) -> tuple[Address, socket.socket]:
    listener = socket.socket(_LOOPBACK[address.host])
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return Address(host=address.host, port=listener.getsockname()[1]), listener


def _listen_at(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        for _ in range(2):
            # fchmod(2) of a socket is not of its file: nobody else may connect before chmod(2).
            mask = os.umask(0o177)
            try:
                listener.bind(path)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                _remove_stale(path)
            finally:
                os.umask(mask)
        else:
            raise FileExistsError(errno.EADDRINUSE, "it is in use", path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that has been killed. Raises FileExistsError for another."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, "it exists, and is no socket", path)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise FileExistsError(errno.EADDRINUSE, "another clock is served there", path)


@dataclass(frozen=True, slots=True)
class Served:
    """An address with its listener, and what clients are told of it."""

    address: Address
    listener: socket.socket
    token: str

    @classmethod
    def at(cls, address: Address) -> Served:
        """Listen at an address, with a token for TCP. Raises OSError as `listen`."""
        address, listener = listen(address)
        return cls(address, listener, "" if address.path else secrets.token_urlsafe(24))

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which clients find it."""
        found = {ADDRESS_VARIABLE: str(self.address)}
        return {**found, TOKEN_VARIABLE: self.token} if self.token else found

    def remove(self) -> None:
        """Remove its file and end the listener, for other processes that have it too. Idempotent.

        In this order: a file without a listener is stale, and another server may replace it.
        """
        if self.listener.fileno() < 0:
            return
        if self.address.path:
            with suppress(OSError):
                os.unlink(self.address.path)
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # ends accept(2)
        self.listener.close()


class OwnDirectory:
    """A new directory of this user's alone, for one socket.

    Where this process is killed, a process beside it removes both (native_stub/program/sweeper.c).
    """

    def __init__(self) -> None:
        """Raise OSError, TracingUnavailable."""
        from pytest_vdsotime.arch import host_arch
        from pytest_vdsotime.image import sweeper_path

        self._path = os.path.join(tempfile.gettempdir(), f"vdsotime-{secrets.token_hex(8)}")
        self._socket = f"{self._path}/control"
        arguments = ["vdsotime-sweeper", str(os.getpid()), self._socket, self._path]
        # Signals for a whole group or session are not for it, and it comes before the directory.
        every = signal.valid_signals()
        sweeper = sweeper_path(host_arch())
        self._sweeper = os.posix_spawn(sweeper, arguments, {}, setsid=True, setsigmask=every)
        try:
            os.mkdir(self._path, 0o700)
        except BaseException:
            self._end_sweeper()
            raise

    @property
    def address(self) -> str:
        """Of the socket."""
        return f"unix:{self._socket}"

    def remove(self) -> None:
        """Remove what is left of it."""
        shutil.rmtree(self._path, ignore_errors=True)
        self._end_sweeper()

    def _end_sweeper(self) -> None:
        with suppress(ChildProcessError):  # a test has waited for any child
            if os.waitpid(self._sweeper, os.WNOHANG) == (0, 0):
                os.kill(self._sweeper, signal.SIGKILL)
                os.waitpid(self._sweeper, 0)
