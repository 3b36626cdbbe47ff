// NATS JetStream. Everything is in one stream; an aggregate is a subject. An append expects the last sequence of its
// subject and has a message id, by which the server recognises what it has already; several events of a call are one
// atomic batch.
#define _GNU_SOURCE
#include "net.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { replySID = 1, readersMax = 1 << 16 };

typedef struct Link Link;

// A consumer of everything: a subscriber's, or a client's who reads the history.
typedef struct {
    Link *link;
    Client *client;
    unsigned sid;
    uint64_t sequence;
} Reader;

struct Link {
    Run *run;
    Connection *connection;
    Buffer in;
    int number;
    unsigned lastSID;
    Reader *readers[readersMax];  // by sid; NULL: ended
};

// A client's loaded events, and the last sequence among them.
typedef struct { uint64_t events, sequence; } Loaded;

static Link **links;
static int linkCount, linksMade;
static int answered, asked;

static Link *linkOf(const Client *client) { return links[client->index % linkCount]; }

// MARK: Sending

static void put(Link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(Link *link, const char *format, ...) {
    char *text = (char *)bufferReserve(&link->connection->out, 1024);
    va_list arguments;
    va_start(arguments, format);
    int count = vsnprintf(text, 1024, format, arguments);
    va_end(arguments);
    if (count >= 1024) fail("NATS: a line of %d bytes", count);
    link->connection->out.end += (size_t)count;
    netMark(link->connection);
}

// A request whose reply comes to the inbox's `token`.
static void request(Link *link, const char *subject, const char *token, const char *body) {
    put(link, "PUB %s _INBOX.%d.%s %zu\r\n", subject, link->number, token, strlen(body));
    bufferAppend(&link->connection->out, body, strlen(body));
    bufferAppend(&link->connection->out, "\r\n", 2);
}

static void append(Run *run, Client *client) {
    Link *link = linkOf(client);
    char aggregate[uuidTextCount + 1], idText[uuidTextCount + 1], batch[uuidTextCount + 1], header[512];
    uint8_t id[16];
    aggregateText(client->aggregate, aggregate);
    if (client->batch > 1) {
        eventID(id);
        uuidText(id, batch);
    }
    for (int i = 0; i < client->batch; i++) {
        bool isLast = i == client->batch - 1;
        eventID(id);
        uuidText(id, idText);
        int count = snprintf(header, sizeof header,
                             "NATS/1.0\r\nNats-Msg-Id: %s\r\ntype: " EVENT_TYPE "\r\nuser: " USER
                             "\r\ncorrelation: " CORRELATION "\r\ncausation: " CAUSATION "\r\n", idText);
        // Those that follow in a batch have the same subject: their sequences are not known yet.
        if (i == 0)
            count += snprintf(header + count, sizeof header - (size_t)count,
                              "Nats-Expected-Last-Subject-Sequence: %lu\r\n", client->position);
        if (client->batch > 1)
            count += snprintf(header + count, sizeof header - (size_t)count,
                              "Nats-Batch-Id: %s\r\nNats-Batch-Sequence: %d\r\n%s", batch, i + 1,
                              isLast ? "Nats-Batch-Commit: 1\r\n" : "");
        count += snprintf(header + count, sizeof header - (size_t)count, "\r\n");
        if (isLast) put(link, "HPUB bench.%s _INBOX.%d.a%d ", aggregate, link->number, client->index);
        else put(link, "HPUB bench.%s ", aggregate);
        put(link, "%d %d\r\n", count, count + run->options->payload);
        bufferAppend(&link->connection->out, header, (size_t)count);
        const char *payload = payloadText(run->options, client->firstNumber + (uint64_t)i);
        bufferAppend(&link->connection->out, payload, (size_t)run->options->payload);
        bufferAppend(&link->connection->out, "\r\n", 2);
    }
}

static void load(Run *run, Client *client) {
    if (client->driver == NULL) client->driver = calloc(1, sizeof(Loaded));
    *(Loaded *)client->driver = (Loaded){0};
    char aggregate[uuidTextCount + 1], body[160], token[16];
    aggregateText(randomNumber() % (uint64_t)run->options->aggregates, aggregate);
    snprintf(body, sizeof body, "{\"batch\":%d,\"seq\":1,\"next_by_subj\":\"bench.%s\"}", run->options->events,
             aggregate);
    snprintf(token, sizeof token, "l%d", client->index);
    request(linkOf(client), "$JS.API.DIRECT.GET.bench", token, body);
}

// As the clients' "ordered consumers" are: without acknowledgements, with flow control.
static void follow(Link *link, Reader *reader) {
    reader->link = link;
    reader->sequence = 0;
    reader->sid = ++link->lastSID;
    if (reader->sid >= readersMax) fail("NATS: too many subscriptions on a connection");
    link->readers[reader->sid] = reader;
    put(link, "SUB _FOLLOW.%d.%u %u\r\n", link->number, reader->sid, reader->sid);
    char body[400];
    snprintf(body, sizeof body,
             "{\"stream_name\":\"bench\",\"config\":{\"deliver_subject\":\"_FOLLOW.%d.%u\",\"deliver_policy\":\"all\","
             "\"ack_policy\":\"none\",\"max_deliver\":1,\"flow_control\":true,\"idle_heartbeat\":5000000000,"
             "\"mem_storage\":true,\"num_replicas\":1,\"inactive_threshold\":5000000000}}", link->number, reader->sid);
    request(link, "$JS.API.CONSUMER.CREATE.bench", "created", body);
}

static void readHistory(Run *run, Client *client) {
    (void)run;
    if (client->driver == NULL) client->driver = calloc(1, sizeof(Reader));
    Reader *reader = client->driver;
    reader->client = client;
    follow(linkOf(client), reader);
}

// MARK: Receiving

typedef struct { const char *bytes; size_t count; } Text;

// A number behind a name; 0 where it is not there.
static uint64_t numberBehind(Text text, const char *name) {
    const char *found = memmem(text.bytes, text.count, name, strlen(name));
    return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

// The sequence in "$JS.ACK.stream.consumer.delivered.SEQUENCE.consumer sequence.time.pending".
static uint64_t sequenceOf(Text reply) {
    const char *at = reply.bytes, *end = reply.bytes + reply.count;
    for (int dots = 0; at < end; at++)
        if (*at == '.' && ++dots == 5) return strtoull(at + 1, NULL, 10);
    fail("NATS: a message without its sequence");
}

static void onFollowed(Reader *reader, Text reply, Text header, Text body) {
    Link *link = reader->link;
    Run *run = link->run;
    // A status instead of an event: flow control is answered, where it asks for that.
    if (header.count > 12 && memcmp(header.bytes, "NATS/1.0 100", 12) == 0) {
        const char *stalled = memmem(header.bytes, header.count, "Nats-Consumer-Stalled: ", 23);
        if (stalled) {
            const char *end = memchr(stalled, '\r', header.count - (size_t)(stalled - header.bytes));
            reply = (Text){stalled + 23, (size_t)(end - stalled) - 23};
        }
        if (reply.count) put(link, "PUB %.*s 0\r\n\r\n", (int)reply.count, reply.bytes);
        return;
    }
    uint64_t sequence = sequenceOf(reply);
    if (sequence != reader->sequence + 1)
        fail("NATS: sequence %lu came after sequence %lu", sequence, reader->sequence);
    reader->sequence = sequence;
    if (reader->client == NULL) {
        delivered(run, payloadNumber((const uint8_t *)body.bytes));
        return;
    }
    progressed(run, 1);
    if ((long)sequence < run->options->history) return;
    link->readers[reader->sid] = NULL;
    put(link, "UNSUB %u\r\n", reader->sid);
    completed(run, reader->client, 0);
}

static void onAcknowledged(Run *run, Client *client, Text body) {
    uint64_t sequence = numberBehind(body, "\"seq\":");
    if (sequence == 0 || memmem(body.bytes, body.count, "\"duplicate\":true", 16)) {
        char problem[160];
        snprintf(problem, sizeof problem, "%.*s", (int)body.count, body.bytes);
        failed(run, client, problem);
        return;
    }
    client->position = sequence;
    completed(run, client, (uint64_t)client->batch);
}

static void onLoaded(Run *run, Client *client, Text header) {
    Loaded *loaded = client->driver;
    if (header.count > 12 && memcmp(header.bytes, "NATS/1.0 ", 9) == 0) {
        if (memcmp(header.bytes + 9, "204", 3) != 0) fail("NATS: %.*s", (int)header.count, header.bytes);
        if (loaded->events != (uint64_t)run->options->events)
            fail("NATS: %lu events instead of %d", loaded->events, run->options->events);
        completed(run, client, 0);
        return;
    }
    uint64_t sequence = numberBehind(header, "Nats-Sequence: ");
    if (sequence <= loaded->sequence) fail("NATS: sequence %lu after %lu", sequence, loaded->sequence);
    loaded->sequence = sequence;
    loaded->events++;
    progressed(run, 1);
}

static void onReply(Link *link, const char *token, Text header, Text body) {
    Run *run = link->run;
    if (*token == 'a') {
        onAcknowledged(run, &run->clients[atoi(token + 1)], body);
    } else if (*token == 'l') {
        onLoaded(run, &run->clients[atoi(token + 1)], header);
    } else {
        if (memmem(body.bytes, body.count, "\"error\"", 7) || body.count == 0)
            fail("NATS: %s: %.*s%.*s", token, (int)body.count, body.bytes, (int)header.count, header.bytes);
        if (*token == 'i') run->stored = (long)numberBehind(body, "\"messages\":");
        answered++;
    }
}

// One operation of the protocol: its line, and for messages what follows it. Returns its bytes; 0: not there in full.
static size_t takeOperation(Link *link, char *bytes, size_t count) {
    char *newline = memchr(bytes, '\n', count);
    if (newline == NULL) return 0;
    size_t lineBytes = (size_t)(newline - bytes) + 1;
    bool hasHeader = bytes[0] == 'H';
    if (bytes[0] != 'M' && !hasHeader) {
        if (memcmp(bytes, "PING", 4) == 0) put(link, "PONG\r\n");
        else if (memcmp(bytes, "PONG", 4) == 0) answered++;
        else if (bytes[0] == '-') fail("NATS: %.*s", (int)lineBytes - 2, bytes);
        return lineBytes;
    }
    // MSG subject sid [reply] bytes; HMSG subject sid [reply] header bytes
    Text words[6];
    int wordCount = 0;
    for (char *at = bytes; at < newline - 1 && wordCount < 6;) {
        char *end = at;
        while (end < newline - 1 && *end != ' ') end++;
        words[wordCount++] = (Text){at, (size_t)(end - at)};
        at = end + 1;
    }
    int numbers = hasHeader ? 2 : 1;
    if (wordCount < 3 + numbers) fail("NATS: a message of %d words", wordCount);
    size_t total = strtoul(words[wordCount - 1].bytes, NULL, 10), headerBytes = 0;
    if (hasHeader) headerBytes = strtoul(words[wordCount - 2].bytes, NULL, 10);
    if (count < lineBytes + total + 2) return 0;
    const char *content = newline + 1;
    Text header = {content, headerBytes}, body = {content + headerBytes, total - headerBytes}, reply = {0};
    if (wordCount == 4 + numbers) reply = words[3];
    unsigned sid = (unsigned)strtoul(words[2].bytes, NULL, 10);
    if (sid == replySID) {
        // _INBOX.number.token
        char token[16];
        const char *last = memrchr(words[1].bytes, '.', words[1].count);
        snprintf(token, sizeof token, "%.*s", (int)(words[1].bytes + words[1].count - last - 1), last + 1);
        onReply(link, token, header, body);
    } else if (sid < readersMax && link->readers[sid]) {
        onFollowed(link->readers[sid], reply, header, body);
    }
    return lineBytes + total + 2;
}

static void onReceived(Connection *connection, const uint8_t *bytes, size_t count) {
    Link *link = connection->owner;
    bool isKept = bufferCount(&link->in) > 0;
    if (isKept) {
        bufferAppend(&link->in, bytes, count);
        bytes = link->in.bytes + link->in.start;
        count = bufferCount(&link->in);
    }
    size_t taken = 0;
    for (size_t part; taken < count && (part = takeOperation(link, (char *)bytes + taken, count - taken)) > 0;)
        taken += part;
    if (isKept) bufferConsume(&link->in, taken);
    else if (taken < count) bufferAppend(&link->in, bytes + taken, count - taken);
}

// MARK: The beginning and the end

static void awaitAnswers(Run *run, int count) {
    uint64_t patience = nanoseconds() + 10000000000u;
    while (answered < count) {
        netTurn(run, 100000000);
        if (nanoseconds() > patience) fail("NATS: no answer for 10 s");
    }
}

static Link *makeLink(Run *run) {
    Link *link = calloc(1, sizeof *link);
    link->run = run;
    link->number = linksMade++;
    link->lastSID = replySID;
    link->connection = netConnect(run->options, NULL);
    link->connection->owner = link;
    link->connection->received = onReceived;
    put(link, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,"
              "\"lang\":\"c\",\"version\":\"1\",\"name\":\"bench\"}\r\nSUB _INBOX.%d.* %d\r\nPING\r\n", link->number,
        replySID);
    awaitAnswers(run, ++asked);
    return link;
}

static void makeStream(Run *run) {
    request(links[0], "$JS.API.STREAM.CREATE.bench", "stream",
            "{\"name\":\"bench\",\"subjects\":[\"bench.>\"],\"storage\":\"file\",\"retention\":\"limits\","
            "\"discard\":\"old\",\"num_replicas\":1,\"allow_direct\":true,\"allow_atomic\":true}");
    awaitAnswers(run, ++asked);
}

static void subscribe(Run *run) {
    int count = run->options->subscribers, connections = run->options->subscriberConnections;
    Link **own = calloc((size_t)connections, sizeof *own);
    Reader *readers = calloc((size_t)count, sizeof *readers);
    for (int i = 0; i < count; i++) {
        if (i < connections) own[i] = makeLink(run);
        follow(own[i % connections], &readers[i]);
        awaitAnswers(run, ++asked);
    }
}

static void askStored(Run *run) {
    request(links[0], "$JS.API.STREAM.INFO.bench", "info", "");
    while (run->stored < 0) netTurn(run, 100000000);
}

int main(int count, char **arguments) {
    Options options = parseOptions(count, arguments);
    Driver driver = {.append = append, .wait = netTurn};
    Run *run = makeRun(&options, &driver);
    bool isLoad = *options.work == 'l', isRead = *options.work == 'r', subscribes = *options.work == 's';
    links = calloc((size_t)options.connections, sizeof *links);
    for (; linkCount < options.connections; linkCount++) links[linkCount] = makeLink(run);
    makeStream(run);
    if (isLoad || isRead) {
        setClients(run, 8);
        fill(run, isLoad ? (uint64_t)options.aggregates * (uint64_t)options.events : (uint64_t)options.history);
        askStored(run);
        driver.query = isLoad ? load : readHistory;
    }
    setClients(run, options.clients);
    if (subscribes) subscribe(run);
    measure(run);
    if (subscribes) drainDeliveries(run);
    if (driver.query == NULL) askStored(run);
    report(run, options.tls ? "NATS JetStream, TLS" : "NATS JetStream");
    return 0;
}
