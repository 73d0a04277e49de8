"""What starts programs past `subprocess`: on the clock that is patched in from their exec on, or
told; and who waits for them sees what any parent sees."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import gc
import io
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker, util
from os import fork as imported_fork
from os import posix_spawn as imported_posix_spawn
from os import system as imported_system
from pathlib import Path
from typing import Any

import pexpect
import plumbum
import pytest
import sh
from invoke.context import Context

from pytest_vdsotime import ClockClosed, FrozenClock, RealTimeWarning

CEILING_S = 60
START = "1999-01-01"
YEAR = ["date", "-u", "+%Y"]
DATE = "/bin/date"


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock(START) as clock, clock.patch_subprocess():
        yield clock


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def execute_in_child(*command: str, to: Path | None = None) -> int:
    """Fork and exec, as C programmers do."""
    pid = os.fork()
    if pid == 0:
        try:
            if to is not None:
                os.dup2(os.open(to, os.O_WRONLY | os.O_CREAT, 0o600), 1)
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    return pid


# --- each way to start ----------------------------------------------------------------------------


def by_system(to: Path) -> None:
    assert os.system(f"date -u +%Y >{to}; exit 3") == 3 << 8
    assert os.system("kill -9 $$") == signal.SIGKILL


def by_popen(to: Path) -> None:
    with os.popen("date -u +%Y") as pipe:
        to.write_text(pipe.read())


def by_fork_and_exec(to: Path) -> None:
    pid = execute_in_child(*YEAR, to=to)
    assert os.waitpid(pid, 0) == (pid, 0)


def by_fork_from_before(to: Path) -> None:
    """By a name that was imported before the clock was patched in."""
    pid = imported_fork()
    if pid == 0:
        os.dup2(os.open(to, os.O_WRONLY | os.O_CREAT, 0o600), 1)
        os.execv(DATE, YEAR)
    assert os.waitpid(pid, 0) == (pid, 0)


def by_a_daemon(to: Path) -> None:
    """A grandchild, whose parent ends at once."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            os.dup2(os.open(to, os.O_WRONLY | os.O_CREAT, 0o600), 1)
            os.set_inheritable(writer, True)
            os.execv(DATE, YEAR)
        os._exit(0)
    os.close(writer)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert os.read(reader, 1) == b""  # the grandchild has ended
    os.close(reader)


def by_posix_spawn(to: Path) -> None:
    actions = [(os.POSIX_SPAWN_OPEN, 1, str(to), os.O_WRONLY | os.O_CREAT, 0o600)]
    pid = os.posix_spawn(DATE, YEAR, os.environ, file_actions=actions)
    assert os.waitpid(pid, 0) == (pid, 0)


def by_posix_spawnp(to: Path) -> None:
    script = ["sh", "-c", f"date -u +%Y >{to}; exit 5"]
    pid = os.posix_spawnp("sh", script, os.environ)
    assert os.waitpid(pid, 0) == (pid, 5 << 8)


def by_spawn(to: Path) -> None:
    assert os.spawnlp(os.P_WAIT, "sh", "sh", "-c", f"date -u +%Y >{to}; exit 4") == 4
    pid = os.spawnv(os.P_NOWAIT, "/bin/true", ["true"])
    assert os.waitpid(pid, 0) == (pid, 0)


def by_pty_fork(to: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("date", YEAR)
    data = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while True:
            data += os.read(terminal, 100)
    assert os.waitpid(pid, 0) == (pid, 0)
    os.close(terminal)
    to.write_bytes(data)


def by_pty_spawn(to: Path) -> None:
    def read(terminal: int) -> bytes:
        data = os.read(terminal, 1024)
        with to.open("ab") as file:
            file.write(data)
        return data

    with open(os.devnull) as nothing, contextlib.redirect_stdout(io.StringIO()):
        stdin = os.dup(0)
        os.dup2(nothing.fileno(), 0)
        try:
            assert pty.spawn(YEAR, read) == 0
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)


def by_pexpect(to: Path) -> None:
    program = pexpect.spawn("sh -c 'date -u +%Y; read line; exit 6'", timeout=CEILING_S)
    program.expect(r"\d+\r\n")
    to.write_bytes(program.after)
    assert program.isalive()
    program.sendline("")
    program.expect(pexpect.EOF)
    program.close()
    assert (program.exitstatus, program.signalstatus) == (6, None)


def by_sh(to: Path) -> None:
    known = set(threading.enumerate())
    to.write_text(str(sh.date("-u", "+%Y")))
    with pytest.raises(sh.ErrorReturnCode_3):
        sh.sh("-c", "exit 3")
    for thread in set(threading.enumerate()) - known:
        if not thread.name.startswith("vdsotime-"):
            thread.join(CEILING_S)


@contextlib.contextmanager
def left_to_the_collector() -> Iterator[None]:
    """These libraries leave it their pipes, which Python warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def by_plumbum(to: Path) -> None:
    with left_to_the_collector():
        to.write_text(plumbum.local["date"]("-u", "+%Y"))


def by_invoke(to: Path) -> None:
    with left_to_the_collector():
        done = Context().run("date -u +%Y", hide=True, in_stream=False)
        assert done is not None and done.ok
        to.write_text(done.stdout)


def year_here() -> int:
    return time.gmtime().tm_year


def by_multiprocessing(method: str) -> Callable[[Path], None]:
    def start(to: Path) -> None:
        context: Any = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        process = context.Process(target=put_year, args=(queue,))
        process.start()
        to.write_text(str(queue.get()))
        process.join(CEILING_S)
        assert process.exitcode == 3
        process.close()
        queue.close()

    return start


def put_year(queue: Any) -> None:
    queue.put(year_here())
    sys.exit(3)


def by_a_pool_of_processes(to: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        years = {future.result() for future in [pool.submit(year_here) for _ in range(4)]}
    assert len(years) == 1
    to.write_text(str(*years))


WAYS = {
    "system": by_system,
    "popen": by_popen,
    "fork": by_fork_and_exec,
    "fork-from-before": by_fork_from_before,
    "daemon": by_a_daemon,
    "posix_spawn": by_posix_spawn,
    "posix_spawnp": by_posix_spawnp,
    "spawn": by_spawn,
    "pty.fork": by_pty_fork,
    "pty.spawn": by_pty_spawn,
    "pexpect": by_pexpect,
    "sh": by_sh,
    "plumbum": by_plumbum,
    "invoke": by_invoke,
    "multiprocessing-spawn": by_multiprocessing("spawn"),
    "multiprocessing-forkserver": by_multiprocessing("forkserver"),
    "ProcessPoolExecutor": by_a_pool_of_processes,
}


@pytest.fixture(autouse=True)
def no_servers_of_multiprocessing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Which go on until Python ends. What they start imports this module by its name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    yield
    own: Any = forkserver, resource_tracker, util, multiprocessing.current_process()
    own[0]._forkserver._stop()
    own[1]._resource_tracker._stop()
    own[2]._run_finalizers()
    own[3]._config.pop("tempdir", None)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_on_the_clock(way: str, clock: FrozenClock, output: Path) -> None:
    for _ in range(2):
        WAYS[way](output)
        assert output.read_text().split() == ["1999"]
        output.unlink()


@pytest.mark.parametrize("way", WAYS)
def test_each_way_without_a_clock(way: str, output: Path) -> None:
    """The same checks of ends and statuses."""
    WAYS[way](output)
    assert int(output.read_text()) > 2020


# --- what only forks ------------------------------------------------------------------------------


def forks_only(function: Callable[[], int] = lambda: os.fork()) -> int:
    pid = function()
    if pid == 0:
        os._exit(7)
    return pid


def test_what_only_forks_is_told_once_a_place(clock: FrozenClock) -> None:
    line = forks_only.__code__.co_firstlineno
    for _ in range(3):
        pid = forks_only()
        assert os.waitpid(pid, 0) == (pid, 7 << 8)
    with pytest.warns(RealTimeWarning, match=rf"{__file__}:{line} forks a child") as told:
        clock.settle()
    assert len(told) == 1
    pid = forks_only(imported_fork)
    os.waitpid(pid, 0)
    with pytest.warns(RealTimeWarning, match=rf"{__file__}:{line + 1} forks a child"):
        clock.settle()
    pid = forks_only()
    os.waitpid(pid, 0)
    clock.settle()


def test_one_that_goes_on_is_told_at_the_end() -> None:
    reader, writer = os.pipe()
    clock = FrozenClock(START)
    with clock.patch_subprocess():
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        clock.settle()
    with pytest.warns(RealTimeWarning, match="forks a child"):
        clock.close()
    os.close(writer)
    os.close(reader)
    assert os.waitpid(pid, 0) == (pid, 0)


def test_what_has_executed_is_told_nothing(clock: FrozenClock) -> None:
    os.waitpid(execute_in_child("true"), 0)
    clock.settle()


# Python's own (3.12), where the test process has threads beside the tracer's, as under xdist.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_multiprocessing_by_fork_is_told_at_once(clock: FrozenClock) -> None:
    context: Any = multiprocessing.get_context("fork")
    for number in range(2):
        told: Any = contextlib.nullcontext()
        if number == 0:
            told = pytest.warns(RealTimeWarning, match=rf"{__file__}:\d+ .* by fork.*spawn")
        with told:
            process = context.Process(target=sys.exit, args=(4,))
            process.start()
        process.join(CEILING_S)
        assert process.exitcode == 4
        process.close()
    clock.settle()


def test_what_a_child_of_the_test_starts(clock: FrozenClock, output: Path) -> None:
    """It has no tracer, but the way to its parent's."""
    pid = os.fork()
    if pid == 0:
        try:
            year = subprocess.run(YEAR, capture_output=True, check=True).stdout
            with output.open("wb") as file:
                file.write(year)
            if os.system(f"date -u +%Y >>{output}; exit 3") == 3 << 8:
                os._exit(5)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0) == (pid, 5 << 8)
    assert output.read_text() == "1999\n1999\n"
    with pytest.warns(RealTimeWarning, match="forks a child"):
        clock.settle()


def test_functions_from_before_are_told(clock: FrozenClock) -> None:
    """They are in C, where nothing stands between them and the kernel."""
    with pytest.warns(RealTimeWarning, match=rf"{__file__}:\d+ .*os\.system"):
        assert imported_system("test $(date -u +%Y) -gt 2020") == 0
    with pytest.warns(RealTimeWarning, match=rf"{__file__}:\d+ .*os\.posix_spawn"):
        pid = imported_posix_spawn("/bin/true", ["true"], {})
    assert os.waitpid(pid, 0) == (pid, 0)
    clock.settle()


# --- the clock and they ---------------------------------------------------------------------------


def test_the_clock_moves_them(clock: FrozenClock, output: Path) -> None:
    pid = execute_in_child("sh", "-c", "sleep 1h; date -u +%T", to=output)
    while not clock.waits:
        clock.settle()
    clock.advance(hours=1)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert output.read_text() in ("00:59:59\n", "01:00:00\n")


def test_a_child_that_has_changed_its_user(as_root: None, clock: FrozenClock, output: Path) -> None:
    """It may not ring the tracer, which looks around by itself."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os.dup2(descriptor, 1)
            os.setgid(65534)
            os.setuid(65534)
            os.execvp("sh", ["sh", "-c", "id -u; date -u +%Y"])
        assert os.waitpid(pid, 0) == (pid, 0)
    os.close(descriptor)
    assert output.read_text() == "65534\n1999\n" * 2


def test_they_end_with_the_clock() -> None:
    with FrozenClock(START) as clock, clock.patch_subprocess():
        forked = execute_in_child("sleep", "1000")
        spawned = os.posix_spawnp("sleep", ["sleep", "1000"], os.environ)
        while len(clock.processes) < 2 or any(one.argv[:1] != ["sleep"] for one in clock.processes):
            clock.settle()
        assert {one.pid for one in clock.processes} == {forked, spawned}
    assert os.waitpid(forked, 0) == (forked, signal.SIGKILL)
    assert os.waitpid(spawned, 0) == (spawned, signal.SIGKILL)


def test_waits_outside_the_context_show_no_stops() -> None:
    with FrozenClock(START) as clock:
        with clock.patch_subprocess():
            pid = execute_in_child("sh", "-c", "sleep 60; kill -WINCH $$; sleep 60; exit 9")
            while not clock.waits:
                clock.settle()
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        timer = threading.Timer(0.1, clock.advance, (200,))
        timer.start()
        assert os.waitpid(pid, 0) == (pid, 9 << 8)
        timer.join()


def test_everything_is_what_it_was() -> None:
    names = (
        *("fork", "forkpty", "system", "posix_spawn", "posix_spawnp"),
        *("wait", "waitpid", "wait3", "wait4", "waitid"),
    )
    before = [getattr(os, name) for name in names]
    with FrozenClock(START) as clock:
        with clock.patch_subprocess():
            assert os.system is not before[2]
            os.system("true")
        assert [getattr(os, name) for name in names] == before


def test_clocks_within_clocks(output: Path) -> None:
    """The innermost one has what starts."""
    with FrozenClock(START) as outer, outer.patch_subprocess():
        with FrozenClock("2003-01-01") as inner, inner.patch_subprocess():
            os.waitpid(execute_in_child(*YEAR, to=output), 0)
            assert output.read_text() == "2003\n"
        os.waitpid(execute_in_child(*YEAR, to=output), 0)
        assert output.read_text() == "1999\n"


def test_an_exec_that_fails(clock: FrozenClock) -> None:
    assert os.spawnlp(os.P_WAIT, "nothing-of-that-name", "x") == 127
    for setsid in (False, True):
        with pytest.raises(FileNotFoundError) as raised:
            os.posix_spawn("/nothing", ["x"], os.environ, setsid=setsid)
        assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, "/nothing")
    with pytest.raises(FileNotFoundError) as raised:
        actions = [(os.POSIX_SPAWN_OPEN, 1, "/nothing/here", os.O_WRONLY, 0)]
        os.posix_spawn(DATE, YEAR, os.environ, file_actions=actions)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, DATE)
    with pytest.raises(ChildProcessError):
        os.wait()
    assert clock.processes == []


def test_a_closed_clock() -> None:
    with FrozenClock(START) as clock, clock.patch_subprocess():
        clock.close()
        for start in (
            os.fork,
            lambda: os.system("true"),
            lambda: os.posix_spawn("/bin/true", ["true"], {}),
        ):
            with pytest.raises(ClockClosed):
                start()


def test_posix_spawn_as_it_is_said(clock: FrozenClock) -> None:
    reader, writer = os.pipe()
    group = execute_in_child("sleep", "1000")
    os.setpgid(group, group)
    pid = os.posix_spawn(
        "/bin/grep",
        ["grep", "-h", "-e", "SigBlk", "-e", " (grep) ", "/proc/self/status", "/proc/self/stat"],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_CLOSE, reader)],
        setpgroup=group,
        setsigmask=[signal.SIGUSR1],
        setsigdef=[signal.SIGPIPE],
    )
    os.close(writer)
    with open(reader) as pipe:
        first, second = pipe.read().splitlines()
    assert first.split() == ["SigBlk:", "0000000000000200"]
    assert second.split()[4] == str(group)
    assert os.waitpid(pid, 0) == (pid, 0)
    os.kill(group, signal.SIGKILL)
    os.waitpid(group, 0)


# --- who waits ------------------------------------------------------------------------------------


def waitid(kind: int, number: int, options: int) -> os.waitid_result:
    found = os.waitid(kind, number, options)
    assert found is not None
    return found


def test_every_wait_shows_ends_alone(clock: FrozenClock) -> None:
    script = "kill -WINCH $$; sleep 0.01; exit 8"
    waits: tuple[Callable[[int], Any], ...] = (
        lambda pid: os.waitpid(pid, 0)[1],
        lambda pid: os.wait4(pid, 0)[1],
        lambda _: os.wait()[1],
        lambda _: os.wait3(0)[1],
        lambda _: os.waitpid(-1, 0)[1],
        lambda _: os.waitpid(0, 0)[1],
        lambda pid: waitid(os.P_PID, pid, os.WEXITED).si_status << 8,
        lambda _: waitid(os.P_ALL, 0, os.WEXITED).si_status << 8,
        lambda pid: waitid(os.P_PGID, os.getpgid(pid), os.WEXITED).si_status << 8,
    )
    for wait in waits:
        assert wait(execute_in_child("sh", "-c", script)) == 8 << 8
    pid = execute_in_child("sh", "-c", script)
    pidfd = os.pidfd_open(pid)
    found = waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert (found.si_pid, found.si_status, found.si_code) == (pid, 8, os.CLD_EXITED)
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED) == found
    os.close(pidfd)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    with pytest.raises(ChildProcessError):
        os.waitpid(1, os.WNOHANG)


def test_a_wait_for_any_child_lets_others_be(clock: FrozenClock) -> None:
    """Those of subprocess are on the clock, too, but theirs to wait for."""
    with subprocess.Popen(["sh", "-c", "exit 4"]) as other:
        pid = execute_in_child("sh", "-c", "exit 5")
        assert os.wait() == (pid, 5 << 8)
        assert other.wait() == 4
    program = subprocess.Popen(["sh", "-c", "exit 6"])
    assert os.waitpid(program.pid, 0) == (program.pid, 6 << 8)
    assert program.wait() == 6


def test_job_control(clock: FrozenClock) -> None:
    pid = execute_in_child("sh", "-c", "while :; do sleep 1000; done")
    while not clock.waits:
        clock.settle()
    for _ in range(2):
        assert os.waitpid(pid, os.WNOHANG | os.WUNTRACED) == (0, 0)
        os.kill(pid, signal.SIGSTOP)
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP
        assert os.waitpid(pid, os.WNOHANG | os.WUNTRACED) == (0, 0)
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, os.WCONTINUED)
        assert os.WIFCONTINUED(status)
    os.kill(pid, signal.SIGSTOP)  # SIGTSTP does nothing in an orphaned process group
    found = waitid(os.P_PID, pid, os.WSTOPPED)
    assert (found.si_code, found.si_status) == (os.CLD_STOPPED, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, os.WUNTRACED) == (pid, signal.SIGKILL)


def test_a_signal_handler_runs_while_a_wait_lasts(clock: FrozenClock) -> None:
    pid = execute_in_child("sleep", "1000")
    former = signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        assert os.waitpid(pid, 0) == (pid, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGALRM, former)


# --- company --------------------------------------------------------------------------------------

HOOKS = """
import os, sys
from pytest_vdsotime import FrozenClock
events = []
sys.addaudithook(lambda event, arguments: events.append(event) if event.startswith("os.") else None)
def start():
    os.system("true")
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    os.waitpid(pid, 0)
    names = [name for name in events if name in ("os.system", "os.posix_spawn", "os.fork")]
    events.clear()
    return names
bare = start()
sys.addaudithook(lambda event, arguments: None)
with FrozenClock(0) as clock, clock.patch_subprocess():
    clock.run(["true"])  # the tracer starts
    events.clear()
    assert start() == bare == ["os.system", "os.posix_spawn", "os.fork"], bare
def refuse(event, arguments):
    if event == "os.system":
        raise PermissionError("no")
sys.addaudithook(refuse)
with FrozenClock(0) as clock, clock.patch_subprocess():
    try:
        os.system("true")
    except PermissionError as error:
        print(error)
"""


def test_audit_hooks_of_others() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HOOKS],
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    assert (done.stdout, done.stderr) == ("no\n", "")


INVOKE = """
from invoke.context import Context
from pytest_vdsotime import FrozenClock
def run():
    command = "tty; date -u +%Y; exit 3"
    how = dict(pty=True, fallback=False, in_stream=False, hide=True, warn=True)
    done = Context().run(command, **how)
    terminal, year = done.stdout.split()
    assert terminal.startswith("/dev/pts/") and done.exited == 3, done
    return int(year)
assert run() > 2020
with FrozenClock("1999-01-01") as clock, clock.patch_subprocess():
    print(run())
assert run() > 2020
"""


def test_invoke_with_a_terminal() -> None:
    """Not under pytest, whose standard output its child cannot do without."""
    done = subprocess.run(
        [sys.executable, "-c", INVOKE], capture_output=True, text=True, timeout=CEILING_S
    )
    assert (done.stdout, done.stderr) == ("1999\n", "")


def test_many_at_once(clock: FrozenClock, tmp_path: Path) -> None:
    """By threads, through one gate."""

    def start(number: int) -> None:
        for turn in range(5):
            to = tmp_path / f"{number}-{turn}"
            pid = execute_in_child(*YEAR, to=to)
            statuses.append(os.waitpid(pid, 0)[1])

    statuses: list[int] = []
    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 30
    assert {one.read_text() for one in tmp_path.iterdir()} == {"1999\n"}


def test_a_fork_server_that_runs_already(output: Path) -> None:
    """It is in real time, and serves whoever is."""
    start = by_multiprocessing("forkserver")
    start(output)
    assert int(output.read_text()) > 2020
    known: Any = forkserver
    server = known._forkserver._forkserver_pid
    with FrozenClock(START) as clock, clock.patch_subprocess():
        start(output)
        assert output.read_text() == "1999"
    assert known._forkserver._forkserver_pid == server
    start(output)
    assert int(output.read_text()) > 2020


@pytest.mark.filterwarnings("ignore:.*forks a child:pytest_vdsotime.RealTimeWarning")
def test_one_that_is_killed_at_the_gate(clock: FrozenClock, output: Path) -> None:
    for turn in range(20):
        pid = execute_in_child("sleep", "1000")
        time.sleep(0.0005 * turn)
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)
    os.waitpid(execute_in_child(*YEAR, to=output), 0)
    assert output.read_text() == "1999\n"
