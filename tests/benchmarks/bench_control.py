"""The clock over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Medians, Table, Timed

VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock(0, monotonic="freeze") as clock:
        clock.popen(["sleep", "1000d"])
        clock.settle()
        yield clock


@pytest.fixture
def client(clock: FrozenClock) -> Iterator[HTTPConnection]:
    with clock.serve() as server:
        client = HTTPConnection("clock")
        client.sock = socket(AF_UNIX)
        client.sock.connect(server.address.removeprefix("unix:"))
        yield client
        client.close()


def ask(client: HTTPConnection, method: str, path: str, body: str | None = None) -> None:
    client.request(method, path, body)
    answer = client.getresponse()
    answer.read()
    assert answer.status == 200


def test_a_look_at_the_clock(
    client: HTTPConnection, table: Table, medians: Medians, timed: Timed
) -> None:
    (seconds,) = medians(timed(lambda: ask(client, "GET", "/clock")), rounds=1000)
    table.check("GET /clock over a Unix socket", "", seconds * 1e3, 1, " ms")


def test_an_advance(
    clock: FrozenClock, client: HTTPConnection, table: Table, medians: Medians, timed: Timed
) -> None:
    ours, bare = medians(
        timed(lambda: ask(client, "POST", "/advance", '{"seconds": 1}')),
        timed(lambda: clock.advance(1)),
        rounds=300,
    )
    figures = f"{ours * 1e3:.2f} / {bare * 1e3:.2f} ms"
    table.check("POST /advance, beyond advance itself", figures, (ours - bare) * 1e3, 1, " ms")


def test_a_command_that_asks_for_nothing(
    tmp_path: Path, table: Table, medians: Medians, timed: Timed
) -> None:
    """From when it runs: a loop that starts programs says how long it has taken."""
    script = "import subprocess as s, time; t = time.perf_counter();"
    script += "[s.run(['/bin/true']) for _ in range(200)]; print(time.perf_counter() - t)"

    def measure(*options: str) -> float:
        return float(subprocess.check_output([*VDSOTIME, *options, sys.executable, "-c", script]))

    ours, without = medians(lambda: measure(f"--control=unix:{tmp_path}/socket"), measure)
    figures = f"{ours:.3f} / {without:.3f} s"
    table.check("200 programs under --control, against without", figures, ours / without, 1.03)
