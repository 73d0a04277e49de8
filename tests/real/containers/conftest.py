"""What the tests of containers share: images made of this machine's programs, and engines."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import docker
import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.containers import ContainerEngine

CEILING_S = 30  # of real time
LINKS = ["sh", "cat", "chmod", "crond", "date", "httpd", "mkdir", "nc", "sleep", "true", "wget"]


CGI = """#!/bin/sh
echo; date -u +%Y-%m-%dT%H:%M
"""
START_POSTGRES = """#!/bin/sh
set -e
initdb -D /tmp/data --username="$POSTGRES_USER" --auth=trust --no-locale --encoding=UTF8 --no-sync
echo "create database $POSTGRES_DB" | postgres --single -D /tmp/data postgres
echo "host all all all trust" >>/tmp/data/pg_hba.conf
exec postgres -D /tmp/data -h 0.0.0.0 -k /tmp -F
"""


NUMBERS = count()


class Image:
    """The files of an image, as an archive that engines import."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._made = tarfile.open(archive, "w")  # noqa: SIM115  (closed by `close`)
        for folder in ("tmp", "proc", "dev", "sys", "etc", "bin", "var/run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            self._made.addfile(entry)
        self._has: set[str] = set()

    def add(self, path: str, at: str | None = None) -> None:
        """A file or directory of this machine, with what symbolic links on the way name."""
        self._made.add(os.path.realpath(path), at or path)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(text.encode()), mode
        self._made.addfile(entry, io.BytesIO(text.encode()))

    def link(self, name: str, target: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._made.addfile(entry)

    def add_program(self, path: str, at: str | None = None) -> None:
        """A program, and the libraries that it is linked with."""
        self.add(path, at)
        listed = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            if library not in self._has:
                self._has.add(library)
                self.add(library)

    def close(self) -> Path:
        self._made.close()
        return self.archive


def box_in(archive: Path, busybox: str) -> Image:
    image = Image(archive)
    image.add(busybox, "bin/busybox")
    for name in LINKS:
        image.link(f"bin/{name}", "busybox")
    image.write("www/cgi-bin/date", CGI, 0o755)
    return image


@pytest.fixture(scope="session")
def box_image(tmp_path_factory: pytest.TempPathFactory, real_program: Callable[[str], str]) -> Path:
    """A shell and small programs, all static."""
    return box_in(tmp_path_factory.mktemp("box") / "image.tar", real_program("busybox")).close()


@pytest.fixture(scope="session")
def redis_image(
    tmp_path_factory: pytest.TempPathFactory, real_program: Callable[[str], str]
) -> Path:
    image = Image(tmp_path_factory.mktemp("redis") / "image.tar")
    for name in ("redis-server", "redis-benchmark"):
        image.add_program(real_program(name), f"bin/{name}")
    return image.close()


@pytest.fixture(scope="session")
def postgres_image(
    tmp_path_factory: pytest.TempPathFactory, real_program: Callable[[str], str]
) -> Path:
    """A server as in the image that Testcontainers expects, and what an application has need of: a
    shell, psql and crond."""
    programs = Path(real_program("/usr/lib/postgresql/*/bin/postgres")).parent
    image = box_in(tmp_path_factory.mktemp("postgres") / "image.tar", real_program("busybox"))
    for name in ("initdb", "pg_ctl", "postgres", "psql"):
        image.add_program(str(programs / name))
        image.link(f"bin/{name}", str(programs / name))
    for library in ("dict_snowball.so", "plpgsql.so"):
        image.add_program(str(programs.parent / "lib" / library))
    version = programs.parent.name
    for path in Path("/usr/share/postgresql", version).iterdir():
        if path.name not in ("contrib", "man", "extension"):
            image.add(str(path))
    for path in Path("/usr/share/postgresql", version, "extension").glob("plpgsql*"):
        image.add(str(path))
    image.add("/usr/share/zoneinfo/Etc/UTC")
    image.write("etc/passwd", "root:x:0:0::/tmp:/bin/sh\npostgres:x:70:70::/tmp:/bin/sh\n")
    image.write("start", START_POSTGRES, 0o755)
    return image.close()


class Engine:
    """A running engine, docker-py's client of it, and the images that the test has given it."""

    def __init__(self, engine: ContainerEngine) -> None:
        self.name, self.url = engine.name, engine.url
        self.directory = Path(engine.url.removeprefix("unix://")).parent
        self.client = docker.DockerClient(engine.url, timeout=CEILING_S)
        self._images: list[str] = []

    def load(self, archive: Path, *changes: str) -> str:
        """The name of an image of these files, with `changes` as of a Dockerfile."""
        image = f"localhost/vdsotime-{os.getpid()}-{next(NUMBERS)}:1"
        repository, _, tag = image.rpartition(":")
        said = self.client.api.import_image(
            str(archive), repository=repository, tag=tag, changes=[*changes]
        )
        identity = json.loads(said.splitlines()[-1])["status"]  # Podman takes no name there
        self.client.images.get(identity).tag(repository, tag)
        self._images.append(identity)
        return image

    def run(self, image: str, *command: str, **keywords: Any) -> Any:
        """What docker-py makes of it; the container has no network unless it is asked for.

        docker-py follows the log of what is not detached, and Podman 4 now and then forgets to end
        that of a container that ends at once, on no clock as well: such a one is waited for.
        """
        if "network" not in keywords and "ports" not in keywords:
            keywords["network_mode"] = "none"
        if self.name == "docker" or keywords.get("detach"):
            return self.client.containers.run(image, list(command), **keywords)
        removes = keywords.pop("remove", False)
        one = self.client.containers.run(image, list(command), detach=True, **keywords)
        status, said = one.wait(timeout=CEILING_S)["StatusCode"], one.logs(stderr=False)
        if removes:
            one.remove()
        assert status == 0, said
        return said

    def close(self) -> None:
        self.client.close()

    def remove_images(self) -> None:
        """From the user's storage, which Podman's are in."""
        if self.name == "podman" and self._images:
            command = ["unshare", "--mount", "podman", "rmi", "--force", *self._images]
            subprocess.run(command, capture_output=True, timeout=CEILING_S)


Started = Callable[..., Any]


@pytest.fixture
def output_of() -> Callable[..., bytes]:
    """What a command says that is executed in a container.

    docker-py's own `exec_run` loses what comes along with the headers of the answer: one in ten
    times on a busy machine.
    """

    def execute(container: Any, *command: str) -> bytes:
        container.exec_run(["sh", "-c", '"$@" >/tmp/said', "sh", *command])
        stream, _ = container.get_archive("/tmp/said")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            file = archive.extractfile("said")
            assert file is not None
            return file.read()

    return execute


@pytest.fixture
def started(real_program: Callable[[str], str], as_root: None) -> Started:
    """`with started(clock, "podman") as engine`: one that leaves nothing behind."""

    @contextmanager
    def start(clock: FrozenClock, name: str, **keywords: Any) -> Iterator[Engine]:
        real_program({"docker": "dockerd"}.get(name, name))
        with clock.containers(name, **keywords) as found:
            engine = Engine(found)
            try:
                yield engine
            finally:
                engine.close()
        engine.remove_images()
        assert not left_of(engine.directory)

    return start


def left_of(directory: Path) -> list[str]:
    """What can be found of an engine by the name of its directory: files, cgroups, mounts,
    interfaces and processes."""
    suffix = directory.name.rpartition("-")[2]
    left = [str(directory)] if directory.exists() else []
    left += [one for one in os.listdir("/sys/class/net") if suffix in one]
    return left + called(directory.name)


def below(directory: str) -> Iterator[str]:
    """All directories and files; others may come and go meanwhile."""
    for place, directories, files in os.walk(directory):
        yield from (os.path.join(place, one) for one in (*directories, *files))


def called(name: str) -> list[str]:
    """The cgroups, mounts and processes that have this in their names."""
    left = [found for found in below("/sys/fs/cgroup") if name in os.path.basename(found)]
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                left.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode())
    return left


@pytest.fixture
def what_is_left(as_root: None) -> Callable[[Path], list[str]]:
    return left_of


@pytest.fixture
def what_is_left_of(as_root: None) -> Callable[[str], list[str]]:
    """Of a container, by its id; files of its too, where engines have theirs."""

    def left(identity: str) -> list[str]:
        places = "/run", "/var/lib/containers", "/dev/shm"
        files = (found for place in places for found in below(place))
        return called(identity) + [one for one in files if identity in os.path.basename(one)]

    return left


@pytest.fixture(params=["podman", "docker"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
