"""The words for what keeps programs from being traced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_vdsotime import availability
from pytest_vdsotime.availability import Facts, explain, known_obstacle, obstacle, program_kinds

FINE = Facts(
    platform="linux",
    machine="x86_64",
    built_machines=frozenset({"x86_64", "aarch64"}),
    tracer=None,
    yama_scope=1,
    may_ptrace=False,
    filtered=False,
)


def test_nothing_is_in_the_way_here() -> None:
    assert known_obstacle() is None
    assert Facts.read().machine == os.uname().machine


@pytest.mark.parametrize(
    "change",
    [{}, {"filtered": True}, {"yama_scope": 0}, {"yama_scope": 2, "may_ptrace": True}],
)
def test_no_obstacle(change: dict[str, object]) -> None:
    assert obstacle(FINE._replace(**change)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"platform": "darwin"}, "needs Linux, and this is darwin", "on Linux"),
        ({"machine": "s390x"}, "for s390x in this installation (only: aarch64, x86_64)", "install"),
        ({"built_machines": frozenset()}, "(only: none)", "install"),
        (
            {"machine": "riscv64", "built_machines": frozenset({"riscv64"})},
            "for riscv64 cannot be given the clock",
            "on one of x86_64, aarch64",
        ),
        ({"tracer": "gdb (pid 7)"}, "traced by gdb (pid 7)", "without strace -f, a debugger"),
        ({"yama_scope": 3}, "ptrace_scope is 3", "reboot"),
        ({"yama_scope": 3, "may_ptrace": True}, "ptrace_scope is 3", "reboot"),
        ({"yama_scope": 2}, "lacks CAP_SYS_PTRACE", "sysctl kernel.yama.ptrace_scope=1"),
    ],
)
def test_obstacle(change: dict[str, object], reason: str, remedy: str) -> None:
    facts = FINE._replace(**change)  # type: ignore[arg-type]
    found = obstacle(facts)
    assert found is not None
    assert reason in found[0]
    assert remedy in found[1]
    said, mends = explain(errno.EPERM, "PTRACE_SEIZE", facts)
    assert said == f"PTRACE_SEIZE failed: Operation not permitted; {found[0]}"
    assert mends == found[1]


@pytest.mark.parametrize(
    ("number", "filtered", "reason", "remedy"),
    [
        (errno.EPERM, True, "Operation not permitted; a sandbox", "--cap-add=SYS_PTRACE"),
        (errno.ENOSYS, False, "Function not implemented; a sandbox", "seccomp=unconfined"),
        (errno.EACCES, False, "Permission denied; a security module", "deny_ptrace"),
    ],
)
def test_refusal(number: int, filtered: bool, reason: str, remedy: str) -> None:
    said, mends = explain(number, "PTRACE_SEIZE", FINE._replace(filtered=filtered))
    assert said.startswith("PTRACE_SEIZE failed: ")
    assert reason in said
    assert remedy in mends


def test_program_kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that the kernel runs and that there are objects for."""
    assert program_kinds() == ["x86_64", "i386"]
    monkeypatch.setattr(availability, "NATIVE", tmp_path)
    assert program_kinds() == ["x86_64"]
    (tmp_path / "i386").mkdir()
    assert program_kinds() == ["x86_64", "i386"]
    monkeypatch.setattr(availability, "_RUNS_TOO", {"x86_64": ("i386", tmp_path / "none")})
    assert program_kinds() == ["x86_64"]
    monkeypatch.setattr(availability, "_RUNS_TOO", {})
    assert program_kinds() == ["x86_64"]
