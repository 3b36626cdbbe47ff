// PostgreSQL through libpq's pipeline mode: a plain table, or the method of message-db (see postgres.h).
#define _GNU_SOURCE
#include "bench.h"
#include "postgres.h"
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { whole = 4096, columns = 6 };

// One connection; its calls are answered in the order in which they were sent.
typedef struct {
    Run *run;
    PGconn *connection;
    Client *waiting[whole];
    unsigned first, last;
    bool marked, wantsWrite;
    char problem[160];
    uint64_t position, events;  // of a reader
} Link;

static Link *links;
static int linkCount, poller = -1;
static bool messageDB;

static void expectOK(Link *link, PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail("PostgreSQL: %s", PQerrorMessage(link->connection));
    PQclear(result);
}

static void bigEndian(uint8_t bytes[static 8], uint64_t value) {
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t fromBigEndian(const char *bytes) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | (uint8_t)bytes[i];
    return value;
}

static void aggregateBytes(uint64_t number, uint8_t bytes[static 16]) {
    memset(bytes, 0, 16);
    bytes[6] = 0x70;
    bigEndian(bytes + 8, number | 0x8000000000000000u);
}

static Link *linkOf(Client *client) { return &links[client->index % linkCount]; }

static void sent(Link *link, Client *client, int ok) {
    if (!ok || !PQpipelineSync(link->connection)) fail("PostgreSQL: %s", PQerrorMessage(link->connection));
    if (link->last - link->first == whole) fail("too many calls on a connection");
    link->waiting[link->last++ % whole] = client;
    link->marked = true;
}

// MARK: Appending

// The plain table: all events of a call in one INSERT.
static void appendPlain(Run *run, Client *client) {
    static uint8_t *ids, *versions, *payloads;
    static const char **values;
    static int *lengths, *formats, capacity;
    if (client->batch > capacity) {
        capacity = client->batch;
        size_t count = (size_t)capacity;
        ids = realloc(ids, count * 16);
        versions = realloc(versions, count * 8);
        payloads = realloc(payloads, count * (size_t)run->options->payload);
        values = realloc(values, count * columns * sizeof *values);
        lengths = realloc(lengths, count * columns * sizeof *lengths);
        formats = realloc(formats, count * columns * sizeof *formats);
    }
    uint8_t aggregate[16];
    aggregateBytes(client->aggregate, aggregate);
    for (int i = 0; i < client->batch; i++) {
        uint8_t *id = ids + 16 * i, *version = versions + 8 * i, *payload = payloads + run->options->payload * i;
        eventID(id);
        bigEndian(version, client->version + (uint64_t)i + 1);
        memcpy(payload, payloadText(run->options, client->firstNumber + (uint64_t)i), (size_t)run->options->payload);
        const void *row[columns] = {aggregate, version, id, EVENT_TYPE, METADATA_JSON, payload};
        int rowLengths[columns] = {
            16, 8, 16, (int)strlen(EVENT_TYPE), (int)strlen(METADATA_JSON), run->options->payload,
        };
        for (int k = 0; k < columns; k++) {
            values[i * columns + k] = row[k];
            lengths[i * columns + k] = rowLengths[k];
            formats[i * columns + k] = 1;
        }
    }
    Link *link = linkOf(client);
    const char *statement = client->batch == run->options->batch ? "append" : "fill";
    sent(link, client, PQsendQueryPrepared(link->connection, statement, client->batch * columns, values, lengths,
                                           formats, 1));
}

// message-db's method: a function call for each event; one transaction up to the pipeline's sync.
static void appendByFunction(Run *run, Client *client) {
    Link *link = linkOf(client);
    char stream[uuidTextCount + 8] = "bench-", id[uuidTextCount + 1], version[24];
    aggregateText(client->aggregate, stream + 6);
    int ok = 1;
    for (int i = 0; i < client->batch && ok; i++) {
        uint8_t bytes[16];
        eventID(bytes);
        uuidText(bytes, id);
        snprintf(version, sizeof version, "%ld", (long)client->version + i - 1);
        const char *payload = payloadText(run->options, client->firstNumber + (uint64_t)i);
        const char *values[] = {id, stream, EVENT_TYPE, payload, METADATA_JSON, version};
        ok = PQsendQueryPrepared(link->connection, "write", 6, values, NULL, NULL, 1);
    }
    sent(link, client, ok);
}

// MARK: Loading and reading

static void load(Run *run, Client *client) {
    Link *link = linkOf(client);
    uint8_t aggregate[16];
    aggregateBytes(randomNumber() % (uint64_t)run->options->aggregates, aggregate);
    const char *values[] = {(const char *)aggregate};
    int length = 16, format = 1;
    sent(link, client, PQsendQueryPrepared(link->connection, "load", 1, values, &length, &format, 1));
}

static void readPage(Link *link, Client *client) {
    uint8_t position[8];
    bigEndian(position, link->position);
    const char *values[] = {(const char *)position};
    int length = 8, format = 1;
    sent(link, client, PQsendQueryPrepared(link->connection, "page", 1, values, &length, &format, 1));
}

static void readHistory(Run *run, Client *client) {
    (void)run;
    Link *link = linkOf(client);
    link->position = link->events = 0;
    readPage(link, client);
}

// MARK: Receiving

static void answered(Link *link, Client *client) {
    Run *run = link->run;
    if (link->problem[0]) {
        failed(run, client, link->problem);
    } else if (client->batch == 0 && *run->options->work == 'r' && (long)link->events < run->options->history) {
        readPage(link, client);
    } else {
        completed(run, client, (uint64_t)client->batch);
    }
    link->problem[0] = 0;
}

static void takeRows(Link *link, PGresult *result) {
    int rows = PQntuples(result);
    progressed(link->run, (uint64_t)rows);
    link->events += (uint64_t)rows;
    if (*link->run->options->work == 'l' && rows != link->run->options->events)
        fail("PostgreSQL: %d events instead of %d", rows, link->run->options->events);
    if (rows > 0 && *link->run->options->work == 'r') link->position = fromBigEndian(PQgetvalue(result, rows - 1, 0));
}

static void receive(Link *link) {
    if (!PQconsumeInput(link->connection)) fail("PostgreSQL: %s", PQerrorMessage(link->connection));
    while (link->first != link->last && !PQisBusy(link->connection)) {
        PGresult *result = PQgetResult(link->connection);
        if (result == NULL) continue;
        Client *client = link->waiting[link->first % whole];
        switch (PQresultStatus(result)) {
        case PGRES_TUPLES_OK:
            if (client->batch == 0) takeRows(link, result);
            break;
        case PGRES_PIPELINE_SYNC:
            link->first++;
            link->run->now = nanoseconds();
            answered(link, client);
            break;
        case PGRES_FATAL_ERROR:
            snprintf(link->problem, sizeof link->problem, "%s", PQresultErrorMessage(result));
            break;
        default:
            break;
        }
        PQclear(result);
    }
}

static void flush(Link *link) {
    link->marked = false;
    int left = PQflush(link->connection);
    if (left < 0) fail("PostgreSQL: %s", PQerrorMessage(link->connection));
    if ((left > 0) != link->wantsWrite) {
        link->wantsWrite = left > 0;
        struct epoll_event interest = {.events = EPOLLIN | (left > 0 ? EPOLLOUT : 0), .data.ptr = link};
        epoll_ctl(poller, EPOLL_CTL_MOD, PQsocket(link->connection), &interest);
    }
}

static void turn(Run *run, uint64_t waitNanoseconds) {
    (void)run;
    for (int i = 0; i < linkCount; i++)
        if (links[i].marked) flush(&links[i]);
    struct epoll_event events[256];
    struct timespec wait = {(time_t)(waitNanoseconds / 1000000000u), (long)(waitNanoseconds % 1000000000u)};
    int count = epoll_pwait2(poller, events, 256, &wait, NULL);
    for (int i = 0; i < count; i++) {
        Link *link = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) link->marked = true;
        receive(link);
    }
}

// MARK: The beginning and the end

static void prepare(Link *link, const char *name, const char *statement) {
    expectOK(link, PQprepare(link->connection, name, statement, 0, NULL));
}

static void prepareInsert(Link *link, const char *name, int rows) {
    Buffer text = {0};
    char piece[160];
    bufferAppend(&text, plainInsert, strlen(plainInsert));
    for (int i = 0; i < rows; i++) {
        int k = i * columns;
        int count = snprintf(piece, sizeof piece, "%s($%d::uuid,$%d::int8,$%d::uuid,$%d::text,$%d::bytea,$%d::bytea)",
                             i ? "," : "", k + 1, k + 2, k + 3, k + 4, k + 5, k + 6);
        bufferAppend(&text, piece, (size_t)count);
    }
    bufferAppend(&text, "", 1);
    prepare(link, name, (const char *)text.bytes);
    free(text.bytes);
}

static void connectLink(Link *link, Run *run, bool isFirst) {
    link->run = run;
    link->connection = PQconnectdb(run->options->target);
    if (PQstatus(link->connection) != CONNECTION_OK) fail("PostgreSQL: %s", PQerrorMessage(link->connection));
    if (isFirst) {
        expectOK(link, PQexec(link->connection, "SET client_min_messages = error"));
        expectOK(link, PQexec(link->connection, messageDB ? messageDBSchema : plainSchema));
    }
    if (messageDB) {
        prepare(link, "write", messageDBWrite);
    } else {
        prepareInsert(link, "append", run->options->batch);
        prepareInsert(link, "fill", 100);
    }
    PQsetnonblocking(link->connection, 1);
    PQenterPipelineMode(link->connection);
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = link};
    epoll_ctl(poller, EPOLL_CTL_ADD, PQsocket(link->connection), &interest);
}

// Queries are planned when there is something to plan by: one for an empty table may suit it only.
static void prepareQueries(Run *run) {
    PGconn *connection = PQconnectdb(run->options->target);
    PGresult *result = PQexec(connection, "VACUUM ANALYZE events");
    if (PQresultStatus(result) != PGRES_COMMAND_OK) fail("PostgreSQL: %s", PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
    char page[256];
    snprintf(page, sizeof page, plainPage, run->options->pageEvents);
    for (int i = 0; i < linkCount; i++) {
        if (!PQexitPipelineMode(links[i].connection)) fail("PostgreSQL: %s", PQerrorMessage(links[i].connection));
        prepare(&links[i], "page", page);
        prepare(&links[i], "load", plainLoad);
        PQenterPipelineMode(links[i].connection);
    }
}

static void countRows(Run *run) {
    PGconn *connection = PQconnectdb(run->options->target);
    PGresult *result = PQexec(connection, messageDB ? "SELECT count(*) FROM messages" : "SELECT count(*) FROM events");
    if (PQresultStatus(result) != PGRES_TUPLES_OK) fail("PostgreSQL: %s", PQerrorMessage(connection));
    run->stored = atol(PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(connection);
}

int main(int count, char **arguments) {
    Options options = parseOptions(count, arguments);
    if (options.target == NULL) fail("postgres takes --conninfo");
    messageDB = strcmp(options.method, "message-db") == 0;
    Driver driver = {.append = messageDB ? appendByFunction : appendPlain, .wait = turn};
    Run *run = makeRun(&options, &driver);
    poller = epoll_create1(EPOLL_CLOEXEC);
    links = calloc((size_t)options.connections, sizeof *links);
    bool isLoad = *options.work == 'l', isRead = *options.work == 'r';
    if ((isLoad || isRead) && messageDB) fail("the method of message-db is measured with appends only");
    for (; linkCount < options.connections; linkCount++) connectLink(&links[linkCount], run, linkCount == 0);
    if (isLoad || isRead) {
        if (options.connections < options.clients) fail("queries take a connection for each client");
        setClients(run, 8);
        fill(run, isLoad ? (uint64_t)options.aggregates * (uint64_t)options.events : (uint64_t)options.history);
        prepareQueries(run);
        driver.query = isLoad ? load : readHistory;
    }
    setClients(run, options.clients);
    measure(run);
    if (driver.query == NULL) countRows(run);
    report(run, messageDB ? "PostgreSQL, method of message-db" : "PostgreSQL, plain table");
    return 0;
}
