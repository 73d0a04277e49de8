"""The clock over HTTP: what each request does, and that no client can harm the clock or another."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import ClockClosed, FrozenClock
from pytest_vdsotime.control.server import ControlServer

VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]
AT = "2030-01-01T00:00:00Z"
EPOCH_NS = 1893456000 * 10**9
BUSY = ["sh", "-c", "while :; do :; done"]
CEILING_S = 30.0
IN_TIME_S = 5.0  # no client has to wait for another so long


class Client(HTTPConnection):
    """Of either kind of address. What it asks has the server's token, unless a test says more."""

    def __init__(self, server: ControlServer) -> None:
        _, _, port = server.address.rpartition(":")
        super().__init__("127.0.0.1", int(port) if server.token else 80, timeout=CEILING_S)
        self._where = server.address
        self._head = {"Authorization": f"Bearer {server.token}"} if server.token else {}

    def connect(self) -> None:
        self.sock = connected(self._where)

    def ask(self, request: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and answer of a request such as "POST /advance"; bytes go as they are."""
        method, path = request.split()
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        self.request(method, path, data, {**self._head, **headers})
        answer = self.getresponse()
        text = answer.read().decode()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(text) if is_json else text


def connected(where: str) -> socket.socket:
    host, _, rest = where.rpartition(":")
    if host == "unix":
        found = socket.socket(socket.AF_UNIX)
        found.connect(rest)
    else:
        found = socket.create_connection((host.strip("[]"), int(rest)))
    found.settimeout(CEILING_S)
    return found


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock(AT, monotonic="freeze") as clock:
        yield clock


@pytest.fixture
def server(clock: FrozenClock) -> Iterator[ControlServer]:
    with clock.serve() as server:
        yield server


@pytest.fixture
def ask(server: ControlServer) -> Iterator[Callable[..., tuple[int, Any]]]:
    client = Client(server)
    yield client.ask
    client.close()


Ask = Callable[..., tuple[int, Any]]


# What each request does.


@pytest.mark.parametrize("address", [None, "127.0.0.1:0", "[::1]:0"])
def test_the_table(clock: FrozenClock, address: str | None) -> None:
    sleeper = clock.popen(["sh", "-c", "sleep 1h; sleep 1d; exec sleep 20d"])
    clock.settle()
    with clock.serve(address) as server:
        client = Client(server)
        ask = client.ask
        status, at = ask("GET /clock")
        assert (status, at["now"], at["time_ns"], at["rate"]) == (200, AT, EPOCH_NS, 0.0)
        assert at["monotonic_ns"] == clock.monotonic_ns()
        (wait,) = ask("GET /waits")[1]
        assert (wait["syscall"], wait["remaining"]) == ("clock_nanosleep", 3600.0)
        assert [one["argv"] for one in ask("GET /processes")[1]][1] == ["sleep", "1h"]
        assert "clock_nanosleep for 3600 s" in ask("GET /describe")[1]
        assert ask("POST /advance", {"hours": 1})[1]["now"] == "2030-01-01T01:00:00Z"
        assert ask("GET /waits")[1][0]["remaining"] == 86400.0
        assert ask("POST /advance", {"span": "1h30m", "stride": "1h"})[0] == 200
        assert ask("POST /advance", {"minutes": 30, "stride": None, "timeout": 5})[0] == 200
        assert ask("POST /advance_to_next")[1]["now"] == "2030-01-02T01:00:00Z"
        assert ask("POST /jump", {"days": 30, "seconds": 1})[1]["now"] == "2030-02-01T01:00:01Z"
        assert sleeper.wait(CEILING_S) == 0
        assert ask("POST /advance_to_next", {}) == (200, {**ask("GET /clock")[1], "moved": False})
        assert ask("POST /move_to", {"when": "1970-01-01"})[1]["time_ns"] == 0
        assert ask("POST /move_to", {"when": "+1h30m"})[1]["time_ns"] == 5400 * 10**9
        assert ask("POST /move_to", {"when": 86400})[1]["now"] == "1970-01-02T00:00:00Z"
        assert ask("POST /settle", {"timeout": 1})[0] == ask("POST /settle")[0] == 200
        assert ask("POST /rate", {"rate": 60})[1]["rate"] == clock.rate == 60.0
        assert ask("GET /openapi.json")[1]["openapi"].startswith("3.1")
        client.close()


def test_before_the_first_program(ask: Ask) -> None:
    assert ask("POST /advance", {"seconds": 1.5})[1]["time_ns"] == EPOCH_NS + 1_500_000_000
    assert ask("GET /waits") == ask("GET /processes") == (200, [])
    assert ask("POST /advance_to_next")[1]["moved"] is False


def test_a_program_that_does_not_settle(clock: FrozenClock, ask: Ask) -> None:
    with clock.popen(BUSY) as busy:
        status, answer = ask("POST /settle", {"timeout": 0.1})
        assert (status, answer["error"]) == (409, "NotSettled")
        assert str(busy.pid) in answer["message"] and len(answer["busy"]) == 1
        assert ask("POST /advance", {"days": 1, "timeout": 0.1})[0] == 409
        busy.kill()


@pytest.mark.long
def test_schemathesis(clock: FrozenClock, tmp_path: Path) -> None:
    """The server is what its document says, for requests of every kind that this allows or not.

    That a span or an instant is one, JSON Schema cannot say.
    """
    clock.popen(["sleep", "1000d"])
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(
        "[[operations]]\n"
        'include-path-regex = "^/(advance|jump|move_to)$"\n'
        "checks.positive_data_acceptance.enabled = false\n"
    )
    with clock.serve("127.0.0.1:0") as server:
        program = str(Path(sys.executable).with_name("schemathesis"))
        command = [program, "--config-file", str(settings), "run"]
        command += [f"http://{server.address}/openapi.json", "--mode=all", "--max-examples=3"]
        command += ["--seed=1", f"--header=Authorization: Bearer {server.token}", "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout
        assert "Tested: 10" in done.stdout


# Bad input: the status of the table, and the clock is as it was.

NESTED = b'{"seconds":' + b"[" * 20000 + b"]" * 20000 + b"}"
BAD_BODIES: list[tuple[str, object]] = [
    ("/advance", b"{"),
    ("/advance", b'{"seconds": 1'),
    ("/advance", b"\xff\xfe"),
    ("/advance", b"null"),
    ("/advance", b"[]"),
    ("/advance", b"3600"),
    ("/advance", b'{"seconds": NaN}'),
    ("/advance", b'{"seconds": Infinity}'),
    ("/advance", b'{"seconds": 1e400}'),
    ("/advance", b'{"seconds": ' + b"9" * 5000 + b"}"),
    ("/advance", b'{"seconds": 1, "seconds": 2}'),
    ("/advance", NESTED),
    ("/advance", {}),
    ("/advance", {"seconds": -1}),
    ("/advance", {"seconds": "1"}),
    ("/advance", {"seconds": True}),
    ("/advance", {"seconds": None}),
    ("/advance", {"seconds": 1e300}),
    ("/advance", {"days": 10**9}),
    ("/advance", {"years": 1}),
    ("/advance", {"seconds": 1, "span": "1h"}),
    ("/advance", {"span": "-1h"}),
    ("/advance", {"span": "soon"}),
    ("/advance", {"span": 3600}),
    ("/advance", {"seconds": 1, "stride": 0}),
    ("/advance", {"seconds": 1, "stride": "-1h"}),
    ("/advance", {"seconds": 1, "stride": []}),
    ("/advance", {"seconds": 1, "timeout": 0}),
    ("/advance", {"seconds": 1, "timeout": -1}),
    ("/advance", {"seconds": 1, "timeout": 1e300}),
    ("/settle", {"timeout": 10**400}),
    ("/jump", {"seconds": -1}),
    ("/jump", {"seconds": 1, "stride": "1h"}),
    ("/advance_to_next", {"seconds": 1}),
    ("/move_to", {}),
    ("/move_to", {"when": None}),
    ("/move_to", {"when": "tomorrowish"}),
    ("/move_to", {"when": 1e300}),
    ("/move_to", {"when": "10000-01-01"}),
    ("/rate", {}),
    ("/rate", {"rate": -1}),
    ("/rate", {"rate": 1e300}),
    ("/rate", {"rate": "fast"}),
    ("/settle", {"timeout": "long"}),
]


def test_bad_bodies(clock: FrozenClock, ask: Ask) -> None:
    """On one connection, which goes on."""
    with clock.popen(["sleep", "1h"]):
        clock.settle()
        before = ask("GET /clock"), ask("GET /waits")
        for path, body in BAD_BODIES:
            status, answer = ask(f"POST {path}", body)
            assert status == 400, (path, body, answer)
            assert answer["message"] and answer["error"], (path, body)
            assert "\n" not in answer["message"]
            assert not re.search(r"Traceback|sys\.|int\b|float", answer["message"]), answer
            assert (ask("GET /clock"), ask("GET /waits")) == before, (path, body)
        clock.advance(hours=1)


def test_messages_speak_of_json(ask: Ask) -> None:
    """What is wrong, and what can be written there."""
    assert "'years' is unknown: /advance takes" in ask("POST /advance", {"years": 1})[1]["message"]
    assert "'seconds' is a number, not \"1\"" in ask("POST /jump", {"seconds": "1"})[1]["message"]
    assert '{"span": "1h"}' in ask("POST /advance", {})[1]["message"]
    assert "GET /clock" in ask("GET /")[1]["message"]


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /", 404),
        ("POST /stop", 404),
        ("GET /clock/", 404),
        ("GET /%2e%2e/etc/passwd", 404),
        ("GET /advance", 405),
        ("POST /clock", 405),
        ("DELETE /clock", 405),
        ("HEAD /clock", 405),
        ("BREW /clock", 405),
        ("GET /clock?now=1", 400),
    ],
)
def test_unknown_requests(request_line: str, status: int, server: ControlServer) -> None:
    client = Client(server)
    method, path = request_line.split()
    client.request(method, path)
    answer = client.getresponse()
    assert answer.status == status
    assert (answer.headers["Allow"] is not None) == (status == 405)
    answer.read()
    assert client.ask("GET /clock")[0] == 200
    client.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET /clock HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /clock HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"POST /advance HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /advance HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /advance HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n" + b" " * 5_000_000,
        b"POST /advance HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /advance HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
        b"POST /advance HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n\r\n",
        b"POST /advance HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        *(
            b"POST /advance HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + body
            for body in (
                b'\r\n0xd\r\n{"seconds": 2}\r\n0\r\n\r\n',
                b'\r\n+d\r\n{"seconds": 2}\r\n0\r\n\r\n',
                b'\r\n1_2\r\n{"seconds": 2345}\r\n0\r\n\r\n',
                b'\r\nd\r\n{"seconds": 2}X\r\n0\r\n\r\n',
                b'\r\nd\r\n{"seconds": 2}\r\n0\r\n' + b"A: b\r\n" * 1000 + b"\r\n",
                b'Content-Length: 13\r\n\r\nd\r\n{"seconds": 2}\r\n0\r\n\r\n',
            )
        ),
        b'POST /advance HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 13\r\n\r\n{"seconds": 2}',
        b'POST /advance HTTP/1.1\r\nContent-Length : 13\r\n\r\n{"seconds": 2}',
        b'POST /advance HTTP/1.1\r\n Content-Length: 13\r\n\r\n{"seconds": 2}',
    ],
    ids=lambda sent: sent[:60].decode().replace("\r\n", " ").strip(),
)
def test_what_is_no_request(sent: bytes, server: ControlServer, ask: Ask) -> None:
    """It is answered by an error and the end of the connection, as far as it is read."""
    with connected(server.address) as raw:
        with suppress(BrokenPipeError, ConnectionResetError):
            raw.sendall(sent)
        answer = b""
        with suppress(ConnectionResetError):
            while data := raw.recv(65536):
                answer += data
        assert not answer or answer.split()[1][:1] in (b"4", b"5")
    assert ask("GET /clock")[1]["time_ns"] == EPOCH_NS


def test_a_body_in_chunks(ask: Ask) -> None:
    client: Any = ask.__self__  # type: ignore[attr-defined]
    client.request("POST", "/advance", iter([b'{"sec', b'onds": 2}']), encode_chunked=True)
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())["time_ns"]) == (200, EPOCH_NS + 2 * 10**9)
    assert ask("GET /clock")[0] == 200


# Who may ask.


def test_a_served_clock_has_no_child_for_the_test() -> None:
    """What removes its socket is neither waited for nor told as one in real time."""
    with FrozenClock() as clock, clock.serve(), clock.patch_subprocess():
        assert "no clock" not in clock.describe()
        pid = os.posix_spawn("/bin/true", ["true"], os.environ)
        assert os.wait() == (pid, 0)
        with pytest.raises(ChildProcessError):
            os.wait()


def test_the_socket_is_its_owners(server: ControlServer) -> None:
    assert server.token == "" and server.environ == {"VDSOTIME_CONTROL": server.address}
    path = Path(server.address.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_the_token(clock: FrozenClock, address: str) -> None:
    with FrozenClock() as other, other.serve(address) as others, clock.serve(address) as server:
        assert server.environ["VDSOTIME_TOKEN"] == server.token != others.token
        for token in (
            "",
            "Bearer",
            f"Bearer {others.token}",
            f"Basic {server.token}",
            "Bearer \xe9",
        ):
            client = Client(server)
            status, answer = client.ask("POST /advance", {"seconds": 1}, Authorization=token)
            assert (status, answer["error"]) == (401, "Unauthorized"), token
            assert server.token not in answer["message"]
            client.close()
    assert clock.time_ns() == EPOCH_NS


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:80", 200),
        ("[::1]:80", 200),
        ("clock.example.org", 400),
        ("clock.example.org:80", 400),
        ("127.0.0.1.example.org", 400),
        ("", 400),
    ],
)
def test_the_host(host: str, status: int, clock: FrozenClock) -> None:
    """A page of elsewhere whose name leads here (DNS rebinding) sends its own."""
    with clock.serve("127.0.0.1:0") as server:
        client = Client(server)
        assert client.ask("GET /clock", Host=host)[0] == status
        client.close()


@pytest.mark.parametrize(
    "address",
    [
        *("", "unix:", "here", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"),
        f"127.0.0.1:{'9' * 5000}",
        *("0.0.0.0:0", "[::]:0", "192.0.2.1:80", "example.org:80", "localhost:0"),
        f"unix:/{'a' * 200}",
    ],
)
def test_addresses_that_cannot_be(address: str, clock: FrozenClock) -> None:
    with pytest.raises(ValueError, match=r"unix:PATH or 127\.0\.0\.1:PORT|longer than the 107"):
        clock.serve(address)


def test_addresses_in_use(clock: FrozenClock, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unix:PATH"):
        clock.serve(80)  # type: ignore[arg-type]
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="it exists, and is no socket"):
        clock.serve(f"unix:{file}")
    assert file.read_text() == "mine"
    with pytest.raises(FileNotFoundError):
        clock.serve(f"unix:{tmp_path}/none/socket")
    for address in (f"unix:{tmp_path}/socket", "127.0.0.1:0"):
        with clock.serve(address) as server, pytest.raises(OSError, match="use|served there"):
            clock.serve(server.address)
        with clock.serve(server.address) as again:
            client = Client(again)
            assert client.ask("GET /clock")[0] == 200
            client.close()


def test_a_stale_socket_is_replaced(clock: FrozenClock, tmp_path: Path) -> None:
    """Of a `vdsotime` that was killed, with all that it has started."""
    path = tmp_path / "socket"
    command = [*VDSOTIME, "--control", f"unix:{path}", "sh", "-c", "echo; exec sleep 1h"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == b"\n"
        tracer = Path(f"/proc/{killed.pid}/status").read_text().partition("TracerPid:\t")[2]
        os.kill(int(tracer.split()[0]), signal.SIGKILL)
        assert killed.wait(CEILING_S) == -signal.SIGKILL
    assert stat.S_ISSOCK(path.stat().st_mode)
    with clock.serve(f"unix:{path}") as server:
        client = Client(server)
        assert client.ask("GET /clock")[0] == 200
        client.close()
    assert not path.exists()


# Slow clients, many, and such as have gone.


def test_slow_clients_hold_up_nobody(clock: FrozenClock, server: ControlServer, ask: Ask) -> None:
    with clock.popen(["sleep", "1h"]), ExitStack() as slow:
        for sent in (b"", b"G", b"POST /advance HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"):
            for _ in range(20):
                slow.enter_context(connected(server.address)).sendall(sent)
        for _ in range(20):  # nobody reads these answers
            slow.enter_context(connected(server.address)).sendall(
                b"GET /openapi.json HTTP/1.1\r\n\r\n" * 200
            )
        start = time.monotonic()
        assert ask("POST /advance", {"hours": 1})[1]["now"] == "2030-01-01T01:00:00Z"
        assert time.monotonic() - start < IN_TIME_S
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 2 * IN_TIME_S + 10


def test_a_thousand_connections(clock: FrozenClock, server: ControlServer) -> None:
    """Those that ask nothing make room for those that do."""
    with clock.popen(["sleep", "1h"]), ExitStack() as crowd:
        for _ in range(1000):
            crowd.enter_context(connected(server.address))
        client = Client(server)
        assert client.ask("POST /advance", {"hours": 1})[1]["now"] == "2030-01-01T01:00:00Z"
        assert clock.check_output(["date", "-u", "+%R"]) == b"01:00\n"
        client.close()


TICKER = ["sh", "-c", "while :; do sleep 1; done"]


def test_a_client_that_has_gone(clock: FrozenClock, server: ControlServer, ask: Ask) -> None:
    """What it has asked for ends all the same."""
    with clock.popen(TICKER) as ticker:
        with connected(server.address) as raw:
            raw.sendall(b'POST /advance HTTP/1.1\r\nContent-Length: 15\r\n\r\n{"minutes": 10}')
            while clock.time_ns() == EPOCH_NS:
                time.sleep(0.001)
        assert ask("POST /advance", {"minutes": 1})[1]["now"] == "2030-01-01T00:11:00Z"
        ticker.kill()


def test_two_advance_at_once(clock: FrozenClock, server: ControlServer) -> None:
    """They take turns, and a look at the clock waits for neither."""

    def advance(_: int) -> tuple[int, Any]:
        client = Client(server)
        try:
            return client.ask("POST /advance", {"minutes": 2})
        finally:
            client.close()

    looks = []
    with clock.popen(TICKER) as ticker, ThreadPoolExecutor(2) as pool:
        both = [pool.submit(advance, one) for one in range(2)]
        client = Client(server)
        while not all(one.done() for one in both):
            looks.append(client.ask("GET /clock")[1]["time_ns"])
        client.close()
        ticker.kill()
    ends = sorted(one.result()[1]["now"] for one in both)
    assert ends[1] == "2030-01-01T00:04:00Z"
    assert looks == sorted(looks) and len(set(looks)) > 2


# The end.


def test_the_clock_is_closed(clock: FrozenClock, tmp_path: Path) -> None:
    """What is under way is told so, and so is the next request of a connection."""
    answers = []
    server = clock.serve(f"unix:{tmp_path}/socket")
    clock.popen(TICKER)

    def advance() -> None:
        client = Client(server)
        answers.append(client.ask("POST /advance", {"days": 300}))
        client.close()

    thread = threading.Thread(target=advance)
    thread.start()
    while clock.time_ns() == EPOCH_NS:
        time.sleep(0.001)
    clock.close()
    thread.join()
    ((status, answer),) = answers
    assert (status, answer["error"]) == (410, "ClockClosed")
    assert not Path(tmp_path / "socket").exists()
    with pytest.raises(ClockClosed):
        clock.serve()
    server.close()


def test_close_with_a_request_under_way(clock: FrozenClock, server: ControlServer) -> None:
    """It is answered first."""
    with connected(server.address) as raw, clock.popen(TICKER) as ticker:
        raw.sendall(b'POST /advance HTTP/1.1\r\nContent-Length: 14\r\n\r\n{"minutes": 5}')
        while clock.time_ns() == EPOCH_NS:
            time.sleep(0.001)
        server.close()
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        ticker.kill()
    assert f"{clock.now:%R}" == "00:05"
    server.close()


def test_after_a_fork(clock: FrozenClock, server: ControlServer, ask: Ask) -> None:
    """The child's copy ends nothing."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            server.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert ask("GET /clock")[0] == 200
    client = Client(server)
    assert client.ask("GET /clock")[0] == 200
    client.close()
