"""What the vdsotime command refuses, what it warns of, and what --check and --help say."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pytest_vdsotime

if TYPE_CHECKING:
    from conftest import Builder

VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]
SANDBOX = [sys.executable, str(Path(__file__).parent / "plugin" / "refuse_calls.py"), "ptrace"]


def run(*arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    keywords = {"capture_output": True, "text": True, "timeout": 30, **keywords}
    return subprocess.run([*VDSOTIME, *arguments], **keywords)


def outcome(command: list[str], **keywords: Any) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, **keywords)
    return done.returncode, done.stdout, done.stderr


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which COMMAND?"),
        (["--"], "which COMMAND?"),
        (["--autojump"], "which COMMAND?"),
        (["--at"], "--at: "),
        (["--at", "tomorrowish", "true"], "--at: 'tomorrowish' is not an instant; use ISO 8601 "),
        (["--at", "yesterday", "true"], "--at: 'yesterday' is not an instant (at which time "),
        (["--at", "03/04/2030", "true"], "--at: '03/04/2030' is not an instant (write year-month-"),
        (["--at", "03/04/2030", "--explain"], "--at: '03/04/2030' is not an instant (write year-"),
        (["--at", "2 months ago", "true"], "--at: '2 months ago' is not an instant (months and "),
        (
            ["--at", "-15", "true"],
            "--at: '-15' is not an instant (seconds since the epoch: '@90', ",
        ),
        (["--at", "-999999w", "true"], "--at: '-999999w' is outside of the years 0001 to 9999;"),
        (["--stride", "-1h", "true"], "--stride: it is a span of time of some length, not '-1h';"),
        (["--stride", "1 month", "true"], "(months and years differ in length: write days, weeks"),
        (["--at", "1970-13-01", "true"], "--at: '1970-13-01' is not an instant (month must be "),
        (["--at=", "true"], "--at: '' is not an instant; use ISO 8601 "),
        (["--rate", "fast", "true"], "--rate: 'fast' is not a number;"),
        (["--rate", "-1", "true"], "--rate: it is finite and not negative, not -1.0;"),
        (["--rate=nan", "true"], "--rate: it is finite"),
        (["--monotonic", "back", "true"], "--monotonic: 'back' is not flow, freeze or rate;"),
        (["--waits", "never", "true"], "--waits: 'never' is not follow or real;"),
        (
            ["--waits", "real", "--autojump", "true"],
            "--autojump: waits follow the clock then, not --waits real;",
        ),
        (["--monotonic=rate", "--rate=2", "--autojump=1", "true"], "not --monotonic rate;"),
        (["--autojump=soon", "true"], "--autojump: 'soon' is not a number of seconds;"),
        (["--autojump=", "true"], "--autojump: '' is not a number of seconds;"),
        (["--autojump=-1", "true"], "--autojump: it is finite and not negative, not -1.0;"),
        (["--files", "sideways", "true"], "--files: 'sideways' is not real or follow;"),
        (["--files"], "--files: "),
        (["--grace", "short", "true"], "--grace: 'short' is not a number of seconds;"),
        (["--grace=-1", "true"], "--grace: it is finite and not negative, not -1.0;"),
        (["--stride", "0", "true"], "--stride: it is a span of time of some length, not '0';"),
        (["--stride", "x", "true"], "--stride: it is a span such as '1h30m', '90s'"),
        (["--a", "1970", "true"], "--a: there is no such option;"),
        (["--python", "true"], "--python: there is no such option;"),
        (["--check", "true"], "--check takes no COMMAND;"),
    ],
)
def test_usage(arguments: list[str], message: str) -> None:
    """The option is named, and what is said of it can be written in a shell."""
    done = run(*arguments)
    assert_one_line(done, 2, message)
    for of_python in ("datetime", "timedelta", "int", "None", "bool", "="):
        assert not re.search(rf"(?<![\w'])({of_python})(?!\w)", done.stderr)


def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    plain, script, other = (tmp_path / name for name in ("plain", "script", "other"))
    plain.write_text("not executable")
    script.write_text("#!/no/such/interpreter\n")
    other.write_bytes(b"\x7fELF of another planet")
    script.chmod(0o755)
    other.chmod(0o755)
    assert_one_line(run("no-such-program"), 127, "no-such-program: No such file or directory")
    assert_one_line(run(f"{tmp_path}/none"), 127, "No such file or directory")
    assert_one_line(run(f"{plain}/none"), 127, "Not a directory")
    assert_one_line(run(str(script)), 127, "No such file or directory")
    assert_one_line(run(str(tmp_path)), 126, "Permission denied")
    assert_one_line(run(str(plain)), 126, "Permission denied")
    assert_one_line(run(str(other)), 126, "Exec format error")


def test_where_tracing_is_refused(tmp_path: Path) -> None:
    """COMMAND does not run at all."""
    touched = tmp_path / "touched"
    done = subprocess.run(
        [*SANDBOX, *VDSOTIME, "touch", str(touched)], capture_output=True, text=True, timeout=30
    )
    assert_one_line(done, 125, "--cap-add=SYS_PTRACE")
    assert not touched.exists()


def test_within_itself() -> None:
    done = run("--at=@0", *VDSOTIME, "date")
    assert_one_line(done, 125, "this process is traced by ")


def assert_one_line(done: subprocess.CompletedProcess[str], status: int, message: str) -> None:
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("vdsotime: ") and done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


AS_NOBODY = """
import ctypes, os, sys
import pytest_vdsotime.cli, pytest_vdsotime.clock, pytest_vdsotime.popen
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after the exec of a login
pytest_vdsotime.cli.main(sys.argv[1:])
"""


def run_as_nobody(*arguments: str) -> tuple[int, str, str]:
    """Runs the command as an ordinary user, who need not be able to read this Python."""
    return outcome([sys.executable, "-c", AS_NOBODY, *arguments], cwd="/")


def test_an_ordinary_user(as_root: None) -> None:
    assert run_as_nobody("--at=@0", "sh", "-c", "id -u; date +%Y") == (0, "65534\n1970\n", "")


def test_a_program_that_stays_in_real_time_is_named(as_root: None) -> None:
    """A set-user-ID program keeps its privilege, and so the real time."""
    status, stdout, stderr = run_as_nobody("--at=@0", "su", "--version")
    assert (status, stdout) == (0, subprocess.check_output(["su", "--version"], text=True))
    assert stderr.startswith("vdsotime: su runs in real time: it is set-user-ID 0")
    assert stderr.count("\n") == 1


@pytest.fixture
def execute_only() -> Iterator[str]:
    """An execute-only date, which is closed to its tracer (ptrace(2), access mode checking)."""
    with tempfile.TemporaryDirectory() as directory:
        for path in (Path(directory), Path(directory).parent):
            path.chmod(path.stat().st_mode | 0o011)
        program = shutil.copy("/bin/date", directory)
        os.chmod(program, 0o111)
        yield program


def test_news_of_a_child_come_at_once(as_root: None, execute_only: str) -> None:
    status, stdout, stderr = run_as_nobody("--at=@0", "sh", "-c", f"{execute_only} +%Y; date +%Y")
    assert (status, stdout) == (0, f"{time.gmtime().tm_year}\n1970\n")
    assert stderr.startswith("vdsotime: ") and "runs in real time" in stderr
    assert stderr.count("\n") == 1


def test_patterns_that_a_closed_program_may_match(as_root: None, execute_only: str) -> None:
    """Its paths are unknown: one that `--only` may mean is not in real time without a word."""
    for options, warns in (("--only", True), ("--skip", True)):
        status, _, stderr = run_as_nobody(
            "--at=@0", options, execute_only, "sh", "-c", execute_only
        )
        assert (status, "runs in real time" in stderr) == (0, warns)
    assert run_as_nobody("--at=@0", "--skip", "date", "sh", "-c", execute_only)[2] == ""


def test_news_that_nobody_hears(as_root: None, execute_only: str) -> None:
    """A broken pipe for stderr is no reason to fail."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [
        sys.executable,
        "-c",
        AS_NOBODY,
        "--at=@0",
        "sh",
        "-c",
        f"{execute_only} +%Y; date +%Y",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, cwd="/", timeout=30)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"%d\n1970\n" % time.gmtime().tm_year)


# --check and --help.

CEILING_S = 30
DOORS = {
    "vDSO reads": "clock_gettime of the fake vDSO reads the clock",
    "the kernel's vDSO": "the image that /proc/self/auxv names reads the clock",
    "raw calls": "clock_gettime by a system call reads the clock",
}
FOREIGN_PROGRAMS = {
    "x86_64": "time() of i386 reads the clock",
    "aarch64": "none on this architecture",
}
OTHER_DOORS = (
    *("32-bit calls", "32-bit programs", "vsyscall page", "setting the clock"),
    *("deadlines", "timerfd deadlines", "timerfd expirations", "timer deadlines"),
)
WITHOUT = """
import sys
from pytest_vdsotime.tracer import calls
calls.CALLS = tuple(row for row in calls.CALLS if row.name != sys.argv[1])
from pytest_vdsotime.cli.check import check
sys.exit(check())
"""
NOWHERE = """
import sys
from pytest_vdsotime.cli import check
from pytest_vdsotime import arch
ours = arch.host_arch()._replace(foreign_call=bytes([0xF4]), vsyscall_time=8)  # hlt
none = [kind._replace(time_program=b"of another planet") for kind in ours.runs_too]
ours = ours._replace(runs_too=tuple(none))
check.host_arch = lambda: ours
sys.exit(check.check())
"""
NO_OTHER_KIND = """
import sys
from pytest_vdsotime import faults
from pytest_vdsotime.cli.check import check
from pytest_vdsotime.tracer.takeover.native import RealTime
def refuse(pid):
    raise RealTime("there is nothing for it")
with faults.injected("vdso", refuse):
    sys.exit(check())
"""
SOON = """
import sys
from pytest_vdsotime.cli import check
check._TIMEOUT_S = 1
sys.exit(check.check())
"""
NO_PYTHON = """
import sys
from pytest_vdsotime.cli.check import check
sys.executable = "/nonexistent/python"
sys.exit(check())
"""


def test_check() -> None:
    done = run("--check")
    assert (done.returncode, done.stderr) == (0, "")
    *lines, podman, docker = done.stdout.splitlines()
    assert re.match("(ok  |skip)  podman: ", podman) and re.match("(ok  |skip)  docker: ", docker)
    assert all(line.startswith("ok    ") for line in lines)
    seen = dict(line.removeprefix("ok    ").split(": ", 1) for line in lines)
    assert seen["takeover"] == "date on a clock of its own prints 1970-01-01T00:00:00Z"
    assert seen.items() >= DOORS.items()
    assert seen["32-bit programs"] == FOREIGN_PROGRAMS[os.uname().machine]
    assert list(seen)[-len(DOORS) - len(OTHER_DOORS) :] == [*DOORS, *OTHER_DOORS]
    for wait in ("deadlines", "timerfd deadlines", "timer deadlines"):
        assert re.search(r" until 30 ms from now lasts \d{2,} ms$", seen[wait])


def test_check_of_the_clocks_own_setting(as_root: None) -> None:
    before = time.time()
    setting = "setting the clock: clock_settime moves the program's clock, not the host's"
    assert f"ok    {setting}\n" in run("--check").stdout
    assert 0 <= time.time() - before < CEILING_S
    refused = "ok    setting the clock: clock_settime is refused: Operation not permitted\n"
    drop = ["setpriv", "--bounding-set=-sys_time"]
    assert refused in outcome([*drop, *VDSOTIME, "--check"])[1]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("clock_gettime", "raw calls: clock_gettime by a system call reads "),
        ("time", r"32-bit programs: time\(\) of i386 reads another time on a clock at 42\n"),
        ("clock_nanosleep", r"deadlines: clock_nanosleep until 30 ms from now lasts \d+ ms: "),
    ],
    ids=["raw calls", "i386", "deadlines"],
)
def test_check_finds_an_open_door(call: str, line: str) -> None:
    """A row of the tracer's table left out: the plugin can run, and says what is open."""
    status, stdout, stderr = outcome([sys.executable, "-c", WITHOUT, call])
    assert (status, stderr) == (0, "")
    assert re.search(f"^OPEN  {line}", stdout, re.MULTILINE)
    *doors, _podman, _docker = stdout.splitlines()
    assert [one for one in doors if not one.startswith(("ok", "OPEN"))] == []


def test_check_where_timerfds_do_not_follow(build: Builder) -> None:
    """In the sandbox of Docker, as it is by default."""
    command = [build.c("helpers/refuse"), "pidfd_getfd", sys.executable, "-c", SOON]
    status, stdout, stderr = outcome(command)
    assert (status, stderr) == (0, "")
    (line,) = [line for line in stdout.splitlines() if line.startswith("OPEN")]
    assert line.startswith("OPEN  timerfd expirations: a timerfd does not follow its clock: ")
    assert line.endswith("; allow pidfd_getfd (in a container: --cap-add=SYS_PTRACE)")


def test_check_of_a_machine_without_doors() -> None:
    """Where int 0x80 and the vsyscall page are SIGSEGV and 32-bit programs ENOEXEC: calls of
    nothing and programs for nothing stand in for them."""
    status, stdout, stderr = outcome([sys.executable, "-c", NOWHERE])
    assert (status, stderr) == (0, "")
    assert "ok    32-bit calls: none on this machine\n" in stdout
    assert "ok    32-bit programs: none on this machine\n" in stdout
    assert "ok    vsyscall page: none on this machine\n" in stdout


def test_check_where_32_bit_programs_stay_in_real_time() -> None:
    status, stdout, stderr = outcome([sys.executable, "-c", NO_OTHER_KIND])
    assert (status, stderr) == (0, "")
    (line,) = [line for line in stdout.splitlines() if line.startswith("OPEN")]
    assert line.startswith("OPEN  32-bit programs: ")
    assert line.endswith(" runs in real time: there is nothing for it")


def test_check_without_a_program() -> None:
    """A door that cannot be tried is no failure, but is said."""
    status, stdout, stderr = outcome([sys.executable, "-c", NO_PYTHON])
    assert (status, stderr) == (0, "")
    assert "skip  raw calls: cannot be tested: [Errno 2] " in stdout


def test_check_where_tracing_is_refused() -> None:
    status, stdout, stderr = outcome([*SANDBOX, *VDSOTIME, "--check"])
    assert (status, stderr) == (1, "")
    *works, fails, remedy = stdout.splitlines()
    assert all(line.startswith("ok    ") for line in works)
    assert fails.startswith("FAIL  ptrace: PTRACE_SEIZE of process ")
    assert "remedy: allow ptrace in the sandbox" in remedy


def test_help() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--at WHEN", "--rate R", "--monotonic", "--waits", "--files", "--check", "127"):
        assert word in done.stdout
    assert "[--autojump[=SECONDS]]" in done.stdout and "\n  --autojump[=SECONDS] " in done.stdout


def test_version() -> None:
    """Of the command, the package and what is installed."""
    version = importlib.metadata.version("pytest-vdsotime")
    assert outcome([*VDSOTIME, "--version"]) == (0, f"vdsotime {version}\n", "")
    assert pytest_vdsotime.__version__ == version
