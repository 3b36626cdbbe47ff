// As much of gRPC as the drivers need, over libnghttp2: unary calls, streams from the server, streams both ways.
#pragma once
#include "net.h"

typedef struct Channel Channel;  // one HTTP/2 connection
typedef struct Call Call;
struct Call {
    void (*message)(Call *call, const uint8_t *bytes, size_t count);
    void (*closed)(Call *call, const char *problem);  // NULL: status 0
    void *owner;
    void *other;
    // Used by the channel.
    Buffer in, body;
    int stream, status;
    bool isOpen, isDeferred;  // more is to be sent; nothing is left to send
    char statusMessage[160];
};

Channel *grpcConnect(const Options *options);
// `request` is copied. The call stays the caller's, and may be started again once it is closed.
void grpcStart(Channel *channel, Call *call, const char *path, const uint8_t *request, size_t count);
// A call that sends more than one message, each by grpcSend, and does not end.
void grpcOpen(Channel *channel, Call *call, const char *path);
void grpcSend(Channel *channel, Call *call, const uint8_t *message, size_t count);
void grpcCancel(Channel *channel, Call *call);
