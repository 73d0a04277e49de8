"""With a clock that ticks from now nobody can tell it from none: the same program, bare and traced.

Each program runs both ways at the same time, as most of them sleep more than they compute. Exit
status or signal and output must be the same; of a test suite, every test's outcome: what fails or
is skipped bare must fail or be skipped traced. A test of such a suite that is fragile by itself is
reported as any other difference; nothing is tried twice. `make transparency` runs more of these
suites, and other ones.

No program here needs an exception. Those that would are in the table of limits: a program
that traces others, or that looks at its own restrictions.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import TYPE_CHECKING, Any

import pytest

import outcomes
import suites
from outcomes import Outcomes, Reader
from pytest_vdsotime import FrozenClock
from suites import PYTHON, PYTHON_TESTS

if TYPE_CHECKING:
    from conftest import Builder

CEILING_S = 200
needs_more_time = pytest.mark.timeout(CEILING_S + 20)
#: The lane has all of a suite: here a stressor makes one of so many operations, and a class of
#: tests that is there in two forms is run in one.
OPERATIONS_EACH = 5
LEFT_OUT = {
    "test_subprocess": ["-i", "ProcessTestCaseNoPoll"],
    "time": ["-test.skip=^TestLongAdjustTimers$"],  # seconds of a processor's time
}
Find = Callable[[str], str]

SCRIPTS = {
    "pipeline": """
        seq 3000 | sort -r | awk '{ sum += $1 } END { print sum, NR }'
        (exit 3) | true | (kill -TERM $BASHPID); echo "${PIPESTATUS[@]}"
        diff <(seq 5) <(seq 2 6); echo $?; yes | head -n 2; echo "${PIPESTATUS[@]}"
    """,
    "job control": """
        exec 2>/dev/null  # where bash reports a change either before or after the next command
        set -m
        state() { until state=$(jobs "$1") && [[ $state ]]; do sleep 0.01; done; echo "$state"; }
        sleep 0.5 & state -r; kill -STOP %1; state -s; kill -CONT %1; state -r; fg; echo $?
        sleep 10 & kill -TERM %+; wait $!; echo $?
        mkfifo goes; (exit 4) & (read <goes; exit 5) & wait -n; echo $?
        echo >goes; wait -n; echo $?; rm goes
    """,
    "traps": """
        trap 'echo alarm' ALRM; trap 'echo the end' EXIT
        (sleep 0.1; kill -ALRM $$) & wait; wait
        read -t 0.1 line < <(sleep 1); echo $(($? > 128))
        coproc cat; echo to the coprocess >&${COPROC[1]}; read -u ${COPROC[0]} line; echo $line
        exit 7
    """,
    "xargs": """
        seq 200 | xargs -P 4 -n 2 bash -c 'echo $(($0 * $1))' | sort -n | sha256sum
        printf '%s\\n' 0 1 0 | xargs -n 1 bash -c 'exit $0'; echo $?
        echo | xargs bash -c 'kill -KILL $$'; echo $?
    """,
    "find": """
        mkdir -p a/b/c; for i in {1..30}; do seq $i >a/b/c/$i.txt; done
        find a -name '*.txt' -exec sha256sum {} + | sort -k 2
        find a -name '1*.txt' -exec cat {} \\; | sort | uniq -c
        find a -depth -delete; ls -A
    """,
    "make": """
        printf '%s\\n' 'all: $(patsubst %,out/%,$(shell seq 40))' 'out/%: | out' \\
            '\\t@sleep 0.01; seq $* | sha256sum >$@' 'out:; @mkdir out' 'fails: ; false' |
            sed 's/^\\\\t/\\t/' >Makefile
        make -j 4 all; echo $?; sha256sum out/* | sort -k 2; make -q all; echo $?
        make fails; echo $?
    """,
    "perl": """
        perl -e '$| = 1; $SIG{CHLD} = sub { $n++ }; for my $i (1 .. 20) {
            my $pid = fork; if (!$pid) { kill "TERM", $$ if $i % 5 == 0; exit $i }
            waitpid $pid, 0; print $? >> 8, " ", $? & 127, "\\n" }
            print "$n\\n"; eval { local $SIG{ALRM} = sub { die "alarm\\n" }; alarm 1; sleep 10 };
            print $@; exec "sh", "-c", "kill -USR1 \\$\\$"'; echo $?
    """,
    "tar": """
        mkdir d; for i in {1..50}; do head -c $((i * 999)) /dev/zero | tr '\\0' x >d/$i; done
        tar --sort=name --mtime=@0 --owner=0 --group=0 --mode=0644 -cf - d | gzip -n9 | tee t.gz |
            sha256sum; mkdir e; tar -xzf t.gz -C e; diff -r d e/d; echo $?
    """,
    "timeout": """
        timeout 1 sleep 5; echo $?; timeout -s KILL 0.2 sleep 5; echo $?
        timeout --preserve-status 0.2 sleep 5; echo $?; timeout 5 bash -c 'exit 9'; echo $?
        timeout 5 bash -c 'kill -ABRT $$'; echo $?
    """,
    "git": """
        export GIT_CONFIG_NOSYSTEM=1 GIT_{AUTHOR,COMMITTER}_DATE='2001-02-03T04:05:06Z'
        export GIT_{AUTHOR,COMMITTER}_{NAME=somebody,EMAIL=somebody@example.org}
        git init -q -b main r; cd r
        for i in 1 2 3; do seq $i >f; git add f; git commit -q -m "commit $i"; done
        git checkout -q -b side HEAD~; seq 9 >g; git add g; git commit -q -m side
        git merge -q -m merge main; git log --graph --format='%H %ci %s'; git gc -q
        git fsck --strict; git clone -q . ../copy; git -C ../copy rev-parse HEAD; git status -s
    """,
    "python": f"""
        cat >main.py <<'END'
import concurrent.futures, multiprocessing, os, signal, sqlite3, subprocess, sys, threading

if __name__ == "__main__":
    for method in "fork", "spawn":
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(pool.map(abs, range(-20, 0)))
        child = context.Process(target=os.kill, args=(os.getpid(), 0))
        child.start(); child.join(); print(child.exitcode)
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        print(sum(pool.map(len, ["x" * i for i in range(50)])))
    for number in signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV:
        child = subprocess.Popen(["sleep", "10"]); child.send_signal(number); print(child.wait())
    data = sqlite3.connect("data"); data.execute("pragma journal_mode = wal")
    data.execute("create table t (x)")
    def insert():
        with sqlite3.connect("data", timeout=30) as mine:
            for i in range(20): mine.execute("insert into t values (?)", (i,)); mine.commit()
    threads = [threading.Thread(target=insert) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(data.execute("select count(*), sum(x) from t").fetchall(), flush=True)
    sys.stdout.flush(); os.execvp("sh", ["sh", "-c", "echo $0 $1; exit 6", "a", "b"])
END
        {PYTHON} main.py
    """,
    "terminal": f"""
        {PYTHON} -c 'import pty; pty.spawn(["bash", "-c", "tty -s; echo $?; stty size; sleep 0.1;\
            set -m; sleep 0.1 & fg; kill -INT 0"])'; echo $?
    """,
    "shell": """
        sh -c 'trap "echo usr1; exit 2" USR1; kill -USR1 $$'; echo $?
        nice -n 3 nice; setsid -w sh -c 'exit 8'; echo $?; nohup sh -c 'kill -HUP $$; echo alive'
        ulimit -n 50; bash -c 'ulimit -n'; env -i /bin/echo "$(umask)"; /nonexistent; echo $?
        find /proc/self/fd -mindepth 1 -printf '%f\\n' | sort -n | head -n 3
        exec -a other sh -c 'echo $0'
    """,
    **{
        f"kill -{name}": f"kill -{name} $$"
        for name in ["HUP", "INT", "SEGV", "KILL", "PIPE", "TERM"]
    },
    "abort": f"exec {PYTHON} -c 'import os; os.abort()'",
    "no such program": "exec /nonexistent",
}


@dataclass
class Outcome:
    """What one of the two runs came to."""

    directory: Path
    status: int
    """As Popen.returncode: the exit status, or minus the signal."""

    @property
    def output(self) -> str:
        """Both streams, without the name of its directory and the pids that bash reports."""
        text = (self.directory / "output").read_text(errors="backslashreplace")
        text = text.replace(str(self.directory), "DIRECTORY")
        return re.sub(r"(?<=bash: line )(\d+:) +\d+ ", r"\1 PID ", text)


@dataclass
class Runner:
    """Runs commands bare and traced."""

    directory: Path
    keywords: dict[str, Any] = field(default_factory=dict)
    """Of Popen."""

    def __call__(self, command: list[str], *, cwd: Path | None = None) -> tuple[Outcome, Outcome]:
        """Runs it in two empty directories, each the `DIRECTORY` in its words."""
        with FrozenClock(rate=1, monotonic="flow") as clock:
            bare_in, bare = self._start(subprocess.Popen, "bare", command, cwd)
            try:
                traced_in, traced = self._start(clock.popen, "traced", command, cwd)
                traced.wait(CEILING_S)
                bare.wait(CEILING_S)
            finally:
                if bare.poll() is None:
                    os.killpg(bare.pid, signal.SIGKILL)
                    bare.wait()
        return Outcome(bare_in, bare.returncode), Outcome(traced_in, traced.returncode)

    def _start(
        self, popen: Callable[..., Any], name: str, command: list[str], cwd: Path | None
    ) -> tuple[Path, Any]:
        directory = self.directory / name
        directory.mkdir()
        directory.chmod(0o777)
        where = str(directory)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        with open(directory / "output", "wb") as output:
            program = popen(
                [word.replace("DIRECTORY", where) for word in command],
                cwd=cwd or directory,
                env={"PATH": path, "HOME": where, "TMPDIR": where, "LC_ALL": "C.UTF-8"},
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
                **self.keywords,
            )
        return directory, program


@pytest.fixture
def both_ways(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture
def both_ways_as_nobody() -> Iterator[Runner]:
    """As an ordinary user, whoever runs the tests."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    yield Runner(directory, nobody)
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, both_ways: Runner, real_program: Find) -> None:
    for program in ("find", "git", "make", "perl", "tar"):
        real_program(program)
    real_program(PYTHON_TESTS)  # comes with PYTHON
    bare, traced = both_ways([real_program("bash"), "-c", SCRIPTS[name]])
    assert (traced.output, traced.status) == (bare.output, bare.status)
    assert bare.output or bare.status != 0


@pytest.mark.parametrize("name", suites.STRESSORS)
def test_stressor(name: str, both_ways_as_nobody: Runner, real_program: Find) -> None:
    """Not as root: as root some of them do nothing."""
    operations = suites.STRESSORS[name] // OPERATIONS_EACH
    command = suites.stressor_command(real_program("stress-ng"), name, operations)
    bare, traced = both_ways_as_nobody(command)
    compare_suites(bare, traced, outcomes.read_stress_ng)
    assert f"dispatching hogs: 1 {name}\n" in bare.output
    assert "successful run" in bare.output


@needs_more_time
@pytest.mark.parametrize("name", suites.CPYTHON)
def test_cpython(name: str, both_ways_as_nobody: Runner, real_program: Find) -> None:
    real_program(PYTHON_TESTS)
    bare, traced = both_ways_as_nobody(
        suites.cpython_command([*suites.CPYTHON[name], *LEFT_OUT.get(name, ())])
    )
    compare_suites(bare, traced, outcomes.read_junit)


@needs_more_time
@pytest.mark.parametrize("package", suites.GO)
def test_go(package: str, both_ways: Runner, build: Builder) -> None:
    """The standard library's own tests, started where `go test` starts them; `make transparency`
    runs the long ones too."""
    root = subprocess.check_output([build.go_tool(), "env", "GOROOT"], text=True).strip()
    command = [build.go_tests(package), "-test.v", "-test.short", *LEFT_OUT.get(package, ())]
    bare, traced = both_ways(command, cwd=Path(root, "src", package))
    compare_suites(bare, traced, outcomes.read_go)


def compare_suites(bare: Outcome, traced: Outcome, read: Reader) -> None:
    without, within = (read(one.output, one.directory) for one in (bare, traced))
    said = f"--- bare\n{bare.output}\n--- traced\n{traced.output}"
    assert differences(without, within) == {}, said
    assert traced.status == bare.status, said
    assert without, bare.output


def differences(without: Outcomes, within: Outcomes) -> dict[str, str]:
    return {
        name: f"{without.get(name)} bare, {within.get(name)} traced"
        for name in without.keys() | within.keys()
        if without.get(name) != within.get(name)
    }
