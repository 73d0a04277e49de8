"""Has calls of the tracer's thread fail, one in each run of a scenario, and says what comes of it.

    python tests/faults/inject.py SCENARIO native|python COUNT [CALL NTH ERRNO]
    python tests/faults/inject.py all COUNT TABLE

The first has COUNT calls of a scenario fail, chosen by a fixed seed, or a certain one and those
that follow it; it writes what came of each as a line of JSON. The second does so with all of them,
two at a time, and writes the table. Either exits with 1 where something is wrong.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest_vdsotime.popen
import pytest_vdsotime.processes
import pytest_vdsotime.progress
import pytest_vdsotime.report.describe  # noqa: F401  what each run would import
from pytest_vdsotime import faults
from pytest_vdsotime.tracer.thread import Tracer
from scenarios import SCENARIOS, play
from supervisor import Call, Supervisor, filter_of, supervise

LIMIT_S, LEFT_S = 45, 3
SEED, MOST_OF_A_CALL = 1, 12
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
E = errno
_GONE = (E.ENOENT, E.EACCES, E.ESRCH)
_FULL = (E.EMFILE, E.ENOMEM)
_MEMORY = (E.EPERM, E.ENOSYS, E.ESRCH, E.EFAULT, E.ENOMEM)
#: What may become of each: what the man pages have, and what a sandbox may say.
ERRNOS: dict[str, tuple[int, ...]] = {
    "ptrace": (E.ESRCH, E.EPERM, E.EIO, E.EFAULT),
    **dict.fromkeys(("wait4", "waitid"), (E.EINTR, E.ECHILD)),
    "openat": (*_GONE, *_FULL, E.EINTR),
    **dict.fromkeys(("read", "pread64"), (E.EIO, E.ESRCH, E.EINTR)),
    "pwrite64": (E.EIO, E.ESRCH, E.EFAULT),
    "preadv2": (E.EIO, E.EINTR, E.ENOSYS, E.EOPNOTSUPP),
    **dict.fromkeys(("readlink", "readlinkat"), _GONE),
    **dict.fromkeys(("newfstatat", "statx"), (E.ENOENT, E.ENOMEM, E.ENOSYS)),
    "getdents64": (E.ENOENT, E.ENOMEM),
    "getxattr": (E.EOPNOTSUPP, E.ENOMEM),
    "lseek": (E.ESRCH,),
    **dict.fromkeys(("process_vm_readv", "process_vm_writev"), _MEMORY),
    "mmap": (E.ENOMEM, E.EPERM),
    "mprotect": (E.ENOMEM, E.EACCES),
    "pidfd_open": (E.ENOSYS, E.ESRCH, *_FULL),
    "pidfd_getfd": (E.ENOSYS, E.EPERM, E.ESRCH, E.EMFILE),
    **dict.fromkeys(("kill", "tgkill"), (E.ESRCH, E.EPERM)),
    "kcmp": (E.ENOSYS, E.EPERM, E.ESRCH),
    "ioctl": (E.ENOTTY, E.EINVAL, E.ENOMEM),
    "fcntl": (E.EBADF, E.EMFILE),
    **dict.fromkeys(("ppoll", "poll"), (E.EINTR, E.ENOMEM)),
    "memfd_create": (E.ENOSYS, *_FULL),
    "ftruncate": (E.ENOSPC,),
    "fchmod": (E.EPERM,),
    "socket": (E.EAFNOSUPPORT, *_FULL),
    **dict.fromkeys(("sendto", "recvfrom", "recvmsg"), (E.ENOMEM, E.EINTR)),
    **dict.fromkeys(("timerfd_create", "timer_create"), _FULL),
    **dict.fromkeys(("timerfd_settime", "timer_settime"), (E.EINVAL,)),
    "prctl": (E.EINVAL,),
    "uname": (E.EFAULT,),
    **dict.fromkeys(("nanosleep", "clock_nanosleep"), (E.EINTR,)),
    **dict.fromkeys(("clone3", "clone", "vfork"), (E.EAGAIN, E.ENOMEM)),
}
#: By their numbers (linux/ptrace.h, asm/ptrace-abi.h).
_REQUESTS = {
    **{2: "PEEKDATA", 5: "POKEDATA", 6: "POKEUSR", 7: "CONT", 9: "SINGLESTEP"},
    **{12: "GETREGS", 13: "SETREGS", 17: "DETACH", 24: "SYSCALL", 0x4200: "SETOPTIONS"},
    **{0x4201: "GETEVENTMSG", 0x4202: "GETSIGINFO", 0x4203: "SETSIGINFO", 0x4204: "GETREGSET"},
    **{0x4205: "SETREGSET", 0x4206: "SEIZE", 0x4207: "INTERRUPT", 0x4208: "LISTEN"},
    **{0x4209: "PEEKSIGINFO", 0x420A: "GETSIGMASK", 0x420B: "SETSIGMASK"},
    0x420E: "GET_SYSCALL_INFO",
}
#: What may come of a failure, in the table's order.
OUTCOMES = RIGHT, NAMED, WARNED, NOT_REACHED, WRONG = (
    *("right", "named", "warned", "not reached", "wrong"),
)


class Fault(NamedTuple):
    """The nth of some calls has this errno."""

    call: Call
    nth: int
    error: int

    def __str__(self) -> str:
        what = "" if self.call.what is None else f":{self.call.what}"
        return f"{self.call.name}{what} {self.nth} {errno.errorcode[self.error]}"


class Run(NamedTuple):
    """What has come of one."""

    counts: Counter[Call]
    has_failed: bool
    told: dict[str, Any]
    wrong: str

    @property
    def outcome(self) -> str:
        if self.wrong:
            return WRONG
        if not self.has_failed:
            return NOT_REACHED
        if self.told["real"]:
            return WARNED
        return NAMED if self.told["errors"] else RIGHT


def label(call: Call) -> str:
    if call.name == "ptrace":
        return f"PTRACE_{_REQUESTS.get(call.what or 0, str(call.what))}"
    return call.name


# --- one run -------------------------------------------------------------------------------------


def _play(scenario: str, is_native: bool, code: bytes, shared: mmap.mmap, to: int) -> None:
    def begin(_pid: int) -> None:
        faults.armed.clear()
        supervise(code, shared)

    faults.armed["start"] = begin
    told = play(scenario, Tracer(is_native=is_native))
    os.write(to, json.dumps(told).encode())


def _supervised(supervisor: Supervisor, pidfd: int, pipe: int) -> bytes | None:
    """What the run has to say; None: it takes too long."""
    until_s, said, is_open = time.monotonic() + LIMIT_S, b"", True
    while is_open or not select.select([pidfd], [], [], 0)[0]:
        supervisor.look()
        ends = [pidfd, *[pipe] * is_open, *[supervisor.listener] * (supervisor.listener >= 0)]
        is_awaited = supervisor.listener < 0 and not supervisor.is_over
        ready, _, _ = select.select(ends, [], [], 0.0005 if is_awaited else 1)
        if time.monotonic() > until_s:
            return None
        if supervisor.listener in ready:
            supervisor.serve()
        if pipe in ready:
            piece = os.read(pipe, 65536)
            said, is_open = said + piece, bool(piece)
    return said


def _end(supervisor: Supervisor, pid: int) -> None:
    """Of a run that takes too long: with the stacks of its threads."""
    os.kill(pid, signal.SIGABRT)
    until_s = time.monotonic() + 2
    while time.monotonic() < until_s and supervisor.listener >= 0:
        if select.select([supervisor.listener], [], [], 0.1)[0]:
            supervisor.serve()
    os.kill(pid, signal.SIGKILL)


def _orphans() -> list[str]:
    """Children of runs that have ended; they are killed."""
    until_s = time.monotonic() + LEFT_S
    path, left = f"/proc/{os.getpid()}/task/{os.getpid()}/children", []
    while True:
        with open(path) as file:
            pids = [int(word) for word in file.read().split()]
        living = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
        if not living:
            return []
        if time.monotonic() > until_s:
            break
        time.sleep(0.005)
    for pid in living:
        left.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return left


def _verdict(told: dict[str, Any], stderr: str) -> str:
    """What is wrong; "" if nothing is."""
    for name in ("left", "unnamed", "stuck"):
        if told[name]:
            return f"{name}: {told[name]} {stderr}"
    year = time.strftime("%Y")
    found = [one.partition(", not ")[0] for one in told["wrong"]]
    if any(f"b'{year}" in one for one in found) and not told["real"]:
        return f"real time in silence: {told['wrong']}"
    if told["wrong"] and not (told["errors"] or told["real"]):
        return f"wrong in silence: {told['wrong']}"
    return stderr


def run(scenario: str, is_native: bool, fault: Fault | None = None) -> Run:
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    pipe, to = os.pipe()
    calls = [Call(name) for name in ERRNOS] if fault is None else [fault.call]
    code = filter_of(calls)
    with tempfile.TemporaryFile() as log:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(pipe)
                os.dup2(log.fileno(), 2)
                faulthandler.enable(log)
                _play(scenario, is_native, code, shared, to)
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        os.close(to)
        pidfd = os.pidfd_open(pid)
        call, nth, error = fault or (None, 0, 0)
        supervisor = Supervisor(shared, pidfd, call, nth, error)
        said = _supervised(supervisor, pidfd, pipe)
        if said is None:
            _end(supervisor, pid)
        _, status = os.waitpid(pid, 0)
        supervisor.close()
        os.close(pidfd)
        os.close(pipe)
        left = _orphans()
        log.seek(0)
        stderr = log.read().decode(errors="replace")
    if said is None or not said:
        what = "it hangs" if said is None else f"it ends with {os.waitstatus_to_exitcode(status)}"
        return Run(supervisor.counts, supervisor.has_failed, {}, f"{what}: {stderr}")
    told = json.loads(said)
    told["left"] += left
    return Run(supervisor.counts, supervisor.has_failed, told, _verdict(told, stderr))


# --- many ----------------------------------------------------------------------------------------


def chosen(counts: Counter[Call], random: Random) -> list[Fault]:
    """In an order by chance; of a call that is made often some."""
    found = []
    for call in sorted(counts, key=str):
        numbers = range(1, counts[call] + 1)
        some = sorted(random.sample(numbers, min(len(numbers), MOST_OF_A_CALL)))
        found += [Fault(call, nth, error) for nth in some for error in ERRNOS[call.name]]
    random.shuffle(found)
    return found


def inject(scenario: str, is_native: bool, count: int) -> Iterator[dict[str, Any]]:
    base = run(scenario, is_native)
    if base.wrong or base.told["errors"] or base.told["real"]:
        yield {"fault": "none", "wrong": base.wrong or str(base.told), "outcome": "", "call": ""}
        return
    yield {"points": [[label(call), number] for call, number in base.counts.items()]}
    yield from played(scenario, is_native, chosen(base.counts, Random(SEED))[:count])


def played(scenario: str, is_native: bool, failures: Iterable[Fault]) -> Iterator[dict[str, Any]]:
    for fault in failures:
        one = run(scenario, is_native, fault)
        yield {
            **{"fault": str(fault), "call": label(fault.call)},
            **{"outcome": one.outcome, "wrong": one.wrong, "told": one.told},
        }


def table(results: list[dict[str, Any]]) -> str:
    """In Markdown: how many calls there are of each kind, and what became of those that failed."""
    points: Counter[str] = Counter()
    rows: dict[str, Counter[str]] = {}
    for one in results:
        for name, number in one.get("points", ()):
            points[name] += number
        if one.get("call"):
            rows.setdefault(one["call"], Counter())[one["outcome"]] += 1
    lines = [
        f"| call | made | failed | {' | '.join(OUTCOMES)} |",
        "| --- |" + " ---: |" * (len(OUTCOMES) + 2),
    ]
    for name, row in sorted(rows.items()):
        numbers = [str(row[head]) for head in OUTCOMES]
        lines.append(f"| {name} | {points[name]} | {row.total()} | {' | '.join(numbers)} |")
    whole = sum(rows.values(), Counter())
    totals = [str(whole[head]) for head in OUTCOMES]
    lines.append(
        f"| all | {sum(points[one] for one in rows)} | {whole.total()} | {' | '.join(totals)} |"
    )
    return "\n".join(lines) + "\n"


def _sweep(arguments: tuple[str, str, str]) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    results: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [one for one in results if one.get("wrong")]
    print(f"{' '.join(arguments)}: {len(results) - 1} failures, {len(wrong)} wrong", flush=True)
    for one in wrong:
        print(f"  {one['fault']}: {one['wrong']}", flush=True)
    return results


def sweep(count: str, path: Path) -> int:
    whole = [(scenario, engine, count) for scenario in SCENARIOS for engine in ("native", "python")]
    with ThreadPoolExecutor(2) as pool:
        results = [one for part in pool.map(_sweep, whole) for one in part]
    path.write_text(table(results))
    return int(any(one.get("wrong") for one in results))


def main(arguments: list[str]) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if arguments[0] == "all":
        return sweep(arguments[1], Path(arguments[2]))
    scenario, engine, count, *certain = arguments
    is_native, results = engine == "native", inject(scenario, engine == "native", int(count))
    if certain:
        name, _, what = certain[0].partition(":")
        call, error = Call(name, int(what, 0) if what else None), getattr(errno, certain[2])
        numbers = range(int(certain[1]), int(certain[1]) + int(count))
        results = played(scenario, is_native, [Fault(call, nth, error) for nth in numbers])
    is_wrong = False
    for result in results:
        print(json.dumps(result), flush=True)
        is_wrong |= bool(result.get("wrong"))
    return int(is_wrong)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
