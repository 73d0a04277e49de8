"""Stories as one HTML page that needs nothing else: report.html draws the data that stand in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, TextIO

from pytest_vdsotime.report.recorder import Story

_TEMPLATE: Final = Path(__file__).with_name("report.html")
_PLACE: Final = "<!-- stories -->"


class ReportFile:
    """The page, written as its stories come.

    Raises OSError when it cannot be written.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        before, _, self._behind = _TEMPLATE.read_text(encoding="utf-8").partition(_PLACE)
        file.write(before)

    def add(self, story: Story) -> None:
        """Add what happened in one test."""
        text = json.dumps(story, separators=(",", ":")).replace("<", "\\u003c")
        self._file.write(f'<script type="application/json" class="story">{text}</script>\n')

    def close(self) -> None:
        """Complete the page."""
        self._file.write(self._behind)
        self._file.close()
