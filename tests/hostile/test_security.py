"""What a program that means harm can do to its tracer, the test process and other clocks.

SECURITY.md has the threats, one row each; those that other tests show are named there.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.events import readable

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 20
HOUR_S = 3600
PYTHON = sys.executable
# Names that look like what the kernel says of a process, or that no text has.
NAMES = {
    "the end of a state": b") Z 1 1 1 1",
    "fields on lines of their own": b"\rTgid:\t1\rPid:\t1",
    "a line feed": b"x\nState:\tZ (dead)",
    "no text": b"\xff\xfe\x80",
    "a mapping": b"memfd:vdsotime (deleted)",
    "the kernel's mapping": b"x [vdso]",
    "a terminal's orders": b"\x1b[2J\x1b]0;x\x07",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names(name: bytes, tmp_path: Path) -> None:
    """A program is told from its name in every file of /proc that has it."""
    path = os.path.join(os.fsencode(tmp_path), name)
    shutil.copy(b"/bin/sleep", path)
    with FrozenClock(monotonic="freeze") as clock:
        program = clock.popen([path, "7200"])
        clock.settle()
        (wait,) = clock.waits
        assert wait.command == readable(os.fsdecode(name[:15]))
        assert (wait.pid, wait.tid, wait.remaining) == (program.pid, program.pid, 2 * HOUR_S)
        assert [os.fsencode(one.argv[0]) for one in clock.processes] == [path]
        assert "\x1b" not in clock.describe()
        clock.advance(2 * HOUR_S - 1)
        assert program.poll() is None
        clock.advance(1)
        assert program.wait(CEILING_S) == 0
        with clock.popen([path, "7200"]) as left:
            clock.close()
        assert left.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_what_is_attached(name: bytes, tmp_path: Path) -> None:
    """It has a file mapped whose name says that it is the kernel's, or the clock's."""
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(bytes(4096))
    code = (
        "import ctypes, mmap, os, sys, time\n"
        "file = os.open(os.fsencode(sys.argv[1]), os.O_RDONLY)\n"
        "memory = mmap.mmap(file, 4096, mmap.MAP_SHARED, mmap.PROT_READ)\n"
        "ctypes.CDLL(None).prctl(15, os.path.basename(os.fsencode(sys.argv[1])))\n"
        "print('mapped', flush=True)\n"
        "for line in sys.stdin: print(int(time.time()), memory[:] == bytes(4096), flush=True)"
    )
    command = [PYTHON, "-c", code, os.fsdecode(path)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as program:
        assert program.stdin and program.stdout
        assert program.stdout.readline() == "mapped\n"
        with FrozenClock("@0") as clock:
            clock.attach(program.pid)
            for _ in range(2):
                program.stdin.write("\n")
                program.stdin.flush()
                assert program.stdout.readline() == "0 True\n"
        program.stdin.write("\n")
        program.stdin.flush()
        assert int(program.stdout.readline().split()[0]) > 0
        program.stdin.close()
        assert program.wait(CEILING_S) == 0


def test_what_a_program_inherits() -> None:
    """Its descriptors are those that it has alone: none of the tracer's, none of the clock's."""
    listing = [PYTHON, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"]
    alone = subprocess.run(listing, close_fds=False, capture_output=True, check=True).stdout
    with FrozenClock() as clock, FrozenClock() as other, clock.serve():
        other.run(["true"])
        again = clock.run(listing, close_fds=False, capture_output=True, check=True).stdout
    assert again == alone


# For each descriptor of the test process that is a clock's, by which root may open the file.
WRITES_CLOCKS = """
import mmap, os, sys
refused = 0
for name in os.listdir(f"/proc/{sys.argv[1]}/fd"):
    path = f"/proc/{sys.argv[1]}/fd/{name}"
    try:
        if not os.readlink(path).startswith("/memfd:vdsotime"):
            continue
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        continue
    for attack in (
        lambda: os.pwrite(file, b"junk", 0),
        lambda: os.ftruncate(file, 0),
        lambda: os.posix_fallocate(file, 0, 1 << 24),
        lambda: mmap.mmap(file, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
    ):
        try:
            attack()
        except PermissionError:
            refused += 1
print(refused)
"""


def test_a_program_cannot_write_any_clock(as_root: None) -> None:
    """Of the programs that may open the files behind the pages."""
    with FrozenClock("@1000000000") as clock, FrozenClock("@2000000000") as other:
        date = ["date", "+%s"]
        assert other.check_output(date, text=True) == "2000000000\n"
        attacker = [PYTHON, "-c", WRITES_CLOCKS, str(os.getpid())]
        refused = int(clock.check_output(attacker, text=True, timeout=CEILING_S))
        assert refused >= 8 and refused % 4 == 0
        assert clock.check_output(date, text=True) == "1000000000\n"
        assert other.check_output(date, text=True) == "2000000000\n"


def test_the_clock_that_a_program_sets_is_its_own(as_root: None) -> None:
    with FrozenClock("@1000000000") as clock, FrozenClock("@2000000000") as other:
        clock.run(["date", "-s", "@0"], check=True, stdout=PIPE)
        assert clock.time() == 0
        assert other.time() == 2_000_000_000
        assert other.check_output(["date", "+%s"], text=True) == "2000000000\n"


# In a process of its own, whose waker may be another one afterwards.
TO_THE_WAKER = """
import subprocess, sys
from pathlib import Path
from pytest_vdsotime import FrozenClock
from pytest_vdsotime.events import readable
def waker():
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"vdsotime-waker"):
                return pid
with FrozenClock(monotonic="freeze") as clock:
    sleeper = clock.popen(["sleep", "7200"])
    for _ in range(3):
        clock.settle()
        for name in sys.argv[1:]:
            clock.run(["kill", "-" + name, waker()], stderr=subprocess.DEVNULL)
        clock.advance(1800)
    assert sleeper.poll() is None
    clock.advance(1800)
    assert sleeper.wait() == 0
"""


@pytest.mark.parametrize("signals", ["STOP", "KILL", "STOP CONT STOP", "USR1 USR2 TERM HUP"])
def test_signals_to_the_waker(signals: str) -> None:
    """A program of the same user may send them; the tracer goes on."""
    command = [PYTHON, "-W", "error", "-c", TO_THE_WAKER, *signals.split()]
    subprocess.run(command, timeout=CEILING_S, check=True)


# A process with the pid of a program that has ended, off the clock: it must outlive it.
REUSED = """
import os, signal, subprocess, sys
from pytest_vdsotime import FrozenClock
from pytest_vdsotime.events import readable
def have_pid(pid):
    for _ in range(100):
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(pid - 1))
        bystander = subprocess.Popen(["sleep", "1000"])
        if bystander.pid == pid:
            return bystander
        bystander.kill()
        bystander.wait()
    raise AssertionError("the pid is taken")
script = "sleep 3600 & echo $!; wait; exec sleep 7200"
with FrozenClock(monotonic="freeze") as clock:
    parent = clock.popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    clock.advance(3600)
    bystander = have_pid(child)
    parent.kill()
    parent.communicate()
    other = have_pid(parent.pid)
    clock.settle()
    clock.advance(3600)
    assert clock.processes == [] and clock.waits == []
for one in bystander, other:
    assert one.poll() is None
    one.kill()
    assert one.wait() == -signal.SIGKILL
print("alive")
"""


def test_pids_that_are_used_again(as_root: None) -> None:
    """The end of a program frees its pid, at which no other is touched."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    done = subprocess.run(
        [*namespace, PYTHON, "-W", "error", "-c", REUSED],
        timeout=CEILING_S,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("alive\n", "", 0)


# What stands in TMPDIR meanwhile, and whether others may enter it.
SERVES = """
import os, sys
from pytest_vdsotime import FrozenClock
from pytest_vdsotime.events import readable
with FrozenClock() as clock, clock.patch_subprocess():
    clock.run(["true"], check=True)
    os.system("true")
    assert os.listdir() == []
    with clock.serve(), FrozenClock() as other, other.serve():
        print([(one.name, one.stat().st_mode & 0o777) for one in os.scandir()])
"""


def test_no_predictable_name_in_a_shared_place(tmp_path: Path) -> None:
    """Another user could have put something of that name there before."""
    found = []
    for _ in range(2):
        done = subprocess.run(
            [PYTHON, "-W", "error", "-c", SERVES],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            timeout=CEILING_S,
            capture_output=True,
            text=True,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        found += ast.literal_eval(done.stdout)
    assert len(dict(found)) == 4
    assert {mode for _name, mode in found} == {0o700}
    assert list(tmp_path.iterdir()) == []


def test_each_threat_has_its_tests() -> None:
    """Those that SECURITY.md names are there."""
    tests = Path(__file__).parents[1]
    text = tests.with_name("SECURITY.md").read_text()
    rows = text.partition("## Threats")[2].partition("\n## ")[0].splitlines()[6:]
    named = [re.findall(r"`([\w/]+\.(?:py|c))(?:::(\w+))?`", row) for row in rows if row]
    assert len(named) > 15 and all(named)
    for path, name in itertools.chain(*named):
        source = (tests / path).read_text()
        assert not name or f"def {name}(" in source, f"{path}::{name}"


@pytest.mark.parametrize("target", ["static", "dynamic", "i386"])
def test_what_a_program_chooses_is_nobodys_code(
    target: str, build: Builder, tmp_path: Path
) -> None:
    """Stamps that a program sets are kept in memory of all those on its clock."""
    command = [build.c("helpers/attach_reads", target), "1"]
    chosen = time.time_ns() + HOUR_S * 10**9
    sets = f"import os; os.utime({str(tmp_path)!r}, ns=({chosen}, {chosen}))"

    def holds(pid: int, access: str) -> bool:
        """Whether some memory of the clock does to which there is that access."""
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        places = [line.split()[0].split("-") for line in lines if re.search(access, line)]
        with open(f"/proc/{pid}/mem", "rb") as memory:
            for begin, end in places:
                memory.seek(int(begin, 16))
                if chosen.to_bytes(8, sys.byteorder) in memory.read(int(end, 16) - int(begin, 16)):
                    return True
        return False

    with (
        FrozenClock("2000-01-01", files="follow") as clock,
        subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as attached,
    ):
        try:
            started = clock.popen(command, stdin=PIPE, stdout=PIPE)
            clock.attach(attached.pid)
            clock.check_call([PYTHON, "-c", sets])
            assert holds(started.pid, r" r--. .*memfd:vdsotime")
            for pid in (started.pid, attached.pid, os.getpid()):
                assert not holds(pid, r" ..x. .*memfd:vdsotime")
        finally:
            attached.kill()
