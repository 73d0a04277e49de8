"""The tables of docs/from-faketime.md: each form of faketime and its counterpart have programs read
what the page says."""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE

import pytest

import pytest_vdsotime
from pytest_vdsotime import FrozenClock

PAGE = (Path(pytest_vdsotime.__file__).parent / "docs" / "from-faketime.md").read_text()
ENVIRONMENT = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
CEILING_S = 30
TOOLS = "faketime", "vdsotime"


@pytest.fixture(autouse=True)
def debian(real_program: Callable[[str], str]) -> Iterator[None]:
    """faketime, without what it leaves behind when it is killed, by its pid: another of that pid
    would fail."""
    real_program("faketime")
    remove_segments()
    yield
    remove_segments()


def remove_segments() -> None:
    for path in Path("/dev/shm").glob("*faketime_*"):
        if not os.path.exists(f"/proc/{path.name.rpartition('_')[2]}"):
            with suppress(OSError):  # another user's, or removed meanwhile
                path.unlink()


def rows(head: str) -> list[list[str]]:
    """The cells of the rows of the table whose head begins so."""
    table = re.search(rf"^\| {re.escape(head)} .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert table
    lines = table[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def command(cell: str, program: list[str]) -> list[str]:
    """The command line of a cell, with `program` for COMMAND."""
    words = shlex.split(cell.strip("`"))
    assert words.pop() == "COMMAND"
    return [*words, *program]


READER = [sys.executable, "-u", "-c"] + [
    "import time\nwhile True: print(time.time(), time.monotonic()); input()"
]
PACES = {"goes on": 1.0, "go on": 1.0, "stands still": 0.0, "stand still": 0.0}


def pace_of(told: str) -> float:
    verb, _, times = told.partition(", ")
    return PACES[verb] * float(times.split()[0] if times else 1)


def start_of(told: str, now: datetime) -> datetime:
    """What a clock begins at that is told of so, if it is now `now`."""
    if match := re.fullmatch(r"in (\d+) days", told):
        return now + timedelta(days=int(match[1]))
    if match := re.fullmatch(r"(\d+) days ago", told):
        return now - timedelta(days=int(match[1]))
    if told == "yesterday, 17:00:00":
        day = now - timedelta(days=1)
        return day.replace(hour=17, minute=0, second=0, microsecond=0)
    return datetime.fromisoformat(f"{told}+00:00")


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    "row", rows("faketime | vdsotime | the wall clock"), ids=lambda row: row[0]
)
def test_command_line(tool: str, row: list[str]) -> None:
    cell, start = row[TOOLS.index(tool)], row[2]
    wall_pace, monotonic_pace = map(pace_of, row[3:])
    begun, begun_s = datetime.now(UTC), time.monotonic()
    with subprocess.Popen(
        command(cell, READER), env=ENVIRONMENT, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
    ) as program:
        try:
            assert program.stdin and program.stdout and program.stderr
            wall_s, monotonic_s = map(float, program.stdout.readline().split())
            read, read_s = datetime.now(UTC), time.monotonic()
            time.sleep(0.5)
            asked_s = time.monotonic()
            program.stdin.write("\n")
            program.stdin.flush()
            later_wall_s, later_monotonic_s = map(float, program.stdout.readline().split())
            answered_s = time.monotonic()
        finally:
            program.kill()
    first = datetime.fromtimestamp(wall_s, UTC)
    # faketime has date(1) read what it does not, and reckons in whole seconds then.
    slack = timedelta(seconds=tool == "faketime")
    passed = timedelta(seconds=wall_pace * (read_s - begun_s))
    assert start_of(start, begun) - slack <= first <= start_of(start, read) + passed + slack
    shortest_s, longest_s = asked_s - read_s, answered_s - begun_s
    for pace, passed_s in (
        (wall_pace, later_wall_s - wall_s),
        (monotonic_pace, later_monotonic_s - monotonic_s),
    ):
        assert pace * shortest_s * 0.999 <= passed_s <= pace * longest_s * 1.001


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("row", rows("faketime | vdsotime | on the clock"), ids=lambda row: row[0])
def test_which_programs(tool: str, row: list[str]) -> None:
    script = "date -u +'date %Y'; perl -e 'print q(perl ), 1900 + (gmtime)[5]'"
    done = subprocess.run(
        command(row[TOOLS.index(tool)], ["bash", "-c", script]),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    years = dict(line.split() for line in done.stdout.splitlines())
    on_clock, _, in_real_time = row[2].partition(", not ")
    assert (years.pop(on_clock), done.stderr) == ("2000", "")
    assert years == {in_real_time: str(datetime.now(UTC).year)}


PERL = ["perl", "-e", "$| = 1; print time, qq(\\n) while <STDIN>"]


class Reader:
    """A program that says what time it is whenever it is asked."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program

    def ask(self) -> datetime:
        assert self.program.stdin and self.program.stdout
        self.program.stdin.write("\n")
        self.program.stdin.flush()
        return datetime.fromtimestamp(int(self.program.stdout.readline()), UTC)


def assert_is(found: datetime, told: str, slack_s: int = 0) -> None:
    if told == "now":
        assert abs(found - datetime.now(UTC)) < timedelta(seconds=CEILING_S)
    else:
        off = abs(found - datetime.fromisoformat(f"{told}+00:00"))
        assert off <= timedelta(seconds=slack_s)


BESIDE = rows("faketime, with the library in `LD_PRELOAD`")


@pytest.mark.parametrize("row", BESIDE, ids=lambda row: row[0])
def test_by_the_library(row: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("2000-01-01 00:00:00\n")
    os.utime("FILE", (946684800, 946684800))
    settings, change = re.findall(r"`([^`]*)`", row[0])
    (library,) = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    given = dict(word.split("=", 1) for word in shlex.split(settings))
    environment = {**ENVIRONMENT, **given, "LD_PRELOAD": library}
    with subprocess.Popen(PERL, env=environment, stdin=PIPE, stdout=PIPE, text=True) as program:
        reader = Reader(program)
        is_later = "START_AFTER" in settings
        slack_s = "FOLLOW" in settings  # whole seconds, less what has passed
        assert_is(reader.ask(), "now" if is_later else "2000-01-01 00:00:00", slack_s)
        subprocess.run(["bash", "-c", change], env=ENVIRONMENT, check=True)
        assert_is(reader.ask(), row[2], slack_s)
        program.communicate()


@pytest.mark.parametrize("row", BESIDE, ids=lambda row: row[0])
def test_by_a_clock(row: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    os.utime("FILE", (1262304000, 1262304000))
    is_later = "START_AFTER" in row[0]
    with (
        FrozenClock(None if is_later else "2000-01-01") as clock,
        clock.popen(PERL, stdin=PIPE, stdout=PIPE, text=True) as program,
    ):
        reader = Reader(program)
        assert_is(reader.ask(), "now" if is_later else "2000-01-01 00:00:00")
        exec(row[1].strip("`"), {"clock": clock, "os": os, "time": time})
        assert_is(reader.ask(), row[2])
        program.communicate()


# By the functions of libc that faketime has, as any library of a program calls them.
STAMPS = """
import ctypes, sys
libc, record = ctypes.CDLL(None), ctypes.create_string_buffer(256)

def stamp(path):
    assert libc.stat(path.encode(), record) == 0
    return int.from_bytes(record[88:96], "little")

open("fresh", "w").close()
times = [stamp("fresh"), stamp("older")]
libc.utime(b"fresh", (ctypes.c_long * 2)(5, int(sys.argv[1])))
times.append(stamp("fresh"))
libc.utime(b"fresh", None)
print(*times, stamp("fresh"))
"""
SET_S = 978307200
CLOCK_S = 946684800


def read_as(told: str, own_s: float, now_s: float) -> float:
    """What a stamp of the host reads as that is told of so."""
    return {
        "the clock's time": CLOCK_S,
        "the host's": now_s,
        "as it is": own_s,
        "moved": own_s + CLOCK_S - now_s,
        "moved twice": CLOCK_S + CLOCK_S - now_s,
    }[told]


@pytest.mark.parametrize("row", rows("command | written"), ids=lambda row: row[0])
def test_stamps_of_files(row: list[str], tmp_path: Path) -> None:
    older_s, now_s = time.time() - 86400, time.time()
    (tmp_path / "older").touch()
    os.utime(tmp_path / "older", (older_s, older_s))
    script = [sys.executable, "-c", STAMPS, str(SET_S)]
    done = subprocess.run(
        command(row[0], script),
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = [
        read_as(told, own_s, now_s)
        for told, own_s in zip(row[1:], (now_s, older_s, SET_S, now_s), strict=True)
    ]
    assert list(map(int, done.stdout.split())) == pytest.approx(expected, abs=CEILING_S)


def test_stamps_by_other_calls(tmp_path: Path) -> None:
    """As the tools of a shell ask for them: of faketime these are the host's."""
    tools = "touch f; stat -c %Y f; find f -printf '%Ts\n'; perl -e 'print +(stat shift)[9]' f"
    script = ["sh", "-c", f"cd {tmp_path}; {tools}"]
    theirs, now_s = output("faketime", "-f", "@2000-01-01 00:00:00", *script), time.time()
    assert list(map(int, theirs.split())) == pytest.approx([now_s] * 3, abs=CEILING_S)
    ours = output("vdsotime", "--at", "2000-01-01", "--files", "follow", *script)
    assert list(map(int, ours.split())) == [CLOCK_S] * 3


# What is otherwise.


def output(*words: str) -> str:
    return subprocess.run(
        words, env=ENVIRONMENT, capture_output=True, text=True, timeout=CEILING_S, check=True
    ).stdout


def test_each_reading_moves_the_clock_of_faketime_alone() -> None:
    script = "import time; first = time.time(); print(time.time() - first)"
    moved = output("faketime", "-f", "+0 i2.0", sys.executable, "-c", script)
    assert float(moved) == pytest.approx(2, abs=1)
    assert float(output("vdsotime", "--at=+0s", sys.executable, "-c", script)) == 0


def test_children_have_one_clock() -> None:
    script = ["bash", "-c", "date +%s; sleep 1.1; date +%s"]
    begun_s = time.monotonic()
    anew = output("faketime", "-f", "@2000-01-01 00:00:00", *script)
    first, second = map(int, anew.split())
    assert second - first < 1.1 or time.monotonic() - begun_s > 2
    setting = "FAKETIME_DONT_RESET=1"
    on = output("env", setting, "faketime", "-f", "@2000-01-01 00:00:00", *script)
    ours = output("vdsotime", "--at", "2000-01-01", "--rate", "1", *script)
    for found in on, ours:
        first, second = map(int, found.split())
        assert second - first >= 1


def test_what_date_reads() -> None:
    """As the page has it, by a shell."""
    told = "date -d 'last friday 5 pm' +%F\\ %T"
    ours = "vdsotime --at \"$(date -d 'last friday 5 pm' +@%s)\" date '+%F %T'"
    theirs = "faketime 'last friday 5 pm' date '+%F %H:%M'"
    found = [output("bash", "-c", script).strip() for script in (told, ours, theirs)]
    assert found[0] == found[1] and found[0].startswith(found[2])
    refused = subprocess.run(
        ["vdsotime", "--at", "last friday 5 pm", "date"], capture_output=True, text=True
    )
    assert refused.returncode == 2 and "is not an instant" in refused.stderr


def test_a_static_program_is_on_the_clock(real_program: Callable[[str], str]) -> None:
    """Debian's busybox, of which faketime says nothing."""
    script = [real_program("busybox"), "date", "-u", "+%Y"]
    assert output("faketime", "-f", "@2000-01-01 00:00:00", *script) == f"{time.gmtime().tm_year}\n"
    assert output("vdsotime", "--at", "2000-01-01", *script) == "2000\n"
