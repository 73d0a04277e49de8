"""Time stamps of files, as the tools of a shell say them: those of the clock of the writer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from tests.real.files.conftest import Shell

Find = Callable[[str], str]

START = "2038-01-19T03:14:07Z"
START_S = 2**31 - 1
AT = "2038-01-19 03:14:07.000000000 +0000"
SET = "2001-02-03 04:05:06.123456789 +0000"
CEILING_S = 30  # of real time
TICK_NS = 20_000_000  # longer than one of the kernel's, which is how fine stamps are

# name: (script, what it prints where files follow). `$SET` is a stamp that a program sets.
SCRIPTS = {
    "touch": ("touch f; stat -c '%x|%y|%z|%w' f", [f"{AT}|{AT}|{AT}|{AT}"]),
    "touch-again": (
        'touch -d "$SET" f; touch f; stat -c "%x|%y|%z" f; '
        'touch -d "$SET" f; touch -m f; stat -c "%x|%y|%z" f',
        [f"{AT}|{AT}|{AT}", f"{SET}|{AT}|{AT}"],
    ),
    "touch -d": ('touch -d "$SET" f; stat -c "%x|%y|%z|%w" f', [f"{SET}|{SET}|{AT}|{AT}"]),
    "touch -a": ('touch f; touch -a -d "$SET" f; stat -c "%x|%y|%z" f', [f"{SET}|{AT}|{AT}"]),
    "touch -r": (
        'touch -d "$SET" g; touch h; touch -r g f; stat -c "%y|%z" f; touch -r h f; stat -c %y f',
        [f"{SET}|{AT}", AT],
    ),
    "cp -p": (
        'touch -d "$SET" g; touch h; cp -p g f; stat -c "%y|%z|%w" f; cp -p h i; stat -c %y i',
        [f"{SET}|{AT}|{AT}", AT],
    ),
    "cp -u": (
        "touch -d 2037-12-31 old; echo new >new; cp -u new old; cat old; stat -c %y old",
        ["new", AT],
    ),
    "install -p": ('touch -d "$SET" g; install -p g f; stat -c "%y|%z" f', [f"{SET}|{AT}"]),
    "write": (
        'touch -d "$SET" f; echo >>f; stat -c "%y|%z" f; truncate -s 9 f; stat -c "%y" f',
        [f"{AT}|{AT}", AT],
    ),
    "change": (
        'touch -d "$SET" f; chmod 600 f; stat -c "%y|%z" f; mv f g; stat -c "%y|%z" g; '
        'ln g h; stat -c "%y|%z" h',
        [f"{SET}|{AT}"] * 3,
    ),
    "kinds": (
        "mkdir d; ln -s nowhere l; mkfifo p; stat -c %y d l p; touch -h -d 2001-02-03 l; "
        "stat -c '%y|%z' l",
        [AT, AT, AT, f"2001-02-03 00:00:00.000000000 +0000|{AT}"],
    ),
    "directory": (
        'mkdir d; touch -d "$SET" d; stat -c %y d; touch d/f; stat -c %y d; '
        "set -- $(ls -d --full-time d); echo $6 $7 $8",
        [SET, AT, AT],
    ),
    "descriptor": (
        'exec 3<>f; stat -c %y - <&3; stat -Lc %y /dev/fd/3; rm f; echo >&3; stat -c "%y|%z" - <&3',
        [AT, AT, f"{AT}|{AT}"],
    ),
    "ls": (
        "touch f; set -- $(ls -l --time-style=full-iso f); echo $6 $7 $8; "
        "set -- $(ls -l --time=birth --full-time f); echo $6 $7 $8; "
        "touch -d '1 hour ago' f; set -- $(ls -l f); echo $6 $7 $8",
        [AT, AT, "Jan 19 02:14"],  # what is recent has a time of day
    ),
    "ls -t": ("touch b; touch -d 2037-12-31 a; touch -d 2038-12-31 c; echo $(ls -t)", ["c b a"]),
    "date -r": ("touch f; date -r f '+%F %T.%N'; date '+%F %T.%N'", [AT[:-6], AT[:-6]]),
    "test": (
        "touch b; touch -d 2037-12-31 a; touch -d 2038-12-31 c; "
        "[ b -nt a ] && [ a -ot b ] && [[ c -nt b ]] && [ b -ot c ] && ! [[ a -nt b ]] && echo yes;"
        " test b -nt a && echo yes; env test b -nt a && echo yes || echo no",
        ["yes"] * 3,
    ),
    "find": (
        "touch -d 2037-12-31 a; touch b; find . -type f -newermt 2038-01-01; "
        "find . -type f -newer a -printf '%t|%T+\\n'; find . -type f -mmin -1",
        [
            "./b",
            "Tue Jan 19 03:14:07.0000000000 2038|2038-01-19+03:14:07.0000000000",
            "./b",
        ],
    ),
    "du": ("touch f; set -- $(du --time --time-style=full-iso f); echo $2 $3 $4", [AT]),
    "perl": (
        "touch f; perl -e 'print join q(|), (stat shift)[8 .. 10], -M _' f",
        [f"{START_S}|{START_S}|{START_S}|0"],
    ),
    "busybox": (
        "busybox touch f; busybox stat -c '%X|%Y|%Z|%y' f; set -- $(busybox ls -l --full-time f); "
        "echo $6 $7 $8; busybox find . -type f -mmin -1; busybox date -r f +%s",
        [f"{START_S}|{START_S}|{START_S}|{AT}", AT[:19] + AT[-6:], "./f", str(START_S)],
    ),
    "busybox-set": (
        'busybox touch -d "${SET%.*}" g; busybox touch -r g f; busybox stat -c "%Y|%Z" f; '
        'busybox cp -p f h; busybox stat -c "%Y|%Z" h',
        [f"981173106|{START_S}"] * 2,
    ),
    "proc": ("stat -Lc %Y /proc/self", [str(START_S)]),
}


@pytest.mark.parametrize("files", ["follow", "real"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_tools(name: str, files: str, shell: Shell, real_program: Find) -> None:
    """Each says another thing where stamps are the host's."""
    for program in ("busybox", "perl", "find", "date"):
        real_program(program)
    script, expected = SCRIPTS[name]
    with FrozenClock(START, files=files) as clock:
        said = shell(clock, f'SET="{SET}"; {script}')
    assert (said == expected) == (files == "follow"), said


def stamps_of(path: Path) -> tuple[int, ...]:
    """As the host has them: access, modification, change."""
    status = path.stat()
    return status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize("files", ["follow", "real"])
def test_an_ordinary_user(files: str, real_program: Find, public_dir: Path) -> None:
    """In a directory of root's that it may enter and not read."""
    busybox, entered = real_program("busybox"), public_dir / "entered"
    entered.mkdir(mode=0o711)
    own = entered / "own"
    own.mkdir()
    shutil.chown(own, 65534)
    script = 'cd "$1"; touch f; stat -c "%x|%y|%z|%w" "$1/f"; "$2" stat -c %Y f'
    with FrozenClock(START, files=files) as clock:
        said = clock.check_output(
            ["sh", "-ec", script, "sh", str(own), busybox],
            user=65534,
            group=65534,
            extra_groups=[],
            env={**os.environ, "TZ": "UTC"},
            text=True,
        )
    assert (said.splitlines() == [f"{AT}|{AT}|{AT}|{AT}", str(START_S)]) == (files == "follow")


# Ways to start a program that may not have what the test process has: $1 is busybox.
WITHIN = {
    "user": 'setpriv --reuid 65534 --clear-groups "$@"',
    "no-privileges": 'setpriv --no-new-privs "$@"',
    "root": 'cp "$1" .; shift; chroot . /busybox "$@"',
    "users": 'unshare --user --map-root-user "$@"',
    "processes": 'unshare --pid --fork --mount-proc "$@"',
    "times": 'unshare --time --boottime 1000000 --fork "$@"',
    "files": 'ulimit -n 4; exec "$@"',
}


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize("files", ["follow", "real"])
def test_a_program_that_may_open_no_file(
    files: str, is_native: bool, real_program: Find, tmp_path: Path
) -> None:
    """It is taken over all the same, and sees its clock."""
    ask = ["sh", "-c", 'ulimit -n 3; exec "$0" stat -c %Y .', real_program("busybox")]
    with (
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, start=START, files=files) as clock,
    ):
        (tmp_path / "f").touch()
        said = clock.check_output(ask, cwd=tmp_path, text=True)
    assert (said == f"{START_S}\n") == (files == "follow")


@pytest.mark.parametrize("files", ["follow", "real"])
@pytest.mark.parametrize("name", WITHIN)
def test_within_limits(
    name: str, files: str, as_root: None, shell: Shell, real_program: Find, public_dir: Path
) -> None:
    public_dir.chmod(0o777)
    for program in "setpriv", "unshare":
        real_program(program)
    script = 'cd "$1"; shift; ' + WITHIN[name]
    ask = "for i in 1 2 3; do touch $i; stat -c %Y $i; done"
    with FrozenClock(START, files=files) as clock:
        said = shell(clock, script, str(public_dir), real_program("busybox"), "sh", "-c", ask)
        assert (said == [str(START_S)] * 3) == (files == "follow"), said
        clock.advance(hours=1)
        said = shell(clock, script, str(public_dir), real_program("busybox"), "stat", "-c%Y", "2")
        assert (said == [str(START_S)]) == (files == "follow"), said


@pytest.mark.parametrize("files", ["follow", "real"])
def test_the_command(files: str, shell: Shell) -> None:
    script = f"vdsotime --at {START} --files={files} -- sh -c 'touch f; stat -c %y f; stat -c %y g'"
    fresh, older = shell(None, f"touch g; sleep 0.1; {sys.executable} -m pytest_{script}")
    assert (fresh == AT) == (files == "follow")
    assert [older] == shell(None, "stat -c %y g")


ANSWERS = """
echo up
while read -r name; do touch $name; stat -c '%y|%w' $name; cut -d. -f1 /proc/uptime; done
"""


def test_a_program_that_runs_already(shell: Shell, tmp_path: Path, real_program: Find) -> None:
    """Attached to, and let go again."""
    with (
        subprocess.Popen(
            [real_program("bash"), "-c", ANSWERS],
            cwd=tmp_path,
            env={**os.environ, "TZ": "UTC"},
            stdin=PIPE,
            stdout=PIPE,
            text=True,
            bufsize=1,
        ) as program,
        FrozenClock(START, files="follow") as clock,
    ):
        assert program.stdin and program.stdout
        assert program.stdout.readline() == "up\n"
        attached = clock.attach(program.pid)
        clock.advance(days=100)
        program.stdin.write("a\n")
        later = "2038-04-29 03:14:07.000000000 +0000"
        assert program.stdout.readline() == f"{later}|{later}\n"
        assert int(program.stdout.readline()) > 8640000
        attached.close()
        program.stdin.write("b\n")
        assert program.stdout.readline()[:4] != "2038"
        assert int(program.stdout.readline()) < clock.monotonic_ns() / 10**9 - 4320000
        program.stdin.close()
        assert program.wait(CEILING_S) == 0


def test_a_program_sets_the_clock(as_root: None, shell: Shell) -> None:
    script = "touch a; date -s 2040-01-01 >>a; touch b; date -s 2010-01-01 >>b; stat -c '%y|%w' a b"
    with FrozenClock(START, files="follow") as clock:
        moved, back = (f"{year}-01-01 00:00:00.000000000 +0000" for year in (2040, 2010))
        assert shell(clock, script) == [f"{moved}|{AT}", f"{back}|{moved}"]


def test_a_program_that_is_not_on_the_clock(shell: Shell, tmp_path: Path) -> None:
    """It has the host's stamps, as it has the host's time."""
    with FrozenClock(START, files="follow", skip=["stat"]) as clock:
        said = shell(clock, "touch f; date -r f +%s; stat -c %.9Y f; cat f")
    assert said == [str(START_S), stamp_of(tmp_path / "f")]


def stamp_of(path: Path) -> str:
    """When it was modified, as the host has it."""
    stamp_ns = path.stat().st_mtime_ns
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09}"


def test_the_tests_own_process_sees_the_hosts(shell: Shell, tmp_path: Path) -> None:
    """And so does a program in real time. What either writes, programs see as the clock's."""
    began_ns = time.time_ns()
    own, theirs, outside = (tmp_path / name for name in ("own", "theirs", "outside"))
    with FrozenClock(START, files="follow") as clock:
        own.write_text("1")
        shell(clock, "touch theirs")
        shell(None, "touch outside")
        assert shell(clock, "stat -c '%x|%y|%z|%w' *") == [f"{AT}|{AT}|{AT}|{AT}"] * 3
        clock.move_to("1999-12-31")
        own.write_text("2")
        assert shell(clock, "stat -c '%y|%w' own") == [f"1999-12-31 00:00:00.000000000 +0000|{AT}"]
        for path in own, theirs, outside:
            status = path.stat()
            for stamp in status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns:
                assert began_ns - TICK_NS <= stamp <= time.time_ns()
        assert shell(None, "stat -c %.9Y own theirs") == [stamp_of(own), stamp_of(theirs)]


def test_older_files_are_as_they_were(shell: Shell, tmp_path: Path) -> None:
    """Those of the time before the clock, in another clock's life too."""
    files = [*(tmp_path / name for name in ("empty", "full", "theirs")), Path(os.__file__)]
    with FrozenClock("2040-01-01", files="follow") as clock:
        files[0].touch()
        files[1].write_text("1")
        shell(clock, "touch theirs")
    time.sleep(TICK_NS / 10**9)  # a stamp may be as old as this
    with FrozenClock(START, files="follow") as clock:
        said = shell(clock, "stat -Lc %.9Y $@", *map(str, files))
        assert said == list(map(stamp_of, files))
        shell(clock, "cat full >full.copy; chmod 600 full")
        assert shell(clock, "stat -c '%.9Y|%z' full") == [f"{stamp_of(files[1])}|{AT}"]


# On a clock a second behind the host's, what a program sets is soon within the clock's life.
BEHIND = """
at() { stat -c %.9Y "$1"; }
touch fresh; date +%s.%N; at fresh; sleep 1.5; at fresh
touch -d @$1 set; at set; sleep 0.1; at set
cp -p set copy; at copy
cp -p fresh copy; at copy; mv copy moved; at moved
touch -r fresh set; at set; chmod 600 set; at set
tar cf a.tar --format=posix fresh set; mkdir d; tar xf a.tar -C d; at d/fresh; at d/set
"""


@pytest.mark.parametrize("files", ["follow", "real"])
def test_what_is_set_reads_back(files: str, shell: Shell) -> None:
    """Also where the host's clock has had that time in the clock's life."""
    with FrozenClock("-1s", rate=1, files=files) as clock:
        to_set = f"{time.time() + 0.5:.9f}"
        date, fresh, *said = shell(clock, BEHIND, to_set)
    assert said == [fresh, *[to_set] * 3, *[fresh] * 6]
    assert (float(fresh) <= float(date)) == (files == "follow")
