"""Looks for memory errors and undefined behaviour in the C of this directory.

``python native_stub/sound.py DIRECTORY``, which `make sound` calls, has clang's analyzer, zig's,
look at each source for each architecture, and gcc's where there is a gcc: any finding is a failure.
It leaves two copies of the installed package for tests to run with, by PYTHONPATH:

- ``DIRECTORY/undefined``: each object ends its process by SIGILL where it does what the language
  leaves undefined;
- ``DIRECTORY/addresses``, where there is a gcc: AddressSanitizer ends the test process where the
  tracer's object reaches beyond an object in memory. The process needs LD_PRELOAD for that, and
  the plugin ``not_inherited`` keeps it from what the tests start.

What finds no fault in a source that has one would find none here: each tool is shown one first.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ziglang

import build
import pytest_vdsotime

# What the tests of the traced program's memory expect is SIGSEGV, as by a kernel's vDSO.
UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize=null")
# What a program hands to its vDSO need not be aligned.
UNDEFINED_IN_PROGRAMS = (*UNDEFINED, "-fno-sanitize=alignment")
CHECKS_NOTHING = "-fno-sanitize=all"
ADDRESSES = (
    *("-I.", "-O1", "-g", "-fPIC", "-ffreestanding", "-fvisibility=hidden"),
    "-fsanitize=address",
)
# Its child shares the parent's memory, and leaves no frame of its own in order (vfork(2)).
NOT_WATCHED = "tracer/spawn.c"
# zig's name is not the one that clang knows by itself.
TRIPLES = {"x86-linux-musl": "i386-linux-musl"}

NOWHERE = "int f(int n) { int *p = n ? &n : 0; return *p; }\n"
OVERFLOW = "int main(int argc, char **argv) { (void)argv; return argc + 2147483647 > 0; }\n"
# The programs that tests start have their own allocator.
NOT_INHERITED = """\
import os

if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("LD_PRELOAD", "PYTHONMALLOC"):
        del os.environ[name]
"""
BEYOND = """\
#include <stdlib.h>
int main(int argc, char **argv) { char *p = malloc(argc); (void)argv; return p[argc]; }
"""


class Unsound(Exception):
    """A finding, or a tool that does not work."""


def run(*command: str, cwd: Path = build.SOURCE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def is_of_clang(target: str, source: str) -> str:
    """Return what clang's analyzer finds in a source, "" for nothing."""
    headers = Path(ziglang.__file__).parent / "lib" / "include"
    done = run(
        *(sys.executable, "-m", "ziglang", "clang", "--analyze", "--analyzer-output", "text"),
        *("-Xclang", "-analyzer-werror", "-target", TRIPLES.get(target, target)),
        *("-I.", "-ffreestanding", "-isystem", str(headers), source),
    )
    return done.stdout if done.returncode else ""


def is_of_gcc(source: str) -> str:
    """Return what gcc's analyzer finds in a source for this machine, "" for nothing."""
    done = run(
        *("gcc", "-I.", "-fPIC", "-ffreestanding", "-fno-builtin", "-fanalyzer", "-Werror"),
        *("-Wno-unknown-pragmas", "-c", "-o", os.devnull, source),
    )
    return done.stdout if done.returncode else ""


def analyze(scratch: Path) -> Iterator[str]:
    """Return the findings of all analyzers. Raises Unsound for one that does not work."""
    canary = scratch / "nowhere.c"
    canary.write_text(NOWHERE)
    sources = {
        (target, source)
        for target, _, _, *sources in build.objects(scratch / "none")
        for source in sources
        if source.endswith(".c")
    }
    has_gcc = shutil.which("gcc") is not None
    if not is_of_clang("x86_64-linux-musl", str(canary)):
        raise Unsound("clang's analyzer does not find a pointer to nowhere")
    if has_gcc and not is_of_gcc(str(canary)):
        raise Unsound("gcc's analyzer does not find a pointer to nowhere")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda one: is_of_clang(*one), sorted(sources)))
        if has_gcc:
            found += pool.map(is_of_gcc, sorted({source for _, source in sources}))
    print(f"analyzed: {len(found)} times a source", "" if has_gcc else "(no gcc: clang's alone)")
    return filter(None, found)


def copy_package(directory: Path) -> Path:
    """Return where its objects are."""
    package = directory / "pytest_vdsotime"
    shutil.copytree(Path(pytest_vdsotime.__file__).parent, package)
    return package / "native"


def compile_undefined(scratch: Path, native: Path) -> None:
    """Replace the objects. That of i386's loader is too large then for its place."""
    common = [flag for flag in build.COMMON if flag != CHECKS_NOTHING]
    canary = scratch / "overflow.c"
    canary.write_text(OVERFLOW)
    zig = (sys.executable, "-m", "ziglang", "cc")
    run(*zig, *UNDEFINED, "-O2", "-o", str(scratch / "overflow"), str(canary))
    if run(str(scratch / "overflow")).returncode != -signal.SIGILL:
        raise Unsound("a signed overflow does not end a process")

    def compile_object(target: str, flags: list[str], output: Path, *sources: str) -> str:
        checks = UNDEFINED if output.name == "tracer.so" else UNDEFINED_IN_PROGRAMS
        done = run(*zig, "-target", target, *common, *flags, *checks, "-o", str(output), *sources)
        return done.stdout if done.returncode else ""

    objects = [one for one in build.objects(native) if one[2].parts[-2:] != ("i386", "loader.elf")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = "".join(pool.map(lambda one: compile_object(*one), objects))
    if said:
        raise Unsound(said)


def compile_addresses(scratch: Path, native: Path) -> None:
    """Replace the tracer's object."""
    canary = scratch / "beyond.c"
    canary.write_text(BEYOND)
    run("gcc", "-fsanitize=address", "-o", str(scratch / "beyond"), str(canary))
    if "AddressSanitizer" not in run(str(scratch / "beyond")).stdout:
        raise Unsound("AddressSanitizer does not find what is read beyond a block of memory")
    objects = []
    for source in build.TRACER_SOURCES:
        objects.append(str(scratch / Path(source).with_suffix(".o").name))
        flags = [one for one in ADDRESSES if source != NOT_WATCHED or "sanitize" not in one]
        done = run("gcc", *flags, "-c", "-o", objects[-1], source)
        if done.returncode:
            raise Unsound(done.stdout)
    output = str(native / platform.machine() / "tracer.so")
    (native.parents[1] / "not_inherited.py").write_text(NOT_INHERITED)
    done = run("gcc", "-shared", "-fsanitize=address", "-Wl,-Bsymbolic", "-o", output, *objects)
    if done.returncode:
        raise Unsound(done.stdout)


def main() -> int:
    directory = Path(sys.argv[1]).absolute()
    scratch = directory / "scratch"
    scratch.mkdir(parents=True)
    try:
        if findings := list(analyze(scratch)):
            raise Unsound("\n".join(findings))
        compile_undefined(scratch, copy_package(directory / "undefined"))
        if shutil.which("gcc"):
            compile_addresses(scratch, copy_package(directory / "addresses"))
    except Unsound as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
