"""What type checkers know of programs on a clock: as of `subprocess`, text makes str of bytes.

`make lint` has mypy check the types, and that each ignored error is one; here pyright does, and
they are what they are said to be.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from datetime import date, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import assert_type

import pytest

from pytest_vdsotime import FrozenClock, FrozenClockFactory, FrozenPopen, TracedProcess

ECHO = ["echo", "text"]


@pytest.mark.frozen_time("2030-01-01", rate=1)
def test_types(frozen_clock: FrozenClock) -> None:
    clock = frozen_clock

    assert assert_type(clock.check_output(ECHO), bytes) == b"text\n"
    assert assert_type(clock.check_output(ECHO, text=True), str) == "text\n"
    assert assert_type(clock.check_output(ECHO, encoding="ascii"), str) == "text\n"
    assert assert_type(clock.check_output("cat", input="text", errors="ignore"), str) == "text"
    assert assert_type(clock.check_output("cat", input=b"bytes", text=False), bytes) == b"bytes"

    done = clock.run(ECHO, capture_output=True, text=True, check=True, timeout=30, cwd=Path("/"))
    assert_type(done, CompletedProcess[str])
    assert done.stdout == "text\n"
    assert_type(clock.run(["true"], universal_newlines=True), CompletedProcess[str])
    assert_type(clock.run(b"true", shell=True), CompletedProcess[bytes])
    assert assert_type(clock.call("exit 3", shell=True, timeout=30), int) == 3
    assert assert_type(clock.check_call(["true"], text=True), int) == 0

    with clock.popen(ECHO, stdout=PIPE, text=True, env={"LANG": "C"}) as program:
        assert_type(program, FrozenPopen[str])
        assert assert_type(program.communicate()[0], str) == "text\n"
    with clock.popen(ECHO, -1, stdout=PIPE) as in_bytes:
        assert_type(in_bytes, FrozenPopen[bytes])
        assert in_bytes.communicate()[0] == b"text\n"

    async def main() -> None:
        process = await clock.create_subprocess_exec("sh", "-c", "exit 3")
        assert_type(process, Process)
        assert await process.wait() == 3
        shell = assert_type(await clock.create_subprocess_shell("exit 4"), Process)
        assert await shell.wait() == 4

        await clock.aio.advance(hours=1, stride="1h", timeout=9)
        await clock.aio.jump("1d")
        assert_type(await clock.aio.advance_to_next(), datetime | None)
        await clock.aio.settle(timeout=9)
        await clock.aio.move_to(date(2031, 1, 1))
        await clock.aio.set_rate(0)
        with pytest.raises(TypeError):
            await clock.aio.advance("1h", strides="1m")  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            await clock.aio.settle("soon")  # type: ignore[arg-type]

    assert_type(clock.processes, list[TracedProcess])
    assert_type(clock.advance_to_next(), datetime | None)
    assert_type(clock.now, datetime)
    asyncio.run(main())


def test_factory(frozen_clock_factory: FrozenClockFactory) -> None:
    node = frozen_clock_factory("2030-01-01", rate=1, grace=0.1, stride="1h")
    assert assert_type(node, FrozenClock).rate == 1
    assert frozen_clock_factory(start=0).time() == 0
    with pytest.raises(TypeError):
        frozen_clock_factory(rat=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        frozen_clock_factory(grace="1")  # type: ignore[arg-type]


def test_mistakes(frozen_clock: FrozenClock) -> None:
    with pytest.raises(TypeError):
        frozen_clock.popen(ECHO, txt=True)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        frozen_clock.run(ECHO, cwd=3.5)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        frozen_clock.check_call(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"no keyword 'hour' \(did you mean 'hours'\?\)"):
        frozen_clock.advance(hour=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"no keyword 'day' \(did you mean 'days'\?\)"):
        frozen_clock.jump(day=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no keyword 'strides'; there are days, seconds, "):
        frozen_clock.advance(1, strides=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        frozen_clock.advance(hours="1")  # type: ignore[arg-type]


def test_pyright(tmp_path: Path) -> None:
    """At its strictest, of this file, with the package as it is installed."""
    project = tmp_path / "pyrightconfig.json"
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "include": [__file__]}
    project.write_text(json.dumps(settings))
    # Its own node, with the checker in it: the package of the name pyright would fetch both.
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "--project", project], capture_output=True, text=True, timeout=150
    )
    assert done.stdout.endswith("0 errors, 0 warnings, 0 notes\n"), done.stdout + done.stderr
    assert done.returncode == 0
