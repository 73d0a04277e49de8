"""A plugin of pytest for the emulated machine: which tests are left out there, and why, which it
says at the end; and the others' own time limits."""

import re

import pytest

SLOWER = 5

LEFT_OUT = {
    r"i386|32_bit(?!_arm)|x32|go-386": "x86 programs run on x86_64 alone",
    r"stub_riscv64.py.*(readings|calls)": "the machine has no emulator",
    r"program_kinds|without_doors": "that is of x86_64",
    r"header_agrees": "the machine has no compiler",
    r"thread_files": "that needs Linux 6.9 (PIDFD_THREAD)",
    r"test_other_languages.py.*test_(node|vitest|rust)": "the machine has no node and no Rust",
    r"test_control.py.*test_schemathesis": "the machine has no schemathesis",
    r"\[java|test_java|node_and_java|test_since_when": "the machine has no java",
    r"test_go\b|test_go_token": "the machine has no Go",
    r"hundred_thousand_times|of_more_moves": "a move takes a tick there, before Linux 6.13",
    r"test_pictures|test_trace_viewers": "the machine has no browser",
    r"test_types|test_suite": "the machine lacks what `make test` installs for it",
}
COUNTS = {}


def pytest_ignore_collect(collection_path):
    """What these tests import is not there either."""
    if collection_path.parts[-2:] == ("real", "containers"):
        COUNTS["the machine has no container engine"] = "tests/real/containers"
        return True
    return None


def pytest_collection_modifyitems(config, items):
    kept, left = [], []
    for item in items:
        reason = next((why for what, why in LEFT_OUT.items() if re.search(what, item.nodeid)), None)
        (kept if reason is None else left).append(item)
        if reason is not None:
            COUNTS[reason] = COUNTS.get(reason, 0) + 1
    for item in kept:
        for mark in item.iter_markers("timeout"):  # of its own, for another machine
            item.add_marker(
                pytest.mark.timeout(*(SLOWER * one for one in mark.args), **mark.kwargs),
                append=False,
            )
            break
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = COUNTS


def pytest_testnodedown(node):
    COUNTS.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter):
    for reason, count in COUNTS.items():
        terminalreporter.write_line(f"left out: {count}, as {reason}")
