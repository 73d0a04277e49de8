"""Turns of phrase that no page has, and no text of the package."""

import re
from pathlib import Path

import pytest

import pytest_vdsotime

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pytest_vdsotime.__file__).parent
BANNED = re.compile(r"\b(is told of|somebody|whoever|such a one|for people|he)\b", re.IGNORECASE)
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("native_stub/*.md"), *PACKAGE.glob("docs/*.md")]
#: Modules that still have some: strike a name as soon as its module has none.
EXCEPTIONS = {
    "clock.py",
    "events.py",
    "kernel/descriptors.py",
    "kernel/wait.py",
    "patching.py",
    "popen.py",
    "report/__init__.py",
    "report/describe.py",
    "report/recorder.py",
    "spawning.py",
    "timeline.py",
    "tracer/call.py",
    "tracer/calls/expirations.py",
    "tracer/calls/signals.py",
    "tracer/calls/sockets.py",
    "tracer/calls/waits.py",
    "tracer/cancellation.py",
    "tracer/operations.py",
    "tracer/quiescence.py",
    "tracer/state.py",
    "tracer/stops.py",
    "tracer/takeover/exec.py",
    "tracer/takeover/relocate.py",
    "waits.py",
}
MODULES = {*PACKAGE.rglob("*.py")} - {PACKAGE / name for name in EXCEPTIONS}


@pytest.mark.parametrize("path", sorted([*PAGES, *MODULES]), ids=lambda path: path.name)
def test_no_banned_turn(path: Path) -> None:
    assert not BANNED.findall(" ".join(path.read_text().split()))
