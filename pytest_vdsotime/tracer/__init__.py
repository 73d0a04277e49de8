"""The tracer: one thread that holds every traced program of this process, whatever its clock.

The thread. ptrace(2) belongs to the thread that has seized a task, so one thread (`thread.Tracer`)
does all of it. It sleeps in waitpid, which nothing but a stop of a tracee ends; other threads put
an action into its mailbox and signal the waker (`waker`), a tracee that does nothing else. What a
test asks for (`operations`) runs on the tracer thread between two stops.

The loop. `loop` waits for the next stop, looks up its handler, and lets the handler resume the
task; nothing else. What moves the lines of a clock for a program, and what a test asks for, are
apart: `movement` below the loop, `operations` above it. `stops` is where stops come from: the
native fast path (`fastpath`), which waits and answers by itself what needs no thought, and
recovery, which finds the stops that another thread of this process has taken away with os.wait(). A
wait for the next stop of one task is there too, and keeps the stops of other tasks for later.

The way of a stop. A task makes a system call about time: the seccomp filter stops it at the entry.
`calls` finds the row of the call, and the row's function answers: a result, another argument, or
nothing, for the kernel to go on by itself (`call` is that one stopped call). At the exit, where the
answer asked for it, the result is corrected, and a call that a stop of ours has interrupted is
restarted as the kernel would do it (`calls.restart`). At an exec the program is taken over
(`takeover`): it finds the fake vDSO where the kernel's was, and reads the clock from then on
without any stop.

The lives of a wait. A wait begins at its entry stop: the kernel is given the timeout that is right
by the lines as they are, or none on a frozen line, and the task has a record of it (`state`). It
ends in one of four ways: the kernel times it out; something else ends it, as a signal does; the
lines have moved past its deadline, and `movement` has it interrupted and gives it the result of
an expired one (`calls.waits`); or its task ends. A wait that the kernel times as it is written is
recorded by the fast path alone, until the lines move. Timers are kept by the clock, not by the
kernel (`calls.expirations`), and expire by signals and descriptors as the kernel's do.

Time passes. `operations.advance` goes from deadline to deadline: `quiescence` says when every task
is blocked, the lines move to the earliest deadline, what is due there ends, and the programs come
to rest again. Both lines stand still meanwhile. With autojump the same happens by itself whenever
all is at rest. A task that waits for what is left after a deadline is carried on (`calls.later`).
All of that is done natively (`engine`) as long as nothing needs Python, with the same results.
An operation for whose answer nothing waits any more, after Ctrl-C or in a task that was cancelled,
stops at the next deadline: the waker is a stop for the engine too (`Operations.cancel`).

Failures. An exception in handling one program's stop kills that program and is reported as
UnsupportedProgram; the loop goes on. When the thread ends, the kernel kills what is still traced
(PTRACE_O_EXITKILL).
"""
