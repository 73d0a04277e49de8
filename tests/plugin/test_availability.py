"""The words for what keeps programs from being traced."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_vdsotime
from pytest_vdsotime import TracingUnavailable, availability
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


#: What is in the way of tracing, and how the texts of all that are called.
OBSTACLES: dict[str, dict[str, object]] = {
    "another system": {"platform": "darwin"},
    "an architecture without objects": {"machine": "s390x"},
    "no objects": {"built_machines": frozenset()},
    "no objects in a checkout": {"built_machines": frozenset(), "source_tree": "/home/me/src"},
    "a stub alone": {"machine": "riscv64", "built_machines": frozenset({"riscv64"})},
    "no /proc": {"has_proc": False},
    "an undumpable process": {"is_open": False},
    "larger pages": {"machine": "aarch64", "page_size": 65536},
    "a tracer": {"tracer": "gdb (pid 7)"},
    "Yama 3": {"yama_scope": 3},
    "Yama 3, as root": {"yama_scope": 3, "may_ptrace": True},
    "Yama 2": {"yama_scope": 2},
}
#: What the kernel says where nothing of that is: the error, and whether there is a filter.
REFUSALS = {
    "refused in a sandbox": (errno.EPERM, True),
    "unknown in a sandbox": (errno.ENOSYS, False),
    "denied": (errno.EACCES, False),
    "unknown to the kernel": (errno.EIO, True),
}


def test_texts() -> None:
    """Each reads like advice: they are in unavailable.txt as they are told."""
    told = {
        name: obstacle(FINE._replace(**change))  # type: ignore[arg-type]
        for name, change in OBSTACLES.items()
    }
    for name, (number, filtered) in REFUSALS.items():
        told[name] = explain(number, "PTRACE_SEIZE", FINE._replace(filtered=filtered))
    texts = [f"{name}\n  {TracingUnavailable(*text)}\n" for name, text in told.items() if text]
    assert "".join(texts) == Path(__file__).with_name("unavailable.txt").read_text()


def test_python_in_a_checkout(tmp_path: Path) -> None:
    """It imports the package there, which has nothing that is built."""
    package = Path(pytest_vdsotime.__file__).parent
    tree = shutil.copytree(
        package, tmp_path / package.name, ignore=shutil.ignore_patterns("native")
    )
    (tmp_path / "native_stub").mkdir()
    (tmp_path / "native_stub" / "build.py").touch()
    said = f"Python has imported pytest_vdsotime from its source tree, {tree.parent}, in which "
    remedy = "start Python in another directory, so that it imports the installed package"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    use = "from pytest_vdsotime import FrozenClock; FrozenClock().run(['true'])"
    for command in (["-c", use], ["-m", "pytest_vdsotime", "--", "true"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode
        assert said in done.stderr and remedy in done.stderr


CHANGED_USER = """
import os
from pytest_vdsotime import FrozenClock, TracingUnavailable
os.setgid(65534)
os.setuid(65534)
try:
    FrozenClock(0).run(["true"])
except TracingUnavailable as error:
    assert "PR_SET_DUMPABLE" in error.reason
else:
    assert False
"""


@pytest.mark.usefixtures("as_root")
def test_a_process_that_has_changed_its_user() -> None:
    subprocess.run(
        [sys.executable, "-c", "import pytest_vdsotime.popen\n" + CHANGED_USER], check=True
    )


@pytest.mark.usefixtures("as_root")
def test_no_proc() -> None:
    """As in a bare chroot."""
    check = [sys.executable, "-m", "pytest_vdsotime", "--check"]
    command = ["unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", *check]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert "/proc is not mounted" in done.stdout and "mount -t proc proc /proc" in done.stdout


@pytest.mark.parametrize("name", OBSTACLES)
def test_a_refusal_is_explained_by_what_is_known(name: str) -> None:
    facts = FINE._replace(**OBSTACLES[name])  # type: ignore[arg-type]
    found = obstacle(facts)
    assert found is not None
    said, mends = explain(errno.EPERM, "PTRACE_SEIZE", facts)
    assert said == f"PTRACE_SEIZE failed: Operation not permitted; {found[0]}"
    assert mends == found[1]


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
