// run: on=static,dynamic,i386,i386-dynamic bare=passes
// run: args=few-files on=static,i386 bare=passes
/* The images that AT_SYSINFO_EHDR and /proc/self/auxv name are whole ELF files (elf(5), and the Linux
 * Standard Base's core specification for hashes, versions and frames). A symbolizer, an unwinder or a
 * debugger that reads every header, segment, section, note, version, symbol and frame of what is mapped
 * faults nowhere, and finds each where the others say. The kernel's image may say that it has no section
 * headers. So is a private copy, where the program may open no file ("few-files"). Started as "later", the
 * program looks whenever it gets a line. */
#include "vdso.h"
#include <sys/resource.h>

#if defined __x86_64__
#define MACHINE EM_X86_64
#elif defined __i386__
#define MACHINE EM_386
#elif defined __aarch64__
#define MACHINE EM_AARCH64
#endif

/* The encodings of pointers that frames use (DW_EH_PE, LSB core 10.5.1). */
enum { FORM = 0x0f, UDATA4 = 0x03, SDATA4 = 0x0b, PCREL = 0x10, DATAREL = 0x30 };

/* What is mapped, from its first byte on, and what was found in it. */
struct whole {
    const char *bytes;
    size_t size;
    const ElfW(Ehdr) *header;
    const ElfW(Phdr) *segments, *load;
    const ElfW(Shdr) *sections; /* NULL: it has none */
    const ElfW(Dyn) *dynamic;
    size_t dynamic_count, symbol_count, strings_size;
    uint32_t release; /* of the kernel: LINUX_VERSION_CODE */
};

static uint32_t was_read; /* the sum of all bytes, so that a compiler reads each */

/* `size` bytes at `offset`, each of which is there. */
static const void *at(const struct whole *image, size_t offset, size_t size)
{
    CHECK(size <= image->size && offset <= image->size - size);
    for (size_t i = 0; i < size; i++)
        was_read += *(volatile const char *)(image->bytes + offset + i);
    return image->bytes + offset;
}

/* The same by address: what the segment to load covers. */
static const void *loaded(const struct whole *image, size_t address, size_t size)
{
    const ElfW(Phdr) *load = image->load;
    CHECK(address >= load->p_vaddr && size <= load->p_memsz && address - load->p_vaddr <= load->p_memsz - size);
    return at(image, address - load->p_vaddr + load->p_offset, size);
}

static const char *string(const char *table, size_t size, size_t index)
{
    CHECK(index < size && memchr(table + index, 0, size - index));
    return table + index;
}

static int is_power_of_two(size_t number)
{
    return (number & (number - 1)) == 0;
}

static struct whole find_mapping(uintptr_t base)
{
    char line[512], flags[5];
    unsigned long start, end;
    struct whole image = {.bytes = (const char *)base};
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps && base);
    while (fgets(line, sizeof line, maps)) {
        CHECK(sscanf(line, "%lx-%lx %4s", &start, &end, flags) == 3);
        if (start <= base && base < end) {
            CHECK(strcmp(flags, "r-xp") == 0);
            image.size = end - base;
        }
    }
    fclose(maps);
    CHECK(image.size);
    return image;
}

static void walk_header(struct whole *image)
{
    const ElfW(Ehdr) *header = image->header = at(image, 0, sizeof *header);
    CHECK(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0);
    CHECK_EQUAL(header->e_ident[EI_CLASS], sizeof(long) == 8 ? ELFCLASS64 : ELFCLASS32);
    CHECK_EQUAL(header->e_ident[EI_DATA], ELFDATA2LSB);
    CHECK_EQUAL(header->e_ident[EI_VERSION], EV_CURRENT);
    CHECK_EQUAL(header->e_version, EV_CURRENT);
    CHECK_EQUAL(header->e_type, ET_DYN);
    CHECK_EQUAL(header->e_machine, MACHINE);
    CHECK_EQUAL(header->e_ehsize, sizeof *header);
    CHECK_EQUAL(header->e_phentsize, sizeof *image->segments);
    image->segments = at(image, header->e_phoff, header->e_phnum * sizeof *image->segments);
    if (!header->e_shnum) {
        CHECK(!header->e_shoff && header->e_shstrndx == SHN_UNDEF);
        return;
    }
    CHECK_EQUAL(header->e_shentsize, sizeof *image->sections);
    CHECK(header->e_shoff % sizeof(long) == 0 && header->e_shstrndx < header->e_shnum);
    image->sections = at(image, header->e_shoff, header->e_shnum * sizeof *image->sections);
}

/* The notes fill their segment or section, one behind the other. */
static void walk_notes(struct whole *image, size_t offset, size_t size, size_t align)
{
    size_t end = offset + size, unit = align == 8 ? 8 : 4;
    CHECK(size);
    while (offset < end) {
        const ElfW(Nhdr) *note = at(image, offset, sizeof *note);
        const char *name = at(image, offset + sizeof *note, note->n_namesz);
        offset += (sizeof *note + note->n_namesz + unit - 1) & -unit;
        const uint32_t *content = at(image, offset, note->n_descsz);
        offset += (note->n_descsz + unit - 1) & -unit;
        CHECK(offset <= end && strlen(string(name, note->n_namesz, 0)) == note->n_namesz - 1);
        if (!strcmp(name, "Linux") && note->n_type == 0) {
            CHECK_EQUAL(note->n_descsz, 4);
            image->release = *content;
        }
    }
}

static void walk_segments(struct whole *image)
{
    unsigned loads = 0;
    for (int i = 0; i < image->header->e_phnum; i++)
        if (image->segments[i].p_type == PT_LOAD) {
            image->load = &image->segments[i];
            loads++;
        }
    CHECK_EQUAL(loads, 1);
    CHECK_EQUAL(image->load->p_offset, 0);
    CHECK_EQUAL(image->load->p_flags, PF_R | PF_X);
    CHECK(!image->header->e_entry || loaded(image, image->header->e_entry, 1));
    for (int i = 0; i < image->header->e_phnum; i++) {
        const ElfW(Phdr) *segment = &image->segments[i];
        CHECK_EQUAL(segment->p_memsz, segment->p_filesz);
        CHECK(is_power_of_two(segment->p_align));
        if (!segment->p_memsz)
            continue; /* PT_GNU_STACK */
        CHECK(segment->p_align < 2 || (segment->p_vaddr - segment->p_offset) % segment->p_align == 0);
        CHECK(loaded(image, segment->p_vaddr, segment->p_memsz) == image->bytes + segment->p_offset);
        if (segment->p_type == PT_DYNAMIC) {
            image->dynamic = at(image, segment->p_offset, segment->p_filesz);
            image->dynamic_count = segment->p_filesz / sizeof *image->dynamic;
        } else if (segment->p_type == PT_NOTE) {
            walk_notes(image, segment->p_offset, segment->p_filesz, segment->p_align);
        }
    }
    CHECK(image->dynamic && image->release);
}

/* The value of an entry of the dynamic section, which has it. */
static size_t entry(const struct whole *image, ElfW(Sxword) tag)
{
    for (const ElfW(Dyn) *one = image->dynamic; one->d_tag != DT_NULL; one++)
        if (one->d_tag == tag)
            return one->d_un.d_val;
    dprintf(2, "the image has no dynamic entry %#lx\n", (long)tag);
    CHECK(!"complete");
    return 0;
}

static int has_entry(const struct whole *image, ElfW(Sxword) tag)
{
    for (const ElfW(Dyn) *one = image->dynamic; one->d_tag != DT_NULL; one++)
        if (one->d_tag == tag)
            return 1;
    return 0;
}

static const char *name_of(const struct whole *image, size_t index)
{
    return string(loaded(image, entry(image, DT_STRTAB), image->strings_size), image->strings_size, index);
}

static void walk_dynamic(struct whole *image)
{
    size_t count = 0;
    while (count < image->dynamic_count && image->dynamic[count].d_tag != DT_NULL)
        count++;
    CHECK(count < image->dynamic_count);
    image->strings_size = entry(image, DT_STRSZ);
    CHECK(*name_of(image, 0) == 0 && *name_of(image, entry(image, DT_SONAME)));
    CHECK_EQUAL(entry(image, DT_SYMENT), sizeof(ElfW(Sym)));
    const uint32_t *hash = loaded(image, entry(image, DT_HASH), 2 * sizeof *hash);
    image->symbol_count = hash[1];
    CHECK(image->symbol_count > 3);
}

static uint32_t old_hash(const char *name)
{
    uint32_t hash = 0;
    for (; *name; name++) {
        hash = (hash << 4) + (unsigned char)*name;
        hash = (hash ^ (hash & 0xf0000000) >> 24) & 0x0fffffff;
    }
    return hash;
}

static uint32_t new_hash(const char *name)
{
    uint32_t hash = 5381;
    for (; *name; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

static const ElfW(Sym) *symbol_at(const struct whole *image, size_t index)
{
    CHECK(index < image->symbol_count);
    return loaded(image, entry(image, DT_SYMTAB) + index * sizeof(ElfW(Sym)), sizeof(ElfW(Sym)));
}

/* Where the table DT_HASH has a name; 0 where it has not. */
static size_t find_old(const struct whole *image, const char *name)
{
    const uint32_t *head = loaded(image, entry(image, DT_HASH), 2 * sizeof *head);
    const uint32_t *buckets = loaded(image, entry(image, DT_HASH), (2 + head[0] + head[1]) * sizeof *head);
    size_t index = buckets[2 + old_hash(name) % head[0]], steps = 0;
    while (index && strcmp(name_of(image, symbol_at(image, index)->st_name), name) != 0) {
        CHECK(steps++ < image->symbol_count);
        index = buckets[2 + head[0] + index];
    }
    return index;
}

/* The same of DT_GNU_HASH: a Bloom filter of words, buckets, and the hashes of sorted symbols. */
static size_t find_new(const struct whole *image, const char *name)
{
    enum { BITS = 8 * sizeof(ElfW(Addr)) };
    size_t table = entry(image, DT_GNU_HASH);
    const uint32_t *head = loaded(image, table, 4 * sizeof *head);
    uint32_t count = head[0], first = head[1], words = head[2], hash = new_hash(name);
    const ElfW(Addr) *filter = loaded(image, table + 16, words * sizeof *filter);
    const uint32_t *buckets = loaded(image, table + 16 + words * sizeof *filter, count * sizeof *buckets);
    ElfW(Addr) word = filter[hash / BITS % words];
    CHECK(is_power_of_two(words));
    if (!(word >> hash % BITS & word >> (hash >> head[3]) % BITS & 1))
        return 0;
    for (size_t index = buckets[hash % count]; index >= first; index++) {
        size_t chain = table + 16 + words * sizeof *filter + (count + index - first) * sizeof(uint32_t);
        uint32_t other = *(const uint32_t *)loaded(image, chain, sizeof other);
        if ((other | 1) == (hash | 1) && !strcmp(name_of(image, symbol_at(image, index)->st_name), name))
            return index;
        if (other & 1)
            break;
    }
    return 0;
}

/* The definition of version `wanted`; with 0 all are walked. */
static const ElfW(Verdef) *walk_versions(const struct whole *image, unsigned wanted)
{
    size_t address = entry(image, DT_VERDEF), count = entry(image, DT_VERDEFNUM);
    const ElfW(Verdef) *definition = NULL, *found = NULL;
    for (size_t i = 0; i < count; i++, address += definition->vd_next) {
        definition = loaded(image, address, sizeof *definition);
        CHECK_EQUAL(definition->vd_version, VER_DEF_CURRENT);
        CHECK(definition->vd_cnt && !definition->vd_next == (i + 1 == count));
        size_t name = address + definition->vd_aux;
        for (int k = 0; k < definition->vd_cnt; k++) {
            const ElfW(Verdaux) *aux = loaded(image, name, sizeof *aux);
            CHECK(k || old_hash(name_of(image, aux->vda_name)) == definition->vd_hash);
            CHECK(*name_of(image, aux->vda_name) && !aux->vda_next == (k + 1 == definition->vd_cnt));
            name += aux->vda_next;
        }
        if (definition->vd_ndx == wanted)
            found = definition;
    }
    return found;
}

static void walk_symbols(const struct whole *image)
{
    const ElfW(Versym) *versions =
        loaded(image, entry(image, DT_VERSYM), image->symbol_count * sizeof *versions);
    unsigned functions = 0;
    walk_versions(image, 0);
    for (size_t i = 1; i < image->symbol_count; i++) {
        const ElfW(Sym) *symbol = symbol_at(image, i);
        const char *name = name_of(image, symbol->st_name);
        CHECK(*name && symbol->st_shndx != SHN_UNDEF);
        CHECK_EQUAL(find_old(image, name), i);
        if (has_entry(image, DT_GNU_HASH))
            CHECK_EQUAL(find_new(image, name), i);
        CHECK(walk_versions(image, versions[i] & 0x7fff));
        if (symbol->st_shndx == SHN_ABS)
            continue; /* the version's own name */
        CHECK(symbol->st_shndx < SHN_LORESERVE);
        CHECK(!image->sections || symbol->st_shndx < image->header->e_shnum);
        loaded(image, symbol->st_value, symbol->st_size ? symbol->st_size : 1);
        functions += ELF64_ST_TYPE(symbol->st_info) == STT_FUNC;
    }
    CHECK(functions >= 3);
    CHECK(!find_old(image, "malloc") && (!has_entry(image, DT_GNU_HASH) || !find_new(image, "malloc")));
}

static const ElfW(Shdr) *section_called(const struct whole *image, const char *name)
{
    const ElfW(Shdr) *names = &image->sections[image->header->e_shstrndx];
    for (int i = 1; i < image->header->e_shnum; i++)
        if (!strcmp(image->bytes + names->sh_offset + image->sections[i].sh_name, name))
            return &image->sections[i];
    return NULL;
}

static void check_place(const struct whole *image, const char *name, size_t address, size_t size)
{
    const ElfW(Shdr) *section = section_called(image, name);
    CHECK(section);
    CHECK_EQUAL(section->sh_addr, address);
    CHECK_EQUAL(section->sh_size, size);
}

static void walk_sections(struct whole *image)
{
    const ElfW(Shdr) *names = &image->sections[image->header->e_shstrndx];
    CHECK_EQUAL(names->sh_type, SHT_STRTAB);
    CHECK_EQUAL(image->sections[0].sh_type, SHT_NULL);
    for (int i = 1; i < image->header->e_shnum; i++) {
        const ElfW(Shdr) *section = &image->sections[i];
        const char *content = at(image, section->sh_offset, section->sh_size);
        CHECK(*string(at(image, names->sh_offset, names->sh_size), names->sh_size, section->sh_name));
        CHECK(section->sh_type != SHT_NULL && section->sh_type != SHT_NOBITS);
        CHECK(section->sh_link < image->header->e_shnum && is_power_of_two(section->sh_addralign));
        if (section->sh_flags & SHF_ALLOC)
            CHECK(!section->sh_size || loaded(image, section->sh_addr, section->sh_size) == content);
        if (section->sh_type == SHT_STRTAB)
            CHECK(section->sh_size && !content[section->sh_size - 1]);
        if (section->sh_type == SHT_NOTE)
            walk_notes(image, section->sh_offset, section->sh_size, section->sh_addralign);
    }
    size_t symbols = image->symbol_count;
    check_place(image, ".dynamic", (const char *)image->dynamic - image->bytes + image->load->p_vaddr,
                image->dynamic_count * sizeof *image->dynamic);
    check_place(image, ".dynstr", entry(image, DT_STRTAB), image->strings_size);
    check_place(image, ".dynsym", entry(image, DT_SYMTAB), symbols * sizeof(ElfW(Sym)));
    check_place(image, ".gnu.version", entry(image, DT_VERSYM), symbols * sizeof(ElfW(Versym)));
    CHECK(section_called(image, ".text")->sh_flags & SHF_EXECINSTR);
}

static int64_t leb128(const unsigned char **from, int is_signed)
{
    uint64_t number = 0;
    unsigned shift = 0;
    do
        number |= (uint64_t)(**from & 0x7f) << shift;
    while (shift += 7, *(*from)++ & 0x80);
    if (is_signed && (*from)[-1] & 0x40)
        number |= -1ull << shift;
    return (int64_t)number;
}

static int32_t word_at(const struct whole *image, size_t address)
{
    int32_t word;
    memcpy(&word, loaded(image, address, sizeof word), sizeof word);
    return word;
}

/* How a CIE says that its frames' addresses are encoded. */
static unsigned walk_cie(const struct whole *image, size_t address)
{
    size_t size = (uint32_t)word_at(image, address);
    const unsigned char *next = loaded(image, address + 8, size - 4), *end = next + size - 4;
    unsigned encoding = 0;
    CHECK_EQUAL(word_at(image, address + 4), 0);
    CHECK_EQUAL(*next, 1);
    const char *augmentation = string((const char *)next + 1, end - next - 1, 0);
    CHECK(*augmentation == 'z');
    next += strlen(augmentation) + 2;
    CHECK(leb128(&next, 0) > 0 && leb128(&next, 1) < 0);
    leb128(&next, 0); /* the return address's register */
    CHECK(leb128(&next, 0) <= end - next);
    while (*++augmentation) {
        CHECK(strchr("RS", *augmentation));
        if (*augmentation == 'R')
            encoding = *next++;
    }
    CHECK(next <= end);
    return encoding;
}

/* Where the frame at `address` begins, which covers what is loaded. */
static size_t walk_fde(const struct whole *image, size_t address)
{
    size_t cie = address + 4 - word_at(image, address + 4);
    CHECK_EQUAL(walk_cie(image, cie), PCREL | SDATA4);
    size_t start = address + 8 + word_at(image, address + 8);
    loaded(image, start, (uint32_t)word_at(image, address + 12));
    return start;
}

/* .eh_frame_hdr: a sorted table of where frames begin and are; .eh_frame: the frames, and a last word of 0. */
static void walk_frames(const struct whole *image, const ElfW(Phdr) *segment)
{
    size_t table = segment->p_vaddr, frames = 0;
    const unsigned char *head = loaded(image, table, 4);
    CHECK_EQUAL(head[0], 1);
    CHECK_EQUAL(head[1], PCREL | SDATA4);
    CHECK_EQUAL(head[2] & FORM, UDATA4);
    CHECK_EQUAL(head[3], DATAREL | SDATA4);
    size_t address = table + 4 + word_at(image, table + 4);
    size_t count = word_at(image, table + 8), previous = 0;
    CHECK(count && 12 + 8 * count <= segment->p_memsz);
    for (size_t i = 0; i < count; i++) {
        size_t start = table + word_at(image, table + 12 + 8 * i);
        CHECK_EQUAL(walk_fde(image, table + word_at(image, table + 16 + 8 * i)), start);
        CHECK(start > previous);
        previous = start;
    }
    while (frames < count) {
        size_t size = (uint32_t)word_at(image, address);
        CHECK(size >= 8);
        loaded(image, address + 4, size);
        if (word_at(image, address + 4)) {
            walk_fde(image, address);
            frames++;
        } else {
            walk_cie(image, address);
        }
        address += 4 + size;
    }
}

static struct whole walk(uintptr_t base)
{
    struct whole image = find_mapping(base);
    walk_header(&image);
    walk_segments(&image);
    walk_dynamic(&image);
    walk_symbols(&image);
    if (image.sections)
        walk_sections(&image);
    for (int i = 0; i < image.header->e_phnum; i++)
        if (image.segments[i].p_type == PT_GNU_EH_FRAME)
            walk_frames(&image, &image.segments[i]);
    return image;
}

static void walk_both(void)
{
    struct whole ours = walk(getauxval(AT_SYSINFO_EHDR)), kernels = walk(kernel_base());
    CHECK(ours.sections);
    CHECK_EQUAL(ours.release, kernels.release);
}

int main(int argc, char **argv)
{
    static const struct rlimit few = {4, 4};
    char line[16];
    CHECK(argc > 2);
    if (has_role(argv, "few-files")) {
        CHECK(dup2(1, 3) == 3 && setrlimit(RLIMIT_NOFILE, &few) == 0);
        exec_role(argv, "few-files-now");
    }
    if (has_role(argv, "few-files-now"))
        CHECK(close(3) == 0);
    if (has_role(argv, "later")) {
        CHECK(write(1, "up\n", 3) == 3);
        while (read(0, line, sizeof line) > 0) {
            walk_both();
            CHECK(write(1, "ok\n", 3) == 3);
        }
    }
    walk_both();
    return success();
}
