"""``vdsotime --check``: what works on this machine, line by line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Final

from pytest_vdsotime.availability import NATIVE, Facts, obstacle
from pytest_vdsotime.errors import TracingUnavailable, VdsoTimeError

_MFD_EXEC: Final = 0x10  # linux/memfd.h
_INSTANT: Final = "1970-01-01T00:00:00Z"


def check() -> int:
    """Prints a line for each thing that programs on a clock need, up to the first that is missing.

    Returns the exit status: 0 if nothing is.
    """
    for name, examine in _CHECKS.items():
        try:
            print(f"ok    {name}: {examine()}")
        except TracingUnavailable as error:
            print(f"FAIL  {name}: {error.reason}\n      remedy: {error.remedy}")
            return 1
        except (VdsoTimeError, OSError, subprocess.SubprocessError) as error:
            print(f"FAIL  {name}: {error}")
            return 1
    return 0


def _permission() -> str:
    facts = Facts.read()
    found = obstacle(facts)
    if found is not None:
        raise TracingUnavailable(*found)
    capable = "with" if facts.may_ptrace else "without"
    filtered = "a seccomp filter" if facts.filtered else "no seccomp filter"
    return (
        f"{facts.machine}, traced by nobody, Yama ptrace_scope {facts.yama_scope}, "
        f"{capable} CAP_SYS_PTRACE, {filtered}"
    )


def _system() -> str:
    system = os.uname()
    return f"{system.sysname} {system.release}"


def _native_objects() -> str:
    return ", ".join(sorted(entry.name for entry in NATIVE.iterdir()))


def _vdso() -> str:
    from pytest_vdsotime.tracer.thread import Tracer

    symbols = Tracer().load().own.host.image.symbols
    return f"every symbol is known: {', '.join(sorted(name for name, _ in symbols))}"


def _memory_files() -> str:
    try:
        os.close(os.memfd_create("vdsotime-check", os.MFD_CLOEXEC | _MFD_EXEC))
    except PermissionError:
        return "may not be executable here (vm.memfd_noexec): programs get the code by a copy"
    except OSError:
        return "are always executable here: the kernel is older than 6.3"
    return "may be executable"


def _ptrace() -> str:
    from pytest_vdsotime.tracer.thread import Tracer

    tracer = Tracer()
    try:
        tracer.start()
    finally:
        tracer.close()
    return "PTRACE_SEIZE of a child works"


def _takeover() -> str:
    from pytest_vdsotime.clock import FrozenClock

    with FrozenClock(_INSTANT) as clock:
        read = clock.check_output(["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"], text=True).strip()
    if read != _INSTANT:
        raise VdsoTimeError(f"date on a clock at {_INSTANT} printed {read}")
    return f"date on a clock of its own prints {read}"


_CHECKS: Final[Mapping[str, Callable[[], str]]] = {
    "system": _system,
    "native objects": _native_objects,
    "permission": _permission,
    "vDSO": _vdso,
    "memory files": _memory_files,
    "ptrace": _ptrace,
    "takeover": _takeover,
}
