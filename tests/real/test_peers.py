"""Peers off the clock: a program that asks a server in the test process gets its answer in time.

Each answer takes real time, and each question has a timeout on the clock, which the test moves far
beyond it. So without patience every question would time out.
"""

from __future__ import annotations

import asyncio
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, NotSettled

START = "2030-01-01T00:00:00Z"
WORLDS: dict[str, dict[str, Any]] = {
    "flow": {},
    "freeze": {"monotonic": "freeze"},
    "autojump": {"autojump": True},
}
ASKED = 6
CEILING_S = 30


class Answers(BaseHTTPRequestHandler):
    """Head and body apart, as http.server writes them."""

    protocol_version = "HTTP/1.1"
    delay_s = 0.05
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        time.sleep(self.delay_s)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def address_string(self) -> str:
        return "a program"

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # which are joined at its end

    def handle_error(self, request: object, client_address: object) -> None:
        """The program was killed while it asked."""


class Server6(Server):
    address_family = socket.AF_INET6


class UnixServer(socketserver.ThreadingUnixStreamServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """As above."""


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def answers() -> type[Answers]:
    return type("Counted", (Answers,), {})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Nobody accepts, reads or answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket | socketserver.TCPServer) -> int:
    name = server.getsockname() if isinstance(server, socket.socket) else server.server_address
    return int(name[1])


# --- clients, each of which writes how often it was answered, and how often it was not ------------

CURL = """answered=0 failed=0
while sleep 1; do
  if [ "$(curl --silent --max-time 2 $1)" = ok ]; then ((++answered)); else ((++failed)); fi
  echo $answered $failed >> $2
done"""

PYTHON = """
import http.client, sys, time
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=2)
answered = failed = 0
while True:
    time.sleep(1)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
        answered += 1
    except OSError:
        failed += 1
        connection.close()
    with open(sys.argv[3], "a") as file:
        print(answered, failed, file=file)
"""

NODE = """
const http = require("http"), fs = require("fs");
const [to, file] = process.argv.slice(1), agent = new http.Agent({keepAlive: true});
const where = to.startsWith("/") ? {socketPath: to} : {host: "127.0.0.1", port: to};
let answered = 0, failed = 0;
const told = () => fs.appendFileSync(file, `${answered} ${failed}\\n`);
setInterval(() => {
  const request = http.get({...where, agent, timeout: 2000}, response => {
    response.resume().on("end", () => { answered++; told(); });
  });
  request.on("timeout", () => request.destroy(new Error("timeout")));
  request.on("error", () => { failed++; told(); });
}, 1000);
"""

CLIENTS: dict[str, tuple[str, Callable[[Any, str], list[str]]]] = {
    "curl": (
        "inet",
        lambda port, out: ["bash", "-c", CURL, "-", f"http://127.0.0.1:{port}/", out],
    ),
    "curl by IPv6": (
        "inet6",
        lambda port, out: ["bash", "-c", CURL, "-", f"http://[::1]:{port}/", out],
    ),
    "curl by a Unix socket": (
        "unix",
        lambda path, out: ["bash", "-c", CURL, "-", f"--unix-socket {path} http://x/", out],
    ),
    "Python, one connection": (
        "inet",
        lambda port, out: [sys.executable, "-c", PYTHON, "127.0.0.1", str(port), out],
    ),
    "Node, one connection": ("inet", lambda port, out: ["node", "-e", NODE, str(port), out]),
    "Node, one Unix socket": ("unix", lambda path, out: ["node", "-e", NODE, str(path), out]),
}


def serve(family: str, answers: type[Answers], directory: Path) -> tuple[Any, Any]:
    if family == "unix":
        return UnixServer(str(directory / "socket"), answers), directory / "socket"
    server = (Server6 if family == "inet6" else Server)(
        ("::1" if family == "inet6" else "127.0.0.1", 0), answers
    )
    return server, port_of(server)


def counts(path: Path) -> list[tuple[int, int]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(answered), int(failed)) for answered, failed in map(str.split, lines)]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("world", WORLDS)
def test_each_question_is_answered(
    world: str, client: str, answers: type[Answers], tmp_path: Path
) -> None:
    family, command = CLIENTS[client]
    server, where = serve(family, answers, tmp_path)
    out = tmp_path / "out"
    with running(server), FrozenClock(START, **WORLDS[world]) as clock:
        clock.popen(command(where, str(out)))
        if world == "autojump":
            until = time.monotonic() + CEILING_S
            while len(counts(out)) < ASKED and time.monotonic() < until:
                time.sleep(0.01)
        else:
            clock.settle()
            clock.advance(ASKED)
        found = counts(out)
    assert len(found) >= ASKED if world == "autojump" else len(found) == ASKED
    assert [failed for _, failed in found] == [0] * len(found)


def test_settle_waits_for_the_answer(answers: type[Answers]) -> None:
    answers.delay_s = 0.3
    server = Server(("127.0.0.1", 0), answers)
    with running(server), FrozenClock(START, monotonic="freeze") as clock:
        url = f"http://127.0.0.1:{port_of(server)}/"
        program = clock.popen(["curl", "--silent", "--max-time", "5", url], stdout=PIPE, text=True)
        while not answers.asked:
            time.sleep(0.01)
        clock.settle()
        assert program.communicate(timeout=CEILING_S)[0] == "ok"


WAITS_FOR_EVER = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(b"?")
print(connection.recv(1).decode())
"""


def test_a_default_timeout_of_the_test_process(listener: socket.socket) -> None:
    """It is none of the program's sockets, which the tracer looks at as copies."""
    with FrozenClock(START, patience=0.2) as clock:
        command = [sys.executable, "-c", WAITS_FOR_EVER, str(port_of(listener))]
        program = clock.popen(command, stdout=PIPE, stderr=STDOUT, text=True)
        with listener.accept()[0] as connection:
            assert connection.recv(1) == b"?"
            socket.setdefaulttimeout(5)
            try:
                clock.advance(hours=1)
            finally:
                socket.setdefaulttimeout(None)
            connection.sendall(b"!")
            assert program.communicate(timeout=CEILING_S)[0] == "!\n"


def test_awaited_verbs(tmp_path: Path) -> None:
    """The server is on the loop of the test itself, which runs on meanwhile."""
    out, ended = tmp_path / "out", asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.05)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                await writer.drain()
                writer.write(b"ok")
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        ended.set()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with FrozenClock(START) as clock:
            clock.popen([sys.executable, "-c", PYTHON, "127.0.0.1", str(port), str(out)])
            await clock.aio.settle()
            await clock.aio.advance(ASKED)
            server.close()
            assert counts(out) == [(number, 0) for number in range(1, ASKED + 1)]
            await clock.aio.close()
            await ended.wait()

    asyncio.run(main())


# --- peers that do not answer ---------------------------------------------------------------------

ASK = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.settimeout(60)
    for _ in range(int(sys.argv[2])):
        connection.sendall(b"?")
        try:
            connection.recv(1)
        except TimeoutError:
            print("timed out at", time.strftime("%H:%M:%S", time.gmtime()), flush=True)
"""


@pytest.mark.parametrize("world", WORLDS)
def test_a_peer_that_hangs_costs_patience_once_for_each_question(
    world: str, listener: socket.socket
) -> None:
    patience_s, questions = 0.3, 3
    with FrozenClock(START, patience=patience_s, **WORLDS[world]) as clock:
        command = [sys.executable, "-c", ASK, str(port_of(listener)), str(questions)]
        began = time.monotonic()
        program = clock.popen(command, stdout=PIPE, text=True)
        if world != "autojump":
            clock.settle()
            clock.advance(minutes=questions)
        output, _ = program.communicate(timeout=CEILING_S)
        took_s = time.monotonic() - began
    expected = [f"timed out at 00:0{minute}:00" for minute in (1, 2, 3)]
    if world == "flow":  # where a wait begins before the lines stand
        assert len(output.splitlines()) == questions
    else:
        assert output.splitlines() == expected
    assert took_s > 0.9 * patience_s * questions  # in ticks of the kernel


@pytest.mark.parametrize("world", ["flow", "freeze"])
def test_no_patience(world: str, listener: socket.socket) -> None:
    with FrozenClock(START, patience=0, **WORLDS[world]) as clock:
        command = [sys.executable, "-c", ASK, str(port_of(listener)), "3"]
        program = clock.popen(command, stdout=PIPE, text=True)
        clock.settle()
        clock.advance(minutes=3)
        output, _ = program.communicate(timeout=CEILING_S)
    assert output.count("timed out at") == 3


def test_not_settled_names_the_peer(listener: socket.socket) -> None:
    port = port_of(listener)
    with FrozenClock(START, patience=CEILING_S) as clock:
        program = clock.popen([sys.executable, "-c", ASK, str(port), "1"], stdout=PIPE, text=True)
        with listener.accept()[0] as connection:
            assert connection.recv(1) == b"?"
            with pytest.raises(NotSettled, match=f"waits for the answer of 127.0.0.1:{port}"):
                clock.advance(minutes=1, timeout=0.3)
            assert clock.now.isoformat() == "2030-01-01T00:00:00+00:00"
            connection.sendall(b"!")
            clock.advance(minutes=1)
        assert program.communicate(timeout=CEILING_S)[0] == ""


def test_a_peer_that_is_slow_once(answers: type[Answers], tmp_path: Path) -> None:
    class SlowOnce(answers):  # type: ignore[misc, valid-type]
        def do_GET(self) -> None:
            self.delay_s = 1.5 if answers.asked == 2 else 0.01
            answers.asked += 1
            with suppress(OSError):  # the program did not wait so long
                super().do_GET()

    server, out = Server(("127.0.0.1", 0), SlowOnce), tmp_path / "out"
    with running(server), FrozenClock(START, patience=0.3) as clock:
        clock.popen([sys.executable, "-c", PYTHON, "127.0.0.1", str(port_of(server)), str(out)])
        clock.settle()
        clock.advance(ASKED + 2)  # one of them takes three seconds of the clock
        assert counts(out)[-1] == (ASKED - 1, 1)


def test_an_answer_in_two_parts(answers: type[Answers], tmp_path: Path) -> None:
    """curl polls its connection beside sockets by which it wakes itself, with a timeout each."""

    class Apart(answers):  # type: ignore[misc, valid-type]
        def end_headers(self) -> None:
            super().end_headers()
            time.sleep(0.1)

    server, out = Server(("127.0.0.1", 0), Apart), tmp_path / "out"
    with running(server), FrozenClock(START, monotonic="freeze") as clock:
        _, command = CLIENTS["curl"]
        clock.popen(command(port_of(server), str(out)))
        clock.settle()
        clock.advance(ASKED)
        assert counts(out) == [(number + 1, 0) for number in range(ASKED)]


SAY = """
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.settimeout(60)
try:
    {}
except TimeoutError:
    print("timed out", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("says", "prints"),
    [
        ("while connection.sendall(bytes(2**20)) is None: pass", "timed out\n"),
        ("connection.shutdown(socket.SHUT_WR); connection.recv(1)", "timed out\n"),
        ("connection.recv(1)", "timed out\n"),
    ],
    ids=["a peer that reads nothing", "half closed", "a peer that is to speak first"],
)
def test_silent_peers(says: str, prints: str, listener: socket.socket) -> None:
    with FrozenClock(START, patience=0.2) as clock:
        command = [sys.executable, "-c", SAY.format(says), str(port_of(listener))]
        program = clock.popen(command, stdout=PIPE, text=True)
        clock.settle()
        clock.advance(minutes=10)
        program.kill()
        assert program.communicate(timeout=CEILING_S)[0] == prints


def test_a_peer_that_sends_for_ever(listener: socket.socket) -> None:
    """Who reads all the time does not settle, as without a peer; the clock is usable then."""

    def send(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while True:
                connection.sendall(b"x" * 1000)

    with FrozenClock(START) as clock:
        reads = "while connection.recv(10): pass"
        program = clock.popen([sys.executable, "-c", SAY.format(reads), str(port_of(listener))])
        sender = threading.Thread(target=send, args=(listener.accept()[0],))
        sender.start()
        with pytest.raises(NotSettled):
            clock.advance(minutes=10, timeout=0.5)
        program.kill()
        program.wait()
        sender.join()
        clock.advance(minutes=1)


# --- what holds up nothing ------------------------------------------------------------------------

MUCH_S = 60.0


def quickly(clock: FrozenClock, seconds: float) -> None:
    """Not as slowly as if some peer were waited for."""
    began = time.monotonic()
    clock.advance(seconds, timeout=MUCH_S)
    assert time.monotonic() - began < MUCH_S


def test_programs_of_the_clock_are_no_peers_off_it(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with FrozenClock(START, patience=MUCH_S) as clock:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(port_of(free))
        options = ["--port", port, "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
        clock.popen(["redis-server", *options], stdout=DEVNULL)
        while not path.exists():
            time.sleep(0.01)
        for how in (["-p", port], ["-s", str(path)]):
            clock.popen(["redis-cli", *how, "BLPOP", "nothing", "30"], stdout=DEVNULL)
        clock.settle()
        quickly(clock, 60)
        assert [one.argv[0] for one in clock.processes if "redis-cli" in one.argv[0]] == []


def test_a_program_that_talks_to_itself() -> None:
    says = (
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "    mine = socket.create_connection(server.getsockname())\n"
        "    mine.sendall(b'?'); mine.settimeout(60); mine.recv(1)"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        FrozenClock(START, patience=MUCH_S) as clock,
    ):
        command = [sys.executable, "-c", SAY.format(says), str(port_of(server))]
        program = clock.popen(command, stdout=PIPE, text=True)
        server.accept()[0].close()
        quickly(clock, 60)
        program.kill()
        assert program.communicate(timeout=CEILING_S)[0] == "timed out\n"


SERVER = """
import asyncio, sys
async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(line)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        await asyncio.sleep(0.5)
asyncio.run(main())
"""


def test_idle_connections_of_the_test_to_a_server() -> None:
    """Their last words were the server's own."""
    with FrozenClock(START, patience=MUCH_S) as clock, ExitStack() as stack:
        server = clock.popen([sys.executable, "-c", SERVER], stdout=PIPE, text=True)
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for _ in range(5):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(b"hello\n")
            assert client.recv(6) == b"hello\n"
        quickly(clock, 60)


def test_thousands_of_connections(listener: socket.socket) -> None:
    """They were the last to speak, a while ago; and more of them end at once."""
    says = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
        "    many = [socket.create_connection(connection.getpeername()) for _ in range(2000)]\n"
        "    [one.sendall(b'?') for one in many]\n"
        "    print('asked', flush=True)\n"
        "    for _ in range(10): time.sleep(1)\n"
        "    print('slept', flush=True)"
    )
    listener.listen(4096)
    with FrozenClock(START, patience=0.5) as clock:
        command = [sys.executable, "-c", SAY.format(says), str(port_of(listener))]
        program = clock.popen(command, stdout=PIPE, text=True)
        assert program.stdout is not None
        assert program.stdout.readline() == "asked\n"
        quickly(clock, 10)
        assert program.stdout.readline() == "slept\n"


def test_connections_that_have_ended_are_forgotten(listener: socket.socket) -> None:
    """Though nothing ever waits for the programs to rest."""
    connects = (
        "import socket, sys\n"
        "for _ in range(3000):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:\n"
        "        one.connect(('127.0.0.1', int(sys.argv[1])))\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()"
    )
    with FrozenClock(START) as clock:
        command = [sys.executable, "-c", connects, str(port_of(listener))]
        with clock.popen(command, stdin=PIPE, stdout=PIPE) as program:
            world = clock.session.start_tracing()[1]
            deadline = time.monotonic() + CEILING_S
            most = 0
            assert program.stdout
            while not select.select([program.stdout], [], [], 0.001)[0]:
                assert time.monotonic() < deadline
                most = max(most, len(world.network.peers))
            most = max(most, len(world.network.peers))
            program.kill()
        assert 0 < most <= 1001


# --- what a program has from its starter ----------------------------------------------------------

BY_PIPE = """
import select, sys, time
for _ in range(3):
    time.sleep(60)
    print("?", flush=True)
    if select.select([sys.stdin], [], [], 10)[0]:
        print("answer", sys.stdin.readline().strip(), flush=True)
    else:
        print("timed out", flush=True)
"""


@pytest.mark.parametrize("world", ["flow", "freeze"])
def test_answers_by_a_pipe(world: str) -> None:
    with FrozenClock(START, patience=MUCH_S, **WORLDS[world]) as clock:
        command = [sys.executable, "-c", BY_PIPE]
        program = clock.popen(command, stdin=PIPE, stdout=PIPE, text=True, bufsize=1)
        assert program.stdin is not None
        assert program.stdout is not None
        lines: list[str] = []

        def answer() -> None:
            assert program.stdin is not None
            assert program.stdout is not None
            for line in program.stdout:
                lines.append(line)
                if line == "?\n":
                    time.sleep(0.1)
                    program.stdin.write(f"{len(lines)}\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with program:
            clock.advance(minutes=5)
            program.wait(timeout=CEILING_S)
            thread.join()
    assert lines == ["?\n", "answer 1\n", "?\n", "answer 3\n", "?\n", "answer 5\n"]


@pytest.mark.parametrize("world", WORLDS)
def test_a_program_that_only_reads_a_pipe(world: str) -> None:
    """And has none to ask by."""
    waits = "import select, sys; sys.exit(len(select.select([sys.stdin], [], [], 60)[0]))"
    with FrozenClock(START, patience=MUCH_S, **WORLDS[world]) as clock:
        command = [sys.executable, "-c", waits]
        with clock.popen(command, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL) as program:
            if world != "autojump":
                quickly(clock, 61)
            assert program.wait(timeout=CEILING_S) == 0


def test_a_program_that_is_asked_by_a_pipe_holds_up_nothing() -> None:
    """It says its last word, and waits for the test's next."""
    with FrozenClock(START, patience=MUCH_S) as clock:
        program = clock.popen(["cat"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1)
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("hello\n")
        assert program.stdout.readline() == "hello\n"
        clock.popen(["sleep", "60"])
        quickly(clock, 60)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "error"),
    [(-1, ValueError), (float("inf"), ValueError), (float("nan"), ValueError), ("1", TypeError)],
)
def test_bad_patience(patience: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="patience is"):
        FrozenClock(patience=patience)
