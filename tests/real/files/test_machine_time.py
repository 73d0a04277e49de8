"""How long the machine and its programs have run, as /proc tells it: by the clock of the reader."""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.real.conftest import Start
    from tests.real.files.conftest import Shell

START = "2038-01-19T03:14:07Z"
START_S = 2**31 - 1
DAYS_S = 100 * 86400
TICKS = os.sysconf("SC_CLK_TCK")
CEILING_S = 30  # of real time

Find = Callable[[str], str]
both = pytest.mark.parametrize("files", ["follow", "real"])

BOOTTIME = "perl -MTime::HiRes=clock_gettime -e 'print clock_gettime(7)'"  # CLOCK_BOOTTIME


def python(code: str) -> str:
    return f"python3 -c 'import os, sys\n{code}'"


# Ways to read a file of /proc, whose directory is $1 and whose name is $2.
WAYS = {
    "cat": "cat $1/$2",
    "standard input": "cat <$1/$2",
    "inherited": "exec 3<$1/$2; cat <&3",
    "copied": "exec 3<$1/$2 4<&3 3<&-; cat <&4",
    "opened again": "exec 3<$1/$2; cat /proc/self/fd/3",
    "bash": 'while read -r line; do echo "$line"; done <$1/$2',
    "bytes": "dd bs=1 if=$1/$2 status=none",
    "odd pieces": "dd bs=77 if=$1/$2 status=none",
    "relative": "cd $1; cat $2",
    "dots": "cd $1; cat ./../$(basename $1)/$2",
    "link": "ln -s $1/$2 l; cat l",
    "link of a directory": "ln -s $1 l; cd l; cat $2",
    "through a root": "cat /proc/self/root$1/$2",
    "cp": "cp $1/$2 f; cat f",
    "busybox": "busybox cat $1/$2",
    "sed": "sed '' $1/$2",
    "perl": "perl -pe1 $1/$2",
    "tail": "tail -c +1 $1/$2",
    "head": "head -c 1M $1/$2",
    "openat": python(
        "at = os.open(sys.argv[1], os.O_PATH)\n"
        "os.write(1, os.read(os.open(sys.argv[2], 0, dir_fd=at), 1 << 20))"
    )
    + " $1 $2",
    "pread": python(
        "fd = os.open(sys.argv[1], 0)\nat = 0\n"
        "while piece := os.pread(fd, 1000, at):\n  at += os.write(1, piece)"
    )
    + " $1/$2",
    "readv": python(
        "fd = os.open(sys.argv[1], 0)\nparts = [bytearray(3), bytearray(1 << 20)]\n"
        'count = os.readv(fd, parts)\nos.write(1, b"".join(parts)[:count])'
    )
    + " $1/$2",
    "preadv": python(
        "fd = os.open(sys.argv[1], 0)\nparts = [bytearray(5), bytearray(1 << 20)]\n"
        'count = os.preadv(fd, parts, 0)\nos.write(1, b"".join(parts)[:count])'
    )
    + " $1/$2",
    "spliced by sendfile": python(
        "fd = os.open(sys.argv[1], 0)\nwhile os.sendfile(1, fd, None, 1 << 20): pass"
    )
    + " $1/$2 | cat",
    "spliced": python("fd = os.open(sys.argv[1], 0)\nwhile os.splice(fd, 1, 4096): pass")
    + " $1/$2 | cat",
    "seek": python(
        'file = open(sys.argv[1])\nfile.read()\nfile.seek(0)\nprint(file.read(), end="")'
    )
    + " $1/$2",
    "backwards": python(
        "fd = os.open(sys.argv[1], 0)\nos.read(fd, 9)\nos.lseek(fd, -8, 1)\n"
        "os.lseek(fd, -1, 1)\nos.write(1, os.read(fd, 1 << 20))"
    )
    + " $1/$2",
    "node": "node -e 'process.stdout.write(fs.readFileSync(process.argv[1]))' $1/$2",
}


def uptime(said: str, _: float) -> float:
    return float(said.split()[0])


def boot(said: str, now_s: float) -> float:
    """As the time since then."""
    return now_s - int(re.findall(r"^btime (\d+)$", said, re.MULTILINE)[0])


def started(said: str, _: float) -> float:
    """A program's, which is when it is read: the reader or its shell has just started."""
    return int(said.rpartition(")")[2].split()[19]) / TICKS


FILES = {
    "uptime": ("/proc uptime", uptime),
    "stat": ("/proc stat", boot),
    "self": ("/proc/self stat", started),
    "parent": ("/proc/$$ stat", started),
    "task": ("/proc/$$/task/$$ stat", started),
}


@both
@pytest.mark.parametrize("file", FILES)
def test_each_way_to_read(file: str, files: str, shell: Shell, real_program: Find) -> None:
    for name in ("busybox", "node", "perl"):
        real_program(name)
    where, seconds = FILES[file]
    # Linux splices none of a process's own files.
    ways = {
        name: way for name, way in WAYS.items() if seconds is not started or "splice" not in name
    }
    script = "".join(
        f"mkdir '{name}'; (cd '{name}'; set -- {where}; {way}); echo; echo '--- {name}'\n"
        for name, way in ways.items()
    )
    with FrozenClock(START, monotonic="freeze", files=files) as clock:
        clock.advance(DAYS_S)
        text = "\n".join(shell(clock, f"{BOOTTIME}; echo; {script}"))
    boottime_s, _, text = text.partition("\n")
    parts = re.findall(r"(.*?)\n--- (.+?)$", text, re.DOTALL | re.MULTILINE)
    told = {name: seconds(said, START_S + DAYS_S) for said, name in parts}
    assert told.keys() == ways.keys()
    right = {name for name, told_s in told.items() if abs(told_s - float(boottime_s)) <= 1}
    assert right == (set(ways) if files == "follow" else set()), told


def test_other_lines_are_the_kernels(shell: Shell) -> None:
    """Only what is about time is another."""
    read = "cat /proc/stat; cat /proc/$$/stat; cat /proc/uptime"
    bare = [line.split() for line in shell(None, read)]
    with FrozenClock(START, files="follow") as clock:
        clock.advance(DAYS_S)
        told = [line.split() for line in shell(clock, read)]
    assert list(map(len, told)) == list(map(len, bare))
    assert [words[0] for words in told[:-2]] == [words[0] for words in bare[:-2]]
    assert told[-2][1:3] == bare[-2][1:3] == ["(bash)", "S"]


# What says since when a program has run, or for how long, whose number is $1.
AGES = {
    "ps": ('date -d "$(ps -o lstart= -p $1)" +%s', START_S + DAYS_S),
    "ps of all": ('ps -e -o pid= -o etimes= | sed -n "s/^ *$1 //p"', 3600),
    "pgrep": (
        "pgrep --older 3590 -x sleep | grep -qx $1 && "
        "! pgrep --older 3610 -x sleep | grep -qx $1 && echo 3600 || echo 0",
        3600,
    ),
    "java": ("java -XX:-UsePerfData -XX:TieredStopAtLevel=1 Age.java $1", START_S + DAYS_S),
}
JAVA = """
public class Age {
    public static void main(String[] arguments) throws Exception {
        ProcessHandle program = ProcessHandle.of(Long.parseLong(arguments[0])).get();
        System.out.println(program.info().startInstant().get().getEpochSecond());
    }
}
"""


@both
def test_since_when_a_program_has_run(
    files: str, shell: Shell, real_program: Find, tmp_path: Path
) -> None:
    """It was started a hundred days after the clock, an hour ago."""
    for name in ("java", "ps"):
        real_program(name)
    (tmp_path / "Age.java").write_text(JAVA)
    with FrozenClock(START, monotonic="freeze", files=files) as clock:
        clock.advance(DAYS_S)
        sleep = clock.popen(["sleep", "1000d"])
        clock.settle()
        clock.advance(hours=1)
        told = {name: shell(clock, script, str(sleep.pid)) for name, (script, _) in AGES.items()}
        right = {name for name, said in told.items() if abs(int(said[0]) - AGES[name][1]) <= 1}
        assert right == (set(AGES) if files == "follow" else set()), told


# What says how long the machine has run, or since when.
MACHINE = {
    "uptime": "uptime",
    "uptime -s": 'date -d "$(uptime -s)" +%s',
    "w": "w -h; w | head -1",
    "top": "top -b -n 1 | head -1",
    "node": "node -p 'os.uptime()'",
    "busybox": "busybox uptime",
}
#: This asks the kernel by a call, and so agrees wherever stamps are from.
BY_CALL = {"busybox"}
UP = re.compile(r" *(?:top - )?([\d:]+) up (?:(\d+) days?, )?(?: ?(\d+):(\d+)|(\d+) min), ")


def seconds_up(said: str, now: datetime) -> float:
    """To the minute, where it tells no more."""
    if told := UP.match(said):
        assert told[1] == f"{now:%T}"
        days, hours, minutes, of_hour = (int(one or 0) for one in told.groups()[1:])
        return ((days * 24 + hours) * 60 + minutes + of_hour) * 60
    return now.timestamp() - float(said) if float(said) > 10**9 else float(said)


@both
@pytest.mark.parametrize("monotonic", ["flow", "freeze"])
def test_how_long_the_machine_has_run(
    files: str, monotonic: str, shell: Shell, real_program: Find
) -> None:
    """Setting the clock changes when that was, not how long ago."""
    for name in ("busybox", "node", "ps"):
        real_program(name)
    # Before it says anything, top waits for a while, which does not pass on a frozen clock.
    asked = {name: one for name, one in MACHINE.items() if name != "top" or monotonic == "flow"}
    script = f"{BOOTTIME}; echo; {'; '.join(asked.values())}; {BOOTTIME}"
    with FrozenClock(START, monotonic=monotonic, files=files) as clock:
        clock.advance(DAYS_S)
        for when in "2038-04-29T03:14:07Z", "2059-12-31T12:00:00Z":
            clock.move_to(when)
            first, *said, last = shell(clock, script)
            up = {name: seconds_up(line, clock.now) for name, line in zip(asked, said, strict=True)}
            # To the minute, or as a date whose seconds are whole.
            least, most = float(first) - 61, float(last) + 1
            right = {name for name, up_s in up.items() if least < up_s < most}
            assert right == (set(asked) if files == "follow" else BY_CALL), (said, up)


def test_top_twice(shell: Shell, real_program: Find) -> None:
    """An hour apart, in a jumping world."""
    real_program("ps")
    up_s = [time.clock_gettime(time.CLOCK_BOOTTIME)]
    with FrozenClock(START, autojump=True, files="follow") as clock:
        up_s.append(time.clock_gettime(time.CLOCK_BOOTTIME))
        clock.advance(DAYS_S)
        top = "top -b -n 2 -d 3600 | grep ^top | cut -d, -f1,2"
        first, second = (UP.match(line + ", ") for line in shell(clock, top))
    assert first and second
    assert int(first[2]) in [(DAYS_S + up) // 86400 for up in up_s]
    assert [told[1][:5] for told in (first, second)] == ["03:14", "04:14"]


# In a place of its own for /run, where init has left the time of the machine's start (utmp(5)).
WHO = "mount --bind run /run; who -b"
LONG = "l" if os.uname().machine == "aarch64" else "i"
UTMP = f"hi32s4s32s256shh{LONG}{LONG}{LONG}16s20s0l"
BOOT_TIME = 2


@both
def test_who(files: str, as_root: None, shell: Shell, real_program: Find, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    booted_s = int(time.time()) - 1000
    record = BOOT_TIME, 0, b"~", b"~~", b"reboot", b"6.1", 0, 0, 0, booted_s, 0, b"", b""
    (tmp_path / "run" / "utmp").write_bytes(struct.pack(UTMP, *record))
    script = f'{real_program("unshare")} --mount sh -ec "$1"'
    with FrozenClock(START, monotonic="freeze", files=files) as clock:
        clock.advance(DAYS_S)
        (who,) = shell(clock, script, WHO)
        booted = [clock.now - timedelta(seconds=boottime_s(clock, shell))]
        booted += [booted[0] - timedelta(minutes=1)]
        assert (who.partition("boot")[2].strip() in [f"{one:%b %e %R}" for one in booted]) == (
            files == "follow"
        ), who


# Looks at each line of its input, in files that it keeps open.
KEEPS = """
import os, sys
paths = "/proc/uptime", "/proc/stat", "/proc/self/stat"
files = [open(path, "rb", buffering=0) for path in paths]
print("ready", flush=True)
for line in sys.stdin:
    uptime, stat, own = (os.pread(file.fileno(), 1 << 20, 0).decode() for file in files)
    boot = [line.split()[1] for line in stat.splitlines() if line.startswith("btime")]
    print(uptime.split()[0], *boot, own.rpartition(")")[2].split()[19], flush=True)
"""


def test_files_that_stay_open(shell: Shell, start: Start) -> None:
    with FrozenClock(START, monotonic="freeze", files="follow") as clock:
        uptime_s = boottime_s(clock, shell)
        program = start(clock, ["python3", "-c", KEEPS])
        assert program.popen.stdin
        began = None
        for passed_s, moved_s in (0, 0), (3600, 0), (DAYS_S, 10**9), (1, -(10**9)):
            clock.advance(passed_s)
            clock.move_to(clock.time() + moved_s)
            uptime_s += passed_s
            program.popen.stdin.write(b"\n")
            told_s, boot, own = map(float, program.line().split())
            assert abs(told_s - uptime_s) <= 1
            assert abs(boot - (clock.time() - uptime_s)) <= 1
            assert own == (began := began or own)


def boottime_s(clock: FrozenClock, shell: Shell) -> float:
    return float(shell(clock, BOOTTIME)[0])


def test_each_clock_has_its_own_uptime(shell: Shell) -> None:
    read = f"cut -d' ' -f1 /proc/uptime; {BOOTTIME}"
    with (
        FrozenClock(START, monotonic="freeze", files="follow") as one,
        FrozenClock("2020-02-29", files="follow") as two,
    ):
        one.advance(DAYS_S)
        two.advance(hours=1)
        ones, twos = ([float(line) for line in shell(clock, read)] for clock in (one, two))
        assert abs(ones[0] - ones[1]) <= 1
        assert abs(twos[0] - twos[1]) <= 1
        assert ones[0] - twos[0] > DAYS_S / 2


def test_uptime_while_time_passes(shell: Shell) -> None:
    """In `sleep`, by the clock: in a jumping world, and where an hour passes in a second."""
    script = "read -r a _ </proc/uptime; sleep 3600; read -r b _ </proc/uptime; echo $a $b"
    for parameters in {"autojump": True}, {"rate": 3600, "monotonic": "rate"}:
        with FrozenClock(START, files="follow", **parameters) as clock:
            before_s, after_s = map(float, shell(clock, script)[0].split())
            assert 3600 <= round(after_s - before_s, 2) < 7200


# In a mount namespace: /proc alone, with process numbers of its own, and one file in another place.
MOUNTS = {
    "another": "--mount sh -ec 'mount -t proc proc m; cat m/uptime m/self/stat'",
    "numbers": "--mount --pid --fork --mount-proc cat /proc/uptime /proc/self/stat",
    "root": "--mount sh -ec 'mount --rbind / m; chroot m cat /proc/uptime /proc/self/stat'",
}


@pytest.mark.parametrize("name", MOUNTS)
def test_proc_mounted_elsewhere(name: str, as_root: None, shell: Shell, real_program: Find) -> None:
    with FrozenClock(START, monotonic="freeze", files="follow") as clock:
        clock.advance(DAYS_S)
        script = f"mkdir m; touch f; {real_program('unshare')} {MOUNTS[name]}"
        uptimes, stat = shell(clock, script)
        expected = boottime_s(clock, shell)
        assert abs(uptime(uptimes, 0) - expected) <= 1
        assert abs(started(stat, 0) - expected) <= 1
