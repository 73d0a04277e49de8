"""The one driver of tests/programs. Each checks one promise by itself and ends with EXIT-SUCCESS.

A program states its runs in its first lines:

    // run: start=1970-01-01T00:00:00Z on=static,dynamic bare=fails

start, rate, monotonic   of the clock
on                       how it is linked (default: static); a run for each
args                     further arguments
as                       root, if only root can start it
bare                     whether it says EXIT-SUCCESS without a clock too. A program about the clock
                         must not, one about how programs behave otherwise must. So each is known to
                         be able to fail, or to be true of Linux.

A program that prints MOVE has the clock moved by an hour, then gets a line on its standard input.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.timeline import parse_instant

if TYPE_CHECKING:
    from conftest import Builder

DIRECTORY = Path(__file__).parent / "programs"
CEILING_S = 30
HOUR_NS = 3600 * 10**9
TORN_STEP_NS = 10**9 + 1  # keeps seconds and nanoseconds equal: see seqlock.c
TORN_STEPS = 1000
CLOCK_PARAMETERS = {"start": str, "rate": float, "monotonic": str}


@dataclass
class Run:
    """One line `// run:` of a program, for one way of linking it."""

    program: str
    target: str
    fields: dict[str, str] = field(repr=False)

    @property
    def clock_parameters(self) -> dict[str, Any]:
        return {
            name: parse(self.fields[name])
            for name, parse in CLOCK_PARAMETERS.items()
            if name in self.fields
        }

    @property
    def start_ns(self) -> int:
        return parse_instant(self.fields.get("start", 0))

    @property
    def moved_ns(self) -> int:
        return self.start_ns + (TORN_STEPS * TORN_STEP_NS if self.is_torn_test else HOUR_NS)

    @property
    def is_torn_test(self) -> bool:
        return self.fields.get("script") == "advance"

    def command(self, build: Builder) -> list[str]:
        language, _, goarch = self.target.partition("-")
        is_go = language == "go"
        path = build.go(self.program, goarch) if is_go else build.c(self.program, self.target)
        arguments = filter(None, self.fields.get("args", "").split(","))
        return [path, str(self.start_ns), str(self.moved_ns), *arguments]


def runs() -> Iterator[object]:
    for source in sorted([*DIRECTORY.glob("*.c"), *DIRECTORY.glob("*.go")]):
        header = [line for line in source.read_text().splitlines() if line.startswith("// run: ")]
        assert header, f"{source.name} states no run"
        for line in header:
            fields = dict(word.split("=", 1) for word in line.removeprefix("// run: ").split())
            for target in fields.pop("on", "static").split(","):
                words = [source.stem, target, *(fields[k] for k in CLOCK_PARAMETERS if k in fields)]
                yield pytest.param(Run(source.stem, target, fields), id="-".join(words))


RUNS: list[Any] = list(runs())


@pytest.mark.parametrize("run", RUNS)
def test_program(run: Run, build: Builder, request: pytest.FixtureRequest) -> None:
    if run.fields.get("as") == "root":
        request.getfixturevalue("as_root")
    command = run.command(build)
    with FrozenClock(**run.clock_parameters) as clock:
        program = clock.popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
        assert program.stdin and program.stdout
        line = program.stdout.readline()
        if line == "MOVE\n":
            if run.is_torn_test:
                for _ in range(TORN_STEPS):
                    clock.advance(TORN_STEP_NS / 10**9)
            else:
                clock.advance(hours=1)
            line = ""
        output, errors = program.communicate("\n", timeout=CEILING_S)
        assert errors == ""
        assert (line + output, program.returncode) == ("EXIT-SUCCESS\n", 0)


@pytest.mark.parametrize("run", [one for one in RUNS if one.values[0].fields["bare"] != "never"])
def test_program_without_a_clock(run: Run, build: Builder) -> None:
    """The other half of the program's promise: what it says when nothing is done to it."""
    bare = subprocess.run(
        run.command(build), input="\n", capture_output=True, text=True, timeout=CEILING_S
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
