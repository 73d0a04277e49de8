"""Rounds in which pytest, `vdsotime` or the tracer is ended at some moment: nothing is left.

    python rounds.py JSON

with {"seeds": [...], "directory", "storm", "witness", "archive"}: a directory of its own, the
programs of tests/programs/helpers, an image for containers, or "" for rounds without. A seed makes
the same round each time. It says what went wrong, and exits with status 1 then.

This process is the parent of every orphan (PR_SET_CHILD_SUBREAPER, prctl(2)). As root it has the
directories of temporary files, the network and the mounts for itself, so that all of what is there
after a round was left by it.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000  # linux/sched.h
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000  # linux/mount.h
NOBODY = 65534
AS_NOBODY: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
#: Real seconds: for a whole round, for pytest to end by itself, for what is left to go.
ROUND_S, ENDING_S, GONE_S, ENGINE_GONE_S = 60, 40, 5, 60
SHARED = "/tmp", "/run", "/dev/shm", "/var/lib/cni"
START, REAL_YEAR = "2000-01-01", 2020

_RULES = re.compile("CNI|NETAVARK|DOCKER")
libc = ctypes.CDLL(None, use_errno=True)

SCENES = (
    *("shells", "daemons", "threads", "server", "storm", "starts", "advance", "autojump"),
    *("files", "control", "terminal", "other_starts", "attached", "aio", "clocks", "session"),
    "processes",
)
#: How many marks a scene has, about.
MARKS = 14


class Way(NamedTuple):
    """How a round ends a process."""

    signals: tuple[int, ...] = ()
    to: str = "pytest"
    """Or "group"; of vdsotime "tracer" or "command"."""
    inside: str = ""
    """What the process does by itself."""


KILL, TERM, INT, HUP = signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP
FATAL = signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT
WAYS = (
    *[Way((KILL,))] * 4,
    *[Way((TERM,))] * 2,
    *[Way((INT,))] * 3,
    *[Way((INT, INT))] * 3,
    *[Way((number,)) for number in FATAL],
    *[Way((number,), "group") for number in (KILL, TERM, INT, HUP)],
    Way((INT, INT), "group"),
    *[Way(inside="exit here")] * 2,
    *[Way(inside=f"{what} elsewhere") for what in ("exit", "abort", "fault")],
    *[Way(inside="fault")] * 5,
)
COMMAND_WAYS = (
    *[Way((number,), "tracer") for number in (KILL, TERM, INT, signal.SIGSEGV)],
    *[Way((number,), "command") for number in (KILL, TERM, INT, HUP)],
    *[Way((number,), "group") for number in (KILL, TERM, INT)],
)
POINTS = (
    *("stop EXEC", "stop FORK", "stop VFORK", "stop CLONE", "stop TRAP", "stop SIGNAL"),
    *("stop SECCOMP", "stop SYSCALL", "stop EXITED", "stop GROUP_STOP", "entry EXEC"),
    *("entry FORK", "entry VFORK", "entry CLONE", "loop", "wait", "timer", "jump"),
    *("call clock_nanosleep", "vdso"),
)
ERRORS = "ZeroDivisionError", "OSError", "MemoryError", "SystemExit"


class Round:
    """What a seed makes."""

    def __init__(self, seed: int, *, has_engine: bool = False) -> None:
        pick = random.Random(f"{seed} {has_engine}")
        self.seed, self.engine = seed, ""
        self.is_command = pick.random() < 0.2
        self.way = pick.choice(COMMAND_WAYS if self.is_command else WAYS)
        self.scenes = pick.sample(SCENES, pick.choice([1, 1, 2, 3]))
        if has_engine and self.is_command:
            self.engine = "podman"
        elif has_engine:
            self.engine = pick.choice(["podman", "docker"])
            self.scenes.insert(pick.randrange(len(self.scenes) + 1), "containers")
            self.scenes = [one for one in self.scenes if one != "files"]
        number = pick.randrange(len(self.scenes))
        if "containers" in self.scenes:
            number = self.scenes.index("containers")
        self.moment = [number, 1 + pick.randrange(MARKS)]
        self.delay_s = pick.choice([0.0, *(10 ** pick.uniform(-5, -0.7) for _ in range(5))])
        if has_engine:
            self.delay_s *= 5
        self.from_start = pick.random() < 0.15
        if self.from_start:
            self.delay_s = pick.uniform(0, 1)
        self.apart_s = 10 ** pick.uniform(-5, -0.5)
        self.has_faulthandler = pick.random() < 0.5
        self.is_user = not has_engine and pick.random() < 0.2
        self.error = pick.choice(ERRORS)
        self.points, self.count = [*POINTS], int(10 ** pick.uniform(0, 2.2))
        if pick.random() < 0.4:
            self.points, self.count = [pick.choice(POINTS)], pick.randrange(1, 4)
        options = [["--control", "unix:{0}/control"], ["--control", "127.0.0.1:0"]]
        options += [["--trace", "{1}/trace"], ["--files", "follow"], ["--autojump"]]
        self.options = sum(pick.sample(options, pick.randrange(3)), [])
        if self.options.count("--control") == 2:
            del self.options[:2]
        if has_engine:
            self.options.append("--containers")

    def __str__(self) -> str:
        way = f"{'+'.join(signal.Signals(one).name for one in self.way.signals)} to {self.way.to}"
        if self.way.inside:
            way = self.way.inside
        if self.way.inside == "fault":
            point = self.points[0] if len(self.points) == 1 else "any point"
            way += f" ({point}, {self.count}, {self.error})"
        when = "start" if self.from_start else f"mark {self.moment}"
        what = f"vdsotime {' '.join(self.options)}" if self.is_command else " ".join(self.scenes)
        return (
            f"seed {self.seed}{' ' + self.engine if self.engine else ''}: {what}: "
            f"{way}, {self.delay_s:.5f} s after {when}"
            f"{'' if self.has_faulthandler else ', no faulthandler'}"
        )


# --- what there is --------------------------------------------------------------------------------


def stat_of(pid: int) -> tuple[str, int] | None:
    """State and parent."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[1])
    return None


def descendants(but: Iterable[int] = ()) -> list[int]:
    """Of this process, without those of `but` and of theirs; zombies of its own are reaped."""
    parents: dict[int, int] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        found = stat_of(pid)
        if found is not None:
            parents[pid] = found[1]
    excluded, known = {*but}, {os.getpid()}
    found_one = True
    while found_one:
        found_one = False
        for pid, parent in parents.items():
            if parent in known and pid not in known and pid not in excluded:
                known.add(pid)
                found_one = True
    known.discard(os.getpid())
    left = []
    for pid in known:
        if parents[pid] == os.getpid() and (stat_of(pid) or "Z")[0] == "Z":
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        elif stat_of(pid) is not None:
            left.append(pid)
    return left


def describe(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        text = b" ".join(words).decode(errors="replace")[:150]
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(re.findall(r"^(State|PPid|TracerPid|Name):\s*(.*)$", status, re.MULTILINE))
        return f"{pid} {fields} {text}"
    return f"{pid} (gone)"


def tracer_of(pid: int) -> int:
    with suppress(OSError, ValueError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("\nTracerPid:")[2].split()[0])
    return 0


def cgroups(name: str) -> list[str]:
    return glob.glob(f"/sys/fs/cgroup/**/{name}*", recursive=True)


def _is_anothers(path: str) -> bool:
    """Of the user's own Podman, which lasts, and of none of its containers; or multiprocessing's,
    for its fork server, which removes it at the end of an orderly process alone."""
    if "/pymp-" in path:
        return True
    if re.fullmatch("/var/lib/cni/(networks|results|networks/podman(/lock|/last_.*)?)", path):
        return True
    is_own = path.startswith(("/run/containers", "/run/libpod", "/dev/shm/libpod"))
    return is_own and not re.search("[0-9a-f]{64}", path)


class Machine:
    """Where rounds run: what is shared with others is this process's own, as root."""

    def __init__(self, directory: Path, files: Iterable[str]) -> None:
        """`files` are to be where they are."""
        self.directory = directory
        directory.chmod(0o755)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.is_own = os.geteuid() == 0
        if self.is_own:
            needed = [*files, str(HERE), sys.prefix, sys.base_prefix, *sys.path]
            self._isolate([str(directory), *needed])
        self.temporary = directory / "tmp"
        if self.is_own:
            self.temporary = Path("/tmp/vt")
        self.has_users = self.is_own and self._starts_as_nobody()
        self._mounts = Path("/proc/self/mountinfo").read_text()
        self._had = {*self._files()}
        self._interfaces = {"lo"}
        self._engines: set[str] = set()

    def _isolate(self, kept: list[str]) -> None:
        if libc.unshare(CLONE_NEWNS | CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        self._mount("none", "/", MS_REC | MS_SLAVE)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        storage = self.directory / "containers"
        if os.path.isdir("/var/lib/containers"):
            storage.mkdir()
            self._mount(str(storage), "/var/lib/containers", MS_BIND)
        kept = [path for path in dict.fromkeys(kept) if os.path.isdir(path)]
        kept = [path for path in kept if path.startswith(tuple(f"{one}/" for one in SHARED))]
        opened = {path: os.open(path, os.O_PATH) for path in kept}
        for shared in SHARED:
            os.makedirs(shared, exist_ok=True)
            self._mount("tmpfs", shared, 0, "tmpfs")
            os.chmod(shared, 0o1777)
        for path, fd in opened.items():
            os.makedirs(path, exist_ok=True)
            self._mount(f"/proc/self/fd/{fd}", path, MS_BIND | MS_REC)
            os.close(fd)
        self._kept = kept

    @staticmethod
    def _starts_as_nobody() -> bool:
        """Python, and what it imports, are not closed to other users."""
        command = [sys.executable, "-c", "import pytest, pytest_vdsotime.tracer.thread"]
        with suppress(PermissionError):
            return subprocess.run(command, cwd="/", stderr=DEVNULL, **AS_NOBODY).returncode == 0
        return False

    def _mount(self, source: str, target: str, flags: int, kind: str = "none") -> None:
        names = (ctypes.c_char_p(os.fsencode(name)) for name in (source, target, kind))
        if libc.mount(*names, ctypes.c_ulong(flags), None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)

    def _files(self) -> Iterator[str]:
        if not self.is_own:
            yield from glob.glob(f"{self.temporary}/**", recursive=True, include_hidden=True)
            return
        for shared in SHARED:
            for folder, folders, files in os.walk(shared):
                folders[:] = [one for one in folders if f"{folder}/{one}" not in self._kept]
                yield from (f"{folder}/{one}" for one in (*files, *folders))

    def begin(self, owner: int) -> None:
        self.temporary.mkdir()
        if self.is_own:
            os.chown(self.temporary, owner, owner)
        self._had = {*self._files()}
        self._interfaces = {name for _, name in socket.if_nameindex()}

    def look(self) -> None:
        """Take note of the engines that there are."""
        if self.is_own:
            found = os.listdir("/run")
            self._engines |= {name for name in found if re.match("vdsotime-(podman|docker)-", name)}

    def left(self) -> list[str]:
        """What the round has left, but processes."""
        left = [f"file {path}" for path in {*self._files()} - self._had if not _is_anothers(path)]
        if self.is_own:
            mounts = Path("/proc/self/mountinfo").read_text().splitlines()
            left += [f"mount {one}" for one in mounts if one not in self._mounts.splitlines()]
            interfaces = {name for _, name in socket.if_nameindex()}
            left += [f"interface {name}" for name in interfaces - self._interfaces]
            if self._engines:
                saved = subprocess.run(["iptables-save"], capture_output=True, text=True).stdout
                left += [f"rule {one}" for one in saved.splitlines() if _RULES.search(one)]
            left += [f"cgroup {path}" for name in self._engines for path in cgroups(name)]
        return left

    def end(self) -> None:
        for path in {*self._files()} - self._had:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(path)
        shutil.rmtree(self.temporary, ignore_errors=True)


# --- programs that run already --------------------------------------------------------------------


class Witness:
    """A program off the clock, to which tests attach."""

    def __init__(self, command: list[str], **keywords: Any) -> None:
        self.program = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, bufsize=0, **keywords)
        self.pid = self.program.pid
        self._read(5)

    def _read(self, timeout_s: float) -> list[int]:
        assert self.program.stdout
        if not select.select([self.program.stdout], [], [], timeout_s)[0]:
            raise TimeoutError
        return [int(word) for word in self.program.stdout.readline().split()]

    def _ask(self) -> list[int]:
        assert self.program.stdin
        self.program.stdin.write(b"?")
        return self._read(5)

    def problem(self, must_live: bool | None) -> str:
        """Whether it is as it is to be; `must_live` None: either way."""
        status = self.program.poll()
        if status is not None:
            wrong = must_live or status != -signal.SIGKILL
            return f"attached {self.pid} has ended with {status}" if wrong else ""
        if must_live is False:
            return f"attached {self.pid} lives on: {describe(self.pid)}"
        try:
            before_ns = time.time_ns()
            wall_ns, *counts = self._ask()
            after_ns = time.time_ns()
            time.sleep(0.02)
            until = time.monotonic() + 5
            while not all(new > old for new, old in zip(self._ask()[1:], counts, strict=True)):
                if time.monotonic() > until:
                    return f"attached {self.pid}: a thread stands still: {describe(self.pid)}"
                time.sleep(0.01)
        except (OSError, ValueError, TimeoutError) as error:
            return f"attached {self.pid} does not answer ({error!r}): {describe(self.pid)}"
        if not before_ns <= wall_ns <= after_ns:
            return f"attached {self.pid} reads {wall_ns} at {before_ns}..{after_ns}"
        if tracer_of(self.pid):
            return f"attached {self.pid} is traced: {describe(self.pid)}"
        return ""

    def end(self) -> None:
        assert self.program.stdin and self.program.stdout
        self.program.kill()
        self.program.wait()
        self.program.stdin.close()
        self.program.stdout.close()


# --- a round --------------------------------------------------------------------------------------

COMMAND = """
mark() { echo "0 $1 $1" >>"$VDSOTIME_MARKS"; }
year() { date -u +%Y >>"$VDSOTIME_REPORT"; }
mark 1
(trap '' TERM HUP INT; while :; do year; sleep 0.01; done) &
mark 2
setsid sh -c '(setsid sleep 1000 &); kill -STOP $$' &
mark 3
"$0" 7 2 &
mark 4
for i in 1 2 3; do year; (sleep 0.01; year) & done
mark 5
while :; do sleep 1000; done | sleep 1000 &
mark 6
sleep 0.02
mark 7
year
mark 8
sleep 0.2
"""


def _texts(marks: list[str]) -> set[str]:
    return {text.split(maxsplit=2)[2] for text in marks if text[0].isdigit()}


class Running:
    """One round under way."""

    def __init__(self, round: Round, machine: Machine, job: dict[str, Any]) -> None:
        self.round, self.machine = round, machine
        self.is_user = round.is_user and machine.has_users
        self.place = machine.directory / "round"
        self.place.mkdir()
        self.place.chmod(0o777)
        self.report, self.output = self.place / "report", self.place / "output"
        self.report.touch()
        self.report.chmod(0o666)
        os.mkfifo(self.place / "marks", 0o666)
        os.chmod(self.place / "marks", 0o666)
        self.pipe = os.open(self.place / "marks", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.marks: list[str] = []
        self.known_before: list[str] | None = None
        """The marks that were reached before it was killed; None: it was not."""
        self.target = ""
        """Which process of `vdsotime` was."""
        self._rest = b""
        self.problems: list[str] = []
        identity = AS_NOBODY if self.is_user else {}
        self.witnesses = []
        if "attached" in round.scenes and not round.is_command:
            witness = job["witness"]
            for words in ([witness], [witness, "child"], [witness]):
                self.witnesses.append(Witness(words, **identity))
        machine.begin(NOBODY if self.is_user else os.geteuid())

        def follow() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        self.began_s = time.monotonic()
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self._command(job)],
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.place,
                env=self._environment(job),
                process_group=0,
                preexec_fn=follow,
                **identity,
            )

    def _environment(self, job: dict[str, Any]) -> dict[str, str]:
        round, is_fault = self.round, self.round.way.inside == "fault"
        plan = {
            "scenes": round.scenes,
            "moment": round.moment,
            "delay_s": round.delay_s,
            "inside": "" if is_fault else round.way.inside,
            "fault": round.points if is_fault else [],
            "count": round.count,
            "error": round.error,
            "witnesses": [one.pid for one in self.witnesses],
            "storm": job["storm"],
            "engine": round.engine,
            "archive": job["archive"],
        }
        return {
            **os.environ,
            "TMPDIR": str(self.machine.temporary),
            "HOME": str(self.place),
            "VDSOTIME_ROUND": json.dumps(plan),
            "VDSOTIME_MARKS": str(self.place / "marks"),
            "VDSOTIME_REPORT": str(self.report),
            "VDSOTIME_DIRECTORY": str(self.place),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _command(self, job: dict[str, Any]) -> list[str]:
        """The arguments of Python."""
        if self.round.is_command:
            options = [one.format(self.machine.temporary, self.place) for one in self.round.options]
            command = ["-m", "pytest_vdsotime", f"--at={START}", *options, "--"]
            return [*command, "sh", "-c", COMMAND, job["storm"]]
        options = [] if self.round.has_faulthandler else ["-pno:faulthandler"]
        options += [
            "-q",
            "-pvdsotime",
            "-pno:cacheprovider",
            "--assert=plain",
            f"-ovdso_time={START}",
        ]
        options += [f"--rootdir={HERE}", f"--confcutdir={HERE}", "-c", os.devnull]
        tests = [f"{HERE}/suite.py::test_{name}" for name in self.round.scenes]
        return ["-m", "pytest", "--import-mode=importlib", *options, *tests]

    # --- its way ---------------------------------------------------------------------------------

    def run(self) -> list[str]:
        try:
            self._end_it()
            self._await_end()
            self._check_left()
            self._check_witnesses()
            self._check_said()
        finally:
            self._clean_up()
        return self.problems

    def _listen(self, timeout_s: float) -> None:
        """Take note of marks, for a time at most."""
        if select.select([self.pipe], [], [], max(timeout_s, 0))[0]:
            *lines, self._rest = (self._rest + os.read(self.pipe, 65536)).split(b"\n")
            self.marks += [line.decode() for line in lines]
        self.machine.look()

    def _is_reached(self) -> bool:
        for text in self.marks:
            if text[0].isdigit() and [int(word) for word in text.split()[:2]] >= self.round.moment:
                return True
        return False

    def _end_it(self) -> None:
        round, has_ended = self.round, self._has_ended
        until_s = self.began_s + ROUND_S
        if round.way.inside:
            return
        if round.from_start:
            at_s = self.began_s + round.delay_s
        else:
            if round.is_command:
                round.moment = [0, 1 + round.moment[1] % 8]
            while not self._is_reached():
                if has_ended() or time.monotonic() > until_s:
                    return
                self._listen(0.005 if round.engine else 0.02)
            at_s = time.monotonic() + round.delay_s
        while (left_s := at_s - time.monotonic()) > 0:
            self._listen(min(left_s, 0.005))
        self._listen(0)
        if has_ended():
            return
        self.known_before = list(self.marks)
        for number in round.way.signals:
            with suppress(ProcessLookupError):
                self._signal(number)
            if number is not round.way.signals[-1]:
                time.sleep(round.apart_s)

    def _signal(self, number: int) -> None:
        to, pid = self.round.way.to, self.process.pid
        if to == "group":
            os.killpg(pid, number)
        elif to == "tracer" and (tracer := tracer_of(pid)):
            self.target = "tracer"
            os.kill(tracer, number)
        else:
            self.target = "command"
            os.kill(pid, number)

    def _has_ended(self) -> bool:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, options) is not None

    def _await_end(self) -> None:
        """The process ends, at once where it was killed."""
        until_s = time.monotonic() + ENDING_S
        while not self._has_ended():
            if time.monotonic() > until_s:
                self.problems.append("it does not end")
                os.kill(self.process.pid, signal.SIGABRT)
                time.sleep(0.5)
                break
            self._listen(0.01)
        self._listen(0)
        self.machine.look()
        if self._has_ended():
            self.process.wait()

    def _check_left(self) -> None:
        """No process, no file, no mount, no interface, no cgroup."""
        witnesses = [one.pid for one in self.witnesses]
        if self.round.is_command:
            self._end_what_goes_on()
        until_s = time.monotonic() + (ENGINE_GONE_S if self.round.engine else GONE_S)
        while left := descendants(witnesses):
            if time.monotonic() > until_s:
                self.problems += [f"process {describe(pid)}" for pid in left]
                break
            self.machine.look()
            time.sleep(0.003)
        # A socket that the user has named is left as any server's that was killed.
        stays = f"file {self.machine.temporary}/control"
        is_killed = self.target == "tracer" or not self.marks
        may_stay = [stays] if self.round.is_command and is_killed else []
        self.problems += [one for one in self.machine.left() if one not in may_stay]

    def _end_what_goes_on(self) -> None:
        """What COMMAND leaves behind stays on the clock while its tracer lives; it ends with that,
        and the tracer with the last of them."""
        until_s = time.monotonic() + GONE_S
        while self.target != "tracer" and time.monotonic() < until_s and (left := descendants()):
            for pid in left:
                if tracer_of(pid) and "vdsotime-waker" not in describe(pid):
                    until_s = time.monotonic() + GONE_S
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _check_witnesses(self) -> None:
        """What was attached to dies with a pytest that is killed; else it is let go."""
        before = _texts(self.marks if self.known_before is None else self.known_before)
        at_last = _texts(self.marks)
        is_killed = self.known_before is not None and self.process.returncode < 0
        is_alone = self.known_before is None and not self.round.way.inside
        for one in self.witnesses:
            begun, held, going, free = (
                f"{what} {one.pid}" for what in ("attach", "attached", "let go", "free")
            )
            must_live: bool | None = None
            if begun not in at_last or free in before:
                must_live = True
            elif is_killed and held in before and not at_last & {going, "let go the rest"}:
                must_live = False
            elif is_alone and "let go the rest" in at_last:
                must_live = True
            if problem := one.problem(must_live):
                self.problems.append(problem)

    def _check_said(self) -> None:
        """No program has seen real time; pytest has ended as it should."""
        years = {int(year) for year in self.report.read_text().split() if year.isdigit()}
        if any(year >= REAL_YEAR for year in years):
            self.problems.append(f"programs have read {sorted(years)}")
        self.problems += [f"pytest lives, and so do {one}" for one in self.marks if "left [" in one]
        said, status = self.output.read_text(errors="replace"), self.process.returncode
        bad = re.search(
            "INTERNALERROR|could not acquire lock|Exception ignored in:? .*vdsotime", said
        )
        if bad:
            self.problems.append(f"it says {bad[0]}")
        if self.round.is_command:
            return
        is_killed = self.known_before is not None or self.round.way.inside not in ("", "fault")
        if not is_killed and self.round.way.inside != "fault" and status != 0:
            self.problems.append(f"it was not killed, and has ended with {status}")
        if self.round.way.inside == "fault" and "fault" in self.marks:
            is_over = f"{len(self.round.scenes)} 1 over" in self.marks[: self.marks.index("fault")]
            named = re.search(r"(UnsupportedProgram|VdsoTimeError): .*on purpose", said)
            if not is_over and not named:
                self.problems.append("no error has named the fault")
        elif self.round.way.inside == "fault" and status != 0:
            self.problems.append(f"no fault has happened, and it has ended with {status}")
        if self.problems:
            self.problems.append(
                f"status {status}; marks {self.marks[-5:]}; it says:\n{said[-6000:]}"
            )

    def outcome(self) -> str:
        """What became of it: most moments are reached, and the others are told by this."""
        if "fault" in self.marks:
            return "the fault has happened"
        status = f"{self.process.returncode}{', as nobody' if self.is_user else ''}"
        return f"killed, {status}" if self.known_before is not None else f"ended with {status}"

    def _clean_up(self) -> None:
        for one in self.witnesses:
            one.end()
        until_s = time.monotonic() + ENDING_S
        while (left := descendants()) and time.monotonic() < until_s:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        if self.process.returncode is None:
            self.process.wait()
        os.close(self.pipe)
        self.machine.end()
        shutil.rmtree(self.place, ignore_errors=True)


def main() -> int:
    job = json.loads(sys.argv[1])
    for number in (HUP, INT, signal.SIGQUIT):  # which a background job of a script may ignore
        signal.signal(number, signal.SIG_DFL)
    files = [os.path.dirname(job[name]) for name in ("storm", "witness", "archive")]
    machine = Machine(Path(job["directory"]), files)
    failed = 0
    for seed in job["seeds"]:
        round = Round(seed, has_engine=bool(job["archive"]))
        begin_s = time.monotonic()
        running = Running(round, machine, job)
        problems = running.run()
        failed += bool(problems)
        took_s = time.monotonic() - begin_s
        print(f"{took_s:.2f} s {round}: {running.outcome()}", flush=True)
        for problem in problems:
            print(f"    {problem}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
