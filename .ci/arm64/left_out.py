"""A plugin of pytest for the emulated machine: which tests are left out there, and why, which it
says at the end."""

import re

LEFT_OUT = {
    r"i386|32_bit_(calls|program)|x32|go-386": "x86 programs run on x86_64 alone",
    r"header_agrees": "the machine has no compiler",
    r"thread_files": "that needs Linux 6.9 (PIDFD_THREAD)",
    r"\[node|test_java": "the machine has no node and no java",
}
COUNTS = {}


def pytest_collection_modifyitems(config, items):
    kept, left = [], []
    for item in items:
        reason = next((why for what, why in LEFT_OUT.items() if re.search(what, item.nodeid)), None)
        (kept if reason is None else left).append(item)
        if reason is not None:
            COUNTS[reason] = COUNTS.get(reason, 0) + 1
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
