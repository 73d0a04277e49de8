"""What cannot be: each says so within ten seconds, and leaves nothing."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock, VdsoTimeError


def test_unknown_engine() -> None:
    with (
        FrozenClock() as clock,
        pytest.raises(ValueError, match="'podman', 'docker' or None, not 'lxc'"),
    ):
        clock.containers("lxc")


@pytest.mark.parametrize("args", ["--debug", b"--debug", [1], [b"x"]])
def test_arguments_are_a_list_of_strings(args: Any) -> None:
    with FrozenClock() as clock, pytest.raises(TypeError, match="args is a list of strings"):
        clock.containers("podman", args=args)


def test_podman_has_no_data_root(tmp_path: Path) -> None:
    with FrozenClock() as clock, pytest.raises(ValueError, match="data_root is of Docker's engine"):
        clock.containers("podman", data_root=tmp_path)


def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (None, "neither podman nor dockerd here: install podman or docker.io"),
        ("podman", "no podman here: install podman"),
        ("docker", "no dockerd here: install docker.io"),
    ],
)
def test_no_engine(engine: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_engine(monkeypatch)
    with FrozenClock() as clock, pytest.raises(VdsoTimeError, match=said):
        clock.containers(engine)


@pytest.mark.parametrize(
    ("engine", "args", "said"),
    [
        ("podman", ["--what"], "status 125; its last lines:\n.*unknown flag: --what"),
        ("docker", ["--what"], "status 1; its last lines:\n.*unknown flag: --what"),
        (
            "docker",
            ["--storage-driver=tape"],
            "status 1; its last lines:\n(.*\n)*.*graphdriver: driver not",
        ),
        ("docker", ["--bridge=nowhere0"], "status 1; its last lines:\n(.*\n)*.*nowhere0"),
    ],
)
def test_an_engine_that_does_not_start(
    engine: str, args: list[str], said: str, as_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vdsotime.containers._run_directory", tempfile.gettempdir)
    before = os.listdir(tempfile.gettempdir()), os.environ.get("DOCKER_HOST")
    begin = time.monotonic()
    with (
        FrozenClock() as clock,
        pytest.raises(VdsoTimeError, match=said),
        clock.containers(engine, args=args),
    ):
        pytest.fail("it has started")
    assert time.monotonic() - begin < 20
    assert before == (os.listdir(tempfile.gettempdir()), os.environ.get("DOCKER_HOST"))


def test_an_engine_that_does_not_answer(
    as_root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what it has to say after ten seconds, and is killed."""
    slow = tmp_path / "podman"
    slow.write_text("#!/bin/sh\necho about to start\nexec sleep 1000\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("pytest_vdsotime.containers._START_S", 2.0)
    said = "podman does not answer within 2 s; its last lines:\nabout to start"
    with FrozenClock() as clock, pytest.raises(VdsoTimeError, match=said), clock.containers():
        pytest.fail("it has started")


def test_a_closed_clock() -> None:
    from pytest_vdsotime import ClockClosed

    clock = FrozenClock()
    clock.close()
    with pytest.raises(ClockClosed):
        clock.containers("podman")
