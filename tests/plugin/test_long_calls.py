"""A call that takes long says so on the terminal, past pytest's capture."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., pytest.RunResult]

# A program that wakes ten times a second, and one each minute; a month of it takes long.
MONTH = """
import asyncio
import sys
import time

def programs(clock):
    code = "import time\\nwhile True: time.sleep({})"
    with clock.popen([sys.executable, "-Sc", code.format(0.1)]) as often:
        with clock.popen([sys.executable, "-Sc", code.format(60)]) as seldom:
            clock.settle()
            yield often.pid
            seldom.kill()
        often.kill()

async def a_part(clock, seconds, **how):
    try:
        async with asyncio.timeout(seconds):
            await clock.aio.advance(days=30, **how)
    except TimeoutError:
        return
    assert False
"""
SOON = "from pytest_vdsotime import progress\nprogress.FIRST_S, progress.NEXT_S = 0.3, 0.4\n"
LINE = (
    r"vdsotime: advance\(2592000\) has taken (\S+) s of real time: .+ of 30 d have passed "
    r"\(\S+ %\), some .+ more at this pace\n"
    r"  python\S* \(pid (\d+)\) wakes 10 times a second \(clock_nanosleep\)\n"
    r"(?:  python\S* \(pid \d+\) wakes every 1 min \(clock_nanosleep\)\n)?"
    r'  each deadline is a step: stride="1h" takes one for an hour, jump\(\) one for it all\n'
)

# On a busy machine: of programs that start; and of a call that is given up, not how far it is.
END = r"vdsotime: advance\(2592000\) has taken \S+ s of real time\n(?:  .+\n)+"
START = r"vdsotime: settle\(\) has taken .+\n  it waits for programs to come to rest.*\n"


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_a_month(run: Run, pytester: pytest.Pytester, capture: str) -> None:
    """In a test that passes, and that writes itself."""
    first_s = 0.3
    pytester.makeconftest(f"from pytest_vdsotime import progress\nprogress.FIRST_S = {first_s}")
    source = f"""
def test_month(frozen_clock, request):
    print("of the test")
    for pid in programs(frozen_clock):
        asyncio.run(a_part(frozen_clock, {first_s} + 1))
    (request.config.rootpath / "pid").write_text(str(pid))
"""
    result = run(MONTH + source, f"--capture={capture}")
    result.assert_outcomes(passed=1)
    said = str(result.stderr)
    (found,) = re.finditer(LINE + r"  in \S+::test_month \(call\)(?:\n|$)", said)
    assert float(found[1]) >= first_s
    assert found[2] == Path("pid").read_text()
    assert ("of the test" in str(result.stdout)) == (capture == "no")


@pytest.mark.long
def test_after_ten_seconds(run: Run) -> None:
    """With nothing set. They pass in a wait for a server on no clock: that needs no processor."""
    source = """
import socket
import sys
import threading
import time

ASKS = '''
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
    server.sendall(b"?")
    server.recv(1)
'''

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze", patience=40)
def test_slow(frozen_clock):
    print("of the test")
    is_asked = threading.Event()

    def answer(server):
        with server.accept()[0] as client:
            client.recv(1)
            is_asked.set()
            time.sleep(12)
            client.sendall(b"!")

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=answer, args=[server])
        thread.start()
        with frozen_clock.popen([sys.executable, "-Sc", ASKS, str(port)]):
            is_asked.wait()
            frozen_clock.settle(timeout=40)
        thread.join()
"""
    result = run(source)
    result.assert_outcomes(passed=1)
    said = str(result.stderr)
    line = r"vdsotime: settle\(\) has taken (\S+) s of real time\n"
    (found,) = re.finditer(line + r"  it waits .*\n  in \S+::test_slow \(call\)(?:\n|$)", said)
    assert float(found[1]) >= 10
    assert "of the test" not in str(result.stdout)


def test_again(run: Run, pytester: pytest.Pytester) -> None:
    """At the interval; under xdist whole lines, each with its worker and test."""
    pytester.makeconftest(SOON)
    source = """
@pytest.mark.parametrize("number", range(2))
def test_month(frozen_clock, number, capfd):
    for _ in programs(frozen_clock):
        asyncio.run(a_part(frozen_clock, 2))
        assert capfd.readouterr() == ("", "")
"""
    result = run(MONTH + source, "-n", "2", "--dist", "load")
    result.assert_outcomes(passed=2)
    found = re.findall(LINE + r"  in (gw\d \S+::test_month\[\d\] \(call\))\n", str(result.stderr))
    tests = {test for _, _, test in found}
    assert {test[-9] for test in tests} == {*"01"}
    for test in tests:
        assert len([one for _, _, one in found if one == test]) >= 2


@pytest.mark.long
def test_what_is_said(run: Run, pytester: pytest.Pytester) -> None:
    """Of strides, of busy programs, of a call that waits its turn, of no blocking call's loop."""
    pytester.makeconftest(SOON)
    source = """
from pytest_vdsotime import NotSettled

def test_stride(frozen_clock):
    for _ in programs(frozen_clock):
        asyncio.run(a_part(frozen_clock, 1, stride=1))

def test_busy(frozen_clock):
    with frozen_clock.popen(["sh", "-c", "while :; do :; done"]) as busy:
        for call in frozen_clock.settle, lambda timeout: frozen_clock.jump(5, timeout=timeout):
            with pytest.raises(NotSettled):
                call(timeout=1)
        busy.kill()

def test_busy_thread(frozen_clock):
    code = "import threading, time\\nthreading.Thread(target=time.sleep, args=(9,)).start()\\n"
    code += "def spin():\\n  while True: pass\\nthreading.Thread(target=spin).start()"
    with frozen_clock.popen([sys.executable, "-Sc", code]) as busy:
        with pytest.raises(NotSettled):
            frozen_clock.settle(timeout=1)
        busy.kill()

def test_turn(frozen_clock):
    async def main():
        long = asyncio.create_task(frozen_clock.aio.advance(days=30))
        await asyncio.sleep(0.01)
        short = asyncio.create_task(frozen_clock.aio.move_to(0))
        await asyncio.wait([short], timeout=1)
        long.cancel()
        await short
    for _ in programs(frozen_clock):
        asyncio.run(main())

def test_blocking(frozen_clock):
    async def main():
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            code = "import socket\\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
            code = f"import sys\\n{code}\\ns.setblocking(False)\\nprint('!', flush=True)\\n"
            code += "while True:\\n  try: s.recv(1)\\n  except BlockingIOError: pass"
            command = [sys.executable, "-Sc", code, str(port)]
            with frozen_clock.popen(command, stdout=subprocess.PIPE) as asks:
                asks.stdout.readline()
                with pytest.raises(NotSettled):
                    frozen_clock.advance(1, timeout=1)
                asks.kill()
    asyncio.run(main())
"""
    result = run(MONTH + source)
    result.assert_outcomes(passed=5)
    said = str(result.stderr)
    for line in (
        r"vdsotime: advance\(2592000, stride=1\) has taken \S+ s of real time: .* have passed",
        r"  each stride is a step: a longer stride= takes fewer, jump\(\) one for it all",
        r"vdsotime: settle\(\) has taken \S+ s of real time",
        r"vdsotime: jump\(5\) has taken \S+ s of real time",
        r"  it waits for programs to come to rest: sh \(pid \d+\)",
        r"  it waits for programs to come to rest: python\S* \(pid \d+\)",
        r"vdsotime: move_to\(1970-01-01T00:00:00Z\) has taken \S+ s of real time: it waits for "
        r"another call on this tracer to end",
        r"  python\S* \(pid \d+\) has a connection to the event loop of this thread, which stands "
        r"still meanwhile: await clock\.aio\.advance\(\.\.\.\) and the like let it go on",
    ):
        assert re.search(rf"^{line}", said, re.MULTILINE), said


def test_what_says_nothing(run: Run, pytester: pytest.Pytester) -> None:
    """A jumping clock, programs that are waited for, questions to the clock, short calls."""
    source = """
from pytest_vdsotime import progress

def test_jumps(frozen_clock_factory, monkeypatch):
    clock = frozen_clock_factory(autojump=True)
    for _ in programs(clock):
        monkeypatch.setattr(progress, "FIRST_S", 0.2)
        time.sleep(1)
    clock.run(["sleep", "1d"])

def test_short(frozen_clock, monkeypatch):
    for _ in programs(frozen_clock):
        frozen_clock.advance(10)
        monkeypatch.setattr(progress, "FIRST_S", 0.2)
        frozen_clock.run(["sleep", "1"])
        frozen_clock.waits
"""
    result = run(MONTH + source)
    result.assert_outcomes(passed=2)
    assert "vdsotime:" not in str(result.stderr)


def test_without_pytest(tmp_path: Path) -> None:
    """On the standard error as Python had it at its start."""
    script = tmp_path / "script.py"
    script.write_text(
        f"from pytest_vdsotime import FrozenClock\n{SOON}{MONTH}"
        """
import io
sys.stderr = io.StringIO()
with FrozenClock("2030-01-01") as clock:
    for _ in programs(clock):
        asyncio.run(a_part(clock, 1))
print("over", file=sys.__stderr__, flush=True)
sys.__stderr__ = None
with FrozenClock("2030-01-01") as clock:
    for _ in programs(clock):
        asyncio.run(a_part(clock, 1))
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(f"(?:{LINE}|{START}|{END})+over\n", done.stderr), done.stderr
    assert re.search(LINE, done.stderr), done.stderr
    assert not done.stdout
