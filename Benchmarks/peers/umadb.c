// UmaDB over gRPC. An aggregate is a tag. An append fails if the tag has events after the last one that its writer
// saw, which is what an expected version is elsewhere.
#include "grpc.h"
#include "protobuf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Channel **channels;
static int channelCount;

static void putTagQuery(Buffer *buffer, int field, uint64_t aggregate) {
    static Buffer item, query;
    char tag[uuidTextCount + 1];
    aggregateText(aggregate, tag);
    putBytes(&item, 2, tag, uuidTextCount);
    putMessage(&query, 1, &item);
    putMessage(buffer, field, &query);
}

// MARK: Appending

typedef struct {
    Run *run;
    Client *client;
    Call call;
    uint64_t position, sequence;
} State;

static State *stateOf(Run *run, Client *client) {
    if (client->driver == NULL) {
        State *state = calloc(1, sizeof *state);
        state->run = run;
        state->client = client;
        state->call.owner = state;
        client->driver = state;
    }
    return client->driver;
}

static void appendMessage(Call *call, const uint8_t *bytes, size_t count) {
    State *state = call->owner;
    const uint8_t *at = bytes;
    for (Field field; (field = takeField(&at, bytes + count)).number;)
        if (field.number == 1) state->position = field.value;
}

static void appendClosed(Call *call, const char *problem) {
    State *state = call->owner;
    if (problem) {
        failed(state->run, state->client, problem);
    } else {
        state->client->position = state->position;
        completed(state->run, state->client, (uint64_t)state->client->batch);
    }
}

static void append(Run *run, Client *client) {
    static Buffer request, event, entry, condition;
    static const char *metadata[][2] = {{"user", USER}, {"correlation", CORRELATION}, {"causation", CAUSATION}};
    State *state = stateOf(run, client);
    request.start = request.end = 0;
    char text[uuidTextCount + 1];
    uint8_t id[16];
    for (int i = 0; i < client->batch; i++) {
        putBytes(&event, 1, EVENT_TYPE, strlen(EVENT_TYPE));
        aggregateText(client->aggregate, text);
        putBytes(&event, 2, text, uuidTextCount);
        const char *payload = payloadText(run->options, client->firstNumber + (uint64_t)i);
        putBytes(&event, 3, payload, (size_t)run->options->payload);
        eventID(id);
        uuidText(id, text);
        putBytes(&event, 4, text, uuidTextCount);
        for (size_t k = 0; k < sizeof metadata / sizeof *metadata; k++) {
            putBytes(&entry, 1, metadata[k][0], strlen(metadata[k][0]));
            putBytes(&entry, 2, metadata[k][1], strlen(metadata[k][1]));
            putMessage(&event, 5, &entry);
        }
        putMessage(&request, 1, &event);
    }
    if (!run->options->unconditional) {
        putTagQuery(&condition, 1, client->aggregate);
        if (client->position > 0) putNumber(&condition, 2, client->position);
        putMessage(&request, 2, &condition);
    }
    state->call.message = appendMessage;
    state->call.closed = appendClosed;
    grpcStart(channels[client->index % channelCount], &state->call, "/umadb.v1.DCB/Append", request.bytes,
              bufferCount(&request));
}

// MARK: Loading and reading

// A SequencedEvent: its position, which must be above the last one, and the event. Of everything, none is left out.
static Field takeSequenced(Field sequenced, uint64_t *position, bool isEverything) {
    const uint8_t *at = sequenced.bytes, *end = sequenced.bytes + sequenced.count;
    uint64_t last = *position;
    Field event = {0};
    for (Field field; (field = takeField(&at, end)).number;) {
        if (field.number == 1) *position = field.value;
        else event = field;
    }
    if (*position <= last || (isEverything && *position != last + 1))
        fail("UmaDB: position %lu came after position %lu", *position, last);
    return event;
}

static void queryMessage(Call *call, const uint8_t *bytes, size_t count) {
    State *state = call->owner;
    bool isEverything = *state->run->options->work == 'r';
    uint64_t events = 0;
    const uint8_t *at = bytes;
    for (Field field; (field = takeField(&at, bytes + count)).number;)
        if (field.number == 1) {
            takeSequenced(field, &state->position, isEverything);
            events++;
        }
    state->sequence += events;
    progressed(state->run, events);
    if (call->other && (long)state->sequence >= state->run->options->history) {
        Channel *channel = call->other;
        call->other = NULL;
        grpcCancel(channel, call);
        call->status = 0;
    }
}

static void queryClosed(Call *call, const char *problem) {
    State *state = call->owner;
    bool isLoad = strcmp(state->run->options->work, "load") == 0;
    uint64_t expected = isLoad ? (uint64_t)state->run->options->events : (uint64_t)state->run->options->history;
    if (problem && call->status != 0) failed(state->run, state->client, problem);
    else if (state->sequence != expected) fail("UmaDB: %lu events instead of %lu", state->sequence, expected);
    else completed(state->run, state->client, 0);
}

static void startQuery(Run *run, Client *client, const char *path, Buffer *request) {
    State *state = stateOf(run, client);
    state->sequence = state->position = 0;
    state->call.message = queryMessage;
    state->call.closed = queryClosed;
    Channel *channel = channels[client->index % channelCount];
    state->call.other = strstr(path, "Subscribe") ? channel : NULL;
    grpcStart(channel, &state->call, path, request->bytes, bufferCount(request));
    request->start = request->end = 0;
}

static void load(Run *run, Client *client) {
    static Buffer request;
    putTagQuery(&request, 1, randomNumber() % (uint64_t)run->options->aggregates);
    putNumber(&request, 6, (uint64_t)run->options->pageEvents);
    startQuery(run, client, "/umadb.v1.DCB/Read", &request);
}

static void readHistory(Run *run, Client *client) {
    static Buffer request;
    bool subscribes = strcmp(run->options->method, "subscribe") == 0;
    putNumber(&request, subscribes ? 3 : 6, (uint64_t)run->options->pageEvents);
    startQuery(run, client, subscribes ? "/umadb.v1.DCB/Subscribe" : "/umadb.v1.DCB/Read", &request);
}

// MARK: Subscribing

static void deliveryMessage(Call *call, const uint8_t *bytes, size_t count) {
    State *state = call->owner;
    const uint8_t *at = bytes;
    for (Field field; (field = takeField(&at, bytes + count)).number == 1;) {
        Field event = takeSequenced(field, &state->position, true);
        const uint8_t *inner = event.bytes, *end = event.bytes + event.count;
        for (Field part; (part = takeField(&inner, end)).number;)
            if (part.number == 3) {
                delivered(state->run, payloadNumber(part.bytes));
                break;
            }
    }
}

static void deliveryClosed(Call *call, const char *problem) {
    (void)call;
    fail("UmaDB ended a subscription: %s", problem ? problem : "without a reason");
}

static void subscribe(Run *run) {
    Buffer request = {0};
    putNumber(&request, 3, (uint64_t)run->options->pageEvents);
    int connections = run->options->subscriberConnections;
    Channel **own = calloc((size_t)connections, sizeof *own);
    for (int i = 0; i < run->options->subscribers; i++) {
        if (i < connections) own[i] = grpcConnect(run->options);
        State *state = calloc(1, sizeof *state);
        state->run = run;
        state->call = (Call){.message = deliveryMessage, .closed = deliveryClosed, .owner = state};
        grpcStart(own[i % connections], &state->call, "/umadb.v1.DCB/Subscribe", request.bytes,
                  bufferCount(&request));
    }
    // It does not say when a subscription has begun; one that begins later gets everything all the same.
    for (int i = 0; i < 20; i++) netTurn(run, 10000000);
}

// MARK: The end

static void headMessage(Call *call, const uint8_t *bytes, size_t count) { appendMessage(call, bytes, count); }

static void headClosed(Call *call, const char *problem) {
    State *state = call->owner;
    if (problem) fail("UmaDB: %s", problem);
    state->run->stored = (long)state->position;
}

static void askHead(Run *run) {
    State state = {.run = run};
    state.call = (Call){.message = headMessage, .closed = headClosed, .owner = &state};
    grpcStart(channels[0], &state.call, "/umadb.v1.DCB/Head", NULL, 0);
    while (run->stored < 0) netTurn(run, 100000000);
}

static void connectAll(const Options *options, int count) {
    channels = calloc((size_t)count, sizeof *channels);
    for (channelCount = 0; channelCount < count; channelCount++) channels[channelCount] = grpcConnect(options);
}

int main(int count, char **arguments) {
    Options options = parseOptions(count, arguments);
    Driver driver = {.append = append, .wait = netTurn};
    Run *run = makeRun(&options, &driver);
    connectAll(&options, options.connections);
    if (strcmp(options.work, "load") == 0 || strcmp(options.work, "read") == 0) {
        bool isLoad = *options.work == 'l';
        setClients(run, 8);
        fill(run, isLoad ? (uint64_t)options.aggregates * (uint64_t)options.events : (uint64_t)options.history);
        askHead(run);
        driver.query = isLoad ? load : readHistory;
    }
    setClients(run, options.clients);
    if (strcmp(options.work, "subscribe") == 0) subscribe(run);
    measure(run);
    if (strcmp(options.work, "subscribe") == 0) drainDeliveries(run);
    if (driver.query == NULL) askHead(run);
    report(run, options.tls ? "UmaDB, TLS" : "UmaDB");
    return 0;
}
