// Martlet's messages, the same for its own protocol and for gRPC: requests are written into one buffer, answers are
// read as far as it takes to check them.
#pragma once
#include "protobuf.h"

// What the drivers grant a stream, as credit or as its HTTP/2 window. Half of it used: granted again.
enum { streamWindowBytes = 1024 * 1024, callsMax = 4096 };

// Each empties the buffer and writes one request.
void martletAppend(Run *run, const Client *client, Buffer *request);
void martletLoad(uint64_t aggregate, Buffer *request);
void martletSubscribe(Buffer *request);  // from the tenant's first event
void martletHead(Buffer *request);

// The AppendResponse to the client's call. Checks its positions and versions; the call is over.
void martletAppended(Run *run, Client *client, const uint8_t *bytes, size_t count);

// A stream of events: an aggregate's, or all of the tenant from the start.
typedef struct {
    Run *run;
    bool isLoad, isLive, caughtUp;
    uint64_t events, position, version, viewVersion;
} EventStream;

// One LoadResponse or SubscribeResponse. Checks that the events follow those before. Returns the bytes of its entries,
// which are what credit is counted by.
size_t martletEvents(EventStream *stream, const uint8_t *bytes, size_t count);
// After the end of a load.
void martletCheckLoad(const EventStream *stream);

// The HeadResponse at the end of a run: the events stored. All positions up to it were acknowledged, once each.
void martletCheckHead(Run *run, const uint8_t *bytes, size_t count);

// The code and the reason of a Status, as text.
typedef struct { char text[200]; } Reason;
Reason martletReason(const uint8_t *bytes, size_t count);
