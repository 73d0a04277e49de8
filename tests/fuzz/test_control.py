"""Requests over HTTP of any bytes, and answers of any bytes to `vdsotime ctl`."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.control.server import ControlServer

Examples = Callable[..., Callable[[Callable[..., None]], None]]

CEILING_S = 30
HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!-9;-~]+: [^\r\n]*\r\n)*)\r\n")

paths = st.sampled_from(
    [b"/clock", b"/advance", b"/jump", b"/move_to", b"/rate", b"/settle", b"/waits", b"/describe"]
    + [b"/openapi.json", b"/advance_to_next", b"/processes", b"/", b"*", b"//clock", b"/clock?a"]
) | st.binary(max_size=8)
methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"get", b"", b"PRI"])
versions = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"", b"HTTP/1.1.1", b"HTTP/x", b"http/1.1"]
)
names = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Host", b"Authorization"]
    + [b"", b" ", b"A", b"\xff", b"Content-Length "]
)
values = st.sampled_from(
    [b"0", b"2", b"16", b"-1", b"+1", b"1_0", b" 5 ", b"65536", b"65537", b"9" * 20]
    + [b"9" * 5000]
    + [b"chunked", b"Chunked", b"gzip, chunked", b"identity", b"close", b"keep-alive"]
    + [b"100-continue", b"Bearer x", b"localhost", b"\xb2", b"a" * 70000]
) | st.binary(max_size=8)
headers = st.lists(st.tuples(names, values), max_size=4)
numbers = st.integers(-2, 5) | st.floats() | st.sampled_from([2**63, 10**400, 1e300, True, None])
members = st.dictionaries(
    st.sampled_from(["seconds", "hours", "days", "span", "stride", "timeout", "when", "rate", "x"]),
    numbers
    | st.text(max_size=4)
    | st.sampled_from(["1h", "-1h", "@0", "+2 days", "\ud800", [], {}]),
    max_size=3,
)
bodies = (
    members.map(lambda one: json.dumps(one).encode())
    | st.binary(max_size=20)
    | st.sampled_from([b"[" * 5000, b'{"a":' * 5000, b"{}", b"", b'{"seconds": 1, "seconds": 2}'])
)
sizes = st.sampled_from(
    [b"0", b"2", b"5", b"-1", b"+2", b"0x2", b"1_0", b"", b"fffff", b"2;a=b", b"\xff"]
)
chunks = st.lists(
    st.builds(b"%s\r\n%s\r\n".__mod__, st.tuples(sizes, bodies.map(lambda one: one[:40]))),
    max_size=4,
).map(b"".join)


def as_request(
    method: bytes, path: bytes, version: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> bytes:
    lines = [b" ".join((method, path, version)), *(b"%s: %s" % one for one in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


any_request = st.builds(as_request, methods, paths, versions, headers, bodies | chunks)
#: With a length that is right, so that the body counts.
posts = st.builds(
    lambda path, body: as_request(
        b"POST", path, b"HTTP/1.1", [(b"Content-Length", b"%d" % len(body))], body
    ),
    paths,
    bodies,
)
in_chunks = st.builds(
    lambda path, body: as_request(
        b"POST", path, b"HTTP/1.1", [(b"Transfer-Encoding", b"chunked")], body
    ),
    paths,
    chunks,
)
sent = st.lists(any_request | posts | in_chunks | st.binary(max_size=60), min_size=1, max_size=3)


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock("2030-01-01", monotonic="freeze") as clock:
        yield clock


@pytest.fixture
def server(clock: FrozenClock) -> Iterator[ControlServer]:
    with clock.serve() as server:
        yield server


def answer(server: ControlServer, sent: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CEILING_S)
        connection.connect(server.address.removeprefix("unix:"))
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        found = b""
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                found += data
    return found


def statuses(answers: bytes, sent: bytes) -> Iterator[int]:
    """Of each answer, all of which are whole."""
    while answers:
        head = HEAD.match(answers)
        assert head, answers
        status, fields = int(head[1]), dict(re.findall(rb"([^\r\n:]+): ([^\r\n]*)", head[2]))
        answers = answers[head.end() :]
        yield status
        if status == 100:
            continue
        size = int(fields[b"Content-Length"])
        if b"HEAD " in sent and (not answers or answers.startswith(b"HTTP/1.1 ")):
            continue
        body, answers = answers[:size], answers[size:]
        assert len(body) == size
        if fields[b"Content-Type"] == b"application/json":
            told = json.loads(body)
            assert status == 200 or (told["error"] and told["message"])


def test_one_that_waits_for_a_word(server: ControlServer) -> None:
    """An interim answer has no fields (RFC 9110, 15.2)."""
    sent = as_request(b"GET", b"/clock", b"HTTP/1.1", [(b"Expect", b"100-continue")], b"")
    assert [*statuses(answer(server, sent), sent)] == [100, 200]


def test_any_bytes_are_answered(
    examples: Examples, clock: FrozenClock, server: ControlServer
) -> None:
    """By what is whole, and no error of the server's; what is refused moves nothing."""

    @examples(sent.map(b"".join), count=125)
    def check(sent: bytes) -> None:
        clock.rate = 0
        clock.move_to("2030-01-01")
        before = clock.time_ns(), clock.monotonic_ns()
        found = [*statuses(answer(server, sent), sent)]
        assert all(
            status in (100, 200) or 400 <= status < 500 or status in (501, 505) for status in found
        )
        if 200 not in found:
            assert (clock.time_ns(), clock.monotonic_ns()) == before
        assert [*statuses(answer(server, b"GET /clock HTTP/1.1\r\n\r\n"), b"")] == [200]
