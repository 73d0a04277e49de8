"""What moves a clock or settles its programs: each verb once, and to be awaited.

`FrozenClock` has the blocking forms. `AsyncVerbs`, its `aio`, needs no thread of its own for them:
the tracer is one, and says when it is done to asyncio's event loop or trio's.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

from pytest_vdsotime import instants, timeline
from pytest_vdsotime.instants import Instant, Span, TimedeltaKeywords
from pytest_vdsotime.options import check_timeout
from pytest_vdsotime.session import Asked, ClockSession, Verb
from pytest_vdsotime.timeline import Lines, Rate, now_ns

if TYPE_CHECKING:
    from types import EllipsisType

    from pytest_vdsotime.future import Future
    from pytest_vdsotime.tracer.operations import Operations
    from pytest_vdsotime.tracer.state import ClockState

T = TypeVar("T")
_Transform = Callable[[Lines, int], Lines]

SETTLE_TIMEOUT_S = 5.0
_NO_LOOP = (
    "clock.aio is awaited in a running event loop, asyncio's or trio's; without one call the "
    "clock itself, as clock.advance(...)"
)


def advance(
    session: ClockSession,
    delta: Span | None,
    keywords: TimedeltaKeywords,
    stride: Span | EllipsisType | None,
    timeout: float,
) -> Verb[None]:
    """Time passes. Raises TypeError, ValueError."""
    span_ns = instants.parse_delta(delta, keywords)
    stride_ns = session.stride_ns if stride is ... else instants.parse_stride(stride)
    call = f"{span_ns / timeline.NS_PER_S:.12g}"
    advice = 'each deadline is a step: stride="1h" takes one for an hour, jump() one for it all'
    if stride_ns is not None:
        call += f", stride={stride_ns / timeline.NS_PER_S:.12g}"
        advice = "each stride is a step: a longer stride= takes fewer, jump() one for it all"
    return _passing(f"advance({call})", span_ns, stride_ns, timeout, advice)


def jump(delta: Span | None, keywords: TimedeltaKeywords, timeout: float) -> Verb[None]:
    """As `advance`, in one stride."""
    span_ns = instants.parse_delta(delta, keywords)
    call = f"jump({span_ns / timeline.NS_PER_S:.12g})"
    return _passing(call, span_ns, span_ns or None, timeout)


def _passing(
    call: str, span_ns: int, stride_ns: int | None, timeout: float, advice: str = ""
) -> Verb[None]:
    check_timeout(timeout)
    return Verb(
        call,
        lambda operations, world: operations.advance(world, span_ns, timeout, stride_ns),
        lambda lines, host_ns: lines.advanced(host_ns, span_ns),
        advice,
    )


def advance_to_next() -> Verb[datetime | None]:
    """To the earliest deadline; the wall line's reading there, None if there is none."""

    def operation(operations: Operations, world: ClockState) -> datetime | None:
        if not operations.advance_to_next(world, SETTLE_TIMEOUT_S):
            return None
        return timeline.to_datetime(world.page.lines.wall.at(now_ns()))

    return Verb("advance_to_next()", operation)


def settle(timeout: float) -> Verb[None]:
    """Every thread is to be blocked. Raises ValueError."""
    check_timeout(timeout)
    return Verb("settle()", lambda operations, world: operations.rest(world, timeout))


def move_to(session: ClockSession, when: Instant) -> Verb[None]:
    """Set the wall line. Raises TypeError, ValueError, ClockClosed."""
    wall_ns = None
    if isinstance(when, (timedelta, str)):
        session.check_open()
        session.asks()
        wall_ns = session.wall_ns()
    instant_ns = instants.parse_instant(when, wall_ns)
    return _setting(
        f"move_to({instants.format_instant(instant_ns)})",
        lambda lines, host_ns: lines.moved_to(host_ns, instant_ns),
        is_set=True,
    )


def set_rate(value: float) -> Verb[None]:
    """Have the wall line go on at another rate. Raises TypeError, ValueError."""
    rate = Rate.of(value)
    return _setting(f"rate = {value:g}", lambda lines, host_ns: lines.at_rate(host_ns, rate))


def _setting(call: str, transform: _Transform, is_set: bool = False) -> Verb[None]:
    return Verb(
        call,
        lambda operations, world: operations.set(world, transform, SETTLE_TIMEOUT_S, is_set=is_set),
        transform,
    )


# --- awaited -------------------------------------------------------------------------------------


class AsyncVerbs:
    """A clock's verbs for async tests, by `FrozenClock.aio`.

    In a test of pytest-asyncio or anyio::

        async def test_expiry(frozen_clock):
            await frozen_clock.aio.advance(hours=1)

    The event loop runs on meanwhile, and with it a server of the test's own that programs on the
    clock ask. Each takes and raises what the clock's own does. Calls at one time wait their turn. A
    call whose task is cancelled stops at the next deadline: the clock stays where it got to. Under
    asyncio, with any event loop, and trio; RuntimeError elsewhere.
    """

    def __init__(self, session: ClockSession) -> None:
        self._session = session

    async def advance(
        self,
        delta: Span | None = None,
        /,
        *,
        stride: Span | EllipsisType | None = ...,
        timeout: float = 5.0,
        **timedelta_kwargs: Unpack[TimedeltaKeywords],
    ) -> None:
        """Time passes: see `FrozenClock.advance`."""
        await self._perform(advance(self._session, delta, timedelta_kwargs, stride, timeout))

    async def jump(
        self,
        delta: Span | None = None,
        /,
        *,
        timeout: float = 5.0,
        **timedelta_kwargs: Unpack[TimedeltaKeywords],
    ) -> None:
        """Jump on, as if the machine had slept for that long: see `FrozenClock.jump`."""
        await self._perform(jump(delta, timedelta_kwargs, timeout))

    async def advance_to_next(self) -> datetime | None:
        """On to the earliest pending deadline: see `FrozenClock.advance_to_next`."""
        return await self._perform(advance_to_next())

    async def settle(self, timeout: float = SETTLE_TIMEOUT_S) -> None:
        """Return when every traced thread is blocked or stopped: see `FrozenClock.settle`."""
        await self._perform(settle(timeout))

    async def move_to(self, when: Instant) -> None:
        """Set the clock: see `FrozenClock.move_to`."""
        await self._perform(move_to(self._session, when))

    async def set_rate(self, rate: float) -> None:
        """Have the wall line go on at this rate: what setting `FrozenClock.rate` does."""
        await self._perform(set_rate(rate))

    async def close(self) -> None:
        """Close the clock: see `FrozenClock.close`. It ends before it is cancelled."""
        wait = _waiting()
        if not self._session.has_started:
            self._session.close()
            return
        from pytest_vdsotime.future import Future

        closed: Future[None] = Future()

        def close() -> None:
            try:
                self._session.close()
                closed.give(None)
            except BaseException as error:
                closed.fail(error)

        thread = threading.Thread(target=close, name="vdsotime-close")
        thread.start()
        try:
            await wait(closed)
        finally:
            thread.join()
        closed.result()

    async def _perform(self, verb: Verb[T]) -> T | None:
        wait = _waiting()
        with self._session.asking(verb) as asked:
            if asked is None:
                return None
            await wait(asked.answer, asked)
            found = asked.answer.result()
        self._session.raise_news()
        return found


class _Waiting(Protocol):
    """How a task waits for an answer, which it may cancel."""

    async def __call__(self, answer: Future[Any], asked: Asked[Any] | None = None) -> None:
        """Return when it is there, though the task may have been cancelled before."""


def _waiting() -> _Waiting:
    """Return how the task that runs now waits. Raises RuntimeError if none does."""
    trio, asyncio = sys.modules.get("trio"), sys.modules.get("asyncio")
    if trio is not None:
        with suppress(RuntimeError, AttributeError):  # another thread may just import it
            trio.lowlevel.current_task()
            return _wait_in_trio
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return _wait_in_asyncio
    raise RuntimeError(_NO_LOOP)


async def _wait_in_asyncio(answer: Future[Any], asked: Asked[Any] | None = None) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    given: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(given.set_result, None)

    answer.then(tell)
    canceled: asyncio.CancelledError | None = None
    while not given.done():
        try:
            done, _ = await asyncio.wait([given], timeout=asked.pause_s if asked else None)
        except asyncio.CancelledError as error:
            if canceled is None and asked is not None:
                asked.cancel()
            canceled = canceled or error
            continue
        if not done and asked is not None:
            asked.speak()
    if canceled is not None:
        raise canceled


async def _wait_in_trio(answer: Future[Any], asked: Asked[Any] | None = None) -> None:
    trio: Any = sys.modules["trio"]
    given, token = trio.Event(), trio.lowlevel.current_trio_token()

    def tell() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(given.set)

    answer.then(tell)
    try:
        while not given.is_set():
            pause_s = asked.pause_s if asked is not None else None
            with trio.move_on_after(math.inf if pause_s is None else pause_s):
                await given.wait()
            if asked is not None and not given.is_set():
                asked.speak()
    except trio.Cancelled:
        if asked is not None:
            asked.cancel()
        with trio.CancelScope(shield=True):
            await given.wait()
        raise
