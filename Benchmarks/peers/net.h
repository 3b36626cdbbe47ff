// Connections of one thread over epoll, with TLS or without.
#pragma once
#include "bench.h"

typedef struct Connection Connection;
struct Connection {
    int descriptor;
    void *tls;
    Buffer out;
    bool marked, pending, wantsWrite;
    Connection *nextMarked, *nextPending;
    void (*received)(Connection *connection, const uint8_t *bytes, size_t count);
    void (*prepare)(Connection *connection);  // puts into `out` what is to be sent; may be NULL
    void *owner;
};

// Connects and shakes hands, waiting for both. `protocol` is offered by ALPN where it is given.
Connection *netConnect(const Options *options, const char *protocol);
// Has bytes to send by the end of this turn.
void netMark(Connection *connection);
// Sends what is marked, then receives for at most that long, then sends what that gave rise to.
void netTurn(Run *run, uint64_t waitNanoseconds);
