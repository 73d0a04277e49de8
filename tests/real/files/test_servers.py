"""HTTP's own comparison of times: Last-Modified, and what If-Modified-Since brings."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from contextlib import closing
from email.utils import format_datetime
from pathlib import Path
from subprocess import DEVNULL

import pytest

from pytest_vdsotime import FrozenClock

START = "2038-01-19T03:14:07Z"
CEILING_S = 30  # of real time

Find = Callable[[str], str]
Answer = tuple[int, bytes, http.client.HTTPMessage]

NGINX = """
daemon off; pid {0}/pid; worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
    server {{ listen 127.0.0.1:{1}; root {0}/files; expires modified 1h; }}
}}
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def get(port: int, path: str = "/f", since: str | None = None) -> Answer:
    """As a client in real time: the status, the body and the header."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=CEILING_S)) as connection:
        connection.request("GET", path, headers={"If-Modified-Since": since} if since else {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def nginx(find: Find, directory: Path, port: int) -> list[str]:
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory, port))
    return [find("nginx"), "-p", str(directory), "-c", str(config), "-e", "stderr"]


def python(find: Find, directory: Path, port: int) -> list[str]:
    files = ["--directory", str(directory / "files")]
    return [find("python3"), "-m", "http.server", str(port), "--bind", "127.0.0.1", *files]


SERVERS = {"nginx": nginx, "python": python}


@pytest.mark.parametrize("files", ["follow", "real"])
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_of_files(name: str, files: str, real_program: Find, public_dir: Path) -> None:
    port, file = free_port(), public_dir / "files" / "f"
    file.parent.mkdir()
    with FrozenClock(START, files=files) as clock:
        file.write_text("one")
        server = clock.popen(SERVERS[name](real_program, public_dir, port), stderr=DEVNULL)
        clock.settle()
        status, body, header = get(port)
        first = header["Last-Modified"]
        assert (status, body) == (200, b"one")
        assert header["Date"] == format_datetime(clock.now, usegmt=True)
        assert (first == header["Date"]) == (files == "follow")
        assert get(port, since=first)[:2] == (304, b"")

        clock.advance(minutes=30)
        status, _, header = get(port, since=first)
        assert status == 304
        if name == "nginx":  # for an hour since it was written, half of which has passed
            fresh = header["Cache-Control"] == "max-age=1800"
            assert fresh == (files == "follow")
        clock.check_call(["sh", "-c", 'echo two >"$0"', str(file)])
        status, body, header = get(port, since=first)
        if files == "follow":
            assert (status, body) == (200, b"two\n")
            assert header["Last-Modified"] == format_datetime(clock.now, usegmt=True)
            assert header["Last-Modified"] == header["Date"]

        clock.move_to("2020-02-29T12:00:00Z")
        file.write_text("three")
        header = get(port)[2]
        back = "Sat, 29 Feb 2020 12:00:00 GMT"
        assert (header["Last-Modified"] == back) == (files == "follow")
        # Python asks whether it is newer than that, nginx whether it is another time.
        if files == "follow":
            assert get(port, since=first)[0] == (200 if name == "nginx" else 304)
        assert get(port, since=header["Last-Modified"])[0] == 304
        server.terminate()
        server.wait(CEILING_S)
