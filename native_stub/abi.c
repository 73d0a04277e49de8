/* What Python shares with the kernel and with the C code here: build.py compiles this file for each machine that has a
 * tracer, reads the compiler's output, and writes abi.json. Nothing of this file is ever run.
 *
 * The kernel's headers are those that zig carries, of Linux 6.3.
 */
#include <asm/ptrace.h>
#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/socket.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/auxvec.h>
#include <linux/capability.h>
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/ipc.h>
#include <linux/kcmp.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <linux/net.h>
#include <linux/prctl.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/stat.h>
#include <linux/tcp.h>
#include <linux/time.h>
#include <linux/timerfd.h>
#include <linux/timex.h>
#include <linux/uio.h>
#include <linux/wait.h>

#include "program/loader.h"
#include "program/loader_failed.h"
#include "tracer/fastpath.h"
#include "tracer/sample.h"
#include "tracer/spawn.h"

/* Where TCP_INFO (tcp(7)) says how much is not acknowledged, and how much is yet to be sent. */
#define TCP_UNACKED __builtin_offsetof(struct tcp_info, tcpi_unacked)
#define TCP_NOTSENT_BYTES __builtin_offsetof(struct tcp_info, tcpi_notsent_bytes)

/* Where stat(2) leaves stamps. */
#define STAT_ATIME __builtin_offsetof(struct stat, st_atime)
#define STAT_CTIME __builtin_offsetof(struct stat, st_ctime)
#define STAT_MTIME __builtin_offsetof(struct stat, st_mtime)

/* The value as text in the compiler's output, as in the kernel's own asm-offsets.h (include/linux/kbuild.h). */
#define CONSTANT(name) __asm__("\n.ascii \"constant " #name " %c0\"" : : "i"((long)(name)));
/* The compiler shows the layout of each struct that is used; this says which are wanted. */
#define STRUCT(name) __asm__("\n.ascii \"struct " #name " %c0\"" : : "i"(sizeof(struct name)));

void constants(void)
{
    CONSTANT(AGAIN_NS)
    CONSTANT(AUDIT_ARCH_AARCH64)
    CONSTANT(AUDIT_ARCH_I386)
    CONSTANT(AUDIT_ARCH_RISCV64)
    CONSTANT(AUDIT_ARCH_X86_64)
#if defined(__x86_64__)
    CONSTANT(__X32_SYSCALL_BIT)
#elif defined(__aarch64__)
    CONSTANT(FPSIMD_MAGIC)
    CONSTANT(NT_ARM_SYSTEM_CALL)
    CONSTANT(NT_PRSTATUS)
    CONSTANT(PSR_MODE32_BIT)
#endif

    /* bpf(2), seccomp(2) */
    CONSTANT(BPF_ABS)
    CONSTANT(BPF_ALU)
    CONSTANT(BPF_AND)
    CONSTANT(BPF_IMM)
    CONSTANT(BPF_JA)
    CONSTANT(BPF_JEQ)
    CONSTANT(BPF_JGE)
    CONSTANT(BPF_JMP)
    CONSTANT(BPF_JSET)
    CONSTANT(BPF_K)
    CONSTANT(BPF_LD)
    CONSTANT(BPF_LSH)
    CONSTANT(BPF_MAXINSNS)
    CONSTANT(BPF_MISC)
    CONSTANT(BPF_RET)
    CONSTANT(BPF_TAX)
    CONSTANT(BPF_W)
    CONSTANT(BPF_X)
    CONSTANT(SECCOMP_MODE_FILTER)
    CONSTANT(SECCOMP_RET_ALLOW)
    CONSTANT(SECCOMP_RET_ERRNO)
    CONSTANT(SECCOMP_RET_TRACE)
    CONSTANT(SECCOMP_SET_MODE_FILTER)

    /* ptrace(2), wait(2) */
    CONSTANT(PTRACE_EVENT_CLONE)
    CONSTANT(PTRACE_EVENT_EXEC)
    CONSTANT(PTRACE_EVENT_FORK)
    CONSTANT(PTRACE_EVENT_SECCOMP)
    CONSTANT(PTRACE_EVENT_STOP)
    CONSTANT(PTRACE_EVENT_VFORK)
    CONSTANT(PTRACE_GETSIGMASK)
    CONSTANT(PTRACE_GET_SYSCALL_INFO)
    CONSTANT(PTRACE_INTERRUPT)
    CONSTANT(PTRACE_LISTEN)
    CONSTANT(PTRACE_O_EXITKILL)
    CONSTANT(PTRACE_O_SUSPEND_SECCOMP)
    CONSTANT(PTRACE_O_TRACESECCOMP)
    CONSTANT(PTRACE_PEEKSIGINFO)
    CONSTANT(PTRACE_PEEKSIGINFO_SHARED)
    CONSTANT(PTRACE_SEIZE)
    CONSTANT(PTRACE_SETSIGMASK)
    CONSTANT(PTRACE_SYSCALL_INFO_ENTRY)
    CONSTANT(PTRACE_TRACEME)
    CONSTANT(__WALL)
    CONSTANT(__WNOTHREAD)

    /* Waits, timers, signals, clocks */
    CONSTANT(FUTEX_CLOCK_REALTIME)
    CONSTANT(FUTEX_LOCK_PI)
    CONSTANT(FUTEX_LOCK_PI2)
    CONSTANT(FUTEX_PRIVATE_FLAG)
    CONSTANT(FUTEX_WAIT)
    CONSTANT(FUTEX_WAIT_BITSET)
    CONSTANT(FUTEX_WAIT_REQUEUE_PI)
    CONSTANT(IORING_ENTER_GETEVENTS)
    CONSTANT(ITIMER_REAL)
    CONSTANT(SEMTIMEDOP)
    CONSTANT(SIGALRM)
    CONSTANT(SIGEV_NONE)
    CONSTANT(SIGEV_SIGNAL)
    CONSTANT(SIGEV_THREAD_ID)
    CONSTANT(SIGRTMIN)
    CONSTANT(SI_KERNEL)
    CONSTANT(SI_TIMER)
    CONSTANT(TFD_IOC_SET_TICKS)
    CONSTANT(TFD_TIMER_CANCEL_ON_SET)
    CONSTANT(TIMER_ABSTIME)

    /* adjtimex(2) */
    CONSTANT(ADJ_ESTERROR)
    CONSTANT(ADJ_FREQUENCY)
    CONSTANT(ADJ_MAXERROR)
    CONSTANT(ADJ_MICRO)
    CONSTANT(ADJ_NANO)
    CONSTANT(ADJ_OFFSET)
    CONSTANT(ADJ_SETOFFSET)
    CONSTANT(ADJ_STATUS)
    CONSTANT(ADJ_TAI)
    CONSTANT(ADJ_TICK)
    CONSTANT(ADJ_TIMECONST)
    CONSTANT(STA_CLOCKERR)
    CONSTANT(STA_DEL)
    CONSTANT(STA_INS)
    CONSTANT(STA_MODE)
    CONSTANT(STA_NANO)
    CONSTANT(STA_PLL)
    CONSTANT(STA_RONLY)
    CONSTANT(STA_UNSYNC)
    CONSTANT(TIME_ERROR)
    CONSTANT(TIME_OK)

    /* Sockets */
    CONSTANT(SO_RCVTIMEO_NEW)
    CONSTANT(SO_SNDTIMEO_NEW)
    CONSTANT(SYS_ACCEPT)
    CONSTANT(SYS_ACCEPT4)
    CONSTANT(SYS_CONNECT)
    CONSTANT(SYS_GETSOCKOPT)
    CONSTANT(SYS_RECV)
    CONSTANT(SYS_RECVFROM)
    CONSTANT(SYS_RECVMMSG)
    CONSTANT(SYS_RECVMSG)
    CONSTANT(SYS_SEND)
    CONSTANT(SYS_SENDMMSG)
    CONSTANT(SYS_SENDMSG)
    CONSTANT(SYS_SENDTO)
    CONSTANT(SYS_SETSOCKOPT)
    CONSTANT(UIO_MAXIOV)

    /* Processes, memory, files */
    CONSTANT(AT_EMPTY_PATH)
    CONSTANT(AT_FDCWD)
    CONSTANT(AT_NULL)
    CONSTANT(AT_SYSINFO_EHDR)
    CONSTANT(AT_EXECFN)
    CONSTANT(CAP_SYS_ADMIN)
    CONSTANT(CAP_SYS_TIME)
    CONSTANT(CLONE_NEWTIME)
    CONSTANT(CLONE_UNTRACED)
    CONSTANT(EM_AARCH64)
    CONSTANT(EM_X86_64)
    CONSTANT(F_SEAL_FUTURE_WRITE)
    CONSTANT(KCMP_FILE)
    CONSTANT(KCMP_VM)
    CONSTANT(MAP_FIXED)
    CONSTANT(MFD_EXEC)
    CONSTANT(MREMAP_FIXED)
    CONSTANT(MREMAP_MAYMOVE)
    CONSTANT(PROT_NONE)
    CONSTANT(PR_GET_DUMPABLE)
    CONSTANT(PR_SET_DUMPABLE)
    CONSTANT(PR_SET_NO_NEW_PRIVS)
    CONSTANT(PR_SET_PDEATHSIG)
    CONSTANT(PR_SET_PTRACER)
    CONSTANT(PR_SET_SECCOMP)
    CONSTANT(STAT_ATIME)
    CONSTANT(STAT_CTIME)
    CONSTANT(STAT_MTIME)

    /* Ours */
    CONSTANT(ANOTHER_KIND)
    CONSTANT(ASKS)
    CONSTANT(ASKS_ALONE)
    CONSTANT(CARRY_NS)
    CONSTANT(CHILD_COMES)
    CONSTANT(COMPARE_COOKIE)
    CONSTANT(CROWD)
    CONSTANT(EITHER_LINE)
    CONSTANT(ELSEWHERE)
    CONSTANT(ENGINE_BUSY)
    CONSTANT(ENGINE_DONE)
    CONSTANT(ENGINE_EVENTS)
    CONSTANT(ENGINE_PYTHON)
    CONSTANT(EVENT_CHILD)
    CONSTANT(EXIT_NO_FILTER)
    CONSTANT(FASTPATH_KINDS)
    CONSTANT(EXECUTED_PATHS)
    CONSTANT(FASTPATH_LIST)
    CONSTANT(FASTPATH_PROGRAMS)
    CONSTANT(FASTPATH_TASKS)
    CONSTANT(GRAIN_NS)
    CONSTANT(INTEREST)
    CONSTANT(INTEREST_BY_POINTER)
    CONSTANT(MARKED_TASKS)
    CONSTANT(MARK_ASKS)
    CONSTANT(MARK_EXECS)
    CONSTANT(MARK_REWINDS)
    CONSTANT(MARK_SKIPPED)
    CONSTANT(IN_DIRECTORY)
    CONSTANT(KEPT_AT_ENTRY)
    CONSTANT(KEPT_BY_KERNEL)
    CONSTANT(KEPT_ENDLESS)
    CONSTANT(LARGEST_BLOCK)
    CONSTANT(LOADER_FAILED)
    CONSTANT(LONG_STEP_NS)
    CONSTANT(MAP_CLOCK_PAGE)
    CONSTANT(MAP_IMAGE)
    CONSTANT(MAP_PROCESS_PAGE)
    CONSTANT(MAX_LOOKS)
    CONSTANT(MOMENT_NS)
    CONSTANT(NEWS)
    CONSTANT(NOTHING)
    CONSTANT(NO_VDSO_FOUND)
    CONSTANT(OPEN)
    CONSTANT(OPENED_FILE)
    CONSTANT(OPENS_FILE)
    CONSTANT(PARAMETERS_BELOW_STACK)
    CONSTANT(PROTECT_PAGES)
    CONSTANT(RENEWED_NS)
    CONSTANT(ASKS_FOR_MORE)
    CONSTANT(CALL_RETURNS)
    CONSTANT(REWINDS_FILE)
    CONSTANT(SETS_STAMPS)
    CONSTANT(STAMPS_LEFT)
    CONSTANT(TAKEN_OVER)
    CONSTANT(TCP_NOTSENT_BYTES)
    CONSTANT(TCP_UNACKED)
    CONSTANT(VDSO_CLOCK_IDS)
    CONSTANT(VDSO_COARSE)
    CONSTANT(VDSO_HEADER_PAGES)
    CONSTANT(VDSO_MOVING)
    CONSTANT(VDSO_PAGE_SIZE)
    CONSTANT(VDSO_PRIVATE)
    CONSTANT(VDSO_TICKING)
    CONSTANT(WAIT_BY_VALUE)
    CONSTANT(WAIT_FD_SETS)
    CONSTANT(WAIT_KNOWN)
    CONSTANT(WAIT_SLEEP)
    CONSTANT(WAIT_TIMEVAL)
    CONSTANT(WAIT_WRITES_BACK)
    CONSTANT(WAKE_NS)
    CONSTANT(WALL_LINE)
}

/* Those that these hold come with them. */
void layouts(void)
{
    STRUCT(engine)
    STRUCT(engine_copy)
    STRUCT(engine_timer)
    STRUCT(fastpath)
    STRUCT(iovec)
    STRUCT(loader_parameters)
    STRUCT(ptrace_peeksiginfo_args)
    STRUCT(sample)
    STRUCT(seccomp_data)
    STRUCT(sock_filter)
    STRUCT(spawn)
    STRUCT(stamps)
    STRUCT(statx)
    STRUCT(takeover_block)
    STRUCT(vdso_page)
    STRUCT(wait_record)
}
