"""Podman of an ordinary user: in a user namespace, with a network of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_vdsotime import FrozenClock, VdsoTimeError

NOBODY = 65534
CEILING_S = 60
# What a login of an ordinary user finds, in a mount namespace: ids for its containers, the device
# of its network, and a Python that it may execute.
LOGIN = """
set -e
home=$1 base=$2 blocked=$3
shift 3
echo nobody:100000:65536 >$home/ids
for name in subuid subgid; do mount --bind $home/ids /etc/$name; done
mknod -m 666 $home/tun c 10 200
mount --bind $home/tun /dev/net/tun
if [ -n "$blocked" ]; then
    mkdir $home/python && mount --bind $base $home/python
    mount -t tmpfs -o mode=755 none $blocked && mkdir -p $base && mount --bind $home/python $base
fi
mount --make-rshared /
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""
TEST_PROCESS = """
import io, json, os, sys, tarfile, docker
from pytest_vdsotime import FrozenClock
with FrozenClock("2038-01-19T06:00", monotonic="freeze") as clock, clock.containers() as found:
    client = docker.from_env()
    image = json.loads(client.api.import_image(sys.argv[1]).splitlines()[-1])["status"]
    run = client.containers.run
    date = run(image, ["date", "+%Y"], detach=True)
    date.wait()
    print(found.name, date.logs().decode().strip())
    script = "sleep 3600; date +%H:%M; httpd -f -h /www"
    web = run(image, ["sh", "-c", script], detach=True, ports={"80/tcp": None})
    clock.settle()
    clock.advance(hours=1)
    while not web.logs():
        pass
    web.exec_run(["sh", "-c", "date +%Y >/tmp/year"])
    stream, _ = web.get_archive("/tmp/year")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        print(web.logs().decode().strip(), archive.extractfile("year").read().decode().strip())
    client.close()
"""


def blocked_from_others(path: Path) -> str:
    """The first directory on the way that an ordinary user may not enter; "" if there is none."""
    for folder in [*reversed(path.parents), path]:
        if not folder.stat().st_mode & 0o001:
            return str(folder)
    return ""


@pytest.mark.long
def test_podman_without_root(
    public_dir: Path, box_image: Path, real_program: Callable[[str], str]
) -> None:
    for name in ("podman", "newuidmap", "slirp4netns"):
        real_program(name)
    home = public_dir
    os.chown(home, NOBODY, NOBODY)
    (home / "image.tar").write_bytes(box_image.read_bytes())
    base = Path(sys.base_prefix).resolve()
    environment = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "TMPDIR": str(home),
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    login = ["unshare", "--mount", "sh", "-c", LOGIN, "sh", str(home), str(base)]
    test = [sys.executable, "-c", TEST_PROCESS, str(home / "image.tar")]
    done = subprocess.run(
        [*login, blocked_from_others(base), *test],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    with suppress(FileNotFoundError):
        Path(f"/dev/shm/libpod_rootless_lock_{NOBODY}").unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "podman 2038\n07:00 2038\n"
    assert [path.name for path in home.glob("vdsotime-*")] == []
    ps = ["ps", "-o", "stat=,args=", "-u", str(NOBODY)]
    listed = subprocess.run(ps, capture_output=True, text=True).stdout.splitlines()
    assert [one for one in listed if "podman" in one and not one.startswith("Z")] == []


@pytest.mark.parametrize("engine", ["docker", None])
def test_docker_needs_root(engine: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    only_docker = {"dockerd": "/usr/sbin/dockerd"}
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    monkeypatch.setattr("shutil.which", lambda name, path: only_docker.get(name))
    with (
        FrozenClock() as clock,
        pytest.raises(VdsoTimeError, match="Docker's engine needs root"),
        clock.containers(engine),
    ):
        pytest.fail("it has started")
