"""The trace and the page: what is in them, by a strict reader of the format and a real browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

Record = dict[str, Any]
Find = Callable[[str], str]

# Two tests with a clock of a fixture and one of their own, one without a clock.
SOURCE = """
import subprocess
import pytest
from pytest_vdsotime import FrozenClock

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze")
def test_fails(frozen_clock):
    job = frozen_clock.popen(["sh", "-c", "sleep 1h; (exit 3); sleep 1d & cat"], stdin=-1)
    frozen_clock.advance(hours=2)
    frozen_clock.move_to("2031-01-01")
    assert job.poll() is not None, "</script>"

def test_passes():
    with FrozenClock(0, monotonic="freeze") as clock:
        job = clock.popen(["timeout", "60", "cat"], stdin=subprocess.PIPE)
        clock.settle()
        clock.advance(minutes=5)
        assert job.wait() == 124

def test_has_no_clock():
    pass
"""

SLICE = {"ph": str, "name": str, "pid": int, "tid": int, "ts": float, "dur": float, "args": dict}
SCHEMA: dict[str, dict[str, type]] = {
    "M": {"ph": str, "name": str, "pid": int, "tid": int, "args": dict},
    "X": SLICE,
    "C": {"ph": str, "name": str, "pid": int, "ts": float, "args": dict},
    "i": {"ph": str, "s": str, "name": str, "pid": int, "tid": int, "ts": float, "args": dict},
    **{
        phase: {
            **({"bp": str} if phase == "f" else {}),
            **{"ph": str, "name": str, "cat": str, "id": int, "pid": int, "tid": int, "ts": float},
        }
        for phase in "sf"
    },
}
A_NANOSECOND_US = 1e-3


def validated(text: str) -> list[Record]:
    """The records of a trace, each with just the keys that its phase has, on named tracks, slices
    nested, arrows from slice to slice, as viewers demand it."""
    trace = json.loads(text)
    assert trace.keys() == {"displayTimeUnit", "traceEvents"}
    records: list[Record] = trace["traceEvents"]
    named: set[tuple[str, int, int]] = set()
    slices: dict[tuple[int, int], list[Record]] = {}
    for record in records:
        schema = SCHEMA[record["ph"]]
        assert {name: type(value) for name, value in record.items()} == schema, record
        if record["ph"] == "M":
            keys = {
                "process_name": "name",
                "thread_name": "name",
                "process_sort_index": "sort_index",
            }
            assert record["args"].keys() == {keys[record["name"]]}
            named.add((record["name"], record["pid"], record["tid"]))
            continue
        assert record["ts"] >= 0
        if record["ph"] == "C":
            assert {type(value) for value in record["args"].values()} == {float}
            continue
        assert ("process_name", record["pid"], record["pid"]) in named
        assert ("thread_name", record["pid"], record["tid"]) in named
        if record["ph"] == "X":
            assert record["dur"] >= 0
            assert record["name"]
            slices.setdefault((record["pid"], record["tid"]), []).append(record)
    for track in slices.values():
        check_nesting(track)
    arrows: dict[int, list[Record]] = {}
    for record in records:
        if record["ph"] in "sf":
            arrows.setdefault(record["id"], []).append(record)
            track = slices[record["pid"], record["tid"]]
            assert any(
                one["ts"] <= record["ts"] <= one["ts"] + one["dur"] + A_NANOSECOND_US
                for one in track
            ), record
    assert all([one["ph"] for one in arrow] == ["s", "f"] for arrow in arrows.values())
    return records


def check_nesting(track: Sequence[Record]) -> None:
    ends: list[float] = []
    for one in sorted(track, key=lambda one: (one["ts"], -one["dur"])):
        end = one["ts"] + one["dur"]
        while ends and ends[-1] <= one["ts"] + A_NANOSECOND_US:
            ends.pop()
        assert not ends or end <= ends[-1] + A_NANOSECOND_US, one
        ends.append(end)


def slices(records: Sequence[Record], name: str) -> Iterator[Record]:
    return (one for one in records if one["ph"] == "X" and re.fullmatch(name, one["name"]))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, alone: Callable[..., list[str]]) -> Path:
    """Where one run of pytest, with two workers, has left both files."""
    directory = tmp_path_factory.mktemp("pictures")
    (directory / "test_it.py").write_text(SOURCE)
    files = [f"--vdso-trace={directory}/trace.json", f"--vdso-report={directory}/report.html"]
    options = ["-n", "2", "-p", "no:cacheprovider", *alone(), "--basetemp", str(directory / "base")]
    command = [sys.executable, "-m", "pytest", "-q", *options, *files, "test_it.py"]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=150)
    assert "1 failed, 2 passed" in ran.stdout, ran.stdout + ran.stderr
    return directory


def test_trace(directory: Path) -> None:
    records = validated((directory / "trace.json").read_text())
    names = {one["args"]["name"] for one in records if one["name"] == "process_name"}
    assert {"clock of test_it.py::test_fails", "clock of test_it.py::test_passes"} <= names
    assert any(re.fullmatch(r"sleep 1h \(pid \d+\)", name) for name in names)
    assert not any("has_no_clock" in name for name in names)
    outcomes = {one["name"]: one["args"]["outcome"] for one in slices(records, "test_it.*")}
    assert outcomes == {"test_it.py::test_fails": "failed", "test_it.py::test_passes": "passed"}
    # Each on its line: how long it was in virtual time, and why it ended.
    found = sorted(
        (one["args"]["virtual seconds"], one["args"]["its time has come"])
        for one in slices(records, "clock_nanosleep")
    )
    assert found == [(3600.0, True), (3600.0, False)] or found == [(3600.0, False), (3600.0, True)]
    (hour,) = (one for one in slices(records, "sleep 1h"))
    assert hour["args"]["ended"] == "exit status 0"
    calls = [one["name"] for one in slices(records, r"advance.*|move_to.*|settle.*")]
    assert sorted(calls) == [
        "advance(2 h)",
        "advance(5 min)",
        "move_to(2031-01-01T00:00:00Z)",
        "settle()",
    ]
    # The arrow to the sleep comes from within that call.
    (call,) = slices(records, r"advance\(2 h\)")
    sources = [one for one in records if one["ph"] == "s" and one["pid"] == call["pid"]]
    assert any(call["ts"] <= one["ts"] <= call["ts"] + call["dur"] for one in sources)
    counted = {value for one in records if one["ph"] == "C" for value in one["args"].values()}
    assert {0.0, 300.0, 7200.0, 365 * 86400.0} <= counted


def test_page(directory: Path, real_program: Find, tmp_path: Path) -> None:
    """As a browser without a network shows it."""
    page = directory / "report.html"
    assert not re.search(
        r"(?i)\b(src|href|url)\s*[=(]|@import|https?://(?!www.w3.org)", page.read_text()
    )
    picture = tmp_path / "page.png"
    browser = [real_program("chromium"), "--headless", "--no-sandbox", "--disable-gpu"]
    options = [f"--user-data-dir={tmp_path}/profile", "--window-size=1200,900", "--dump-dom"]
    dom = subprocess.run(
        [*browser, *options, f"--screenshot={picture}", f"file://{page}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        timeout=150,
    ).stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = html.unescape(re.sub(r"(?s)<script.*?</script>", "", dom))
    assert "2 tests with clocks, 1 failed" in shown
    tests = dict(
        re.findall(r'(?s)<details class="test (\w+)"(.*?)(?=<details class="test|$)', shown)
    )
    assert tests.keys() == {"failed", "passed"}
    failed, passed = tests["failed"], tests["passed"]
    assert "test_it.py::test_fails" in failed
    assert "wall line 2030-01-01 00:00:00 → 2031-01-01 00:00:00" in failed
    assert ">+1 h</text>" in failed
    for label in ("the test", "advance(2 h)", "move_to(2031-01-01T00:00:00Z)", "sleep 1h", "cat"):
        assert f"{label}</text>" in failed
    # A sleep that was woken, one that was not; how processes ended, and when on the clock.
    assert (failed.count('<rect class="due"'), failed.count('<rect class="wait"')) == (1, 1)
    assert re.search(r'<circle class="bad"[^>]*><title>sh \(pid \d+\): exit status 3', failed)
    assert "01:00:00  (real 0 s)  sleep (pid" in failed
    assert 'class="wakes"' in failed
    assert ": exit status 124" in passed


@pytest.mark.parametrize("name", ["trace", "report"])
def test_a_file_that_cannot_be_written(
    pytester: pytest.Pytester, alone: Callable[..., list[str]], name: str
) -> None:
    pytester.makepyfile("def test_never_runs(): print('it ran')")
    path = f"{pytester.path}/missing/file"
    result = pytester.runpytest_subprocess(*alone(), "-s", f"--vdso-{name}={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        f"ERROR: --vdso-{name}={path}: it cannot be written: No such file or directory"
    )
    result.stdout.no_fnmatch_line("*it ran*")


def test_command(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    command = [sys.executable, "-m", "pytest_vdsotime", "--at", "@0", "--autojump", "--trace"]
    script = "sleep 1d; date -u +%F; exec 3>&-; exit 7"
    ran = subprocess.run([*command, path, "sh", "-c", script], capture_output=True, timeout=150)
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, b"1970-01-02\n", b"")
    records = validated(path.read_text())
    (wait,) = slices(records, "clock_nanosleep")
    assert wait["args"]["virtual seconds"] == pytest.approx(86400, abs=1e-6)
    (program,) = (one for one in slices(records, "sh -c.*") if "ended" in one["args"])
    assert program["args"]["ended"] == "exit status 7"


def test_command_with_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_vdsotime", "--trace", str(tmp_path), "echo", "it ran"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=150)
    text = f"vdsotime: --trace {tmp_path}: it cannot be written: Is a directory\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", text)
