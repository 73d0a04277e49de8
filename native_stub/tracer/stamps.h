/* Time stamps of files as the clock has them: how its wall line has gone, and what system calls tell stamps. */
#ifndef VDSOTIME_STAMPS_H
#define VDSOTIME_STAMPS_H

#include "program/page.h"
#include "program/stamps.h"

#define STAMP_CALLS 512
#define STAMP_LAYOUTS 16
#define STAMP_KINDS 2 /* of system calls */

/* Where a system call leaves stamps. */
struct stamp_layout {
    uint16_t argument;     /* which one points there, */
    uint16_t second_size;  /* how large their fields are, */
    uint16_t nanosecond_size; /* which are one behind the other, */
    uint16_t count;
    uint16_t places[4];    /* and where. */
};

/* Of one kind of system call. */
struct stamp_calls {
    uint64_t arch;                 /* AUDIT_ARCH_... */
    uint8_t rows[STAMP_CALLS];     /* by number: 0 for none of these, a layout's number, or enum file_call */
};

/* Other calls about files (tracer/calls/files.py): one may open a file of /proc that tells the time, or read it again; and that by
 * which a program asks for more (loader_failed.h). */
enum file_call { OPENS_FILE = STAMP_LAYOUTS, REWINDS_FILE, ASKS_FOR_MORE, SETS_STAMPS };

/* What the tracer knows of each kind of system call there is. */
struct stamp_table {
    struct stamp_layout layouts[STAMP_LAYOUTS];
    struct stamp_calls calls[STAMP_KINDS];
};

struct registers;
struct syscall_info;
unsigned stamp_row(const struct stamp_table *table, uint64_t arch, uint64_t nr);
int tells_stamps(const struct stamps *stamps, uint64_t tid, const struct stamp_layout *layout, uint64_t address);
int opens_time(uint64_t tid, uint64_t fd);

void move_stamps(struct stamps *to, const struct stamps *from);
long begin_stamps(struct stamps *stamps, long file);
void note_piece(struct stamps *stamps, const struct stamp_piece *piece);
void note_page(struct stamps *stamps, const struct vdso_page *page);
int read_stamp(const struct stamps *stamps, uint32_t cut_ns, int64_t *sec, uint32_t *nsec);
void keep_stamp(struct stamps *stamps, int64_t sec, uint32_t nsec);

#endif
