/* What the tracer hands to the loader. */
#ifndef VDSOTIME_LOADER_H
#define VDSOTIME_LOADER_H

/* Where it stands: so far below the new program's stack pointer, of which the loader itself uses less. Behind the
 * kernel's vDSO there is not room for both it and the code. */
#define PARAMETERS_BELOW_STACK 1024

#ifndef __ASSEMBLER__
#include "page.h"

/* In which of these it fails, it tells. */
enum step { OPEN = 1, MAP_IMAGE, COMPARE_COOKIE, MAP_CLOCK_PAGE, MAP_PROCESS_PAGE, PROTECT_PAGES };

struct loader_parameters {
    uint64_t entry;          /* where the kernel would have started the program */
    uint64_t address;        /* where to map the memfd: just below the kernel's vDSO */
    uint64_t sysinfo_ehdr;   /* address of the value of AT_SYSINFO_EHDR on the stack */
    uint64_t first_page;     /* of the memfd's part for this kind of program, */
    uint64_t mapping_length; /* which is header pages, image and, of some kinds, the history of the wall line (stamps.h) */
    uint64_t stamps_page;    /* where that is, for those that map it apart, */
    uint64_t stamps_length;  /* and how large; 0: there is none */
    uint64_t cookie[2];      /* what that part's second page begins with */
    struct vdso_process process;
    char path[40];           /* "/proc/PID/fd/N" of the memfd */
};

_Static_assert(sizeof(struct loader_parameters) == 192, "loader_parameters");
#endif

#endif
