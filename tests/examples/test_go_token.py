"""A static Go server's token is good for a quarter of an hour."""

from __future__ import annotations

from http.client import HTTPConnection
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder


def get(address: str, path: str, token: str = "") -> tuple[int, str]:
    connection = HTTPConnection(address)
    connection.request("GET", path, headers={"Authorization": token})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


def test_token_expires(frozen_clock: FrozenClock, build: Builder) -> None:
    program = build.go(str(Path(__file__).with_name("token_server")))
    server = frozen_clock.popen([program], stdout=PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    _, token = get(address, "/login")
    frozen_clock.advance(minutes=14)
    assert get(address, "/", token) == (200, "hello")
    frozen_clock.advance(minutes=1)
    assert get(address, "/", token) == (401, "log in again")
    _, token = get(address, "/login")
    assert get(address, "/", token) == (200, "hello")
    server.kill()
    server.communicate()
