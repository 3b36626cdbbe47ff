// Redis Streams. Appends go to a stream for each aggregate, and where there are readers of everything, to one stream:
// Redis has no order across streams. It checks no versions and no ids. Several events of a call are one transaction.
#include "net.h"
#include "resp.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { whole = 1 << 16 };

// One connection: calls are answered in the order in which they were sent.
typedef struct {
    Run *run;
    Connection *connection;
    Replies replies;
    struct { Client *client; int replies; } waiting[whole];
    unsigned first, last;
    // Of a query, and of a subscriber.
    uint64_t events;
    char position[64];
    bool subscribes;
} Link;

static Link **links;
static int linkCount;
static bool oneStream;

static void word(Link *link, const char *bytes, size_t count) {
    char head[32];
    int headCount = snprintf(head, sizeof head, "$%zu\r\n", count);
    bufferAppend(&link->connection->out, head, (size_t)headCount);
    bufferAppend(&link->connection->out, bytes, count);
    bufferAppend(&link->connection->out, "\r\n", 2);
}

static void command(Link *link, int count, const char *const words[]) {
    char head[32];
    int headCount = snprintf(head, sizeof head, "*%d\r\n", count);
    bufferAppend(&link->connection->out, head, (size_t)headCount);
    for (int i = 0; i < count; i++) word(link, words[i], strlen(words[i]));
    netMark(link->connection);
}

#define COMMAND(link, ...) \
    command(link, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static void expect(Link *link, Client *client, int replies) {
    if (link->last - link->first == whole) fail("too many calls on a connection");
    link->waiting[link->last % whole].client = client;
    link->waiting[link->last++ % whole].replies = replies;
}

static Link *linkOf(Client *client) { return links[client->index % linkCount]; }

static void streamName(uint64_t aggregate, char name[static uuidTextCount + 1]) {
    if (oneStream) strcpy(name, "all");
    else aggregateText(aggregate, name);
}

static void append(Run *run, Client *client) {
    Link *link = linkOf(client);
    char stream[uuidTextCount + 1], idText[uuidTextCount + 1];
    uint8_t id[16];
    streamName(client->aggregate, stream);
    if (client->batch > 1) COMMAND(link, "MULTI");
    for (int i = 0; i < client->batch; i++) {
        eventID(id);
        uuidText(id, idText);
        COMMAND(link, "XADD", stream, "*", "t", EVENT_TYPE, "i", idText, "m", METADATA_JSON, "p",
                payloadText(run->options, client->firstNumber + (uint64_t)i));
    }
    if (client->batch > 1) COMMAND(link, "EXEC");
    expect(link, client, client->batch > 1 ? client->batch + 2 : 1);
}

static void load(Run *run, Client *client) {
    Link *link = linkOf(client);
    char stream[uuidTextCount + 1];
    aggregateText(randomNumber() % (uint64_t)run->options->aggregates, stream);
    link->events = 0;
    COMMAND(link, "XRANGE", stream, "-", "+");
    expect(link, client, 1);
}

static void readPage(Link *link) {
    char count[16];
    snprintf(count, sizeof count, "%d", link->run->options->pageEvents);
    COMMAND(link, "XREAD", "COUNT", count, "STREAMS", "all", link->position);
}

static void readHistory(Run *run, Client *client) {
    (void)run;
    Link *link = linkOf(client);
    link->events = 0;
    strcpy(link->position, "0");
    readPage(link);
    expect(link, client, 1);
}

static void await(Link *link) {
    char count[16];
    snprintf(count, sizeof count, "%d", link->run->options->pageEvents);
    COMMAND(link, "XREAD", "COUNT", count, "BLOCK", "0", "STREAMS", "all", link->position);
}

// XRANGE: entries at depth 1, their ids at 2. XREAD: ids at 4, fields at 5.
static void onValue(Replies *replies, int depth, const char *head, size_t count) {
    Link *link = replies->owner;
    const char *work = link->run->options->work;
    if (link->subscribes) {
        if (depth == 5 && count > 20 && memcmp(head, "{\"n\":\"", 6) == 0)
            delivered(link->run, payloadNumber((const uint8_t *)head));
        if (depth == 4) snprintf(link->position, sizeof link->position, "%.*s", (int)count, head);
    } else if (*work == 'l' && depth == 2) {
        link->events++;
        progressed(link->run, 1);
    } else if (*work == 'r' && depth == 4) {
        link->events++;
        progressed(link->run, 1);
        snprintf(link->position, sizeof link->position, "%.*s", (int)count, head);
    } else if (depth == 0 && link->run->stored >= 0) {
        link->run->stored += atol(head);
    }
}

static void onReply(Replies *replies, const char *problem) {
    Link *link = replies->owner;
    Run *run = link->run;
    if (link->subscribes) {
        if (problem) fail("Redis: %s", problem);
        await(link);
        return;
    }
    if (link->first == link->last) fail("Redis: a reply that nobody waits for");
    int left = --link->waiting[link->first % whole].replies;
    Client *client = link->waiting[link->first % whole].client;
    if (problem && client) fail("Redis: %s", problem);
    if (left > 0) return;
    if (client && client->batch == 0) {
        bool isLoad = *run->options->work == 'l';
        uint64_t wanted = (uint64_t)(isLoad ? run->options->events : run->options->history);
        if (!isLoad && link->events < wanted) {
            link->waiting[link->first % whole].replies = 1;
            readPage(link);
            return;
        }
        if (link->events != wanted) fail("Redis: %lu events instead of %lu", link->events, wanted);
    }
    link->first++;
    if (client) completed(run, client, (uint64_t)client->batch);
}

static void onReceived(Connection *connection, const uint8_t *bytes, size_t count) {
    Link *link = connection->owner;
    parseReplies(&link->replies, bytes, count);
}

static Link *makeLink(Run *run) {
    Link *link = calloc(1, sizeof *link);
    link->run = run;
    link->replies = (Replies){.value = onValue, .reply = onReply, .owner = link};
    link->connection = netConnect(run->options, NULL);
    link->connection->owner = link;
    link->connection->received = onReceived;
    return link;
}

static void askLength(Run *run) {
    Link *link = links[0];
    run->stored = 0;
    uint64_t streams = oneStream ? 1 : run->nextAggregate;
    char name[uuidTextCount + 1];
    for (uint64_t i = 0; i < streams; i++) {
        streamName(i, name);
        COMMAND(link, "XLEN", name);
        expect(link, NULL, 1);
        while (link->last - link->first > 1000) netTurn(run, 100000000);
    }
    while (link->first != link->last) netTurn(run, 100000000);
}

int main(int count, char **arguments) {
    Options options = parseOptions(count, arguments);
    Driver driver = {.append = append, .wait = netTurn};
    Run *run = makeRun(&options, &driver);
    bool isLoad = *options.work == 'l', isRead = *options.work == 'r', subscribes = *options.work == 's';
    oneStream = isRead || subscribes;
    links = calloc((size_t)options.connections, sizeof *links);
    for (linkCount = 0; linkCount < options.connections; linkCount++) links[linkCount] = makeLink(run);
    if (isLoad || isRead) {
        if (options.connections < options.clients) fail("queries of Redis take a connection for each client");
        setClients(run, 8);
        fill(run, isLoad ? (uint64_t)options.aggregates * (uint64_t)options.events : (uint64_t)options.history);
        driver.query = isLoad ? load : readHistory;
    }
    setClients(run, options.clients);
    for (int i = 0; subscribes && i < options.subscribers; i++) {
        Link *link = makeLink(run);
        link->subscribes = true;
        strcpy(link->position, "0");
        await(link);
    }
    measure(run);
    if (subscribes) drainDeliveries(run);
    if (driver.query == NULL) askLength(run);
    report(run, options.tls ? "Redis Streams, TLS" : "Redis Streams");
    return 0;
}
