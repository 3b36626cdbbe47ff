// As much of gRPC as the driver needs: unary calls and streams from the server, over libnghttp2.
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
    char statusMessage[160];
};

Channel *grpcConnect(const Options *options);
// `request` is copied. The call stays the caller's, and may be started again once it is closed.
void grpcStart(Channel *channel, Call *call, const char *path, const uint8_t *request, size_t count);
void grpcCancel(Channel *channel, Call *call);
