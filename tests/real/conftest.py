"""What the tests of real programs share: programs that say line by line what happens to them, and
storms of programs while the clock is moved."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import signal
import struct
import subprocess
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from random import Random
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock, NotSettled

if TYPE_CHECKING:
    from conftest import Builder

MACHINE = os.uname().machine


class Program:
    """A program on a clock. It has said "ready" when its waits are about to begin."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        assert popen.stdout
        self._stdout = popen.stdout
        begin = self.line()
        assert begin == "ready", (begin, self.popen.poll())

    def line(self) -> str:
        """The next line that it says, however long that takes."""
        os.set_blocking(self._stdout.fileno(), True)
        return self._stdout.readline().decode().rstrip()

    def said(self) -> list[str]:
        """What it has said by now: nothing is waited for."""
        os.set_blocking(self._stdout.fileno(), False)
        return (self._stdout.read() or b"").decode().splitlines()


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(clock, command, **keywords)` is a `Program`; its standard input stays open, and
    silent unless the test writes to it. What the test leaves running is killed."""
    with ExitStack() as programs:

        def start(clock: FrozenClock, command: list[str], **keywords: Any) -> Program:
            keywords = {"stdin": PIPE, "stderr": STDOUT, **keywords}
            popen = clock.popen(command, stdout=PIPE, bufsize=0, **keywords)
            programs.enter_context(popen)
            programs.callback(popen.kill)
            return Program(popen)

        yield start


#: How long a storm lasts, of real time.
STORM_S = float(os.environ.get("VDSOTIME_STORM_S", "1.5"))
STORM_CEILING_S = 30
STARTERS, DEPTH, PARKED = 3, 2, 4
STATUSES = 120
YEAR_2040_NS = 2208988800 * 10**9
HOUR_NS = 3600 * 10**9
#: By how much a monotonic line that stands goes on, and how often at most, where programs do not
#: come to rest (Lines.nudged).
CREEP_NS, CREEPS_EACH_NS = 1000, 10**8
#: What a call may move the lines by beside its amount and the real time that it takes: the sleeps
#: that are carried on behind its last deadline.
CARRIED_NS = 10**9


class Difference:
    """How far the wall line was ahead of the other one, as the calls have made it.

    That is known between two numbers, as each reading of the clock takes time.
    """

    def __init__(self, clock: FrozenClock) -> None:
        self._clock = clock
        self._pieces: list[tuple[float, float, int, int]] = []
        self._since_ns = -math.inf
        self._least, self._most = self._read()

    def _read(self) -> tuple[int, int]:
        least, most = [], []
        for _ in range(5):
            first_ns = self._clock.monotonic_ns()
            wall_ns = self._clock.time_ns()
            least.append(wall_ns - self._clock.monotonic_ns())
            most.append(wall_ns - first_ns)
        return max(least), min(most)

    def _changes(self, since_ns: float, least: int, most: int) -> None:
        self._pieces.append((self._since_ns, self._clock.monotonic_ns(), self._least, self._most))
        self._since_ns, self._least, self._most = since_ns, least, most

    def _meets(self, least: int, most: int) -> None:
        self._least, self._most = max(self._least, least), min(self._most, most)
        assert self._least <= self._most, "the lines are apart by another time than before"

    def is_kept(self) -> None:
        """Both lines have moved by the same amounts, if at all."""
        self._meets(*self._read())

    def is_set(self, wall_ns: int, since_ns: int) -> None:
        """The wall line was set to `wall_ns`, since the other one read `since_ns`."""
        self._changes(since_ns, wall_ns - self._clock.monotonic_ns(), wall_ns - since_ns)
        self.is_kept()

    def drifts(self, since_ns: int, most_ns: int) -> None:
        """The wall line went slower or faster since then, by so much at most."""
        least, most = self._read()
        assert self._least - most_ns <= most and least <= self._most + most_ns
        self._changes(since_ns, self._least - most_ns, self._most + most_ns)
        self._changes(since_ns, least, most)

    def creeps(self, since_ns: int, most_ns: int) -> None:
        """The other line may have gone on alone since then, by so much at most."""
        least, most = self._read()
        if least <= self._most and self._least <= most:
            self._meets(least, most)
        else:
            self.drifts(since_ns, most_ns)

    def check(self, told: Iterable[tuple[int, int, int]], unit_ns: int = 1) -> None:
        """Every program has read it so, in such units, between two readings of the other line."""
        pieces = [*self._pieces, (self._since_ns, math.inf, self._least, self._most)]
        sinces = [piece[0] for piece in pieces]
        for first_ns, wall_ns, last_ns in told:
            there = pieces[
                max(bisect_left(sinces, first_ns) - 4, 0) : bisect_right(sinces, last_ns)
            ]
            assert any(
                wall_ns - min(last_ns, until_ns) <= most
                and least < wall_ns + unit_ns - max(first_ns, since_ns)
                for since_ns, until_ns, least, most in there
            ), (first_ns, wall_ns - first_ns, wall_ns - last_ns, there)


class StormPage:
    """What the programs of a storm share: tests/programs/helpers/storm.h."""

    _STARTS, _JUMPS, _SETS = 16, 24, 32

    def __init__(self, path: Path, programs: list[Path]) -> None:
        names = b"".join(os.fsencode(one).ljust(200, b"\0") for one in programs)
        path.write_bytes(
            struct.pack("=qqqiii", 0, 0, 0, 0, len(programs), 0) + names.ljust(800, b"\0")
        )
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def set_apart(self, apart_ns: int) -> None:
        struct.pack_into("=q", self._memory, 8, apart_ns)

    def jumps(self) -> None:
        self._count(self._JUMPS)

    def sets(self) -> None:
        self._count(self._SETS)

    def _count(self, offset: int) -> None:
        (count,) = struct.unpack_from("=i", self._memory, offset)
        struct.pack_into("=i", self._memory, offset, count + 1)

    @property
    def starts(self) -> int:
        return int(struct.unpack_from("=q", self._memory, self._STARTS)[0])

    def close(self) -> None:
        self._memory.close()


def status_of(seed: int) -> int:
    """What a program of a storm ends with."""
    return (7 * seed + 3) % STATUSES


class Storm:
    """One clock, what moves it, and the threads that start programs on it meanwhile.

    Its traits: both lines go `together`, or also by the same rates (`alike`); the clock `stands`,
    so that nothing ends without a call; or `jumps` by itself; or `skips` some programs; it `is one`
    of several things that storm, and has fewer threads.
    """

    def __init__(
        self,
        clock: FrozenClock,
        directory: Path,
        programs: list[Path],
        seed: int,
        traits: Container[str] = (),
    ) -> None:
        self.clock, self.command, self.seed = clock, programs[0], seed
        self._directory = f"{directory}/"
        self._moving = threading.Lock()
        self.page = StormPage(directory / "page", programs)
        self.page.set_apart(clock.monotonic_ns() + HOUR_NS // 2)
        self.environment = {**os.environ, "STORM_PAGE": str(directory / "page")}
        self.until_s = time.monotonic() + STORM_S
        self.faults: list[BaseException] = []
        self.calls: dict[str, int] = {}
        self._traits = traits
        self._told: list[tuple[int, int, int]] = []
        self._flying: set[int] = set()
        self._parked: list[tuple[subprocess.Popen[str], int]] = []
        self.started = 0
        self._more_jobs: list[Callable[[], None]] = []
        clock.advance(hours=1)
        self.difference = Difference(clock)

    def also(self, *jobs: Callable[[], None]) -> None:
        """Have further threads do these."""
        self._more_jobs += jobs

    def run(self) -> None:
        jobs = [self._move, self._park, *self._more_jobs]
        starters = 1 if "is one" in self._traits else STARTERS
        jobs += [partial(self._start, number) for number in range(starters)]
        threads = [threading.Thread(target=self.guarded, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not self.faults:
            self.guarded(self._end)
        for program, _ in self._parked:
            program.kill()
            program.communicate()
        self.started = self.page.starts
        self.page.close()
        if self.faults:
            raise self.faults[0]
        if "together" in self._traits:
            self.difference.check(self._told)

    def guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self.faults.append(error)
            self.until_s = 0

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self.until_s

    # --- programs --------------------------------------------------------------------------------

    def popen(self, seed: int, depth: int = DEPTH) -> subprocess.Popen[str]:
        return self.clock.popen(
            [self.command, str(seed), str(depth)],
            env=self.environment,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        )

    def ended(self, program: subprocess.Popen[str], seed: int, *others: int) -> None:
        """It ends, with the status of its seed or one of the others."""
        told, errors = program.communicate(timeout=STORM_CEILING_S)
        assert errors == "", (seed, errors)
        assert program.returncode in (status_of(seed), *others), (seed, program.returncode)
        for line in told.splitlines():
            first_ns, wall_ns, last_ns = map(int, line.split())
            self._told.append((first_ns, wall_ns, last_ns))

    def _start(self, number: int) -> None:
        random = Random(1000 * self.seed + number)
        while self.lasts:
            seeds = [random.randrange(1, 10**6) for _ in range(random.randrange(1, 8))]
            programs = [(self.popen(seed), seed) for seed in seeds]
            pids = {program.pid for program, _ in programs}
            self._flying |= pids
            for program, seed in programs:
                if random.randrange(8):
                    self.ended(program, seed)
                    continue
                time.sleep(random.random() / 200)
                program.kill()
                self.ended(program, seed, -signal.SIGKILL)
            self._flying -= pids

    def _park(self) -> None:
        """Some programs wait for up to an hour, which only a call lets pass."""
        random = Random(1000 * self.seed + 900)
        while self.lasts:
            self._look_at_parked()
            while len(self._parked) < PARKED:
                seed = random.randrange(1, 10**6)
                self._parked.append((self.popen(seed, -1), seed))
            time.sleep(0.01)

    def _look_at_parked(self) -> None:
        ended = [one for one in self._parked if one[0].poll() is not None]
        for program, seed in ended:
            self.ended(program, seed)
        self._parked = [one for one in self._parked if one not in ended]

    def _end(self) -> None:
        """An hour later nothing waits any more: not even what has lost its parent."""
        deadline_s = time.monotonic() + STORM_CEILING_S
        while self._parked or self._are_left():
            assert time.monotonic() < deadline_s, self.clock.describe()
            self.pass_an_hour()
            self._look_at_parked()

    def _are_left(self) -> bool:
        names = [one.argv[0] for one in self.clock.processes if one.argv]
        return any(name.startswith(self._directory) for name in names)

    # --- the clock -------------------------------------------------------------------------------

    def _move(self) -> None:
        random = Random(self.seed)
        kinds = [self._advance, self._jump, self._set, self._rate, self._pause, self._look]
        if "stands" not in self._traits:
            kinds.append(self._quiet)
        while self.lasts or ("stands" in self._traits and self._flying and not self.faults):
            kind = random.choice(kinds)
            name = kind.__name__.strip("_")
            with self._moving:
                since_ns, real_ns = self.clock.monotonic_ns(), time.monotonic_ns()
                try:
                    kind(random)
                except NotSettled:  # there is always some program that runs
                    name += " NotSettled"
                if "creeps" in self._traits:
                    creeps = 2 + (time.monotonic_ns() - real_ns) // CREEPS_EACH_NS
                    self.difference.creeps(since_ns, creeps * CREEP_NS)
                elif "together" in self._traits:
                    self.difference.is_kept()
            self.calls[name] = self.calls.get(name, 0) + 1

    def pass_an_hour(self) -> None:
        """However many calls that takes."""
        with self._moving:
            for _ in range(10):
                self.clock.advance(HOUR_NS / 10 / 1e9, timeout=STORM_CEILING_S)

    def _passes(self, call: Callable[..., None], by_s: float) -> None:
        """As much time as the call says, and real time."""
        clock, by_ns = self.clock, round(by_s * 1e9)
        real_ns, before_ns, is_settled = time.monotonic_ns(), clock.monotonic_ns(), False
        try:
            call(by_s, timeout=0.2)
            is_settled = True
        finally:
            passed_ns = clock.monotonic_ns() - before_ns
            real_ns = time.monotonic_ns() - real_ns
            assert passed_ns >= (by_ns if is_settled else 0)
            if "jumps" not in self._traits:
                assert passed_ns <= by_ns + 100 * real_ns + CARRIED_NS

    def _advance(self, random: Random) -> None:
        self._passes(self.clock.advance, random.choice([0.001, 0.05, 1, 3600]))

    def _jump(self, random: Random) -> None:
        self.page.jumps()
        try:
            self._passes(self.clock.jump, random.choice([0.001, 0.05, 60, 86400]))
        finally:
            self.page.jumps()

    def _set(self, random: Random) -> None:
        wall_ns = random.randrange(YEAR_2040_NS) // 1000 * 1000
        before_ns = self.clock.monotonic_ns()
        self.page.sets()
        try:
            self.clock.move_to(f"@{wall_ns / 1e9:.6f}")
        finally:
            if "together" in self._traits:
                self.difference.is_set(wall_ns, before_ns)

    def _rate(self, random: Random) -> None:
        before = self.clock.rate
        since_ns = self.clock.monotonic_ns()
        rates = [0.5, 1, 2, 50] if before else [0]
        for rate in [random.choice(rates) for _ in range(3)]:
            self.page.sets()
            self.clock.rate = rate
        self.page.sets()
        self.clock.rate = before
        if "together" in self._traits and "alike" not in self._traits:
            self.difference.drifts(since_ns, 50 * (self.clock.monotonic_ns() - since_ns))

    def _pause(self, random: Random) -> None:
        time.sleep(random.random() / 50)

    def _look(self, random: Random) -> None:
        clock = self.clock
        looks: list[Callable[[], object]] = [
            partial(clock.settle, 0.2),
            clock.describe,
            lambda: clock.waits,
            lambda: [one.argv for one in clock.processes],
            clock.advance_to_next,
        ]
        random.choice(looks)()

    def _quiet(self, random: Random) -> None:
        """What has begun ends without a call: a wake-up that is lost is lost for good."""
        before, deadline_s = set(self._flying), time.monotonic() + STORM_CEILING_S
        while before & self._flying and not self.faults:
            assert time.monotonic() < deadline_s, self.clock.describe()
            time.sleep(0.002)


StartStorm = Callable[..., Storm]


@pytest.fixture
def storm(build: Builder, tmp_path: Path) -> Iterator[StartStorm]:
    """`storm(clock, seed, traits)` is a `Storm`, which is to be `run`; other programs of its are
    for 32 bits (`i386`) or not on the clock (`off_clock`), if that skips what is called so."""
    directories: list[bytes] = []

    def start(clock: FrozenClock, seed: int, traits: Container[str] = ()) -> Storm:
        directory = tmp_path / f"storm-{len(directories)}"
        directory.mkdir()
        directories.append(os.fsencode(directory))
        programs = [Path(shutil.copy(build.c("helpers/storm"), directory / "storm"))]
        if MACHINE == "x86_64":
            built = build.c("helpers/storm", "i386")
            programs.append(Path(shutil.copy(built, directory / "storm_i386")))
        if "skips" in traits:
            programs.append(Path(shutil.copy(programs[0], directory / "storm_off_clock")))
        return Storm(clock, directory, programs, seed, traits)

    yield start
    deadline_s = time.monotonic() + STORM_CEILING_S
    while left := [one for one in commands() if any(name in one for name in directories)]:
        assert time.monotonic() < deadline_s, left
        time.sleep(0.01)


def commands() -> Iterator[bytes]:
    """Of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()
