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
    "spawning.py",
    "story.py",
    "timeline.py",
    "tracer/canceled.py",
    "tracer/doings.py",
    "tracer/jumping.py",
    "tracer/lookout.py",
    "tracer/moving.py",
    "tracer/parking.py",
    "tracer/passing.py",
    "tracer/quiet.py",
    "tracer/request.py",
    "tracer/signalcalls.py",
    "tracer/sockets.py",
    "tracer/spans.py",
    "tracer/takeover.py",
    "tracer/tasks.py",
    "tracer/timers.py",
    "waits.py",
}
MODULES = {*PACKAGE.rglob("*.py")} - {PACKAGE / name for name in EXCEPTIONS}


@pytest.mark.parametrize("path", sorted([*PAGES, *MODULES]), ids=lambda path: path.name)
def test_no_banned_turn(path: Path) -> None:
    assert not BANNED.findall(" ".join(path.read_text().split()))
