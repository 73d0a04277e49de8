"""Builds what runs inside traced programs, for every architecture, with zig as the only compiler.

``python native_stub/build.py [DIRECTORY]`` writes ``DIRECTORY/<arch>/{vdso.so,loader.elf,launch}``
(default: ``pytest_vdsotime/native``). The build hook of pyproject.toml calls :func:`build`, so that
a wheel carries every architecture whatever machine it was built on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
DESTINATION = SOURCE.parent / "pytest_vdsotime" / "native"

# One row per architecture: its name (that of `uname -m`), zig's target, the flags it needs.
ARCHITECTURES = {
    "x86_64": ("x86_64-linux-musl", ["-mno-sse", "-mno-red-zone"]),
}

# Freestanding code: no libc, no start files, no calls that a compiler would invent.
COMMON = [
    *("-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=all"),
    # Symbols are kept, for their addresses; names of directories are not.
    *("-g", "-fdebug-compilation-dir=.", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none"),
]
VDSO = [
    *("-O2", "-falign-functions=64", "-shared", "-fPIC", "-fasynchronous-unwind-tables"),
    *(
        "-Wl,--hash-style=both",
        "-Wl,--eh-frame-hdr",
        "-Wl,-Bsymbolic",
        "-Wl,-soname,linux-vdso.so.1",
    ),
]
LOADER = [
    "-Wl,-e,loader_entry",
    "-Os",
    "-static",
    "-fPIC",
    "-fno-asynchronous-unwind-tables",
    "-fno-jump-tables",
]
LAUNCH = ["-Os", "-static", "-fno-pie", "-fno-asynchronous-unwind-tables"]


def compile_object(target: str, flags: list[str], output: Path, *sources: str) -> None:
    """Compiles and links `sources` with zig. Raises `subprocess.CalledProcessError`."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *COMMON, *flags]
    subprocess.run([*command, "-o", str(output), *sources], cwd=SOURCE, check=True)


def build(destination: Path = DESTINATION) -> list[Path]:
    """Builds every row of `ARCHITECTURES` below `destination` and returns the files."""
    built = []
    for arch, (target, flags) in ARCHITECTURES.items():
        directory = destination / arch
        directory.mkdir(parents=True, exist_ok=True)
        vdso, loader, launch = (directory / name for name in ("vdso.so", "loader.elf", "launch"))
        scripts = ["-Wl,-T,vdso.lds", f"-Wl,--version-script=arch/{arch}.map"]
        compile_object(target, [*flags, *VDSO, *scripts], vdso, "vdso.c", f"arch/{arch}.S")
        script = ["-Wl,-T,loader.lds"]
        compile_object(
            target, [*flags, *LOADER, *script], loader, "loader.c", f"arch/{arch}_loader.S"
        )
        compile_object(target, [*flags, *LAUNCH], launch, "launch.c")
        built += [vdso, loader, launch]
    return built


if __name__ == "__main__":
    for path in build(*map(Path, sys.argv[1:2])):
        print(path)
