// SQLite inside this process: what an event store on it can reach at most. Write-ahead log, synchronous=FULL.
#define _GNU_SOURCE
#include "bench.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sqlite3 *writer;
static sqlite3_stmt *insert;

static void must(sqlite3 *database, int code) {
    if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_ROW) fail("SQLite: %s", sqlite3_errmsg(database));
}

static sqlite3 *openDatabase(const Options *options) {
    sqlite3 *database;
    must(NULL, sqlite3_open_v2(options->target, &database,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL));
    static const char settings[] =
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA mmap_size=1073741824";
    must(database, sqlite3_exec(database, settings, NULL, NULL, NULL));
    return database;
}

static sqlite3_stmt *statement(sqlite3 *database, const char *text) {
    sqlite3_stmt *prepared;
    must(database, sqlite3_prepare_v3(database, text, -1, SQLITE_PREPARE_PERSISTENT, &prepared, NULL));
    return prepared;
}

static void append(Run *run, Client *client) {
    if (client->batch > 1) must(writer, sqlite3_exec(writer, "BEGIN IMMEDIATE", NULL, NULL, NULL));
    for (int i = 0; i < client->batch; i++) {
        uint8_t id[16];
        eventID(id);
        sqlite3_bind_int64(insert, 1, (sqlite3_int64)client->aggregate);
        sqlite3_bind_int64(insert, 2, (sqlite3_int64)client->version + i + 1);
        sqlite3_bind_blob(insert, 3, id, 16, SQLITE_STATIC);
        sqlite3_bind_text(insert, 4, EVENT_TYPE, -1, SQLITE_STATIC);
        sqlite3_bind_text(insert, 5, METADATA_JSON, -1, SQLITE_STATIC);
        const char *payload = payloadText(run->options, client->firstNumber + (uint64_t)i);
        sqlite3_bind_text(insert, 6, payload, run->options->payload, SQLITE_STATIC);
        must(writer, sqlite3_step(insert));
        must(writer, sqlite3_reset(insert));
    }
    if (client->batch > 1) must(writer, sqlite3_exec(writer, "COMMIT", NULL, NULL, NULL));
    run->now = nanoseconds();
    completed(run, client, (uint64_t)client->batch);
}

static void noWait(Run *run, uint64_t waitNanoseconds) { (void)run, (void)waitNanoseconds; }

// MARK: Readers, one thread each

typedef struct {
    const Options *options;
    pthread_t thread;
    uint64_t measuredFrom, end, calls, events, sum;
    unsigned seed;
    Histogram latency;
} Reader;

static void *readAlong(void *argument) {
    Reader *reader = argument;
    const Options *options = reader->options;
    bool isLoad = *options->work == 'l';
    sqlite3 *database = openDatabase(options);
    static const char fields[] = "SELECT position, aggregate, version, id, type, metadata, payload FROM events ";
    char text[200];
    snprintf(text, sizeof text, "%s%s", fields, isLoad ? "WHERE aggregate = ? ORDER BY version" : "ORDER BY position");
    sqlite3_stmt *query = statement(database, text);
    uint64_t now = nanoseconds();
    while (now < reader->end) {
        if (isLoad) {
            reader->seed = reader->seed * 1664525u + 1013904223u;
            sqlite3_bind_int64(query, 1, (reader->seed >> 8) % (unsigned)options->aggregates);
        }
        uint64_t begun = now, rows = 0, told = 0;
        while (sqlite3_step(query) == SQLITE_ROW) {
            // Every field is fetched, as for sending it.
            reader->sum += (uint64_t)sqlite3_column_int64(query, 0) + (uint64_t)sqlite3_column_int64(query, 2);
            for (int i = 3; i < 7; i++) {
                reader->sum += (uint64_t)sqlite3_column_bytes(query, i);
                reader->sum += *(const uint8_t *)sqlite3_column_blob(query, i);
            }
            if (++rows - told < 1000) continue;
            now = nanoseconds();
            if (now >= reader->measuredFrom && now <= reader->end) reader->events += rows - told;
            told = rows;
        }
        must(database, sqlite3_reset(query));
        now = nanoseconds();
        if (rows != (uint64_t)(isLoad ? options->events : options->history)) fail("SQLite: %lu events", rows);
        if (now >= reader->measuredFrom && now <= reader->end) {
            reader->calls++;
            histogramAdd(&reader->latency, now - begun);
        }
    }
    sqlite3_finalize(query);
    sqlite3_close(database);
    return NULL;
}

static void measureReaders(Run *run) {
    const Options *options = run->options;
    Reader *readers = calloc((size_t)options->clients, sizeof *readers);
    uint64_t warm = nanoseconds() + (uint64_t)(options->warmup * 1e9);
    uint64_t end = warm + (uint64_t)(options->seconds * 1e9);
    for (int i = 0; i < options->clients; i++) {
        readers[i] = (Reader){.options = options, .measuredFrom = warm, .end = end, .seed = (unsigned)i};
        pthread_create(&readers[i].thread, NULL, readAlong, &readers[i]);
    }
    while (nanoseconds() < warm) usleep(1000);
    double clientCPU = ownCPUSeconds();
    for (int i = 0; i < options->clients; i++) {
        pthread_join(readers[i].thread, NULL);
        run->calls += readers[i].calls;
        run->events += readers[i].events;
        for (size_t k = 0; k < sizeof run->latency.counts / sizeof *run->latency.counts; k++)
            run->latency.counts[k] += readers[i].latency.counts[k];
        run->latency.count += readers[i].latency.count;
        run->latency.sum += readers[i].latency.sum;
        if (readers[i].latency.max > run->latency.max) run->latency.max = readers[i].latency.max;
    }
    run->seconds = options->seconds;
    run->clientCPU = ownCPUSeconds() - clientCPU;
}

int main(int count, char **arguments) {
    Options options = parseOptions(count, arguments);
    if (options.target == NULL) fail("sqlite takes --file");
    bool isLoad = *options.work == 'l', isRead = *options.work == 'r';
    Driver driver = {.append = append, .wait = noWait};
    Run *run = makeRun(&options, &driver);
    writer = openDatabase(&options);
    must(writer, sqlite3_exec(writer,
                              "CREATE TABLE events ("
                              "  position INTEGER PRIMARY KEY, aggregate INTEGER NOT NULL, version INTEGER NOT NULL,"
                              "  id BLOB NOT NULL, type TEXT NOT NULL, metadata TEXT NOT NULL, payload TEXT NOT NULL,"
                              "  UNIQUE (aggregate, version)) STRICT",
                              NULL, NULL, NULL));
    insert = statement(writer, "INSERT INTO events (aggregate, version, id, type, metadata, payload)"
                               " VALUES (?, ?, ?, ?, ?, ?)");
    setClients(run, 1);
    if (isLoad || isRead) {
        fill(run, isLoad ? (uint64_t)options.aggregates * (uint64_t)options.events : (uint64_t)options.history);
        measureReaders(run);
    } else {
        measure(run);
        sqlite3_stmt *rows = statement(writer, "SELECT count(*) FROM events");
        must(writer, sqlite3_step(rows));
        run->stored = (long)sqlite3_column_int64(rows, 0);
    }
    report(run, "SQLite in process");
    return 0;
}
