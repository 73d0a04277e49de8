"""Servers from Debian for hours and days: what they do by themselves is done when `advance`
returns. redis-server is in test_redis.py."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.conftest import Postgres

START = "2030-01-01T12:00:00Z"
CEILING_S = 30  # of real time

Find = Callable[[str], str]


@pytest.fixture(params=["flow", "freeze"])
def clock(request: pytest.FixtureRequest) -> Iterator[FrozenClock]:
    with FrozenClock(START, monotonic=request.param) as clock:
        yield clock


# nginx

NGINX = """
daemon off; pid {0}/pid; worker_processes 1;
events {{ }}
http {{
    access_log off; keepalive_timeout 75s; client_header_timeout 20s;
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
    server {{ listen unix:{0}/socket; location / {{ return 200 hello; }} }}
}}
"""


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(CEILING_S)
    client.connect(str(path))
    return client


def get(client: socket.socket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    answer = b""
    while not answer.endswith(b"hello"):
        answer += client.recv(4096)
    return answer


def is_closed(client: socket.socket) -> bool:
    """Whether the server has closed the connection by now: nothing is waited for."""
    client.settimeout(0)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        client.settimeout(CEILING_S)


def test_nginx(clock: FrozenClock, real_program: Find, public_dir: Path) -> None:
    """The clients are outside, in real time."""
    config = public_dir / "nginx.conf"
    config.write_text(NGINX.format(public_dir))
    command = [real_program("nginx"), "-p", str(public_dir), "-c", str(config), "-e", "stderr"]
    server = clock.popen(command)
    clock.settle()  # it listens: both of its processes wait for what comes
    with connect(public_dir / "socket") as idle, connect(public_dir / "socket") as slow:
        assert b"Date: Tue, 01 Jan 2030 12:00:00 GMT" in get(idle)
        slow.sendall(b"GET / HT")
        clock.advance(19)
        assert not is_closed(slow)
        clock.advance(2)
        assert is_closed(slow)
        clock.advance(50)
        assert not is_closed(idle)
        clock.advance(9)
        assert is_closed(idle)
    with connect(public_dir / "socket") as another:
        assert b"Date: Tue, 01 Jan 2030 12:01:20 GMT" in get(another)
        clock.advance(80)
        assert is_closed(another)
    server.terminate()
    assert server.wait(CEILING_S) == 0


# cron

CRONTAB = """\
*/30 * * * * root date -u "+half \\%F \\%R" >>{0}
15 */4 * * * root date -u "+four \\%F \\%R" >>{0}
0 0 * * * root date -u "+midnight \\%F \\%R" >>{0}
"""
# Debian's cron reads these places and no others: in a mount namespace of its own they are ours.
CRON = """
mount --bind $0/crontab /etc/crontab
mount --bind $0/empty /etc/cron.d
mount --bind $0/empty /var/spool/cron/crontabs
mount --bind $0/run /run
exec cron -f
"""


def jobs(begin: str) -> list[str]:
    """What a day of jobs writes, beginning a second before midnight."""
    midnight = datetime.fromisoformat(begin)
    lines = []
    for minute in range(0, 24 * 60, 15):
        now = f"{midnight + timedelta(minutes=minute):%F %R}"
        lines += [f"half {now}"] if minute % 30 == 0 else []
        lines += [f"four {now}"] if minute % 240 == 15 else []
        lines += [f"midnight {now}"] if minute == 0 else []
    return sorted(lines)


@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_cron(monotonic: str, real_program: Find, public_dir: Path) -> None:
    """A day of jobs over a leap day, each a shell and `date`."""
    log = public_dir / "log"
    (public_dir / "crontab").write_text(CRONTAB.format(log))
    for name in ("empty", "run"):
        (public_dir / name).mkdir()
    script = ["sh", "-ec", CRON.replace("exec cron", f"exec {real_program('cron')}")]
    command = [real_program("unshare"), "--mount", *script, str(public_dir)]
    environment = {**os.environ, "TZ": "UTC"}
    with FrozenClock("2028-02-28T23:59:00Z", monotonic=monotonic) as clock:
        server = clock.popen(command, env=environment)
        clock.advance(minutes=11)
        ten_minutes = [f"{what} 2028-02-29 00:00" for what in ("half", "midnight")]
        assert sorted(log.read_text().splitlines()) == ten_minutes
        clock.advance(hours=12)
        clock.advance(hours=11, minutes=49)
        assert sorted(log.read_text().splitlines()) == jobs("2028-02-29")
        server.terminate()
        server.wait(CEILING_S)


def test_busybox_crond(real_program: Find, public_dir: Path) -> None:
    log = public_dir / "log"
    crontabs = public_dir / "crontabs"
    crontabs.mkdir()
    (crontabs / "root").write_text(f"0 */6 * * * busybox date -u '+%F %R' >>{log}\n")
    command = [real_program("busybox"), "crond", "-f", "-L", "/dev/null", "-c", str(crontabs)]
    environment = {**os.environ, "TZ": "UTC"}
    with FrozenClock("2028-02-28T23:59:30Z", monotonic="freeze") as clock:
        server = clock.popen(command, env=environment, stdout=PIPE, stderr=STDOUT)
        clock.advance(days=1)
        hours = [f"2028-02-29 {hour:02}:00" for hour in (0, 6, 12, 18)]
        assert log.read_text().splitlines() == hours
        server.terminate()
        server.communicate(timeout=CEILING_S)


# PostgreSQL


@pytest.fixture
def postgres(clock: FrozenClock, start_postgres: Callable[[FrozenClock], Postgres]) -> Postgres:
    return start_postgres(clock)


def answer_of(client: subprocess.Popen[str]) -> tuple[str, int]:
    """What the client has printed, which must have ended by now."""
    has_ended = client.poll() is not None
    client.kill()
    output = client.communicate(timeout=CEILING_S)[0]
    assert has_ended, output
    return output, client.returncode


def test_postgres_sleeps(clock: FrozenClock, postgres: Postgres) -> None:
    assert postgres.answer("SET timezone = 'UTC'", "SELECT now()") == "2030-01-01 12:00:00+00\n"
    sleeps = postgres.ask("SELECT pg_sleep(900)", "SELECT 'awake'")
    clock.advance(minutes=14)
    assert sleeps.poll() is None
    clock.advance(minutes=1, seconds=1)
    assert answer_of(sleeps) == ("\nawake\n", 0)
    assert postgres.answer("SET timezone = 'UTC'", "SELECT now()") == "2030-01-01 12:15:01+00\n"


def test_postgres_cancels_statements(clock: FrozenClock, postgres: Postgres) -> None:
    limited = "SET statement_timeout = '10min'"
    asks = postgres.ask(limited, "SELECT pg_sleep(3600)", "SELECT 'not reached'")
    clock.advance(minutes=9, seconds=59)
    assert asks.poll() is None
    clock.advance(seconds=2)
    output, status = answer_of(asks)
    assert "canceling statement due to statement timeout" in output
    assert "not reached" in output  # each -c is a transaction of its own
    assert status == 0


def test_postgres_gives_up_on_a_lock(clock: FrozenClock, postgres: Postgres) -> None:
    """Two clients on the clock: one holds a lock and does nothing, the other gives up."""
    postgres.answer("CREATE TABLE t (i int)")
    holder = postgres.ask(
        "BEGIN", "LOCK TABLE t", "SELECT pg_sleep(600)", "COMMIT", "SELECT 'released'"
    )
    clock.settle()
    waiter = postgres.ask("SET lock_timeout = '2min'", "SELECT * FROM t")
    patient = postgres.ask("INSERT INTO t VALUES (1)", "SELECT 'inserted'")
    clock.advance(minutes=2, seconds=1)
    assert "canceling statement due to lock timeout" in answer_of(waiter)[0]
    assert holder.poll() is None
    assert patient.poll() is None
    clock.advance(minutes=8)
    assert answer_of(holder)[0].splitlines() == ["", "released"]
    assert answer_of(patient) == ("inserted\n", 0)
