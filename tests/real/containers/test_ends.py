"""What is left of an engine: nothing, however it and the test process end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import docker
import pytest

from pytest_vdsotime import FrozenClock, VdsoTimeError, containers

CEILING_S = 40
PODMAN = ["unshare", "--mount", "podman"]  # by itself it leaves a mount
# A test process: with an engine and two containers, one of them paused, one with a network of its
# own, a pod's worth of volumes. It says where the engine is, and does what it is told.
TEST_PROCESS = """
import json, os, signal, sys, docker
from pytest_vdsotime import FrozenClock
engine, archive = sys.argv[1:]
with FrozenClock("2038-01-19") as clock, clock.containers(engine) as found:
    client = docker.from_env()
    said = client.api.import_image(archive)
    image = json.loads(said.splitlines()[-1])["status"]
    network = client.networks.create("vdsotime-of-%d" % os.getpid())
    volume = client.volumes.create("vdsotime-of-%d" % os.getpid())
    run = client.containers.run
    sleeps = run(image, ["sleep", "1000000"], detach=True, network=network.name,
        volumes=[volume.name + ":/data"], ports={"80/tcp": None})
    paused = run(image, ["sh", "-c", "trap : TERM; sleep 1000000"], detach=True)
    paused.pause()
    if engine == "docker":  # and what is there while further ones are about to be made
        os.system("ip link add br-0123456789ab up type bridge")  # not noted yet
        bridge = "vdt" + os.path.dirname(found.url).rpartition("-")[2][:10]
        os.system("ip link add veth000000a type veth peer name veth000000b")  # on no bridge yet
        os.system("ip link add veth-a type veth peer name veth-b")
        os.system("ip link set veth-a master " + bridge)
    print(found.url, image, sleeps.id, paused.id, flush=True)
    if sys.stdin.readline() == "end\\n":
        client.close()
        sys.exit(0)
"""
# A network namespace takes the place of the machine, so that all of it can be looked at.
IN_NETWORK = """
ip link set lo up
echo 0 >/proc/sys/net/ipv4/ip_forward
"$@"
while [ -e /proc/$(cat guardian) ]; do sleep 0.02; done
ip -o link | cut -d: -f2
iptables-save | grep -E "CNI|DOCKER|NETAVARK"
cat /proc/sys/net/ipv4/ip_forward
"""


def guardian_of(pid: int) -> int:
    """The one child of a test process that is no part of the engine."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    names = {child: Path(f"/proc/{child}/cmdline").read_text() for child in children}
    (found,) = (child for child, name in names.items() if "guardian.py" in name)
    return int(found)


def ended_in_network(
    program: list[str], directory: Path, *, kills: bool
) -> tuple[int, list[str], list[str]]:
    """Run a test process in a network of its own, until its guardian has ended too.

    Return its pid, the words of its first line, and the lines that IN_NETWORK says at the end.
    """
    unshared = ["unshare", "--net", "sh", "-c", IN_NETWORK, "sh", *program]
    with subprocess.Popen(unshared, stdin=PIPE, stdout=PIPE, text=True, cwd=directory) as outer:
        assert outer.stdin and outer.stdout
        said = outer.stdout.readline().split()
        (test,) = map(int, Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split())
        (directory / "guardian").write_text(str(guardian_of(test)))
        if kills:
            os.kill(test, signal.SIGKILL)
        outer.stdin.write("end\n")
        outer.stdin.close()
        return test, said, outer.stdout.read().splitlines()


@pytest.mark.parametrize("how", ["end", "kill"])
def test_nothing_is_left(
    how: str, engine_name: str, box_image: Path, tmp_path: Path, what_is_left: Any
) -> None:
    """Neither behind an ordinary end nor behind SIGKILL of the test process."""
    program = [sys.executable, "-c", TEST_PROCESS, engine_name, str(box_image)]
    test, said, left = ended_in_network(program, tmp_path, kills=how == "kill")
    url, image, *containers = said
    if engine_name == "podman":
        subprocess.run([*PODMAN, "rmi", "-f", image], capture_output=True)
    assert left == [" lo", "0"]
    directory = Path(url.removeprefix("unix://")).parent
    assert not what_is_left(directory)
    if engine_name == "podman":
        listed = subprocess.run(
            [*PODMAN, "ps", "-aq", "--no-trunc"], capture_output=True, text=True
        )
        assert not set(containers) & set(listed.stdout.split())
        listed = subprocess.run([*PODMAN, "volume", "ls", "-q"], capture_output=True, text=True)
        assert f"vdsotime-of-{test}" not in listed.stdout
        assert not Path(f"/var/lib/cni/networks/vdsotime-of-{test}").exists()


# It is killed when Podman's network has just executed an iptables that `moment` matches, for a
# container or for what executes a RUN.
KILLED_IN_NETWORK = """
import json, os, subprocess, sys, docker
from pathlib import Path
directory, iptables, moment, rules, archive = sys.argv[1:]
stand_in = Path(directory, "iptables")
stand_in.write_text(f'''#!/bin/sh
{iptables} "$@"
status=$?
case "$*" in {moment})
    echo "$*" >{directory}/last
    {iptables}-restore --noflush <{rules}
    kill -9 {os.getpid()} && sleep 9
esac
exit $status
''')
stand_in.chmod(0o755)
os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
from pytest_vdsotime import FrozenClock
with FrozenClock("2038-01-19") as clock, clock.containers("podman") as found:
    client = docker.from_env()
    said = client.api.import_image(archive)
    image = json.loads(said.splitlines()[-1])["status"]
    one = client.containers.create(image, ["sleep", "1000000"], ports={"80/tcp": None})
    print(image, one.id, flush=True)
    sys.stdin.readline()
    one.start()
    one.remove(force=True)
    build = ["podman", "--remote", "build", "--quiet", "-"]
    subprocess.run(build, input=f"FROM {image}\\nRUN true".encode())
"""
# Of a container of another engine's, which has started meanwhile.
RULES = """
*nat
:CNI-0123456789abcdef01234567 - [0:0]
-A POSTROUTING -s 10.88.99.9/32 -m comment --comment another -j CNI-0123456789abcdef01234567
-A CNI-0123456789abcdef01234567 -d 10.88.0.0/16 -m comment --comment another -j ACCEPT
COMMIT
*filter
-A CNI-FORWARD -s 10.88.99.9/32 -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize(
    ("moment", "rules"),
    [
        pytest.param('*"-A CNI-DN-"*DNAT*', "", id="a chain that no rule names yet"),
        pytest.param('*"-A CNI-FORWARD -s "*', "", id="before Podman notes the network"),
        pytest.param('*"-A CNI-FORWARD -s "*', RULES, id="beside another's container"),
        pytest.param('*"-F CNI-DN-"*', "", id="in the midst of the removal"),
        pytest.param('*"-A POSTROUTING "*buildah*', "", id="in the midst of a build"),
    ],
)
def test_no_rule_of_a_container_is_left(
    moment: str, rules: str, box_image: Path, tmp_path: Path, real_program: Any, as_root: None
) -> None:
    (tmp_path / "rules").write_text(rules)
    words = [tmp_path, real_program("iptables"), moment, tmp_path / "rules", box_image]
    program = [sys.executable, "-c", KILLED_IN_NETWORK, *map(str, words)]
    _, said, left = ended_in_network(program, tmp_path, kills=False)
    image, container = said
    subprocess.run([*PODMAN, "rmi", "-f", image], capture_output=True)
    others = [line for line in rules.splitlines() if "-A" in line]
    if not others:
        assert left == [" lo", "0"]
    assert set(others) <= set(left)
    assert not [line for line in left if container in line or re.search(r"10\.88\.0\.\d+/32", line)]
    own = {container, *re.findall('id: "(.*?)"', (tmp_path / "last").read_text())}
    for folder, _, files in os.walk("/var/lib/cni"):
        for path in (Path(folder, file) for file in files):
            with suppress(FileNotFoundError):  # others come and go
                assert not [one for one in own if one in f"{path} {path.read_text()}"]


# Of a container that netavark was about to publish a port of.
NETAVARK = """
*nat
:NETAVARK-1D8721804F16F - [0:0]
:NETAVARK-DN-1D8721804F16F - [0:0]
:NETAVARK-HOSTPORT-DNAT - [0:0]
:NETAVARK-HOSTPORT-SETMARK - [0:0]
-A POSTROUTING -s 10.88.0.0/16 -j NETAVARK-1D8721804F16F
-A NETAVARK-1D8721804F16F -d 10.88.0.0/16 -j ACCEPT
-A NETAVARK-DN-1D8721804F16F -s 127.0.0.1/32 -p tcp -m tcp --dport 8 -j NETAVARK-HOSTPORT-SETMARK
-A NETAVARK-DN-1D8721804F16F -p tcp -m tcp --dport 8 -j DNAT --to-destination 10.88.0.2:80
"""
PUBLISHED = "-A NETAVARK-HOSTPORT-DNAT -p tcp --dport 8 -j NETAVARK-DN-1D8721804F16F\n"
CLEAN_UP = """
from pytest_vdsotime.containers.guardian import _remove_rules
_remove_rules("iptables", "nat", lambda rule: False, and_shared=True)
"""


@pytest.mark.parametrize("published", ["", PUBLISHED], ids=["yet to publish", "published"])
def test_rules_of_netavark(published: str, as_root: None) -> None:
    """All go, unless there is a container of another's, which has a port."""
    script = 'iptables-restore && "$@" && iptables-save --table nat | grep -c NETAVARK'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", CLEAN_UP],
        input=f"{NETAVARK}{published}COMMIT\n",
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("9\n" if published else "0\n", "")


# It is killed when Podman has a container in its storage, and fetches what it is to put there.
HALF_MADE = """
import json, os, subprocess, sys, docker
from pytest_vdsotime import FrozenClock
archive, name = sys.argv[1:]
secret = f"lookup=kill -9 {os.getpid()}; sleep 9,store=cat >/dev/null,list=true,delete=true"
with FrozenClock("2038-01-19") as clock, clock.containers("podman") as found:
    client = docker.from_env()
    said = client.api.import_image(archive)
    image = json.loads(said.splitlines()[-1])["status"]
    podman = ["podman", "--remote"]
    create = [*podman, "secret", "create", "--driver=shell", f"--driver-opts={secret}", name, "-"]
    subprocess.run(create, input=b"x", stdout=subprocess.DEVNULL)
    print(image, flush=True)
    sys.stdin.readline()
    subprocess.run([*podman, "create", "--secret", name, "--name", name, image, "true"])
"""


def test_no_container_is_left_that_podman_has_yet_to_note(
    box_image: Path, tmp_path: Path, real_program: Any, as_root: None
) -> None:
    real_program("podman")
    name = f"half-made-{os.getpid()}"
    program = [sys.executable, "-c", HALF_MADE, str(box_image), name]
    _, (image,), left = ended_in_network(program, tmp_path, kills=False)
    listed = subprocess.run(
        [*PODMAN, "ps", "--all", "--external"], capture_output=True, text=True, check=True
    )
    for words in (["rm", name], ["secret", "rm", name], ["rmi", "-f", image]):
        subprocess.run([*PODMAN, *words], capture_output=True)
    assert (name in listed.stdout, left) == (False, [" lo", "0"])


# It is killed in the midst of its preparations.
KILLED_EARLY = """
import os, signal, sys
from pytest_vdsotime import FrozenClock
from pytest_vdsotime.containers import engines
def plan_of(engine, program, directories, data_root):
    print(*directories, all(map(os.path.isdir, directories)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
engines.plan_of = plan_of
with FrozenClock() as clock, clock.containers(sys.argv[1]):
    pass
"""


def test_no_directory_is_left_where_no_engine_has_begun(engine_name: str, as_root: None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EARLY, engine_name], capture_output=True, text=True
    )
    *directories, were_there = done.stdout.split()
    assert (done.returncode, len(directories), were_there) == (-signal.SIGKILL, 2, "True")
    deadline_s = time.monotonic() + CEILING_S
    while any(map(os.path.exists, directories)):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_podman_had_before_is_there_afterwards(started: Any, box_image: Path) -> None:
    """Containers of the user's own, made before and meanwhile, and images."""
    name = f"vdsotime-own-{os.getpid()}"

    def podman(*words: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "CONTAINER_HOST"}
        done = subprocess.run(
            [*PODMAN, *words], capture_output=True, text=True, timeout=CEILING_S, env=environment
        )
        assert done.returncode == 0, done
        return done.stdout.strip()

    podman("import", "-q", str(box_image), f"localhost/{name}")
    try:
        before = podman("create", "--network=none", f"localhost/{name}", "true")
        with FrozenClock() as clock, started(clock, "podman") as engine:
            assert engine.client.containers.get(before).id == before
            meanwhile = podman("create", "--network=none", f"localhost/{name}", "true")
            create = engine.client.containers.create
            ours = create(f"localhost/{name}", "true", network_mode="none").id
        left = podman("ps", "-aq", "--no-trunc").split()
        assert before in left and meanwhile in left and ours not in left
        podman("rm", before, meanwhile)
    finally:
        podman("rmi", "-f", f"localhost/{name}")


def test_a_data_root_is_kept(started: Any, box_image: Path, tmp_path: Path) -> None:
    """Its images and volumes; not its containers and networks."""
    for turn in range(2):
        with (
            FrozenClock("2038-01-19") as clock,
            started(clock, "docker", data_root=tmp_path / "docker") as engine,
        ):
            assert engine.client.containers.list(all=True) == []
            assert len(engine.client.networks.list()) == 3
            image = engine.load(box_image) if turn == 0 else engine.client.images.list()[0].tags[0]
            engine.client.networks.create("shop")
            engine.run(image, "sleep", "100000", detach=True, restart_policy={"Name": "always"})
            assert engine.run(image, "date", "+%Y", remove=True) == b"2038\n"


def test_a_network_of_another_dockerd_stays(started: Any) -> None:
    """One without containers, which came after the engine that ends."""
    with FrozenClock() as clock, started(clock, "docker") as other:
        with started(clock, "docker"):
            bridge = f"br-{other.client.networks.create('other').id[:12]}"
        assert os.path.exists(f"/sys/class/net/{bridge}")
    assert not os.path.exists(f"/sys/class/net/{bridge}")


def test_an_engine_that_hangs_is_killed(started: Any, engine_name: str, box_image: Path) -> None:
    with FrozenClock("2038-01-19") as clock, started(clock, engine_name) as engine:
        engine.run(engine.load(box_image), "sleep", "1000000", detach=True)
        server = {"podman": "podman", "docker": "dockerd"}[engine_name]
        (pid,) = (
            one.pid
            for one in clock.processes
            if one.argv and os.path.basename(one.argv[0]) == server and one.ppid == os.getpid()
        )
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
    assert time.monotonic() - begin < CEILING_S


def test_nothing_is_left_of_an_engine_whose_tracer_fails(
    real_program: Any, what_is_left: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of the engine's end, while the test process and all of its objects live on."""

    def fail(*_: object) -> None:
        raise VdsoTimeError("on purpose")

    real_program("podman")
    monkeypatch.setattr(containers._Run, "_stop", fail)
    with FrozenClock() as clock:
        with (
            pytest.raises(VdsoTimeError, match="on purpose") as _kept,
            clock.containers("podman") as engine,
        ):
            directory = Path(engine.url.removeprefix("unix://")).parent
        assert not what_is_left(directory)


def test_the_clock_may_be_closed_first(started: Any, engine_name: str, box_image: Path) -> None:
    clock = FrozenClock("2038-01-19")
    with started(clock, engine_name) as engine:
        engine.run(engine.load(box_image), "sleep", "1000000", detach=True)
        clock.close()
        assert not Path(engine.url.removeprefix("unix://")).exists()


@pytest.mark.parametrize("name", ["podman", "dockerd"])
def test_an_engine_that_dies(started: Any, name: str, box_image: Path) -> None:
    """By its own fault or another's; the test sees it as one that does not answer."""
    engine_name = {"dockerd": "docker"}.get(name, name)
    with FrozenClock("2038-01-19") as clock, started(clock, engine_name) as engine:
        engine.run(engine.load(box_image), "sleep", "1000000", detach=True)
        for one in clock.processes:
            if one.argv and os.path.basename(one.argv[0]) == name and one.ppid == os.getpid():
                os.kill(one.pid, signal.SIGKILL)


def test_containers_that_end_badly(started: Any, engine_name: str, box_image: Path) -> None:
    """Killed, out of memory, paused: each as its engine tells it, on the clock or off."""
    with FrozenClock("2038-01-19") as clock, started(clock, engine_name) as engine:
        image = engine.load(box_image)
        killed = engine.run(image, "sleep", "1000000", detach=True)
        killed.kill()
        assert killed.wait(timeout=CEILING_S)["StatusCode"] == 137
        greedy = engine.run(
            image, "sh", "-c", "x=x; while :; do x=$x$x; done", detach=True, mem_limit="16m"
        )
        assert greedy.wait(timeout=CEILING_S)["StatusCode"] in (2, 137)
        with pytest.raises(docker.errors.APIError):
            engine.run("localhost/not-there:1", "true")
        paused = engine.run(image, "sleep", "3600", detach=True)
        deadline_s = time.monotonic() + CEILING_S
        while not clock.waits:  # it is about to start
            assert time.monotonic() < deadline_s
        paused.pause()
        paused.unpause()
        clock.advance(hours=1)
        assert paused.wait(timeout=CEILING_S)["StatusCode"] == 0
        engine.run(image, "sleep", "1000000", detach=True).pause()


def test_a_container_at_rest_holds_up_nothing(started: Any, box_image: Path) -> None:
    """Nor does one that waits for a peer in another container."""
    with FrozenClock("2038-01-19", monotonic="freeze") as clock, started(clock, "docker") as engine:
        image = engine.load(box_image)
        network = engine.client.networks.create("quiet")
        engine.run(
            image,
            "nc",
            "-l",
            "-p",
            "9",
            "-s",
            "0.0.0.0",
            detach=True,
            network="quiet",
            name="other",
        )
        engine.run(image, "sh", "-c", "sleep 1; nc other 9", detach=True, network="quiet", tty=True)
        clock.advance(hours=1)
        network.reload()
