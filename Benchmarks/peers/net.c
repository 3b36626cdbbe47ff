#define _GNU_SOURCE
#include "net.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <stdlib.h>

static int poller = -1;
static Connection *marked, *pending;

static SSL *handshake(const Options *options, const char *protocol, int descriptor) {
    static SSL_CTX *context;
    if (context == NULL) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_read_ahead(context, 1);
        SSL_CTX_set_default_read_buffer_len(context, 64 * 1024);
        if (SSL_CTX_load_verify_locations(context, options->tls, NULL) != 1) fail("%s: no certificate", options->tls);
    }
    SSL *tls = SSL_new(context);
    if (protocol) {
        unsigned char offer[32] = {(unsigned char)strlen(protocol)};
        memcpy(offer + 1, protocol, strlen(protocol));
        SSL_set_alpn_protos(tls, offer, (unsigned)strlen(protocol) + 1);
    }
    SSL_set_fd(tls, descriptor);
    if (SSL_connect(tls) != 1) fail("TLS: %s", ERR_error_string(ERR_get_error(), NULL));
    return tls;
}

Connection *netConnect(const Options *options, const char *protocol) {
    if (poller < 0) poller = epoll_create1(EPOLL_CLOEXEC);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options->port)};
    inet_pton(AF_INET, options->host, &address.sin_addr);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        fail("%s:%d: %s", options->host, options->port, strerror(errno));
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Connection *connection = calloc(1, sizeof *connection);
    connection->descriptor = descriptor;
    if (options->tls) connection->tls = handshake(options, protocol, descriptor);
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &interest);
    return connection;
}

void netMark(Connection *connection) {
    if (connection->marked) return;
    connection->marked = true;
    connection->nextMarked = marked;
    marked = connection;
}

static void flush(Connection *connection) {
    if (connection->prepare) connection->prepare(connection);
    bool blocked = false;
    while (bufferCount(&connection->out) > 0 && !blocked) {
        const uint8_t *bytes = connection->out.bytes + connection->out.start;
        size_t count = bufferCount(&connection->out);
        ssize_t sent;
        if (connection->tls) {
            ERR_clear_error();
            sent = SSL_write(connection->tls, bytes, count > 1 << 20 ? 1 << 20 : (int)count);
            if (sent <= 0) {
                int reason = SSL_get_error(connection->tls, (int)sent);
                if (reason != SSL_ERROR_WANT_WRITE && reason != SSL_ERROR_WANT_READ) fail("the server closed (write)");
                blocked = true;
            }
        } else {
            sent = send(connection->descriptor, bytes, count, MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno != EAGAIN) fail("send: %s", strerror(errno));
                blocked = true;
            }
        }
        if (sent > 0) bufferConsume(&connection->out, (size_t)sent);
    }
    if (blocked != connection->wantsWrite) {
        connection->wantsWrite = blocked;
        struct epoll_event interest = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = connection};
        epoll_ctl(poller, EPOLL_CTL_MOD, connection->descriptor, &interest);
    }
}

static void flushMarked(void) {
    while (marked) {
        Connection *connection = marked;
        marked = connection->nextMarked;
        connection->marked = false;
        flush(connection);
    }
}

// At most `budget` bytes at a time, so that one fast stream does not keep the others and the clock waiting.
static void receive(Run *run, Connection *connection) {
    static uint8_t bytes[128 * 1024];
    for (size_t budget = 256 * 1024; budget > 0;) {
        ssize_t count;
        bool last = false;
        if (connection->tls) {
            ERR_clear_error();
            // A record holds up to 16 KiB: gather what is there, to hand over larger pieces.
            size_t gathered = 0;
            int reason = SSL_ERROR_NONE;
            while (gathered + 16384 <= sizeof bytes) {
                int got = SSL_read(connection->tls, bytes + gathered, (int)(sizeof bytes - gathered));
                if (got <= 0) {
                    reason = SSL_get_error(connection->tls, got);
                    break;
                }
                gathered += (size_t)got;
            }
            if (gathered == 0 && reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE)
                fail("the server closed (read)");
            if (gathered == 0) return;
            count = (ssize_t)gathered;
            if (reason != SSL_ERROR_NONE) last = true;
        } else {
            count = recv(connection->descriptor, bytes, sizeof bytes, 0);
            if (count == 0) fail("the server closed");
            if (count < 0) {
                if (errno == EAGAIN) return;
                fail("recv: %s", strerror(errno));
            }
            if ((size_t)count < sizeof bytes) last = true;
        }
        run->now = nanoseconds();
        connection->received(connection, bytes, (size_t)count);
        if (last) return;
        budget -= (size_t)count < budget ? (size_t)count : budget;
    }
    // Bytes that OpenSSL has read already do not wake epoll again.
    if (connection->tls && !connection->pending) {
        connection->pending = true;
        connection->nextPending = pending;
        pending = connection;
    }
}

void netTurn(Run *run, uint64_t waitNanoseconds) {
    flushMarked();
    struct epoll_event events[256];
    Connection *rest = pending;
    pending = NULL;
    if (rest) waitNanoseconds = 0;
    struct timespec wait = {(time_t)(waitNanoseconds / 1000000000u), (long)(waitNanoseconds % 1000000000u)};
    int count = epoll_pwait2(poller, events, 256, &wait, NULL);
    while (rest) {
        Connection *connection = rest;
        rest = connection->nextPending;
        connection->pending = false;
        receive(run, connection);
    }
    for (int i = 0; i < count; i++) {
        Connection *connection = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) netMark(connection);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(run, connection);
    }
    flushMarked();
}
