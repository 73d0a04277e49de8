"""Numbers of the kernel's interface and of native_stub, as the C headers have them:
native_stub/build.py writes abi.json from those (native_stub/abi.c names what is in it)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pytest_vdsotime.errors import TracingUnavailable

_PATH = Path(__file__).with_name("native") / "abi.json"


@cache
def _whole() -> Any:
    try:
        return json.loads(_PATH.read_bytes())
    except FileNotFoundError:
        raise TracingUnavailable(
            f"{_PATH.name} is missing from the installation",
            "install pytest-vdsotime again, from a wheel or with its build hook",
        ) from None


def syscalls(kind: str) -> Mapping[str, int]:
    """Return the numbers of all system calls by name, for a kind of program (Arch.name)."""
    numbers: Mapping[str, int] = _whole()["syscalls"][kind]
    return numbers


def constant(name: str) -> int:
    """Return a constant of the headers, as a signed 64-bit integer."""
    value: int = _whole()["constants"][name]
    return value
