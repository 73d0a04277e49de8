"""The package keeps its shape: imports go one way, modules stay small, one knows python-ptrace."""

import ast
from pathlib import Path

import pytest

import pytest_vdsotime

PACKAGE = Path(pytest_vdsotime.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
}

# A module imports from its own row and the rows below it, never from above.
ROWS = [
    {"__main__"},
    {"__init__", "plugin", "cli"},
    {"cli.become", "cli.check"},
    {"asking"},
    {"reporting"},
    {"clock"},
    {"aio", "patching"},
    {"popen"},
    {"session"},
    {"report.describe", "spawning"},
    {"launcher", "options", "processes"},
    {"python_clock"},
    {"tracer.thread"},
    {"tracer.loop"},
    {"tracer.clocks"},
    {"tracer.jumping"},
    {"tracer.passing"},
    {"tracer.canceled", "tracer.shortcuts"},
    {"tracer.crashes", "tracer.quiet", "tracer.stops"},
    {"tracer.attaching", "tracer.launching", "tracer.lookout", "tracer.takeover"},
    {"tracer.moving"},
    {"tracer.mapping"},
    {"tracer.native"},
    {"tracer.calls"},
    {"tracer.adjusting"},
    {
        *("tracer.clockcalls", "tracer.datagrams", "tracer.processcalls", "tracer.signalcalls"),
        *("tracer.sockets", "tracer.timercalls"),
    },
    {"tracer.deadlines", "tracer.timers"},
    {"tracer.alarms"},
    {"tracer.exits"},
    {"tracer.doorbell", "tracer.parking"},
    {"tracer.room", "tracer.spans", "tracer.waitmemory"},
    {"tracer.endless"},
    {"tracer.interrupted", "tracer.remote", "tracer.request"},
    {"tracer.tasks"},
    {"page", "image", "ntp", "waits"},
    {"kernel"},
    {"report.html", "report.trace"},
    {"report.recorder"},
    {"events"},
    {"report"},
    {"arch", "availability", "timeline"},
    {"errors", "faults"},
]


def row_of(module: str) -> int:
    """The row that names `module` or, of several, the package it is in."""
    for name in (module.removesuffix(".__init__"), module.partition(".")[0]):
        for number, row in enumerate(ROWS):
            if name in row:
                return number
    raise AssertionError(f"{module} is in no row of ROWS")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top, in functions or for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            own = {name for name in inner if name.partition(".")[2] in MODULES}
            found |= own or {str(node.module)}
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module: str) -> None:
    own = {name for name in imports(MODULES[module]) if name.startswith("pytest_vdsotime.")}
    importer = module.removesuffix(".__init__")
    upward = {
        name for name in own if row_of(name.removeprefix("pytest_vdsotime.")) < row_of(importer)
    }
    assert not upward, f"{module} imports from above"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_stay_small(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) < 650


def test_one_module_knows_python_ptrace() -> None:
    """It is under another licence, and warns at import: one door for both."""
    users = {
        module
        for module, path in MODULES.items()
        if any(name.partition(".")[0] == "ptrace" for name in imports(path))
    }
    assert users == {"kernel.ptrace"}
