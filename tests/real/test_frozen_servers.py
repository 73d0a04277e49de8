"""Programs live in the frozen world without help: they start, serve and end, while the short waits
of their runtimes pass in real time, and the wall line stands still to the nanosecond."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder
    from tests.real.conftest import Program, Start

START_S = 1_900_000_000
CEILING_S = 30  # of real time
GRACE_S = 0.02  # the default

Find = Callable[[str], str]


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock(START_S, monotonic="freeze") as clock:
        yield clock


def wall_stands(clock: FrozenClock) -> bool:
    return clock.time_ns() == START_S * 10**9


# Short sleeps, after which a program looks at the clock

RUBY_SLEEPS = """
begin_ms = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
10.times { sleep 0.001 }
puts (Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond) - begin_ms + 0.001).floor
"""
NODE_SLEEPS = """
const begin = performance.now();
let left = 10;
const say = () => console.log(Math.floor(performance.now() - begin));
const next = () => left-- ? setTimeout(next, 1) : say();
next();
"""
JAVA_SLEEPS = """
public class Sleeps {
    public static void main(String[] arguments) throws Exception {
        long begin = System.nanoTime();
        for (int i = 0; i < 10; i++) Thread.sleep(1);
        System.out.println((System.nanoTime() - begin) / 1_000_000);
    }
}
"""
ERLANG_SLEEPS = """
Begin = erlang:monotonic_time(), [timer:sleep(1) || _ <- lists:seq(1, 10)],
Passed = erlang:convert_time_unit(erlang:monotonic_time() - Begin, native, millisecond),
io:format("~p~n", [Passed]), halt().
"""

Command = Callable[[Find, Path, Any], list[str]]


def java(find: Find, directory: Path, name: str, source: str) -> list[str]:
    (directory / f"{name}.java").write_text(source)
    return [find("java"), "-XX:TieredStopAtLevel=1", str(directory / f"{name}.java")]


SLEEPS: dict[str, Command] = {
    "ruby": lambda find, _directory, _build: [find("ruby"), "-e", RUBY_SLEEPS],
    "go": lambda _find, _directory, build: [build.go("helpers/short_sleeps")],
    "node": lambda find, _directory, _build: [find("node"), "-e", NODE_SLEEPS],
    "java": lambda find, directory, _build: java(find, directory, "Sleeps", JAVA_SLEEPS),
    "erlang": lambda find, _directory, _build: [find("erl"), "-noinput", "-eval", ERLANG_SLEEPS],
}


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "HOME": "/"}  # Erlang wants one


@pytest.mark.parametrize("name", SLEEPS)
def test_short_sleeps(
    name: str,
    clock: FrozenClock,
    real_program: Find,
    build: Builder,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    command = SLEEPS[name](real_program, tmp_path, build)
    output = clock.check_output(command, env=environment, text=True, timeout=CEILING_S)
    assert 10 <= int(output) <= 1000 * 5 * GRACE_S
    assert wall_stands(clock)


def test_ruby_yields(clock: FrozenClock, real_program: Find) -> None:
    command = [real_program("ruby"), "-e", "sleep 0; puts 1"]
    assert clock.check_output(command, text=True, timeout=CEILING_S) == "1\n"
    assert wall_stands(clock)


# As Erlang's schedulers wait.
TIMERFD = """
import ctypes, os, select
libc = ctypes.CDLL(None)
timer = libc.timerfd_create(1, 0)
poll = select.epoll()
poll.register(timer, select.EPOLLIN)
for _ in range(10):
    libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 0, 10**6), None)
    poll.poll()
    os.read(timer, 8)
print("end")
"""


def test_a_short_timer(clock: FrozenClock) -> None:
    command = [sys.executable, "-c", TIMERFD]
    assert clock.check_output(command, text=True, timeout=CEILING_S / 3) == "end\n"
    assert wall_stands(clock)


# Servers

RUBY = """
require "socket"
server = TCPServer.new("127.0.0.1", 0)
puts "ready", server.addr[1]
$stdout.flush
loop do
  Thread.new(server.accept) do |client|
    nil until client.gets.strip.empty?
    sleep 0.001
    client.write "HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nhello"
    client.close
  end
end
"""

NODE = """
const { createServer } = require('http');
const server = createServer((_, answer) => setTimeout(() => answer.end('hello'), 1));
server.listen(0, '127.0.0.1', () => console.log('ready\\n' + server.address().port));
process.on('SIGTERM', () => server.close());
"""

PYTHON = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.001)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("ready", server.server_port, sep="\\n", flush=True)
server.serve_forever()
"""

JAVA = """
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Server {
    public static void main(String[] arguments) throws Exception {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            try {
                Thread.sleep(1);
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
            exchange.sendResponseHeaders(200, 5);
            exchange.getResponseBody().write("hello".getBytes());
            exchange.close();
        });
        server.start();
        System.out.println("ready\\n" + server.getAddress().getPort());
    }
}
"""

# An orderly shutdown of Erlang takes a second: see below.
ERLANG = """
os:set_signal(sigterm, default),
{ok, Server} = gen_tcp:listen(0, [binary, {packet, http_bin}, {active, false}, {ip, {127,0,0,1}}]),
{ok, Port} = inet:port(Server),
io:format("ready~n~p~n", [Port]),
Read = fun(F, C) -> case gen_tcp:recv(C, 0) of {ok, http_eoh} -> ok; {ok, _} -> F(F, C) end end,
Serve = fun(F) ->
    {ok, Client} = gen_tcp:accept(Server),
    Read(Read, Client),
    timer:sleep(1),
    ok = gen_tcp:send(Client, "HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello"),
    gen_tcp:close(Client),
    F(F)
end,
Serve(Serve).
"""

SERVERS: dict[str, Command] = {
    "ruby": lambda find, _directory, _build: [find("ruby"), "-e", RUBY],
    "go": lambda _find, _directory, build: [build.go("helpers/http_server")],
    "node": lambda find, _directory, _build: [find("node"), "-e", NODE],
    "python": lambda _find, _directory, _build: [sys.executable, "-c", PYTHON],
    "java": lambda find, directory, _build: java(find, directory, "Server", JAVA),
    "erlang": lambda find, _directory, _build: [find("erl"), "-noinput", "-eval", ERLANG],
}
# A JVM has its own word for the signal, Node's server shuts down.
STATUSES = {"java": 128 + SIGTERM, "node": 0}


def get(port: int) -> bytes:
    with closing(HTTPConnection("127.0.0.1", port, timeout=CEILING_S)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server(
    name: str,
    clock: FrozenClock,
    start: Start,
    real_program: Find,
    build: Builder,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """The client is the test, in real time. It leaves the clock alone."""
    server = start(clock, SERVERS[name](real_program, tmp_path, build), env=environment)
    port = int(server.line())
    assert [get(port) for _ in range(10)] == [b"hello"] * 10
    server.popen.terminate()
    assert server.popen.wait(CEILING_S) == STATUSES.get(name, -SIGTERM), server.said()
    assert wall_stands(clock)


def test_erlang_shuts_down(
    clock: FrozenClock, start: Start, real_program: Find, environment: dict[str, str]
) -> None:
    """`init:stop`, which is what the VM does at SIGTERM, waits for a second."""
    command = [real_program("erl"), "-noinput", "-eval", 'io:format("ready~n").']
    server = start(clock, command, env=environment)
    server.popen.terminate()
    clock.advance(1)
    assert server.popen.wait(CEILING_S) == 0
    assert clock.time_ns() == (START_S + 1) * 10**9


RACKUP = 'run lambda { |_| [200, {"Content-Type" => "text/plain"}, ["hello"]] }'


def test_puma(clock: FrozenClock, real_program: Find, tmp_path: Path) -> None:
    (tmp_path / "config.ru").write_text(RACKUP)
    command = [real_program("puma"), "-b", "tcp://127.0.0.1:0", "-e", "production", "config.ru"]
    keywords: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with clock.popen(command, cwd=tmp_path, text=True, **keywords) as server:
        assert server.stdout
        port = 0
        for line in server.stdout:
            if listening := re.search(r"Listening on http://127\.0\.0\.1:(\d+)", line):
                port = int(listening[1])
            if "Use Ctrl-C to stop" in line:
                break
        else:
            pytest.fail("puma does not start")
        assert [get(port) for _ in range(10)] == [b"hello"] * 10
        server.terminate()
        assert server.wait(CEILING_S) == -SIGTERM
    assert wall_stands(clock)


# A program that polls for ever

POLLS = """
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME);
$| = 1;
my @begin = map { clock_gettime($_) } (CLOCK_MONOTONIC, CLOCK_REALTIME);
print "ready\\n";
for my $poll (1 .. 60) { select undef, undef, undef, 0.01 }
my @end = map { clock_gettime($_) } (CLOCK_MONOTONIC, CLOCK_REALTIME);
printf "%.6f %.6f\\n", $end[0] - $begin[0], $end[1] - $begin[1];
select undef, undef, undef, 0.01 while 1;
"""


def passed(program: Program) -> tuple[float, float]:
    """By how much the monotonic and the wall line went on, as the program has it."""
    monotonic, wall = map(float, program.line().split())
    return monotonic, wall


def test_a_program_that_polls(clock: FrozenClock, start: Start, real_program: Find) -> None:
    program = start(clock, [real_program("perl"), "-e", POLLS])
    monotonic, wall = passed(program)
    assert GRACE_S < monotonic <= 5 * GRACE_S + 1e-6
    assert wall == 0
    assert not clock.waits  # it counts as blocked
    clock.settle()
    assert wall_stands(clock)
