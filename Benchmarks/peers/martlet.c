#include "martlet.h"
#include <stdio.h>
#include <string.h>

static const uint8_t tenant[16] = {0x01, 0x96, 0xf3, 0xa0, 0x7c, 0x5e, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1};
static const char aggregateType[] = "bench";

// Of the positions that were acknowledged.
static struct { uint64_t count, sum; } acknowledgedPositions;

// MARK: Requests

// An event differs from others in its id and in its payload's number.
static struct { Buffer event; size_t payloadStart; } template;
enum { idStart = 2 };

static void makeTemplate(const Options *options) {
    Buffer metadata = {0};
    uint8_t id[16] = {0};
    putBytes(&template.event, 1, id, sizeof id);
    putBytes(&template.event, 2, EVENT_TYPE, strlen(EVENT_TYPE));
    static const char contentType[] = "application/json";
    putBytes(&template.event, 3, contentType, strlen(contentType));
    putNumber(&template.event, 4, 1);
    putBytes(&metadata, 1, USER, strlen(USER));
    putBytes(&metadata, 4, CORRELATION, strlen(CORRELATION));
    putBytes(&metadata, 5, CAUSATION, strlen(CAUSATION));
    putMessage(&template.event, 5, &metadata);
    putBytes(&template.event, 15, payloadText(options, 0), (size_t)options->payload);
    template.payloadStart = bufferCount(&template.event) - (size_t)options->payload;
}

static void putTenant(Buffer *request) {
    request->start = request->end = 0;
    putBytes(request, 1, tenant, sizeof tenant);
}

enum { nameBytes = 2 + sizeof aggregateType - 1 + 2 + 16 };

// An AggregateName as a field.
static void putName(Buffer *buffer, int field, uint64_t aggregate) {
    uint8_t id[16] = {0x01, 0x96, 0xf3, 0xa0, 0x7c, 0x5e, 0x70, 0, 0x80};
    for (int i = 0; i < 6; i++) id[15 - i] = (uint8_t)(aggregate >> (8 * i));
    putVarint(buffer, (uint64_t)field << 3 | 2);
    putVarint(buffer, nameBytes);
    putBytes(buffer, 1, aggregateType, sizeof aggregateType - 1);
    putBytes(buffer, 2, id, sizeof id);
}

void martletAppend(Run *run, const Client *client, Buffer *request) {
    if (template.event.end == 0) makeTemplate(run->options);
    size_t eventBytes = bufferCount(&template.event), expectedBytes = 1 + varintBytes(client->version);
    size_t eventField = 1 + varintBytes(eventBytes) + eventBytes;
    putTenant(request);
    putVarint(request, 2 << 3 | 2);
    putVarint(request, 2 + nameBytes + 2 + expectedBytes + (size_t)client->batch * eventField);
    putName(request, 1, client->aggregate);
    putVarint(request, 2 << 3 | 2);
    putVarint(request, expectedBytes);
    putNumber(request, 4, client->version);
    for (int i = 0; i < client->batch; i++) {
        uint8_t *at = bufferReserve(request, eventField), *begin = at;
        *at++ = 3 << 3 | 2;
        at = varintAt(at, eventBytes);
        memcpy(at, template.event.bytes, template.payloadStart);
        eventID(at + idStart);
        memcpy(at + template.payloadStart, payloadText(run->options, client->firstNumber + (uint64_t)i),
               (size_t)run->options->payload);
        request->end += (size_t)(at + eventBytes - begin);
    }
}

void martletLoad(uint64_t aggregate, Buffer *request) {
    putTenant(request);
    putName(request, 2, aggregate);
}

void martletSubscribe(Buffer *request) { putTenant(request); }

void martletHead(Buffer *request) { putTenant(request); }

// MARK: Answers

void martletAppended(Run *run, Client *client, const uint8_t *bytes, size_t count) {
    uint64_t first = 0, last = 0, firstVersion = 0, lastVersion = 0, batch = (uint64_t)client->batch;
    const uint8_t *at = bytes, *end = bytes + count;
    for (Field field; (field = takeField(&at, end)).number;) {
        if (field.number == 1) {
            const uint8_t *inner = field.bytes, *innerEnd = field.bytes + field.count;
            for (Field part; (part = takeField(&inner, innerEnd)).number;) {
                if (part.number == 2) firstVersion = part.value;
                if (part.number == 3) lastVersion = part.value;
            }
        }
        if (field.number == 2) first = field.value;
        if (field.number == 3) last = field.value;
        if (field.number == 5 && field.value) fail("Martlet: a new append was answered as a replay");
    }
    if (first == 0 || last - first + 1 != batch || firstVersion != client->version + 1
        || lastVersion != client->version + batch)
        fail("Martlet: %lu events after version %lu got the positions %lu to %lu and the versions %lu to %lu", batch,
             client->version, first, last, firstVersion, lastVersion);
    acknowledgedPositions.count += batch;
    acknowledgedPositions.sum += (first + last) * batch / 2;
    completed(run, client, batch);
}

// One RecordedEvent: the position stands first and the version after it; the payload stands last.
static void takeEvent(EventStream *stream, const uint8_t *at, const uint8_t *end) {
    if (at == end || *at++ != 1 << 3) fail("Martlet: an event without a position");
    uint64_t position = takeVarint(&at, end);
    if (at == end || *at++ != 2 << 3) fail("Martlet: an event without a version");
    uint64_t version = takeVarint(&at, end);
    bool follows = stream->isLoad ? version == stream->version + 1 && position > stream->position
                                  : position == stream->position + 1;
    if (!follows)
        fail("Martlet: version %lu at position %lu came after version %lu at position %lu", version, position,
             stream->version, stream->position);
    stream->position = position;
    stream->version = version;
    stream->events++;
    const Options *options = stream->run->options;
    size_t payload = (size_t)options->payload, head = 1 + varintBytes(payload);
    const uint8_t *start = end - payload - head;
    if ((size_t)(end - at) < payload + head || *start != (15 << 3 | 2)) fail("Martlet: an event without its payload");
    if (stream->isLive) delivered(stream->run, payloadNumber(start + head));
}

static void takeSignal(EventStream *stream, Field field) {
    const uint8_t *at = field.bytes, *end = field.bytes + field.count;
    Field first = takeField(&at, end);
    if (stream->isLoad) {
        // The view.
        if (field.number == 2 && first.number == 1) stream->viewVersion = first.value;
    } else if (field.number == 4) {
        if (first.value != stream->position) fail("Martlet: caught up at %lu, not %lu", first.value, stream->position);
        stream->caughtUp = true;
    }
}

size_t martletEvents(EventStream *stream, const uint8_t *bytes, size_t count) {
    const uint8_t *at = bytes, *end = bytes + count;
    uint64_t before = stream->events;
    size_t entries = 0;
    while (at < end) {
        const uint8_t *begin = at;
        Field field = takeField(&at, end);
        if (field.number == 1) {
            takeEvent(stream, field.bytes, field.bytes + field.count);
            entries += (size_t)(at - begin);
        } else if (field.bytes) {
            takeSignal(stream, field);
        } else if (field.value) {
            fail("Martlet: an event waits for %lu bytes of credit", field.value);
        }
    }
    if (!stream->isLive) progressed(stream->run, stream->events - before);
    return entries;
}

void martletCheckLoad(const EventStream *stream) {
    uint64_t expected = (uint64_t)stream->run->options->events;
    if (stream->events != expected || stream->viewVersion != expected)
        fail("Martlet: %lu events of version %lu instead of %lu", stream->events, stream->viewVersion, expected);
}

void martletCheckHead(Run *run, const uint8_t *bytes, size_t count) {
    uint64_t head = 0;
    const uint8_t *at = bytes, *end = bytes + count;
    Field field = takeField(&at, end);
    if (field.number == 1) {
        at = field.bytes;
        Field position = takeField(&at, field.bytes + field.count);
        if (position.number == 1) head = position.value;
    }
    run->stored = (long)head;
    if (run->errors) return;
    if (acknowledgedPositions.count != head || acknowledgedPositions.sum != head * (head + 1) / 2)
        fail("Martlet: the positions acknowledged are not those from 1 to %lu, once each", head);
}

Reason martletReason(const uint8_t *bytes, size_t count) {
    Reason reason = {"no reason"};
    uint64_t code = 0;
    const uint8_t *at = bytes, *end = bytes + count;
    for (Field field; (field = takeField(&at, end)).number;) {
        if (field.number == 1) code = field.value;
        if (field.number == 2)
            snprintf(reason.text, sizeof reason.text, "%lu %.*s", code, (int)field.count, (const char *)field.bytes);
        if (field.number == 3) {
            size_t used = strlen(reason.text);
            snprintf(reason.text + used, sizeof reason.text - used, ": %.*s", (int)field.count,
                     (const char *)field.bytes);
        }
    }
    return reason;
}
