"""The tracer thread: its inbox, its first failure, its end.

ptrace belongs to the thread that attached, so one thread does all of it, and other threads ask it
by actions in its inbox. It sleeps in waitpid; waker.py tells how it is woken. No wake-up is
lost: what is asked stands in the inbox before the bell is rung.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from pytest_vdsotime import faults
from pytest_vdsotime.arch import host_arch
from pytest_vdsotime.availability import known_obstacle
from pytest_vdsotime.errors import ClockClosed, TracingUnavailable, VdsoTimeError
from pytest_vdsotime.future import Future
from pytest_vdsotime.kernel.spawn import Gate, PendingSpawns, Spawn
from pytest_vdsotime.tracer.loop import Loop
from pytest_vdsotime.tracer.operations import Autojump, Canceled, Operations
from pytest_vdsotime.tracer.takeover.native import NativeObjects
from pytest_vdsotime.tracer.waker import CHILD_COMES, INTERRUPT, RING, Waker, watch

T = TypeVar("T")


class Tracer:
    """One tracer thread for any number of clocks. It starts with the first program.

    Usable from any thread. After `os.fork` the child's copy raises ClockClosed.
    """

    def __init__(self, *, is_native: bool = True) -> None:
        """`is_native`.

        The native code handles by itself the stops that it can; else Python handles every one.
        """
        self._is_native = is_native
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._native: NativeObjects | None = None
        self._thread: threading.Thread | None = None
        self._waker: Waker | None = None
        self._inbox: deque[tuple[Callable[[Loop], None], Future[Any]]] = deque()
        self._pending_spawns = PendingSpawns()
        self._starting: dict[Spawn, tuple[Callable[[Loop], None], Future[Any]]] = {}
        self._gates: dict[Gate, Callable[[Loop], None]] = {}
        self._unanswered: set[Future[Any]] = set()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._operations: Operations
        self._under_way: Future[Any] | None = None

    def load(self) -> NativeObjects:
        """Read the native objects, checked against this machine.

        Raises TracingUnavailable.
        """
        with self._lock:
            if self._native is None:
                obstacle = known_obstacle()
                if obstacle is not None:
                    raise TracingUnavailable(*obstacle)
                self._native = NativeObjects.load(host_arch())
            return self._native

    def start(self) -> None:
        """Start the thread and its waker, if that was not done yet.

        Raises TracingUnavailable, within a second, where tracing is refused.
        """
        self.check_usable()
        native = self.load()
        with self._lock:
            if self._thread is not None:
                return
            ready: Future[None] = Future()
            thread = threading.Thread(
                target=self._main, args=(native, ready), name="vdsotime-tracer", daemon=True
            )
            thread.start()
            try:
                ready.result()
            except BaseException:
                thread.join()
                raise
            self._thread = thread

    def check_usable(self) -> None:
        """Raise ClockClosed after close or in a forked child, VdsoTimeError after a failure."""
        if os.getpid() != self._owner:
            raise ClockClosed(
                "this clock belongs to the parent process: after os.fork(), make a new one"
            )
        if self._failure is not None:
            raise self._failed() from self._failure
        if self._ended.is_set():
            raise ClockClosed("the tracer is closed")

    def _failed(self) -> VdsoTimeError:
        return VdsoTimeError(f"the tracer failed, and its programs were killed: {self._failure!r}")

    def post(self, action: Callable[[Loop], None], *answers: Future[Any]) -> None:
        """Has `action` run on the tracer thread, soon.

        Every one of `answers` gets an answer: by the tracer in its time, or a failure: what
        `action` raises, or that the tracer has failed or was closed.
        """
        self._unanswered.update(answers)
        self._inbox.append((action, answers[0]))
        if self._ended.is_set():
            self._fail_unanswered()
        elif self._waker is not None:
            self._waker.ring()

    def announce(
        self,
        spawn: Spawn,
        action: Callable[[Loop], None],
        *answers: Future[Any],
        is_native: bool = True,
    ) -> int:
        """Return a thread of this process is about to start a child. Returns the pid of the waker.

        `action` runs on the tracer thread when the child is born; as for the answers, see `post`.
        Unless `is_native` it does so before the child's program begins.
        """
        if faults.armed:
            faults.reach("announce", 0)
        self._unanswered.update(answers)
        self._starting[spawn] = action, answers[0]
        if is_native:
            self._pending_spawns.offer(spawn)
        else:
            spawn.have_ring_by(RING)
        waker = self._waker
        assert waker is not None
        if self._ended.is_set():
            self._fail_unanswered()
        elif is_native:
            waker.ring(CHILD_COMES)
        return waker.pid

    def withdraw(self, spawn: Spawn, *answers: Future[Any]) -> None:
        """There will be no child; nothing if there is one."""
        if not spawn.pid:
            del self._starting[spawn]
            self._pending_spawns.withdraw(spawn)
            self._unanswered.difference_update(answers)

    def open_gate(self, gate: Gate, action: Callable[[Loop], None]) -> None:
        """Have `action` run on the tracer thread for each process that waits at a gate."""

        def add(_loop: Loop) -> None:
            self._gates[gate] = action
            if self._waker is not None:
                gate.open(self._waker.pid)

        self.call(add)

    def close_gate(self, gate: Gate) -> None:
        """Undo `open_gate`."""

        def close(_loop: Loop) -> None:
            del self._gates[gate]
            gate.close()

        try:
            self.call(close)
        except VdsoTimeError:  # the tracer has ended
            gate.close()

    def call(self, action: Callable[[Loop], T]) -> T:
        """Run `action` on the tracer thread and return or raise what it does."""
        self.check_usable()
        future: Future[T] = Future()
        self.post(lambda loop: future.give(action(loop)), future)
        try:
            return future.result()
        finally:
            self.forget(future)

    def call_later(self, action: Callable[[Loop], T]) -> T:
        """As `call`, once no stop is being handled."""
        self.check_usable()
        future: Future[T] = Future()

        def answer(loop: Loop) -> None:
            try:
                future.give(action(loop))
            except Exception as error:
                future.fail(error)

        self.post(lambda loop: loop.later.append(partial(answer, loop)), future)
        try:
            return future.result()
        finally:
            self.forget(future)

    def operate(self, operation: Callable[[Operations], T]) -> T:
        """Run `operation` on the tracer thread, once no stop is being handled."""
        future = self.begin(operation)
        try:
            return future.result()
        finally:
            self.forget(future)

    def begin(self, operation: Callable[[Operations], T]) -> Future[T]:
        """As `operate`, without waiting for the answer, which is to be forgotten in the end.

        Operations wait their turn.
        """
        self.check_usable()
        future: Future[T] = Future()

        def run() -> None:
            if future.is_given():
                return  # it was canceled before its turn
            self._under_way = future
            try:
                future.give(self._operations.run(operation))
            except Exception as error:
                future.fail(error)
            finally:
                self._under_way = None

        self.post(lambda loop: loop.later.append(run), future)
        return future

    def is_under_way(self, future: Future[Any]) -> bool:
        """Whether an operation that has begun has had its turn, and not ended."""
        return future is self._under_way

    def cancel(self, future: Future[Any]) -> None:
        """Have an operation stop at the next deadline, or not begin; its answer soon comes."""

        def stop(_loop: Loop) -> None:
            if self.is_under_way(future):
                self._operations.cancel()
            else:
                future.fail(Canceled())

        self.post(stop, future)

    def forget(self, future: Future[Any]) -> None:
        """Nobody waits for `reply` any more."""
        self._unanswered.discard(future)

    def close(self) -> None:
        """End the thread; whatever is still traced is killed. Idempotent."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self.post(lambda loop: setattr(loop, "is_done", True), Future())
            thread.join()
        self._ended.set()

    # --- on the thread ---------------------------------------------------------------------------

    def _main(self, native: NativeObjects, ready: Future[None]) -> None:
        # Signals for this process are for its other threads. But SIGCHLD, which every stop sends to
        # its tracer: while nobody handles it, it is dropped at once where it is not blocked, and
        # else wakes up another thread to be dropped there (prepare_signal, kernel/signal.c).
        kept = {INTERRUPT}
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL:
            kept.add(signal.SIGCHLD)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - kept)
        try:
            if faults.armed:
                faults.reach("start", 0)
            waker = self._waker = Waker(native.waker)
        except BaseException as error:
            ready.fail(error)
            return
        watcher = threading.Thread(
            target=watch,
            args=(waker, threading.current_thread(), self._ended),
            name="vdsotime-watch",
            daemon=True,
        )
        try:
            watcher.start()
        except RuntimeError as error:  # "can't start new thread"
            waker.close()
            ready.fail(OSError(errno.EAGAIN, f"starting the tracer's second thread: {error}"))
            return
        try:
            loop = Loop(
                *(native, waker, self._pending_spawns, self._is_native),
                rung=lambda: self._empty_inbox(loop),
                child_came=lambda pid: self._let_in(loop, pid),
            )
        except BaseException as error:
            self._ended.set()
            waker.close()
            watcher.join()
            ready.fail(error)
            return
        self._operations = Operations(loop)
        ready.give(None)
        try:
            loop.run(Autojump(loop, self._operations))
        except BaseException as error:
            self._failure = error
        # When this thread ends, every tracee is killed (PTRACE_O_EXITKILL), but not reaped.
        for end in (loop.stops.kill_all, loop.timers.close):
            try:
                end(loop.worlds)
            except Exception as error:
                self._failure = self._failure or error
        for gate in tuple(self._gates):
            gate.close() if self._failure is None else gate.fail()
        self._ended.set()
        waker.close()
        self._fail_unanswered()
        watcher.join()

    def _empty_inbox(self, loop: Loop) -> None:
        while self._inbox:
            _act(loop, *self._inbox.popleft())
        for spawn in tuple(self._starting):
            if spawn.is_taken:
                continue
            spawn.have_ring()
            if spawn.pid:
                self._pending_spawns.withdraw(spawn)
                _act(loop, *self._starting.pop(spawn))

        for gate, action in tuple(self._gates.items()):
            if self._waker is not None:
                gate.open(self._waker.pid)
            if gate.is_waiting:
                _act(loop, action, Future())

    def _let_in(self, loop: Loop, pid: int) -> None:
        """Let in a child that the fast path has taken."""
        self._pending_spawns.forget_withdrawn()
        spawn = next(one for one in tuple(self._starting) if one.is_taken and one.pid == pid)
        _act(loop, *self._starting.pop(spawn))

    def _fail_unanswered(self) -> None:
        for spawn in tuple(self._starting):
            if pid := spawn.cancel():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for future in tuple(self._unanswered):
            future.fail(
                ClockClosed("the tracer is closed") if self._failure is None else self._failed()
            )
        self._unanswered.clear()


def _act(loop: Loop, action: Callable[[Loop], None], answer: Future[Any]) -> None:
    try:
        action(loop)
    except Exception as error:
        answer.fail(error)
