"""Starting programs, and programs that read no clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.clock import clock_on
from pytest_vdsotime.events import History
from pytest_vdsotime.tracer.thread import Tracer

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Medians, Table, Timed

MEGABYTE = 2**20
MACHINE = os.uname().machine


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock(0) as clock:
        yield clock


def test_start_of_a_program(
    clock: FrozenClock, table: Table, medians: Medians, timed: Timed
) -> None:
    run = timed(lambda: clock.run(["/bin/true"], check=True))
    faketime = ["faketime", "1970-01-01 00:00:00", "/bin/true"]
    others = (("faketime", faketime, 0.6), ("bare", ["/bin/true"], 1.6))
    # Each with its own: faketime leaves colder caches to whoever comes next.
    rows = [
        (name, medians(timed(partial(subprocess.run, other, check=True)), run, rounds=200), bar)
        for name, other, bar in others
    ]
    for name, (theirs, ours), bar in rows:
        figures = f"{ours * 1e3:.2f} / {theirs * 1e3:.2f} ms"
        table.check(f"run /bin/true, against {name}", figures, ours / theirs, bar)


@pytest.fixture
def nothing(tmp_path: Path) -> Callable[[str], str]:
    """`nothing(target)` is a static program that ends at once."""
    source = tmp_path / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")

    def build(target: str) -> str:
        output = tmp_path / target
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-static", "-O2"]
        subprocess.run([*compiler, "-o", output, source], check=True)
        return str(output)

    return build


def test_start_of_a_32_bit_program(
    nothing: Callable[[str], str],
    clock: FrozenClock,
    table: Table,
    medians: Medians,
    timed: Timed,
) -> None:
    narrow, wide = nothing("x86-linux-musl"), nothing("x86_64-linux-musl")
    narrow_s, wide_s = medians(
        timed(lambda: clock.run([narrow], check=True)),
        timed(lambda: clock.run([wide], check=True)),
        rounds=200,
    )
    figures = f"{narrow_s * 1e3:.2f} / {wide_s * 1e3:.2f} ms"
    table.check("run a 32-bit program, against 64 bits", figures, narrow_s / wide_s, 1.2)


@pytest.mark.parametrize(
    ("what", "script", "bar"),
    [
        ("bash, 200 times /bin/true", "for i in {1..200}; do /bin/true; done", 1.3),
        ("sha256sum of 128 MB", "exec sha256sum zeros", 1.03),
        ("dd bs=1, 500,000 bytes", "exec dd if=zeros of=/dev/null bs=1 count=500000", 1.03),
    ],
    ids=["many-programs", "cpu-bound", "syscall-bound"],
)
def test_a_program_at_work(
    what: str,
    script: str,
    bar: float,
    clock: FrozenClock,
    table: Table,
    medians: Medians,
    timed: Timed,
    tmp_path: Path,
) -> None:
    zeros = tmp_path / "zeros"
    zeros.write_bytes(bytes(128 * MEGABYTE))
    command = ["bash", "-c", script]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options: dict[str, Any] = {"cwd": tmp_path, "check": True, **silent}
    bare, ours = medians(
        timed(lambda: subprocess.run(command, **options)),
        timed(lambda: clock.run(command, **options)),
    )
    zeros.unlink()
    table.check(f"{what}, against bare", f"{ours:.3f} / {bare:.3f} s", ours / bare, bar)


@pytest.fixture
def threads(tmp_path: Path) -> str:
    """A program of glibc, whose threads are made by clone3."""
    output = tmp_path / "threads"
    source = Path(__file__).with_name("threads.c")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{MACHINE}-linux-gnu.2.36"]
    subprocess.run([*compiler, "-O2", "-pthread", "-o", output, source], check=True)
    return str(output)


def test_threads(threads: str, table: Table, medians: Medians) -> None:
    """Made and joined one by one; the program itself says how long each took."""
    with FrozenClock(rate=1) as clock:
        bare, ours = medians(
            lambda: float(subprocess.check_output([threads])),
            lambda: float(clock.check_output([threads])),
        )
        figures = f"{ours:.0f} / {bare:.0f} µs"
        table.check("a thread made and joined, against bare", figures, ours / bare, 5)
        (beside,) = medians(lambda: float(clock.check_output([threads, "busy"])))
        table.check("1,000 threads beside a busy one", "one by one", beside / 1e3, 1, " s")


def test_events_that_nobody_reads(
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
    table: Table,
    medians: Medians,
    timed: Timed,
) -> None:
    """Against a tracer that remembers none."""
    command = ["bash", "-c", "for i in {1..200}; do /bin/true; done"]

    def run() -> None:
        clock.run(command, check=True)

    def run_without() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(History, "add", lambda *_arguments: None)
            run()

    ours, without = medians(timed(run), timed(run_without), rounds=60)
    table.check("remembering events", f"{ours:.3f} / {without:.3f} s", ours / without, 1.02)


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    tracer = Tracer()
    yield tracer
    tracer.close()


@pytest.fixture
def idle_program(tracer: Tracer) -> Iterator[object]:
    """A program that sleeps, so that its tracer does too."""
    with clock_on(tracer, 0) as clock:
        yield clock.popen(["sleep", "1000"])


def test_waking_the_tracer(
    idle_program: object, tracer: Tracer, table: Table, medians: Medians
) -> None:
    """From the call in this thread until the tracer, asleep in waitpid, acts on it."""

    def wake() -> float:
        start = time.perf_counter()
        woken: float = tracer.call(lambda _loop: time.perf_counter())
        return woken - start

    (seconds,) = medians(wake, rounds=1000)
    table.check("waking the tracer", "from another thread", seconds * 1e6, 200, " µs")


def test_an_idle_tracer_sleeps(idle_program: object, table: Table) -> None:
    """It does not poll: what it does in an idle second is a look around now and then."""
    (thread,) = [each for each in threading.enumerate() if each.name == "vdsotime-tracer"]
    status = Path(f"/proc/self/task/{thread.native_id}/status")

    def wake_ups() -> int:
        return int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    before = wake_ups()
    time.sleep(5)
    per_second = (wake_ups() - before) / 5
    table.check("an idle tracer", "wake-ups a second", per_second, 20, "/s")
