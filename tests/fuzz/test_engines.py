"""What container engines, or others in their place, answer and write."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import strategies as st

from pytest_vdsotime import containers
from pytest_vdsotime.cli.ctl import ctl
from pytest_vdsotime.containers import guardian

Examples = Callable[..., Callable[[Callable[..., None]], None]]

CEILING_S = 30


class Answers:
    """One who listens on a Unix socket, and answers each request as it is told."""

    def __init__(self, path: str) -> None:
        self.path, self.answer = path, b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(CEILING_S)
                request = b""
                while b"\r\n\r\n" not in request and (data := connection.recv(65536)):
                    request += data
                connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Answers]:
    peer = Answers(str(tmp_path / "s"))
    yield peer
    peer.close()


lines = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 409 Conflict",
        b"HTTP/1.1 999 x",
        b"HTTP/1.1",
    ]
    + [
        b"HTTP/1.1 200 ",
        b"",
        b"hello",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 99999 x",
        b"HTTP/1.1 299 x",
    ]
) | st.binary(max_size=20)
fields = st.sampled_from(
    [
        b"Content-Length: 2",
        b"Content-Length: x",
        b"Content-Length: -1",
        b"Content-Length: " + b"9" * 18,
    ]
    + [
        b"Transfer-Encoding: chunked",
        b"Server: x",
        b"server:",
        b":",
        b"a" * 70000,
        b"A: b\r\n" * 200,
    ]
) | st.binary(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Id", "Name", "now", "moved", "message", "error", "pid", "argv", "remaining"]
                + ["command", "syscall", "clock", "is_on_clock", "Type", "Status", "ID"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)
bodies = (
    values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=20)
    | st.sampled_from(
        [b"", b"[" * 100_000, b"9" * 5000, b"2\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffff\r\n"]
    )
)
answers = st.builds(
    lambda line, fields, body: b"\r\n".join((line, *fields, b"", body)),
    lines,
    st.lists(fields, max_size=3),
    bodies,
) | st.binary(max_size=40)


def test_any_answer_of_an_engine(examples: Examples, peer: Answers) -> None:
    @examples(answers, count=100)
    def check(answer: bytes) -> None:
        peer.answer = answer
        assert isinstance(containers._server(peer.path), str)
        with suppress(OSError, ValueError):
            found = containers._ask(peer.path, "GET", "/networks")
            assert isinstance(found, list)
            for one in found:
                assert isinstance(one, dict)


VERBS = [["now"], ["advance", "1h"], ["next"], ["waits"], ["ps"], ["describe"], ["--json", "now"]]


def test_a_chunk_of_less_than_nothing(peer: Answers, capfd: pytest.CaptureFixture[str]) -> None:
    peer.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2"
    assert ctl(["--control", f"unix:{peer.path}", "now"]) == 4
    assert re.fullmatch("vdsotime: ctl: nobody is there, at .*\n", capfd.readouterr().err)


def test_any_answer_to_ctl(
    examples: Examples, peer: Answers, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of one who is no clock. It fails in one line."""

    @examples(answers, st.sampled_from(VERBS), count=100)
    def check(answer: bytes, words: list[str]) -> None:
        peer.answer = answer
        status = ctl(["--control", f"unix:{peer.path}", *words])
        said = capfd.readouterr()
        assert status in (0, 1, 2, 3, 4)
        assert bool(said.err) == (status != 0) or "nothing waits" in said.err
        assert said.err.count("\n") <= 1


records = st.lists(
    values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=30)
    | st.sampled_from(
        [
            b'{"Type": "container", "Status": "create", "ID": "1"}',
            b"{}",
            b"[]",
            b"null",
            b"9" * 5000,
        ]
        + [b'{"Type": ["a"], "Status": "create", "Name": {}}', b"[" * 100_000]
    ),
    max_size=6,
)


def test_any_log_of_events(examples: Examples, tmp_path: Path) -> None:
    """Lines that are none are passed over: what the others say is to be removed."""
    last = b'{"Type": "pod", "Status": "create", "Name": "left"}'

    @examples(records, count=100)
    def check(lines: list[bytes]) -> None:
        log = tmp_path / "events"
        log.write_bytes(b"\n".join([*lines, last, b""]))
        found = [*guardian._events(log)]
        assert found[-1] == ("pod", "create", "left")
        assert all(isinstance(word, str) for event in found for word in event)


def test_lines_that_are_no_events(tmp_path: Path) -> None:
    lines = b"{}", b"[]", b"null", b"7", b"\x80", b"[" * 100_000, b'{"Type": "pod", "Status": 1}'
    log = tmp_path / "events"
    log.write_bytes(b"\n".join((*lines, b'{"Type": "pod", "Status": "create", "ID": "1"}')))
    assert [*guardian._events(log)] == [("pod", "create", "1")]


@pytest.mark.parametrize("body", [b"null", b"[null]", b"7", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_list(body: bytes, peer: Answers) -> None:
    peer.answer = b"HTTP/1.0 200 OK\r\n\r\n" + body
    with suppress(ValueError):
        assert containers._ask(peer.path, "GET", "/networks") == []


@pytest.mark.parametrize("verb", ["now", "waits", "ps"])
@pytest.mark.parametrize("body", [b"", b"null", b"7", b'"now"', b"{}", b"[{}]", b"[" * 100_000])
@pytest.mark.parametrize("status", [b"200 OK", b"409 Conflict", b"999 x"])
def test_one_who_is_no_clock(
    status: bytes, body: bytes, verb: str, peer: Answers, capfd: pytest.CaptureFixture[str]
) -> None:
    peer.answer = b"HTTP/1.0 %s\r\n\r\n%s" % (status, body)
    assert ctl(["--control", f"unix:{peer.path}", verb]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"vdsotime: ctl: no clock is served at unix:{peer.path}: ")
    assert said.err.count("\n") == 1


NAMES = b"caf\xe9", "\xe9\u2028\xa0".encode(), b"a b\tc\nd\\e", b"\\040", b"\r\x0b\x0c\x1c", b")"

# In a mount namespace of its own.
MOUNTS = """
import ctypes, os, sys
from pytest_vdsotime.containers.guardian import _mount_points
libc = ctypes.CDLL(None, use_errno=True)
made = []
for name in map(os.fsencode, sys.argv[2:]):
    made.append(os.path.join(os.fsencode(sys.argv[1]), name))
    os.mkdir(made[-1])
    assert libc.mount(b"none", made[-1], b"tmpfs", 0, None) == 0, os.strerror(ctypes.get_errno())
assert [*map(os.fsencode, _mount_points())][-len(made) :] == made
print("found")
"""


def test_mount_points_of_any_name(as_root: None, tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in NAMES]
    command = ["unshare", "--mount", sys.executable, "-c", MOUNTS, str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, timeout=CEILING_S)
    assert (done.stdout, done.stderr) == (b"found\n", b"")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_program_of_any_name_is_alive(name: bytes, tmp_path: Path) -> None:
    program = os.path.join(os.fsencode(tmp_path), name)
    shutil.copy(os.fsencode(shutil.which("cat") or ""), program)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as running:
        assert guardian._is_alive(running.pid)
        assert running.stdin
        running.stdin.close()
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert not guardian._is_alive(running.pid)
