"""The guardian of an engine: a process that undoes what is left of the engine when that has ended.

It is no child of the clock, so that it outlives a test process that is killed. It is the first
process of a mount namespace of its own, in which the engine starts: what the engine mounts, nobody
else sees, and it ends with the namespace. When its standard input ends, as it does with the test
process, it removes containers, networks, cgroups and files, and says on its standard output what
it could not remove.

It is started as a script, by ``python -I -S``, and so imports the standard library alone. Its
arguments are the directories that the test process is about to make for the engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

_CLONE_NEWNS = 0x20000  # linux/sched.h
_MS_REC, _MS_SLAVE, _MNT_DETACH = 0x4000, 0x80000, 2  # linux/mount.h
_SIOCSIFFLAGS, _SIOCBRADDBR, _SIOCBRDELBR = 0x8914, 0x89A0, 0x89A1  # linux/sockios.h
# linux/netlink.h, linux/rtnetlink.h: struct nlmsghdr and struct ifinfomsg
_RTM_DELLINK, _REQUEST, _DELETE_LINK = 17, 0x5, struct.Struct("=IHHII BxHiII")
_CGROUPS = "/sys/fs/cgroup"
_TABLES = ("iptables", "filter"), ("iptables", "nat"), ("ip6tables", "filter"), ("ip6tables", "nat")
_IFF_UP = 1  # linux/if.h
_DOCKERS_PAIR, _DOCKERS_BRIDGE = re.compile("veth[0-9a-f]{7}"), re.compile("br-[0-9a-f]{12}")
_CHAIN = re.compile(r"\b(?:CNI|NETAVARK)[-_]")
# Netavark has rules of ports in a chain of the network's, in force while a rule jumps there.
_OF_A_CONTAINER = re.compile(
    r"(?m)^-A (?!NETAVARK-DN-).* -[sd] \S+/(32|128) "
    r"| CNI-[DS]N-| CNI-[0-9a-f]{20}| -j NETAVARK-DN-"
)
_CNI = "/var/lib/cni"
"""Where the plugins of Podman's network note which container has which address."""
_IS_NO_LEASE = re.compile(r"/(lock|last_reserved_ip\.\d)$")
_COMMAND_S = 15
"""For one command of the engine's, in real seconds; what takes longer is killed."""
_LOOSE_S = 2
"""So long an engine has what it makes and has yet to note at most, or an interface takes to go."""
_GRACE_S = 5
"""For processes that were killed to be gone."""


class Guardian:
    """Of one engine, by its plan: what the module `engines` calls a `Plan`, as JSON."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.directory = Path(plan["directory"])
        self.problems: list[str] = []
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._devices = "/sys/class/net"
        """The network interfaces, as files."""
        self._made: list[str] = []
        """Directories to mount on that were not there."""
        self._before: dict[str, Any] = {}
        self._released_s = 0
        """How long the interfaces of what was released may take to go."""
        self._began_s = int(time.time())
        """As a time of day."""
        self._own_pause = 0
        """The process that keeps a user namespace for this engine alone; 0: none."""

    # --- before the engine starts ----------------------------------------------------------------

    def isolate(self) -> str:
        """Have mounts be this process's own; return why not."""
        if self._libc.unshare(_CLONE_NEWNS) or self._mount("none", "/", _MS_REC | _MS_SLAVE):
            return f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}"
        for path in self.plan["hidden"]:
            if not os.path.isdir(path):
                os.makedirs(path)
                self._made.append(path)
            if self._mount("tmpfs", path, 0, "tmpfs"):
                return f"{path} cannot be hidden: {os.strerror(ctypes.get_errno())}"
        system = self.directory / "sys"  # /sys has those of the namespace that it was mounted in
        system.mkdir()
        if self._mount("sysfs", str(system), 0, "sysfs") == 0:
            self._devices = f"{system}/class/net"
        return ""

    def _mount(self, source: str, target: str, flags: int, kind: str = "none") -> int:
        names = (ctypes.c_char_p(name.encode()) for name in (source, target, kind))
        failed: int = self._libc.mount(*names, ctypes.c_ulong(flags), None)
        return failed

    def enter_user_namespace(self) -> str:
        """Have the one of an ordinary user's Podman be there; return why not.

        For a traced program newuidmap(1) would make none. It lasts as long as a process of Podman's
        that waits in it, which ends with the engine unless it was there before.
        """
        before = self._pause()
        _, problem = self._podman("unshare", "true")
        self._own_pause = 0 if before else self._pause()
        return problem

    def _pause(self) -> int:
        """Return the process that keeps Podman's user namespace; 0 if there is none."""
        uid = os.getuid()
        places = [
            os.environ.get("XDG_RUNTIME_DIR", ""),
            f"/run/user/{uid}",
            f"/tmp/podman-run-{uid}",
        ]
        for place in filter(None, places):
            with contextlib.suppress(OSError, ValueError):
                pid = int(Path(place, "libpod/tmp/pause.pid").read_text())
                if _is_alive(pid):
                    return pid
        return 0

    def add_bridge(self, name: str) -> None:
        """Make a bridge. Raises OSError where there are none."""
        _bridge(_SIOCBRADDBR, name)

    def look_around(self) -> None:
        """Note what is to be there afterwards too, as the oldest of several engines found it."""
        if self.plan["engine"] != "podman":
            self._before = {"others": os.listdir(self._devices)}
            return
        here = os.path.dirname(self.directory)
        notes = glob.glob(f"{here}/{self.directory.name.rpartition('-')[0]}-*/before.json")
        network = os.stat("/proc/self/ns/net").st_ino
        for path in sorted(notes, key=_age):
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(Path(path).read_text())
                if found["network"] == network:
                    self._before = found
                    break
        else:
            self._before = {
                "network": network,
                "interfaces": os.listdir(self._devices),
                "cgroups": [*_cgroups("libpod_parent")],
                "forwards": _forwarding().read_text() if _forwarding().exists() else "",
                "notes": glob.glob(f"{_CNI}/networks/*"),
                "tables": [_CHAIN.search("\n".join(_rules(*one))) is not None for one in _TABLES],
            }
        (self.directory / "before.json").write_text(json.dumps(self._before))

    # --- when the engine has ended ---------------------------------------------------------------

    def clean_up(self) -> None:
        """Remove all that is left."""
        steps = [
            self._thaw,
            self._end_processes,
            self._release_namespaces,
            self._remove_network,
            self._unmount,
            self._remove_cgroups,
        ]
        if self.plan["engine"] == "podman":  # which has programs of its own that see to the ends
            steps[:0] = self._remove_from_podman, self._remove_half_made
        for step in (*steps, self._remove_files):
            try:
                step()
            except Exception as error:
                self.problems.append(f"{step.__name__.strip('_')}: {error}")

    def _remove_cgroups(self) -> None:
        deadline_s = time.monotonic() + _GRACE_S
        own, shared = [*_cgroups(self.directory.name)], [*_cgroups("libpod_parent")]
        known = self._before.get("cgroups", shared)
        for path in own + [one for one in shared if one not in known]:
            while problem := _remove_cgroup(path):
                if path in shared and any(map(_is_alive, _processes_in(path))):
                    break  # another's containers
                if time.monotonic() > deadline_s:
                    self.problems.append(f"{path}: {problem}")
                    break
                time.sleep(0.005)  # what has ended may be in it a moment longer

    def _remove_files(self) -> None:
        for path in self.plan["files"]:
            shutil.rmtree(path, ignore_errors=True)
            if os.path.exists(path):
                self.problems.append(f"{path} cannot be removed")
        for path in self._made:
            self._libc.umount2(path.encode(), _MNT_DETACH)
            with contextlib.suppress(OSError):  # others use it by now
                os.rmdir(path)

    def _remove_from_podman(self) -> None:
        """Remove what the engine's own log says it has made, and nothing of another engine's."""
        made: dict[str, dict[str, None]] = {"container": {}, "pod": {}, "volume": {}}
        for kind, status, name in _events(self.directory / "events"):
            if status == "create" and kind in made:
                made[kind][name] = None
            elif status == "remove" and kind in made:
                made[kind].pop(name, None)
        networks = [path.stem for path in (self.directory / "networks").glob("*.*list")]
        networks += [path.stem for path in (self.directory / "networks").glob("*.json")]
        for words, names in (
            (("rm", "--force", "--ignore", "--volumes", "--time=0"), made["container"]),
            (("pod", "rm", "--force", "--ignore", "--time=0"), made["pod"]),
            (("volume", "rm", "--force"), made["volume"]),
            (("network", "rm", "--force"), networks),
        ):
            self._remove_named(names, *words)

    def _remove_half_made(self) -> None:
        """Remove containers that Podman has stored, but was killed before it had noted.

        Another Podman's are so for a moment alone, CRI-O's always; a build's are called buildah's.
        """

        def find() -> set[str]:
            said, _ = self._podman("ps", "--all", "--external", "--format=json")
            return {
                one["Id"]
                for one in json.loads(said or "[]")
                if one["Command"] == ["storage"] and one["Created"] >= self._began_s
                if not any(name.startswith("k8s_") for name in one["Names"] or ())
            }

        self._remove_named(_lasting(find), "rm", "--force", "--ignore")

    def _remove_named(self, names: Collection[str], *words: str) -> None:
        deadline_s = time.monotonic() + _COMMAND_S
        while names and (problem := self._podman(*words, *names)[1]):
            # Where conmon was killed Podman finds out about a container's end step by step.
            if time.monotonic() > deadline_s:
                self.problems.append(f"podman {' '.join(words[:2])}: {problem}")
                break
            time.sleep(0.02)

    def _podman(self, *words: str) -> tuple[str, str]:
        """Return what it says, and what went wrong."""
        try:
            done = subprocess.run(
                [self.plan["program"], *words],
                env=self.plan["environment"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COMMAND_S,
            )
        except subprocess.TimeoutExpired:
            return "", f"it took more than {_COMMAND_S} s"
        problems = [line for line in done.stderr.splitlines() if "no such" not in line]
        return done.stdout, " ".join(problems) if done.returncode else ""

    def _thaw(self) -> None:
        """Have paused containers run, as their processes can be killed only then."""
        for path in _cgroups(self.directory.name):
            for folder, _, files in os.walk(path):
                for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                    if name in files:
                        with contextlib.suppress(OSError):  # that of the root
                            Path(folder, name).write_text(text)

    def _end_processes(self) -> None:
        """Kill what is in this mount namespace, which the tracer may not have seen to."""
        if self._own_pause:
            with contextlib.suppress(OSError):
                os.kill(self._own_pause, signal.SIGKILL)
        deadline_s = time.monotonic() + _GRACE_S
        while left := [*self._processes()]:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline_s:
                self.problems.append(f"processes {left} do not end")
                return
            time.sleep(0.005)

    def _processes(self) -> Iterator[int]:
        for path in _cgroups(self.directory.name):
            yield from filter(_is_alive, _processes_in(path))
        own = os.stat("/proc/self/ns/mnt").st_ino
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with contextlib.suppress(OSError):  # it is another's, or a zombie
                if self.plan["isolates"]:
                    is_own = os.stat(f"/proc/{pid}/ns/mnt").st_ino == own
                else:  # by CONTAINERS_CONF
                    is_own = (
                        os.fsencode(self.directory) in Path(f"/proc/{pid}/environ").read_bytes()
                    )
                if is_own and pid != os.getpid():
                    yield pid

    def _unmount(self) -> None:
        for point in reversed(_mount_points()):
            if any(f"{point}/".startswith(f"{path}/") for path in self.plan["mounts"]):
                self._libc.umount2(os.fsencode(point), _MNT_DETACH)

    def _release_namespaces(self) -> None:
        """End network namespaces of containers that had yet to start, and their interfaces."""
        for point in reversed(_mount_points()):
            if "/run/netns" in self.plan["hidden"] and point.startswith("/run/netns/"):
                self._libc.umount2(os.fsencode(point), _MNT_DETACH)
                self._released_s = _LOOSE_S
        if self._builds():  # whose namespaces have ended with their processes
            self._released_s = _LOOSE_S

    def _builds(self) -> list[str]:
        """Return the directories of what executes a RUN of an image's build, which no log names."""
        return glob.glob(f"{self.plan['environment']['TMPDIR']}/buildah*")

    def _remove_network(self) -> None:
        if not self.plan["is_root"]:
            return  # an ordinary user's ends with its namespace
        are_all_gone = self._remove_bridges()
        if self.plan["engine"] == "docker":
            self._remove_loose_interfaces()
        if self.plan["engine"] == "podman":
            self._remove_rules(and_shared=are_all_gone)
            self._remove_notes()
            others = glob.glob(f"{self._devices}/*/bridge")
            others = [path for path in others if "/vdt" not in path]  # which forward nothing
            if are_all_gone and self._before.get("forwards") and not others:
                with contextlib.suppress(OSError):
                    _forwarding().write_text(self._before["forwards"])

    def _remove_bridges(self) -> bool:
        """Return whether they are gone; another's containers may be on one."""
        bridges = [self.plan["bridge"]] if self.plan["bridge"] else []
        for path in self.plan["files"] + self.plan["mounts"]:
            for store in glob.glob(f"{path}/network/files/local-kv.db"):
                bridges += _bridges_in(store)
        if self.plan["engine"] == "podman":
            bridges += ["cni-podman0", "podman0"]
        known = self._before.get("interfaces", ())
        for name in bridges:
            ports = f"{self._devices}/{name}/brif"
            if name in known or not os.path.isdir(ports):
                continue
            until_s = time.monotonic() + self._released_s
            while self.plan["engine"] == "podman" and os.listdir(ports):
                if time.monotonic() > until_s:
                    return False
                time.sleep(0.01)
            try:
                for port in os.listdir(ports):  # of a container that had yet to start
                    _delete_interface(port)
                _bridge(_SIOCBRDELBR, name)
            except OSError as error:
                self.problems.append(f"the bridge {name}: {error.strerror}")
        return True

    def _remove_rules(self, *, and_shared: bool) -> None:
        """Remove rules of the network plugins: the containers' own, and `and_shared` what is left.

        Podman itself removes none of a container that it was killed in the midst of starting: it
        had yet to note that the container has a network.
        """
        events = _events(self.directory / "events")
        own = {name for *what, name in events if what == ["container", "create"]}
        own |= {f"buildah-{os.path.basename(path)}" for path in self._builds()}
        found = glob.glob(f"{_CNI}/results/*")
        notes = [path for path in found if any(f"-{one}-" in path for one in own)]
        networks, addresses = {"podman"}, set()
        for path in glob.glob(f"{_CNI}/networks/*/*"):
            network, address = path.split("/")[-2:]
            networks.add(network)
            with contextlib.suppress(OSError, ValueError):
                if own.intersection(Path(path).read_text().split()):
                    addresses |= {f"{address}/32", f"{address}/128"}
                    notes.append(path)
        names = own.union(*(_chains_of(network, one) for network in networks for one in own))

        def is_own(rule: str) -> bool:
            words = {*re.findall(r"[\w.:/-]+", rule)}
            return bool(words & (addresses if rule.startswith("-A CNI-FORWARD ") else names))

        for one, had_chains in zip(_TABLES, self._before.get("tables", ()), strict=False):
            _remove_rules(*one, is_own, and_shared=and_shared and not had_chains)
        for path in notes:  # last, as the next container may be given the address then
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _remove_notes(self) -> None:
        """Remove what the plugins have noted of networks that are gone, which Podman leaves."""
        places = f"{os.path.dirname(self.directory)}/vdsotime-podman-*/networks", "/etc/cni/net.d"
        found = glob.glob(f"{_CNI}/networks/*")
        known = f"{_CNI}/networks/podman", *self._before.get("notes", found)
        for path in {*found} - {*known}:
            is_there = any(glob.glob(f"{place}/{os.path.basename(path)}.*") for place in places)
            leases = [one for one in glob.glob(f"{path}/*") if not _IS_NO_LEASE.search(one)]
            if not (is_there or leases):
                shutil.rmtree(path, ignore_errors=True)

    def _remove_loose_interfaces(self) -> None:
        """Remove what dockerd has made for a container or a network and not come to use.

        Another dockerd's are so for a moment alone.
        """
        for name in _lasting(self._loose_interfaces):
            _delete_interface(name)

    def _loose_interfaces(self) -> set[str]:
        """Return pairs that are down and on no bridge, and bridges that no dockerd has noted.

        What was there before the start is not among them.
        """
        pairs: dict[str, tuple[str, str]] = {}
        bridges: set[str] = set()
        for name in {*os.listdir(self._devices)} - {*self._before.get("others", ())}:
            place = Path(self._devices, name)
            with contextlib.suppress(OSError, ValueError):  # it has gone
                is_up = int((place / "flags").read_text(), 16) & _IFF_UP
                if _DOCKERS_PAIR.fullmatch(name) and not (is_up or (place / "master").exists()):
                    pairs[name] = (place / "ifindex").read_text(), (place / "iflink").read_text()
                if _DOCKERS_BRIDGE.fullmatch(name) and not os.listdir(place / "brif"):
                    bridges.add(name)
        if bridges:
            bridges.difference_update(*map(_bridges_in, _dockers_stores()))
        return bridges | {
            name for name, (own, other) in pairs.items() if (other, own) in pairs.values()
        }


def _lasting(find: Callable[[], set[str]]) -> set[str]:
    """Return what is found each time while another engine may be in the midst of making it."""
    until_s = time.monotonic() + _LOOSE_S
    left = find()
    while left and time.monotonic() < until_s:
        time.sleep(0.1)
        left &= find()
    return left


def _age(path: str) -> float:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime
    return float("inf")


def _bridges_in(store: str) -> set[str]:
    """Return the names of bridges that a dockerd has noted in a file of its own."""
    with contextlib.suppress(OSError):
        names = re.findall(rb'"BridgeName":"([^"]+)"', Path(store).read_bytes())
        return {os.fsdecode(name) for name in names}
    return set()


def _dockers_stores() -> Iterator[str]:
    """Yield such files of the dockerds that run; each has a database of volumes open beside it."""
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            root, found, _ = os.readlink(path).partition("/volumes/metadata.db")
            if found:
                yield f"{path.partition('/fd/')[0]}/root{root}/network/files/local-kv.db"


def _events(log: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (type, status, what to call it) of each line of Podman's log of events."""
    with contextlib.suppress(OSError):
        for line in log.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError, RecursionError):  # a line that was being written
                event = json.loads(line)
                if isinstance(event, dict):
                    name = event.get("ID") or event.get("Name")
                    words = event.get("Type"), event.get("Status"), name
                    if all(isinstance(word, str) for word in words):
                        yield words  # type: ignore[misc]


def _mount_points() -> list[str]:
    """Return where something is mounted, in the order of the mounts.

    The kernel writes a space, a tab, an end of line and a backslash as octal numbers, and all other
    bytes as they are (mangle, fs/proc_namespace.c).
    """
    lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    points = (line.split(b" ")[4] for line in lines if line)
    unescape = re.compile(rb"\\([0-7]{3})").sub
    return [os.fsdecode(unescape(lambda one: bytes((int(one[1], 8),)), path)) for path in points]


def _cgroups(name: str) -> Iterator[str]:
    """Yield the directories of a cgroup of the root's, of version 2 and of each of version 1."""
    yield from glob.glob(f"{_CGROUPS}/{name}") + glob.glob(f"{_CGROUPS}/*/{name}")


def _remove_cgroup(path: str) -> str:
    """Remove a cgroup and those below it; return what went wrong."""
    try:
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _processes_in(path: str) -> Iterator[int]:
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        return state not in b"ZX"
    return False


def _bridge(request: int, name: str) -> None:
    word = os.fsencode(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as file:
        if request == _SIOCBRDELBR:  # it is to be down for that
            fcntl.ioctl(file, _SIOCSIFFLAGS, struct.pack("16sh22x", word, 0))
        fcntl.ioctl(file, request, struct.pack("16s", word))


def _delete_interface(name: str) -> None:
    """And the other end of it, if it is one of two (veth(4)); nothing where it is gone."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as file:
        index = socket.if_nametoindex(name)
        message = _DELETE_LINK.pack(
            _DELETE_LINK.size, _RTM_DELLINK, _REQUEST, 0, 0, 0, 0, index, 0, 0
        )
        file.send(message)
        file.recv(4096)  # an answer: it is done by then


def _forwarding() -> Path:
    return Path("/proc/sys/net/ipv4/ip_forward")


def _rules(command: str, table: str) -> list[str]:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [command, "--wait=5", "--table", table, "-S"],
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
        )
        return done.stdout.splitlines()
    return []


def _chains_of(network: str, container: str) -> set[str]:
    """Return what the plugins call a container's chains (FormatChainName, pkg/utils)."""
    digest = hashlib.sha512(os.fsencode(network + container)).hexdigest()
    return {f"CNI-{kind}{digest}"[:28] for kind in ("", "DN-", "SN-")}


def _remove_rules(
    command: str, table: str, is_own: Callable[[str], bool], *, and_shared: bool
) -> None:
    """Remove rules and chains of Podman's network plugins.

    They are those of an engine's own and, where no other container is in any, those of all.
    """
    rules = [line for line in _rules(command, table) if _CHAIN.search(line)]
    own = [line for line in rules if is_own(line)]
    left = "\n".join(line for line in rules if line not in own)
    if and_shared and not _OF_A_CONTAINER.search(left):
        own = rules
    undo = [f"-D{line.removeprefix('-A')}" for line in own if line.startswith("-A")]
    undo += [f"-X{line.removeprefix('-N')}" for line in own if line.startswith("-N")]
    for line in undo:
        words = [command, "--wait=5", "--table", table, *shlex.split(line)]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(words, capture_output=True, timeout=_COMMAND_S)


def _has_word(parent: int) -> bool:
    """Wait for a word of the test process; return whether there may be one."""
    return sys.stdin in select.select([sys.stdin, parent], [], [])[0]


def _say(what: object) -> None:
    """Tell the test process, if there is one still."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(what), flush=True)


def main() -> None:
    """Say that the engine may start, or why not; wait for the end; clean up; say what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    parent = os.pidfd_open(os.getppid())
    plan = None
    with contextlib.suppress(ValueError):  # it was killed in the midst of it
        plan = json.loads(sys.stdin.readline() if _has_word(parent) else "")
    if plan is None:  # there is no engine: the directories are all that can be there
        for path in sys.argv[1:]:
            shutil.rmtree(path, ignore_errors=True)
        _say([])
        os._exit(0)
    guardian = Guardian(plan)
    problem = guardian.isolate() if guardian.plan["isolates"] else ""
    if not guardian.plan["is_root"]:
        problem = guardian.enter_user_namespace()
    if guardian.plan["bridge"] and not problem:
        try:
            guardian.add_bridge(guardian.plan["bridge"])
        except OSError as error:
            _say({"no_bridge": str(error)})
            guardian.plan["bridge"] = ""
    _say({"problem": problem})
    if guardian.plan["is_root"]:
        guardian.look_around()
    # Its children may have the pipe open too, so that it does not end with the test process.
    _has_word(parent)
    guardian.clean_up()
    _say(guardian.problems)
    os._exit(0)


if __name__ == "__main__":
    main()
