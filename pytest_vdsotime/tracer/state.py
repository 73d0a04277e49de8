"""The tracer's tables: tasks (per thread id), processes (per pid), worlds (per clock).

They belong to the tracer thread; others see them through replies and snapshots.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import count
from typing import Any, NamedTuple, Protocol

from pytest_vdsotime.errors import UnsupportedProgram
from pytest_vdsotime.events import EventKind, History, new_history
from pytest_vdsotime.future import Future
from pytest_vdsotime.image import HostVdso
from pytest_vdsotime.kernel import memory, procfs, ptrace, wait
from pytest_vdsotime.kernel.descriptors import OpenFiles
from pytest_vdsotime.kernel.ptrace import Stopped
from pytest_vdsotime.kernel.sample import TaskSample
from pytest_vdsotime.kernel.wait import Stop
from pytest_vdsotime.ntp import Discipline
from pytest_vdsotime.page import ClockPage, PrivateCopy
from pytest_vdsotime.selection import Selection
from pytest_vdsotime.timeline import NO_OFFSETS, Lines, Rate, TimeOffsets, now_ns
from pytest_vdsotime.waits import RecvmmsgState, SocketTimeouts, Timer, TimerKey, Wait

_SLACK_NS = 1


class TaskState(IntEnum):
    """Where a task is between two of its stops."""

    NEW = 0
    """Announced by its parent or seen by its own first stop, but not yet by both."""
    RUNNING = 1
    STOPPED = 2
    """In a ptrace stop that is being handled."""
    LISTENING = 3
    """In a group stop."""
    GONE = 4


#: The states that may follow each state, by its value. Plain indices: every stop makes two moves,
#: and hashing an Enum runs Python code.
MOVES: tuple[tuple[TaskState, ...], ...] = (
    (TaskState.STOPPED, TaskState.GONE),
    (TaskState.STOPPED, TaskState.GONE),
    (TaskState.RUNNING, TaskState.LISTENING, TaskState.STOPPED, TaskState.GONE),
    (TaskState.STOPPED, TaskState.RUNNING, TaskState.GONE),  # by another thread's exec
    (),
)


class Setting(NamedTuple):
    """What a program sets of the clock."""

    to: Callable[[Lines, int], Lines]
    """From the lines when the host's CLOCK_MONOTONIC reads so much."""
    tai_by_ns: int = 0
    """CLOCK_TAI is that much further ahead of the wall line."""


@dataclass(slots=True)
class Grace:
    """Of a frozen monotonic line: short waits have passed in real time."""

    spent_ns: int = 0
    """How far the line has gone for them since the test last moved or asked the clock."""
    waited_ns: int = 0
    """How long they were in all since then."""
    has_moved: bool = False
    """Waits and timers are to be looked after."""

    def renew(self) -> None:
        """Begin anew, as the test has moved or asked the clock."""
        self.spent_ns = self.waited_ns = 0


@dataclass(slots=True)
class Busy:
    """Of programs that were not at rest at the last looks."""

    since_ns: int = 0
    """By the host's CLOCK_MONOTONIC; 0: they were."""
    worked_ns: int | None = None
    """Their processor time when they had not been for a while."""
    was_seen_to: bool = False
    """Time has passed for them,"""
    goes_on: bool = False
    """and goes on."""
    stepped_ns: int = 0
    """When it did last, by the host's CLOCK_MONOTONIC,"""
    stepped_worked_ns: int = 0
    """and their processor time then,"""
    next_step_ns: int = 0
    """and when it is to do so next, after such a pause."""
    pause_ns: int = 0
    passed_ns: int = 0
    """How much has,"""
    ahead_ns: int = 0
    """and of that on the monotonic line alone."""
    next_look_ns: int = 10**6
    """After how long it is looked next whether some task waits for them."""


class Endpoint(NamedTuple):
    """An address of the internet protocols."""

    ip: bytes
    """An IPv4 address as itself in any case."""
    port: int


class SocketName(NamedTuple):
    """The addresses of a socket's own end, and of the other if it is connected."""

    here: Endpoint
    there: Endpoint | None


@dataclass(slots=True, eq=False)
class Peer:
    """The other end of a connection or pipe of a program (tracer/calls/peers.py)."""

    pid: int
    descriptor: int
    """That of the program's own end."""
    address: tuple[str, int] | None = None
    words: str = ""
    is_inherited: bool = False
    """The program has it from its starter."""
    is_pipe: bool = False
    is_away: bool | None = None
    """The peer is no program of this clock; None: that is not known yet."""
    spoke_ns: int = 0
    """The program's last word, as far as that is known,"""
    heard_ns: int = 0
    """and the peer's, by the host's CLOCK_MONOTONIC."""
    since_at: tuple[int, int] | None = None
    """The thread or process that was first seen to wait then, and how often it had run; of a pipe,
    the stamp of its last word, and 0."""
    is_listened: bool = False
    """Their words are heard as they are said."""


class Control(NamedTuple):
    """Where programs ask for their clock itself (pytest_vdsotime/control)."""

    addresses: Container[str]
    connections: set[int]
    """That lead there, by inode number."""


@dataclass(slots=True)
class Network:
    """Data on its way while the programs rest."""

    patience_ns: int = 0
    """How long a peer off the clock may take to answer."""
    peers: dict[int, Peer] = field(default_factory=dict)
    """Of connections and pipes that programs may wait for, by inode number."""
    control: Control = field(default_factory=lambda: Control((), set()))
    most_peers: int = 1000
    """So many more are looked at: most have ended."""
    names: dict[int, SocketName] = field(default_factory=dict)
    """The addresses of its programs' sockets, by inode number."""
    asking: dict[int, int] = field(default_factory=dict)
    """Which processes have peers off the clock, and what the engine leaves to Python of them."""
    seen: set[int] = field(default_factory=set)
    """Processes whose inherited descriptors have been looked at."""
    listens: bool = False
    """Some peer is listened to."""
    quiet_at: tuple[int, int] | None = None
    """How many tasks there were and how often they had run when none waited for a peer."""

    unsent_since: dict[int, int] = field(default_factory=dict)
    """Since when there has been some, by socket number."""
    has_streams: bool = True
    """Some have sockets that may hold data back, as far as is known."""
    next_look_ns: int = 0
    """When that is to be found out next, by the host's CLOCK_MONOTONIC."""


@dataclass(slots=True, eq=False)
class ClockState:
    """The tracer's side of one clock."""

    page: ClockPage
    processes: dict[int, Process] = field(default_factory=dict)
    """Those on the clock, by pid,"""
    skipped: dict[int, Process] = field(default_factory=dict)
    """and those that its selection has run in real time: nothing waits for them."""
    selection: Selection = field(default_factory=Selection)
    warnings: deque[str] = field(default_factory=deque)
    """Texts for RealTimeWarning, for the next call on the clock to raise."""
    errors: deque[Exception] = field(default_factory=deque)
    """Programs that were killed because they could not be taken over."""
    closed: Future[None] | None = None
    """Once set, everything is killed, what comes to life later too."""
    follows: bool = True
    """Waits follow the lines."""
    grace_ns: int = 0
    """Waits that are no longer pass in real time on a frozen monotonic line."""
    grace: Grace = field(default_factory=Grace)
    """What has passed so."""
    jump_after_ns: int | None = None
    """How long all is to be idle for the clock to jump to the next deadline; None: it does not."""
    stride_ns: int | None = None
    """How finely time passes; None: from deadline to deadline."""
    timers: dict[TimerKey, Timer] = field(default_factory=dict)
    timerfds: OpenFiles[Timer] = field(default_factory=OpenFiles)
    """Those of them that are timerfds, by their copies."""
    sockets: dict[int, SocketTimeouts] = field(default_factory=dict)
    """By their number (inode)."""
    changed_timers: list[Timer] = field(default_factory=list)
    """By calls of programs that have just been answered."""
    unsent: set[TimerKey] = field(default_factory=set)
    """Timers whose signals could not be queued yet."""
    watchers: set[int] = field(default_factory=set)
    """Processes that may read of signals that are nobody's (tracer/calls/signals.py)."""
    is_canceled: bool = False
    """Some timer is, which the next read of it tells."""
    to_stop: set[int] = field(default_factory=set)
    """Those that have yet to stop for that."""
    setting: Setting | None = None
    """A program sets the clock so."""
    discipline: Discipline = field(default_factory=lambda: Discipline(memory.kernel_timex))
    """What its programs have set by adjtimex."""
    idle: tuple[int, int] = 0, 0
    """How often its tasks had run when that last changed, and since when they have not."""
    is_advancing: bool = False
    """The test has it advance, from one deadline to the next."""
    own_rates: tuple[Rate, Rate] | None = None
    """The rates of the wall line and the monotonic one, while they stand still instead."""
    busy: Busy = field(default_factory=Busy)
    """Since when its programs have not been at rest."""
    network: Network = field(default_factory=Network)
    """What is known of data on its way between its programs."""
    carry_ns: int = 0
    """How far a program that looks for a later time is to be carried on."""
    passed_ns: int = 0
    """How far its lines have gone from deadline to deadline."""
    way: tuple[int, int] = 0, 0
    """`passed_ns` where the `advance` under way began, and where it is to end."""
    history: History = field(default_factory=new_history)
    """What has happened on it."""
    births: dict[int, int] = field(default_factory=dict)
    """What its monotonic line read at the birth of each task that is not from before."""

    def __post_init__(self) -> None:
        lines = self.page.lines
        self.history.start_ns = lines.monotonic.at(now_ns())

    def record(
        self, kind: EventKind, pid: int, what: Any = None, tid: int = 0, at_ns: int = 0
    ) -> None:
        """Remembers an event, of a process or one of its threads, now or `at_ns`."""
        self.history.add(kind, self.page.lines, pid, tid or pid, what, at_ns)

    def was_born(self, tid: int, at_ns: int = 0) -> None:
        """Note the birth of a task, now or `at_ns`."""
        self.births[tid] = self.page.lines.monotonic.at(at_ns or now_ns())

    @contextmanager
    def step(self, call: str) -> Iterator[None]:
        """Record what the test calls, and what it raises; "": nothing to speak of."""
        if not call:
            yield
            return
        self.record(EventKind.BEGUN, 0, call)
        raised = ""
        try:
            yield
        except BaseException as error:
            raised = type(error).__name__
            raise
        finally:
            self.record(EventKind.DONE, 0, (call, raised))

    def warn(self, pid: int, text: str) -> None:
        """Have a RealTimeWarning raised."""
        self.record(EventKind.WARNED, pid, text)
        self.warnings.append(text)

    @property
    def filter(self) -> tuple[bool, bool]:
        """What decides which calls of its programs stop: whether waits follow it, and files."""
        return self.follows, self.page.stamps is not None

    @property
    def everyone(self) -> Mapping[int, Process]:
        """All its processes, by pid."""
        return self.processes | self.skipped if self.skipped else self.processes

    @property
    def rates(self) -> tuple[Rate, Rate]:
        """The rates of the wall line and the monotonic one while nobody moves them."""
        lines = self.page.lines
        return self.own_rates or (lines.wall.rate, lines.monotonic.rate)

    @property
    def is_frozen(self) -> bool:
        """Its monotonic line stands still."""
        return not self.rates[1].mult

    @property
    def busy_rates(self) -> tuple[Rate, Rate] | None:
        """The rates at which the lines go for a program that is busy for long; None: they stand.

        In a jumping world waiting takes no time, work does. Elsewhere the wall line stands if it
        does so by itself: what has passed meanwhile is added when the programs rest.
        """
        wall, monotonic = self.rates
        if self.jump_after_ns is not None:
            return Rate.of(1), Rate.of(1)
        if not monotonic.mult:
            return None
        return (wall, monotonic) if wall in (monotonic, Rate.of(0)) else (Rate.of(1), Rate.of(1))

    @property
    def ends_early(self) -> bool:
        """Whether a wait until a point of the wall line ends by the monotonic one as well."""
        return not self.rates[0].mult

    @property
    def slack_ns(self) -> int:
        """How much later than its deadline a program finds the time in a jumping world.

        No kernel wakes a sleeper at the very nanosecond, and what looks but once relies on it.
        Where the test moves the clock, it stands where the test says.
        """
        return _SLACK_NS if self.jump_after_ns is not None and not self.is_advancing else 0

    @property
    def has_grace(self) -> bool:
        """Whether short waits pass in real time."""
        return self.is_frozen and not self.is_advancing and self.jump_after_ns is None

    @property
    def stops_at_calls(self) -> bool:
        """All its tasks stop at system calls."""
        return self.is_canceled or bool(self.unsent) or bool(self.watchers) or self.network.listens

    @property
    def is_passing(self) -> bool:
        """Sleeps may pass at once."""
        return self.is_advancing or self.jump_after_ns == 0


class Moved(NamedTuple):
    """How the vDSO of a process was moved (tracer/takeover/attach.py)."""

    areas: tuple[range, ...]
    """Where it and its data were,"""
    base: int
    """it itself,"""
    way: int
    """how far they were moved."""
    fake_call: int
    """Of a system call instruction in the fake image, its offset."""


@dataclass(slots=True, eq=False)
class Launch:
    """A process that has yet to execute its program."""

    ended: Future[int] = field(default_factory=Future)
    """0 when it has, else its exit status (Spawning.failure)."""
    argv: Sequence[Any] = ()
    """The command line of its program, for messages."""


@dataclass(slots=True, eq=False)
class Process:
    """One traced process."""

    pid: int
    world: ClockState
    exited: Future[int] | None = None
    """For a child of the test process: its status, as waitpid gives it."""
    is_spared: bool = False
    """Its end is left to the test process, which waits for it by itself."""
    group_stop: Stop | None = None
    """That of one of its threads, while a signal has stopped it (job control)."""
    launch: Launch | None = None
    """Until its program is executed."""
    threads: set[int] = field(default_factory=set)
    loader_failed_at: int = 0
    """The program counter at which the loader of its last exec would have stopped."""
    copy: PrivateCopy | None = None
    is_in_real_time: bool = False
    """It could not be given the clock and runs on without it."""
    is_skipped: bool = False
    """It is to run in real time: until its exec, as the one that it was forked from."""
    is_engine: bool = False
    """It, or what has started it, is a container engine: what it executes is on the clock in a
    container alone."""
    has_read_clock: bool = False
    """By a system call of its own; reads through the page leave their trace in its page table."""
    host: HostVdso | None = None
    """The kernel's vDSO that its program has, once that has been taken over,"""
    vdso: int = 0
    """and where."""
    mapped: int = 0
    """Where the clock page and what follows it (native_stub/program/page.h) lie; 0 before its
    exec."""
    low_page: int | None = 0
    """One like the process page, below 4 GiB, once a 32-bit call of a 64-bit program has needed it;
    None: it cannot be had."""
    slots: Iterator[int] = field(default_factory=count)
    """Shared by those that may share their memory (CLONE_VM)."""
    has_failed: bool = False
    """It was killed, as the tracer failed to handle it."""
    says_dumpable: bool = True
    """What it is told (PR_GET_DUMPABLE, prctl(2))."""
    has_own_filter: bool = False
    """It, or the program that started it, has installed a seccomp filter."""

    origin: Process | None = None
    """The process that was attached to, if it is that or a descendant of it: it is let go at the
    end, not killed."""
    attempt: Process | None = None
    """The process that is being attached to now, if it is that or was born of it meanwhile."""
    traces_calls: bool = False
    """It has no filter: it stops at every system call."""
    moved: Moved | None = None
    """Where its vDSO came from, if it was moved."""
    changes_time_namespace: bool = field(default_factory=procfs.starts_elsewhere)
    """It, or what it starts, may enter another (time_namespaces(7))."""
    time_offsets: TimeOffsets = NO_OFFSETS
    """Of the time namespace that it is in."""
    was_refused_a_leap_second: bool = False
    """Which was told then (tracer/calls/clocks.py)."""
    asks: bool = False
    """It has a connection to where its clock is served."""
    opened: int | None = None
    """A descriptor that has just been opened, perhaps of a file that tells the machine's time."""
    rewinds: bool = False
    """It may have a file that tells its clock's time, and read that again."""
    provides_memory: bool = False
    """It, or the program that started it, handles page faults itself (userfaultfd(2))."""

    def born(self, pid: int) -> Process:
        """Return a child, as fork leaves it. Its copy of the page is not made yet."""
        return replace(
            self,
            pid=pid,
            threads={pid},
            exited=None,
            is_spared=False,
            group_stop=None,
            launch=None,
            copy=None,
            loader_failed_at=0,
            has_read_clock=False,
            has_failed=False,
            was_refused_a_leap_second=False,
        )

    def execute(self) -> None:
        """Another program begins."""
        self.is_in_real_time = self.has_read_clock = self.provides_memory = self.asks = False
        self.was_refused_a_leap_second = False
        self.says_dumpable = True  # again, by the exec (prctl(2))
        self.host = self.moved = None
        self.traces_calls = self.origin is not None
        self.mapped = self.low_page = self.loader_failed_at = 0
        self.slots = count()

    @property
    def stops_at_calls(self) -> bool:
        """All its tasks stop at system calls."""
        return self.traces_calls or (
            self.world.stops_at_calls and (not self.is_skipped or self.pid in self.world.watchers)
        )

    @property
    def needs_care(self) -> bool:
        """What the fast path does for others is not enough for it, or for what it executes."""
        return self.is_in_real_time or self.provides_memory or self.changes_time_namespace

    def has_in_vdso(self, address: int) -> bool:
        """Whether there is something of the kernel's vDSO, or of the loader behind it."""
        return self.host is not None and 0 <= address - self.vdso < self.host.size

    def drop_copy(self) -> None:
        """Forget its private copy of the page, if it has one."""
        copy, self.copy = self.copy, None
        if copy is not None and copy in self.world.page.copies:
            self.world.page.copies.remove(copy)

    def kill(self) -> None:
        """Send SIGKILL; nothing if it has just ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def kill_unsupported(self, error: Exception, operation: str = "taking over") -> None:
        """Kill it, as what the tracer was to do for it has failed: it must not run on in real time.

        One error is enough.
        """
        if self.has_failed:
            return
        self.has_failed = True
        self.world.errors.append(
            UnsupportedProgram(
                f"{operation} {self.describe()} failed: {error}; "
                "it was killed, as it would have run in real time"
            )
        )
        self.kill()

    @contextmanager
    def answers_for(self, operation: str) -> Iterator[None]:
        """Have an exception in what is done for it end this program, and no other.

        That it was killed meanwhile (ProcessLookupError) is none: its end is reported next.
        """
        try:
            yield
        except ProcessLookupError:
            pass
        except Exception as error:
            self.kill_unsupported(error, operation)

    def describe(self) -> str:
        """For messages."""
        return f"{procfs.name(self.pid)} (pid {self.pid})"


class HeldCall(Protocol):
    """A system call at its entry: a Request (tracer/call.py)."""

    stopped: Stopped


class Rewound(NamedTuple):
    """How a system call had ended that is ready to be made again: it was at `counter`."""

    nr: int
    error: int
    counter: int
    argument: int | None = None
    """Its first one, where the tracer has to put it back."""


@dataclass(slots=True)
class After:
    """What a task does after a deadline of its own: it may look for a later time."""

    polls: int = 0
    """How often it has waited for no time since (`TaskSample.reached_ns`),"""
    polls_at: tuple[int, int] = 0, 0
    """and at which stack pointer and program counter."""
    poll: tuple[int, tuple[int, ...]] | None = None
    """The number and the arguments of the last of these calls."""
    former: tuple[tuple[int, int], int] = (0, 0), 0
    """Where it waited the last time, and how long."""
    watched_calls: int = 0
    """At how many system calls more it stops, as it may poll for a later time."""
    is_interrupted: bool = False
    """It was interrupted so that it does, and not to end a wait."""


@dataclass(slots=True)
class Task:
    """One traced thread. `move` is the only way to change its state."""

    tid: int
    process: Process
    state: TaskState
    at_exit: Callable[[Stopped], None] | None = None
    """What is to be done at the exit of the system call that it is in."""
    began_alone: int = 0
    """The program counter behind the system call that it was in when it was attached to, which is
    to go on by the host's time."""
    wait: Wait | None = None
    """The timed wait that it is in, or was the last time, if that followed the clock."""
    rewound: Rewound | None = None  # of the call that it makes next (tracer/calls/restart.py)
    first_argument: int = 0
    """Of the system call that it is in, where it has stopped at its entry."""
    held: HeldCall | None = None
    """At the entry of a sleep, which may pass without the kernel."""
    after: After = field(default_factory=After)
    """What it does after a deadline of its own."""

    sample: TaskSample = field(init=False)
    """The last look at it."""
    recvmmsg: RecvmmsgState | None = None
    """The call that it makes again for the rest (tracer/calls/sockets.py)."""

    def __post_init__(self) -> None:
        self.sample = TaskSample(self.tid, self.process.pid)

    @property
    def is_to_go_on(self) -> bool:
        """Whether its wait was interrupted, and is to go on unless a handler ends it."""
        return self.wait is not None and self.wait.is_continued

    @property
    def is_waiting(self) -> bool:
        """Whether it is in, or enters, a wait that follows the clock."""
        return self.wait is not None and not self.wait.is_continued

    def interrupt(self) -> None:
        """Make it stop, without an end to a wait that it is in. Nothing if it has just ended."""
        self.after.is_interrupted = True
        with suppress(ProcessLookupError):
            ptrace.interrupt(self.tid)

    def move(self, state: TaskState) -> None:
        """Change the state, by MOVES."""
        if state not in MOVES[self.state]:
            raise RuntimeError(f"task {self.tid} cannot go from {self.state.name} to {state.name}")
        self.state = state
        if state is TaskState.GONE:
            self.sample.close()


@dataclass(slots=True)
class Tables:
    """What the tracer knows."""

    tasks: dict[int, Task] = field(default_factory=dict)
    newborn: dict[int, Stop] = field(default_factory=dict)
    """First stops of tasks whose parent's event has not come yet."""
    postponed: deque[Stop] = field(default_factory=deque)
    """Stops to be handled before the next wait."""
    leaving: set[int] = field(default_factory=set)
    """Tasks that are to be let go at their next stop."""
    worlds: list[ClockState] = field(default_factory=list)

    def is_stopped(self, tid: int) -> bool:
        """Whether a task is in the stop that was reported last; one that was killed is not."""
        return (
            ptrace.signal_info(tid) is not None
            and not any(one.tid == tid for one in self.postponed)
            and not wait.has_report(tid)
        )
