"""The pointers of every system call that the tracer answers are tried, bare and on clocks, by the
programs tests/programs/bad_pointers_*.c."""

import re
from pathlib import Path

from pytest_vdsotime.tracer.calls import CALLS

PROGRAMS = Path(__file__).parents[1] / "programs"
WITHOUT_POINTERS = frozenset(
    ("alarm", "setns", "timer_delete", "timer_getoverrun", "unshare", "userfaultfd")
)


def test_the_pointers_of_every_call_are_tried() -> None:
    sources = "".join(path.read_text() for path in PROGRAMS.glob("bad_pointers_*.c"))
    tried = set(re.findall(r"\b(?:CALL|NAME|TRIAL)\((\w+)[,)]", sources))
    assert not {row.name for row in CALLS} - tried - WITHOUT_POINTERS
