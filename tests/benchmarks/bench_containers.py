"""Containers on a clock, against the same engine bare."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import docker
import pytest

from pytest_vdsotime import FrozenClock
from pytest_vdsotime.containers import ContainerEngine
from pytest_vdsotime.session import ClockSession

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Table

ROUNDS = 11  # each of a second or so
REDIS = ["redis-server", "--save", "", "--protected-mode", "no"]


class Bare(subprocess.Popen[bytes]):
    """An engine's program that no clock has."""

    exited = None

    def end(self) -> None:
        self.kill()
        self.wait()


@contextmanager
def engine_of(name: str, *, bare: bool) -> Iterator[tuple[ContainerEngine, FrozenClock]]:
    """One that is started by the same code, on a clock or, bare, by `subprocess`."""
    with ExitStack() as stack:
        if bare:

            def start(_session: ClockSession, *args: Any, **keywords: Any) -> Bare:
                del keywords["is_engine"]
                return Bare(*args, **keywords)

            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr("pytest_vdsotime.containers.start_program", start)
        clock = stack.enter_context(FrozenClock("2038-01-19"))
        yield stack.enter_context(clock.containers(name)), clock


@contextmanager
def client_of(engine: ContainerEngine, archive: Path) -> Iterator[tuple[Any, str]]:
    client = docker.DockerClient(engine.url)
    image = json.loads(client.api.import_image(str(archive)).splitlines()[-1])["status"]
    try:
        yield client, image
    finally:
        client.close()
        command = ["unshare", "--mount", "podman", "rmi", "--force", image]
        subprocess.run(command if engine.name == "podman" else ["true"], capture_output=True)


@pytest.fixture
def archive(tmp_path: Path, real_program: Callable[[str], str]) -> Path:
    """An image with busybox, redis-server and redis-benchmark."""
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(os.path.realpath(real_program("busybox")), "bin/busybox")
        for name in ("true", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        libraries: dict[str, None] = {}
        for name in ("redis-server", "redis-benchmark"):
            program = real_program(name)
            tar.add(os.path.realpath(program), f"bin/{name}")
            listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
            libraries |= dict.fromkeys(re.findall(r"(/\S+) \(0x", listed))
        for library in libraries:
            tar.add(os.path.realpath(library), library)
    return path


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_ready(name: str, table: Table) -> None:
    """The bare run has the guardian as well: what the clock adds is to be seen."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for bare, found in seconds.items():
            begin = time.perf_counter()
            with engine_of(name, bare=bare):
                found.append(time.perf_counter() - begin)
    bare_s, ours_s = median(seconds[True]), median(seconds[False])
    figures = f"{ours_s:.2f} / {bare_s:.2f} s"
    table.check(f"{name} ready, less 0.3 s, against bare", figures, (ours_s - 0.3) / bare_s, 1.1)


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_run(name: str, table: Table, archive: Path) -> None:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with ExitStack() as stack:
        clients = {
            bare: stack.enter_context(
                client_of(stack.enter_context(engine_of(name, bare=bare))[0], archive)
            )
            for bare in seconds
        }
        for round in range(ROUNDS + 1):
            for bare, (client, image) in clients.items():
                begin = time.perf_counter()
                one = client.containers.run(image, ["true"], detach=True, network_mode="none")
                one.wait()  # Podman may never end a log that is followed (containers-and-ci.md)
                one.remove()
                if round:
                    seconds[bare].append(time.perf_counter() - begin)
    bare_s, ours_s = median(seconds[True]), median(seconds[False])
    figures = f"{ours_s:.3f} / {bare_s:.3f} s"
    table.check(f"{name} run of true, against bare", figures, ours_s / bare_s, 1.3)


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_an_hour(name: str, table: Table, archive: Path) -> None:
    with (
        engine_of(name, bare=False) as (engine, clock),
        client_of(engine, archive) as (client, image),
    ):
        client.containers.run(image, ["sleep", "1000000"], detach=True, network_mode="none")
        while not clock.waits:
            time.sleep(0.01)
        seconds = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            clock.advance(hours=1)
            seconds.append(time.perf_counter() - begin)
    hour_s = median(seconds)
    what = f"advance(hours=1), {name} idle and a container that sleeps"
    table.check(what, f"{hour_s:.4f} s", hour_s, 0.5, " s")


def test_redis(table: Table, archive: Path) -> None:
    """Requests a second, by redis-benchmark in the container of the server."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    with ExitStack() as stack:
        servers = {}
        for bare in rates:
            engine, _ = stack.enter_context(engine_of("docker", bare=bare))
            client, image = stack.enter_context(client_of(engine, archive))
            servers[bare] = client.containers.run(image, REDIS, detach=True, network_mode="none")
        for _ in range(ROUNDS):
            for bare, server in servers.items():
                command = "redis-benchmark -q -n 30000 -c 20 -t set --csv"
                said = server.exec_run(command.split()).output.decode()
                rates[bare].append(float(re.findall(r'"SET","([\d.]+)"', said)[0]))
    theirs, ours = median(rates[True]), median(rates[False])
    figures = f"{ours:,.0f} / {theirs:,.0f} a second"
    table.check("redis in a container, bare against on a clock", figures, theirs / ours, 1 / 0.9)
