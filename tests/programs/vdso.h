/* The image behind AT_SYSINFO_EHDR, read as a libc does: vdso(7). */
#ifndef VDSO_H
#define VDSO_H

#include "check.h"
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>

/* Without 64 in its name, a function of the image has times as wide as the program's words. */
struct word_timespec { long sec, nsec; };
struct wide_timespec { int64_t sec, nsec; };
#ifdef __aarch64__
#define VDSO(name) "__kernel_" name
#else
#define VDSO(name) "__vdso_" name
#endif
#define VDSO_CLOCK_GETTIME (sizeof(long) == 8 ? VDSO("clock_gettime") : VDSO("clock_gettime64"))

struct image {
    uintptr_t bias;
    const ElfW(Sym) *symbols;
    unsigned count;
    const char *strings;
    const ElfW(Versym) *versions;
    const ElfW(Verdef) *definitions;
};

static inline struct image read_image(uintptr_t base)
{
    const ElfW(Ehdr) *header = (const void *)base;
    const ElfW(Phdr) *segment = (const void *)(base + header->e_phoff);
    const ElfW(Dyn) *dynamic = NULL;
    struct image image = {0};
    CHECK(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0);
    for (int i = 0; i < header->e_phnum; i++) {
        if (segment[i].p_type == PT_LOAD)
            image.bias = base + segment[i].p_offset - segment[i].p_vaddr;
        if (segment[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(base + segment[i].p_offset);
    }
    CHECK(dynamic);
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        /* A libc that has met the image may have relocated its table; the kernel's is unrelocated. */
        uintptr_t value = dynamic->d_un.d_val < image.bias ? dynamic->d_un.d_val + image.bias
                                                           : dynamic->d_un.d_val;
        switch (dynamic->d_tag) {
        case DT_SYMTAB: image.symbols = (const void *)value; break;
        case DT_STRTAB: image.strings = (const void *)value; break;
        case DT_VERSYM: image.versions = (const void *)value; break;
        case DT_VERDEF: image.definitions = (const void *)value; break;
        case DT_HASH: image.count = ((const uint32_t *)value)[1]; break;
        }
    }
    CHECK(image.symbols && image.strings && image.versions && image.definitions && image.count);
    return image;
}

/* The address of a symbol; NULL where the image has none of that name. */
static inline void *find_symbol(const struct image *image, const char *name)
{
    for (unsigned i = 0; i < image->count; i++)
        if (image->symbols[i].st_shndx && !strcmp(image->strings + image->symbols[i].st_name, name))
            return (void *)(image->bias + image->symbols[i].st_value);
    return NULL;
}

/* The name of the version of symbol `index`. */
static inline const char *version_of(const struct image *image, unsigned index)
{
    unsigned wanted = image->versions[index] & 0x7fff;
    const ElfW(Verdef) *definition = image->definitions;
    for (;;) {
        if (definition->vd_ndx == wanted) {
            const ElfW(Verdaux) *name = (const void *)((uintptr_t)definition + definition->vd_aux);
            return image->strings + name->vda_name;
        }
        if (!definition->vd_next)
            return "";
        definition = (const void *)((uintptr_t)definition + definition->vd_next);
    }
}

static inline struct image program_image(void)
{
    uintptr_t base = getauxval(AT_SYSINFO_EHDR);
    CHECK(base);
    return read_image(base);
}

/* Where the kernel mapped its image: /proc/PID/auxv is the kernel's own copy. */
static inline uintptr_t kernel_base(void)
{
    ElfW(auxv_t) entry;
    int fd = open("/proc/self/auxv", O_RDONLY);
    CHECK(fd >= 0);
    do
        CHECK(read(fd, &entry, sizeof entry) == sizeof entry);
    while (entry.a_type != AT_SYSINFO_EHDR);
    close(fd);
    return entry.a_un.a_val;
}

static inline struct image kernel_image(void)
{
    return read_image(kernel_base());
}

#endif
