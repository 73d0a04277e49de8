"""Programs from the real world, started as a user would: each prints the clock's time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder

START = "2038-01-19T03:14:07Z"
START_S = 2**31 - 1
CEILING_S = 60  # of real time, for a Java machine to start on a busy computer

# name: (command, what it prints): its own clock, and that of its children where it has any.
PROGRAMS = {
    "date": (["date", "-u", "+%F %T.%N"], "2038-01-19 03:14:07.000000000\n"),
    "bash": (
        [
            "bash",
            "-c",
            'echo $EPOCHSECONDS; (date +%s | cat; date +%s) | sort -u; x=$(date +%s); echo "$x"',
        ],
        f"{START_S}\n" * 3,
    ),
    "bash-printf": (["bash", "-c", "TZ=UTC printf '%(%F %T)T\\n' -1"], "2038-01-19 03:14:07\n"),
    "busybox": (
        ["busybox", "sh", "-c", "busybox date +%s; busybox date +%s | busybox cat"],
        f"{START_S}\n" * 2,
    ),
    "perl": (
        [
            *("perl", "-MTime::HiRes=clock_gettime,CLOCK_REALTIME", "-e"),
            'print time, "\n", clock_gettime(CLOCK_REALTIME), "\n", `date +%s`;'
            'system "date", "+%s"',
        ],
        f"{START_S}\n" * 4,
    ),
    "python3": (
        [
            *("python3", "-c"),
            "import datetime, subprocess, sys, time\n"
            "print(time.time_ns(), datetime.datetime.now(datetime.timezone.utc), flush=True)\n"
            "subprocess.run(['date', '+%s'], check=True)\n"
            "subprocess.run([sys.executable, '-c', 'import time; print(time.time())'])\n",
        ],
        f"{START_S}000000000 2038-01-19 03:14:07+00:00\n{START_S}\n{START_S}.0\n",
    ),
    "node": (
        [
            *("node", "-e"),
            "console.log(Date.now(), new Date().toISOString());"
            "console.log(require('child_process').execFileSync('date', ['+%s']).toString().trim());"
            "new (require('worker_threads').Worker)('console.log(Date.now())', {eval: true})",
        ],
        f"{START_S}000 2038-01-19T03:14:07.000Z\n{START_S}\n{START_S}000\n",
    ),
}

JAVA = """
import java.time.Instant;

public class Now {
    public static void main(String[] arguments) throws Exception {
        System.out.println(System.currentTimeMillis() + " " + Instant.now());
        Thread thread = new Thread(() -> System.out.println(System.currentTimeMillis()));
        thread.start();
        thread.join();
        System.gc();
        if (System.nanoTime() <= 0) throw new IllegalStateException("nanoTime");
        System.out.flush();
        new ProcessBuilder("date", "+%s").inheritIO().start().waitFor();
    }
}
"""

# What a program says that has its time and another's.
JUSTFILE = """
own := datetime_utc("%s")
child := `date +%s`
"""

# Of FrozenClock.popen: nobody in particular, with nobody's rights.
USERS: dict[str, dict[str, Any]] = {
    "root": {},
    "ordinary": {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"},
}
as_each_user = pytest.mark.parametrize("user", USERS)

Find = Callable[[str], str]


def run_at_start(command: list[str], **keywords: Any) -> str:
    with FrozenClock(START) as clock:
        done = clock.run(
            command, stdout=PIPE, stderr=PIPE, text=True, timeout=CEILING_S, **keywords
        )
    assert (done.stderr, done.returncode) == ("", 0)
    output: str = done.stdout
    return output


@as_each_user
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_prints_the_clock(
    name: str, user: str, real_program: Find, as_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, expected = PROGRAMS[name]
    if name == "python3":  # the system's own: an environment's may be closed to other users
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert run_at_start([real_program(command[0]), *command[1:]], **USERS[user]) == expected


@as_each_user
def test_java(user: str, real_program: Find, public_dir: Path) -> None:
    source = public_dir / "Now.java"
    source.write_text(JAVA)
    command = [real_program("java"), "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", str(source)]
    expected = f"{START_S}000 2038-01-19T03:14:07Z\n{START_S}000\n{START_S}\n"
    assert run_at_start(command, **USERS[user]) == expected


@as_each_user
def test_static_go(user: str, build: Builder, public_dir: Path) -> None:
    program = str(shutil.copy(build.go("goroutines"), public_dir))
    command = [program, str(START_S * 10**9), "unused"]
    assert run_at_start(command, **USERS[user]) == "EXIT-SUCCESS\n"


@as_each_user
def test_32_bit_program(user: str, real_program: Find, public_dir: Path) -> None:
    """A dynamic one, between a 64-bit parent and a 64-bit child."""
    for library in ("/lib/ld-linux.so.2", "/lib32/libgcc_s.so.1"):
        real_program(library)
    source, just = public_dir / "justfile", str(shutil.copy(real_program("just-i386"), public_dir))
    source.write_text(JUSTFILE)
    script = 'date +%s; "$0" --justfile "$1" --evaluate; date +%s'
    command = [real_program("bash"), "-c", script, just, str(source)]
    evaluated = f'child := "{START_S}"\nown   := "{START_S}"\n'
    assert run_at_start(command, **USERS[user]) == f"{START_S}\n{evaluated}{START_S}\n"


def test_monotonic_time_flows_while_the_wall_stands(real_program: Find) -> None:
    """`sleep` takes its real time, and `date` before and after prints the same."""
    script = (
        "date +%s; read before _ < /proc/uptime; sleep 0.3; date +%s; read after _ < /proc/uptime; "
    )
    script += 'echo "$before $after"'
    first, second, uptimes = run_at_start([real_program("bash"), "-c", script]).splitlines()
    before, after = map(float, uptimes.split())
    assert first == second == str(START_S)
    assert after - before >= 0.29


def test_a_program_sees_each_move(real_program: Find) -> None:
    """One long-lived shell, asked again after each."""
    with FrozenClock("2000-01-01") as clock:
        shell = clock.popen([real_program("bash")], stdin=PIPE, stdout=PIPE, text=True, bufsize=1)
        assert shell.stdin and shell.stdout
        questions, answers = shell.stdin, shell.stdout

        def ask() -> list[str]:
            questions.write("echo $EPOCHSECONDS; TZ=UTC date '+%F %T'\n")
            return [answers.readline().strip() for _ in range(2)]

        assert ask() == ["946684800", "2000-01-01 00:00:00"]
        clock.advance(hours=36, seconds=1)
        assert ask() == ["946814401", "2000-01-02 12:00:01"]
        clock.move_to("1969-07-20T20:17:40Z")
        assert ask() == ["-14182940", "1969-07-20 20:17:40"]
        clock.move_to("9999-12-31T23:59:59Z")
        assert ask() == ["253402300799", "9999-12-31 23:59:59"]
        clock.move_to("0001-01-01")
        assert ask() == ["-62135596800", "0001-01-01 00:00:00"]
        shell.communicate("exit 3\n", timeout=CEILING_S)
        assert shell.returncode == 3
