"""A clock's verbs awaited: the event loop, and a server of the test's own on it, runs on."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop
from anyio.abc import SocketAttribute, SocketStream

from pytest_vdsotime import (
    ClockClosed,
    FrozenClock,
    FrozenPopen,
    NotSettled,
    UnsupportedProgram,
    faults,
)

# libuv makes a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

BACKENDS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}
START = datetime(2030, 1, 1, tzinfo=UTC)
Run = Callable[[Callable[[], Awaitable[None]]], None]
Start = Callable[[list[str]], FrozenPopen[bytes]]

TEN_A_SECOND = [sys.executable, "-Sc", "import time\nwhile True: time.sleep(0.1)"]
BUSY = ["sh", "-c", "while :; do :; done"]
# Asks a server each second, and is busy until it has the answer.
ASKS = """
import socket, sys, time
family, address = eval(sys.argv[1])
server = socket.socket(family)
server.connect(address)
server.setblocking(False)
while True:
    time.sleep(1)
    server.send(b"?")
    while True:
        try:
            if not server.recv(1):
                sys.exit()
            break
        except BlockingIOError:
            pass
"""


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest) -> Run:
    def run(main: Callable[[], Awaitable[None]]) -> None:
        anyio.run(main, **BACKENDS[request.param])

    return run


@pytest.fixture(params=["asyncio", "uvloop"])
def run_asyncio(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    return asyncio.run if request.param == "asyncio" else uvloop.run


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock(START, monotonic="freeze") as clock:
        yield clock


@pytest.fixture
def start(clock: FrozenClock) -> Iterator[Start]:
    """`start(command)` starts a program that ends with the clock."""
    programs: list[FrozenPopen[bytes]] = []

    def start(command: list[str]) -> FrozenPopen[bytes]:
        programs.append(clock.popen(command))
        return programs[-1]

    yield start
    clock.close()


def asking(address: object) -> list[str]:
    """The command of a program that asks a server."""
    family = 1 if isinstance(address, str) else 2
    return [sys.executable, "-Sc", ASKS, repr((family, address))]


def test_every_verb(clock: FrozenClock, start: Start, run: Run) -> None:
    async def main() -> None:
        await clock.aio.advance(1)  # before the first program too
        sleep = start(["sleep", "1h"])
        await clock.aio.settle()
        await clock.aio.advance(minutes=30)
        await clock.aio.advance(timedelta(minutes=10), stride="1m", timeout=9)
        assert [wait.remaining for wait in clock.waits] == [1200]
        await clock.aio.jump("10m")
        assert [wait.remaining for wait in clock.waits] == [600]
        assert await clock.aio.advance_to_next() == START + timedelta(hours=1, seconds=1)
        assert sleep.wait() == 0
        assert await clock.aio.advance_to_next() is None
        await clock.aio.move_to("2038-01-19")
        assert clock.now == datetime(2038, 1, 19, tzinfo=UTC)
        await clock.aio.move_to(timedelta(days=-1))
        assert clock.now == datetime(2038, 1, 18, tzinfo=UTC)
        await clock.aio.set_rate(60)
        assert clock.rate == 60
        await clock.aio.close()
        await clock.aio.close()
        with pytest.raises(ClockClosed):
            await clock.aio.advance(1)

    run(main)


def test_a_server_in_process(clock: FrozenClock, start: Start, run: Run) -> None:
    """A program asks it each second, and is busy until it is answered: each is."""
    answers = 0

    async def answer(stream: SocketStream) -> None:
        nonlocal answers
        async with stream:
            async for _ in stream:
                answers += 1
                await stream.send(b"!")

    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, answer)
            port = listener.extra(SocketAttribute.local_port)
            program = start(asking(("127.0.0.1", port)))
            await clock.aio.settle()
            await clock.aio.advance(60, timeout=30)
            assert answers == 60
            program.kill()
            group.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_without_await(
    clock: FrozenClock, start: Start, run_asyncio: Callable[[Any], None], tmp_path: Path, kind: str
) -> None:
    """The loop stands still, and with it the server: the error says so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1):
            writer.write(b"!")
        writer.close()
        await writer.wait_closed()
        has_ended.set()

    async def main() -> None:
        address: Any = str(tmp_path / "socket")
        if kind == "unix":
            server = await asyncio.start_unix_server(answer, address)
        else:
            server = await asyncio.start_server(answer, "0.0.0.0", 0)
            address = "127.0.0.1", server.sockets[0].getsockname()[1]
        async with server:
            program = start(asking(address))
            await clock.aio.settle()
            text = rf"still busy .*pid {program.pid}\) has a connection to the event loop of this "
            text += r"thread, which stands still meanwhile: await clock\.aio\.advance\(\.\.\.\)"
            with pytest.raises(NotSettled, match=text):
                clock.advance(5, timeout=0.5)
            assert clock.now < START + timedelta(seconds=2)
            await clock.aio.advance(5, timeout=30)
            program.kill()
            await has_ended.wait()

    has_ended = asyncio.Event()
    run_asyncio(main())


def test_without_await_and_server(
    clock: FrozenClock, start: Start, run_asyncio: Callable[[Any], None]
) -> None:
    """A loop that serves nobody is not spoken of, nor one whose server serves another."""

    async def main() -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
            start(BUSY)
            with pytest.raises(NotSettled) as error:
                clock.advance(5, timeout=0.2)
            assert "aio" not in str(error.value)

    run_asyncio(main())


def test_canceled_in_the_middle_of_a_month(clock: FrozenClock, start: Start, run: Run) -> None:
    async def main() -> None:
        start(TEN_A_SECOND)
        await clock.aio.settle()
        for stride in None, "1s":
            before = clock.now
            with anyio.move_on_after(0.3) as scope:
                await clock.aio.advance(days=30, stride=stride)
            assert scope.cancelled_caught
            at = clock.now
            await clock.aio.settle()  # it may have been on its way to its next wait
            waits = clock.waits
            assert before < at < before + timedelta(days=30)
            assert [wait.syscall for wait in waits] == ["clock_nanosleep"]
            assert 0 < waits[0].remaining <= 0.1
            await anyio.sleep(0.1)
            assert clock.now == at
            await clock.aio.advance(1)
            assert clock.now == at + timedelta(seconds=1)

    run(main)


def test_canceled_though_programs_are_busy(clock: FrozenClock, start: Start, run: Run) -> None:
    async def main() -> None:
        program = start(BUSY)
        for verb in clock.aio.settle, lambda timeout: clock.aio.advance(1, timeout=timeout):
            with anyio.move_on_after(0.1) as scope:
                await verb(1000)
            assert scope.cancelled_caught
        assert clock.now == START
        program.kill()
        await clock.aio.settle()

    run(main)


def test_each_waits_its_turn(clock: FrozenClock, start: Start, run: Run) -> None:
    ends = []

    async def advance(seconds: int) -> None:
        await clock.aio.advance(seconds)
        ends.append(clock.now)

    async def main() -> None:
        start(TEN_A_SECOND)
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(advance, 10)
        assert clock.now == START + timedelta(seconds=100)

    run(main)
    assert len(ends) == 10
    assert ends == sorted(ends)


def test_canceled_before_its_turn(clock: FrozenClock, start: Start, run: Run) -> None:
    async def main() -> None:
        start(TEN_A_SECOND)
        await clock.aio.settle()
        async with anyio.create_task_group() as group:
            group.start_soon(clock.aio.advance, 1000)
            await anyio.sleep(0.01)
            with anyio.move_on_after(0) as scope:
                await clock.aio.advance(86400)
        assert scope.cancelled_caught
        assert clock.now == START + timedelta(seconds=1000)

    run(main)


@pytest.mark.parametrize("how", ["blocking", "awaited"])
def test_closed_meanwhile(clock: FrozenClock, start: Start, run: Run, how: str) -> None:
    ended = []

    async def advance(days: int) -> None:
        with pytest.raises(ClockClosed):
            await clock.aio.advance(days=days)
        ended.append(days)

    async def main() -> None:
        start(TEN_A_SECOND)
        await clock.aio.settle()
        async with anyio.create_task_group() as group:
            group.start_soon(advance, 30)
            group.start_soon(advance, 31)
            await anyio.sleep(0.1)
            if how == "awaited":
                await clock.aio.close()
            else:
                clock.close()

    run(main)
    assert sorted(ended) == [30, 31]


def test_close_is_not_canceled(clock: FrozenClock, start: Start, run: Run) -> None:
    async def main() -> None:
        start(["sleep", "1h"])
        with anyio.CancelScope() as scope:
            scope.cancel()
            await clock.aio.close()
        assert scope.cancelled_caught
        assert not [one for one in threading.enumerate() if one.name == "vdsotime-close"]
        with pytest.raises(ClockClosed):
            clock.time()

    run(main)


def test_the_clocks_own_errors(clock: FrozenClock, start: Start, run: Run) -> None:
    async def main() -> None:
        program = start(BUSY)
        with pytest.raises(NotSettled, match="still busy after 0.1 s"):
            await clock.aio.settle(timeout=0.1)
        with pytest.raises(NotSettled):
            await clock.aio.jump(1, timeout=0.1)
        program.kill()
        with pytest.raises(ValueError, match="backwards"):
            await clock.aio.advance(-1)
        with pytest.raises(TypeError):
            await clock.aio.advance()
        with pytest.raises(ValueError, match="year"):
            await clock.aio.advance(days=4_000_000)
        with pytest.raises(ValueError, match="timeout"):
            await clock.aio.settle(timeout=0)
        with pytest.raises(ValueError, match="rate"):
            await clock.aio.set_rate(-1)
        with pytest.raises(ValueError, match="'soon'"):
            await clock.aio.move_to("soon")

    run(main)


def test_what_is_still_to_be_told(clock: FrozenClock, start: Start, run: Run) -> None:
    """Of a program that was killed unseen."""

    def fail(pid: int) -> None:
        raise OSError("for a test")

    async def main() -> None:
        start(["sleep", "1"])
        await clock.aio.settle()
        with faults.injected("wait", fail), pytest.raises(UnsupportedProgram, match="for a test"):
            await clock.aio.advance(1)

    run(main)


@pytest.mark.parametrize("has_program", [False, True])
def test_without_a_loop(clock: FrozenClock, start: Start, has_program: bool) -> None:
    if has_program:
        start(["sleep", "1h"])
    for verb in (
        *(clock.aio.advance(1), clock.aio.jump(1), clock.aio.advance_to_next()),
        *(clock.aio.settle(), clock.aio.move_to(0), clock.aio.set_rate(1), clock.aio.close()),
    ):
        with pytest.raises(RuntimeError, match="awaited in a running event loop"):
            verb.send(None)
    assert clock.now == START


def test_a_loop_that_ends_before(clock: FrozenClock, start: Start) -> None:
    """What a loop leaves to itself is canceled, with nobody to hear of it."""
    loop = asyncio.new_event_loop()
    start(TEN_A_SECOND)

    async def main() -> None:
        advance = clock.aio.advance(days=30)
        advance.send(None)
        advance.close()

    loop.run_until_complete(main())
    loop.close()
    clock.settle()
    assert clock.now < START + timedelta(days=30)
    at = clock.now
    clock.advance(1)
    assert clock.now == at + timedelta(seconds=1)


def test_several_loops(clock: FrozenClock, start: Start) -> None:
    """Of several threads, and of two kinds."""
    start(TEN_A_SECOND)

    async def main() -> None:
        for _ in range(5):
            await clock.aio.advance(10)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    trio = threading.Thread(target=anyio.run, args=(main,), kwargs=BACKENDS["trio"])
    threads.append(trio)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now == START + timedelta(seconds=200)


def test_interrupted(clock: FrozenClock, start: Start) -> None:
    """Ctrl-C stops the blocking form too."""
    start(TEN_A_SECOND)
    clock.settle()

    def interrupt() -> None:
        while clock.now < START + timedelta(seconds=1):
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        clock.advance(days=30)
    thread.join()
    clock.settle()
    at = clock.now
    assert START < at < START + timedelta(days=30)
    clock.advance(1)
    assert clock.now == at + timedelta(seconds=1)
