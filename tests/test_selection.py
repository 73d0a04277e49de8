"""`only` and `skip`: which programs are on the clock, decided at each exec."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock, RealTimeWarning
from pytest_vdsotime.kernel import procfs

if TYPE_CHECKING:
    from conftest import Builder

THERE = "2038-01-19"
CEILING_S = 30
VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]
THE_YEAR = "import time; print(time.gmtime().tm_year)"


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A link to date(1)."""
    path = tmp_path / "what-day"
    path.symlink_to(shutil.which("date") or "")
    return path


def year_of(clock: FrozenClock, command: list[str], **keywords: Any) -> str:
    found = clock.run(
        command, capture_output=True, text=True, check=True, timeout=CEILING_S, **keywords
    )
    return str(found.stdout).strip()


def here() -> str:
    return str(time.gmtime().tm_year)


@pytest.mark.parametrize(
    ("parameters", "is_there"),
    [
        ({"skip": ["date"]}, False),
        ({"skip": ["/*/date"]}, False),
        ({"skip": ["da*", "nothing"]}, False),
        ({"skip": ["DATE", "dat", "/date", "bin/date"]}, True),
        ({"skip": []}, True),
        ({"only": ["date"]}, True),
        ({"only": ("*/date",)}, True),
        ({"only": ["bash"]}, False),
        ({"only": []}, False),
        ({"only": ["*"], "skip": ["d[a-b]te"]}, False),
        ({"only": ["date"], "skip": ["bash"]}, True),
    ],
)
def test_patterns(parameters: dict[str, Any], is_there: bool) -> None:
    with FrozenClock(THERE, **parameters) as clock:
        assert year_of(clock, ["date", "-u", "+%Y"]) == ("2038" if is_there else here())


def test_a_link_has_two_names(linked: Path) -> None:
    for pattern in ("what-day", str(linked), "date", os.path.realpath(linked)):
        with FrozenClock(THERE, skip=[pattern]) as clock:
            assert year_of(clock, [str(linked), "-u", "+%Y"]) == here()
            assert year_of(clock, ["./what-day", "-u", "+%Y"], cwd=linked.parent) == here()


def test_a_script_has_its_own_name_and_its_interpreters(tmp_path: Path) -> None:
    script = tmp_path / "tell"
    script.write_text(f"#!{sys.executable}\n{THE_YEAR}\n")
    script.chmod(0o755)
    for pattern in ("tell", str(tmp_path / "*"), "python3*"):
        with FrozenClock(THERE, only=[pattern]) as clock:
            assert year_of(clock, [str(script)]) == "2038"
            assert year_of(clock, ["date", "-u", "+%Y"]) == here()


def test_what_it_executes_is_decided_anew() -> None:
    command = ["bash", "-c", "printf '%(%Y)T ' -1; date +%Y; exec perl -e 'print +(gmtime)[5]'"]
    bash, date, perl = "2038", "2038", "138"
    real = here(), here(), str(time.gmtime().tm_year - 1900)
    for skipped in ((), ("bash",), ("date",), ("perl",), ("bash", "perl")):
        with FrozenClock(THERE, skip=skipped) as clock:
            found = year_of(clock, command, env={**os.environ, "TZ": "UTC"}).split()
        names = ("bash", bash, real[0]), ("date", date, real[1]), ("perl", perl, real[2])
        assert found == [there if name not in skipped else own for name, there, own in names]


if os.uname().machine == "x86_64":

    @pytest.mark.parametrize("pattern", ["who_and_when*", "nothing"])
    def test_a_program_of_32_bits(pattern: str, build: Builder) -> None:
        program = build.c("helpers/who_and_when", "i386")
        with FrozenClock(THERE, skip=[pattern]) as clock:
            told = clock.run([program], stdout=subprocess.PIPE, text=True).stdout.split()[1]
        assert time.gmtime(int(told)).tm_year == (2038 if pattern == "nothing" else int(here()))


def test_it_is_no_deadline_and_not_busy() -> None:
    with FrozenClock(THERE, monotonic="freeze", skip=["python*", "sleep"]) as clock:
        busy = clock.popen([sys.executable, "-c", "while True: pass"])
        sleeper = clock.popen(["sleep", "1000"])
        with clock.popen(["perl", "-e", "sleep 3600; print time"], stdout=-1, text=True) as perl:
            clock.settle()
            assert [wait.command for wait in clock.waits] == ["perl"]
            clock.advance(hours=1)
            assert perl.communicate(timeout=CEILING_S)[0] == str(round(clock.time_ns() / 1e9))
        assert busy.poll() is None
        assert sleeper.poll() is None


def test_processes_tell_which_are_on_the_clock() -> None:
    with FrozenClock(THERE, skip=["bash"]) as clock:
        shell = clock.popen(["bash", "-c", "sleep 1000 & read"], stdin=-1)
        while len(clock.processes) < 2 or not any(one.is_on_clock for one in clock.processes):
            assert shell.poll() is None
        assert {one.pid == shell.pid: one.is_on_clock for one in clock.processes} == {
            True: False,
            False: True,
        }
        text = clock.describe()
        assert f"bash -c 'sleep 1000 & read' (pid {shell.pid}) runs in real time\n" in text
        assert "sleep 1000" in text


def test_they_end_with_the_clock() -> None:
    with FrozenClock(THERE, skip=["*"]) as clock:
        shell = clock.popen(["bash", "-c", "sleep 1000 & wait"])
        while len(clock.processes) < 2:
            assert shell.poll() is None
        pids = [one.pid for one in clock.processes]
    assert {(procfs.stat_fields(pid) or "Z")[0] for pid in pids} == {"Z"}
    assert shell.returncode == -signal.SIGKILL


@pytest.mark.parametrize("skipped", ["sleep", "timeout"])
def test_timeout_of_the_one_and_sleep_of_the_other(skipped: str) -> None:
    """timeout(1) sets its timer before it executes sleep(1): in a child of its own."""
    with FrozenClock(THERE, monotonic="freeze", skip=[skipped]) as clock:
        program = clock.popen(["timeout", "100", "sleep", "1000"])
        while len(clock.processes) < 2:
            assert program.poll() is None
        while sum(one.is_on_clock for one in clock.processes) != 1:
            assert program.poll() is None
        clock.advance(seconds=101)
        if skipped == "sleep":
            assert program.wait(CEILING_S) == 124
        else:
            assert program.poll() is None
            clock.advance(seconds=900)
            assert program.wait(CEILING_S) == 0


def test_an_alarm_outlasts_the_exec() -> None:
    """It was set on the clock, and so it is the clock's, whatever the program becomes."""
    command = ["perl", "-e", "alarm 100; exec 'sleep', '1000'"]
    with FrozenClock(THERE, monotonic="freeze", skip=["sleep"]) as clock:
        program = clock.popen(command)
        while [one.argv[:1] for one in clock.processes] != [["sleep"]]:
            assert program.poll() is None
        clock.advance(seconds=99)
        assert program.poll() is None
        clock.advance(seconds=1)
        assert program.wait(CEILING_S) == -signal.SIGALRM


def test_in_a_jumping_world() -> None:
    """A server in real time holds up no jump, and a client waits for its answer."""
    server = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(204)\n"
        "        self.end_headers()\n"
        "    def log_message(self, *args): pass\n"
        "s = h.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
        "print(s.server_port, flush=True)\n"
        "s.serve_forever(0.01)\n"
    )
    with FrozenClock(THERE, autojump=True, skip=["python*"]) as clock:
        with clock.popen([sys.executable, "-c", server], stdout=-1, text=True) as program:
            assert program.stdout
            url = f"http://127.0.0.1:{program.stdout.readline().strip()}/"
            script = (
                f"for i in 1 2 3; do sleep 3600; curl -sf -m 5 -o /dev/null {url} || exit; done"
            )
            assert clock.run(["bash", "-c", script], timeout=CEILING_S).returncode == 0
            program.kill()
        assert clock.time_ns() >= 2147472000 * 10**9 + 3 * 3600 * 10**9


def test_redis_and_its_clients() -> None:
    """Of a server on the clock and one that is not, the first one alone forgets a key."""
    ports = []
    for _ in range(2):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            ports.append(found.getsockname()[1])
    redis = [shutil.which("redis-server") or "", "--save", "", "--port"]
    with FrozenClock(THERE, monotonic="freeze", only=["redis-server"]) as clock:
        clock.popen([*redis, str(ports[0])], stdout=subprocess.DEVNULL)
        with FrozenClock(THERE, monotonic="freeze", skip=["/*redis*"]) as other:
            other.popen([*redis, str(ports[1])], stdout=subprocess.DEVNULL)
            for port in ports:
                while ask(port, "SET k v EX 3600") != "OK":
                    time.sleep(0.01)
            clock.jump(hours=2)
            other.jump(hours=2)
            assert [ask(port, "GET k") for port in ports] == ["", "v"]


def ask(port: int, words: str) -> str:
    found = subprocess.run(
        ["redis-cli", "-p", str(port), *words.split()], capture_output=True, text=True
    )
    return found.stdout.strip()


def test_a_filter_of_its_own_outlasts_the_exec(build: Builder) -> None:
    """What it executes is on the clock, under the filter; nothing else is slower for that."""
    script = (
        "import ctypes, os, struct\n"
        "libc = ctypes.CDLL(None)\n"
        "code = struct.pack('HBBI', 6, 0, 0, 0x7fff0000)\n"
        "buffer = ctypes.create_string_buffer(code)\n"
        "program = struct.pack('HxxxxxxQ', 1, ctypes.addressof(buffer))\n"
        "assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0\n"
        "os.execvp('date', ['date', '-u', '+%Y'])\n"
    )
    with FrozenClock(THERE, skip=["python*"]) as clock:
        assert year_of(clock, [sys.executable, "-c", script]) == "2038"


def test_attached_programs() -> None:
    """Whoever is attached to is on the clock, whatever the patterns; not what it executes."""
    script = "read; date +%Y; exec perl -e '$| = 1; print 1900 + (gmtime)[5]; <STDIN>'"
    with FrozenClock(THERE, skip=["date", "perl", "bash"]) as clock:
        command = ["bash", "-c", script]
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as program:
            assert program.stdin and program.stdout
            attached = clock.attach(program.pid)
            assert attached.is_on_clock
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline().strip() == here()
            assert program.stdout.read(4) == here()
            assert [one.is_on_clock for one in clock.processes] == [False]
            attached.close()
            assert clock.processes == []
            program.stdin.write("\n")
            program.stdin.close()
            assert program.wait(CEILING_S) == 0


def test_the_trace_has_them(tmp_path: Path) -> None:
    command = [*VDSOTIME, "--at", THERE, "--skip", "sleep", "--trace", str(tmp_path / "t")]
    found = subprocess.run(
        [*command, "--", "bash", "-c", "sleep 0.01; date -u +%Y"], capture_output=True, text=True
    )
    assert (found.stdout, found.stderr) == ("2038\n", "")


@pytest.mark.parametrize(
    ("options", "years"),
    [
        (["--skip", "date"], (True, False)),
        (["--skip", "date", "--skip", "bash"], (False, False)),
        (["--only=bash", "--only", "perl"], (True, False)),
        (["--only", "date"], (False, True)),
    ],
)
def test_on_the_command_line(options: list[str], years: tuple[bool, bool]) -> None:
    command = [*VDSOTIME, "--at", THERE, *options, "bash", "-c", "printf '%(%Y)T ' -1; date +%Y"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2038" if there else here() for there in years]
    assert found.stderr == ""


def bad() -> Iterator[tuple[dict[str, Any], type[Exception], str]]:
    for name in ("only", "skip"):
        yield {name: "date"}, TypeError, rf"^{name} is a list of patterns .*, not 'date'$"
        yield {name: 3}, TypeError, rf"^{name} is a list of patterns .*, not 3$"
        yield {name: ["a", b"b"]}, TypeError, rf"^{name}: a pattern is a string, not b'b'$"
        yield {name: [""]}, ValueError, rf"^{name}: a pattern is not empty"
        long = rf"^{name}: a pattern has at most 4096 characters, not 20000$"
        yield {name: ["[a" * 10_000]}, ValueError, long


@pytest.mark.parametrize(("parameters", "error", "message"), list(bad()))
def test_what_is_no_pattern(
    parameters: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FrozenClock(**parameters)


def test_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    with FrozenClock(THERE, skip=["date"]) as clock:
        clock.run(["date"], stdout=subprocess.DEVNULL)
        clock.settle()
    assert not [one for one in recwarn if issubclass(one.category, RealTimeWarning)]


def test_threads_births_and_ends_of_programs_in_real_time(build: Builder) -> None:
    """With many of each, beside a clock that moves on."""
    script = (
        "import subprocess, threading\n"
        "def work():\n"
        "    for _ in range(10): subprocess.run(['date', '-u', '+%Y'])\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for one in threads: one.start()\n"
        "for one in threads: one.join()\n"
    )
    with FrozenClock(THERE, monotonic="freeze", skip=["python*"]) as clock:
        clock.popen(["perl", "-e", "select undef, undef, undef, 0.5 while 1"])
        with clock.popen([sys.executable, "-c", script], stdout=-1, text=True) as program:
            while program.poll() is None:
                clock.advance(seconds=1)
            assert program.stdout and program.stdout.read().split() == ["2038"] * 40
            assert program.returncode == 0
