/* What a look at a task tells. */
#ifndef VDSOTIME_LOOK_H
#define VDSOTIME_LOOK_H

#include <stdint.h>

struct sample {
    uint64_t tid;
    uint64_t is_known; /* it was blocked in this call when it had run this often */
    uint64_t is_busy, has_run;
    uint64_t state; /* a letter, as in /proc/PID/stat */
    uint64_t runs;
    uint64_t nr, arguments[6], stack, counter; /* the call that it is blocked in; nr is -1 where it is in none */
};

#endif
