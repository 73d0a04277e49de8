"""Programs under limits that leave no room for the clock run as they do alone: with the clock, or
in real time under a warning that names them."""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock, RealTimeWarning

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 30
STATUS = 7  # of helpers/who_and_when.c


def limited(program: str, status: int, *arguments: str) -> list[str]:
    """A program under the least address space that it runs in alone (RLIMIT_AS)."""
    for kilobytes in range(64, 4096, 4):
        run = ["sh", "-c", f'ulimit -v {kilobytes}; exec "$0" "$@"', program, *arguments]
        if subprocess.run(run, capture_output=True, timeout=CEILING_S).returncode == status:
            return run
    pytest.fail("no limit is large enough")


def test_no_room_for_a_page(build: Builder) -> None:
    command = limited(build.c("helpers/who_and_when"), STATUS)
    before = int(time.time())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with FrozenClock("1970-01-01") as clock:
            done = clock.run(command, capture_output=True, text=True, timeout=CEILING_S)
    assert (done.returncode, done.stderr) == (STATUS, "")
    seconds = int(done.stdout.split()[1])
    if seconds == 0:
        assert not caught
    else:
        assert before <= seconds <= time.time()
        (warning,) = caught
        assert warning.category is RealTimeWarning and "who_and_when" in str(warning.message)


def test_the_kernels_image_is_whole_without_room_for_another(build: Builder) -> None:
    command = limited(build.c("vdso_image"), 0, "0", "0")
    with FrozenClock("1970-01-01") as clock:
        done = clock.run(command, capture_output=True, text=True, timeout=CEILING_S)
    assert (done.stdout, done.stderr) == ("EXIT-SUCCESS\n", "")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit calls are of x86")
@pytest.mark.parametrize(
    ("role", "reason"),
    [("no-room", "mmap: .*memory"), ("filter", "it has a seccomp filter of its own")],
)
def test_no_room_below_4_gib(build: Builder, role: str, reason: str) -> None:
    """For waits by 32-bit calls of a 64-bit program."""
    with (
        pytest.warns(RealTimeWarning, match=rf"int80_waits.*\(int 0x80\).*{reason}") as caught,
        FrozenClock("1970-01-01", monotonic="freeze", grace=0) as clock,
    ):
        program = [build.c("int80_waits"), "0", "0", role]
        done = clock.run(program, capture_output=True, text=True, timeout=CEILING_S)
    assert (done.stdout, done.stderr) == ("EXIT-SUCCESS\n", "")
    assert len(caught) == 1
