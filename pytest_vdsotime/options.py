"""PARAMETERS: the parameters of a clock, one row each.

The constructor's checks, the marker, the ini options and the command line are made from the rows.

The plugin imports this at every start of pytest: what is heavier is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import TIMEOUT_MAX
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

if TYPE_CHECKING:
    from pytest_vdsotime.instants import Instant, Span
    from pytest_vdsotime.timeline import Rate


class ClockParameters(TypedDict, total=False):
    """The keywords of `FrozenClock`."""

    rate: float
    monotonic: str
    waits: str
    autojump: bool | float
    stride: Span | None
    grace: float
    patience: float
    python: bool
    only: Iterable[str] | None
    skip: Iterable[str] | None
    files: str


class Options(NamedTuple):
    """What a clock starts with, checked."""

    start: Instant
    rate: Rate
    monotonic: str
    waits: str
    jump_after_ns: int | None
    """None for a clock that does not jump."""
    stride_ns: int | None
    grace_ns: int
    patience_ns: int
    python: bool
    only: tuple[str, ...] | None
    skip: tuple[str, ...] | None
    files: str


class Parameter(NamedTuple):
    """One parameter of `FrozenClock`."""

    name: str
    default: object
    check: Callable[[Any], object]
    """Return the value for Options. Raises TypeError, ValueError, ImportError."""
    option: str = ""
    """The field of Options, where that has another name, with its unit."""
    ini: str = ""
    """The help of the ini option, where there is one."""
    ini_key: str = ""
    """Its key, where that is not ``vdso_`` and the name."""
    from_ini: Callable[[str], object] = str
    """Return the value that a text stands for. Raises ValueError."""
    flag: str = ""
    """The option of the command line, where there is one."""
    words: str = ""
    """What its value is, where that is not any text."""
    argument: Mapping[str, Any] = MappingProxyType({})
    """The keywords of `argparse.ArgumentParser.add_argument` for it."""

    @property
    def key(self) -> str:
        """The key of the ini option."""
        return self.ini_key or f"vdso_{self.name}"

    @property
    def usage(self) -> str:
        """The option of the command line as a line of usage has it."""
        values = self.argument.get("metavar") or "|".join(self.argument.get("choices", ()))
        more = "..." if self.is_repeated else ""
        one = f"{self.flag}[={values}]" if self.is_value_optional else f"{self.flag} {values}"
        return f"[{one}]{more}"

    @property
    def is_value_optional(self) -> bool:
        """Whether the option may stand alone: a value comes behind ``=`` then, not as a word."""
        return self.argument.get("nargs") == "?"

    @property
    def is_repeated(self) -> bool:
        """Whether the option may be given again, each time with one value of a list."""
        return self.argument.get("action") == "append"

    def from_shell(self, text: str) -> object:
        """Return the value that a text of the command line stands for. Raises ValueError."""
        choices = self.argument.get("choices")
        if choices and text not in choices:
            raise ValueError(f"{text!r} is not {', '.join(choices[:-1])} or {choices[-1]}")
        if self.is_repeated:
            return text
        try:
            return self.from_ini(text)
        except ValueError:
            raise ValueError(f"{text!r} is not {self.words or 'what it takes'}") from None


def _start(value: Any) -> Instant:
    from pytest_vdsotime.instants import parse_instant

    parse_instant(value)
    return value  # type: ignore[no-any-return]


def _rate(value: Any) -> Rate:
    from pytest_vdsotime.timeline import Rate

    return Rate.of(value)


def _monotonic(value: Any) -> str:
    if value not in ("flow", "freeze", "rate"):
        raise ValueError(f"monotonic is 'flow', 'freeze' or 'rate', not {value!r}")
    return str(value)


def _waits(value: Any) -> str:
    if value not in ("follow", "real"):
        raise ValueError(f"waits is 'follow' or 'real', not {value!r}")
    return str(value)


def _files(value: Any) -> str:
    if value not in ("real", "follow"):
        raise ValueError(f"files is 'real' or 'follow', not {value!r}")
    return str(value)


def _autojump(value: Any) -> int | None:
    from pytest_vdsotime.timeline import seconds_to_ns

    if not isinstance(value, (bool, int, float)):
        raise TypeError(f"autojump is a bool or a number of real seconds, not {value!r}")
    if isinstance(value, bool):
        return 0 if value else None
    if not 0 <= value < float("inf"):
        raise ValueError(f"autojump is finite and not negative, not {value!r}")
    return seconds_to_ns(value, "autojump")


def _autojump_from_ini(text: str) -> bool | float:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    word = words.get(text.lower())
    return float(text) if word is None else word


def _stride(value: Any) -> int | None:
    from pytest_vdsotime.instants import parse_stride

    return parse_stride(value)


def _grace(value: Any) -> int:
    from pytest_vdsotime.timeline import seconds_to_ns

    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"grace is a number of seconds, not {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"grace is finite and not negative, not {value!r}")
    return seconds_to_ns(value, "grace")


def _patience(value: Any) -> int:
    from pytest_vdsotime.timeline import seconds_to_ns

    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"patience is a number of real seconds, not {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"patience is finite and not negative, not {value!r}")
    return seconds_to_ns(value, "patience")


def _words(text: str) -> list[str]:
    import shlex

    return shlex.split(text)


def _patterns(name: str, value: Any) -> tuple[str, ...] | None:
    from pytest_vdsotime.selection import check_patterns

    return check_patterns(value, name)


def _python(value: Any) -> bool:
    from pytest_vdsotime.python_clock import check_python

    check_python(value)
    return bool(value)


PARAMETERS = (
    Parameter(
        *("start", None, _start),
        ini="where clocks start: ISO 8601, @SECONDS since the epoch, a span from now (-15d) or a "
        "day near now (yesterday 17:00)",
        ini_key="vdso_time",
        flag="--at",
        argument={
            "metavar": "WHEN",
            "help": "where the wall clock starts: ISO 8601 (UTC without an offset), such as "
            "1970-01-01 or 2038-01-19T03:14:07Z, @SECONDS since the epoch, a span from now, such "
            "as -15d, +1h30m or '2 days ago', or a day near now, such as 'yesterday 17:00' (UTC); "
            "default: now",
        },
    ),
    Parameter(
        *("rate", 0.0, _rate),
        from_ini=float,
        flag="--rate",
        words="a number",
        argument={
            "metavar": "R",
            "help": "seconds of the wall clock per real second: 0 stands still (default), 1 ticks",
        },
    ),
    Parameter(
        *("monotonic", "flow", _monotonic),
        ini="the monotonic line of clocks: flow, freeze or rate",
        flag="--monotonic",
        argument={
            "choices": ("flow", "freeze", "rate"),
            "help": "the monotonic clocks flow on (default), stand still, or go at the rate of the "
            "wall",
        },
    ),
    Parameter(
        *("waits", "follow", _waits),
        ini="timed waits: follow (they obey their line) or real",
        flag="--waits",
        argument={
            "choices": ("follow", "real"),
            "help": "timed waits follow their clock (default), or are left to the kernel",
        },
    ),
    Parameter(
        *("autojump", False, _autojump),
        option="jump_after_ns",
        ini="jump when all is idle: true, false or seconds",
        from_ini=_autojump_from_ini,
        flag="--autojump",
        words="a number of seconds",
        argument={
            "nargs": "?",
            "const": "true",
            "metavar": "SECONDS",
            "help": "whenever all wait, or have waited for so many real seconds, jump to the next "
            "deadline; monotonic clocks stand still otherwise",
        },
    ),
    Parameter(
        *("stride", None, _stride),
        option="stride_ns",
        ini="how finely time passes, a span such as 1h; default: from deadline to deadline",
        flag="--stride",
        argument={
            "metavar": "SPAN",
            "help": "time that goes by at once passes in strides of so much, such as 1h or 90s: "
            "what is due within one ends with it; default: from deadline to deadline",
        },
    ),
    Parameter(
        *("grace", 0.02, _grace),
        option="grace_ns",
        ini="seconds of waiting that a frozen monotonic line lets pass",
        from_ini=float,
        flag="--grace",
        words="a number of seconds",
        argument={
            "metavar": "S",
            "help": "waits of at most so many seconds pass in real time where the monotonic clocks "
            "stand still (default: 0.02)",
        },
    ),
    Parameter(
        *("patience", 1.0, _patience),
        option="patience_ns",
        ini="real seconds for which time waits for the answer of a peer off the clock",
        from_ini=float,
    ),
    Parameter("python", False, _python),
    Parameter(
        *("only", None, partial(_patterns, "only")),
        ini="patterns (fnmatch) of the programs on the clock; default: all",
        from_ini=_words,
        flag="--only",
        argument={
            "action": "append",
            "metavar": "PATTERN",
            "help": "only programs whose file name or path match are on the clock, the others run "
            "in real time; may be given again",
        },
    ),
    Parameter(
        *("skip", None, partial(_patterns, "skip")),
        ini="patterns (fnmatch) of the programs that run in real time",
        from_ini=_words,
        flag="--skip",
        argument={
            "action": "append",
            "metavar": "PATTERN",
            "help": "programs whose file name or path match run in real time; may be given again",
        },
    ),
    Parameter(
        *("files", "real", _files),
        ini="time stamps of files: real (the host's) or follow (as the clock has them)",
        flag="--files",
        argument={
            "choices": ("real", "follow"),
            "help": "time stamps of files are the host's (default), or follow the clock: what was "
            "written while it read T says T",
        },
    ),
)
NAMES = tuple(one.name for one in PARAMETERS)


def validate_options(start: Instant = None, **given: Any) -> Options:
    """Check the parameters of `FrozenClock` without starting anything.

    Raises:
        TypeError, ValueError: naming the parameter and what it accepts.
        ImportError: naming the extra that `python` needs.
    """
    given["start"] = start
    if unknown := sorted(given.keys() - set(NAMES)):
        raise TypeError(f"a clock has no parameter {unknown[0]!r}: it has {', '.join(NAMES)}")
    checked: dict[str, Any] = {
        one.option or one.name: one.check(given.get(one.name, one.default)) for one in PARAMETERS
    }
    if checked["jump_after_ns"] is not None:
        if checked["waits"] == "real":
            raise ValueError("autojump: waits follow the clock then, not waits='real'")
        if checked["monotonic"] == "rate" and checked["rate"].mult:
            raise ValueError("autojump: the monotonic line stands still then, not monotonic='rate'")
        checked["monotonic"] = "freeze"
    return Options(**checked)


def check_timeout(timeout: float) -> None:
    """Raise ValueError unless this is a number of real seconds to wait."""
    if not 0 < timeout <= TIMEOUT_MAX:
        raise ValueError(
            f"timeout is a positive number of at most {TIMEOUT_MAX:.0f} real seconds, "
            f"not {timeout!r}"
        )
