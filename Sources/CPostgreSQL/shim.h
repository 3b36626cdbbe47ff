#pragma once
#include <libpq-fe.h>
#include <sys/eventfd.h>

// A descriptor that wakes a thread out of poll().
static inline int martlet_wake_up_descriptor(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
