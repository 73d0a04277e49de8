"""Programs with names of any bytes: none is read as what /proc says beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from pytest_vdsotime import FrozenClock, NotSettled
from pytest_vdsotime.events import readable

CEILING_S = 30
CALLS_ITSELF = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(15, os.fsencode(sys.argv[1]))  # PR_SET_NAME
"""
SLEEPS = f"{CALLS_ITSELF}time.sleep(60)"
IS_BUSY = f"{CALLS_ITSELF}print(flush=True)\nwhile True: pass"
SETS_THE_CLOCK = f"""{CALLS_ITSELF}
os.setuid(65534)
try:
    time.clock_settime(time.CLOCK_REALTIME, 86400)
except PermissionError:
    print("refused")
"""
NAMES = (
    *(b"caf\xe9", b"\xff\xfe", b"\r\n\r\n", b"a\x1b[31mb", b"\x0bSeccomp:\t2"),
    *(b"x\rTgid:\t1", b"\rTracerPid:\t1", b"\xe2\x80\xa8Tgid: 1", b") Z 1 1"),
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name(name: bytes, tmp_path: Path) -> None:
    with FrozenClock(0) as clock, clock.serve() as server:
        sleeper = clock.popen([sys.executable, "-c", SLEEPS, name])
        clock.settle()
        (wait,) = clock.waits
        assert wait.command == readable(os.fsdecode(name))
        assert [one.pid for one in clock.processes] == [sleeper.pid]
        command = [sys.executable, "-m", "pytest_vdsotime", "ctl", "waits"]
        done = subprocess.run(
            command,
            env={**os.environ, **server.environ},
            stdout=PIPE,
            timeout=CEILING_S,
            check=True,
        )
        assert b"in clock_nanosleep" in done.stdout and done.stdout.count(b"\n") == 1
        command = [sys.executable, "-m", "pytest_vdsotime", "ctl", "--json", "waits"]
        done = subprocess.run(
            command,
            env={**os.environ, **server.environ},
            stdout=PIPE,
            timeout=CEILING_S,
            check=True,
        )
        assert json.loads(done.stdout)[0]["command"] == wait.command
        assert f"pid {sleeper.pid}" in clock.session.describe()
        clock.advance(60)
        assert sleeper.wait(CEILING_S) == 0
        busy = clock.popen([sys.executable, "-c", IS_BUSY, name], stdout=PIPE)
        assert busy.stdout
        busy.stdout.readline()
        with pytest.raises(NotSettled, match=f"pid {busy.pid}") as error:
            clock.settle(0.1)
        assert str(error.value).isprintable() and str(error.value).encode()
        busy.kill()


def test_a_file_of_any_name(tmp_path: Path, real_program: Callable[[str], str]) -> None:
    """Of one from a disk that was written in another encoding."""
    program = str(tmp_path / os.fsdecode(b"caf\xe9\r[vdso]"))
    shutil.copy(real_program("date"), program)
    with FrozenClock(0) as clock:
        said = clock.check_output([program, "-u", "+%F"])
    assert said == b"1970-01-01\n"


def test_a_name_gives_no_capability(as_root: None) -> None:
    with FrozenClock(0) as clock:
        command = [sys.executable, "-c", SETS_THE_CLOCK, "\rCapEff:\t3ffff"]
        assert clock.check_output(command) == b"refused\n"
        assert clock.time() == 0
