"""Builds what runs inside traced programs, for every architecture, with zig as the only compiler.

``python native_stub/build.py [DIRECTORY]`` writes ``DIRECTORY/<arch>/{vdso.so,loader.elf}`` and,
for the kinds that kernels have, ``waker`` and ``tracer.so`` (default: ``pytest_vdsotime/native``).
The build hook of pyproject.toml calls :func:`build`, so that a wheel carries every architecture
whatever machine it was built on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

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
    f"tracer/{name}.c" for name in ("takeover", "fastpath", "waits", "sleeper", "sample", "spawn")
]
WAKER = ["-Os", "-static", "-fno-pie", "-fno-asynchronous-unwind-tables"]


def compile_object(target: str, flags: list[str], output: Path, *sources: str) -> Path:
    """Compiles and links `sources` with zig. Raises `subprocess.CalledProcessError`."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *COMMON, *flags]
    subprocess.run([*command, "-o", str(output), *sources], cwd=SOURCE, check=True)
    return output


def build(destination: Path = DESTINATION) -> list[Path]:
    """Builds every row of `ARCHITECTURES` below `destination` and returns the files."""
    # zig compiles its runtime for each kind of them, on one processor.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda one: compile_object(*one), objects(destination)))


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
            yield target, [*flags, *WAKER], directory / "waker", "program/waker.c"
            yield target, [*flags, *TRACER], directory / "tracer.so", *TRACER_SOURCES


if __name__ == "__main__":
    for path in build(*map(Path, sys.argv[1:2])):
        print(path)
