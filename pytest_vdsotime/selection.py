"""Which programs are on a clock, by `only` and `skip`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

_MAX_PATTERN = 4096  # as a path (PATH_MAX, linux/limits.h): fnmatch takes the square of its length


def _matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


def check_patterns(value: object, name: str) -> tuple[str, ...] | None:
    """Return the patterns of a parameter. Raises TypeError, naming it."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a list of patterns such as ['redis-*'], not {value!r}")
    patterns = tuple(value)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{name}: a pattern is a string, not {pattern!r}")
        if not pattern:
            raise ValueError(f"{name}: a pattern is not empty; '*' is any program")
        if len(pattern) > _MAX_PATTERN:
            raise ValueError(
                f"{name}: a pattern has at most {_MAX_PATTERN} characters, not {len(pattern)}"
            )
    return patterns


@dataclass(frozen=True, slots=True)
class Selection:
    """The patterns of one clock (fnmatch), of which each may match a program's file name or path.

    A pattern without a slash is of names, as a path begins with one.
    """

    only: tuple[str, ...] | None = None
    """None: all."""
    skip: tuple[str, ...] | None = None
    _only: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _skip: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_only", _matcher(self.only or ()))
        object.__setattr__(self, "_skip", _matcher(self.skip or ()))

    @property
    def is_of_all(self) -> bool:
        """No program is left out."""
        return self.only is None and not self.skip

    def has(self, paths: Sequence[str]) -> bool:
        """Whether a program is on the clock.

        `paths`: of the file that was executed, and of that which the kernel runs for it: a script's
        interpreter, what a link leads to.
        """
        names = [*paths, *(path.rpartition("/")[2] for path in paths)]
        if any(self._skip.match(name) for name in names):
            return False
        return self.only is None or any(self._only.match(name) for name in names)
