"""vdsotime --trace FILE -- COMMAND; jq . FILE: the file is whole when COMMAND's end is reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

VDSOTIME = [sys.executable, "-m", "pytest_vdsotime"]
CEILING_S = 30


@pytest.fixture
def jq(real_program: Callable[[str], str]) -> str:
    return real_program("jq")


def traced(path: Path, *command: str) -> tuple[int, str]:
    """Runs `command` to its end, as it is reported to the parent, which waits for no pipe."""
    arguments = [*VDSOTIME, "--at=@0", "--trace", str(path), "--", *command]
    with tempfile.TemporaryFile("w+") as said:
        status = subprocess.call(arguments, stdout=said, stderr=said, timeout=CEILING_S)
        said.seek(0)
        return status, said.read()


def ends(path: Path) -> list[str]:
    """How the programs of a trace have ended."""
    events = json.loads(path.read_text())["traceEvents"]
    return [one["args"]["ended"] for one in events if "ended" in one.get("args", {})]


def test_in_a_shell(jq: str, tmp_path: Path) -> None:
    script = (
        'for i in $(seq 12); do "$@" --trace f -- true && jq -e ".traceEvents | length > 9" f'
        " || exit 1; done"
    )
    command = ["bash", "-c", script, "bash", *VDSOTIME]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "true\n" * 12, "")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGRTMAX"])
def test_killed_by_itself(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    assert traced(tmp_path / "f", "sh", "-c", f"ulimit -c 0; kill -{int(number)} $$") == (
        -number,
        "",
    )
    assert ends(tmp_path / "f") == [f"killed by {name}"]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_killed_by_another(tmp_path: Path, name: str) -> None:
    command = [*VDSOTIME, "--trace", str(tmp_path / "f"), "sh", "-c", "echo; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdout and program.stdout.readline() == b"\n"
        os.killpg(program.pid, signal.Signals[name])
        assert program.wait(CEILING_S) == -signal.Signals[name]
        assert ends(tmp_path / "f") == [f"killed by {name}"]


def test_status(tmp_path: Path) -> None:
    for status in 0, 77, 255:
        assert traced(tmp_path / "f", "sh", "-c", f"exit {status}") == (status, "")
        assert ends(tmp_path / "f") == [f"exit status {status}"]


def test_a_daemon_that_is_left(tmp_path: Path) -> None:
    """The file tells of it until COMMAND's end, and is what it was when the daemon has ended."""
    path, go, said = tmp_path / "f", tmp_path / "go", tmp_path / "said"
    os.mkfifo(go)
    os.mkfifo(said)
    daemon = f"(read line < '{go}'; sleep 0.01; date -u +%Y > '{said}') > /dev/null 2>&1 &"
    assert traced(path, "setsid", "sh", "-c", f"{daemon} sleep 0.01; exit 5") == (5, "")
    text = path.read_text()
    assert ends(path) == ["exit status 0", "exit status 5"]
    (tracer,) = tracers_of(path)
    go.write_text("\n")
    assert said.read_text() == "1970\n"
    await_end(tracer)
    assert path.read_text() == text


def test_daemons_that_end_meanwhile(tmp_path: Path) -> None:
    """All of them are reaped, and the tracer ends with the last one."""
    path = tmp_path / "f"
    daemons = "for i in $(seq 40); do setsid sh -c 'sleep 0.0$1; true' sh $i & done"
    assert traced(path, "bash", "-c", f"{daemons} >&- 2>&-") == (0, "")
    json.loads(path.read_text())
    for tracer in tracers_of(path):
        await_end(tracer)


def tracers_of(path: Path) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(path) in words:
            found.append(int(pid))
    return found


def await_end(pid: int) -> None:
    deadline = time.monotonic() + CEILING_S
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_big_trace(as_root: None, jq: str, tmp_path: Path) -> None:
    """COMMAND's end is held back for as long as the file takes to write."""
    path = tmp_path / "f"
    script = "import time\nfor i in range(8000): time.clock_settime(time.CLOCK_REALTIME, 10 * i)"
    assert traced(path, sys.executable, "-c", script) == (0, "")
    assert path.stat().st_size > 2_000_000
    assert subprocess.run([jq, "-e", ".traceEvents | length > 8000", path]).returncode == 0
    assert ends(path) == ["exit status 0"]


THREADS = """
import ctypes, os, sys, threading, time
def work():
    time.sleep(0.02)
    {end}
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall({exit}, 0)  # of this thread alone
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [("os._exit(3)", 3), ("os.execvp('sh', ['sh', '-c', 'exit 4'])", 4)],
    ids=["exits", "executes"],
)
def test_a_leader_that_ends_before_its_threads(tmp_path: Path, end: str, status: int) -> None:
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    script = THREADS.format(end=end, exit=number)
    assert traced(tmp_path / "f", sys.executable, "-c", script) == (status, "")
    assert ends(tmp_path / "f")[-1] == f"exit status {status}"


def test_stopped_and_continued(tmp_path: Path) -> None:
    """Stops are reported as ever."""
    command = [*VDSOTIME, "--trace", str(tmp_path / "f"), "sh", "-c", "kill -STOP $$; exit 6"]
    program = subprocess.Popen(command)
    assert os.WSTOPSIG(os.waitpid(program.pid, os.WUNTRACED)[1]) == signal.SIGSTOP
    program.send_signal(signal.SIGCONT)
    assert program.wait(CEILING_S) == 6
    assert ends(tmp_path / "f") == ["exit status 6"]


IGNORING = """
import os, signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
try:
    os.waitpid(subprocess.Popen(sys.argv[1:]).pid, 0)
except ChildProcessError:
    pass
"""


def test_where_nobody_waits(jq: str, tmp_path: Path) -> None:
    """The parent ignores SIGCHLD: the kernel reaps COMMAND, not before the file is whole."""
    path = tmp_path / "f"
    command = [sys.executable, "-c", IGNORING, *VDSOTIME, "--trace", str(path), "true"]
    subprocess.run(command, check=True, timeout=CEILING_S)
    assert ends(path) == ["exit status 0"]


def test_to_a_pipe(jq: str, tmp_path: Path) -> None:
    """The reader gets it all, and the end of the file with COMMAND's."""
    reader, writer = os.pipe()
    texts: list[str] = []
    with open(reader) as file:
        thread = threading.Thread(target=lambda: texts.append(file.read()))
        thread.start()
        command = [*VDSOTIME, "--trace", f"/dev/fd/{writer}", "sh", "-c", "exit 7"]
        assert subprocess.run(command, pass_fds=[writer], timeout=CEILING_S).returncode == 7
        os.close(writer)
        thread.join()
    assert '"exit status 7"' in texts[0] and json.loads(texts[0])


def test_a_full_disk(tmp_path: Path) -> None:
    """It is said, and COMMAND's status is its own."""
    text = "vdsotime: the trace is not complete: No space left on device\n"
    assert traced(Path("/dev/full"), "sh", "-c", "exit 8") == (8, text)


def test_a_command_that_cannot_be_executed(tmp_path: Path) -> None:
    assert traced(tmp_path / "f", "no-such-program")[0] == 127
