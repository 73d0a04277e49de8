"""What stands in place of files of /proc: the tracer writes into nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_vdsotime.tracer.calls import machine
from pytest_vdsotime.tracer.calls.machine import MachineFile

SERVED = {
    "uptime": MachineFile("uptime"),
    "stat": MachineFile("stat"),
    "stat-12": MachineFile("stat", 12),
    "stat-12-34": MachineFile("stat", 12, 34),
}


@pytest.mark.parametrize("name", SERVED)
def test_what_is_served_is_known_by_its_name(name: str) -> None:
    file = os.memfd_create(machine.SERVED + name)
    try:
        assert MachineFile.served(os.getpid(), file) == SERVED[name]
        assert SERVED[name].name == machine.SERVED + name
        machine.write(os.getpid(), file, b"first text")
        machine.write(os.getpid(), file, b"second")
        assert os.pread(file, 100, 0) == b"second"
    finally:
        os.close(file)


@pytest.mark.parametrize("name", ["uptime-", "uptime-x", "stat-1-2-3", "passwd", "stat/../../x"])
def test_a_memfd_of_another_name_is_the_programs_own(name: str) -> None:
    file = os.memfd_create(machine.SERVED + name)
    try:
        assert MachineFile.served(os.getpid(), file) is None
        with pytest.raises(OSError, match="is another file"):
            machine.write(os.getpid(), file, b"text")
        assert os.fstat(file).st_size == 0
    finally:
        os.close(file)


def test_a_descriptor_that_leads_elsewhere_meanwhile(tmp_path: Path) -> None:
    """A thread of the program may put another file there: one that it may only read."""
    path = tmp_path / "uptime"
    path.write_text("not the clock's")
    with path.open() as file, pytest.raises(OSError, match="is another file"):
        machine.write(os.getpid(), file.fileno(), b"text")
    assert path.read_text() == "not the clock's"


def test_a_fifo_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "uptime"
    os.mkfifo(path)
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert MachineFile.opened(os.getpid(), file) is None
        with pytest.raises(OSError, match="is another file"):
            machine.write(os.getpid(), file, b"text")
    finally:
        os.close(file)
