"""A program that cannot be started raises exactly what `subprocess.Popen` raises."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.abi import constant

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

NOBODY = 65534
EM_X86_64, EM_AARCH64 = constant("EM_X86_64"), constant("EM_AARCH64")

Keywords = dict[str, Any]


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock("1970-01-01") as clock:
        yield clock


@pytest.fixture
def files(public_dir: Path) -> Path:
    """A directory of things that are not programs."""

    def make(name: str, content: bytes, mode: int = 0o755) -> None:
        (public_dir / name).write_bytes(content)
        (public_dir / name).chmod(mode)

    make("not-executable", b"#!/bin/sh\n", 0o644)
    make("empty", b"")
    make("text", b"exit 0\n")
    make("no-interpreter", b"#!/no/such/interpreter\n")
    make("interpreter-not-executable", b"#!/etc/passwd\n")
    make("interpreter-a-directory", b"#!/etc\n")
    # e_ident, e_type ET_EXEC, e_machine, e_version: elf(5)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    make("other-architecture", (ident + struct.pack("<HHI", 2, EM_AARCH64, 1)).ljust(4096, b"\0"))
    # A 32-bit file for the 64-bit instruction set is an x32 program (CONFIG_X86_X32_ABI).
    ident = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    make("x32", (ident + struct.pack("<HHI", 2, EM_X86_64, 1)).ljust(4096, b"\0"))
    make("truncated-elf", Path("/bin/true").read_bytes()[:100])
    make("roots-alone", b"#!/bin/sh\n", 0o700)
    (public_dir / "loop").symlink_to("loop")
    (public_dir / "dangling").symlink_to("nowhere")
    (public_dir / "closed").mkdir(mode=0o700)
    (public_dir / "directory").mkdir()
    return public_dir


def raise_in_child() -> None:
    raise RuntimeError("in the child")


# Popen calls that fail, made of the directory above.
CALLS: dict[str, Callable[[Path], tuple[Any, Keywords]]] = {
    "missing": lambda d: (["/no/such/program"], {}),
    "missing-name": lambda d: (["no-such-program"], {}),
    "missing-str": lambda d: ("no-such-program with arguments", {}),
    "missing-bytes": lambda d: ([b"/no/such/program"], {}),
    "missing-pathlike": lambda d: ([Path("/no/such/program")], {}),
    "missing-in-env-path": lambda d: (["date"], {"env": {"PATH": "/no:/such"}}),
    "missing-with-empty-path": lambda d: (["date"], {"env": {"PATH": ""}}),
    "missing-executable": lambda d: (["date"], {"executable": "/no/such/program"}),
    "missing-shell": lambda d: ("date", {"shell": True, "executable": "/no/such/shell"}),
    "missing-relative": lambda d: (["./missing"], {"cwd": d}),
    "missing-as-user": lambda d: (["/no/such/program"], {"user": NOBODY}),
    "missing-after-preexec": lambda d: (["/no/such/program"], {"preexec_fn": os.setsid}),
    "missing-with-pipes": lambda d: (["/no"], {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}),
    "missing-all-fds": lambda d: (["/no/such/program"], {"close_fds": False}),
    "empty-name": lambda d: ([""], {}),
    "below-a-file": lambda d: ([d / "text/program"], {}),
    "directory": lambda d: ([d / "directory"], {}),
    "not-executable": lambda d: ([d / "not-executable"], {}),
    "not-executable-in-path": lambda d: (["not-executable"], {"env": {"PATH": f"{d}:/usr/bin"}}),
    "directory-in-path": lambda d: (["directory"], {"env": {"PATH": f"{d}:/usr/bin"}}),
    "empty": lambda d: ([d / "empty"], {}),
    "text": lambda d: ([d / "text", "x"], {}),
    "no-interpreter": lambda d: ([d / "no-interpreter"], {}),
    "interpreter-not-executable": lambda d: ([d / "interpreter-not-executable"], {}),
    "interpreter-a-directory": lambda d: ([d / "interpreter-a-directory"], {}),
    "other-architecture": lambda d: ([d / "other-architecture"], {}),
    "x32": lambda d: ([d / "x32"], {}),
    "truncated-elf": lambda d: ([d / "truncated-elf"], {}),
    "roots-alone": lambda d: ([d / "roots-alone"], {"user": NOBODY}),
    "closed-directory": lambda d: ([d / "closed/program"], {"user": NOBODY}),
    "loop": lambda d: ([d / "loop"], {}),
    "dangling": lambda d: ([d / "dangling"], {}),
    "long-name": lambda d: (["/" + "x" * 300], {}),
    "long-path": lambda d: (["/x" * 3000], {}),
    "too-many-arguments": lambda d: (["/bin/true", *["x" * 100_000] * 100], {}),
    "argument-too-long": lambda d: (["/bin/true", "x" * 200_000], {}),
    "cwd-missing": lambda d: (["date"], {"cwd": d / "missing"}),
    "cwd-a-file": lambda d: (["date"], {"cwd": d / "text"}),
    "cwd-missing-program-too": lambda d: (["/no/such/program"], {"cwd": "/no/such/directory"}),
    "preexec-raises": lambda d: (["date"], {"preexec_fn": raise_in_child}),
    "no-arguments": lambda d: ([], {}),
    "none": lambda d: (None, {}),
    "number": lambda d: (5, {}),
    "number-in-list": lambda d: (["date", 5], {}),
    "nul-in-program": lambda d: (["da\0te"], {}),
    "nul-in-argument": lambda d: (["date", "a\0b"], {}),
    "nul-in-cwd": lambda d: (["date"], {"cwd": "/\0"}),
    "nul-in-env": lambda d: (["date"], {"env": {"A": "\0"}}),
    "equals-in-env": lambda d: (["date"], {"env": {"A=B": "1"}}),
    "number-in-env": lambda d: (["date"], {"env": {"A": 1}}),
    "unknown-keyword": lambda d: (["date"], {"colour": "red"}),
    "unknown-user": lambda d: (["date"], {"user": "no-such-user"}),
    "unknown-group": lambda d: (["date"], {"group": "no-such-group"}),
    "negative-user": lambda d: (["date"], {"user": -5}),
    "user-a-list": lambda d: (["date"], {"user": []}),
    "extra-groups-a-string": lambda d: (["date"], {"extra_groups": "nogroup"}),
    "process-group-missing": lambda d: (["date"], {"process_group": 2**22 + 1}),
    "umask-a-string": lambda d: (["date"], {"umask": "022", "cwd": "/"}),
    "bufsize-a-string": lambda d: (["date"], {"bufsize": "1"}),
    "stdin-closed": lambda d: (["date"], {"stdin": 9999}),
    "stdout-a-string": lambda d: (["date"], {"stdout": "file"}),
    "stderr-unknown": lambda d: (["date"], {"stdin": STDOUT}),
    "pass-fds-closed": lambda d: (["date"], {"pass_fds": [9999]}),
    "pass-fds-negative": lambda d: (["date"], {"pass_fds": [-1]}),
    "text-and-universal": lambda d: (["date"], {"text": True, "universal_newlines": False}),
    "unknown-encoding": lambda d: (["date"], {"encoding": "no-such", "stdout": PIPE}),
    "shell-pathlike": lambda d: (Path("date"), {"shell": True}),
    "startupinfo": lambda d: (["date"], {"startupinfo": object()}),
}


def failure(start: Callable[..., Any], args: Any, keywords: Keywords) -> BaseException:
    with pytest.raises(Exception) as caught, start(args, **keywords) as process:
        process.communicate()
        pytest.fail(f"it started, and ended with {process.returncode}")
    return caught.value


def path_of(error: OSError) -> object:
    name: object = error.filename
    return os.fspath(name) if isinstance(name, os.PathLike) else name


@pytest.mark.parametrize("name", CALLS)
def test_error(name: str, clock: FrozenClock, files: Path) -> None:
    args, keywords = CALLS[name](files)
    expected = failure(subprocess.Popen, args, keywords)
    error = failure(clock.popen, args, keywords)
    assert (type(error), error.args) == (type(expected), expected.args)
    if isinstance(expected, OSError):
        assert isinstance(error, OSError)
        assert (error.errno, error.strerror) == (expected.errno, expected.strerror)
        # A path object stays one or not, as the version of Python has it.
        assert path_of(error) == path_of(expected) and error.filename2 is expected.filename2 is None
    assert clock.check_output(["date", "-u", "+%F"]) == b"1970-01-01\n"  # it goes on


@pytest.mark.parametrize(
    "arguments",
    [
        {"args": ["exit 3"], "shell": True, "check": True},
        {"args": ["sleep", "9"], "timeout": 0.05},
        {"args": ["date"], "input": b"", "stdin": PIPE},
        {"args": ["date"], "capture_output": True, "stdout": 1},
        {
            "args": "echo a; echo b >&2; exit 5",
            "shell": True,
            "check": True,
            "capture_output": True,
        },
        {"args": "echo out; exec sleep 9", "shell": True, "timeout": 0.2, "stdout": PIPE},
    ],
    ids=lambda arguments: str(arguments["args"]),
)
def test_run_error(arguments: Keywords, clock: FrozenClock) -> None:
    with pytest.raises(Exception) as expected:
        subprocess.run(**arguments)
    with pytest.raises(type(expected.value)) as caught:
        clock.run(**arguments)
    if not isinstance(expected.value, subprocess.TimeoutExpired):  # whose text has the time left
        assert str(caught.value) == str(expected.value)
    for name in ("cmd", "returncode", "output", "stderr"):
        assert getattr(caught.value, name, None) == getattr(expected.value, name, None)


@pytest.mark.parametrize("name", ["call", "check_call", "check_output"])
def test_the_other_functions(name: str, clock: FrozenClock) -> None:
    for arguments in ({"args": ["/no/such/program"]}, {"args": "exit 9", "shell": True}):
        outcomes = []
        for function in (getattr(subprocess, name), getattr(clock, name)):
            try:
                outcomes.append(repr(function(**arguments)))
            except Exception as error:
                outcomes.append(repr(error))
        assert outcomes[0] == outcomes[1]


def test_an_unfinished_start_leaves_nothing(clock: FrozenClock) -> None:
    """What `test_error` does, many times over: the check is that of every test, for things left."""
    for _ in range(30):
        with pytest.raises(FileNotFoundError):
            clock.popen(["/no/such/program"], stdin=PIPE, stdout=PIPE)
    assert clock.processes == []


def test_signal_during_start_does_not_disturb(clock: FrozenClock) -> None:
    """Signals to the test process while programs start: PEP 475 holds here too."""
    received = 0

    def count(_signal: int, _frame: object) -> None:
        nonlocal received
        received += 1

    previous = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(30):
            assert clock.run(["/bin/sh", "-c", "exit 4"]).returncode == 4
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert received
