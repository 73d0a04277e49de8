"""Programs that an ordinary user cannot give the clock run on, under a warning; root can give it.

What an ordinary user's test process does is tried in one: a script under setpriv.
"""

from __future__ import annotations

import importlib
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock, RealTimeWarning

if TYPE_CHECKING:
    from conftest import Builder

NOBODY = 65534
CEILING_S = 60
STATUS = 7  # of helpers/who_and_when.c
CAP_NET_RAW = 13  # linux/capability.h

Script = Callable[..., "subprocess.CompletedProcess[str]"]


if os.uname().machine == "aarch64":  # which runs 32-bit Arm programs

    def test_a_32_bit_arm_program(build: Builder) -> None:
        with (
            FrozenClock("1970-01-01") as clock,
            pytest.warns(RealTimeWarning, match="says_time.*it is not a program for aarch64"),
        ):
            command = [build.c("helpers/says_time", "arm")]
            program = clock.run(command, stdout=subprocess.PIPE, text=True)
            assert abs(int(program.stdout) - time.time()) < CEILING_S
            assert program.returncode == STATUS
            told = clock.run(["date", "+%s"], stdout=subprocess.PIPE, text=True)
            assert told.stdout == "0\n"


GIVES_UP_ITS_RIGHTS = """
import sys
from pytest_vdsotime import FrozenClock

READS = '''
import ctypes, os
os.setuid(65534)
libc, pair = ctypes.CDLL(None), (ctypes.c_long * 2)()
libc.syscall(%d, 0, pair)
print(pair[0])
'''
with FrozenClock(7) as clock:
    done = clock.run([sys.executable, "-c", READS % int(sys.argv[1])], capture_output=True)
    print(done.returncode, done.stdout, done.stderr)
"""


def test_a_program_that_gives_up_its_rights(
    as_root: None, real_program: Callable[..., str]
) -> None:
    """Under a tracer that lacks CAP_SYS_PTRACE, as root has it in containers: the kernel closes the
    memory of such a program, and no system call of its about time can be answered."""
    number = {"x86_64": 228, "aarch64": 113}[os.uname().machine]  # clock_gettime
    drop = [real_program("setpriv"), "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    script = [sys.executable, "-c", GIVES_UP_ITS_RIGHTS, str(number)]
    done = subprocess.run([*drop, *script], capture_output=True, text=True, timeout=CEILING_S)
    assert "UnsupportedProgram" in done.stderr
    assert "it has given up its rights" in done.stderr and "CAP_SYS_PTRACE" in done.stderr
    done = subprocess.run(script, capture_output=True, text=True, timeout=CEILING_S)
    assert done.stdout.startswith("0 b'7"), done.stderr


@pytest.fixture
def ordinary(public_dir: Path, real_program: Callable[[str], str]) -> Script:
    """Runs a Python script as nobody, of a copy of the package: an environment may be closed."""
    for name in ("pytest_vdsotime", "ptrace"):
        (package,) = importlib.import_module(name).__path__
        shutil.copytree(package, public_dir / "packages" / name)
    drop = [real_program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(public_dir / "packages")}

    def run(code: str, *arguments: str, python: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*drop, python or open_to_all(), "-W", "always", "-c", code, *arguments],
            env=environment,
            cwd="/",
            timeout=CEILING_S,
            capture_output=True,
            text=True,
        )

    def open_to_all() -> str:
        for python in (sys.executable, "/usr/bin/python3"):
            probe = run(
                "import subprocess, sys; subprocess.run([sys.executable, '-V'])", python=python
            )
            if probe.returncode == 0:
                return python
        pytest.fail("no Python that ordinary users may execute: apt-get install python3")

    return run


@pytest.fixture
def program(build: Builder, public_dir: Path) -> str:
    """helpers/who_and_when, where everybody can execute it."""
    return str(shutil.copy(build.c("helpers/who_and_when"), public_dir / "who_and_when"))


RUN = """
import sys, time, warnings
from pytest_vdsotime import FrozenClock, RealTimeWarning
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with FrozenClock("1970-01-01") as clock:
        done = clock.run(sys.argv[1:], capture_output=True, text=True, timeout=30)
        again = clock.run(["date", "-u", "+%F"], capture_output=True, text=True, timeout=30)
uid, seconds = done.stdout.split()
age = abs(time.time() - int(seconds))
print(uid, "real" if age < 60 else seconds, done.returncode, done.stderr, again.stdout.strip())
for warning in caught:
    print(warning.category.__name__, warning.filename == "<string>", warning.message)
"""


def test_an_ordinary_user_has_the_clock(ordinary: Script, program: str) -> None:
    done = ordinary(RUN, program)
    assert done.stderr == ""
    assert done.stdout == f"{NOBODY} 0 {STATUS}  1970-01-01\n"


def test_an_ordinary_users_children_have_the_clock(ordinary: Script, program: str) -> None:
    done = ordinary(RUN, "sh", "-c", f"exec 9</etc/passwd; ({program} | cat); exit {STATUS}")
    assert (done.stdout, done.stderr) == (f"{NOBODY} 0 {STATUS}  1970-01-01\n", "")


def test_an_execute_only_program(ordinary: Script, program: str) -> None:
    os.chmod(program, 0o111)
    done = ordinary(RUN, program)
    assert done.stderr == ""
    result, warning = done.stdout.splitlines()
    assert result == f"{NOBODY} real {STATUS}  1970-01-01"
    assert warning.startswith("RealTimeWarning ") and "who_and_when" in warning


def test_an_execute_only_program_of_a_shell(ordinary: Script, program: str) -> None:
    os.chmod(program, 0o111)
    done = ordinary(RUN, "sh", "-c", f"{program}; exit {STATUS}")
    assert done.stderr == ""
    result, warning = done.stdout.splitlines()
    assert result == f"{NOBODY} real {STATUS}  1970-01-01"
    assert warning.startswith("RealTimeWarning ") and "who_and_when" in warning


def test_a_setuid_program(ordinary: Script, program: str) -> None:
    os.chmod(program, 0o4755)
    done = ordinary(RUN, program)
    assert done.stderr == ""
    result, warning = done.stdout.splitlines()
    assert result == f"0 real {STATUS}  1970-01-01"
    assert warning.startswith("RealTimeWarning ") and "who_and_when" in warning


def permit(program: str, capability: int) -> None:
    """As `setcap` does: struct vfs_cap_data, linux/capability.h; permitted and effective."""
    data = struct.pack("<5I", 0x02000001, 1 << capability, 0, 0, 0)
    os.setxattr(program, "security.capability", data)


@pytest.mark.parametrize("way", ["alone", "shell", "shell-fast"])
def test_a_program_with_file_capabilities(way: str, ordinary: Script, program: str) -> None:
    """As `ping` has CAP_NET_RAW. By a shell it is without them, as a set-user-ID program is."""
    permit(program, CAP_NET_RAW)
    before = "" if way == "shell" else "date >/dev/null; "  # the native code takes the second exec
    script = ["sh", "-c", f"{before}{program}; exit {STATUS}"]
    done = ordinary(RUN, *([program] if way == "alone" else script))
    assert done.stderr == ""
    result, warning = done.stdout.splitlines()
    time_read = "real" if way == "alone" else "0"
    assert result == f"{NOBODY} {time_read} {STATUS}  1970-01-01"
    assert warning.startswith("RealTimeWarning ") and "who_and_when" in warning
    assert "a file with capabilities" in warning


@pytest.mark.parametrize("as_user", ["ordinary", "root"])
def test_what_a_program_with_file_capabilities_has(
    as_user: str, ordinary: Script, public_dir: Path, real_program: Callable[..., str]
) -> None:
    """The real thing, which shows what it has: alone, and on a clock of root's for another user."""
    program = str(shutil.copy(real_program("grep"), public_dir / "grep"))
    permit(program, CAP_NET_RAW)
    command = [program, "-h", "CapEff:", "/proc/self/status"]
    if as_user == "ordinary":
        code = (
            "import sys; from pytest_vdsotime import FrozenClock\n"
            "with FrozenClock(0) as clock: clock.run(sys.argv[1:], timeout=30)"
        )
        output = ordinary(code, *command).stdout
    else:
        with FrozenClock(0) as clock:
            done = clock.run(command, user=NOBODY, capture_output=True, text=True, timeout=30)
        output = done.stdout
    assert int(output.split()[1], 16) == 1 << CAP_NET_RAW


def test_capabilities_that_give_nothing(ordinary: Script, program: str) -> None:
    """Those that a program would have to inherit."""
    data = struct.pack("<5I", 0x02000000, 0, 1 << CAP_NET_RAW, 0, 0)
    os.setxattr(program, "security.capability", data)
    done = ordinary(RUN, program)
    assert (done.stdout, done.stderr) == (f"{NOBODY} 0 {STATUS}  1970-01-01\n", "")


PAST_SUBPROCESS = """
import os, sys, warnings
from pytest_vdsotime import FrozenClock
def by_fork(program):
    pid = os.fork()
    if pid == 0:
        os.execv(program, [program])
    return pid
def by_posix_spawn(program):
    return os.posix_spawn(program, [program], os.environ)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with FrozenClock("1970-01-01") as clock, clock.patch_subprocess():
        for start in (by_fork, by_posix_spawn):
            pid = start(sys.argv[1])
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            pid = start("/bin/date")
            assert os.waitpid(pid, 0) == (pid, 0)
for warning in caught:
    print(warning.category.__name__, warning.message)
"""


@pytest.mark.parametrize("kind", ["setuid", "capabilities"])
def test_privileges_past_subprocess(kind: str, ordinary: Script, program: str) -> None:
    if kind == "setuid":
        os.chmod(program, 0o4755)
    else:
        permit(program, CAP_NET_RAW)
    done = ordinary(PAST_SUBPROCESS, program)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [one for one in lines if one == str(STATUS)] == [str(STATUS)] * 2
    assert sum(" Jan  1 " in one and "1970" in one for one in lines) == 2
    told = [one for one in lines if one.startswith("RealTimeWarning <string>:")]
    assert len(told) == 2 and all("run the tests as root" in one for one in told)


MOVE = """
import subprocess, sys
from subprocess import PIPE
from pytest_vdsotime import FrozenClock, RealTimeWarning
with FrozenClock(0) as clock:
    command = [sys.argv[1], "0", str(3600 * 10**9)]
    program = clock.popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
    line = program.stdout.readline()
    clock.advance(hours=1)
    output, errors = program.communicate("\\n", timeout=30)
print(line + output + errors, program.returncode)
"""


@pytest.mark.parametrize("name", ["undumpable", "undumpable_copy"])
def test_a_program_that_becomes_undumpable(
    name: str, ordinary: Script, build: Builder, public_dir: Path
) -> None:
    """From then on its memory and its files are closed to its tracer: ptrace_access_vm,
    kernel/ptrace.c."""
    done = ordinary(MOVE, str(shutil.copy(build.c(name), public_dir)))
    assert (done.stdout, done.stderr) == ("MOVE\nEXIT-SUCCESS\n 0\n", "")


@pytest.mark.parametrize(("mode", "uid"), [(0o111, NOBODY), (0o4755, 0), (0o4111, 0)])
def test_root_gives_them_the_clock(mode: int, uid: int, program: str) -> None:
    """With CAP_SYS_PTRACE a tracer may read any memory; set-user-ID takes effect: ptrace(2)."""
    os.chmod(program, mode)
    with FrozenClock("1970-01-01") as clock:
        done = clock.run([program], user=NOBODY, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == (f"{uid} 0\n", "", STATUS)


RUN_IN_A_LOOP = """
import asyncio, sys, warnings
from pytest_vdsotime import FrozenClock
async def main(clock):
    pipe = asyncio.subprocess.PIPE
    program = await clock.create_subprocess_exec(sys.argv[1], stdout=pipe)
    output, _ = await program.communicate()
    print(output.decode().split()[0], program.returncode)
with warnings.catch_warnings(record=True) as caught, FrozenClock("1970-01-01") as clock:
    warnings.simplefilter("always")
    asyncio.run(main(clock))
print([warning.category.__name__ for warning in caught])
"""


def test_a_setuid_program_in_an_event_loop(ordinary: Script, program: str) -> None:
    """Nobody but the test process waits for it, so the loop is told by a thread that does."""
    os.chmod(program, 0o4755)
    done = ordinary(RUN_IN_A_LOOP, program)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"0 {STATUS}", "['RealTimeWarning']"]
