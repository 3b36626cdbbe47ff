#pragma once
#include <stdint.h>

/// How many blocks of memory the process has asked for, growing ones again included. The count stands in for `malloc`
/// and its kin wherever the program or a library calls them; glibc only.
uint64_t martlet_allocations(void);

/// CPU time of the calling thread, in nanoseconds.
int64_t martlet_thread_cpu_nanos(void);
