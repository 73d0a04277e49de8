"""The standard library's `Popen`, as it was when this module was first imported.

Other plugins put a class of their own in its place while a test runs (pytest-subprocess: in every
module that has it by some name), and what starts programs here builds on the real one.
"""

from __future__ import annotations

import subprocess


class Standard:
    """Holds it where nothing looks for module attributes to replace."""

    Popen = subprocess.Popen

    popen_init = subprocess.Popen.__init__
    """For what is on no clock, wherever a clock is patched in."""
