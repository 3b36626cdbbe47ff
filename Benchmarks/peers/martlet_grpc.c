// Martlet over gRPC: appends as unary calls, or with --method session through one AppendSession on each connection.
#include "grpc.h"
#include "martlet.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Channel **channels;
static int channelCount;

static Channel *channelOf(const Client *client) { return channels[client->index % channelCount]; }

// A client with its call, or a subscriber.
typedef struct {
    Run *run;
    Client *client;
    Call call;
    EventStream events;
    Buffer answer;
    bool isAnswered;  // or a history is read to its end
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

// MARK: Appends, a call each

static void appendMessage(Call *call, const uint8_t *bytes, size_t count) {
    State *state = call->owner;
    // The call stays open until its status: only then may its client begin the next.
    bufferAppend(&state->answer, bytes, count);
    state->isAnswered = true;
}

static void appendClosed(Call *call, const char *problem) {
    State *state = call->owner;
    if (problem) {
        failed(state->run, state->client, problem);
    } else {
        if (!state->isAnswered) fail("Martlet: status 0 without an answer");
        martletAppended(state->run, state->client, state->answer.bytes, bufferCount(&state->answer));
    }
    state->answer.start = state->answer.end = 0;
}

static void append(Run *run, Client *client) {
    static Buffer request;
    State *state = stateOf(run, client);
    state->isAnswered = false;
    state->call.message = appendMessage;
    state->call.closed = appendClosed;
    martletAppend(run, client, &request);
    grpcStart(channelOf(client), &state->call, "/martlet.v1.AppendService/Append", request.bytes,
              bufferCount(&request));
}

// MARK: Appends through sessions

typedef struct {
    Run *run;
    Channel *channel;
    Call call;
    uint64_t lastRequest;
    struct { uint64_t id; Client *client; } open[callsMax];  // by request id
} Session;

static Session *sessions;

static void sessionMessage(Call *call, const uint8_t *bytes, size_t count) {
    Session *session = call->owner;
    const uint8_t *at = bytes, *end = bytes + count;
    uint64_t request = 0;
    Field outcome = {0};
    for (Field field; (field = takeField(&at, end)).number;) {
        if (field.number == 1) request = field.value;
        else outcome = field;
    }
    if (request == 0 || session->open[request % callsMax].id != request)
        fail("Martlet answered the request %lu, which is not open", request);
    session->open[request % callsMax].id = 0;
    Client *client = session->open[request % callsMax].client;
    if (outcome.number == 2) martletAppended(session->run, client, outcome.bytes, outcome.count);
    else failed(session->run, client, martletReason(outcome.bytes, outcome.count).text);
}

static void sessionClosed(Call *call, const char *problem) {
    (void)call;
    fail("Martlet ended a session: %s", problem ? problem : "without a reason");
}

static void appendInSession(Run *run, Client *client) {
    static Buffer request, message;
    Session *session = &sessions[client->index % channelCount];
    martletAppend(run, client, &request);
    uint64_t id = ++session->lastRequest;
    if (session->open[id % callsMax].id) fail("too many appends in a session");
    session->open[id % callsMax].id = id;
    session->open[id % callsMax].client = client;
    message.start = message.end = 0;
    putNumber(&message, 1, id);
    putMessage(&message, 2, &request);
    grpcSend(session->channel, &session->call, message.bytes, bufferCount(&message));
}

static void openSessions(Run *run) {
    sessions = calloc((size_t)channelCount, sizeof *sessions);
    for (int i = 0; i < channelCount; i++) {
        Session *session = &sessions[i];
        session->run = run;
        session->channel = channels[i];
        session->call = (Call){.message = sessionMessage, .closed = sessionClosed, .owner = session};
        grpcOpen(session->channel, &session->call, "/martlet.v1.AppendService/AppendSession");
    }
}

// MARK: Loading and reading

static void queryMessage(Call *call, const uint8_t *bytes, size_t count) {
    State *state = call->owner;
    martletEvents(&state->events, bytes, count);
    if (!state->events.isLoad && (long)state->events.events >= state->run->options->history && !state->isAnswered) {
        state->isAnswered = true;
        grpcCancel(channelOf(state->client), call);
    }
}

static void queryClosed(Call *call, const char *problem) {
    State *state = call->owner;
    (void)call;
    if (state->events.isLoad && problem == NULL) martletCheckLoad(&state->events);
    // A history ends with the cancel that this driver sent.
    if (state->events.isLoad ? problem != NULL : !state->isAnswered)
        failed(state->run, state->client, problem ? problem : "a subscription ended");
    else
        completed(state->run, state->client, 0);
}

static void startQuery(Run *run, Client *client, const char *path, const Buffer *request) {
    State *state = stateOf(run, client);
    state->isAnswered = false;
    state->events = (EventStream){.run = run, .isLoad = *run->options->work == 'l'};
    state->call.message = queryMessage;
    state->call.closed = queryClosed;
    grpcStart(channelOf(client), &state->call, path, request->bytes, bufferCount(request));
}

static void load(Run *run, Client *client) {
    static Buffer request;
    martletLoad(randomNumber() % (uint64_t)run->options->aggregates, &request);
    startQuery(run, client, "/martlet.v1.QueryService/Load", &request);
}

static const char subscribePath[] = "/martlet.v1.SubscribeService/Subscribe";

static void readHistory(Run *run, Client *client) {
    static Buffer request;
    martletSubscribe(&request);
    startQuery(run, client, subscribePath, &request);
}

// MARK: Subscribing

static void deliveryMessage(Call *call, const uint8_t *bytes, size_t count) {
    State *state = call->owner;
    martletEvents(&state->events, bytes, count);
}

static void deliveryClosed(Call *call, const char *problem) {
    (void)call;
    fail("Martlet ended a subscription: %s", problem ? problem : "without a reason");
}

static void subscribe(Run *run) {
    Buffer request = {0};
    martletSubscribe(&request);
    int count = run->options->subscribers, connections = run->options->subscriberConnections;
    State *states = calloc((size_t)count, sizeof *states);
    Channel **own = calloc((size_t)connections, sizeof *own);
    for (int i = 0; i < count; i++) {
        if (i < connections) own[i] = grpcConnect(run->options);
        State *state = &states[i];
        state->run = run;
        state->events = (EventStream){.run = run, .isLive = true};
        state->call = (Call){.message = deliveryMessage, .closed = deliveryClosed, .owner = state};
        grpcStart(own[i % connections], &state->call, subscribePath, request.bytes, bufferCount(&request));
    }
    for (int i = 0; i < count; i++)
        while (!states[i].events.caughtUp) netTurn(run, 100000000);
}

// MARK: The beginning and the end

static void headMessage(Call *call, const uint8_t *bytes, size_t count) {
    State *state = call->owner;
    martletCheckHead(state->run, bytes, count);
}

static void headClosed(Call *call, const char *problem) {
    State *state = call->owner;
    if (problem) fail("Martlet: %s", problem);
    state->isAnswered = true;
}

static void askHead(Run *run) {
    Buffer request = {0};
    martletHead(&request);
    State state = {.run = run};
    state.call = (Call){.message = headMessage, .closed = headClosed, .owner = &state};
    grpcStart(channels[0], &state.call, "/martlet.v1.QueryService/GetHead", request.bytes, bufferCount(&request));
    while (!state.isAnswered) netTurn(run, 100000000);
}

int main(int count, char **arguments) {
    Options options = parseOptions(count, arguments);
    if (options.tls == NULL) fail("Martlet takes --tls CA");
    bool usesSessions = strcmp(options.method, "session") == 0;
    bool isLoad = *options.work == 'l', isRead = *options.work == 'r', subscribes = *options.work == 's';
    Driver driver = {.append = usesSessions ? appendInSession : append, .wait = netTurn};
    Run *run = makeRun(&options, &driver);
    channels = calloc((size_t)options.connections, sizeof *channels);
    for (; channelCount < options.connections; channelCount++) channels[channelCount] = grpcConnect(&options);
    if (usesSessions) openSessions(run);
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
    report(run, usesSessions ? "Martlet, gRPC, AppendSession" : "Martlet, gRPC");
    return 0;
}
