// run: on=static,dynamic bare=passes
/* getcpu and getrandom live in the vDSO too and go on working: the first as the system call says,
 * the second by the protocol of getrandom(2)'s vDSO form (linux/random.h), where the host has it. */
#include "vdso.h"
#include <sched.h>
#include <sys/mman.h>

struct vgetrandom_opaque_params {
    uint32_t size_of_opaque_state, mmap_prot, mmap_flags, reserved[13];
};
typedef long getcpu_fn(unsigned *, unsigned *, void *);
typedef long getrandom_fn(void *, size_t, unsigned, void *, size_t);

static long by_system_call(unsigned *cpu, unsigned *node, void *unused)
{
    return syscall(SYS_getcpu, cpu, node, unused);
}

static void check_getrandom(getrandom_fn *vdso_getrandom)
{
    struct vgetrandom_opaque_params params;
    unsigned char first[64] = {0}, second[64] = {0};
    CHECK(vdso_getrandom(NULL, 0, 0, &params, ~0ul) == 0);
    size_t size = params.size_of_opaque_state;
    void *state = mmap(NULL, 4096, params.mmap_prot, params.mmap_flags, -1, 0);
    CHECK(state != MAP_FAILED && size > 0 && size <= 4096);
    CHECK_EQUAL(vdso_getrandom(first, sizeof first, 0, state, size), sizeof first);
    CHECK_EQUAL(vdso_getrandom(second, sizeof second, 0, state, size), sizeof second);
    CHECK(memcmp(first, second, sizeof first) != 0);
}

int main(void)
{
    struct image image = program_image();
    getcpu_fn *vdso_getcpu = find_symbol(&image, VDSO("getcpu"));
    getrandom_fn *vdso_getrandom = find_symbol(&image, VDSO("getrandom"));
    struct image kernels = kernel_image();
    unsigned cpu = -1, node = -1;
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    if (!find_symbol(&kernels, VDSO("getcpu"))) /* as on 64-bit Arm */
        vdso_getcpu = by_system_call;
    CHECK(vdso_getcpu && vdso_getcpu(&cpu, &node, NULL) == 0);
    CHECK(CPU_ISSET(cpu, &one));
    CHECK(node != -1u);
    CHECK(vdso_getcpu(NULL, NULL, NULL) == 0);

    if (find_symbol(&kernels, VDSO("getrandom")))
        check_getrandom(vdso_getrandom);
    return success();
}
