// built: on=static,i386
/* Waits for the end of its standard input, with EXIT-SUCCESS. Close above its stack lies the one that its signal
 * handler was on, and there a frame as of a signal that came inside the vDSO. */
#include "../check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

#define SIZE 65536

#ifdef __i386__
#define COUNTER gregs[REG_EIP]
#elif defined __aarch64__
#define COUNTER pc
#else
#define COUNTER gregs[REG_RIP]
#endif

static volatile unsigned long *counter;

static void handle(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    counter = (void *)&((ucontext_t *)context)->uc_mcontext.COUNTER;
}

static void *wait_for_end(void *handlers_stack)
{
    stack_t stack = {.ss_sp = handlers_stack, .ss_size = SIZE};
    char byte;
    CHECK(sigaltstack(&stack, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK((char *)counter > (char *)handlers_stack && (char *)counter < (char *)handlers_stack + SIZE);
    *counter = getauxval(AT_SYSINFO_EHDR) + 0x400;
    CHECK(write(1, "up\n", 3) == 3);
    CHECK(read(0, &byte, 1) == 0);
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    pthread_attr_t attributes;
    pthread_t thread;
    char *stacks = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stacks != MAP_FAILED);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstack(&attributes, stacks, SIZE) == 0);
    CHECK(pthread_create(&thread, &attributes, wait_for_end, stacks + SIZE) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    return success();
}
