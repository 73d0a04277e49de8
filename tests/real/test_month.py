"""A month of servers that wake by themselves many times a second, in a jump and in strides; and
servers that reckon with two clocks, for hours from deadline to deadline."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pwd import getpwuid
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.conftest import Postgres

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAYS = 30
DAY_S = 86400
CEILING_S = 30  # of real time
MILLISECOND = timedelta(milliseconds=1)

Find = Callable[[str], str]
# Asks a server what time it is.
Tell = Callable[[], datetime]


@pytest.fixture(params=["flow", "freeze"])
def monotonic(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock(monotonic: str) -> Iterator[FrozenClock]:
    with FrozenClock(START, monotonic=monotonic) as clock:
        yield clock


def end(clock: FrozenClock, server: subprocess.Popen[str]) -> None:
    """Redis and MariaDB, when they are told to end, look at that again in a tenth of a second."""
    server.terminate()
    for _ in range(CEILING_S):
        with suppress(subprocess.TimeoutExpired):
            server.communicate(timeout=1)
            return
        clock.advance(1)
    server.kill()
    pytest.fail(f"{server.args!r} does not end: {server.communicate()}")


@pytest.fixture
def start(clock: FrozenClock) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(command, **keywords)` is a server, which is asked to end, and does, before the clock
    is closed."""
    with ExitStack() as servers:

        def start(command: list[str], **keywords: Any) -> subprocess.Popen[str]:
            keywords = {"stdin": DEVNULL, "stdout": PIPE, "stderr": STDOUT, **keywords}
            server: subprocess.Popen[str] = clock.popen(command, text=True, **keywords)
            servers.callback(end, clock, server)
            return server

        yield start


Start = Callable[..., subprocess.Popen[str]]


def wait_for(server: subprocess.Popen[str], word: str) -> None:
    """Reads on until the server says that it is ready."""
    assert server.stdout
    said = []
    for line in server.stdout:
        said.append(line)
        if word in line:
            break
    else:
        pytest.fail(f"{server.args!r} does not start: {''.join(said)}")


@pytest.fixture
def redis(start: Start, tmp_path: Path, real_program: Find) -> Iterator[BinaryIO]:
    path = str(tmp_path / "redis.sock")
    options = ["--port", "0", "--unixsocket", path, "--dir", str(tmp_path), "--save", ""]
    wait_for(start([real_program("redis-server"), *options]), "eady to accept connections")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CEILING_S)
        client.connect(path)
        with client.makefile("rwb") as stream:
            yield cast(BinaryIO, stream)


def ask(stream: BinaryIO, command: str) -> bytes:
    """The first line of what a server says to a line."""
    stream.write(f"{command}\r\n".encode())
    stream.flush()
    return stream.readline().rstrip()


def ask_redis(redis: BinaryIO) -> datetime:
    assert ask(redis, "TIME") == b"*2"
    _, seconds, _, microseconds = (redis.readline() for _ in range(4))
    return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))


def ask_by_line(program: subprocess.Popen[str]) -> str:
    """What a program says to an empty line."""
    assert program.stdin and program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    return program.stdout.readline()


IDLE = """
import java.time.Instant;
import java.util.Scanner;
import java.util.concurrent.*;

public class Idle {
    public static void main(String[] arguments) {
        var executor = Executors.newScheduledThreadPool(1);
        executor.scheduleWithFixedDelay(() -> {}, 1, 1, TimeUnit.HOURS);
        var lines = new Scanner(System.in);
        System.out.println("ready");
        while (lines.hasNextLine()) {
            lines.nextLine();
            System.out.println(Instant.now());
        }
    }
}
"""


@pytest.fixture
def java(start: Start, tmp_path: Path, real_program: Find) -> subprocess.Popen[str]:
    """A JVM that is idle but for what a JVM does by itself."""
    (tmp_path / "Idle.java").write_text(IDLE)
    subprocess.run([real_program("javac"), tmp_path / "Idle.java"], check=True, timeout=CEILING_S)
    java = start([real_program("java"), "-cp", str(tmp_path), "Idle"], stdin=PIPE)
    wait_for(java, "ready")
    return java


IDLE_ERLANG = """
Answer = fun(F) -> case io:get_line("") of eof -> halt(); _ ->
    io:format("~p~n", [erlang:system_time(second)]), F(F) end end,
io:format("ready~n"), Answer(Answer).
"""


@pytest.fixture
def erlang(start: Start, real_program: Find) -> subprocess.Popen[str]:
    environment = {**os.environ, "HOME": "/"}
    command = [real_program("erl"), "-noshell", "-eval", IDLE_ERLANG]
    erlang = start(command, stdin=PIPE, env=environment)
    wait_for(erlang, "ready")
    return erlang


class MariaDB:
    def __init__(self, clock: FrozenClock, client: list[str]) -> None:
        self._clock = clock
        self._client = client

    def answer(self, query: str) -> str:
        command = [*self._client, "--batch", "--skip-column-names", "--execute", query]
        answer: str = self._clock.check_output(command, text=True, timeout=CEILING_S)
        return answer.rstrip()

    def now(self) -> datetime:
        """Its own microseconds count its statements as well."""
        return datetime.fromisoformat(self.answer("SELECT UTC_TIMESTAMP()") + "+00:00")


@pytest.fixture
def mariadb(clock: FrozenClock, start: Start, tmp_path: Path, real_program: Find) -> MariaDB:
    data, path = tmp_path / "mariadb", str(tmp_path / "mariadb.sock")
    options = [
        *("--no-defaults", f"--datadir={data}", f"--user={getpwuid(os.geteuid()).pw_name}"),
        *("--innodb-log-file-size=4M", "--innodb-flush-method=nosync"),
    ]
    authentication = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(
        [real_program("mariadb-install-db"), *options, *authentication],
        check=True,
        stdout=DEVNULL,
        timeout=CEILING_S,
    )
    command = [real_program("/usr/sbin/mariadbd"), *options, f"--socket={path}"]
    # Its timers go by the wall clock, at which they look again after each wait.
    clock.rate = 1
    wait_for(start([*command, "--skip-networking"]), "ready for connections")
    clock.rate = 0
    clock.move_to(START)
    return MariaDB(clock, [real_program("mariadb"), "--no-defaults", f"--socket={path}", "-uroot"])


@pytest.fixture
def tell(
    redis: BinaryIO,
    java: subprocess.Popen[str],
    start_postgres: Callable[[FrozenClock], Postgres],
    erlang: subprocess.Popen[str],
    mariadb: MariaDB,
    clock: FrozenClock,
) -> dict[str, Tell]:
    """Five servers on one clock."""
    postgres = start_postgres(clock)
    return {
        "redis": lambda: ask_redis(redis),
        "java": lambda: datetime.fromisoformat(ask_by_line(java).strip()),
        "postgres": lambda: datetime.fromisoformat(postgres.answer("SELECT now()").strip()),
        "erlang": lambda: datetime.fromtimestamp(int(ask_by_line(erlang)), UTC),
        "mariadb": mariadb.now,
    }


# Where the lines have drifted apart (the wall stands while the monotonic one flows, or goes on by
# `grace`), Erlang's own time goes a hundredth slower than the machine's, or faster, until it is
# right again: it learns of a month when that has passed.
ABOUT = {"erlang": timedelta(days=2 * DAYS) / 100}


@pytest.fixture
def check(clock: FrozenClock, tell: dict[str, Tell], redis: BinaryIO) -> Callable[[int], None]:
    """`check(days)`: so many have passed, and each server knows that."""
    assert ask(redis, f"SET longer v EX {(DAYS + 1) * DAY_S}") == b"+OK"
    assert ask(redis, f"SET shorter v EX {(DAYS - 1) * DAY_S}") == b"+OK"

    def check(days: int) -> None:
        passed = timedelta(days=days)
        assert START + passed <= clock.now < START + passed + MILLISECOND
        for name, now in tell.items():
            assert abs(now() - clock.now) <= ABOUT.get(name, MILLISECOND), name
        left = (DAYS + 1 - days) * DAY_S
        assert ask(redis, "TTL longer") == b":%d" % (left if left > 0 else -2)
        assert (ask(redis, "TTL shorter") == b":-2") == (days >= DAYS)

    return check


def test_a_month_in_a_jump(clock: FrozenClock, check: Callable[[int], None]) -> None:
    check(0)
    for days in DAYS, 2 * DAYS:
        clock.jump(days=DAYS)
        check(days)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("monotonic", ["flow"])
def test_a_month_in_strides(clock: FrozenClock, check: Callable[[int], None]) -> None:
    clock.advance(days=DAYS, stride="12h")
    check(DAYS)


# From deadline to deadline.


@pytest.mark.timeout(400)
@pytest.mark.parametrize("monotonic", ["flow"])
def test_hours_of_mariadb(clock: FrozenClock, mariadb: MariaDB) -> None:
    """Its threads wait until a point of the wall line, and for what is left of that."""
    passed = timedelta()
    for delta in timedelta(hours=1), timedelta(minutes=1), timedelta(minutes=5):
        clock.advance(delta)
        passed += delta
        assert START + passed <= clock.now < START + passed + 3 * MILLISECOND
        assert mariadb.now() == clock.now.replace(microsecond=0)


@pytest.fixture
def beanstalk(
    clock: FrozenClock, start: Start, tmp_path: Path, real_program: Find
) -> Iterator[BinaryIO]:
    path = str(tmp_path / "beanstalk.sock")
    start([real_program("beanstalkd"), "-l", f"unix:{path}"])
    clock.settle()  # it listens
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CEILING_S)
        client.connect(path)
        with client.makefile("rwb") as stream:
            yield cast(BinaryIO, stream)


def test_a_delayed_job(clock: FrozenClock, beanstalk: BinaryIO) -> None:
    """The server rounds what is left to the next job down to milliseconds."""
    for number in 1, 2:
        assert ask(beanstalk, "put 0 60 120 3\r\njob") == b"INSERTED %d" % number
        clock.advance(59)
        assert ask(beanstalk, "peek-ready") == b"NOT_FOUND"
        clock.advance(1)
        assert ask(beanstalk, "reserve-with-timeout 0") == b"RESERVED %d 3" % number
        assert beanstalk.readline() == b"job\r\n"
        assert ask(beanstalk, f"delete {number}") == b"DELETED"


def test_an_hour_of_erlang(clock: FrozenClock, erlang: subprocess.Popen[str]) -> None:
    clock.advance(hours=1)
    now = datetime.fromtimestamp(int(ask_by_line(erlang)), UTC)
    assert abs(now - clock.now) < timedelta(minutes=1)
