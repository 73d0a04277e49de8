"""redis-server from Debian, for hours: keys expire when the test says so."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

DAY_S = 86400


class Redis:
    """A client of a few lines: RESP, as redis-server speaks it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __call__(self, *words: str) -> str | int | list[str] | None:
        self.send(*words)
        return self.read()

    def send(self, *words: str) -> None:
        self.stream.write(b"*%d\r\n" % len(words))
        for word in words:
            self.stream.write(b"$%d\r\n%s\r\n" % (len(word), word.encode()))
        self.stream.flush()

    def read(self) -> str | int | list[str] | None:
        line = str(self.stream.readline(), "utf-8").rstrip()
        kind, rest = line[0], line[1:]
        if kind == "+":
            return rest
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else str(self.stream.read(int(rest) + 2)[:-2], "utf-8")
        if kind == "*":
            return None if rest == "-1" else [str(self.read()) for _ in range(int(rest))]
        raise AssertionError(line)


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock("2000-01-01") as clock:
        yield clock


@pytest.fixture
def redis(
    clock: FrozenClock, tmp_path: Path, real_program: Callable[[str], str]
) -> Iterator[Redis]:
    path = str(tmp_path / "redis.sock")
    options = ["--port", "0", "--unixsocket", path, "--dir", str(tmp_path), "--save", ""]
    server = clock.popen([real_program("redis-server"), *options], stdout=PIPE, stderr=STDOUT)
    assert server.stdout
    for line in server.stdout:
        if b"eady to accept connections" in line:
            break
    else:
        pytest.fail("redis-server does not start")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(path)
        with client.makefile("rwb") as stream:
            yield Redis(stream)
    server.terminate()
    assert server.wait(timeout=30) == 0
    server.stdout.close()


def test_a_key_expires(clock: FrozenClock, redis: Redis) -> None:
    assert redis("SET", "k", "v", "EX", "300") == "OK"
    assert redis("TTL", "k") == 300
    clock.advance(minutes=4, seconds=59)
    assert redis("GET", "k") == "v"
    assert redis("PTTL", "k") == 1000
    clock.advance(seconds=1, milliseconds=1)
    assert redis("GET", "k") is None
    assert redis("DBSIZE") == 0


def test_the_server_tells_the_time(clock: FrozenClock, redis: Redis) -> None:
    assert redis("TIME") == ["946684800", "0"]
    clock.advance(minutes=2, microseconds=7)
    assert redis("TIME") == ["946684920", "7"]


def test_moving_back_keeps_a_key(clock: FrozenClock, redis: Redis) -> None:
    assert redis("SET", "k", "v", "EX", "10") == "OK"
    clock.move_to("1999-12-31")
    assert redis("TTL", "k") == DAY_S + 10
    clock.move_to("2000-01-01T00:00:11Z")
    assert redis("GET", "k") is None


def test_keys_expire_that_nobody_asks_for(clock: FrozenClock, redis: Redis) -> None:
    """Ten times a second the server looks for them by itself."""
    for number in range(100):
        assert redis("SET", f"k{number}", "v", "EX", "300" if number else "200") == "OK"
    clock.advance(minutes=4)
    assert redis("DBSIZE") == 99
    clock.advance(minutes=1, seconds=1)
    assert redis("DBSIZE") == 0
    assert "expired_keys:100\r\n" in str(redis("INFO", "stats"))


def test_a_blocked_client_gets_its_answer(clock: FrozenClock, redis: Redis) -> None:
    redis.send("BLPOP", "list", "120")
    clock.advance(minutes=2, seconds=1)
    assert redis.read() is None
    assert redis("RPUSH", "list", "element") == 1
    assert redis("BLPOP", "list", "120") == ["list", "element"]
