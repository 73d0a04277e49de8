"""Each test goes on from where the one before has left the clock, as with any real server."""

import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import psycopg
import redis

from pytest_vdsotime import FrozenClock


def status(url: str, method: str = "GET") -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            found: int = answer.status
            return found
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_redis(redisdb: redis.Redis, clock: FrozenClock) -> None:
    redisdb.set("session", "alice", ex=3600)
    clock.jump(minutes=59)
    assert redisdb.get("session") == b"alice"
    clock.jump(minutes=1, seconds=1)
    assert redisdb.get("session") is None


def test_postgresql(postgresql: psycopg.Connection[Any], clock: FrozenClock) -> None:
    postgresql.execute("create table token (expires timestamptz)")
    postgresql.execute("insert into token values (now() + interval '30 days')")
    postgresql.commit()
    valid = "select count(*) from token where expires > now()"
    clock.jump(days=29)
    assert postgresql.execute(valid).fetchone() == (1,)
    postgresql.commit()  # now() is when the transaction began
    clock.jump(days=2)
    assert postgresql.execute(valid).fetchone() == (0,)


def test_uvicorn(shop: str, clock: FrozenClock) -> None:
    assert status(f"{shop}/alice", "PUT") == 200
    clock.jump(minutes=29)
    assert status(f"{shop}/alice") == 200
    clock.jump(minutes=2)
    assert status(f"{shop}/alice") == 404


def test_mirakuru(files: str, clock: FrozenClock) -> None:
    clock.move_to("2038-01-19T03:14:07Z")
    with urllib.request.urlopen(files) as answer:
        assert parsedate_to_datetime(answer.headers["Date"]) == clock.now


def test_xprocess(nightly: Path, clock: FrozenClock) -> None:
    clock.move_to("2038-01-19")
    for _ in range(3):
        clock.jump(days=1)
    nights = [line for line in nightly.read_text().splitlines() if line.startswith("night")]
    assert nights == [f"night of 2038-01-{day}" for day in (20, 21, 22)]
