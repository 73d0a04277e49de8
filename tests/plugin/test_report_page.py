"""The page of --vdso-report in a browser, wide and narrow, light and dark; and its size."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# What is hard to draw: much of it, long names, few events, rates, the first year and the last.
SOURCE = """
import subprocess, sys, time
import pytest
from pytest_vdsotime import FrozenClock

WAKES = [sys.executable, "-c", "import time\\nwhile True: time.sleep(0.1)"]
WAKES_FOR_5_MIN = "import time\\nend = time.time() + 300\\nwhile time.time() < end: time.sleep(0.1)"

@pytest.fixture(scope="module")
def cat():
    with FrozenClock("2030-01-01", monotonic="freeze") as clock:
        clock.popen(["cat"], stdin=subprocess.PIPE)
        clock.settle()
        yield clock

def test_starts_cat(cat):
    pass

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze")
def test_ten_hertz(frozen_clock):
    frozen_clock.popen(WAKES)
    frozen_clock.advance(minutes=5, timeout=30)

@pytest.mark.frozen_time("2030-01-01", autojump=True)
def test_ten_hertz_jumping(frozen_clock):
    assert frozen_clock.run([sys.executable, "-c", WAKES_FOR_5_MIN]).returncode == 0

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze")
def test_two_days(frozen_clock):
    frozen_clock.popen(["sh", "-c", "while :; do sleep 6h; done"])
    frozen_clock.advance(172800)
    frozen_clock.advance(304)
    frozen_clock.advance(hours=12, stride="30 min")

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze")
def test_shell(frozen_clock):
    frozen_clock.popen(["sh", "-c", "while :; do sleep 1; done"])
    frozen_clock.advance(minutes=5, timeout=30)

@pytest.mark.frozen_time("2030-01-01")
def test_rates(frozen_clock):
    frozen_clock.popen(["sleep", "100"])
    for rate in (60, 1, 0):
        frozen_clock.rate = rate
        time.sleep(0.05)

@pytest.mark.frozen_time("2030-06-01", monotonic="freeze")
def test_all_years(frozen_clock):
    frozen_clock.popen(["sleep", "36500d"])
    for when in ("2029-01-01", "0001-01-01", "9999-12-31T23:50:00Z", "1969-12-31T23:59:59.5Z"):
        frozen_clock.move_to(when)
        frozen_clock.advance(60)
    with pytest.raises(ValueError):
        frozen_clock.advance(days=3652059)

@pytest.mark.frozen_time("0001-01-01", monotonic="freeze")
def test_ten_thousand_years(frozen_clock):
    frozen_clock.popen(["sleep", "1h"])
    frozen_clock.jump(days=3652058)

@pytest.mark.parametrize("name", ["long" * 40])
def test_long(frozen_clock, name):
    frozen_clock.run(["true", "option" * 60, "<b>&amp;</b>"])

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze")
def test_many(frozen_clock):
    frozen_clock.popen(["sh", "-c", "for i in $(seq 130); do sleep $i & done; wait"])
    frozen_clock.advance(60)

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze")
def test_timers_and_refusals(frozen_clock):
    interval = "use Time::HiRes 'setitimer'; $SIG{ALRM} = sub {}; setitimer(0, 10, 10); <> while 1"
    frozen_clock.popen(["perl", "-e", interval], stdin=subprocess.PIPE)
    frozen_clock.popen(["perl", "-e", "alarm 1800; sleep 7200"])
    frozen_clock.run([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)"])
    frozen_clock.advance(hours=1)

@pytest.mark.frozen_time("2030-01-01", monotonic="freeze")
def test_raises(frozen_clock):
    frozen_clock.popen([sys.executable, "-c", "import time\\ntime.sleep(30)\\nwhile True: pass"])
    with pytest.raises(Exception, match="not settled|busy"):
        frozen_clock.advance(60, timeout=0.2)

def test_clocks(frozen_clock_factory):
    clocks = [frozen_clock_factory(at, monotonic="freeze") for at in ("1999-01-01", "2040-01-01")]
    for clock in clocks:
        clock.popen(["sleep", "60"])
        clock.advance(90)

def test_is_the_last(frozen_clock):
    pass
"""

# All that is wrong with what is drawn; and what the tests below look for.
LOOK = r"""
(() => {
  const wrong = [], texts = [...document.querySelectorAll(".clock svg text")];
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page scrolls sideways");
  const rgb = color => color.match(/[\d.]+/g).slice(0, 3).map(Number);
  const light = color => rgb(color).map(one => one / 255)
    .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05);
  };
  const style = element => getComputedStyle(element);
  for (const svg of document.querySelectorAll(".clock svg")) {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    if (Math.abs(scale - 1) > 0.01) wrong.push(`drawn at ${scale} of its size`);
  }
  for (const text of texts) {
    const svg = text.ownerSVGElement, box = text.getBBox(), is = `${text.lastChild.textContent}: `;
    const { width, height } = svg.viewBox.baseVal;
    if (parseFloat(style(text).fontSize) < 11) wrong.push(is + "small");
    if (box.x < 0 || box.x + box.width > width + 1) wrong.push(is + "cut at a side");
    if (box.y < -1 || box.y + box.height > height + 1) wrong.push(is + "cut above or below");
    let ground = style(svg).backgroundColor;
    if (text.classList.contains("inside")) {
      let bar = text.previousElementSibling;
      while (bar.localName !== "rect") bar = bar.previousElementSibling;
      const of = bar.getBBox();
      if (box.y < of.y - 1 || box.y + box.height > of.y + of.height + 1)
        wrong.push(is + "cut by its bar");
      if (box.x + box.width > of.x + of.width) wrong.push(is + "longer than its bar");
      ground = style(bar).fill;
    }
    if (contrast(style(text).fill, ground) < 4.5) wrong.push(is + "pale");
  }
  for (const svg of document.querySelectorAll(".clock svg")) {
    const ticks = [...svg.querySelectorAll("text.tick")].map(one => one.getBBox());
    for (const one of ticks) for (const other of ticks)
      if (Math.abs(one.y - other.y) < 5 && one.x < other.x && one.x + one.width > other.x)
        wrong.push("ticks overlap");
  }
  const said = text => text.lastChild.textContent; // before it may stand a title
  const kinds = query =>
    [...new Set([...document.querySelectorAll(query)].flatMap(one => [...one.classList]))];
  const drawn = kinds(".clock svg :is(rect, path, circle, line)");
  const explained = kinds(".legend svg :is(rect, path, circle, line)");
  const tests = Object.fromEntries([...document.querySelectorAll("details.test")].map(test => [
    test.querySelector(".name").textContent.match(/::(\w+)/)[1],
    {
      texts: [...test.querySelectorAll("svg text")].map(said),
      inside: [...test.querySelectorAll("svg text.inside, svg text.beside")]
        .map(one => [said(one), [...one.classList]]),
      events: [...test.querySelectorAll(".events summary")].map(one => one.textContent),
      facts: test.querySelector(".facts").textContent,
      titles: [...test.querySelectorAll("svg title")].map(one => one.textContent),
      heads: [...test.querySelectorAll("h3")].map(one => one.textContent),
      ticks: [...test.querySelectorAll("svg")].map(svg =>
        [...svg.querySelectorAll("text.elapsed")].map(one => one.textContent)),
    },
  ]));
  return { wrong: [...new Set(wrong)], drawn, explained, tests };
})()
"""
OPEN = """
for (const test of document.querySelectorAll("details.test")) test.open = true;
new Promise(done => setTimeout(() => requestAnimationFrame(() => done(true)), 300))
"""

SIZES = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, alone: Callable[..., list[str]]) -> Path:
    """Where a run of pytest has left both files."""
    directory = tmp_path_factory.mktemp("page")
    (directory / "test_it.py").write_text(SOURCE)
    names = [f"--vdso-trace={directory}/trace.json", f"--vdso-report={directory}/report.html"]
    options = ["-p", "no:cacheprovider", *alone(), f"--basetemp={directory}/base"]
    command = [sys.executable, "-m", "pytest", "-q", *options, *names, "test_it.py"]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=150)
    assert "14 passed" in ran.stdout, ran.stdout + ran.stderr
    return directory


def look(page: Any, path: Path, width: int, scheme: str = "light") -> dict[str, Any]:
    """What a browser shows of the page."""
    metrics = {"height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.call("Emulation.setDeviceMetricsOverride", width=width, **metrics)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=media)
    page.open(f"file://{path}")
    page.evaluate(OPEN)
    found: dict[str, Any] = page.evaluate(LOOK)
    return found


def test_legible(files: Path, page: Any) -> None:
    for width in (1400, 420):
        for scheme in ("light", "dark"):
            found = look(page, files / "report.html", width, scheme)
            assert found["wrong"] == [], (width, scheme)
        page.evaluate("document.querySelector('[data-value=steps]').click()")
        assert page.evaluate(LOOK)["wrong"] == [], width


def seconds(text: str) -> float:
    """What a span says."""
    if text == "0":
        return 0
    words = text.removeprefix("+").split()
    return sum(
        float(number) * SIZES[unit] for number, unit in zip(words[::2], words[1::2], strict=True)
    )


def test_ticks(files: Path, page: Any) -> None:
    for width in (1400, 420):
        check_ticks(look(page, files / "report.html", width)["tests"], width)


def check_ticks(tests: dict[str, Any], width: int) -> None:
    (ticks,) = tests["test_two_days"]["ticks"]
    assert ticks[1] == ("+6 h" if width > 1000 else "+1 d")
    assert {"+1 d", "+2 d"} <= {*ticks}
    assert {"2030-01-01", "2030-01-02", "2030-01-03"} <= {*tests["test_two_days"]["texts"]}
    assert tests["test_ten_hertz"]["ticks"][-1][1] == ("+30 s" if width > 1000 else "+2 min")
    for name, test in tests.items():
        for ticks in test["ticks"]:
            if len(ticks) < 2:
                continue
            step = seconds(ticks[1])
            assert [seconds(one) for one in ticks] == pytest.approx(
                [step * number for number in range(len(ticks))]
            ), name
            size = max(size for size in SIZES.values() if size <= step * 1.001)
            number = round(step / size, 6)
            nice = {1, 2, 5, 10, 15, 30}
            if size == 3600:
                nice = {1, 2, 3, 6, 12}  # of a day
            if size < 1 or step > 30 * 86400:
                nice = {k * 10**power for k in (1, 2, 5) for power in range(7)}
            assert number in nice, (name, ticks)
    # Each clock has its dates, and those that it is set to.
    assert {"1999-01-01", "2040-01-01"} <= {*tests["test_clocks"]["texts"]}
    assert {"2029-01-01", "0001-01-01", "9999-12-31"} & {*tests["test_all_years"]["texts"]}
    (head,) = tests["test_ten_thousand_years"]["heads"]
    assert head.startswith("wall line 0001-01-01 00:00:00 → 9999-12-31 00:00:00")


def test_what_is_said(files: Path, page: Any) -> None:
    found = look(page, files / "report.html", 1400)
    tests, drawn, explained = found["tests"], set(found["drawn"]), set(found["explained"])
    # The legend is complete, and the picture has all that is in it.
    assert drawn - explained == {"grid", "setcall"}  # the ticks; `set` explains the other
    assert explained - drawn == set()
    for label in ("advance(2 d)", "advance(12 h, stride=30 min)"):
        assert [label, ["inside", "call"]] in tests["test_two_days"]["inside"]
    assert "sleep 6h × 11" in tests["test_two_days"]["texts"]
    assert any(one.startswith("sleep 1 × 30") for one in tests["test_shell"]["texts"])
    assert re.search(r"sleep 1, (299|300) times \(exit status 0\), until", str(tests["test_shell"]))
    assert any("advance(5 min 4 s)" in one for one in tests["test_two_days"]["titles"])
    assert tests["test_two_days"]["facts"] == "12 programs · 2 d 12 h 5 min 4 s"
    assert ["rate 60", ["inside", "rate"]] in tests["test_rates"]["inside"]
    assert any(
        one.startswith("wall line at rate 60 from 2030") for one in tests["test_rates"]["titles"]
    )
    assert ["interval timer × 360", ["inside", "fires"]] in tests["test_timers_and_refusals"][
        "inside"
    ]
    assert ["advance(1 min)", ["inside", "bad"]] in tests["test_raises"]["inside"]
    assert "and 12 rows more, which the trace (--vdso-trace) shows" in tests["test_many"]["texts"]
    # A session's program ends in the last test.
    assert tests["test_is_the_last"]["events"] == ["1 event"]
    assert tests["test_is_the_last"]["facts"] == "0 s"
    for name in ("test_ten_hertz", "test_ten_hertz_jumping"):
        (label,) = (text for text, kinds in tests[name]["inside"] if "due" in kinds and "×" in text)
        call, _, times = label.partition(" × ")
        assert call == "clock_nanosleep"
        assert 2950 <= int(times) <= 3001  # work takes time too where waiting takes none
        pattern = rf"waits {times} times in clock_nanosleep for .* ms, until 2030-01-01T00:0"
        assert any(re.search(pattern, one) for one in tests[name]["titles"])


@pytest.mark.parametrize("name", ["test_ten_hertz", "test_ten_hertz_jumping"])
def test_size(pytester: pytest.Pytester, alone: Callable[..., list[str]], name: str) -> None:
    """Of a program that wakes ten times a second, for five virtual minutes."""
    pytester.makepyfile(test_it=SOURCE)
    names = ["--vdso-trace=trace.json", "--vdso-report=report.html"]
    ran = pytester.runpytest_subprocess(*alone(), *names, f"test_it.py::{name}")
    ran.assert_outcomes(passed=1)
    assert (pytester.path / "report.html").stat().st_size <= 200_000
    assert (pytester.path / "trace.json").stat().st_size <= 500_000
    records = json.loads((pytester.path / "trace.json").read_text())["traceEvents"]
    (waits,) = (one for one in records if re.match("clock_nanosleep × ", one["name"]))
    told = waits["args"]
    assert waits["name"] == f"clock_nanosleep × {told['times']}"
    assert 2950 <= told["times"] <= 3001
    assert (told["shortest"], told["longest"]) == pytest.approx((0.1, 0.1), rel=0.25)
    assert (told["clock"], told["its time has come"]) == ("CLOCK_MONOTONIC", True)
    since, until = (told[name]["wall line"] for name in ("from", "until"))
    assert since == "2030-01-01T00:00:00Z"
    assert "2030-01-01T00:04:59" <= until.removesuffix("Z") <= "2030-01-01T00:05:01"
    # What happened between is no step: the counter climbs.
    counted = [one["args"] for one in records if one["name"] == "wall line"]
    climbed = [one["seconds from its start"] for one in counted]
    assert len(climbed) > 100
    assert climbed == sorted(climbed)
