"""What test suites say about each of their tests, read from what they leave behind.

A reader takes the output of one command and the directory it ran in, and returns the outcome of
each test by its name. A test that is named more than once has all of its outcomes.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Outcomes = dict[str, str]
Reader = Callable[[str, Path], Outcomes]

JUNIT_FILE = "results.xml"
"""In the directory of the command; `read_junit` reads it."""


_PASSING = re.compile(r"status 0|ok|OK|PASS(ED)?|passed|completed run|.*successful run", re.DOTALL)


def is_passing(outcome: str) -> bool:
    """Whether an outcome is one of a test that passes."""
    return bool(_PASSING.match(outcome))


def collect(found: Iterable[tuple[str, str]]) -> Outcomes:
    """Return the outcomes by name, from pairs of a name and an outcome."""
    outcomes: dict[str, list[str]] = {}
    for name, outcome in found:
        outcomes.setdefault(name, []).append(outcome)
    return {name: ", ".join(several) for name, several in outcomes.items()}


def read_status(output: str, directory: Path) -> Outcomes:
    """One program is one test: its exit status is the outcome."""
    return {}


def read_junit(output: str, directory: Path) -> Outcomes:
    """Read JUnit's XML, as `python -m test` and pytest write it."""
    try:
        root = ElementTree.parse(directory / JUNIT_FILE)
    except (OSError, ElementTree.ParseError):
        return {}  # the run was ended before it was written
    return collect(_junit_cases(root.iter("testcase")))


def _junit_cases(cases: Iterable[ElementTree.Element]) -> Iterable[tuple[str, str]]:
    for case in cases:
        kinds = [
            f"{one.tag} {one.get('message') or one.text or ''}" if one.tag == "skipped" else one.tag
            for one in case
            if one.tag in ("error", "failure", "skipped")
        ]
        said = [case.get("result"), case.get("status"), *sorted(kinds)]
        yield case.get("name", ""), " ".join(word.strip() for word in said if word) or "passed"


def read_pattern(pattern: str) -> Reader:
    """Return a reader of lines that match a regular expression with groups `name`, `outcome`."""
    expression = re.compile(pattern, re.MULTILINE)

    def read(output: str, directory: Path) -> Outcomes:
        return collect((one["name"], one["outcome"]) for one in expression.finditer(output))

    return read


read_go = read_pattern(r"^ *--- (?P<outcome>\w+): (?P<name>\S+) \(")
read_automake = read_pattern(r"^(?P<outcome>PASS|FAIL|SKIP|XFAIL|XPASS|ERROR): (?P<name>\S+)")
read_tap = read_pattern(r"^ *(?P<outcome>(?:not )?ok) (?P<name>\d+)\b")
read_named_tap = read_pattern(r"^(?P<outcome>(?:not )?ok) \d+ - (?P<name>\S+)")


def read_stress_ng(output: str, directory: Path) -> Outcomes:
    """All that stress-ng says, without its pids and times, is the outcome of its one stressor."""
    return {"said": re.sub(r"\[\d+\]|completed in \d.*", "", output)}


def read_util_linux(output: str, directory: Path) -> Outcomes:
    """Read the lines of a test and, indented below it, those of its parts."""
    line = re.compile(
        r"^ +(?:(?P<test>\S+: \S+)|: (?P<part>\S.*?))? +\.\.\.(?: (?P<outcome>[A-Z]+))?"
    )

    def found() -> Iterator[tuple[str, str]]:
        test = ""
        for one in filter(None, map(line.match, output.splitlines())):
            test = one["test"] or test
            if one["outcome"]:
                yield f"{test}: {one['part']}" if one["part"] else test, one["outcome"]

    return collect(found())
