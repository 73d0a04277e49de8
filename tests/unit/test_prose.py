"""Turns of phrase that no page has, and no text of the package."""

import re
from pathlib import Path

import pytest_vdsotime

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pytest_vdsotime.__file__).parent
BANNED = re.compile(r"\b(is told of|somebody|whoever|such a one|for people|he)\b", re.IGNORECASE)
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("native_stub/*.md"), *PACKAGE.glob("docs/*.md")]
SOURCES = [path for kind in "chS" for path in ROOT.glob(f"native_stub/**/*.{kind}")]
MODULES = PACKAGE.rglob("*.py")


def test_no_banned_turn() -> None:
    paths = [*PAGES, *SOURCES, *MODULES]
    found = {path: BANNED.findall(" ".join(path.read_text().split())) for path in paths}
    assert not {path: turns for path, turns in found.items() if turns}
