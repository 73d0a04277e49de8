"""The times of files in language runtimes: what they write, set and read agrees with `now`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from conftest import Builder
    from tests.real.files.conftest import Shell

START = "2038-01-19T03:14:07.123456789Z"
START_S = 2**31 - 1
START_MS = f"{START_S}123"
AT = f"{START_S}123456789"  # in nanoseconds

Find = Callable[[str], str]
both = pytest.mark.parametrize("files", ["follow", "real"])


PYTHON = """
import asyncio, os, pathlib, shutil, tarfile, tempfile, time, zipfile

def times(status):
    print(status.st_mtime_ns, status.st_ctime_ns)

path = pathlib.Path("f")
path.write_text("1")
times(path.stat())
times(os.lstat("f"))
with path.open() as file:
    times(os.fstat(file.fileno()))
times(os.stat("f", dir_fd=os.open(".", os.O_RDONLY)))
times(next(os.scandir(".")).stat())
times(asyncio.run(asyncio.to_thread(os.stat, "f")))
print(time.time() - os.path.getmtime("f"), time.time_ns() - path.stat().st_atime_ns)

os.utime("f", ns=(5, 7))
times(path.stat())
print(path.stat().st_atime_ns)
shutil.copy2("f", "g")
times(os.stat("g"))
os.utime("f", times=None)
times(path.stat())
shutil.copystat("f", "g")
times(os.stat("g"))
os.mkdir("d")
os.utime("d", (3, 4))
times(os.stat("d"))
with tempfile.TemporaryFile(dir=".") as file:
    os.utime(file.fileno(), (1, 2))
    file.write(b"1")
    file.flush()
    times(os.fstat(file.fileno()))

with zipfile.ZipFile("a.zip", "w") as archive:
    archive.write("f")
    print(archive.infolist()[0].date_time == time.localtime()[:6])
with tarfile.open("a.tar", "w") as archive:
    archive.add("f")
    print(archive.getmember("f").mtime == time.time())
with tarfile.open("a.tar") as archive:
    archive.extraction_filter = lambda member, path: member  # Python 3.12 asks for one
    archive.extract("f", "d")
print(os.path.getmtime("d/f") == os.path.getmtime("f"))
"""
PYTHON_SAYS = [
    *[f"{AT} {AT}"] * 6,
    "0.0 0",
    f"7 {AT}",
    "5",
    f"7 {AT}",
    *[f"{AT} {AT}"] * 2,
    f"4000000000 {AT}",
    f"{AT} {AT}",
    *["True"] * 3,
]


@both
def test_python(files: str, shell: Shell) -> None:
    with FrozenClock(START, files=files) as clock:
        said = shell(clock, 'python3 -c "$1"', PYTHON)
    assert (said == PYTHON_SAYS) == (files == "follow"), said


@both
def test_python_compiles_what_has_changed(files: str, shell: Shell) -> None:
    """Its cache goes by the second in which a source was written."""
    run = "env -u PYTHONDONTWRITEBYTECODE python3 -c 'import m; print(m.x)'"
    with FrozenClock(START, files=files) as clock:
        assert shell(clock, f"echo x = 1 >m.py; {run}; ls __pycache__ | wc -l") == ["1", "1"]
        cached_s = int(shell(clock, "od -An -tu4 -j8 -N4 __pycache__/m.*.pyc")[0])
        assert (cached_s == START_S) == (files == "follow")
        for x in "234":
            clock.advance(1)
            assert shell(clock, f"echo x = {x} >m.py; {run}; {run}") == [x, x] or files == "real"


NODE = """
const fs = require('fs');
const times = (status) => console.log(`${status.mtimeMs} ${status.ctimeMs} ${status.birthtimeMs}`);
fs.writeFileSync('f', '1');
times(fs.statSync('f'));
const {mtimeNs, ctimeNs, atimeNs, birthtimeNs} = fs.statSync('f', {bigint: true});
console.log(`${mtimeNs} ${ctimeNs} ${atimeNs} ${birthtimeNs}`);
console.log(Date.now() - Math.floor(fs.lstatSync('f').mtimeMs));
console.log(fs.statSync('f').mtime.toISOString());
fs.utimesSync('f', 5, 7.5);
times(fs.statSync('f', {bigint: true}));
fs.cpSync('f', 'g', {preserveTimestamps: true});
times(fs.statSync('g', {bigint: true}));
fs.utimesSync('f', 7.5, Math.floor(Date.now() / 1000));
times(fs.fstatSync(fs.openSync('f'), {bigint: true}));
fs.appendFile('f', '2', () => fs.stat('f', {bigint: true}, (_, status) => times(status)));
"""
NODE_SAYS = [
    f"{START_MS}.4568 {START_MS}.4568 {START_MS}.4568",
    f"{AT} {AT} {AT} {AT}",
    "0",
    "2038-01-19T03:14:07.123Z",
    *[f"7500 {START_MS} {START_MS}"] * 2,
    f"{START_S}000 {START_MS} {START_MS}",
    f"{START_MS} {START_MS} {START_MS}",
]


@both
def test_node(files: str, shell: Shell, real_program: Find) -> None:
    real_program("node")
    with FrozenClock(START, files=files) as clock:
        said = shell(clock, 'node -e "$1"', NODE)
    assert (said == NODE_SAYS) == (files == "follow"), said


@both
def test_go_program(files: str, build: Builder, shell: Shell) -> None:
    """A static one."""
    with FrozenClock(START, files=files) as clock:
        said = shell(clock, "$1", build.go("helpers/file_times"))
    expected = [
        f"{AT} {AT} {AT} {AT}",
        "true true",
        f"5000000006 7000000008 {AT}",
        *[AT, AT],
        *[f"{name} {AT}" for name in (".", "f", "l")],
    ]
    assert (said == expected) == (files == "follow"), said


JAVA = """
import java.io.File;
import java.nio.file.*;
import java.nio.file.attribute.*;
import java.time.Instant;

public class Times {
    static void say(Path path) throws Exception {
        BasicFileAttributes all = Files.readAttributes(path, BasicFileAttributes.class);
        System.out.println(all.lastModifiedTime() + " " + all.creationTime() + " "
            + Files.getAttribute(path, "unix:ctime"));
    }

    public static void main(String[] arguments) throws Exception {
        Path f = Path.of("f"), g = Path.of("g");
        Files.writeString(f, "1");
        say(f);
        System.out.println(Files.getLastModifiedTime(f).toInstant().equals(Instant.now())
            + " " + (f.toFile().lastModified() - System.currentTimeMillis()));
        Files.setLastModifiedTime(f, FileTime.fromMillis(7500));
        say(f);
        Files.copy(f, g, StandardCopyOption.COPY_ATTRIBUTES);
        say(g);
        f.toFile().setLastModified(System.currentTimeMillis());
        say(f);
        Files.writeString(f, "2", StandardOpenOption.APPEND);
        say(f);
    }
}
"""
JAVA_SAYS = [
    f"{START} {START} {START}",
    "true 0",
    *[f"1970-01-01T00:00:07.5Z {START} {START}"] * 2,
    f"2038-01-19T03:14:07.123Z {START} {START}",
    f"{START} {START} {START}",
]


@both
def test_java(files: str, shell: Shell, real_program: Find, tmp_path: Path) -> None:
    real_program("java")
    (tmp_path / "Times.java").write_text(JAVA)
    with FrozenClock(START, files=files) as clock:
        said = shell(clock, "java -XX:-UsePerfData -XX:TieredStopAtLevel=1 Times.java")
    assert (said == JAVA_SAYS) == (files == "follow"), said
