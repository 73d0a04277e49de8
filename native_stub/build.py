"""Builds what runs inside traced programs, for every architecture, with zig as the only compiler.

``python native_stub/build.py [DIRECTORY]`` writes ``DIRECTORY/<arch>/{vdso.so,loader.elf}`` and,
for the kinds that kernels have, ``waker``, ``sweeper`` and ``tracer.so`` (default:
``pytest_vdsotime/native``). ``DIRECTORY/abi.json`` has the numbers and layouts that Python shares
with C, from the kernel's headers and ours (abi.c). The build hook of pyproject.toml calls
:func:`build`, so that a wheel carries every architecture whatever machine it was built on.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

SOURCE = Path(__file__).resolve().parent
DESTINATION = SOURCE.parent / "pytest_vdsotime" / "native"


class Architecture(NamedTuple):
    """A kind of program, and how to compile for it."""

    target: str
    """zig's name for it."""
    flags: tuple[str, ...]
    soname: str
    """Of the kernel's own vDSO (vdso(7))."""
    has_tracer: bool
    """False for a kind that kernels run beside their own: theirs starts and traces both."""
    has_loader: bool = True
    """False for one whose programs cannot be taken over yet."""
    entry: str = "0"
    """Of the kernel's own vDSO: a symbol, or an address."""


# By name, that of `uname -m`. No vDSO uses vector registers: callers need not align the stack for
# them, as for a kernel's. On i386 zig leaves them out by the processor's name only.
ARCHITECTURES = {
    "x86_64": Architecture(
        "x86_64-linux-musl", ("-mno-sse", "-mno-red-zone"), "linux-vdso.so.1", has_tracer=True
    ),
    # glibc makes system calls by the entry where there is no AT_SYSINFO (elf/setup-vdso.h).
    "i386": Architecture(
        *("x86-linux-musl", ("-mcpu=i686",), "linux-gate.so.1"),
        has_tracer=False,
        entry="__kernel_vsyscall",
    ),
    # Each function that a pointer may lead to begins with a landing pad (BTI).
    "aarch64": Architecture(
        "aarch64-linux-musl",
        ("-mgeneral-regs-only", "-mbranch-protection=bti"),
        "linux-vdso.so.1",
        has_tracer=True,
    ),
    "riscv64": Architecture(
        *("riscv64-linux-musl", (), "linux-vdso.so.1"), has_tracer=False, has_loader=False
    ),
}

# Freestanding code: no libc, no start files, no calls that a compiler would invent.
COMMON = [
    *(
        "-I.",
        "-nostdlib",
        "-ffreestanding",
        "-fno-builtin",
        "-fno-stack-protector",
        "-fno-sanitize=all",
    ),
    # Symbols are kept, for their addresses; names of directories are not.
    *("-g", "-fdebug-compilation-dir=.", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none"),
]
# The whole file is mapped, and so is stripped, as the kernel's own image is.
VDSO = [
    *("-O2", "-falign-functions=64", "-shared", "-fPIC", "-fasynchronous-unwind-tables"),
    *("-Wl,--hash-style=both", "-Wl,--eh-frame-hdr", "-Wl,-Bsymbolic"),
    *("-Wl,-z,max-page-size=4096", "-Wl,--strip-all"),
]
LOADER = [
    "-Wl,-e,loader_entry",
    "-Os",
    "-static",
    "-fPIC",
    "-fno-asynchronous-unwind-tables",
    "-fno-jump-tables",
]
# In the tracer's own process: for its C library to load, without needing one.
TRACER = [
    *("-O2", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-fvisibility=hidden"),
    "-fno-asynchronous-unwind-tables",
]
TRACER_SOURCES = [
    f"tracer/{name}.c"
    for name in ("takeover", "fastpath", "engine", "ready", "waits", "sample", "spawn", "stamps")
]
SMALL = ["-Os", "-static", "-fno-pie", "-fno-asynchronous-unwind-tables"]

# System calls that zig's headers, of Linux 6.3, are too old for. Numbers above 402 are the same for
# every architecture (include/uapi/asm-generic/unistd.h).
NEWER_SYSCALLS = {"futex_wait": 455}  # since Linux 6.7

#: A field of a C struct: its name, its offset, a code of Python's module struct or the name of
#: another struct, and how many stand there (0: one, which is no array).
Field: TypeAlias = tuple[str, int, str, int]
#: The size of a struct, and its fields.
Layout: TypeAlias = tuple[int, list[Field]]
# For a machine whose long and whose addresses have 64 bits.
CODES = {
    **{"unsigned long": "Q", "unsigned long long": "Q", "long": "q", "long long": "q"},
    **{"unsigned int": "I", "int": "i", "unsigned short": "H", "short": "h"},
    **{"unsigned char": "B", "char": "B", "signed char": "b"},
}


def compile_object(target: str, flags: list[str], output: Path, *sources: str) -> Path:
    """Compiles and links `sources` with zig. Raises `subprocess.CalledProcessError`."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *COMMON, *flags]
    subprocess.run([*command, "-o", str(output), *sources], cwd=SOURCE, check=True)
    return output


def build(destination: Path = DESTINATION) -> list[Path]:
    """Builds every row of `ARCHITECTURES` below `destination` and returns the files."""
    # zig compiles its runtime for each kind of them, on one processor.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(lambda one: compile_object(*one), objects(destination)))
    return [*made, write_abi(destination / "abi.json")]


def objects(destination: Path) -> Iterator[tuple[str, list[str], Path, *tuple[str, ...]]]:
    """The arguments of `compile_object` for each file."""
    for name, row in ARCHITECTURES.items():
        target, flags = row.target, row.flags
        directory = destination / name
        directory.mkdir(parents=True, exist_ok=True)
        script = ["-Wl,-T,program/vdso.lds", f"-Wl,--version-script=arch/{name}.map"]
        options = [*flags, *VDSO, f"-Wl,-soname,{row.soname}", f"-Wl,-e,{row.entry}", *script]
        yield target, options, directory / "vdso.so", "program/vdso.c", f"arch/{name}.S"
        if row.has_loader:
            options = [*flags, *LOADER, "-Wl,-T,program/loader.lds"]
            yield (
                target,
                options,
                directory / "loader.elf",
                "program/loader.c",
                f"arch/{name}_loader.S",
            )
        if row.has_tracer:
            yield target, [*flags, *SMALL], directory / "waker", "program/waker.c"
            yield target, [*flags, *SMALL], directory / "sweeper", "program/sweeper.c"
            yield target, [*flags, *TRACER], directory / "tracer.so", *TRACER_SOURCES


def write_abi(output: Path) -> Path:
    """Write the numbers and layouts that Python shares with C (pytest_vdsotime/abi.py).

    Raises ValueError where two machines with a tracer differ: Python knows one value of each name.
    """
    syscalls = {name: syscall_numbers(row.target) for name, row in ARCHITECTURES.items()}
    constants: dict[str, int] = {}
    structs: dict[str, Layout] = {}
    for target in (row.target for row in ARCHITECTURES.values() if row.has_tracer):
        own_constants, own_structs = shared(target)
        for name in constants.keys() & own_constants.keys():
            if constants[name] != own_constants[name]:
                raise ValueError(f"{name} of {target} is not that of the others")
        for name in structs.keys() & own_structs.keys():
            if structs[name] != own_structs[name]:
                raise ValueError(f"struct {name} of {target} is not that of the others")
        constants |= own_constants
        structs |= own_structs
    whole = {"syscalls": syscalls, "constants": constants, "structs": structs}
    output.write_text(json.dumps(whole, separators=(",", ":"), sort_keys=True))
    return output


def syscall_numbers(target: str) -> dict[str, int]:
    """Return the numbers of all system calls of one kind of program, by name."""
    text = run_zig(target, "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null")
    macros: dict[str, str] = dict(re.findall(r"^#define __NR(\w+) (\w+)$", text, re.MULTILINE))
    numbers = dict(NEWER_SYSCALLS)
    for name, value in macros.items():
        # Some are defined by another: __NR_fcntl by __NR3264_fcntl (asm-generic/unistd.h).
        value = macros.get(value.removeprefix("__NR"), value)
        if name.startswith("_") and value.isdigit():
            numbers[name[1:]] = int(value)
    return numbers


def shared(target: str) -> tuple[dict[str, int], dict[str, Layout]]:
    """Return the constants and the layouts that abi.c names, for one target."""
    show_layouts = "-Xclang", "-fdump-record-layouts-canonical"
    with TemporaryDirectory(prefix="vdsotime-abi-") as scratch:
        shown = run_zig(target, *show_layouts, "-I.", "-S", "-o", f"{scratch}/abi.s", "abi.c")
        text = Path(scratch, "abi.s").read_text()
    constants = {name: int(value) for name, value in re.findall(r'"constant (\w+) (-?\d+)"', text)}
    found = re.findall(r"^ *0 \| struct (\w+)\n(.*?)\| \[sizeof=(\d+)", shown, re.M | re.S)
    layouts = {name: (int(size), fields(lines)) for name, lines, size in found}
    # The kernel's headers use others by themselves.
    names, structs = re.findall(r'"struct (\w+) ', text), {}
    while names:
        name = names.pop()
        structs[name] = layouts[name]
        names += [kind for _, _, kind, _ in layouts[name][1] if kind in layouts]
    return constants, structs


def fields(shown: str) -> list[Field]:
    """Return the fields of a struct, from what clang shows of it."""
    found: list[Field] = []
    # What a struct within it holds is shown too, indented further.
    for offset, kind, field in re.findall(r"^ *(\d+) \|   (\S.*) (\w+)$", shown, re.M):
        kind, _, count = kind.removeprefix("volatile ").removesuffix("]").partition("[")
        kind = "Q" if kind.endswith("*") else CODES.get(kind, kind.removeprefix("struct "))
        found.append((field, int(offset), kind, int(count or 0)))
    return found


def run_zig(target: str, *arguments: str) -> str:
    """Return what the C compiler writes to stdout. Raises `subprocess.CalledProcessError`."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *arguments]
    # With a cache of its own: zig does not compile again what it has in one, and so shows nothing.
    with TemporaryDirectory(prefix="vdsotime-abi-") as cache:
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache}
        done = subprocess.run(
            command, cwd=SOURCE, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
    return done.stdout


if __name__ == "__main__":
    for path in build(*map(Path, sys.argv[1:2])):
        print(path)
