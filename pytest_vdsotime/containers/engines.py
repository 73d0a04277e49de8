"""What is known of each engine: where it is, how it is started on this machine, what it lacks."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_vdsotime.errors import VdsoTimeError

ENGINES: Final = "podman", "docker"
#: The packages of each engine, on Debian or Ubuntu and elsewhere.
PACKAGES: Final[Mapping[str, str]] = {
    "podman": "podman",
    "docker": "docker.io (or Docker's own docker-ce)",
}
_SERVERS: Final[Mapping[str, str]] = {"podman": "podman", "docker": "dockerd"}
#: What an engine of the user's own may be named by, which is not to be in the way of ours.
OTHER_ENGINES: Final = (
    *("CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
)
_SYSTEMD: Final = Path("/run/systemd/system")
"""There where systemd runs (sd_booted(3))."""
_UNIFIED: Final = Path("/sys/fs/cgroup/cgroup.controllers")
"""There where all cgroups are of version 2."""
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAP_SYS_RESOURCE: Final = 24  # linux/capability.h
#: Keys of /etc/docker/daemon.json that say where images come from and how containers run; not
#: those that say which engine it is, with which options of ours would be in conflict.
_DAEMON_KEYS: Final = (
    *("registry-mirrors", "insecure-registries", "proxies", "dns", "dns-opts", "dns-search"),
    *("default-address-pools", "default-runtime", "runtimes", "default-ulimits", "mtu", "features"),
    *("add-runtimes", "max-concurrent-downloads", "init-path", "seccomp-profile", "userns-remap"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One start of an engine: what its guardian is given."""

    engine: str
    program: str
    directory: str
    """Of this start alone: its socket, log and settings."""
    is_root: bool
    isolates: bool
    """The engine gets a mount namespace of its own."""
    hidden: Sequence[str] = ()
    """Directories of which the engine is to find an empty one of its own."""
    files: Sequence[str] = ()
    """What is removed at the end."""
    mounts: Sequence[str] = ()
    """Directories below which nothing stays mounted."""
    bridge: str = ""
    """A network interface for the engine's containers, made for it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The engine's."""

    @property
    def socket(self) -> str:
        """The path of the engine's socket."""
        return f"{self.directory}/s"

    @property
    def url(self) -> str:
        """The engine's address."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> str:
        """The path of what the engine says."""
        return f"{self.directory}/log"

    def as_json(self) -> str:
        """Return what the guardian reads."""
        return json.dumps(asdict(self))


def server_of(engine: str) -> str | None:
    """Return the path of an engine's server; None where it is not installed."""
    return _path_of(_SERVERS[engine])


def _path_of(name: str) -> str | None:
    """Return where a program is; PATH may lack the directories of servers."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}")


def entering(pid: int) -> list[str]:
    """Return what has a command run in the mount namespace of a process. Raises VdsoTimeError."""
    nsenter = _path_of("nsenter")
    if nsenter is None:
        raise VdsoTimeError("there is no nsenter here: install util-linux")
    return [nsenter, f"--mount=/proc/{pid}/ns/mnt", "--"]


def choose(engine: str | None, data_root: object) -> tuple[str, str]:
    """Return an engine that is there, and the path of its server.

    Raises ValueError, VdsoTimeError.
    """
    if engine is not None and engine not in _SERVERS:
        raise ValueError(f"engine is 'podman', 'docker' or None, not {engine!r}")
    if data_root is not None and engine == "podman":
        raise ValueError("data_root is of Docker's engine; Podman's service has the user's storage")
    candidates = [engine] if engine else [*_SERVERS] if data_root is None else ["docker"]
    for name in candidates:
        program = server_of(name)
        if program is not None and (name == "podman" or os.geteuid() == 0 or engine):
            return name, program
    packages = " or ".join(PACKAGES[name] for name in candidates)
    servers = " nor ".join(_SERVERS[name] for name in candidates)
    if any(map(server_of, candidates)):
        raise VdsoTimeError("Docker's engine needs root, and Podman is not here: install podman")
    neither = "neither " if len(candidates) > 1 else "no "
    raise VdsoTimeError(f"there is {neither}{servers} here: install {packages}")


def plan_of(engine: str, program: str, directories: Sequence[str], data_root: str) -> Plan:
    """Return how an engine starts here.

    `directories` are of this start alone: one for its settings, with a short path, and one for what
    is large. `data_root` is Docker's.

    Raises VdsoTimeError.
    """
    directory, room = directories
    environment = {name: text for name, text in os.environ.items() if name not in OTHER_ENGINES}
    environment["TMPDIR"] = f"{room}/tmp"
    os.mkdir(environment["TMPDIR"])
    is_root = os.geteuid() == 0
    if engine == "podman":
        settings = Path(directory, "containers.conf")
        settings.write_text(_toml(_podman_settings(directory, is_root)))
        return Plan(
            *(engine, program, directory, is_root, is_root),
            hidden=("/run/netns", "/run/runc", "/run/crun") if is_root else (),
            files=(directory, room),
            mounts=(directory,),
            environment={**environment, "CONTAINERS_CONF": str(settings)},
        )
    if not is_root:
        raise VdsoTimeError("Docker's engine needs root; an ordinary user has engine='podman'")
    Path(directory, "daemon.json").write_text(json.dumps(_daemon_settings()))
    return Plan(
        *(engine, program, directory, is_root, True),
        # Not for files alone: dockerd would have the machine's own containerd start containers.
        hidden=("/run/containerd", "/run/docker"),
        files=(directory, room),
        mounts=(directory, room, data_root),
        bridge=f"vdt{directory.rpartition('-')[2][:10]}",
        environment=environment,
    )


def command_of(plan: Plan, args: Sequence[str], data_root: str) -> list[str]:
    """Return the command that starts the engine."""
    if plan.engine == "podman":
        return [plan.program, "system", "service", "--time=0", *args, plan.url]
    return [
        plan.program,
        f"--config-file={plan.directory}/daemon.json",
        f"--data-root={data_root}",
        f"--exec-root={plan.directory}/exec",
        f"--pidfile={plan.directory}/pid",
        f"--host={plan.url}",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{os.path.basename(plan.directory)}",
        # The host's tables and settings are not this engine's to change: another would lose its
        # own rules. Published ports are served by docker-proxy.
        *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
        f"--bridge={plan.bridge or 'none'}",
        *args,
    ]


def has_own_bridge(args: Sequence[str]) -> bool:
    """Whether the arguments of dockerd say which bridge to take."""
    return any(word.startswith(("--bridge", "--bip", "-b")) for word in args)


def _daemon_settings() -> dict[str, Any]:
    try:
        settings = json.loads(Path("/etc/docker/daemon.json").read_text())
    except (OSError, ValueError):
        return {}
    return {key: settings[key] for key in _DAEMON_KEYS if key in settings}


# --- Podman's settings ----------------------------------------------------------------------------


def _podman_settings(directory: str, is_root: bool) -> dict[str, Any]:
    """Return the user's settings with what is this start's own, and what the machine needs."""
    settings: dict[str, Any] = {}
    for path in _settings_files(is_root):
        try:
            _merge(settings, tomllib.loads(path.read_text()))
        except (OSError, ValueError):
            continue  # as a file that is not there; a bad one is the engine's to tell
    own: dict[str, Any] = {
        "engine": {"events_logger": "file", "events_logfile_path": f"{directory}/events"},
        "network": {"network_config_dir": f"{directory}/networks"},
    }
    engine = settings.get("engine", {})
    if not _SYSTEMD.exists():
        own["engine"]["cgroup_manager"] = "cgroupfs"
    if not _UNIFIED.exists() and "runtime" not in engine and shutil.which("runc", path=_PATH):
        own["engine"]["runtime"] = "runc"  # crun refuses cgroups of version 1
    if not _may_raise_limits() and "default_ulimits" not in settings.get("containers", {}):
        own["containers"] = {"default_ulimits": _ulimits()}
    _merge(settings, own)
    return settings


def _settings_files(is_root: bool) -> list[Path]:
    """Return those that Podman reads, in its order (containers.conf(5))."""
    if path := os.environ.get("CONTAINERS_CONF"):
        return [Path(path)]
    places = [Path("/usr/share/containers"), Path("/etc/containers")]
    if not is_root:
        home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        places.append(Path(home, "containers"))
    files = []
    for place in places:
        files += [place / "containers.conf", *sorted(place.glob("containers.conf.d/*.conf"))]
    return files


def _merge(settings: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping):
            _merge(settings.setdefault(name, {}), value)
        else:
            settings[name] = value


def _may_raise_limits() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def _ulimits() -> list[str]:
    """Podman's own default is more than a process without CAP_SYS_RESOURCE may set."""
    pids = int(Path("/proc/sys/kernel/pid_max").read_text())  # to which Podman lowers its own nproc
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    found = []
    for name, number in limits.items():
        hard = resource.getrlimit(number)[1]
        if hard == resource.RLIM_INFINITY:
            hard = pids
        if name == "nproc":
            hard = min(hard, pids)
        found.append(f"{name}={hard}:{hard}")
    return found


def _toml(settings: Mapping[str, Any]) -> str:
    lines: list[str] = []
    _write_table((), settings, lines.append)
    return "\n".join(lines) + "\n"


def _write_table(
    names: tuple[str, ...], table: Mapping[str, Any], write: Callable[[str], None]
) -> None:
    tables = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    if names:
        write(f"[{'.'.join(map(_toml_value, names))}]")
    for name, value in table.items():
        if name not in tables:
            write(f"{_toml_value(name)} = {_toml_value(value)}")
    for name, value in tables.items():
        _write_table((*names, name), value, write)


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{_toml_value(name)} = {_toml_value(one)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else str(value)
