"""What a clock has for programs that run already."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_vdsotime.processes import AttachedProcess, attached, check_pid, explained
from pytest_vdsotime.tracer.tasks import Process

if TYPE_CHECKING:
    from pytest_vdsotime.clock import FrozenClock


class Attacher:
    """Base of FrozenClock."""

    def attach(self, pid: int) -> AttachedProcess:
        """Takes over a running process, all its threads and what they start from now on.

        Kernel waits that are under way end in real time, the next ones follow the clock. The
        returned object's `close`, or the clock's, lets the process and what it has started go,
        alive, in real time, it itself with its own vDSO at its place again. Every system call of
        them stops meanwhile, as a running program can be given no seccomp filter that it would be
        rid of again. For a child of this process: wait for it once it was let go or has ended, as
        Linux would show each of its stops to `waitpid`, and so to `Popen.poll`, before that.

        Raises:
            TypeError, ValueError: not the pid of another process that is on no clock yet.
            ProcessLookupError: there is no such process.
            TracingUnavailable: it may not be traced, or somebody else traces it.
            UnsupportedProgram: it cannot be given the clock; it runs on as it was.
        """
        check_pid(pid)
        clock = cast("FrozenClock", self)
        tracer, world = clock.start_tracing()
        process = Process(pid, world)
        process.origin = process
        with explained(process):
            tracer.call_later(lambda loop: loop.clocks.attach(process))

        def release() -> None:
            if not clock.is_closed:
                tracer.call_later(lambda loop: loop.clocks.release(process))
                clock.raise_news()

        return attached(process, release)
