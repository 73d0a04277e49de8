/* How the wall line of a clock has gone, piece by piece, for the stamps of files (inode_set_ctime_current, fs/inode.c).
 *
 * A stamp is as old as the kernel's last tick, several milliseconds, in which a line may move many times. Since Linux 6.13 a
 * stamp that has been looked at is followed by a finer one, and no file has an older one from then on (multigrain timestamps,
 * Documentation/filesystems/multigrain-ts.rst): so a file that is touched as the line moves tells the stamps from before
 * and from behind apart. An older kernel's next tick does.
 */
#include "stamps.h"

#include "tracer.h"

#define NSEC_PER_SEC 1000000000LL
/* linux/time.h */
#define CLOCK_REALTIME 0
#define CLOCK_REALTIME_COARSE 5
#define CLOCK_MONOTONIC_COARSE 6
#define STATX_CTIME 0x80 /* linux/stat.h */
#define AT_EMPTY_PATH 0x1000
#define OWN_MODE 0600
#define LOOK_NS 100000 /* a tick is 1 to 10 ms */
#define LARGEST_RECORD 256 /* struct statx */

static int64_t read_ns(int clock)
{
    struct timespec now;
    syscall2(NR_clock_gettime, clock, &now);
    return now.sec * NSEC_PER_SEC + now.nsec;
}

/* How far the host's wall clock is ahead of its monotonic one: two coarse clocks of one tick tell it. */
static int64_t ahead_ns(void)
{
    int64_t wall_ns, tick_ns = read_ns(CLOCK_MONOTONIC_COARSE), former_ns;
    do {
        former_ns = tick_ns;
        wall_ns = read_ns(CLOCK_REALTIME_COARSE);
        tick_ns = read_ns(CLOCK_MONOTONIC_COARSE);
    } while (tick_ns != former_ns);
    return wall_ns - tick_ns;
}

static int64_t change_time_ns(long file)
{
    struct { uint64_t rest[8]; struct { int64_t sec; uint32_t nsec; int32_t pad; } atime, btime, ctime, mtime; uint64_t more[16]; } found;
    if (syscall5(NR_statx, file, "", AT_EMPTY_PATH, STATX_CTIME, &found) < 0)
        return 0;
    return found.ctime.sec * NSEC_PER_SEC + found.ctime.nsec;
}

/* The first stamp of files that are written from now on. */
static int64_t new_stamp_ns(const struct stamps *stamps)
{
    const struct timespec nap = {0, LOOK_NS};
    if (stamps->is_fine) { /* the first one may still be a coarse one, which files from before have too */
        int64_t first_ns = syscall2(NR_fchmod, stamps->file, OWN_MODE) < 0 ? 0 : change_time_ns(stamps->file);
        int64_t stamp_ns = syscall2(NR_fchmod, stamps->file, OWN_MODE) < 0 ? 0 : change_time_ns(stamps->file);
        if (first_ns && stamp_ns)
            return stamp_ns;
    }
    int64_t former_ns = read_ns(CLOCK_REALTIME_COARSE), now_ns = former_ns;
    while (now_ns == former_ns) {
        syscall2(NR_nanosleep, &nap, 0);
        now_ns = read_ns(CLOCK_REALTIME_COARSE);
    }
    return now_ns;
}

/* `file`: a descriptor of an empty one that nobody else has. */
__attribute__((visibility("default")))
long begin_stamps(struct stamps *stamps, long file)
{
    stamps->file = file;
    stamps->is_fine = 1;
    for (int i = 0; i < 3 && stamps->is_fine; i++) {
        int64_t former_ns = change_time_ns(file);
        if (new_stamp_ns(stamps) == former_ns)
            stamps->is_fine = 0;
    }
    return stamps->is_fine;
}

static int is_same(const struct stamp_piece *one, const struct stamp_piece *other)
{
    return one->mult == other->mult && one->shift == other->shift && one->sec == other->sec && one->nsec == other->nsec
        && (!one->mult || one->start_ns == other->start_ns);
}

/* Of the older half of the line every second piece is forgotten, but for the first: its stamps read as those before. */
static void thin_out(struct stamps *stamps)
{
    uint64_t to = 0;
    for (uint64_t i = 0; i < stamps->count; i++)
        if (i >= stamps->count / 2 || i % 2 == 0)
            stamps->pieces[to++] = stamps->pieces[i];
    stamps->count = to;
}

/* Its memory is another one from now on, which is zero, or was that of the history of another clock. */
__attribute__((visibility("default")))
void move_stamps(struct stamps *to, const struct stamps *from)
{
    to->file = from->file;
    to->is_fine = from->is_fine;
    to->limit_ns = to->kept_count = 0; /* only programs set stamps */
    for (uint64_t i = 0; i < from->count; i++)
        to->pieces[i] = from->pieces[i];
    to->count = from->count;
}

/* The wall line goes on as `piece` says but for from_ns. Requires: no program reads the clock meanwhile. */
__attribute__((visibility("default")))
void note_piece(struct stamps *stamps, const struct stamp_piece *piece)
{
    if (stamps->count && is_same(piece, &stamps->pieces[stamps->count - 1]))
        return;
    if (stamps->count == STAMP_PIECES)
        thin_out(stamps);
    struct stamp_piece *next = &stamps->pieces[stamps->count];
    *next = *piece;
    next->from_ns = new_stamp_ns(stamps);
    stamps->count++;
}

/* Likewise, as on the page, which is being written. */
void note_page(struct stamps *stamps, const struct vdso_page *page)
{
    const struct vdso_clock *wall = &page->clocks[CLOCK_REALTIME];
    const struct vdso_line *line = &page->lines[wall->line];
    struct stamp_piece piece = {.start_ns = ahead_ns(), .sec = wall->sec, .nsec = wall->nsec};
    if (wall->read & VDSO_TICKING) { /* as if since the host's monotonic clock read 0 */
        piece.mult = 1;
    } else if (wall->read & VDSO_MOVING) {
        piece.mult = line->mult;
        piece.shift = line->shift;
        piece.start_ns += line->start_ns;
    }
    note_piece(stamps, &piece);
}

/* Return what the clock has for a stamp of the host, in its place; 0: it is as it is. `cut_ns` as in find_stamp. */
__attribute__((visibility("default")))
int read_stamp(const struct stamps *stamps, uint32_t cut_ns, int64_t *sec, uint32_t *nsec)
{
    return find_stamp(stamps, read_ns(CLOCK_REALTIME), cut_ns, sec, nsec);
}

/* A program has set a stamp, which is to be read as it was set. Of a set the one that was set first is forgotten. */
__attribute__((visibility("default")))
void keep_stamp(struct stamps *stamps, int64_t sec, uint32_t nsec)
{
    int64_t stamp_ns = stamp_ns_of(sec, nsec);
    if (!stamps->count || stamp_ns < stamps->pieces[0].from_ns || is_kept_stamp(stamps, stamp_ns)
        || stamp_ns - read_ns(CLOCK_REALTIME) > FORESEEN_NS)
        return;
    int64_t *set = &stamps->kept[stamp_set_of(stamp_ns)];
    for (int i = STAMPS_IN_SET - 1; i > 0; i--)
        set[i] = set[i - 1];
    set[0] = stamp_ns;
    stamps->kept_count++;
}

/* --- system calls --- */

unsigned stamp_row(const struct stamp_table *table, uint64_t arch, uint64_t nr)
{
    for (int i = 0; i < STAMP_KINDS; i++)
        if (table->calls[i].arch == arch && nr < STAMP_CALLS)
            return table->calls[i].rows[nr];
    return 0;
}

/* At the exit of a call that has left stamps at `address` in a program: they become the clock's. Returns whether that could be
 * done. */
int tells_stamps(const struct stamps *stamps, uint64_t tid, const struct stamp_layout *layout, uint64_t address)
{
    unsigned char record[LARGEST_RECORD];
    unsigned first = LARGEST_RECORD, end = 0, size = layout->second_size + layout->nanosecond_size;
    for (unsigned i = 0; i < layout->count; i++) {
        first = layout->places[i] < first ? layout->places[i] : first;
        end = layout->places[i] + size > end ? layout->places[i] + size : end;
    }
    struct span here = {record, end - first}, there = {(void *)(address + first), end - first};
    if (syscall6(NR_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0) != (long)here.size)
        return 0;
    int has_changed = 0;
    for (unsigned i = 0; i < layout->count; i++) {
        unsigned char *at = record + layout->places[i] - first;
        int64_t sec = word_at(at, layout->second_size);
        uint32_t nsec = word_at(at + layout->second_size, layout->nanosecond_size);
        if (!read_stamp(stamps, layout->nanosecond_size ? 1 : NSEC_PER_SEC, &sec, &nsec))
            continue;
        put_word(at, sec, layout->second_size); /* cut, as by the kernel (cp_new_stat, fs/stat.c) */
        put_word(at + layout->second_size, nsec, layout->nanosecond_size);
        has_changed = 1;
    }
    return !has_changed || syscall6(NR_process_vm_writev, tid, (long)&here, 1, (long)&there, 1, 0) == (long)here.size;
}

static int ends_with(const char *text, long size, const char *end)
{
    long length = 0;
    while (end[length])
        length++;
    for (long i = 1; i <= length && size >= length; i++)
        if (text[size - i] != end[length - i])
            return 0;
    return size >= length;
}

/* Whether a file that has been opened may tell the machine's time. No file system is asked: it may be that of a program that
 * waits for its tracer (FUSE). */
int opens_time(uint64_t tid, uint64_t fd)
{
    char path[2 * PROCESS_PATH], name[512];
    process_path(path, tid, "/fd/");
    char *end = path;
    while (*end)
        end++;
    *put_number(end, fd) = 0;
    long size = syscall4(NR_readlinkat, AT_FDCWD, path, name, sizeof name);
    return size < 0 || size == sizeof name || ends_with(name, size, "/stat") || ends_with(name, size, "/uptime")
        || ends_with(name, size, "/utmp");
}
