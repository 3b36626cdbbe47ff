// Protocol buffers by hand: as much as the drivers over gRPC and over Martlet's own protocol need.
#pragma once
#include "bench.h"

static inline uint8_t *varintAt(uint8_t *at, uint64_t value) {
    for (; value > 0x7f; value >>= 7) *at++ = (uint8_t)value | 0x80;
    *at++ = (uint8_t)value;
    return at;
}

static inline size_t varintBytes(uint64_t value) {
    size_t count = 1;
    while (value >>= 7) count++;
    return count;
}

static inline void putVarint(Buffer *buffer, uint64_t value) {
    uint8_t *begin = bufferReserve(buffer, 10);
    buffer->end += (size_t)(varintAt(begin, value) - begin);
}

static inline void putBytes(Buffer *buffer, int field, const void *bytes, size_t count) {
    putVarint(buffer, (uint64_t)field << 3 | 2);
    putVarint(buffer, count);
    bufferAppend(buffer, bytes, count);
}

static inline void putNumber(Buffer *buffer, int field, uint64_t value) {
    putVarint(buffer, (uint64_t)field << 3);
    putVarint(buffer, value);
}

// The message's buffer is empty afterwards.
static inline void putMessage(Buffer *buffer, int field, Buffer *message) {
    putBytes(buffer, field, message->bytes + message->start, bufferCount(message));
    message->start = message->end = 0;
}

static inline uint64_t takeVarint(const uint8_t **at, const uint8_t *end) {
    uint64_t value = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    fail("a number that does not end");
}

typedef struct {
    int number;  // 0: there is no further field
    uint64_t value;
    const uint8_t *bytes;  // of a field with a length
    size_t count;
} Field;

static inline Field takeField(const uint8_t **at, const uint8_t *end) {
    if (*at >= end) return (Field){0};
    uint64_t key = takeVarint(at, end);
    Field field = {.number = (int)(key >> 3)};
    switch (key & 7) {
    case 0:
        field.value = takeVarint(at, end);
        return field;
    case 1:
    case 5:
        field.count = (key & 7) == 1 ? 8 : 4;
        break;
    case 2:
        field.count = takeVarint(at, end);
        break;
    default:
        fail("a field of an unknown wire type");
    }
    if (field.count > (uint64_t)(end - *at)) fail("a field beyond its message");
    field.bytes = *at;
    *at += field.count;
    return field;
}
