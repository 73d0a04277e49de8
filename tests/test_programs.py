"""The one driver of tests/programs. Each checks one promise by itself and ends with EXIT-SUCCESS.

A program states its runs in its first lines:

    // run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails

start, rate, monotonic   of the clock, as are waits, grace, stride, files and autojump (yes, or
                         seconds); a start that is `now` is the host's
on                       how it is linked (default: static); a run for each
args                     further arguments
bare-args                other ones without a clock, where what lasts hours must not
native                   no: Python handles every stop, also those that the native code can; with
                         --python-only all runs are such
as                       root, if only root can start it
bare                     whether it says EXIT-SUCCESS without a clock too. A program about the clock
                         must not, one about how programs behave otherwise must. So each is known to
                         be able to fail, or to be true of Linux. `never` is for what would move the
                         host's clock, and where another run of the program has said it already.

What a program prints before that, it asks of the driver, and gets a line on its standard input when
it is done:

    MOVE                 the clock is moved by an hour, or by a second and a nanosecond as often as
                         `steps` says
    ADVANCE SECONDS      clock.advance(SECONDS)
    MOVE_TO SECONDS      clock.move_to(SECONDS), since the epoch
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.instants import parse_instant
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from conftest import Builder, MoveLines

MACHINE = os.uname().machine
DIRECTORY = Path(__file__).parent / "programs"
CEILING_S = 30
HOUR_NS = 3600 * 10**9
TORN_STEP_NS = 10**9 + 1  # keeps seconds and nanoseconds equal: see seqlock.c
PATIENCE_S = 0.1  # no peer off the clock answers any of these programs
CLOCK_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "start": lambda text: None if text == "now" else text,
    "rate": float,
    "monotonic": str,
    "waits": str,
    "grace": float,
    "stride": str,
    "autojump": lambda text: text == "yes" or float(text),
    "files": str,
}
IN_ID = ["start", "rate", "monotonic", "files", "args", "native"]


@dataclass
class Run:
    """One line `// run:` of a program, for one way of linking it."""

    program: str
    target: str
    fields: dict[str, str] = field(repr=False)

    @property
    def clock_parameters(self) -> dict[str, Any]:
        stated = {
            name: parse(self.fields[name])
            for name, parse in CLOCK_PARAMETERS.items()
            if name in self.fields
        }
        return {"patience": PATIENCE_S, **stated}

    @property
    def start_ns(self) -> int:
        return parse_instant(CLOCK_PARAMETERS["start"](self.fields.get("start", "@0")))

    @property
    def moved_ns(self) -> int:
        return self.start_ns + (self.steps * TORN_STEP_NS if self.steps else HOUR_NS)

    @property
    def steps(self) -> int:
        return int(self.fields.get("steps", 0))

    def command(self, build: Builder, arguments: str = "args") -> list[str]:
        language, _, goarch = self.target.partition("-")
        is_go = language == "go"
        path = build.go(self.program, goarch) if is_go else build.c(self.program, self.target)
        further = self.fields.get(arguments, self.fields.get("args", ""))
        return [path, str(self.start_ns), str(self.moved_ns), *filter(None, further.split(","))]


def runs() -> Iterator[object]:
    for source in sorted([*DIRECTORY.glob("*.c"), *DIRECTORY.glob("*.go")]):
        header = [line for line in source.read_text().splitlines() if line.startswith("// run: ")]
        assert header, f"{source.name} states no run"
        for line in header:
            fields = dict(word.split("=", 1) for word in line.removeprefix("// run: ").split())
            machine = fields.pop("machine", MACHINE)
            for target in fields.pop("on", "static").split(","):
                if machine != MACHINE or (MACHINE != "x86_64" and "386" in target):
                    continue
                words = [source.stem, target, *(fields[k] for k in IN_ID if k in fields)]
                yield pytest.param(Run(source.stem, target, fields), id="-".join(words))


RUNS: list[Any] = list(runs())


@pytest.mark.parametrize("run", RUNS)
def test_program(
    run: Run, build: Builder, move_lines: MoveLines, request: pytest.FixtureRequest
) -> None:
    if run.fields.get("as") == "root":
        request.getfixturevalue("as_root")
    command = run.command(build)
    is_native = "native" not in run.fields and not request.config.getoption("--python-only")
    with (
        closing(Tracer(is_native=is_native)) as tracer,
        clock_on(tracer, **run.clock_parameters) as clock,
    ):
        program = clock.popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
        assert program.stdin and program.stdout
        line = program.stdout.readline()
        while obey(line, clock, run, move_lines):
            with suppress(BrokenPipeError):  # it has found a fault meanwhile, and says so below
                program.stdin.write("\n")
                program.stdin.flush()
            line = program.stdout.readline()
        output, errors = program.communicate(timeout=CEILING_S)
        assert errors == ""
        assert (line + output, program.returncode) == ("EXIT-SUCCESS\n", 0)


def obey(line: str, clock: FrozenClock, run: Run, move_lines: MoveLines) -> bool:
    """Does what a program asks for by a line; false if it is not such a line."""
    match line.split():
        case ["MOVE"] if run.steps:
            for _ in range(run.steps):
                move_lines(clock, TORN_STEP_NS)
        case ["MOVE"]:
            clock.advance(hours=1)
        case ["ADVANCE", seconds]:
            clock.advance(int(seconds))
        case ["MOVE_TO", seconds]:
            clock.move_to(int(seconds))
        case _:
            return False
    return True


@pytest.mark.parametrize("run", [one for one in RUNS if one.values[0].fields["bare"] != "never"])
def test_program_without_a_clock(run: Run, build: Builder, request: pytest.FixtureRequest) -> None:
    """The other half of the program's promise: what it says when nothing is done to it."""
    if run.fields.get("as") == "root":
        request.getfixturevalue("as_root")
    bare = subprocess.run(
        run.command(build, "bare-args"),
        input="\n",
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    succeeds = "EXIT-SUCCESS\n" in bare.stdout
    assert succeeds is (run.fields["bare"] == "passes"), bare.stderr


def test_a_32_bit_program_after_centuries(build: Builder) -> None:
    """Its uptime and the seconds of its monotonic clocks are cut off like those of the wall's."""
    with FrozenClock("1970-01-01") as clock:
        clock.advance(days=365 * 150)
        times = [str(clock.time_ns()), str(clock.time_ns() + HOUR_NS)]
        program = clock.popen([build.c("i386_calls", "i386"), *times], stdin=PIPE, stdout=PIPE)
        assert program.stdout and program.stdout.readline() == b"MOVE\n"
        clock.advance(hours=1)
        assert program.communicate(b"\n", timeout=CEILING_S)[0] == b"EXIT-SUCCESS\n"
