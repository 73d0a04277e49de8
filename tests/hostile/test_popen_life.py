"""The life of a program after its start. Each test runs on `subprocess.Popen` and on a clock's:
what it demands is what the standard library does."""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

Start = Callable[..., Any]  # makes a Popen
CEILING_S = 30
CAT = ["cat"]


@pytest.fixture(params=["stock", "frozen"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    if request.param == "stock":
        yield subprocess.Popen
    else:
        with FrozenClock() as clock:
            yield clock.popen


@contextmanager
def silence() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert not caught


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


@pytest.mark.parametrize("status", [0, 1, 42, 127, 255])
def test_exit_status(start: Start, status: int) -> None:
    process = start(sh(f"exit {status}"))
    assert process.wait(CEILING_S) == process.returncode == process.poll() == status
    assert process.wait() == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGRTMAX])
def test_death_by_its_own_signal(start: Start, number: int) -> None:
    assert start(sh(f"kill -{int(number)} $$; exit 0")).wait(CEILING_S) == -number


@pytest.mark.parametrize(
    ("method", "number"),
    [("kill", signal.SIGKILL), ("terminate", signal.SIGTERM), ("send_signal", signal.SIGHUP)],
)
def test_death_by_ours(start: Start, method: str, number: int) -> None:
    with start(CAT, stdin=PIPE) as process:
        assert process.poll() is None and process.returncode is None
        getattr(process, method)(*([number] if method == "send_signal" else []))
        assert process.wait(CEILING_S) == -number
        process.kill()  # of the dead: nothing
        process.send_signal(signal.SIGTERM)


def test_a_signal_that_is_handled(start: Start) -> None:
    script = "trap 'echo caught; exit 6' USR1; echo ready; while :; do read x; done"
    with start(sh(script), stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.read() == "caught\n"
        assert process.wait(CEILING_S) == 6


def test_stop_and_continue(start: Start) -> None:
    with start(CAT, stdin=PIPE, stdout=PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        process.stdin.write(b"x")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGSTOP)
        process.kill()
        assert process.wait(CEILING_S) == -signal.SIGKILL


def test_wait_timeout(start: Start) -> None:
    with start(CAT, stdin=PIPE) as process:
        before = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            process.wait(timeout=0.1)
        assert 0.1 <= time.monotonic() - before < 5
        assert (caught.value.cmd, caught.value.timeout) == (CAT, 0.1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.stdin.close()
        assert process.wait(CEILING_S) == 0


def test_communicate(start: Start) -> None:
    process = start(sh("cat; echo err >&2"), stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.communicate(b"in") == (b"in", b"err\n")
    assert process.returncode == 0
    assert process.stdout.closed and process.stdin.closed


def test_communicate_much(start: Start) -> None:
    data = os.urandom(1 << 20) * 8
    with start(CAT, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        output, errors = process.communicate(data, timeout=CEILING_S)
    assert output == data and errors == b""


def test_communicate_timeout_and_again(start: Start) -> None:
    read_end, write_end = os.pipe()
    with start(sh("echo one; read x; echo two"), stdin=read_end, stdout=PIPE) as process:
        os.close(read_end)
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            process.communicate(timeout=0.2)
        assert caught.value.output == b"one\n"
        os.write(write_end, b"\n")
        os.close(write_end)
        assert process.communicate(timeout=CEILING_S) == (b"one\ntwo\n", None)


def test_communicate_with_one_that_reads_nothing(start: Start) -> None:
    process = start(sh("exit 3"), stdin=PIPE)
    assert process.communicate(b"x" * 1_000_000) == (None, None)
    assert process.returncode == 3


def test_streams(start: Start) -> None:
    merged = start(sh("echo out; echo err >&2"), stdout=PIPE, stderr=STDOUT)
    assert merged.communicate() == (b"out\nerr\n", None)
    silent = start(sh("cat; echo out; echo err >&2"), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    assert silent.communicate() == (None, None)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"text": True}, "a\nb\nü\n"),
        ({"universal_newlines": True}, "a\nb\nü\n"),
        ({"encoding": "utf-8"}, "a\nb\nü\n"),
        ({"encoding": "latin-1"}, "a\nb\nÃ¼\n"),
        ({"encoding": "ascii", "errors": "replace"}, "a\nb\n\ufffd\ufffd\n"),
        ({"errors": "strict"}, "a\nb\nü\n"),
        ({}, "a\r\nb\nü\n".encode()),
    ],
    ids=str,
)
def test_text(start: Start, keywords: dict[str, Any], expected: object) -> None:
    process = start(["printf", r"a\r\nb\nü\n"], stdout=PIPE, **keywords)
    assert process.communicate(timeout=CEILING_S)[0] == expected


@pytest.mark.parametrize(
    ("bufsize", "kind"), [(0, io.FileIO), (-1, io.BufferedWriter), (99, io.BufferedWriter)]
)
def test_bufsize(start: Start, bufsize: int, kind: type) -> None:
    with start(CAT, stdin=PIPE, stdout=PIPE, bufsize=bufsize) as process:
        assert isinstance(process.stdin, kind)
        assert process.communicate(b"x") == (b"x", None)


def test_line_buffered(start: Start) -> None:
    with start(CAT, stdin=PIPE, stdout=PIPE, bufsize=1, text=True) as process:
        process.stdin.write("line\n")
        assert process.stdout.readline() == "line\n"


def test_attributes(start: Start) -> None:
    with start(CAT, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert isinstance(process, subprocess.Popen)
        assert process.args is CAT
        assert process.stdin and process.stdout
        process.stdin.write("line\n")
        process.stdin.flush()
        assert process.stdout.readline() == "line\n"  # it has executed its program
        assert process.pid > 0 and os.readlink(f"/proc/{process.pid}/exe").endswith("/cat")
        assert process.stderr is None
        assert process.universal_newlines
        assert "returncode: None args: ['cat']" in repr(process)
    assert "returncode: 0" in repr(process)


def test_context_manager_waits_and_closes(start: Start) -> None:
    with start(CAT, stdin=PIPE, stdout=PIPE) as process:
        pass
    assert process.returncode == 0
    assert process.stdin.closed and process.stdout.closed


def test_a_dropped_running_one_warns(start: Start) -> None:
    """Of the standard library's; one on a clock is the clock's to end."""
    process = start(CAT, stdin=PIPE)
    pid, stdin = process.pid, process.stdin
    text = f"subprocess {pid} is still running"
    of_stock = pytest.warns(ResourceWarning, match=text) if start is subprocess.Popen else silence()
    with of_stock:
        del process
        gc.collect()
    stdin.close()
    # subprocess reaps it when the next one starts, a clock when it closes.
    deadline = time.monotonic() + CEILING_S
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        start(["true"]).wait(CEILING_S)
    if start is subprocess.Popen:
        assert not os.path.exists(f"/proc/{pid}")


def test_a_dropped_dead_one_does_not(start: Start) -> None:
    with silence():
        start(["true"]).wait(CEILING_S)
        gc.collect()


def test_many_threads_wait_for_one(start: Start) -> None:
    process = start(CAT, stdin=PIPE)
    statuses: list[int | None] = []

    def wait() -> None:
        statuses.append(process.wait(CEILING_S))

    def poll() -> None:
        while process.poll() is None:
            continue
        statuses.append(process.poll())

    threads = [threading.Thread(target=target) for target in (wait, wait, poll, wait)]
    for thread in threads:
        thread.start()
    process.stdin.close()
    for thread in threads:
        thread.join(CEILING_S)
    assert statuses == [0] * 4


def test_a_child_holds_the_pipe_after_the_end(start: Start) -> None:
    """The status is there while the output is not at its end."""
    with start(sh("cat <&0 & exit 5"), stdin=PIPE, stdout=PIPE) as process:
        assert process.wait(CEILING_S) == 5
        process.stdin.close()
        assert process.stdout.read() == b""


def test_large_output_of_many_at_once(start: Start) -> None:
    script = "import sys; sys.stdout.buffer.write(b'x' * 300_000)"
    processes = [start([sys.executable, "-S", "-c", script], stdout=PIPE) for _ in range(8)]
    for process in processes:
        assert len(process.communicate(timeout=CEILING_S)[0]) == 300_000
        assert process.returncode == 0


def test_it_is_a_child_like_any_other(start: Start) -> None:
    """A pidfd of it becomes readable at its end, as asyncio and others count on."""
    process = start(CAT, stdin=PIPE)
    pidfd = os.pidfd_open(process.pid)
    try:
        assert select.select([pidfd], [], [], 0) == ([], [], [])
        process.stdin.close()
        assert select.select([pidfd], [], [], CEILING_S) == ([pidfd], [], [])
    finally:
        os.close(pidfd)
    assert process.wait(CEILING_S) == 0
