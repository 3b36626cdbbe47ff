// The loop of calls, and its results as JSON of `martlet bench`'s form.
#define _GNU_SOURCE
#include "bench.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

Run *makeRun(const Options *options, const Driver *driver) {
    Run *run = calloc(1, sizeof *run);
    run->options = options;
    run->driver = driver;
    run->stored = -1;
    run->now = nanoseconds();
    return run;
}

void setClients(Run *run, int count) {
    run->clients = calloc((size_t)count, sizeof *run->clients);
    run->idle = calloc((size_t)count, sizeof *run->idle);
    run->clientCount = count;
    run->idleCount = 0;
    for (int i = count - 1; i >= 0; i--) {
        run->clients[i].index = i;
        run->clients[i].aggregate = UINT64_MAX;
        run->idle[run->idleCount++] = &run->clients[i];
    }
}

static void finish(Run *run, Client *client) {
    client->busy = false;
    run->idle[run->idleCount++] = client;
    run->busyCount--;
}

void completed(Run *run, Client *client, uint64_t events) {
    if (client->batch > 0) {
        run->acknowledged += (uint64_t)client->batch;
        for (int i = 0; i < client->batch; i++) run->times[client->firstNumber + (uint64_t)i].acknowledgedAt = run->now;
        client->version += (uint64_t)client->batch;
    }
    if (run->measuring) {
        histogramAdd(&run->latency, run->now > client->due ? run->now - client->due : 0);
        run->calls++;
        run->events += events;
    }
    finish(run, client);
}

void failed(Run *run, Client *client, const char *reason) {
    if (run->errors++ == 0) snprintf(run->errorReason, sizeof run->errorReason, "%s", reason);
    client->aggregate = UINT64_MAX;
    if (run->errors > 1000) fail("more than 1,000 calls failed: %s", run->errorReason);
    finish(run, client);
}

void delivered(Run *run, uint64_t number) {
    run->deliveredInAll++;
    if (!run->measuring) return;
    run->deliveries++;
    if (number >= run->nextNumber) fail("event %llu was delivered and never sent", (unsigned long long)number);
    uint64_t at = run->times[number].acknowledgedAt;
    histogramAdd(&run->sentToDelivery, run->now - run->times[number].sentAt);
    if (at == 0) run->early++;
    histogramAdd(&run->delivery, at == 0 || at > run->now ? 0 : run->now - at);
}

static void begin(Run *run, uint64_t due, int batch) {
    Client *client = run->idle[--run->idleCount];
    client->busy = true;
    client->begun = run->now;
    client->due = due;
    client->batch = batch;
    run->busyCount++;
    if (batch == 0) {
        run->driver->query(run, client);
        return;
    }
    // An aggregate belongs to one client, and is full after some events.
    if (client->aggregate == UINT64_MAX || client->version + (uint64_t)batch > (uint64_t)run->options->events) {
        client->aggregate = run->nextAggregate++;
        client->version = 0;
        client->position = 0;
    }
    client->firstNumber = run->nextNumber;
    run->nextNumber += (uint64_t)batch;
    if (run->nextNumber > run->timeCapacity) {
        run->timeCapacity = run->nextNumber * 2 + 65536;
        run->times = realloc(run->times, run->timeCapacity * sizeof *run->times);
        if (run->times == NULL) fail("no memory for %zu times", run->timeCapacity);
    }
    for (int i = 0; i < batch; i++) {
        run->times[client->firstNumber + (uint64_t)i].sentAt = run->now;
        run->times[client->firstNumber + (uint64_t)i].acknowledgedAt = 0;
    }
    run->driver->append(run, client);
}

static void await(Run *run, uint64_t waitNanoseconds) {
    run->driver->wait(run, waitNanoseconds);
    run->now = nanoseconds();
}

static void awaitAll(Run *run) {
    uint64_t patience = nanoseconds() + 30000000000u;
    while (run->busyCount > 0) {
        await(run, 100000000);
        if (run->now > patience) fail("%d calls were not answered within 30 s", run->busyCount);
    }
}

void fill(Run *run, uint64_t events) {
    uint64_t each = (uint64_t)run->options->events, aggregates = events / each;
    if (events % each != 0 || each % 100 != 0) fail("histories consist of whole aggregates, and those of hundreds");
    while (run->idleCount > 0 || run->busyCount > 0) {
        while (run->idleCount > 0) {
            Client *client = run->idle[run->idleCount - 1];
            bool isFull = client->aggregate == UINT64_MAX || client->version == each;
            // Who has filled an aggregate when none is left is done.
            if (isFull && run->nextAggregate == aggregates) run->idleCount--;
            else begin(run, run->now, 100);
        }
        if (run->busyCount > 0) await(run, 100000000);
    }
    if (run->errors > 0) fail("filling failed: %s", run->errorReason);
}

double ownCPUSeconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

// All clients read the history at once: from the first call until the last of them has everything.
static void readOnce(Run *run) {
    while (run->idleCount > 0) begin(run, run->now, 0);
    while (run->busyCount > 0) await(run, 100000000);
}

static void measureHistory(Run *run) {
    const Options *options = run->options;
    uint64_t warm = nanoseconds() + (uint64_t)(options->warmup * 1e9);
    while (options->warmup > 0 && nanoseconds() < warm) readOnce(run);
    double clientCPU = ownCPUSeconds(), serverCPU = processTreeCPUSeconds(options->serverPID);
    uint64_t start = run->now = nanoseconds(), end = start + (uint64_t)(options->seconds * 1e9);
    run->measuring = true;
    do readOnce(run);
    while (run->now < end);
    run->measuring = false;
    run->seconds = (double)(run->now - start) / 1e9;
    run->clientCPU = ownCPUSeconds() - clientCPU;
    run->serverCPU = processTreeCPUSeconds(options->serverPID) - serverCPU;
}

void measure(Run *run) {
    const Options *options = run->options;
    if (strcmp(options->work, "read") == 0) {
        measureHistory(run);
        return;
    }
    int batch = run->driver->query ? 0 : options->batch;
    // A rate is of events; a call is due every `interval`.
    double interval = options->rate > 0 ? (batch ? batch : 1) / options->rate * 1e9 : 0;
    uint64_t start = run->now = nanoseconds(), measuredFrom = 0, scheduled = 0;
    uint64_t warm = start + (uint64_t)(options->warmup * 1e9), end = warm + (uint64_t)(options->seconds * 1e9);
    double clientCPU = 0, serverCPU = 0;
    while (run->now < end) {
        if (!run->measuring && run->now >= warm) {
            clientCPU = ownCPUSeconds();
            serverCPU = processTreeCPUSeconds(options->serverPID);
            measuredFrom = run->now = nanoseconds();
            run->measuring = true;
        }
        uint64_t until = run->measuring ? end : warm;
        // A driver that answers at once leaves the clients idle.
        while (run->idleCount > 0 && run->now < until) {
            uint64_t due = interval > 0 ? start + (uint64_t)((double)scheduled * interval) : run->now;
            if (due > run->now) {
                if (due < until) until = due;
                break;
            }
            scheduled++;
            begin(run, due, batch);
        }
        await(run, until > run->now ? until - run->now : 0);
    }
    run->measuring = false;
    run->seconds = (double)(run->now - measuredFrom) / 1e9;
    run->clientCPU = ownCPUSeconds() - clientCPU;
    run->serverCPU = processTreeCPUSeconds(options->serverPID) - serverCPU;
    uint64_t expected = run->acknowledged * (uint64_t)options->subscribers;
    if (expected > run->deliveredInAll) run->lagEvents = expected - run->deliveredInAll;
    if (interval > 0) {
        uint64_t due = (uint64_t)((double)(run->now - start) / interval);
        if (due > scheduled) run->notStarted = due - scheduled;
    }
    if (run->driver->append && !run->driver->query) awaitAll(run);
}

void drainDeliveries(Run *run) {
    uint64_t expected = run->acknowledged * (uint64_t)run->options->subscribers, last = 0, patience = 0;
    while (run->deliveredInAll < expected) {
        if (run->deliveredInAll > last || patience == 0) patience = nanoseconds() + 5000000000u;
        last = run->deliveredInAll;
        await(run, 50000000);
        if (run->now > patience)
            fail("%llu of %llu deliveries came, and no more for 5 s", (unsigned long long)run->deliveredInAll,
                 (unsigned long long)expected);
    }
}

static void printHistogram(const char *name, const Histogram *histogram) {
    static const struct { const char *name; double percentile; } columns[] = {
        {"p50", 50}, {"p75", 75}, {"p90", 90}, {"p95", 95}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99},
    };
    printf(",\"%s\":{", name);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        printf("\"%s\":%.1f,", columns[i].name, histogramPercentile(histogram, columns[i].percentile) / 1e3);
    printf("\"max\":%.1f,\"mean\":%.1f,\"count\":%llu}", (double)histogram->max / 1e3,
           histogram->count ? (double)histogram->sum / (double)histogram->count / 1e3 : 0,
           (unsigned long long)histogram->count);
}

static void printText(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    putchar('"');
}

void report(const Run *run, const char *server) {
    const Options *options = run->options;
    bool live = strcmp(options->work, "subscribe") == 0;
    printf("{\"format\":\"martlet-bench/1\",\"workload\":\"%s\",\"server\":{\"engine\":", options->work);
    printText(server);
    printf("},\"seconds\":%.3f,\"calls\":%llu,\"events\":%llu,\"callsPerSecond\":%.1f,\"eventsPerSecond\":%.1f",
           run->seconds, (unsigned long long)run->calls, (unsigned long long)run->events,
           (double)run->calls / run->seconds, (double)run->events / run->seconds);
    printHistogram("latency", &run->latency);
    if (live) {
        printf(",\"deliveries\":%llu,\"deliveriesPerSecond\":%.1f"
               ",\"deliveriesBeforeAcknowledgement\":%.4f,\"lagEvents\":%llu",
               (unsigned long long)run->deliveries, (double)run->deliveries / run->seconds,
               run->deliveries ? (double)run->early / (double)run->deliveries : 0, (unsigned long long)run->lagEvents);
        printHistogram("deliveryLatency", &run->delivery);
        printHistogram("sentToDeliveryLatency", &run->sentToDelivery);
    }
    printf(",\"clientCPUSeconds\":%.3f,\"serverCPUSeconds\":%.3f", run->clientCPU, run->serverCPU);
    printf(",\"errors\":{");
    if (run->errors) {
        printText(run->errorReason);
        printf(":%llu", (unsigned long long)run->errors);
    }
    // Calls that were due, and that no client was free for.
    if (run->notStarted)
        printf("%s\"NOT_STARTED\":%llu", run->errors ? "," : "", (unsigned long long)run->notStarted);
    printf("},\"verified\":{\"appended\":%llu,\"stored\":%ld", (unsigned long long)run->acknowledged, run->stored);
    if (live)
        printf(",\"delivered\":%llu,\"deliveriesExpected\":%llu", (unsigned long long)run->deliveredInAll,
               (unsigned long long)run->acknowledged * (unsigned long long)options->subscribers);
    printf("}}\n");
    if (run->stored >= 0 && (uint64_t)run->stored != run->acknowledged)
        fail("%llu events were acknowledged, %ld are stored", (unsigned long long)run->acknowledged, run->stored);
}

// What a process used, with its children, those that have ended included.
static double cpuTicks(int pid, int *parent) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    size_t count = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[count] = 0;
    // The command's name stands in parentheses and may hold anything.
    char *rest = strrchr(line, ')');
    unsigned long user = 0, system = 0;
    long childUser = 0, childSystem = 0;
    if (rest == NULL || sscanf(rest + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", parent, &user,
                               &system, &childUser, &childSystem) != 5) return 0;
    return (double)(user + system) + (double)(childUser + childSystem);
}

double processTreeCPUSeconds(int pid) {
    if (pid <= 0) return 0;
    int parent = 0;
    double ticks = cpuTicks(pid, &parent);
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && (entry = readdir(processes));) {
        int child = atoi(entry->d_name);
        parent = 0;
        if (child > 0) {
            double used = cpuTicks(child, &parent);
            if (parent == pid) ticks += used;
        }
    }
    if (processes) closedir(processes);
    return ticks / (double)sysconf(_SC_CLK_TCK);
}
