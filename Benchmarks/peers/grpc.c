#include "grpc.h"
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Channel {
    nghttp2_session *session;
    Connection *connection;
    const char *scheme;
    char authority[64];
};

// Flow control: what the server may send ahead on a stream, and on a connection.
enum { streamWindow = 1024 * 1024, connectionWindow = 16 * 1024 * 1024 };

// Hands over the messages that are whole, and returns their bytes.
static size_t takeMessages(Call *call, const uint8_t *bytes, size_t count) {
    size_t taken = 0;
    // Each message: a byte that says whether it is compressed, and its length.
    while (count - taken >= 5) {
        const uint8_t *head = bytes + taken;
        size_t length = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
        if (head[0] != 0) fail("a compressed message, which was not asked for");
        if (count - taken < 5 + length) break;
        call->message(call, head + 5, length);
        taken += 5 + length;
    }
    return taken;
}

static int onData(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t count,
                  void *owner) {
    (void)flags, (void)owner;
    Call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (call == NULL) return 0;
    if (bufferCount(&call->in) == 0) {
        size_t taken = takeMessages(call, bytes, count);
        if (taken < count) bufferAppend(&call->in, bytes + taken, count - taken);
    } else {
        bufferAppend(&call->in, bytes, count);
        bufferConsume(&call->in, takeMessages(call, call->in.bytes + call->in.start, bufferCount(&call->in)));
    }
    return 0;
}

static int onHeader(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t nameCount,
                    const uint8_t *value, size_t valueCount, uint8_t flags, void *owner) {
    (void)flags, (void)owner;
    Call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call == NULL) return 0;
    if (nameCount == 11 && memcmp(name, "grpc-status", 11) == 0) call->status = atoi((const char *)value);
    if (nameCount == 12 && memcmp(name, "grpc-message", 12) == 0)
        snprintf(call->statusMessage, sizeof call->statusMessage, "%.*s", (int)valueCount, (const char *)value);
    return 0;
}

static int onClose(nghttp2_session *session, int32_t stream, uint32_t code, void *owner) {
    (void)owner;
    Call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (call == NULL) return 0;
    call->stream = 0;
    call->in.start = call->in.end = 0;
    if (code != 0 && call->status <= 0) snprintf(call->statusMessage, sizeof call->statusMessage, "HTTP/2 %u", code);
    call->closed(call, code == 0 && call->status == 0 ? NULL : call->statusMessage);
    return 0;
}

static ssize_t readBody(nghttp2_session *session, int32_t stream, uint8_t *bytes, size_t count, uint32_t *flags,
                        nghttp2_data_source *source, void *owner) {
    (void)session, (void)stream, (void)owner;
    Call *call = source->ptr;
    Buffer *body = &call->body;
    size_t part = bufferCount(body) < count ? bufferCount(body) : count;
    if (part == 0 && call->isOpen) {
        call->isDeferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    memcpy(bytes, body->bytes + body->start, part);
    bufferConsume(body, part);
    if (bufferCount(body) == 0 && !call->isOpen) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)part;
}

static void onReceived(Connection *connection, const uint8_t *bytes, size_t count) {
    Channel *channel = connection->owner;
    ssize_t taken = nghttp2_session_mem_recv(channel->session, bytes, count);
    if (taken < 0) fail("HTTP/2: %s", nghttp2_strerror((int)taken));
    if (nghttp2_session_want_write(channel->session)) netMark(connection);
}

static void onPrepare(Connection *connection) {
    Channel *channel = connection->owner;
    for (;;) {
        const uint8_t *bytes;
        ssize_t count = nghttp2_session_mem_send(channel->session, &bytes);
        if (count < 0) fail("HTTP/2: %s", nghttp2_strerror((int)count));
        if (count == 0) break;
        bufferAppend(&connection->out, bytes, (size_t)count);
    }
}

Channel *grpcConnect(const Options *options) {
    Channel *channel = calloc(1, sizeof *channel);
    channel->scheme = options->tls ? "https" : "http";
    snprintf(channel->authority, sizeof channel->authority, "localhost:%d", options->port);
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onData);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, onHeader);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onClose);
    nghttp2_session_client_new(&channel->session, callbacks, channel);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, streamWindow},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 64 * 1024},
    };
    nghttp2_submit_settings(channel->session, 0, settings, sizeof settings / sizeof *settings);
    nghttp2_session_set_local_window_size(channel->session, 0, 0, connectionWindow);
    channel->connection = netConnect(options, "h2");
    channel->connection->owner = channel;
    channel->connection->received = onReceived;
    channel->connection->prepare = onPrepare;
    netMark(channel->connection);
    return channel;
}

static nghttp2_nv pair(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static void queueMessage(Call *call, const uint8_t *message, size_t count) {
    uint8_t head[5] = {0, (uint8_t)(count >> 24), (uint8_t)(count >> 16), (uint8_t)(count >> 8), (uint8_t)count};
    bufferAppend(&call->body, head, sizeof head);
    bufferAppend(&call->body, message, count);
}

static void submit(Channel *channel, Call *call, const char *path) {
    call->status = -1;
    call->statusMessage[0] = 0;
    nghttp2_nv headers[] = {
        pair(":method", "POST"), pair(":scheme", channel->scheme), pair(":path", path),
        pair(":authority", channel->authority), pair("content-type", "application/grpc"), pair("te", "trailers"),
    };
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = readBody};
    size_t headerCount = sizeof headers / sizeof *headers;
    call->stream = nghttp2_submit_request(channel->session, NULL, headers, headerCount, &body, call);
    if (call->stream < 0) fail("HTTP/2: %s", nghttp2_strerror(call->stream));
    netMark(channel->connection);
}

void grpcStart(Channel *channel, Call *call, const char *path, const uint8_t *request, size_t count) {
    call->isOpen = call->isDeferred = false;
    call->body.start = call->body.end = 0;
    queueMessage(call, request, count);
    submit(channel, call, path);
}

void grpcOpen(Channel *channel, Call *call, const char *path) {
    call->isOpen = true;
    call->isDeferred = false;
    submit(channel, call, path);
}

void grpcSend(Channel *channel, Call *call, const uint8_t *message, size_t count) {
    queueMessage(call, message, count);
    if (call->isDeferred) {
        call->isDeferred = false;
        nghttp2_session_resume_data(channel->session, call->stream);
    }
    netMark(channel->connection);
}

void grpcCancel(Channel *channel, Call *call) {
    if (call->stream <= 0) return;
    nghttp2_submit_rst_stream(channel->session, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL);
    netMark(channel->connection);
}
