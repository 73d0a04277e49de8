"""`vdsotime --control` and `vdsotime ctl`: the clock of a command, moved from a shell."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]
CTL = [*VDSOTIME, "ctl"]
CEILING_S = 30
AT = "2030-01-01T00:00:00Z"


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock(AT, monotonic="freeze") as clock:
        yield clock


@pytest.fixture(params=[None, "[::1]:0"])
def environ(request: pytest.FixtureRequest, clock: FrozenClock) -> Iterator[dict[str, str]]:
    with clock.serve(request.param) as server:
        yield {**os.environ, **server.environ}


def ctl(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [*CTL, *arguments], env=env, capture_output=True, text=True, timeout=CEILING_S
    )
    return done.returncode, done.stdout, done.stderr


def test_the_verbs(clock: FrozenClock, environ: dict[str, str]) -> None:
    with clock.popen(["sleep", "2h"]) as sleeper:
        clock.settle()

        def said(*arguments: str) -> str:
            status, stdout, stderr = ctl(*arguments, env=environ)
            assert (status, stderr) == (0, ""), arguments
            return stdout.strip()

        assert said("now") == AT
        assert said("advance", "1h") == "2030-01-01T01:00:00Z"
        assert said("advance", "0.5", "--stride", "1h", "--timeout", "3") == (
            "2030-01-01T01:00:00.500000Z"
        )
        wait = f"3599.5 s: sleep (pid {sleeper.pid}) in clock_nanosleep by CLOCK_MONOTONIC"
        assert said("waits") == wait
        assert said("ps") == f"{sleeper.pid} sleep 2h"
        assert json.loads(said("--json", "ps"))[0]["argv"] == [
            "sleep",
            "2h",
        ]
        assert said("next") == "2030-01-01T02:00:00Z"
        assert sleeper.wait(CEILING_S) == 0
        assert said("jump", "2 days") == "2030-01-03T02:00:00Z"
        assert said("move-to", "2038-01-19") == "2038-01-19T00:00:00Z"
        assert said("move-to", "-1d") == "2038-01-18T00:00:00Z"
        assert said("settle") == "2038-01-18T00:00:00Z"
        assert "wall line       2038-01-18T00:00:00Z" in said("describe")
        assert json.loads(said("--json", "now"))["rate"] == 0.0
        said("rate", "60")
        assert clock.rate == 60


def test_nothing_waits(clock: FrozenClock, environ: dict[str, str]) -> None:
    assert ctl("next", env=environ) == (
        *(0, f"{AT}\n", "vdsotime: ctl: nothing waits for a deadline\n"),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "ctl: the following arguments are required: VERB"),
        (("stop",), "ctl: VERB: invalid choice: 'stop'"),
        (("advance",), "ctl: the following arguments are required: SPAN"),
        (("advance", "soon"), "a span such as '1h30m', '90s' or '2 days', or seconds, not 'soon'"),
        (("advance", "-1h"), "ctl: "),
        (("advance", "-5"), "'seconds' is at least 0, not -5.0"),
        (("advance", "1h", "--stride", "0"), "ctl: "),
        (("advance", "1h", "--timeout", "x"), "--timeout: 'x' is not a number"),
        (("jump", "1h", "--stride", "1h"), "unrecognized arguments: --stride"),
        (("move-to", "tomorrowish"), "'tomorrowish' is not an instant"),
        (("rate", "-1"), "'rate' is at least 0, not -1.0"),
        (("rate", "nan"), "R: 'nan' is not a number"),
        (("now", "then"), "unrecognized arguments: then"),
        (("--control", "here", "now"), "--control: 'here' is not unix:PATH or 127.0.0.1:PORT"),
        (("--control", "192.0.2.1:80", "now"), "is not on this machine's loopback"),
    ],
)
def test_usage(arguments: tuple[str, ...], message: str, clock: FrozenClock) -> None:
    with clock.serve() as server:
        done = ctl(*arguments, env={**os.environ, **server.environ})
    assert_one_line(done, 2, message)
    assert f"{clock.now:%F %T}" == "2030-01-01 00:00:00"


def assert_one_line(done: tuple[int, str, str], status: int, message: str) -> None:
    assert done[:2] == (status, ""), done
    assert re.fullmatch(r"vdsotime: ctl: .*\n", done[2]), done[2]
    assert message in done[2]


def test_no_address() -> None:
    env = {name: value for name, value in os.environ.items() if name != "VDSOTIME_CONTROL"}
    assert_one_line(ctl("now", env=env), 2, "--control ADDRESS or VDSOTIME_CONTROL says it")


def test_it_does_not_settle(clock: FrozenClock, environ: dict[str, str]) -> None:
    with clock.popen(["sh", "-c", "while :; do :; done"]) as busy:
        done = ctl("settle", "--timeout", "0.1", env=environ)
        assert_one_line(done, 3, str(busy.pid))
        busy.kill()


def test_nobody_is_there(tmp_path: Path) -> None:
    nobody = "nobody is there, at "
    assert_one_line(ctl("--control", f"unix:{tmp_path}/none", "now"), 4, nobody)
    assert_one_line(ctl("--control", "127.0.0.1:1", "now"), 4, nobody)
    (tmp_path / "file").write_text("")
    assert_one_line(ctl("--control", f"unix:{tmp_path}/file", "now"), 4, nobody)


def test_the_token_is_missing(clock: FrozenClock) -> None:
    with clock.serve("127.0.0.1:0") as server:
        env = {name: value for name, value in os.environ.items() if name != "VDSOTIME_TOKEN"}
        assert_one_line(ctl("--control", server.address, "now", env=env), 1, "VDSOTIME_TOKEN")


# vdsotime --control


def run(*arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    keywords = {"capture_output": True, "text": True, "timeout": CEILING_S, **keywords}
    return subprocess.run([*VDSOTIME, *arguments], **keywords)


def gone(path: Path) -> bool:
    """When the last program has ended, the tracer removes its socket and ends."""
    until = time.monotonic() + CEILING_S
    while path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return not path.exists()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "socket"
    yield path
    assert gone(path)


def test_a_command_moves_its_own_clock(path: Path) -> None:
    script = (
        f'date +%R; {" ".join(CTL)} advance 90m; date +%R; stat -c %a "${{VDSOTIME_CONTROL#*:}}"'
    )
    done = run("--at", AT, f"--control=unix:{path}", "--", "bash", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["00:00", "2030-01-01T01:30:00Z", "01:30", "600"]


CURLS = r"""
case $VDSOTIME_CONTROL in unix:*) at=(--unix-socket "${VDSOTIME_CONTROL#unix:}" http://clock);;
*) at=(-H "Authorization: Bearer $VDSOTIME_TOKEN" "http://$VDSOTIME_CONTROL");; esac
for i in {1..10}; do curl -sS "${at[@]}/jump" -d '{"days": 1}' >/dev/null; done
date +%F
"""


@pytest.mark.parametrize("address", ["unix", "127.0.0.1:0"])
def test_it_moves_its_own_clock_by_curl(
    address: str, path: Path, real_program: Callable[[str], str]
) -> None:
    real_program("curl")
    where = f"unix:{path}" if address == "unix" else address
    done = run("--at", AT, "--control", where, "bash", "-c", CURLS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2030-01-11\n", "")
    # No move waits for curl as for one whose peer is off the clock: that would take a minute.
    with FrozenClock(AT, patience=60) as clock, clock.serve(where) as server:
        env = os.environ | server.environ
        said = clock.check_output(["bash", "-c", CURLS], env=env, text=True, timeout=CEILING_S)
    assert said == "2030-01-11\n"


def test_it_is_moved_from_outside(path: Path) -> None:
    options = ["--at", AT, "--monotonic", "freeze", "--control", f"unix:{path}"]
    command = [*VDSOTIME, *options, "sh", "-c", "sleep 1d; date +%F"]
    with subprocess.Popen(command, stdout=PIPE, text=True) as program:
        while not path.exists() or not ctl("--control", f"unix:{path}", "waits")[1]:
            time.sleep(0.01)
        assert ctl("--control", f"unix:{path}", "next")[:2] == (0, "2030-01-02T00:00:00Z\n")
        assert program.communicate(timeout=CEILING_S)[0] == "2030-01-02\n"


def test_the_socket_lasts_as_long_as_what_command_leaves(path: Path) -> None:
    done = run("--control", f"unix:{path}", "sh", "-c", "sleep 1h >/dev/null 2>&1 &")
    assert done.returncode == 0
    assert ctl("--control", f"unix:{path}", "jump", "1h")[0] == 0
    assert gone(path)
    assert ctl("--control", f"unix:{path}", "now")[0] == 4


def test_the_same_path_again(path: Path) -> None:
    for status in (0, 3, 0, 3):
        done = run("--control", f"unix:{path}", "sh", "-c", f"exit {status}")
        assert (done.returncode, done.stderr) == (status, "")


def test_commands_that_cannot_be_started(path: Path) -> None:
    assert run("--control", f"unix:{path}", "no-such-program").returncode == 127
    assert gone(path)
    assert run("--control", f"unix:{path}", "/etc/passwd").returncode == 126


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("here", "--control: 'here' is not unix:PATH or 127.0.0.1:PORT; try vdsotime --help"),
        ("0.0.0.0:80", "is not on this machine's loopback"),
        (f"unix:/{'a' * 200}", "is longer than the 107 bytes of a Unix socket's path"),
        ("unix:{}/none/socket", "--control unix:{}/none/socket: No such file or directory"),
        ("unix:{}/file", "--control unix:{}/file: it exists, and is no socket"),
        ("unix:{}/used", "--control unix:{}/used: another clock is served there"),
        ("127.0.0.1:{port}", "--control 127.0.0.1:{port}: Address already in use"),
    ],
)
def test_addresses_that_cannot_be(
    address: str, message: str, clock: FrozenClock, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with clock.serve(f"unix:{tmp_path}/used"), clock.serve("127.0.0.1:0") as tcp:
        port = tcp.address.rpartition(":")[2]
        address, message = (
            text.replace("{}", str(tmp_path)).replace("{port}", port) for text in (address, message)
        )
        done = run("--control", address, "touch", f"{tmp_path}/touched")
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"vdsotime: .*\n", done.stderr) and message in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "touched").exists()


def test_nothing_of_it_is_in_the_environment_without(tmp_path: Path) -> None:
    assert "VDSOTIME" not in run("env").stdout.replace("VDSOTIME_PROGRAMS", "")


def test_idle_connections_leave_the_tracer_its_descriptors(path: Path) -> None:
    """What asks nothing makes room, long before the limit of open files."""
    command = [*VDSOTIME, "--at", AT, "--monotonic=freeze", f"--control=unix:{path}", "sh", "-c"]
    script = 'ulimit -n 128; exec "$@"'
    job = "echo; sleep 1d; date +%F; sleep 1d; date +%F"
    with (
        subprocess.Popen(["sh", "-c", script, "sh", *command, job], stdout=PIPE, text=True) as done,
        ExitStack() as crowd,
    ):
        assert done.stdout is not None and done.stdout.readline() == "\n"
        for _ in range(200):
            crowd.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        assert ctl("--control", f"unix:{path}", "advance", "2d")[0] == 0
        assert done.communicate(timeout=CEILING_S)[0] == "2030-01-02\n2030-01-03\n"
        assert done.returncode == 0


MAPPED = """
import os, socket
host, port = os.environ["VDSOTIME_CONTROL"].split(":")
connection = socket.socket(socket.AF_INET6)
connection.connect(("::ffff:127.0.0.1", int(port)))
request = (
    "POST /jump HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 11\\r\\n"
    f"Authorization: Bearer {os.environ['VDSOTIME_TOKEN']}\\r\\n\\r\\n" '{"days": 1}'
)
for _ in range(10):
    connection.sendall(request.encode())
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
"""


def test_a_client_by_the_other_family() -> None:
    """As Java's, whose sockets are of IPv6: the clock does not wait for itself as for a peer."""
    command = [sys.executable, "-c", MAPPED]
    with FrozenClock(AT, patience=60) as clock, clock.serve("127.0.0.1:0") as server:
        clock.run(command, env=os.environ | server.environ, check=True, timeout=CEILING_S)
        assert clock.now.day == 11
