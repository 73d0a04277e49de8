/* Has a system call write the time to a page that is not there yet; another thread is asked for it
 * (userfaultfd(2)) and reads the time in the same way before it provides the page. */
#include "../check.h"
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static char *page;
static int faults;

static void *provide(void *unused)
{
    struct uffd_msg message;
    struct timespec ts;
    CHECK(read(faults, &message, sizeof message) == sizeof message);
    CHECK(message.event == UFFD_EVENT_PAGEFAULT);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts) == 0);
    struct uffdio_zeropage zero = {.range = {(uintptr_t)page, 4096}};
    CHECK(ioctl(faults, UFFDIO_ZEROPAGE, &zero) == 0);
    return unused;
}

int main(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    pthread_t thread;
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    faults = syscall(SYS_userfaultfd, O_CLOEXEC);
    CHECK(page != MAP_FAILED && faults >= 0 && ioctl(faults, UFFDIO_API, &api) == 0);
    struct uffdio_register missing = {.range = {(uintptr_t)page, 4096},
                                      .mode = UFFDIO_REGISTER_MODE_MISSING};
    CHECK(ioctl(faults, UFFDIO_REGISTER, &missing) == 0);
    CHECK(pthread_create(&thread, NULL, provide, NULL) == 0);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, page) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    printf("%lld\n", (long long)((struct timespec *)page)->tv_sec);
    return 0;
}
