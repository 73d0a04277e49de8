"""The tools that people start containers with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

CEILING_S = 30
YEAR = ["date", "-u", "+%Y"]
COMPOSE = """
version: "3"
services:
  web:
    image: {image}
    command: httpd -f -h /www
  client:
    image: {image}
    command: sh -c 'until wget -qO- http://web/cgi-bin/date; do sleep 0.1; done; sleep 1000000'
    depends_on: [web]
"""


def waits_for(found: Any, wanted: object) -> None:
    deadline_s = time.monotonic() + CEILING_S
    while found() != wanted:
        assert time.monotonic() < deadline_s, found()
        time.sleep(0.02)


def output_of(*command: str, **keywords: Any) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=CEILING_S, check=False, **keywords
    )
    assert done.returncode == 0, done
    return str(done.stdout)


@pytest.mark.parametrize(
    ("client", "engine_name"), [("docker", "docker"), ("docker", "podman"), ("podman", "podman")]
)
def test_commands(
    started: Any, client: str, engine_name: str, box_image: Path, real_program: Any
) -> None:
    """By the variables that name the engine; podman's command speaks to Podman's service alone."""
    command = real_program(client)
    with FrozenClock("2038-01-19") as clock, started(clock, engine_name) as engine:
        image = engine.load(box_image)
        assert output_of(command, "run", "--rm", "--network", "none", image, *YEAR) == "2038\n"
        name = output_of(command, "run", "-d", "--network=none", image, "sleep", "99999999").strip()
        clock.jump(days=365)
        assert output_of(command, "exec", name, *YEAR) == "2039\n"
        assert name[:12] in output_of(command, "ps")


def test_compose(started: Any, box_image: Path, tmp_path: Path, real_program: Any) -> None:
    """Two services, of which one asks the other by its name."""
    compose = real_program("docker-compose")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with FrozenClock("2038-01-19T06:00") as clock, started(clock, "docker") as engine:
        environment |= {"DOCKER_HOST": engine.url, "COMPOSE_PROJECT_NAME": "shop"}
        path = tmp_path / "docker-compose.yml"
        path.write_text(COMPOSE.format(image=engine.load(box_image)))
        command = [compose, "-f", str(path)]
        output_of(*command, "up", "-d", env=environment)
        (client,) = engine.client.containers.list(filters={"name": "client"})
        waits_for(client.logs, b"2038-01-19T06:00\n")
        clock.advance(hours=5)
        said = output_of(
            *command,
            "exec",
            "-T",
            "client",
            "wget",
            "-qO-",
            "http://web/cgi-bin/date",
            env=environment,
        )
        assert said == "2038-01-19T11:00\n"
        output_of(*command, "down", "-t", "0", env=environment)
        assert engine.client.containers.list(all=True) == []


def test_published_ports(started: Any, engine_name: str, box_image: Path) -> None:
    """The test process reaches a container."""
    import urllib.request

    with FrozenClock("2038-01-19T06:00") as clock, started(clock, engine_name) as engine:
        image = engine.load(box_image)
        web = engine.run(image, "httpd", "-f", "-h", "/www", detach=True, ports={"80/tcp": None})
        web.reload()
        port = web.ports["80/tcp"][0]["HostPort"]

        def answer() -> bytes:
            try:
                url = f"http://127.0.0.1:{port}/cgi-bin/date"
                with urllib.request.urlopen(url, timeout=CEILING_S) as reply:
                    return bytes(reply.read())
            except OSError:  # it is about to listen
                return b""

        waits_for(answer, b"2038-01-19T06:00\n")


def test_an_engine_of_another_is_set_aside(
    started: Any, box_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever named one before names it again, in whatever order contexts end."""
    elsewhere = {"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1"}
    for name, text in elsewhere.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("CONTAINER_HOST", raising=False)
    with FrozenClock("2038-01-19") as clock:
        first = started(clock, "docker")
        one = first.__enter__()
        assert os.environ["DOCKER_HOST"] == os.environ["CONTAINER_HOST"] == one.url
        assert "DOCKER_TLS_VERIFY" not in os.environ
        with started(clock, "podman") as other:
            assert os.environ["DOCKER_HOST"] == other.url
            first.__exit__(None, None, None)
            assert os.environ["DOCKER_HOST"] == other.url
            assert other.run(other.load(box_image), *YEAR, remove=True) == b"2038\n"
    assert {name: os.environ[name] for name in elsewhere} == elsewhere
    assert "CONTAINER_HOST" not in os.environ


def test_the_command_line(as_root: None, box_image: Path) -> None:
    """COMMAND finds the engine, and its exit status is its own."""
    script = f"podman import -q {box_image} localhost/vdsotime-cli-{os.getpid()} >/dev/null 2>&1; "
    script += f"podman run --rm --network none localhost/vdsotime-cli-{os.getpid()} date +%Y; "
    script += f"podman rmi -f localhost/vdsotime-cli-{os.getpid()} >/dev/null 2>&1; exit 7"
    vdsotime = [sys.executable, "-m", "pytest_vdsotime", "--at=2038-01-19", "--containers", "--"]
    done = subprocess.run(
        [*vdsotime, "sh", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "2038\n", "")


def test_the_check_has_a_line_for_each(as_root: None, real_program: Any) -> None:
    check = [sys.executable, "-m", "pytest_vdsotime", "--check"]
    lines = subprocess.run(check, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert [line for line in lines if line.startswith("ok    podman: Libpod/")]
    assert [line for line in lines if line.startswith("ok    docker: Docker/")]


def test_the_fixture(pytester: pytest.Pytester, box_image: Path, as_root: None) -> None:
    pytester.makepyfile(
        f"""
        import docker
        import pytest

        @pytest.mark.frozen_time("2038-01-19")
        def test_it(frozen_clock, frozen_containers):
            client = docker.from_env()
            said = client.api.import_image({str(box_image)!r})
            image = {json.__name__}.loads(said.splitlines()[-1])["status"]
            run = client.containers.run(image, ["date", "+%Y"], detach=True, network_mode="none")
            assert run.wait()["StatusCode"] == 0
            assert run.logs() == b"2038\\n"
            run.remove()
            client.images.remove(image)
            client.close()
        """.replace("import pytest\n", "import json\n        import pytest\n", 1)
    )
    pytester.runpytest_subprocess("-p", "vdsotime").assert_outcomes(passed=1)
