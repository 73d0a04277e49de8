"""The package keeps its shape: imports go down, modules are deep, signatures and records narrow.

`python tests/unit/test_structure.py` prints the rooms by rows, each with those that it imports.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest_vdsotime

PACKAGE = Path(pytest_vdsotime.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


@cache
def tree_of(module: str) -> ast.Module:
    """Parsed by the worker that needs it, not as each collects this file."""
    return ast.parse(MODULES[module].read_text())


#: A room is a module or a folder. It imports from the rows below its own.
ROWS = (
    ("plugin", "__main__"),
    ("cli",),
    ("__init__", "markers", "reporting"),
    ("clock",),
    ("containers",),
    ("patching",),
    ("other_starts",),
    ("child_waits", "forked_starts"),
    ("aio",),
    ("control",),
    ("popen", "verbs"),
    ("session",),
    ("progress", "report"),
    ("processes", "spawning"),
    ("tracer.thread",),
    ("tracer.operations",),
    ("tracer.loop",),
    ("tracer.engine", "tracer.movement"),
    ("tracer.stops",),
    ("tracer.crashes", "tracer.quiescence", "tracer.takeover"),
    ("tracer.calls",),
    ("tracer.call",),
    ("tracer.state",),
    ("tracer.fastpath", "tracer.waker"),
    ("tracer",),
    ("page",),
    ("stamps",),
    ("image", "waits"),
    ("kernel",),
    ("availability",),
    ("arch", "events", "options"),
    ("instants",),
    ("ntp", "python_clock", "selection", "timeline"),
    ("abi",),
    ("elf", "errors", "faults", "future", "importing", "standard", "terminal"),
)
#: Folders that are one room each; the tracer's own rooms have rows.
FOLDERS = (
    *("arch", "cli", "containers", "control", "kernel", "report"),
    *("tracer.calls", "tracer.takeover"),
)

SHORT, SHALLOW, LONG = 60, 100, 650  # lines
#: Why a module is short, or has less than SHALLOW lines and one importer.
SMALL = {
    "__init__": "the public names",
    "__main__": "python -m",
    "arch": "chooses one of its modules",
    "arch.aarch64": "an architecture",
    "arch.x86_64": "an architecture",
    "control": "says what the folder is",
    "faults": "a seam",
    "kernel": "says what the folder is",
    "kernel.signals": "one system call",
    "importing": "the one way that the standard library lacks",
    "python_clock": "imports time-machine, which is optional",
    "report": "says what the folder is",
    "report.html": "the page is report.html",
    "standard": "is imported before other plugins patch",
    "terminal": "all that pytest's start needs of it",
    "tracer": "the essay",
    "tracer.takeover.start": "the one way to start",
    "tracer.takeover": "says what the folder is",
}

PARAMETERS, FIELDS, METHODS = 7, 12, 20
#: Functions with more parameters, and whose they are.
WIDE_FUNCTIONS = {
    "aio.make_transport": "asyncio's own",
    "clock.FrozenClock.__init__": "the parameters of a clock",
    "image.loader_parameters": "the fields of a C struct",
    "kernel.spawn.Spawn.prepare": "_posixsubprocess.fork_exec's own",
    "popen.FrozenPopen._execute_child": "subprocess's own",
}
#: Records that change with more fields, and classes with more methods.
WIDE_CLASSES = {
    "tracer.fastpath.FastPath": "each method is a field or a function of the native code",
    "tracer.state.ClockState": "the one owner of what is known of a clock",
    "tracer.state.Process": "the one owner of what is known of a process",
    "waits.Timer": "what the kernel knows of a timer, of three kinds",
    "waits.Wait": "a call as it was made, and what becomes of it",
}
#: Constructors that are given functions.
POSTMEN = {
    "ntp.Discipline": "a clock that is read",
    "tracer.loop.Loop": "made by thread.py",
    "tracer.stops.Recovery": "the first stop of a task that it has found is the loop's",
    "tracer.stops.Stops": "what the native code has seen to is told before the next stop",
    "tracer.takeover.exec.Takeover": "a stop of one task is waited for in the midst of a takeover",
    "tracer.takeover.remote.RemoteSyscalls": "likewise",
}


def room_of(module: str) -> str:
    return next((folder for folder in FOLDERS if f"{module}.".startswith(f"{folder}.")), module)


def row_of(room: str) -> int:
    rows = [number for number, row in enumerate(ROWS) if room in row]
    assert len(rows) == 1, f"{room} is in {len(rows)} rows of ROWS"
    return rows[0]


@cache
def imports(module: str) -> tuple[str, ...]:
    """All that a module imports, at its top, in functions or for types alone."""
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.partition(".")[2] in MODULES
                yield inner if is_module else str(node.module)


def own_imports(module: str) -> set[str]:
    """Those of the package, by their names in MODULES."""
    found = {name for name in imports(module) if name.partition(".")[0] == "pytest_vdsotime"}
    return {name.partition(".")[2] or "__init__" for name in found} - {module}


def upward(module: str) -> set[str]:
    """The rooms beside or above that a module imports from."""
    room = room_of(module)
    others = {room_of(name) for name in own_imports(module)} - {room}
    return {other for other in others if row_of(other) <= row_of(room)}


def test_imports_go_down() -> None:
    assert not {module: rooms for module in sorted(MODULES) if (rooms := upward(module))}


def test_there_is_no_circle() -> None:
    """Within a folder that is one room either."""
    left = {module: own_imports(module) for module in MODULES}
    while done := {module for module, needs in left.items() if not needs & left.keys()}:
        left = {module: needs for module, needs in left.items() if module not in done}
    assert not left


def test_modules_are_deep() -> None:
    importers = Counter(name for module in MODULES for name in own_imports(module))
    lines = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    small = {
        module
        for module, count in lines.items()
        if count < SHORT or (count < SHALLOW and importers[module] < 2)
    }
    assert small == SMALL.keys()
    assert not {module: count for module, count in lines.items() if count > LONG}


def test_the_tracer_has_few_rooms() -> None:
    rooms = {room_of(module) for module in MODULES if module.partition(".")[0] == "tracer"}
    assert len(rooms) <= 15


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module in MODULES:
        tree = tree_of(module)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}", node
        for cls in classes_of(tree):
            for node in cls.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{module}.{cls.name}.{node.name}", node


def classes_of(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return [one for one in given if one.arg not in ("self", "cls")]


def test_signatures_are_narrow() -> None:
    wide = {name for name, one in functions() if len(parameters(one)) > PARAMETERS}
    assert wide == WIDE_FUNCTIONS.keys()


def test_records_and_classes_are_narrow() -> None:
    wide = set()
    for module in MODULES:
        for cls in classes_of(tree_of(module)):
            is_frozen = any("frozen=True" in ast.unparse(one) for one in cls.decorator_list)
            is_record = any("dataclass" in ast.unparse(one) for one in cls.decorator_list)
            fields = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
            methods = {
                node.name
                for node in cls.body
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            }
            is_wide = is_record and not is_frozen and len(fields) > FIELDS
            if is_wide or len(methods) > METHODS and cls.name != "FrozenClock":
                wide.add(f"{module}.{cls.name}")
    assert wide == WIDE_CLASSES.keys()


def test_constructors_are_given_no_functions() -> None:
    postmen = {
        name.removesuffix(".__init__")
        for name, one in functions()
        if name.endswith(".__init__")
        and any(
            arg.annotation and "Callable" in ast.unparse(arg.annotation) for arg in parameters(one)
        )
    }
    assert postmen == POSTMEN.keys()


def test_no_class_takes_itself_for_another() -> None:
    casts = [
        module
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "cast"
        and "self" in map(ast.unparse, node.args)
    ]
    assert not casts


def test_one_module_knows_python_ptrace() -> None:
    """It is under another licence, and warns at import: one door for both."""
    users = {
        module
        for module in MODULES
        if any(name.partition(".")[0] == "ptrace" for name in imports(module))
    }
    assert users == {"kernel.ptrace"}


if __name__ == "__main__":
    for row in ROWS:
        for room in row:
            modules = [module for module in MODULES if room_of(module) == room]
            others = {room_of(name) for module in modules for name in own_imports(module)}
            print(f"{room}: {' '.join(sorted(others - {room}, key=row_of))}")
