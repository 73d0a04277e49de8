"""Servers that last for the session, all on one clock, which the tests move."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirakuru import HTTPExecutor
from xprocess import ProcessStarter, XProcess

from pytest_vdsotime import FrozenClock

HERE = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def clock(frozen_session_clock: FrozenClock) -> FrozenClock:
    """Before every other fixture: what those of pytest-postgresql, pytest-redis, mirakuru and
    xprocess start, and `shop` below, is on the clock of the session."""
    return frozen_session_clock


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def shop() -> Iterator[str]:
    """uvicorn, started as any program."""
    port = free_port()
    command = ["uvicorn", "--port", str(port), "--log-level", "warning", "shop:app"]
    server = subprocess.Popen([sys.executable, "-m", *command], cwd=HERE)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert server.poll() is None
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Python's own file server, by mirakuru."""
    port = free_port()
    command = f"{sys.executable} -m http.server --bind 127.0.0.1 {port}"
    with HTTPExecutor(command, f"http://127.0.0.1:{port}/", cwd=tmp_path_factory.mktemp("files")):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def nightly(xprocess: XProcess) -> Iterator[Path]:
    """A job that writes the date each night, by xprocess; the fixture is its log."""

    class Starter(ProcessStarter):  # type: ignore[misc]
        pattern = "ready"
        args = ["sh", "-c", "echo ready; while sleep 1d; do date -u '+night of %F'; done"]

    _, log = xprocess.ensure("nightly", Starter)
    yield Path(log)
    xprocess.getinfo("nightly").terminate()
