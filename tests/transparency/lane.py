"""`make transparency`: test suites of others, bare and on a clock that ticks from now, by the test.

    lane.py --work DIRECTORY [--page FILE] [--jobs N] [SUITE ...]

Each command of a suite runs once bare and once under `vdsotime --rate 1 --`, and the outcome of
each test must be the same. Commands with a difference run twice more both ways: a test whose
outcomes without a clock are not all the same is unsteady by itself, and is counted as that. Any
other difference needs a reason in the table of the suites (suites.py); one without it fails the
lane, as does a suite that does not run.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import driver
from outcomes import Outcomes, is_passing
from sources import NOBODY, PATH, NotToBeHad, Workshop
from suites import SUITES, Command, Prepared, Suite

MODES = {"bare": (), "traced": (sys.executable, "-m", "pytest_vdsotime", "--rate", "1", "--")}
PORTS = {"bare": "21000", "traced": "22000"}
MORE_ROUNDS = 2
PROGRAMS = Path(__file__).parents[2] / ".ci" / "programs"
TEMPLATE = Path(__file__).with_name("page.md")
UNSTEADY = "unsteady"


@dataclass
class Result:
    """What one run of one command came to."""

    status: str
    tests: Outcomes = field(default_factory=dict)
    seconds: float = 0.0

    def compare(self, other: Result) -> set[str]:
        """Return the names of the tests that differ; the command itself has the empty name."""
        names = self.tests.keys() | other.tests.keys()
        different = {name for name in names if self.tests.get(name) != other.tests.get(name)}
        return different or ({""} if self.status != other.status else set())

    def outcome(self, test: str) -> str:
        """Return the outcome of a test; of the command itself, its status."""
        return self.tests.get(test, "no outcome") if test else f"status {self.status}"


@dataclass
class Difference:
    """A test whose first two runs differ, with the outcomes of all of its runs."""

    name: str
    """What reasons are matched with."""
    bare: list[str]
    traced: list[str]
    reason: str
    """From the table, `UNSTEADY`, or empty."""


@dataclass
class Row:
    """A suite's row on the page."""

    title: str
    version: str
    tests: int
    passing: int
    """How many tests pass without a clock."""
    seconds: float
    """How long the first runs took, bare and traced, one after the other."""
    differences: list[Difference]

    def different(self, *, steady: bool) -> list[Difference]:
        """Return the differences of tests that are steady without a clock, or of the others."""
        return [one for one in self.differences if (one.reason != UNSTEADY) == steady]


@dataclass
class Lane:
    """Where batches of commands run, each command in a directory of its own."""

    workshop: Workshop
    directory: Path

    def run(self, commands: list[Command], mode: str, outputs: Path) -> list[Result]:
        """Run the commands one after the other in one mode, and keep what they print."""
        # Short, and of one length in both modes: paths of sockets have little room (unix(7)).
        where = Path(tempfile.mkdtemp(prefix=mode[0], dir=self.directory))
        places = [where / str(number) for number in range(len(commands))]
        for place in places:
            place.mkdir()
        plan = {
            "results": str(where / "results"),
            "user": self.workshop.user(),
            "commands": [describe(*pair, mode) for pair in zip(commands, places, strict=True)],
        }
        (where / "plan").write_text(json.dumps(plan))
        if self.workshop.as_nobody:
            where.chmod(0o755)
            for place in places:
                os.chown(place, NOBODY, NOBODY)
        self._drive(where, mode, sum(command.timeout for command in commands) + 60)
        said = (where / "driver").read_text(errors="replace").strip()
        results = [Result(f"not run: {said}") for _ in commands]
        with suppress(FileNotFoundError):  # the driver was not started
            is_traced, *lines = map(json.loads, (where / "results").read_text().splitlines())
            assert is_traced == (mode == "traced"), f"the {mode} run was not as it should be"
            for command, place, result, line in zip(commands, places, results, lines, strict=False):
                result.status, result.seconds = str(line[0]), line[1]
                output = place.with_suffix(".out").read_text(errors="replace")
                output = output.replace(str(place), "DIRECTORY")
                result.tests = command.read(output, place)
                keep(output, outputs / re.sub(r"[^\w.-]", "_", command.name), mode)
        return results

    def _drive(self, where: Path, mode: str, limit: float) -> None:
        with open(where / "driver", "wb") as output:
            process = subprocess.Popen(
                [*MODES[mode], sys.executable, driver.__file__, str(where / "plan")],
                cwd=where,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()  # what it has started ends with the lane
            process.wait()


def keep(output: str, outputs: Path, mode: str) -> None:
    """Keep an output in the first file of a name that is not there yet."""
    for number in itertools.count(1):
        with suppress(FileExistsError), open(f"{outputs}.{mode}.{number}", "x") as file:
            file.write(output)
            return


def describe(command: Command, place: Path, mode: str) -> dict[str, object]:
    """Return a command as the driver's plan has it."""
    words = {"DIRECTORY": str(place), "PORT": PORTS[mode]}
    here = {"PATH": PATH, "HOME": str(place), "TMPDIR": str(place), "LC_ALL": "C.UTF-8"}

    def fill(text: str) -> str:
        return re.sub("|".join(words), lambda word: words[word[0]], text)

    return {
        "argv": [fill(word) for word in command.argv],
        "cwd": fill(command.cwd),
        "env": here | {name: fill(value) for name, value in command.env.items()},
        "timeout": command.timeout,
        "output": str(place.with_suffix(".out")),
    }


Job = list[tuple[list[Command], str]]
"""Batches and modes, to be run one after the other."""


class Comparison:
    """One suite's commands and their results, round after round."""

    def __init__(self, suite: Suite, prepared: Prepared, lane: Lane, outputs: Path) -> None:
        self.suite = suite
        self.prepared = prepared
        self.lane = lane
        self.outputs = outputs
        self.results: dict[str, dict[str, list[Result]]] = {
            command.name: {mode: [] for mode in MODES} for command in prepared.commands
        }

    def jobs(self, commands: list[Command], rounds: int = 1) -> Iterator[Job]:
        """Yield what may run at the same time."""
        size = self.suite.batch
        batches = [commands[start : start + size] for start in range(0, len(commands), size)]
        runs = [(batch, mode) for batch in batches * rounds for mode in MODES]
        if self.suite.apart:
            yield runs
        else:
            yield from ([run] for run in runs)

    def work(self, job: Job) -> None:
        """Run a job, and keep its results."""
        for commands, mode in job:
            results = self.lane.run(commands, mode, self.outputs)
            for command, result in zip(commands, results, strict=True):
                self.results[command.name][mode].append(result)

    def first(self, command: Command) -> tuple[Result, Result]:
        """Return the results of a command's first run, bare and traced."""
        both = self.results[command.name]
        return both["bare"][0], both["traced"][0]

    def differing(self) -> list[Command]:
        """Return the commands whose first runs differ."""

        def is_different(command: Command) -> bool:
            bare, traced = self.first(command)
            return bool(bare.compare(traced))

        return list(filter(is_different, self.prepared.commands))

    def row(self) -> Row:
        """Return what the page says about the suite."""
        firsts = [self.first(command) for command in self.prepared.commands]
        bare = [
            one.outcome(test) for one, other in firsts for test in (one.tests | other.tests) or [""]
        ]
        return Row(
            self.suite.title,
            self.prepared.version,
            tests=len(bare),
            passing=sum(map(is_passing, bare)),
            seconds=sum(one.seconds for both in firsts for one in both),
            differences=list(self._differences()),
        )

    def _differences(self) -> Iterator[Difference]:
        for command in self.differing():
            bare, traced = self.first(command)
            for test in sorted(bare.compare(traced)):
                name = f"{command.name}: {test}" if test else command.name
                outcomes = {
                    mode: [one.outcome(test) for one in results]
                    for mode, results in self.results[command.name].items()
                }
                reason = UNSTEADY if len(set(outcomes["bare"])) > 1 else self._reason(name)
                yield Difference(name, outcomes["bare"], outcomes["traced"], reason)

    def _reason(self, name: str) -> str:
        for pattern, reason in self.suite.reasons.items():
            if fnmatchcase(name, pattern):
                return reason
        return ""


def prepare(names: list[str], workshop: Workshop) -> dict[str, Prepared]:
    """Return the suites that are ready; say why the others are not."""
    ready = {}
    for name in names:
        suite = SUITES[name]
        print(f"{name}: getting it ready", flush=True)
        try:
            if suite.programs:
                subprocess.run([PROGRAMS, *suite.programs], check=True)
            ready[name] = suite.prepare(workshop)
        except (NotToBeHad, subprocess.CalledProcessError) as error:
            print(f"{name}: NOT RUN: {error}", flush=True)
    return ready


def run(ready: dict[str, Prepared], lane: Lane, jobs: int) -> dict[str, Row]:
    """Run the suites, so many jobs at a time, and return their rows."""
    comparisons = {}
    for name, prepared in ready.items():
        outputs = lane.workshop.work / "outputs" / name
        shutil.rmtree(outputs, ignore_errors=True)
        outputs.mkdir(parents=True)
        comparisons[name] = Comparison(SUITES[name], prepared, lane, outputs)

    def work(job: tuple[Comparison, Job]) -> None:
        job[0].work(job[1])

    with pool_of(jobs) as pool:
        every = [
            (one, job) for one in comparisons.values() for job in one.jobs(one.prepared.commands)
        ]
        list(pool.map(work, every))
        again = [
            (one, job)
            for one in comparisons.values()
            for job in one.jobs(one.differing(), rounds=MORE_ROUNDS)
        ]
        list(pool.map(work, again))
    return {name: comparison.row() for name, comparison in comparisons.items()}


@contextmanager
def pool_of(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads; whatever ends it early ends what they have started."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        driver.end_children()
        raise
    finally:
        pool.shutdown()


@contextmanager
def nothing_left() -> Iterator[Path]:
    """Yield an empty directory; at the end it and all that was started are gone."""
    # As root PR_SET_CHILD_SUBREAPER (prctl(2)) or not: orphans become children of this process.
    ctypes.CDLL(None).prctl(driver.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    directory = Path(tempfile.mkdtemp(prefix="lane-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        driver.end_children()
        shutil.rmtree(directory, ignore_errors=True)


# What is said.


def table(*lines: tuple[str, ...]) -> str:
    """Return a table of Markdown; the first line is its head."""
    head, *rest = lines
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (head, tuple("---" for _ in head), *rest)
    )


def results_table(rows: dict[str, Row]) -> str:
    """Return the page's table of suites."""
    head = ("suite", "version", "tests", "equal", "different", "unsteady")
    return table(
        head,
        *(
            (
                row.title,
                row.version,
                f"{row.tests:,}",
                f"{row.tests - len(row.differences):,}, {row.passing:,} of which pass",
                f"{len(row.different(steady=True)):,}",
                f"{len(row.different(steady=False)):,}",
            )
            for row in rows.values()
        ),
    )


def reasons_table(rows: dict[str, Row]) -> str:
    """Return the page's table of differences, those of one reason together."""
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows.values():
        for one in row.different(steady=True):
            lines.setdefault((row.title, one.reason or "unexplained"), []).append(f"`{one.name}`")
    return table(
        ("suite", "tests", "why they differ"),
        *((title, ", ".join(names), reason) for (title, reason), names in lines.items()),
    )


def page(rows: dict[str, Row]) -> str:
    """Return the text of the page."""
    python = ".".join(platform.python_version_tuple()[:2])
    words = {
        "RESULTS": results_table(rows),
        "MISSING": ", ".join(suite.title for name, suite in SUITES.items() if name not in rows)
        or "none",
        "REASONS": reasons_table(rows),
        "MACHINE": f"{platform.machine()}, Linux {platform.release().partition('-')[0]}, "
        f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Python {python}, "
        f"{os.cpu_count()} processors",
    }
    text = TEMPLATE.read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def say(rows: dict[str, Row]) -> bool:
    """Print the results, and return whether every suite ran and every difference has a reason."""
    print(f"\n{results_table(rows)}\n")
    failures = 0
    for name, row in rows.items():
        print(f"{name}: {row.seconds:.0f} s, {row.passing} of {row.tests} tests pass bare")
        for one in row.differences:
            print(f"{name}: {one.name}: {one.reason or 'UNEXPLAINED'}")
            if one.reason in ("", UNSTEADY):
                print(f"    bare   {' / '.join(one.bare)}\n    traced {' / '.join(one.traced)}")
            failures += not one.reason
        had = {one.reason for one in row.differences}
        for pattern, reason in SUITES[name].reasons.items():
            if reason not in had:
                print(f"{name}: no difference this time by {pattern}")
        if row.passing < row.tests / 2:
            print(f"{name}: HARDLY A TEST PASSES BARE: it is not set up as it should be")
            failures += 1
    print(f"{failures} failures")
    return not failures


def main() -> None:
    """Run the lane; its exit status says whether all is as it should be."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--work", type=Path, required=True, help="where sources are built and kept")
    parser.add_argument("--page", type=Path, help="write the page with the tables to this file")
    parser.add_argument("--jobs", type=int, default=2, help="so many runs at a time")
    options = parser.parse_args()
    if unknown := set(options.suites) - SUITES.keys():
        parser.error(f"no such suite: {', '.join(unknown)}")
    names = options.suites or list(SUITES)
    kept = options.work / "results"
    kept.mkdir(parents=True, exist_ok=True)

    ready = prepare(names, Workshop(options.work))
    with nothing_left() as directory:
        rows = run(ready, Lane(Workshop(options.work), directory), options.jobs)
    is_explained = say(rows)
    for name, row in rows.items():
        (kept / f"{name}.json").write_text(json.dumps(asdict(row)))
    if options.page:
        every = {name: read_row(kept / f"{name}.json") for name in SUITES if is_kept(kept, name)}
        options.page.write_text(page(every))
        print(options.page)
    sys.exit(not is_explained or len(ready) < len(names))


def is_kept(kept: Path, name: str) -> bool:
    """Whether a suite has been run."""
    return (kept / f"{name}.json").exists()


def read_row(path: Path) -> Row:
    """Return the row that an earlier run has kept."""
    kept = json.loads(path.read_text())
    differences = [Difference(**one) for one in kept.pop("differences")]
    return Row(**kept, differences=differences)


if __name__ == "__main__":
    main()
