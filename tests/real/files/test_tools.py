"""Tools that decide by the age of files: what is fresh stays, and what is old goes.

Where stamps are the host's, each decides otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.real.files.conftest import Shell

START = "2038-01-19T03:14:07Z"
START_S = 2**31 - 1

Find = Callable[[str], str]
both = pytest.mark.parametrize("files", ["follow", "real"])

# make

MAKEFILE = "out: in\n\tcp in out\n"
BUILT, UP_TO_DATE = "cp in out", "make: 'out' is up to date."


@pytest.mark.parametrize("start", ["2020-02-29", START, "2100-01-01"])
def test_make(start: str, shell: Shell, tmp_path: Path, real_program: Find) -> None:
    """It builds what is older, and nothing else; and sees no skew of clocks."""
    real_program("make")
    with FrozenClock(start, files="follow") as clock:
        (tmp_path / "Makefile").write_text(MAKEFILE)
        assert shell(clock, "echo 1 >in; make; make") == [BUILT, UP_TO_DATE]
        for _ in range(3):
            clock.advance(0.001)
            assert shell(clock, "make; echo 2 >in; touch other; make") == [UP_TO_DATE, BUILT]
            clock.advance(days=1)
            assert shell(clock, "make") == [UP_TO_DATE]
        (tmp_path / "in").write_text("3")
        assert shell(clock, "make; make") == [BUILT, UP_TO_DATE]


@both
def test_make_when_the_clock_has_been_set_back(
    files: str, shell: Shell, tmp_path: Path, real_program: Find
) -> None:
    """What make then says of the future is so, and what is written anew is old."""
    real_program("make")
    with FrozenClock(START, files=files) as clock:
        shell(clock, "echo 1 >in; cp in out")
        clock.move_to("2038-01-18T03:14:07Z")
        (tmp_path / "Makefile").write_text(MAKEFILE)
        said = shell(clock, "sleep 0.05; echo 2 >in; make 2>&1")
        future = "make: Warning: File 'out' has modification time 86400 s in the future"
        skew = "make: warning:  Clock skew detected.  Your build may be incomplete."
        assert said == ([future, UP_TO_DATE, skew] if files == "follow" else [BUILT])
        clock.move_to(START)
        assert shell(clock, "sleep 0.05; touch in; make")[:1] == (
            [UP_TO_DATE] if files == "follow" else [BUILT]
        )


@both
def test_make_in_the_past(files: str, shell: Shell, tmp_path: Path, real_program: Find) -> None:
    real_program("make")
    with FrozenClock("2020-02-29", files=files) as clock:
        (tmp_path / "Makefile").write_text(MAKEFILE)
        said = shell(clock, "echo 1 >in; make 2>&1")
        assert any("skew" in line for line in said) == (files == "real")
        assert BUILT in said


# What deletes


@both
def test_find_deletes_what_is_old(files: str, shell: Shell) -> None:
    delete = "find . -type f -mtime +30 -delete; ls"
    with FrozenClock(START, files=files) as clock:
        shell(clock, "touch fresh")
        assert shell(clock, delete) == (["fresh"] if files == "follow" else [])
        clock.advance(days=29)
        shell(clock, "touch later")
        clock.advance(days=2, seconds=1)
        assert shell(clock, delete) == (["later"] if files == "follow" else [])
        clock.advance(days=29)
        assert shell(clock, delete) == []


@both
def test_find_by_minutes(files: str, shell: Shell) -> None:
    with FrozenClock(START, files=files) as clock:
        shell(clock, "touch a")
        clock.advance(minutes=4, seconds=30)
        shell(clock, "touch b; touch -d '2 minutes ago' c")
        found = [
            shell(clock, f"find . -type f {test} -printf '%f\\n' | sort | xargs echo")[0].split()
            for test in (
                *("-mmin -1", "-mmin -3", "-mmin +4", "-mmin 5", "-cmin -1", "-newer a"),
                *("-newermt '3 minutes ago'", "-not -newermt '3 minutes ago'"),
            )
        ]
    expected = [["b"], ["b", "c"], ["a"], ["a"], ["b", "c"], ["b", "c"], ["b", "c"], ["a"]]
    assert (found == expected) == (files == "follow"), found


@both
def test_tmpreaper(files: str, shell: Shell, real_program: Find) -> None:
    real_program("tmpreaper")
    reap = 'tmpreaper --mtime 30d "$PWD/t"; ls t'
    with FrozenClock(START, files=files) as clock:
        shell(clock, "mkdir t; touch t/fresh")
        assert shell(clock, reap) == (["fresh"] if files == "follow" else [])
        clock.advance(days=29)
        shell(clock, "touch t/later")
        assert shell(clock, reap) == (["fresh", "later"] if files == "follow" else [])
        clock.advance(days=2)
        assert shell(clock, reap) == (["later"] if files == "follow" else [])


LOGROTATE = "{}/log {{\n daily\n rotate 9\n maxage 2\n dateext\n create 0600\n}}\n"
DAY = """
cd $1; shopt -s nullglob
date +%F >>log; logrotate -s state config; logrotate -s state config; echo $(echo log-*; cat log)
"""


@both
def test_logrotate(files: str, shell: Shell, real_program: Find, public_dir: Path) -> None:
    """Once a day; and what is older than two days goes."""
    real_program("logrotate")
    (public_dir / "config").write_text(LOGROTATE.format(public_dir))
    (public_dir / "config").chmod(0o644)
    said = []
    with FrozenClock(START, files=files) as clock:
        for _ in range(6):
            said += shell(clock, DAY, str(public_dir))
            clock.advance(days=1)
        days = ["log-20380120", "log-20380121", "log-20380122", "log-20380123", "log-20380124"]
        left = [days[:1], days[:2], days[:3], days[1:4], days[2:5]]
        assert (said == ["2038-01-19", *map(" ".join, left)]) == (files == "follow"), said
        assert 'log" 2038-1-24-3:14:7' in (public_dir / "state").read_text()


# git


@both
def test_git_prunes_what_is_old(files: str, shell: Shell, real_program: Find) -> None:
    real_program("git")
    prune = "git prune --expire=2.weeks.ago; git count-objects | cut -d' ' -f1"
    with FrozenClock(START, files=files) as clock:
        shell(clock, "git init -q; echo one | git hash-object -w --stdin")
        left = shell(clock, prune)
        clock.advance(days=13)
        shell(clock, "echo two | git hash-object -w --stdin")
        left += shell(clock, prune)
        clock.advance(days=2)
        left += shell(clock, prune)
        assert left == (["1", "2", "1"] if files == "follow" else ["0"] * 3)


COMMIT = """
git init -q; git config user.name T; git config user.email t@t; git config core.autocrlf false
for i in {1..40}; do echo $i >$i; done
git add .; git commit -qm 1; git log --format=%ct; git status --porcelain
git ls-files --debug 7 | grep -o 'time.*'
"""


@pytest.mark.parametrize(
    ("parameters", "files"), [({}, "follow"), ({"rate": 1}, "follow"), ({}, "real")], ids=str
)
def test_git_compares_stamps(
    parameters: dict[str, Any], files: str, shell: Shell, real_program: Find
) -> None:
    """A file counts as modified when it is, wherever the clock goes: also at once, when it has the
    time of the index (git-racy.txt of git's documentation)."""
    real_program("git")
    status = "git status --porcelain; git diff-files --name-only"
    with FrozenClock(START, files=files, **parameters) as clock:
        committed, *stamps = shell(clock, COMMIT)
        times = [int(committed), *(int(one.split(":")[1]) for one in stamps)]
        # To the second, on a clock that flows too.
        assert (max(times) - min(times) <= 5) == (files == "follow"), times
        assert len(times) == 3
        assert shell(clock, "echo 8 >7; echo a >8; git status --porcelain") == [" M 7", " M 8"]
        shell(clock, "git checkout -q 7; git commit -qam 2")
        for move in MOVES:
            move(clock)
            assert shell(clock, status) == []
            assert shell(clock, "echo b >9;" + status) == [" M 9", "9"]
            clock.move_to("2039-01-01")
            assert shell(clock, status) == [" M 9", "9"]
            assert shell(clock, f"git add 9; git commit -qm 3; {status}; echo 9 >9") == []
            shell(clock, "git commit -qam 4")


MOVES: list[Callable[[FrozenClock], None]] = [
    lambda clock: clock.settle(),
    lambda clock: clock.advance(days=1),
    lambda clock: clock.move_to("2020-02-29"),
    lambda clock: clock.move_to("2100-01-01"),
]

# What copies


@both
def test_rsync(files: str, shell: Shell, real_program: Find) -> None:
    """What is the same is not copied again; with -u, only what is newer than there."""
    real_program("rsync")
    rsync = "rsync -rtiO from/ to; stat -c '%n %Y' to/*"
    with FrozenClock(START, files=files) as clock:
        said = shell(clock, f"mkdir from to; echo 1 >from/a; echo 2 >from/b; {rsync}")
        clock.advance(days=1)
        said += shell(clock, f"{rsync}; echo 3 >from/a; {rsync}")
        clock.advance(hours=1)
        said += shell(clock, "echo 4 >from/a; echo 5 >to/b; rsync -rtiOu from/ to; cat to/*")
        clock.move_to("2020-02-29")
        said += shell(clock, f"echo 6 >from/a; {rsync}; {rsync}")
    days = START_S, START_S + 86400, 1582934400
    a, b, later, back = f"to/a {days[0]}", f"to/b {days[0]}", f"to/a {days[1]}", f"to/a {days[2]}"
    newer = ">f..t...... a"
    expected = [">f+++++++++ a", ">f+++++++++ b", a, b, a, b, newer, later, b, newer, "4", "5"]
    expected += [newer, ">f..t...... b", back, b, back, b]
    assert (said == expected) == (files == "follow"), said


@both
def test_tar(files: str, shell: Shell) -> None:
    """What it lists and unpacks; and takes into the second of two backups, which is what is new."""
    with FrozenClock("2020-02-29", files=files) as clock:
        shell(clock, "mkdir d; echo 1 >d/a")
        clock.advance(1)
        said = shell(clock, "tar cf 1.tar -g seen d; tar tvf 1.tar --full-time d/a")
        clock.advance(days=1)
        said += shell(clock, "echo 2 >d/b; tar cf 2.tar -g seen d; tar tf 2.tar")
        clock.advance(days=1)
        # Nothing in it is in the future.
        unpack = "mkdir u; tar xf 1.tar -C u 2>&1; tar xf 2.tar -C u 2>&1; stat -c '%y' u/d/*"
        said += shell(clock, unpack)
    expected = [
        *("-rw-r--r-- root/root         2 2020-02-29 00:00:00 d/a", "d/", "d/b"),
        *("2020-02-29 00:00:00.000000000 +0000", "2020-03-01 00:00:01.000000000 +0000"),
    ]
    assert (said == expected) == (files == "follow"), said
