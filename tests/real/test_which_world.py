"""Servers that reckon with both clocks: what they do by themselves, and what by `advance`, is the
table of docs/waits.md."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from pwd import getpwuid
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest

import pytest_vdsotime
from pytest_vdsotime import FrozenClock

START = "2030-01-01"
CEILING_S = 30  # of real time
A_WHILE_S = 2.5  # of real time, in which what comes by itself does
PAGE = (Path(pytest_vdsotime.__file__).parent / "docs" / "waits.md").read_text()

Find = Callable[[str], str]
WORLDS: dict[str, dict[str, Any]] = {
    "flowing": {},
    "frozen": {"monotonic": "freeze"},
    "`rate=1`": {"rate": 1},
    "jumping": {"autojump": True},
}
BY_ITSELF, BY_ADVANCE, AT_ONCE = "by itself", "by `advance`", "at once"


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock(world: str) -> Iterator[FrozenClock]:
    with FrozenClock(START, **WORLDS[world]) as clock:
        yield clock


def expected(program: str, world: str) -> str:
    """What the page says."""
    table = re.search(r"^\| \| flowing \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert table
    head, _, *rows = [line.split(" | ") for line in table[0].strip().splitlines()]
    (row,) = [row for row in rows if row[0].startswith(f"| {program}")]
    return row[head.index(world)]


def how(clock: FrozenClock, world: str, has_come: Callable[[], bool]) -> str:
    """How what is due in a second comes."""
    if world == "jumping":
        deadline = time.monotonic() + CEILING_S
        while not has_come():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return AT_ONCE
    deadline = time.monotonic() + A_WHILE_S
    while time.monotonic() < deadline:
        if has_come():
            return BY_ITSELF
        time.sleep(0.1)
    clock.advance(2)
    assert has_come()
    return BY_ADVANCE


def test_ruby(clock: FrozenClock, world: str, real_program: Find) -> None:
    program = clock.popen([real_program("ruby"), "-e", "sleep 1"])
    if world != "jumping":
        clock.settle()
    assert how(clock, world, lambda: program.poll() is not None) == expected("Ruby", world)
    assert program.returncode == 0


def test_ruby_where_waits_are_real_and_the_clock_is_frozen(real_program: Find) -> None:
    with FrozenClock(START, waits="real", monotonic="freeze") as clock:
        program = clock.popen([real_program("ruby"), "-e", "sleep 0.1"])
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(A_WHILE_S)


def test_beanstalkd(clock: FrozenClock, world: str, tmp_path: Path, real_program: Find) -> None:
    path = tmp_path / "socket"
    clock.popen([real_program("beanstalkd"), "-l", f"unix:{path}"])
    deadline = time.monotonic() + CEILING_S
    with socket.socket(socket.AF_UNIX) as client:
        while True:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                client.connect(str(path))
                break
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.settimeout(CEILING_S)
        with client.makefile("rwb") as stream:

            def ask(request: str) -> bytes:
                stream.write(f"{request}\r\n".encode())
                stream.flush()
                return stream.readline()

            assert ask("put 0 1 60 3\r\njob").startswith(b"INSERTED")

            def is_ready() -> bool:
                return int(re.findall(rb"\d+", ask("stats-job 1"))[0]) > 0 and is_in_state(b"ready")

            def is_in_state(state: bytes) -> bool:
                lines = iter(stream.readline, b"\r\n")
                return b"state: %b\n" % state in [*lines]

            assert how(clock, world, is_ready) == expected("beanstalkd", world)


def test_mariadb(clock: FrozenClock, world: str, tmp_path: Path, real_program: Find) -> None:
    options = [
        *("--no-defaults", f"--datadir={tmp_path / 'data'}"),
        *(f"--user={getpwuid(os.geteuid()).pw_name}", "--innodb-log-file-size=4M"),
        "--innodb-flush-method=nosync",
    ]
    authentication = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(
        [real_program("mariadb-install-db"), *options, *authentication],
        check=True,
        stdout=DEVNULL,
        timeout=CEILING_S,
    )
    path = tmp_path / "socket"
    server = clock.popen(
        [
            *(real_program("/usr/sbin/mariadbd"), *options, f"--socket={path}"),
            *("--skip-networking", "--event-scheduler=ON"),
        ],
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
    )
    assert server.stdout
    assert any("ready for connections" in line for line in server.stdout)
    client = [real_program("mariadb"), "--no-defaults", f"--socket={path}", "-uroot", "-N", "-e"]

    def query(text: str) -> str:
        # On the clock too: where that jumps, another would be too slow for the server's time-outs.
        output: str = clock.check_output([*client, text], text=True, timeout=CEILING_S)
        return output.strip()

    query("create database d; create table d.t (a int); insert into d.t values (0)")
    query(
        "create event d.e on schedule at current_timestamp + interval 1 second "
        "do update d.t set a = 1"
    )
    has_come = how(clock, world, lambda: query("select a from d.t") == "1")
    assert has_come == expected("MariaDB", world)


ERLANG = """
Answer = fun(F) -> case io:get_line("") of eof -> halt(); _ ->
    io:format("~p~n", [erlang:system_time(millisecond)]), F(F) end end,
io:format("ready~n"), Answer(Answer).
"""


def test_erlang(clock: FrozenClock, world: str, real_program: Find) -> None:
    program = clock.popen(
        [real_program("erl"), "-noshell", "-eval", ERLANG],
        env={**os.environ, "HOME": "/"},
        stdin=PIPE,
        stdout=PIPE,
        text=True,
        bufsize=1,
    )
    assert program.stdin and program.stdout
    assert program.stdout.readline() == "ready\n"

    def ahead_s() -> float:
        assert program.stdin and program.stdout
        before_s = clock.time()
        print(file=program.stdin)
        answer_s = int(program.stdout.readline()) / 1000
        return min(answer_s - before_s, max(0, answer_s - clock.time()))

    first_s = ahead_s()
    time.sleep(A_WHILE_S)
    gained_s = ahead_s() - first_s
    if expected("Erlang", world) == "goes on":
        assert gained_s > A_WHILE_S - 0.5
    else:
        assert expected("Erlang", world) == "right"
        assert abs(gained_s) < 0.5
