"""What differs between architectures, as records of facts.

The rest of the package reads them here.
"""

from __future__ import annotations

import os
from typing import Any

from pytest_vdsotime.arch.model import Abi, Arch
from pytest_vdsotime.errors import TracingUnavailable

__all__ = ["MACHINES", "Abi", "Arch", "host_arch", "own_registers"]

#: Whose programs can be given the clock, as `uname -m` has them.
MACHINES = "x86_64", "aarch64"


def own_registers() -> Any:
    """Return the structure for a machine whose registers are several sets.

    By PTRACE_GETREGSET (ptrace(2)); None where python-ptrace has one.
    """
    if os.uname().machine == "aarch64":
        from pytest_vdsotime.arch.aarch64 import Registers

        return Registers
    return None


def host_arch() -> Arch:
    """Return the facts of this machine.

    Raises:
        TracingUnavailable: an architecture whose programs cannot be given the clock.
    """
    machine = os.uname().machine
    if machine == "x86_64":
        from pytest_vdsotime.arch.x86_64 import X86_64

        return X86_64
    if machine == "aarch64":
        from pytest_vdsotime.arch.aarch64 import AARCH64

        return AARCH64
    raise TracingUnavailable(
        f"programs for {machine} cannot be given the clock",
        f"run the tests on one of {', '.join(MACHINES)}",
    )
