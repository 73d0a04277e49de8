"""Programs that are paused by their cgroup, as containers are, at the worst of moments."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL

import pytest

from pytest_vdsotime import FrozenClock, UnsupportedProgram, VdsoTimeError, faults
from pytest_vdsotime.kernel import procfs

CEILING_S = 30
#: Of each version of cgroups: where they may be, what freezes and thaws.
VERSIONS = {
    "1": (("/sys/fs/cgroup/freezer",), "freezer.state", "FROZEN", "THAWED"),
    "2": (("/sys/fs/cgroup", "/sys/fs/cgroup/unified"), "cgroup.freeze", "1", "0"),
}
# In another time namespace than the tests: the tracer makes calls in it, one by one, at its exec.
APART = ["unshare", "--time", "--monotonic=100", "--fork", "--kill-child", "sleep", "1000"]


class Pause:
    """A cgroup whose processes stand still, until it ends."""

    def __init__(self, directory: Path, name: str, words: tuple[str, str]) -> None:
        self.directory, self.file, self.words = directory, directory / name, words
        self.paused = 0

    def freeze(self, pid: int) -> None:
        """A program of a time namespace of its own, as its exec is about to be seen to."""
        if not self.paused and procfs.has_time_namespace(pid):
            self.paused = pid
            (self.directory / "cgroup.procs").write_text(str(pid))
            self.file.write_text(self.words[0])

    def thaw(self) -> None:
        self.file.write_text(self.words[1])
        deadline_s = time.monotonic() + CEILING_S
        while (self.directory / "cgroup.procs").read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        self.paused = 0


@contextmanager
def pause(version: str) -> Iterator[Pause]:
    places, name, *words = VERSIONS[version]
    place = next((one for one in places if Path(one, "cgroup.procs").exists()), None)
    if place is None:
        pytest.skip("this machine has the other version of cgroups alone")
    directory = Path(place, f"vdsotime-test-{os.getpid()}")
    directory.mkdir()
    try:
        one = Pause(directory, name, (words[0], words[1]))
        yield one
        one.thaw()
    finally:
        directory.rmdir()


@pytest.mark.parametrize("version", VERSIONS)
def test_in_the_midst_of_its_start(version: str, as_root: None) -> None:
    """Nothing else is held up, and the program is killed: it would have no clock."""
    with FrozenClock("2000-01-01") as clock, pause(version) as paused:
        with faults.injected("stop EXEC", paused.freeze):
            program = clock.popen(APART, stdin=DEVNULL)
            with pytest.raises(UnsupportedProgram, match="it was paused"):
                while True:
                    assert clock.check_output(["date", "-u", "+%Y"]) == b"2000\n"
        paused.thaw()
        assert program.wait(CEILING_S) != 0


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tracer_fails_meanwhile(version: str, as_root: None) -> None:
    """It waits for no program that cannot end."""
    others = {thread.ident for thread in threading.enumerate()}  # tracers of other clocks too
    clock = FrozenClock()
    program = clock.popen(["sleep", "1000"], stdin=DEVNULL)

    def fail(_pid: int) -> None:
        if threading.get_ident() not in others:
            raise SystemExit("on purpose")

    with pause(version) as paused:
        (paused.directory / "cgroup.procs").write_text(str(program.pid))
        paused.file.write_text(paused.words[0])
        with faults.injected("loop", fail), pytest.raises(VdsoTimeError, match="on purpose"):
            clock.run(["true"])
            clock.close()
        paused.thaw()
    with suppress(ChildProcessError):  # by version 1 SIGKILL ends it only now: nobody has waited
        os.waitpid(program.pid, 0)
    with pytest.raises(VdsoTimeError, match="on purpose"):
        clock.close()
