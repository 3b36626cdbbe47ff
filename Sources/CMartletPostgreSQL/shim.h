#pragma once
#include <libpq-fe.h>
#include <poll.h>
#include <sys/eventfd.h>

// A descriptor that wakes a thread out of poll().
static inline int martlet_wake_up_descriptor(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

// Whether something can be read from a socket, be it that the other end has closed it.
static inline int martlet_is_readable(int socket) {
    struct pollfd descriptor = {.fd = socket, .events = POLLIN};
    return poll(&descriptor, 1, 0) != 0;
}
