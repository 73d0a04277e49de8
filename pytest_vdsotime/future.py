"""Future: an answer from one thread to others, and to those that await it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Future(Generic[T]):
    """What one thread waits for and another gives, once."""

    __slots__ = "_error", "_gate", "_is_given", "_lock", "_then", "_value"

    def __init__(self) -> None:
        self._gate = threading.Lock()  # costs less than an Event
        self._gate.acquire()
        self._is_given = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._then: list[Callable[[], None]] = []

    def _end(self, value: T | None, error: BaseException | None) -> None:
        with self._lock:
            if self._is_given:
                return
            self._value, self._error, self._is_given = value, error, True
            callbacks, self._then = self._then, []
            self._gate.release()
        for callback in callbacks:
            callback()

    def then(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the answer is there: on the answering thread, or at once."""
        with self._lock:
            if not self._is_given:
                self._then.append(callback)
                return
        callback()

    def give(self, value: T) -> None:
        """End the waiting. A second answer is ignored: the first one stands."""
        self._end(value, None)

    def fail(self, error: BaseException) -> None:
        """End the waiting with an exception."""
        self._end(None, error)

    def is_given(self) -> bool:
        """Whether the answer is there."""
        return self._is_given

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` real seconds; return whether the answer is there."""
        if not self._is_given:
            if not self._gate.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
                return False
            self._gate.release()  # for others that wait
        return True

    def result(self) -> T:
        """Wait for the answer; raise what `fail` was given."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]
