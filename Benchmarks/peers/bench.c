// Flags, clock, histogram, buffers, events.
#define _GNU_SOURCE
#include "bench.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

Options parseOptions(int count, char **arguments) {
    Options options = {
        .host = "127.0.0.1", .method = "plain", .clients = 1, .subscribers = 1, .batch = 1, .payload = 256,
        .aggregates = 100, .events = 1000, .pageEvents = 1000, .history = 200000, .warmup = 0.5, .seconds = 3,
    };
    if (count < 2) fail("usage: %s append|load|read|subscribe [--flag value ...]", *arguments);
    options.work = arguments[1];
    for (int i = 2; i < count; i++) {
        const char *name = arguments[i];
        if (strcmp(name, "--unconditional") == 0) {
            options.unconditional = true;
            continue;
        }
        if (++i >= count) fail("%s takes a value", name);
        const char *value = arguments[i];
        struct { const char *name; int *place; } numbers[] = {
            {"--port", &options.port}, {"--clients", &options.clients}, {"--connections", &options.connections},
            {"--subscribers", &options.subscribers}, {"--subscriber-connections", &options.subscriberConnections},
            {"--batch", &options.batch}, {"--payload", &options.payload},
            {"--aggregates", &options.aggregates}, {"--events", &options.events}, {"--page", &options.pageEvents},
            {"--server-pid", &options.serverPID},
        };
        struct { const char *name; const char **place; } texts[] = {
            {"--host", &options.host}, {"--tls", &options.tls}, {"--conninfo", &options.target},
            {"--file", &options.target}, {"--method", &options.method},
        };
        struct { const char *name; double *place; } reals[] = {
            {"--rate", &options.rate}, {"--warmup", &options.warmup}, {"--seconds", &options.seconds},
        };
        bool known = strcmp(name, "--history") == 0;
        if (known) options.history = atol(value);
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (strcmp(name, numbers[k].name) == 0) { *numbers[k].place = atoi(value); known = true; }
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            if (strcmp(name, texts[k].name) == 0) { *texts[k].place = value; known = true; }
        for (size_t k = 0; k < sizeof reals / sizeof *reals; k++)
            if (strcmp(name, reals[k].name) == 0) { *reals[k].place = atof(value); known = true; }
        if (!known) fail("%s: there is no such flag", name);
    }
    if (options.connections == 0) options.connections = options.clients;
    if (options.subscriberConnections == 0) options.subscriberConnections = options.subscribers;
    if (options.payload < 40) fail("--payload %d: an event has at least 40 bytes of payload", options.payload);
    if (options.clients < 1 || options.batch < 1) fail("--clients and --batch are at least 1");
    return options;
}

uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t randomNumber(void) {
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

void histogramAdd(Histogram *histogram, uint64_t value) {
    int shift = value < 64 ? 0 : 58 - __builtin_clzll(value);
    size_t bucket = value < 64 ? (size_t)value : (size_t)shift * 64 + (size_t)(value >> shift);
    size_t last = sizeof histogram->counts / sizeof *histogram->counts - 1;
    histogram->counts[bucket < last ? bucket : last]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max) histogram->max = value;
}

double histogramPercentile(const Histogram *histogram, double percentile) {
    uint64_t rank = (uint64_t)((double)histogram->count * percentile / 100), seen = 0;
    for (size_t bucket = 0; bucket < sizeof histogram->counts / sizeof *histogram->counts; bucket++) {
        seen += histogram->counts[bucket];
        if (seen > rank) {
            if (bucket < 128) return (double)bucket;
            size_t shift = bucket / 64 - 1;
            double middle = ((double)(bucket - shift * 64) + 0.5) * (double)(1ull << shift);
            return middle < (double)histogram->max ? middle : (double)histogram->max;
        }
    }
    return (double)histogram->max;
}

uint8_t *bufferReserve(Buffer *buffer, size_t count) {
    if (buffer->capacity - buffer->end < count) {
        size_t held = bufferCount(buffer);
        if (buffer->start >= count + held / 4 && buffer->capacity - held >= count) {
            memmove(buffer->bytes, buffer->bytes + buffer->start, held);
        } else {
            size_t capacity = (held + count) * 2 + 256;
            uint8_t *bytes = malloc(capacity);
            if (bytes == NULL) fail("no memory for %zu bytes", capacity);
            if (held) memcpy(bytes, buffer->bytes + buffer->start, held);
            free(buffer->bytes);
            buffer->bytes = bytes;
            buffer->capacity = capacity;
        }
        buffer->start = 0;
        buffer->end = held;
    }
    return buffer->bytes + buffer->end;
}

void bufferAppend(Buffer *buffer, const void *bytes, size_t count) {
    memcpy(bufferReserve(buffer, count), bytes, count);
    buffer->end += count;
}

void bufferConsume(Buffer *buffer, size_t count) {
    buffer->start += count;
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}

const char *payloadText(const Options *options, uint64_t number) {
    static char *text;
    if (text == NULL) {
        text = malloc((size_t)options->payload + 1);
        memset(text, 'x', (size_t)options->payload);
        static const char head[] = "{\"n\":\"000000000000\",\"text\":\"";
        memcpy(text, head, sizeof head - 1);
        memcpy(text + options->payload - 2, "\"}", 3);
    }
    for (int i = numberDigits - 1; i >= 0; i--, number /= 10) text[numberOffset + i] = (char)('0' + number % 10);
    return text;
}

uint64_t payloadNumber(const uint8_t *payload) {
    uint64_t number = 0;
    for (int i = 0; i < numberDigits; i++) number = number * 10 + (uint64_t)(payload[numberOffset + i] - '0');
    return number;
}

void aggregateText(uint64_t number, char text[static uuidTextCount + 1]) {
    snprintf(text, uuidTextCount + 1, "0196f3a0-7c5e-7000-8000-%012llx", (unsigned long long)(number & 0xffffffffffff));
}

void eventID(uint8_t bytes[static 16]) {
    static uint64_t counter;
    uint64_t high = 0x0196f3a100000000u + (counter++ << 16);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(high >> (56 - 8 * i));
    for (int i = 8; i < 16; i += 4) {
        uint32_t low = randomNumber();
        memcpy(bytes + i, &low, 4);
    }
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
}

void uuidText(const uint8_t bytes[static 16], char text[static uuidTextCount + 1]) {
    static const char digits[] = "0123456789abcdef";
    char *out = text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *out++ = '-';
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = 0;
}
