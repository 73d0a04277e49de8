"""The vdsotime command: a program behaves under it as it does alone, its clock apart."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime.abi import constant

VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]
CAT_STATUS = ["cat", "/proc/self/status"]
BERLIN = {**os.environ, "TZ": "Europe/Berlin"}
CAP_SYS_ADMIN = constant("CAP_SYS_ADMIN")


def run(*arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    keywords = {"capture_output": True, "text": True, "timeout": 30, **keywords}
    return subprocess.run([*VDSOTIME, *arguments], **keywords)


def outcome(command: list[str], **keywords: Any) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, **keywords)
    return done.returncode, done.stdout, done.stderr


# The clock.


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--at", "1970-01-01"], "1970-01-01T00:00:00"),
        (["--at=2038-01-19T03:14:07Z"], "2038-01-19T03:14:07"),
        (["--at", "2038-01-19 03:14:07"], "2038-01-19T03:14:07"),
        (["--at", "1970-01-01T02:00+02:00", "--"], "1970-01-01T00:00:00"),
        (["--at", "@86400.5"], "1970-01-02T00:00:00"),
        (["--at", "2030-01-01 17:00 UTC"], "2030-01-01T17:00:00"),
        (["--at", "1969-12-31T23:59:59Z", "--waits", "follow"], "1969-12-31T23:59:59"),
        (["--monotonic", "freeze", "--at", "9999-12-31"], "9999-12-31T00:00:00"),
    ],
)
def test_at(arguments: list[str], printed: str) -> None:
    done = run(*arguments, "date", "-u", "+%Y-%m-%dT%H:%M:%S")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{printed}\n", "")


@pytest.mark.parametrize(
    ("option", "follows"),
    [([], False), (["--files", "real"], False), (["--files", "follow"], True)],
)
def test_files(option: list[str], follows: bool, tmp_path: Path) -> None:
    """Stamps, and what /proc tells of the time."""
    script = "touch f; stat -c %Y f; sed -n 's/^btime //p' /proc/stat; date +%s"
    done = run("--at", "2038-01-19", *option, "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    stamp, boot, now = map(int, done.stdout.split())
    assert (stamp == now) == follows
    assert (boot > time.time()) == follows


def test_children_are_on_the_clock_and_sleeps_are_real() -> None:
    start = time.monotonic()
    done = run("--at", "1970-01-01", "--", "bash", "-c", "date +%s%N; sleep 0.5; date +%s%N")
    assert done.stdout == "0\n0\n" or done.stdout.split() == ["0000000000"] * 2
    assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize(
    ("when", "distance_s"),
    [
        (["--at", "-15d"], -15 * 86400),
        (["--at", "- 15 d"], -15 * 86400),
        (["--at=-15d"], -15 * 86400),
        (["--at", "+1h30m"], 5400),
        (["--at", "2 days ago"], -2 * 86400),
        (["--at", "in 3 weeks"], 21 * 86400),
        (["--at", "now"], 0),
        ([], 0),
    ],
)
def test_from_now(when: list[str], distance_s: int) -> None:
    """What COMMAND reads is what --explain says."""
    before = time.time()
    at = int(run(*when, "--", "date", "+%s%N").stdout) / 1e9
    explained = run(*when, "--explain")
    after = time.time()
    assert before + distance_s <= at <= after + distance_s
    utc, local, distance = explained.stdout.splitlines()
    moment = datetime.fromisoformat(utc.removeprefix("UTC    "))
    assert before + distance_s <= moment.timestamp() <= after + distance_s
    here = f"{moment.astimezone().isoformat(' ', 'seconds')} ({time.strftime('%Z')})"
    assert local == f"local  {here}"
    side = {-1: " before now", 0: "now", 1: " after now"}[(distance_s > 0) - (distance_s < 0)]
    assert distance.endswith(side)
    assert (explained.returncode, explained.stderr) == (0, "")


@pytest.mark.parametrize(
    ("when", "days", "time_of_day"),
    [("yesterday 17:00", -1, "17:00:00"), ("tomorrow noon", 1, "12:00:00")],
)
def test_days_near_now_are_of_utc(when: str, days: int, time_of_day: str) -> None:
    """Whatever the zone of the host, and of COMMAND."""
    before = datetime.now(UTC)
    environment = {**os.environ, "TZ": "Pacific/Kiritimati"}
    printed = run("--at", when, "date", "-u", "+%F %T", env=environment).stdout.strip()
    near = {f"{now + timedelta(days=days):%F} {time_of_day}" for now in (before, datetime.now(UTC))}
    assert printed in near


def test_explain_runs_nothing() -> None:
    done = run("--at", "2030-07-01 12:00", "--explain", "echo", "it ran", env=BERLIN)
    text = "UTC    2030-07-01T12:00:00Z\nlocal  2030-07-01 14:00:00+02:00 (CEST)\n"
    assert done.stdout.startswith(text) and done.stdout.endswith(" after now\n")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 3)


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_explain_of_the_ends_of_the_calendar(year: str) -> None:
    for when, zone in (f"{year}-01-01", "Etc/GMT+12"), (f"{year}-12-31T23:59:59Z", "Etc/GMT-14"):
        done = run("--at", when, "--explain", env={**os.environ, "TZ": zone})
        assert (done.returncode, done.stderr) == (0, "") and f"UTC    {year}-" in done.stdout


@pytest.mark.parametrize("stride", ["1h", "90 min", "3600"])
def test_stride(stride: str) -> None:
    """A loop of a second each takes a step of a stride."""
    script = "for i in 1 2 3; do sleep 1; done; date +%s"
    done = run("--at=@0", "--autojump", "--stride", stride, "bash", "-c", script)
    length_s = 5400 if stride == "90 min" else 3600
    assert (done.returncode, int(done.stdout)) == (0, 3 * length_s)


def test_without_at_it_is_now() -> None:
    before = time.time_ns()
    at = int(run("date", "+%s%N").stdout)
    assert before <= at <= time.time_ns()


def test_rate() -> None:
    """At 3600 seconds a second, a real half second is half an hour."""
    done = run("--at=@0", "--rate", "3600", "bash", "-c", "date +%s; sleep 0.5; date +%s")
    first, second = map(int, done.stdout.split())
    assert 1800 <= second - first <= 36000


@pytest.mark.parametrize(
    "options",
    [
        ["--autojump"],
        ["--autojump", "--"],
        ["--autojump", "--rate", "0"],
        ["--rate", "0", "--autojump"],
        ["--autojump=0.05"],
        ["--autojump=0.05", "--"],
    ],
    ids=" ".join,
)
def test_autojump(options: list[str]) -> None:
    """Its value is behind the equals sign alone: the next word is COMMAND."""
    done = run("--at=@0", *options, "sh", "-c", "sleep 1000; date +%s")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n", "")


def test_a_command_may_be_a_number(tmp_path: Path) -> None:
    (tmp_path / "5").symlink_to("/bin/echo")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert run("--autojump", "5", "six", env=environment).stdout == "six\n"
    assert run("--autojump", "echo", "--autojump").stdout == "--autojump\n"


def test_options_end_at_the_command() -> None:
    assert run("--at=@0", "echo", "--at", "now", "--", "-x").stdout == "--at now -- -x\n"
    assert run("--", "echo", "--", "--check").stdout == "-- --check\n"


# As if alone.


@pytest.mark.parametrize(
    "script",
    [
        "exit 0",
        "exit 3",
        "exit 255",
        "kill -TERM $$",
        "kill -KILL $$",
        "kill -SEGV $$",
        "kill -INT $$",
        "echo out; echo err >&2; cat; cat <&3",
        "ulimit -a; umask; pwd; nice",
        "ps -o ppid=,pgid=,sid=,tty= $$ | tr -d 0-9",
        "grep -E '^(SigBlk|SigIgn|SigCgt|CapEff|Groups)' /proc/self/status",
        "yes | head -1",
        "exec >&-; exec 2>&-; sleep 0.1",
        "ls /proc/self/fd",
        "cat <&-",
    ],
)
def test_script(script: str, tmp_path: Path) -> None:
    """Status, output, inherited descriptors, signals and limits are those of the bare program."""
    third = tmp_path / "third"
    third.write_text("third\n")
    results = []
    for prefix in ([], VDSOTIME):
        with third.open() as file, (tmp_path / "in").open("w+") as stdin:
            stdin.write("in\n")
            stdin.seek(0)
            keywords = {
                "stdin": stdin,
                "close_fds": False,
                "preexec_fn": _with_third(file.fileno()),
            }
            results.append(outcome([*prefix, "sh", "-c", script], **keywords))
    assert results[1] == results[0]


def test_the_filter_shows() -> None:
    """The one thing that status has otherwise (proc(5)): a filter more, and no_new_privs for
    whoever needs it to install one (seccomp(2))."""
    bare, frozen = (
        dict(line.split(":\t", 1) for line in outcome([*prefix, *CAT_STATUS])[1].splitlines())
        for prefix in ([], VDSOTIME)
    )
    assert frozen["Seccomp"] == "2"  # SECCOMP_MODE_FILTER
    assert int(frozen["Seccomp_filters"]) == int(bare["Seccomp_filters"]) + 1
    has_right = int(bare["CapEff"], 16) >> CAP_SYS_ADMIN & 1
    assert frozen["NoNewPrivs"] == (bare["NoNewPrivs"] if has_right else "1")


def _with_third(fd: int) -> Callable[[], None]:
    def prepare() -> None:
        os.dup2(fd, 3, inheritable=True)

    return prepare


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stays_closed(closing: str, tmp_path: Path) -> None:
    seen = []
    for prefix in ([], VDSOTIME):
        output = tmp_path / "output"
        script = f"ls /proc/self/fd > '{output}'; echo; echo >&2; true"
        command = ["sh", "-c", f'exec "$@" {closing}', "sh", *prefix, "sh", "-c", script]
        seen.append((outcome(command), output.read_text()))
    assert seen[1] == seen[0]


def test_the_environment_is_untouched() -> None:
    """Python adds LC_CTYPE to its own in the C locale."""
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "A": "1\n2", "PATH": "/usr/bin"}
    done = run("env", "-0", env=environment)
    assert done.stdout.split("\0")[:-1] == [
        f"{name}={value}" for name, value in environment.items()
    ]


def test_it_is_the_same_process() -> None:
    """So its parent, its group and whoever knows its pid deal with COMMAND itself."""
    with subprocess.Popen(
        [*VDSOTIME, "sh", "-c", "echo $$ $PPID"], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.communicate()[0] == f"{program.pid} {os.getpid()}\n"


def test_ignored_signals_stay_ignored() -> None:
    done = run("grep", "SigIgn", "/proc/self/status", preexec_fn=_ignore_hangup)
    assert int(done.stdout.split()[1], 16) >> (signal.SIGHUP - 1) & 1


def _ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_ignored_child_signals() -> None:
    done = run("sh", "-c", "exit 7", preexec_fn=_ignore_children)
    assert (done.returncode, done.stderr) == (7, "")


def _ignore_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGRTMIN"])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_signal_is_handled_once(name: str, to_group: bool) -> None:
    script = f"""
import os, signal, sys
signals = {{signal.{name}}}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", flush=True)
signal.sigwait(signals)
print("once", signal.sigtimedwait(signals, 0.2))
"""
    command = [*VDSOTIME, sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        number = getattr(signal, name)
        (os.killpg if to_group else os.kill)(program.pid, number)
        assert program.communicate(timeout=10)[0] == "once None\n"
        assert program.returncode == 0


def test_the_end_of_output_comes_with_the_end_of_writers() -> None:
    """The tracer keeps no pipe open."""
    command = [*VDSOTIME, "sh", "-c", "exec >&-; read line"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as program:
        assert program.stdout is not None and program.stdin is not None
        assert program.stdout.read() == b""
        assert program.poll() is None
        program.stdin.write(b"\n")


def test_locks_end_with_the_command(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        subprocess.run([*VDSOTIME, "true"], pass_fds=[file.fileno()], check=True, timeout=30)
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_stays_behind_stays_on_the_clock(tmp_path: Path) -> None:
    """As alone, a daemon outlives the command that started it; its clock lives as long."""
    go, said = tmp_path / "go", tmp_path / "said"
    os.mkfifo(go)
    os.mkfifo(said)
    daemon = f"(read line < '{go}'; date -u +%Y > '{said}') > /dev/null 2>&1 &"
    done = run("--at", "1970-01-01", "setsid", "sh", "-c", daemon)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    go.write_text("\n")
    assert said.read_text() == "1970\n"


def test_nothing_is_left(tmp_path: Path) -> None:
    """The tracer ends after the last program; it holds the writing end until then."""
    reader, writer = os.pipe()
    mark = f"--at=@{os.getpid()}"
    command = [*VDSOTIME, mark, "sh", "-c", "true"]
    subprocess.run(command, pass_fds=[writer], check=True, timeout=30)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    _wait_until(lambda: not _processes_with(mark))


def test_kill_9_of_the_tracer_takes_its_programs_along() -> None:
    mark = f"--at=@{os.getpid()}.5"
    with subprocess.Popen(
        [*VDSOTIME, mark, "sh", "-c", "sleep 1000 & echo; wait"], stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        [tracer] = _processes_with(mark)
        os.kill(tracer, signal.SIGKILL)
        assert program.stdout.read() == b""  # sleep has it too
        assert program.wait(10) == -signal.SIGKILL


def _processes_with(argument: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argument.encode() in arguments:
            found.append(int(pid))
    return found


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
