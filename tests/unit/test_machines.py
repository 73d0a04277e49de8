"""Machines: what has a stub, what can be given the clock, and what others are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_vdsotime.arch import MACHINES, Arch
from pytest_vdsotime.arch.aarch64 import AARCH64
from pytest_vdsotime.arch.x86_64 import X86_64
from pytest_vdsotime.image import fake_vdso
from pytest_vdsotime.tracer.calls import CALLS
from pytest_vdsotime.waits import WAITS

# As on a machine that no release knows: uname(2) says so to a program for 32 bits (personality(2)).
ELSEWHERE = """
import ctypes, os
ctypes.CDLL(None).personality(8)  # PER_LINUX32
import pytest_vdsotime
try:
    with pytest_vdsotime.FrozenClock("1970-01-01") as clock:
        clock.run(["true"])
except pytest_vdsotime.TracingUnavailable as error:
    assert os.uname().machine in str(error), error
    print("unavailable")
"""


def test_a_machine_without_a_stub_is_named_at_the_first_use() -> None:
    run = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("unavailable\n", "")


@pytest.mark.parametrize("arch", [X86_64, AARCH64, *X86_64.runs_too], ids=lambda arch: arch.name)
def test_the_stub_has_every_function_that_is_called(arch: Arch) -> None:
    fake = fake_vdso(arch)
    assert [name for name in arch.vdso_entries if name and fake.offset(name) is None] == []
    assert arch.kept_symbols <= fake.value_offsets.keys()
    assert arch.syscall_instruction in fake.data


def test_the_table_of_machines_is_complete() -> None:
    assert set(MACHINES) == {X86_64.name, AARCH64.name}


def test_every_call_is_one_of_some_architecture() -> None:
    """A row with another name would be passed over."""
    archs = (X86_64, *X86_64.runs_too, AARCH64)
    known = {name for arch in archs for one in arch.abis for name in one.syscalls}
    assert {row.name for row in WAITS} | {row.name for row in CALLS} <= known
