"""patch_subprocess: whoever starts programs by subprocess or asyncio does so on the clock, and
afterwards everything is what it was."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import weakref
from asyncio import base_events, unix_events
from asyncio.subprocess import PIPE, create_subprocess_exec, create_subprocess_shell
from collections.abc import Callable
from subprocess import Popen, call, check_call, check_output, run
from typing import Any

import pytest
import uvloop
from pexpect.popen_spawn import PopenSpawn

from pytest_vdsotime import FrozenClock, FrozenPopen

DATE = ["date", "-u", "+%Y"]
OWNERS = (
    *(asyncio, base_events, unix_events, asyncio.subprocess, subprocess, os),
    *(base_events.BaseEventLoop, unix_events.SelectorEventLoop, uvloop.Loop, subprocess.Popen),
)


class Derived(Popen[str]):
    """As libraries have it, with an initializer and a slot of its own."""

    __slots__ = ("waits",)

    def __init__(self, *args: Any) -> None:
        super().__init__(args, stdout=PIPE, text=True)
        self.waits = 0

    def wait(self, timeout: float | None = None) -> int:
        self.waits += 1
        return super().wait(timeout)


def by_popen() -> str:
    with Popen(DATE, stdout=PIPE, text=True) as program:
        assert type(program).__name__ == "Popen"
        return program.communicate()[0]


def by_a_derived_class() -> str:
    with Derived(*DATE) as program:
        assert program.stdout
        year = program.stdout.read()
    assert isinstance(program, Derived)
    assert (program.waits, program.returncode) == (1, 0)
    return year


def by_run() -> str:
    for function in (call, check_call):
        assert function("test $(date -u +%Y) = 1999", shell=True) == 0
    return run(DATE, capture_output=True, text=True, check=True).stdout


def by_os_popen() -> str:
    with os.popen("date -u +%Y") as pipe:
        return pipe.read()


def by_asyncio() -> str:
    async def main() -> bytes:
        program = await create_subprocess_exec(*DATE, stdout=PIPE)
        output, _ = await program.communicate()
        shell = await create_subprocess_shell("test $(date -u +%Y) = 1999")
        assert await shell.wait() == 0
        return output

    return asyncio.run(main()).decode()


def by_pexpect() -> str:
    spawn = PopenSpawn("sh", encoding="utf-8")
    spawn.sendline("date -u +year=%Y; exit 3")
    spawn.expect("year=(.*\n)")
    assert spawn.wait() == 3
    assert spawn.match is not None
    spawn.proc.stdin.close()
    spawn.proc.stdout.close()
    spawn._read_thread.join()
    return str(spawn.match[1])


USERS = [by_popen, by_a_derived_class, by_run, by_os_popen, by_asyncio, by_pexpect]


@pytest.mark.parametrize("year_of_program", USERS)
def test_on_the_clock(year_of_program: Callable[[], str]) -> None:
    with FrozenClock("1999-06-01") as clock, clock.patch_subprocess():
        assert year_of_program() == "1999\n"
        assert all(process.has_read_clock for process in clock.processes)


def names() -> dict[object, dict[str, object]]:
    return {owner: dict(vars(owner)) for owner in OWNERS}


def test_it_is_undone_exactly() -> None:
    def leave(clock: FrozenClock) -> None:
        with clock.patch_subprocess():
            assert check_output(DATE) == b"1999\n"
            assert names() != before
            raise KeyError

    before = names()
    with FrozenClock("1999-06-01") as clock:
        with pytest.raises(KeyError):
            leave(clock)
        assert names() == before
    program = Popen(["true"])
    assert type(program) is Popen
    assert program.wait() == 0


def test_a_clock_that_was_patched_in_is_kept_by_nobody() -> None:
    with FrozenClock(0) as clock, clock.patch_subprocess():
        assert os.system("test $(date -u +%Y) = 1970") == 0
        session = weakref.ref(clock.session)
    del clock
    gc.collect()
    assert session() is None


def test_the_innermost_clock_counts() -> None:
    outer, inner = FrozenClock("1999-06-01"), FrozenClock("2001-06-01")
    with outer, inner, outer.patch_subprocess():
        before = names()
        with inner.patch_subprocess():
            assert check_output(DATE) == b"2001\n"
            assert outer.check_output(DATE) == b"1999\n"
            with outer.popen(DATE, stdout=PIPE) as program:
                assert isinstance(program, FrozenPopen)
                assert program.communicate()[0] == b"1999\n"
        assert names() == before
        assert check_output(DATE) == b"1999\n"
