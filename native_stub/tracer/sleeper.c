/* Sleeps that pass at once: the lines go on by their length, and the system call has ended. */
#include "sleeper.h"

#include "program/page.h"
#include "tracer.h"

#define NSEC_PER_SEC 1000000000U
#define GRAIN_NS 1000000U
#define TIMER_ABSTIME 1
/* linux/time.h */
#define CLOCK_REALTIME 0
#define CLOCKS_TO_SLEEP_BY (1 << 0 | 1 << 1 | 1 << 7 | 1 << 11) /* but those that it takes a privilege to sleep by */
/* linux/ptrace.h */
#define PTRACE_PEEKSIGINFO 0x4209
#define PEEKSIGINFO_SHARED 1

/* Whether signals wait for it or for its process, which its sleep is to notice. */
static int has_signals(uint64_t tid)
{
    struct { uint64_t offset; uint32_t flags; int32_t count; } which = {0, 0, 1};
    char info[128];
    for (which.flags = 0; which.flags <= PEEKSIGINFO_SHARED; which.flags++)
        if (syscall4(NR_ptrace, PTRACE_PEEKSIGINFO, tid, &which, info) != 0)
            return 1;
    return 0;
}

/* Time passes: all clocks that are read from the page go on. */
__attribute__((visibility("default")))
void move_lines(struct vdso_page *page, uint64_t by_ns)
{
    __atomic_store_n(&page->seq, page->seq + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (int id = 0; id < VDSO_CLOCK_IDS; id++)
        if (page->served >> id & 1) {
            uint64_t nsec = page->clocks[id].nsec + by_ns % NSEC_PER_SEC;
            page->clocks[id].sec += by_ns / NSEC_PER_SEC + nsec / NSEC_PER_SEC;
            page->clocks[id].nsec = nsec % NSEC_PER_SEC;
        }
    __atomic_store_n(&page->seq, page->seq + 1, __ATOMIC_RELEASE);
}

/* Whether a stopped system call was a sleep that has now passed; its task is to go on behind it. */
int passes_sleep(struct sleeper *sleeper, uint64_t tid, const struct syscall_info *info)
{
    struct timespec time;
    struct vdso_page *page = (struct vdso_page *)sleeper->page;
    if (tid != sleeper->tid || info->arch != AUDIT_ARCH)
        return 0;
    uint64_t pointer = info->args[0];
    if (info->nr == NR_clock_nanosleep) {
        uint32_t id = info->args[0];
        if (id > 31 || !(CLOCKS_TO_SLEEP_BY & page->served & 1U << id) || info->args[1] & TIMER_ABSTIME)
            return 0;
        pointer = info->args[2];
    } else if (info->nr != NR_nanosleep) {
        return 0;
    }
    struct span here = {&time, sizeof time}, there = {(void *)pointer, sizeof time};
    if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != sizeof time)
        return 0;
    if (time.sec < 0 || (uint64_t)time.sec > sleeper->most_ns / NSEC_PER_SEC || (uint64_t)time.nsec >= NSEC_PER_SEC)
        return 0;
    uint64_t step_ns = time.sec * NSEC_PER_SEC + time.nsec;
    if (!step_ns || step_ns > sleeper->most_ns || has_signals(tid))
        return 0;
    /* The wall line is frozen, so that its clock's nanoseconds are its own. */
    uint64_t odd_ns = (page->clocks[CLOCK_REALTIME].nsec + step_ns) % GRAIN_NS;
    uint64_t missing_ns = odd_ns ? GRAIN_NS - odd_ns : 0;
    if (missing_ns <= sleeper->rounds_ns && missing_ns <= sleeper->most_ns - step_ns)
        step_ns += missing_ns;
    move_lines(page, step_ns);
    sleeper->most_ns -= step_ns;
    sleeper->passed_ns += step_ns;
    return 1;
}
