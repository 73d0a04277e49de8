// run: on=static,dynamic,i386,i386-dynamic bare=fails
/* The image that the program was told of is not the kernel's, and has every symbol of the kernel's,
 * with the same version, binding and type: a libc that looks one up finds it. */
#include "vdso.h"

static void check_symbol(const struct image *kernels, unsigned index, const struct image *ours)
{
    const ElfW(Sym) *wanted = &kernels->symbols[index];
    const char *name = kernels->strings + wanted->st_name;
    for (unsigned i = 0; i < ours->count; i++) {
        const ElfW(Sym) *symbol = &ours->symbols[i];
        if (strcmp(ours->strings + symbol->st_name, name) != 0)
            continue;
        if (ELF64_ST_TYPE(wanted->st_info) != STT_NOTYPE) /* as 64-bit Arm's __kernel_rt_sigreturn since Linux 5.8 */
            CHECK_EQUAL(ELF64_ST_TYPE(symbol->st_info), ELF64_ST_TYPE(wanted->st_info));
        CHECK_EQUAL(ELF64_ST_BIND(symbol->st_info), ELF64_ST_BIND(wanted->st_info));
        CHECK(symbol->st_shndx != SHN_UNDEF && symbol->st_shndx != SHN_ABS);
        CHECK(strcmp(version_of(ours, i), version_of(kernels, index)) == 0);
        return;
    }
    dprintf(2, "the image has no %s\n", name);
    CHECK(!"complete");
}

int main(void)
{
    struct image kernels = kernel_image(), ours = program_image();
    unsigned compared = 0;

    CHECK(kernels.bias != ours.bias);
    for (unsigned i = 1; i < kernels.count; i++) {
        if (kernels.symbols[i].st_shndx == SHN_UNDEF || kernels.symbols[i].st_shndx == SHN_ABS)
            continue; /* absolute: the version's own name, which nobody looks up */
        check_symbol(&kernels, i, &ours);
        compared++;
    }
    CHECK(compared >= 3);
    return success();
}
