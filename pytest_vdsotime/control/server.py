"""ControlServer: HTTP/1.1 with JSON on a Unix socket of its owner's alone, or on loopback TCP.

TCP takes a token. Each connection has a thread, which asks the tracer as a test's thread does: a
slow client holds up nobody, and a request whose client has gone ends all the same.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from http.server import BaseHTTPRequestHandler
from typing import Any

from pytest_vdsotime.control.address import FORMS, TOKEN_VARIABLE, Address, OwnDirectory, Served
from pytest_vdsotime.control.requests import BY_PATH, REQUESTS, BadRequest, Request, members_of
from pytest_vdsotime.errors import ClockClosed, NotSettled, VdsoTimeError
from pytest_vdsotime.session import ClockSession

_MAX_BODY = 64 * 1024
_MAX_DIGITS = 20
_MAX_CONNECTIONS = 1000
_IDLE_S = 60.0
_CLOSING_S = 10.0
_SENDING_S = 1.0
_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class ControlServer:
    """A clock that is served over HTTP, by `FrozenClock.serve` or ``vdsotime --control``.

    As a context manager, or until `close` or the clock's end.
    """

    def __init__(
        self, session: ClockSession, served: Served, directory: OwnDirectory | None = None
    ) -> None:
        """Serve where `served` listens; `directory` is one to remove with it."""
        self._session = session
        self._served = served
        self._directory = directory
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._busy: set[threading.Thread] = set()
        """Those of `_open` that answer a request."""
        self._owner = os.getpid()
        self._is_closed = False
        self._thread = threading.Thread(target=self._accept, name="vdsotime-control", daemon=True)
        session.addresses.add(self.address)
        self._thread.start()

    @classmethod
    def serve(cls, session: ClockSession, address: str | None) -> ControlServer:
        """Serve a clock, by default on a Unix socket in a directory of its own.

        Raises TypeError, ValueError, OSError, ClockClosed.
        """
        session.check_open()
        directory = None
        if address is None:
            directory = OwnDirectory()
            address = directory.address
        elif not isinstance(address, str):
            raise TypeError(f"the address is {FORMS}, not {address!r}")
        try:
            server = cls(session, Served.at(Address.parse(address)), directory)
        except BaseException:
            if directory is not None:
                directory.remove()
            raise
        session.lookouts.append(_AsLookout(server))
        return server

    @property
    def address(self) -> str:
        """Where: ``unix:PATH`` or ``127.0.0.1:PORT``."""
        return str(self._served.address)

    @property
    def token(self) -> str:
        """What requests over TCP must bring; "" on a Unix socket."""
        return self._served.token

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which programs and ``vdsotime ctl`` find it."""
        return self._served.environ

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove its socket; requests under way are answered first. Idempotent."""
        if os.getpid() != self._owner:  # the child of a fork: the parent goes on
            self._served.listener.close()
            return
        self.listen_no_more()
        with self._lock:
            left = dict(self._open)
        self._end(left, socket.SHUT_RD, _SENDING_S)  # no further request
        with self._lock:
            idle = {thread: left[thread] for thread in left.keys() - self._busy}
        self._end(idle, socket.SHUT_RDWR, _SENDING_S)  # nobody reads the answer
        self._end(left, socket.SHUT_RD, _CLOSING_S)
        self._end(left, socket.SHUT_RDWR, _SENDING_S)

    @staticmethod
    def _end(connections: dict[threading.Thread, socket.socket], how: int, timeout: float) -> None:
        """Shut connections down, and wait for their threads."""
        until = time.monotonic() + timeout
        for connection in connections.values():
            with suppress(OSError):
                connection.shutdown(how)
        for thread in connections:
            if thread is not threading.current_thread():
                thread.join(max(until - time.monotonic(), 0))

    def listen_no_more(self) -> None:
        """Take no further connection, and remove the socket. Idempotent."""
        with self._lock:
            is_closed, self._is_closed = self._is_closed, True
        if is_closed:
            return
        self._served.remove()
        self._thread.join()
        self._session.addresses.discard(self.address)
        if self._directory is not None:
            self._directory.remove()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Have the connection of this thread be not idle meanwhile."""
        thread = threading.current_thread()
        with self._lock:
            self._busy.add(thread)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(thread)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._served.listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if self._is_closed or error.errno not in (errno.EMFILE, errno.ENFILE):
                    return
                threading.Event().wait(0.05)  # until some connection has ended
                continue
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="vdsotime-request", daemon=True
            )
            with self._lock:
                is_welcome = not self._is_closed and self._make_room()
                if is_welcome:
                    self._open[thread] = connection
            try:
                if is_welcome:
                    thread.start()
                    continue
            except RuntimeError:  # the limit of threads
                with self._lock:
                    self._open.pop(thread, None)
            connection.close()

    def _make_room(self) -> bool:
        """Have one connection more, in place of the one that has been idle since the longest ago.

        Descriptors are the tracer's too. False: none is idle.
        """
        limit = min(_MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        if len(self._open) < limit:
            return True
        for thread, connection in self._open.items():
            if thread not in self._busy:
                del self._open[thread]
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                return True
        return False

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):  # the client has gone
                _Handler(connection, self._session, self)
        finally:
            with self._lock:
                self._open.pop(threading.current_thread(), None)


class _AsLookout:
    """A server, as what ends with its clock (session.Lookout)."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server

    def look(self) -> Iterable[str]:
        """Nothing that a warning is to say."""
        return ()

    def close(self) -> None:
        """No further client: the clock is about to close."""
        self._server.listen_no_more()

    def end(self) -> None:
        """Answer what was under way: it has failed with the clock."""
        self._server.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection, with one request after the other."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vdsotime", ""
    timeout = _IDLE_S

    def __init__(
        self, connection: socket.socket, session: ClockSession, server: ControlServer
    ) -> None:
        self._session = session
        self._server = server
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        """Say nothing: standard error is COMMAND's."""

    def version_string(self) -> str:
        return self.server_version

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP, as the base class finds it."""
        self.close_connection = True
        status = HTTPStatus(code)
        if status is HTTPStatus.REQUEST_TIMEOUT:
            return
        self._fail(status, "BadRequest", message or status.phrase)

    def _do(self) -> None:
        try:
            body = self._body()
            one = self._find()
            members = members_of(body, one) if self.command == "POST" else {}
            with self._server.answering():
                answer = one.answer(self._session, members)
        except BadRequest as error:
            self._fail(error.status, error.status.phrase.replace(" ", ""), str(error))
        except NotSettled as error:
            self._fail(HTTPStatus.CONFLICT, "NotSettled", str(error), busy=[*error.threads])
        except ClockClosed as error:
            self._fail(HTTPStatus.GONE, "ClockClosed", str(error))
        except (TypeError, ValueError, OverflowError) as error:
            self._fail(HTTPStatus.BAD_REQUEST, type(error).__name__, str(error))
        except HTTPException as error:  # too many trailers, or too long
            self._fail(HTTPStatus.BAD_REQUEST, "BadRequest", str(error))
        except (VdsoTimeError, OSError) as error:
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__, str(error))
        else:
            self._tell(HTTPStatus.OK, answer)

    def _find(self) -> Request:
        """Return the row. Raises BadRequest."""
        if self._server.token:
            self._check_sender()
        path, _, query = self.path.partition("?")
        methods = BY_PATH.get(path)
        if methods is None:
            known = ", ".join(f"{one.method} {one.path}" for one in REQUESTS)
            raise BadRequest(HTTPStatus.NOT_FOUND, f"there is no {path}; there are {known}")
        if self.command not in methods:
            allowed = " or ".join(methods)
            raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} is asked by {allowed}")
        if query:
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"{path} takes no query")
        return methods[self.command]

    def _check_sender(self) -> None:
        """Raise BadRequest for what a web page of elsewhere has sent, or one without a token."""
        host = self.headers.get("Host", "").rpartition(":")
        name = (host[0] or host[2]).removeprefix("[").removesuffix("]")
        if name not in _HOSTS:
            # A name that leads here (DNS rebinding).
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"{name!r} is not this machine's loopback")
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        is_known = secrets.compare_digest(token.strip().encode(), self._server.token.encode())
        if kind.lower() != "bearer" or not is_known:
            raise BadRequest(
                HTTPStatus.UNAUTHORIZED,
                f"Authorization: Bearer and the token of {TOKEN_VARIABLE} are missing",
            )

    def _body(self) -> bytes:
        """Return it whole. Raises BadRequest, and the connection is to end."""
        self.close_connection, keeps = True, self.close_connection
        # Where a body ends is not to be taken in two ways (RFC 9112, 5.1 and 6.3).
        lengths = {*self.headers.get_all("Content-Length", ())}
        is_chunked = "Transfer-Encoding" in self.headers
        if self.headers.defects or len(lengths) + is_chunked > 1:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "the headers do not say what the body is")
        length = lengths.pop() if lengths else "0"
        if is_chunked:
            body = self._chunks()
        elif not length.isascii() or not length.isdecimal():
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"Content-Length is {length!r}")
        elif len(length) > _MAX_DIGITS or int(length) > _MAX_BODY:
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"a body has at most {_MAX_BODY} bytes")
        else:
            body = self._read(int(length))
        self.close_connection = keeps
        return body

    def _chunks(self) -> bytes:
        """Return a body in chunks (RFC 9112, 7.1)."""
        if self.headers["Transfer-Encoding"].strip().lower() != "chunked":
            raise BadRequest(HTTPStatus.BAD_REQUEST, "Transfer-Encoding is chunked or none")
        body = b""
        while True:
            line = self.rfile.readline(_MAX_BODY).partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]+", line):
                raise BadRequest(HTTPStatus.BAD_REQUEST, "a chunk has no size")
            size = int(line, 16)
            if size > _MAX_BODY - len(body):
                raise BadRequest(HTTPStatus.BAD_REQUEST, f"a body has at most {_MAX_BODY} bytes")
            if not size:
                break
            body += self._read(size)
            if self.rfile.readline(3).rstrip(b"\r\n"):
                raise BadRequest(HTTPStatus.BAD_REQUEST, "a chunk is longer than its size")
        parse_headers(self.rfile)  # as those of a request, and of no interest
        return body

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "the body ends early")
        return data

    def _fail(self, status: HTTPStatus, error: str, message: str, **more: object) -> None:
        self._tell(status, {"error": error, "message": message, **more})

    def _tell(self, status: HTTPStatus, answer: object) -> None:
        is_text = isinstance(answer, str)
        self.request_version = self.protocol_version
        text = answer if isinstance(answer, str) else json.dumps(answer) + "\n"
        data = text.encode(errors="backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ", ".join(BY_PATH[self.path.partition("?")[0]]))
        if self.close_connection:
            self.send_header("Connection", "close")
        self._headers_buffer.append(b"\r\n" + (b"" if self.command == "HEAD" else data))
        self.flush_headers()
