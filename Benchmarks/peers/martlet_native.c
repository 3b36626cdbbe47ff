// Martlet over its own protocol, martlet/1.
#include "martlet.h"
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { helloField = 4, creditField = 5, cancelField = 6, appendField = 16, loadField = 17, subscribeField = 19,
       headField = 20 };
enum { welcomeField = 4, statusField = 5, goAwayField = 6, pingField = 7 };

// A call under way: an append of a client, or a stream, which may be a client's or a subscriber's.
typedef struct {
    EventStream events;
    Client *client;
    uint64_t used;  // credit that was used and not granted again
} Stream;

typedef struct {
    uint64_t id;
    Client *client;
    Stream *stream;
} Open;

typedef struct {
    Run *run;
    Connection *connection;
    Buffer in;
    uint64_t lastCall;
    Open open[callsMax];  // by call id
} Link;

static Link **links;
static int linkCount;

static Link *linkOf(const Client *client) { return links[client->index % linkCount]; }

// MARK: Sending

static void sendFrame(Link *link, uint64_t call, uint64_t credit, int field, const Buffer *body) {
    size_t count = body ? bufferCount(body) : 0;
    uint8_t *begin = bufferReserve(&link->connection->out, count + 48), *at = begin + 5;
    if (call) {
        *at++ = 1 << 3;
        at = varintAt(at, call);
    }
    if (credit) {
        *at++ = 3 << 3;
        at = varintAt(at, credit);
    }
    at = varintAt(at, (uint64_t)field << 3 | 2);
    at = varintAt(at, count);
    if (count) memcpy(at, body->bytes + body->start, count);
    at += count;
    size_t length = (size_t)(at - begin) - 5;
    begin[0] = 0;
    for (int i = 0; i < 4; i++) begin[1 + i] = (uint8_t)(length >> (24 - 8 * i));
    link->connection->out.end += (size_t)(at - begin);
    netMark(link->connection);
}

static Open *openCall(Link *link) {
    Open *open = &link->open[++link->lastCall % callsMax];
    if (open->id) fail("too many calls on a connection");
    *open = (Open){.id = link->lastCall};
    return open;
}

static void append(Run *run, Client *client) {
    static Buffer request;
    Link *link = linkOf(client);
    martletAppend(run, client, &request);
    openCall(link)->client = client;
    sendFrame(link, link->lastCall, 0, appendField, &request);
}

static void startStream(Link *link, Stream *stream, int field, const Buffer *request) {
    stream->used = 0;
    openCall(link)->stream = stream;
    sendFrame(link, link->lastCall, streamWindowBytes, field, request);
}

static Stream *streamOf(Run *run, Client *client) {
    if (client->driver == NULL) client->driver = calloc(1, sizeof(Stream));
    Stream *stream = client->driver;
    *stream = (Stream){.events = {.run = run, .isLoad = *run->options->work == 'l'}, .client = client};
    return stream;
}

static void load(Run *run, Client *client) {
    static Buffer request;
    martletLoad(randomNumber() % (uint64_t)run->options->aggregates, &request);
    startStream(linkOf(client), streamOf(run, client), loadField, &request);
}

static void readHistory(Run *run, Client *client) {
    static Buffer request;
    martletSubscribe(&request);
    startStream(linkOf(client), streamOf(run, client), subscribeField, &request);
}

// MARK: Receiving

static void onEvents(Link *link, Open *open, const Field *body) {
    static Buffer credit;
    Stream *stream = open->stream;
    Run *run = link->run;
    stream->used += martletEvents(&stream->events, body->bytes, body->count);
    bool isHistory = stream->client && !stream->events.isLoad;
    if (isHistory && (long)stream->events.events >= run->options->history) {
        sendFrame(link, open->id, 0, cancelField, NULL);
        // What still comes of it is ignored, until its status.
        open->stream = NULL;
        completed(run, stream->client, 0);
    } else if (stream->used >= streamWindowBytes / 2) {
        credit.start = credit.end = 0;
        putNumber(&credit, 1, stream->used);
        sendFrame(link, open->id, 0, creditField, &credit);
        stream->used = 0;
    }
}

static void onStatus(Link *link, Open *open, const Field *body) {
    Open ended = *open;
    open->id = 0;
    if (ended.stream && ended.stream->client && body->count == 0) {
        martletCheckLoad(&ended.stream->events);
        completed(link->run, ended.stream->client, 0);
        return;
    }
    Reason reason = martletReason(body->bytes, body->count);
    if (ended.client) failed(link->run, ended.client, reason.text);
    else if (ended.stream && ended.stream->client) failed(link->run, ended.stream->client, reason.text);
    else if (ended.stream) fail("Martlet ended a subscription: %s", reason.text);
}

static void onFrame(Link *link, const uint8_t *bytes, size_t count) {
    const uint8_t *at = bytes, *end = bytes + count;
    uint64_t call = 0;
    Field body = {0};
    for (Field field; (field = takeField(&at, end)).number;) {
        if (field.number == 1) call = field.value;
        else body = field;
    }
    if (call == 0) {
        if (body.number == pingField) {
            // A pong has the field after it, and the same contents.
            static Buffer pong;
            pong.start = pong.end = 0;
            bufferAppend(&pong, body.bytes, body.count);
            sendFrame(link, 0, 0, pingField + 1, &pong);
        } else if (body.number != welcomeField) {
            fail("Martlet closes the connection: %s", martletReason(body.bytes, body.count).text);
        }
        return;
    }
    Open *open = &link->open[call % callsMax];
    if (open->id != call) fail("Martlet answered the call %lu, which is not open", call);
    switch (body.number) {
    case appendField: {
        Client *client = open->client;
        open->id = 0;
        martletAppended(link->run, client, body.bytes, body.count);
        break;
    }
    case loadField:
    case subscribeField:
        if (open->stream) onEvents(link, open, &body);
        break;
    case headField:
        open->id = 0;
        martletCheckHead(link->run, body.bytes, body.count);
        break;
    case statusField:
        onStatus(link, open, &body);
        break;
    default:
        fail("Martlet sent a frame of the kind %d", body.number);
    }
}

// Returns the bytes of the frames that are whole.
static size_t takeFrames(Link *link, const uint8_t *bytes, size_t count) {
    size_t taken = 0;
    while (count - taken >= 5) {
        const uint8_t *head = bytes + taken;
        size_t length = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
        if (head[0] != 0) fail("Martlet: a compressed frame");
        if (count - taken < 5 + length) break;
        onFrame(link, head + 5, length);
        taken += 5 + length;
    }
    return taken;
}

static void onReceived(Connection *connection, const uint8_t *bytes, size_t count) {
    Link *link = connection->owner;
    if (bufferCount(&link->in) == 0) {
        size_t taken = takeFrames(link, bytes, count);
        if (taken < count) bufferAppend(&link->in, bytes + taken, count - taken);
    } else {
        bufferAppend(&link->in, bytes, count);
        bufferConsume(&link->in, takeFrames(link, link->in.bytes + link->in.start, bufferCount(&link->in)));
    }
}

// MARK: The beginning and the end

static Link *makeLink(Run *run) {
    Link *link = calloc(1, sizeof *link);
    link->run = run;
    link->connection = netConnect(run->options, "martlet/1");
    link->connection->owner = link;
    link->connection->received = onReceived;
    Buffer hello = {0};
    uint8_t version = 1;
    putBytes(&hello, 1, &version, 1);
    putBytes(&hello, 2, "bench/1", 7);
    sendFrame(link, 0, 0, helloField, &hello);
    free(hello.bytes);
    return link;
}

static void subscribe(Run *run) {
    Buffer request = {0};
    martletSubscribe(&request);
    int count = run->options->subscribers, connections = run->options->subscriberConnections;
    Stream *streams = calloc((size_t)count, sizeof *streams);
    Link **own = calloc((size_t)connections, sizeof *own);
    for (int i = 0; i < count; i++) {
        if (i < connections) own[i] = makeLink(run);
        streams[i].events = (EventStream){.run = run, .isLive = true};
        startStream(own[i % connections], &streams[i], subscribeField, &request);
    }
    for (int i = 0; i < count; i++)
        while (!streams[i].events.caughtUp) netTurn(run, 100000000);
}

static void askHead(Run *run) {
    Buffer request = {0};
    martletHead(&request);
    openCall(links[0]);
    sendFrame(links[0], links[0]->lastCall, 0, headField, &request);
    while (run->stored < 0) netTurn(run, 100000000);
}

int main(int count, char **arguments) {
    Options options = parseOptions(count, arguments);
    if (options.tls == NULL) fail("Martlet takes --tls CA");
    Driver driver = {.append = append, .wait = netTurn};
    Run *run = makeRun(&options, &driver);
    bool isLoad = *options.work == 'l', isRead = *options.work == 'r', subscribes = *options.work == 's';
    links = calloc((size_t)options.connections, sizeof *links);
    for (; linkCount < options.connections; linkCount++) links[linkCount] = makeLink(run);
    if (isLoad || isRead) {
        setClients(run, 8);
        fill(run, isLoad ? (uint64_t)options.aggregates * (uint64_t)options.events : (uint64_t)options.history);
        askHead(run);
        driver.query = isLoad ? load : readHistory;
    }
    setClients(run, options.clients);
    if (subscribes) subscribe(run);
    measure(run);
    if (subscribes) drainDeliveries(run);
    if (driver.query == NULL) askHead(run);
    report(run, "Martlet, martlet/1");
    return 0;
}
