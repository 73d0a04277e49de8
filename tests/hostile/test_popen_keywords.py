"""Every keyword of `subprocess.Popen` does on a clock what it does without one: a program that
reports all that was decided for it (helpers/report.c) says the same, started either way.

But for the seccomp filter, which a program can see: test_the_filter_shows says how."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder

# preexec_fn beside a thread, the tracer's: what Python says about it is the caller's business.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

NOBODY = 65534
CEILING_S = 30

Keywords = dict[str, Any]
Call = tuple[Any, Keywords]  # (args, keywords) of Popen


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock("1970-01-01") as clock:
        yield clock


@pytest.fixture
def report(build: Builder, public_dir: Path) -> str:
    """The program, where every user may execute it."""
    return str(shutil.copy(build.c("helpers/report"), public_dir / "report"))


@pytest.fixture
def inheritable_fd() -> Iterator[int]:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)
    yield fd
    os.close(fd)


def set_variable() -> None:
    os.environ["FROM_CHILD"] = "1"


def set_signals() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTRAP])
    os.kill(os.getpid(), signal.SIGUSR1)


def enter(directory: str) -> None:
    os.chroot(directory)
    os.chdir("/")


def enter_and_close(directory: str) -> None:
    enter(directory)
    os.closerange(3, 65536)


# Each row makes a call of the program's path. Those that take `user` are run by root alone.
CALLS: dict[str, Callable[[str], Call]] = {
    "plain": lambda p: ([p, "a", "", "b c", "ü"], {}),
    "args-str": lambda p: (p, {}),
    "args-bytes": lambda p: ([os.fsencode(p), b"\xff"], {}),
    "args-pathlike": lambda p: ([Path(p), Path("x")], {}),
    "args-pathlike-alone": lambda p: (Path(p), {}),
    "args-tuple": lambda p: ((p, "x"), {}),
    "executable": lambda p: (["another name", "x"], {"executable": p}),
    "executable-bytes": lambda p: (["-another"], {"executable": os.fsencode(p)}),
    # cwd keeps Python 3.13 from posix_spawn, which refuses these two
    "executable-no-argv": lambda p: ([], {"executable": p, "cwd": "/"}),
    "executable-empty-argv0": lambda p: ([""], {"executable": p, "cwd": "/"}),
    "shell": lambda p: (f"exec {p} a 'b c' $HOME", {"shell": True}),
    "shell-list": lambda p: (['exec "$1" "$0"', "zero", p], {"shell": True}),
    "shell-bytes": lambda p: (os.fsencode(f"exec {p} x"), {"shell": True}),
    "shell-executable": lambda p: (f"exec {p} $BASH", {"shell": True, "executable": "/bin/bash"}),
    "shell-child": lambda p: (f"{p} one; {p} two; exit 0", {"shell": True}),
    "cwd": lambda p: ([p], {"cwd": "/usr"}),
    "cwd-relative-program": lambda p: (["./report"], {"cwd": os.path.dirname(p)}),
    "cwd-pathlike": lambda p: ([p], {"cwd": Path("/usr/lib")}),
    "env": lambda p: ([p], {"env": {"A": "1", "PATH": "/nowhere", "EMPTY": ""}}),
    "env-empty": lambda p: ([p], {"env": {}}),
    "env-bytes": lambda p: ([p], {"env": {b"A": b"\xff"}}),
    "env-path": lambda p: (["report"], {"env": {"PATH": f"/nowhere:{os.path.dirname(p)}"}}),
    "env-path-relative": lambda p: (["report"], {"env": {"PATH": "."}, "cwd": os.path.dirname(p)}),
    "env-path-not-a-directory": lambda p: (
        ["report"],
        {"env": {"PATH": f"/etc/passwd:/etc:{os.path.dirname(p)}"}},
    ),
    "umask": lambda p: ([p], {"umask": 0o27}),
    "process-group-new": lambda p: ([p], {"process_group": 0}),
    "session": lambda p: ([p], {"start_new_session": True}),
    "session-and-group": lambda p: ([p], {"start_new_session": True, "umask": 0}),
    "user": lambda p: ([p], {"user": NOBODY}),
    "user-name": lambda p: ([p], {"user": "nobody", "group": "nogroup"}),
    "group": lambda p: ([p], {"group": NOBODY}),
    "extra-groups": lambda p: ([p], {"extra_groups": [7, "nogroup", 12345]}),
    "all-of-them": lambda p: (
        [p],
        {"user": NOBODY, "group": NOBODY, "extra_groups": [], "umask": 0o77, "cwd": "/"},
    ),
    "user-shell": lambda p: (f"exec {p} x", {"user": NOBODY, "shell": True}),
    "user-path": lambda p: (["report"], {"user": NOBODY, "env": {"PATH": os.path.dirname(p)}}),
    "user-all-fds": lambda p: ([p], {"user": NOBODY, "close_fds": False}),
    "close-fds-false": lambda p: ([p], {"close_fds": False}),
    "restore-signals-false": lambda p: ([p], {"restore_signals": False}),
    "stdin-null": lambda p: ([p], {"stdin": DEVNULL}),
    "stderr-stdout": lambda p: ([p], {"stderr": STDOUT}),
    "stderr-null": lambda p: ([p], {"stderr": DEVNULL}),
    "pipesize": lambda p: ([p], {"stdin": PIPE, "pipesize": 8192}),
    "preexec-nothing": lambda p: ([p], {"preexec_fn": lambda: None}),
    "preexec-session": lambda p: ([p], {"preexec_fn": os.setsid}),
    "preexec-nice": lambda p: ([p], {"preexec_fn": lambda: os.nice(3)}),
    "preexec-environment": lambda p: ([p], {"preexec_fn": set_variable}),
    "preexec-environment-given": lambda p: (
        [p],
        {"preexec_fn": set_variable, "env": {"GIVEN": "1"}},
    ),
    "preexec-closerange": lambda p: ([p], {"preexec_fn": lambda: os.closerange(3, 65536)}),
    "preexec-closerange-all-fds": lambda p: (
        [p],
        {"preexec_fn": lambda: os.closerange(3, 65536), "close_fds": False},
    ),
    "preexec-chroot": lambda p: (["/report"], {"preexec_fn": lambda: enter(os.path.dirname(p))}),
    "preexec-chroot-all-fds": lambda p: (
        ["/report"],
        {"preexec_fn": lambda: enter(os.path.dirname(p)), "close_fds": False},
    ),
    "preexec-chroot-closerange": lambda p: (
        ["/report"],
        {"preexec_fn": lambda: enter_and_close(os.path.dirname(p))},
    ),
    "preexec-chroot-path": lambda p: (
        ["report"],
        {"preexec_fn": lambda: enter(os.path.dirname(p)), "env": {"PATH": "/"}},
    ),
    "preexec-chdir": lambda p: (["./report"], {"preexec_fn": lambda: os.chdir(os.path.dirname(p))}),
    "preexec-setuid": lambda p: ([p], {"preexec_fn": lambda: os.setuid(NOBODY)}),
    "preexec-and-user": lambda p: ([p], {"preexec_fn": lambda: os.umask(7), "user": NOBODY}),
    "preexec-no-files": lambda p: (
        [p],
        {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))},
    ),
    "preexec-signals": lambda p: (
        [p],
        {"preexec_fn": set_signals},
    ),
}


def but_for_the_filter(said: str) -> str:
    return re.sub(r"^(no_new_privs|seccomp) \d+$", r"\1 ?", said, flags=re.MULTILINE)


def compare(clock: FrozenClock, args: Any, keywords: Keywords) -> str:
    """What the program reports, the same on both ways but for the filter."""
    keywords = {"stdout": PIPE, "stderr": PIPE, **keywords}
    keywords |= {"encoding": "utf-8", "errors": "surrogateescape"}
    bare = subprocess.run(args, timeout=CEILING_S, **keywords)
    frozen = clock.run(args, timeout=CEILING_S, **keywords)
    assert bare.returncode == 0, bare.stderr
    assert but_for_the_filter(frozen.stdout) == but_for_the_filter(bare.stdout)
    assert (frozen.stderr, frozen.returncode, frozen.args) == (bare.stderr, 0, args)
    return str(bare.stdout)


@pytest.mark.parametrize("name", CALLS)
def test_keyword(name: str, clock: FrozenClock, report: str) -> None:
    compare(clock, *CALLS[name](report))


@pytest.mark.parametrize("keywords", [{}, {"user": NOBODY}, {"preexec_fn": os.setsid}], ids=str)
def test_pass_fds(keywords: Keywords, clock: FrozenClock, report: str, inheritable_fd: int) -> None:
    other = os.dup(inheritable_fd)
    try:
        said = compare(clock, [report], {"pass_fds": [other], **keywords})
    finally:
        os.close(other)
    assert f"fd {other} type" in said
    assert f"fd {inheritable_fd} type" not in said


def test_a_descriptor_that_preexec_fn_closes(clock: FrozenClock, report: str) -> None:
    """Though it is to be passed: the program goes without."""
    with open(os.devnull) as passed:
        keywords = {"pass_fds": [passed.fileno()], "preexec_fn": passed.close}
        compare(clock, [report], keywords)


def test_inheritable_fds(clock: FrozenClock, report: str, inheritable_fd: int) -> None:
    said = compare(clock, [report], {"close_fds": False})
    assert f"fd {inheritable_fd} type" in said


def test_group_of_another(clock: FrozenClock, report: str) -> None:
    with subprocess.Popen(["cat"], stdin=PIPE, process_group=0) as leader:
        said = compare(clock, [report], {"process_group": leader.pid})
        leader.communicate()
    assert "leads its group 0" in said and "is in its parent's group 0" in said


def test_the_shell_gets_the_clock(clock: FrozenClock) -> None:
    done = clock.run("date -u +%F", shell=True, stdout=PIPE, text=True, timeout=CEILING_S)
    assert done.stdout == "1970-01-01\n"


IDENTITIES = ["user", "preexec-chroot", "preexec-closerange", "close-fds-false"]


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_clock_is_there_under_each_identity(
    name: str, clock: FrozenClock, build: Builder, public_dir: Path
) -> None:
    """The same ways of starting, with a program that reads the clock."""
    program = str(shutil.copy(build.c("helpers/who_and_when"), public_dir / "report"))
    args, keywords = CALLS[name](program)
    done = clock.run(args, stdout=PIPE, text=True, timeout=CEILING_S, **keywords)
    assert done.stdout.split()[1] == "0"


FILTER_FIELDS = ("NoNewPrivs", "Seccomp", "Seccomp_filters")


def filter_fields(run: Callable[..., Any], keywords: Keywords) -> dict[str, int]:
    """What a program started so finds about filters in its /proc/self/status (proc(5))."""
    status = run(["cat", "/proc/self/status"], stdout=PIPE, text=True, **keywords).stdout
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: int(fields[name]) for name in FILTER_FIELDS}


@pytest.mark.parametrize(
    ("keywords", "lacks_right"),
    [
        ({}, False),
        ({"user": NOBODY, "group": NOBODY, "extra_groups": []}, False),
        ({"preexec_fn": lambda: os.setuid(NOBODY)}, True),
    ],
    ids=["root", "user-of-root", "ordinary-user"],
)
def test_the_filter_shows(
    keywords: Keywords, lacks_right: bool, clock: FrozenClock, as_root: None
) -> None:
    """One filter more than the program has anyway. Whoever lacks CAP_SYS_ADMIN when it is installed
    must set no_new_privs first (seccomp(2)); root, who starts another user's program, has it."""
    bare = filter_fields(subprocess.run, keywords)
    assert filter_fields(clock.run, keywords) == {
        "NoNewPrivs": 1 if lacks_right else bare["NoNewPrivs"],
        "Seccomp": 2,  # SECCOMP_MODE_FILTER
        "Seccomp_filters": bare["Seccomp_filters"] + 1,
    }
