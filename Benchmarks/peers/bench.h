// What all drivers share: flags, clock, histogram, events, the loop of calls, results.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// MARK: Flags

typedef struct {
    const char *work;    // append, load, read or subscribe
    const char *host;
    int port;
    const char *tls;     // the CA's file; NULL: without TLS
    const char *target;  // --conninfo or --file
    const char *method;  // PostgreSQL: plain or message-db; UmaDB: subscribe; Martlet over gRPC: session
    int clients, connections, subscribers, subscriberConnections, batch, payload, aggregates, events, pageEvents;
    long history;
    double rate, warmup, seconds;
    int serverPID;
    bool unconditional;  // UmaDB without an append condition
} Options;

Options parseOptions(int count, char **arguments);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// MARK: Clock and histogram

uint64_t nanoseconds(void);
uint32_t randomNumber(void);

// Log-linear: 64 buckets for each power of two, so that a percentile is off by less than 1.6 %.
typedef struct {
    uint64_t counts[64 * 44];
    uint64_t count, sum, max;
} Histogram;

void histogramAdd(Histogram *histogram, uint64_t value);
double histogramPercentile(const Histogram *histogram, double percentile);

// MARK: Buffers

typedef struct {
    uint8_t *bytes;
    size_t start, end, capacity;
} Buffer;

void bufferAppend(Buffer *buffer, const void *bytes, size_t count);
uint8_t *bufferReserve(Buffer *buffer, size_t count);
void bufferConsume(Buffer *buffer, size_t count);
static inline size_t bufferCount(const Buffer *buffer) { return buffer->end - buffer->start; }

// MARK: Events

#define EVENT_TYPE "BenchHappened"
#define USER "user-4711"
#define CORRELATION "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a0"
#define CAUSATION "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a1"
#define METADATA_JSON "{\"user\":\"" USER "\",\"correlation\":\"" CORRELATION "\",\"causation\":\"" CAUSATION "\"}"
enum { uuidTextCount = 36, numberDigits = 12, numberOffset = 6 };

// A JSON payload of the length asked for; its event's number stands at numberOffset. Valid until the next call.
const char *payloadText(const Options *options, uint64_t number);
uint64_t payloadNumber(const uint8_t *payload);
void aggregateText(uint64_t number, char text[static uuidTextCount + 1]);
// Unique, and rising as version 7 is.
void eventID(uint8_t bytes[static 16]);
void uuidText(const uint8_t bytes[static 16], char text[static uuidTextCount + 1]);

// MARK: The loop of calls

// One caller with one call at a time.
typedef struct {
    int index;
    bool busy;
    uint64_t due, begun;
    uint64_t aggregate, version, position;  // position: UmaDB's last one of the aggregate
    uint64_t firstNumber;                   // of the events that are being appended
    int batch;
    void *driver;
} Client;

typedef struct Run Run;
typedef struct {
    void (*append)(Run *run, Client *client);          // NULL where the work needs none
    void (*query)(Run *run, Client *client);           // a load or a read
    void (*wait)(Run *run, uint64_t waitNanoseconds);  // does what is ready, for at most that long
} Driver;

struct Run {
    const Options *options;
    const Driver *driver;
    Client *clients;
    int clientCount;
    Client **idle;
    int idleCount, busyCount;
    uint64_t nextNumber, nextAggregate, acknowledged;
    // When each event was sent, and acknowledged; 0: not yet.
    struct { uint64_t sentAt, acknowledgedAt; } *times;
    size_t timeCapacity;
    uint64_t now;  // set once for each turn of the loop, and by whoever receives
    bool measuring;
    // What was measured.
    Histogram latency, delivery, sentToDelivery;
    uint64_t calls, events, deliveries, deliveredInAll, early, errors, notStarted, lagEvents;
    char errorReason[200];
    double seconds, clientCPU, serverCPU;
    long stored;  // what the server holds at the end; -1: not asked
};

Run *makeRun(const Options *options, const Driver *driver);
void setClients(Run *run, int count);
// Appends `events` events, in batches of 100, aggregates of `options->events` events; not measured.
void fill(Run *run, uint64_t events);
// Runs the work for the warm-up and the seconds asked for, and waits for what is under way. A history is read by all
// clients at once, and again when all of them are done, until that time is over; at least once.
void measure(Run *run);
// Waits until all subscribers have everything. Fails where for some seconds nothing more has come.
void drainDeliveries(Run *run);
void report(const Run *run, const char *server);

// For drivers. A call is over; `events` of it were not told through `progressed`.
void completed(Run *run, Client *client, uint64_t events);
void failed(Run *run, Client *client, const char *reason);
// Some events of a call that goes on have arrived.
static inline void progressed(Run *run, uint64_t events) { if (run->measuring) run->events += events; }
// A subscriber has got the event of this number.
void delivered(Run *run, uint64_t number);

// MARK: Processes

double ownCPUSeconds(void);
// Of the process and its children, those that have ended included.
double processTreeCPUSeconds(int pid);
