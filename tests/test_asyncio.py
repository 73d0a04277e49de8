"""asyncio's subprocesses on a clock, by the clock's own functions and by patched ones."""

from __future__ import annotations

import asyncio
import signal
import threading
from asyncio import unix_events
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from pytest_vdsotime import ClockClosed, FrozenClock

# libuv makes a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

Start = Callable[..., Coroutine[Any, Any, Process]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[FrozenClock]:
    """A clock, while no child watcher of asyncio's may be used: it would wait for the pid."""

    def refuse(*_: object) -> None:
        raise AssertionError("a child watcher is used")

    names = [name for name in vars(unix_events) if name.endswith("ChildWatcher")]
    assert names
    for name in names:
        monkeypatch.setattr(getattr(unix_events, name), "add_child_handler", refuse)
    with FrozenClock("1999-12-31T23:59:59Z") as clock:
        yield clock


@pytest.fixture(params=["own", "patched"])
def functions(request: pytest.FixtureRequest, clock: FrozenClock) -> Iterator[tuple[Start, Start]]:
    """(create_subprocess_exec, create_subprocess_shell)"""
    if request.param == "own":
        yield clock.create_subprocess_exec, clock.create_subprocess_shell
    else:
        with clock.patch_subprocess():
            yield asyncio.create_subprocess_exec, asyncio.create_subprocess_shell


def test_streams_and_statuses(functions: tuple[Start, Start], clock: FrozenClock) -> None:
    create_exec, create_shell = functions

    async def main() -> None:
        date = await create_exec("date", "-u", "+%F %T", stdout=PIPE)
        assert type(date) is Process
        assert (await date.communicate())[0] == b"1999-12-31 23:59:59\n"
        assert date.returncode == 0

        reader = await create_shell(
            'while read word; do echo "$word $(date -u +%Y)"; done; echo end >&2; exit 7',
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        assert reader.stdin and reader.stdout and reader.stderr
        assert reader.pid in [process.pid for process in clock.processes]
        for seconds, year in ((0, b"1999"), (1, b"2000")):
            clock.advance(seconds)
            reader.stdin.write(b"now\n")
            await reader.stdin.drain()
            assert await reader.stdout.readline() == b"now " + year + b"\n"
        assert reader.returncode is None
        reader.stdin.close()
        assert await reader.stderr.read() == b"end\n"
        assert await reader.wait() == 7

        much = b"x" * 300_000
        cat = await create_exec("cat", stdin=PIPE, stdout=PIPE)
        assert (await cat.communicate(much))[0] == much

    asyncio.run(main(), debug=True)


def test_mistakes_are_asyncios(functions: tuple[Start, Start], clock: FrozenClock) -> None:
    create_exec, create_shell = functions

    async def main() -> None:
        for keywords in ({"text": True}, {"bufsize": 1}, {"shell": True}):
            with pytest.raises(ValueError, match="must be"):
                await create_exec("date", **keywords)
        with pytest.raises(ValueError, match="cmd must be a string"):
            await create_shell(["date"])
        with pytest.raises(FileNotFoundError) as caught:
            await create_exec("/no/such/program", stdin=PIPE, stdout=PIPE)
        assert caught.value.filename == "/no/such/program"
        limited = await create_exec("echo", "x" * 100, stdout=PIPE, limit=10)
        assert limited.stdout
        with pytest.raises(ValueError, match="chunk is longer than limit"):
            await limited.stdout.readline()
        assert await limited.wait() == 0

    asyncio.run(main())
    assert not clock.processes


def test_waits_and_signals(functions: tuple[Start, Start], clock: FrozenClock) -> None:
    create_exec, _ = functions

    async def main() -> None:
        sleeps = [await create_exec("sleep", "1h") for _ in range(4)]
        ends = [asyncio.create_task(sleep.wait()) for sleep in sleeps]
        sleeps[0].terminate()
        sleeps[1].kill()
        sleeps[2].send_signal(signal.SIGUSR1)
        wanted = [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGUSR1]
        assert await asyncio.gather(*ends[:3]) == wanted
        await asyncio.to_thread(clock.advance, hours=1)
        assert await ends[3] == 0

    asyncio.run(main())


def test_cancellation(functions: tuple[Start, Start], clock: FrozenClock) -> None:
    create_exec, _ = functions

    async def main() -> None:
        starting = asyncio.create_task(create_exec("sleep", "1h", stdin=PIPE, stdout=PIPE))
        await asyncio.sleep(0)
        (process,) = clock.processes
        assert process.argv == ["sleep", "1h"]
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not clock.processes

        sleep = await create_exec("sleep", "1h", stdout=PIPE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleep.communicate(), 0)
        assert sleep.returncode is None
        sleep.kill()
        assert (await sleep.communicate())[0] == b""
        assert sleep.returncode == -signal.SIGKILL

    asyncio.run(main())


def test_protocols_of_a_loop(clock: FrozenClock) -> None:
    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self) -> None:
            self.output = b""
            self.ended = asyncio.get_running_loop().create_future()

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            self.output += data

        def connection_lost(self, exc: Exception | None) -> None:
            self.ended.set_result(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(Protocol, "date", "-u", "+%Y")
        assert await protocol.ended is None
        assert (protocol.output, transport.get_returncode()) == (b"1999\n", 0)
        transport.close()

    with clock.patch_subprocess():
        asyncio.run(main())


def test_loops_in_threads(clock: FrozenClock) -> None:
    years: list[bytes] = []

    async def main() -> None:
        for _ in range(5):
            dates = [
                await clock.create_subprocess_exec("date", "-u", "+%Y", stdout=PIPE)
                for _ in range(2)
            ]
            for output, _ in await asyncio.gather(*(date.communicate() for date in dates)):
                years.append(output)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert years == [b"1999\n"] * 30


def test_the_clock_is_closed_meanwhile(clock: FrozenClock) -> None:
    async def main() -> None:
        pipes: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE}
        cat = await clock.create_subprocess_exec("cat", **pipes)
        clock.close()
        assert (await cat.communicate())[0] == b""
        assert cat.returncode == -signal.SIGKILL
        with pytest.raises(ClockClosed):
            await clock.create_subprocess_exec("date")

    asyncio.run(main())


def test_a_loop_that_has_ended(clock: FrozenClock) -> None:
    """What it left to itself is the clock's to end."""

    async def main() -> Process:
        return await clock.create_subprocess_exec("sleep", "1h", stdin=DEVNULL)

    loop = asyncio.new_event_loop()
    sleep = loop.run_until_complete(main())
    loop.close()
    (process,) = clock.processes
    assert process.pid == sleep.pid
    clock.close()
    sleep._transport.close()  # type: ignore[attr-defined]


def test_uvloop(functions: tuple[Start, Start]) -> None:
    create_exec, create_shell = functions

    async def main() -> None:
        date = await create_exec("date", "-u", "+%Y", stdout=PIPE)
        assert (await date.communicate())[0] == b"1999\n"
        cat = await create_shell("cat; exit 3", stdin=PIPE, stdout=PIPE)
        assert (await cat.communicate(b"text"))[0] == b"text"
        assert cat.returncode == 3

    uvloop.run(main())
