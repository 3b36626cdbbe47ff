#include "client.h"

#include <algorithm>
#include <fstream>
#include <future>
#include <iostream>
#include <random>
#include <thread>

#include <google/rpc/status.pb.h>
#include <sqlite3.h>

using namespace martlet::v1;
using namespace std::chrono_literals;

namespace {

bool isRetryable(const CallFailed &failure);
std::chrono::milliseconds pauseAfter(const CallFailed &failure, int failures);

// task: connect

std::string contents(const std::filesystem::path &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    return {std::istreambuf_iterator(file), {}};
}

// Each call has a context of its own. It waits until the channel has found a server, but no longer than this.
void prepare(grpc::ClientContext &context, std::chrono::seconds timeout) {
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    context.set_wait_for_ready(true);
}

void check(const grpc::Status &status) {
    if (!status.ok()) throw CallFailed(status);
}

} // namespace

// Presents the certificate, and takes the limit of what it receives from the server.
Client::Client(
    const std::string &target, const std::filesystem::path &authority, const std::filesystem::path &certificate,
    const std::filesystem::path &key, std::string tenant)
    : tenant(std::move(tenant)) {
    auto credentials = grpc::SslCredentials({contents(authority), contents(key), contents(certificate)});
    grpc::ChannelArguments arguments;
    // A connection that has died silently is found within 40 s, also while only the server has something to say.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    admin = AdminService::NewStub(grpc::CreateCustomChannel(target, credentials, arguments));
    auto info = serverInfo();
    std::cout << "connected as " << info.identity() << ", messages of up to " << info.limits().frame_bytes_max()
              << " bytes" << std::endl;
    arguments.SetMaxReceiveMessageSize(static_cast<int>(info.limits().frame_bytes_max()));
    auto channel = grpc::CreateCustomChannel(target, credentials, arguments);
    admin = AdminService::NewStub(channel);
    appends = AppendService::NewStub(channel);
    queries = QueryService::NewStub(channel);
    subscriptions = SubscribeService::NewStub(channel);
}

GetServerInfoResponse Client::serverInfo() {
    grpc::ClientContext context;
    prepare(context, 10s);
    GetServerInfoResponse response;
    check(admin->GetServerInfo(&context, {}, &response));
    return response;
}

// end

// task: append

// A UUIDv7. An event keeps its id however often it is sent.
std::string newId() {
    static thread_local std::mt19937_64 random{std::random_device{}()};
    auto now = std::chrono::system_clock::now().time_since_epoch();
    auto millis = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
    auto high = millis << 16 | 0x7000 | (random() & 0x0fff);
    auto low = 0x8000'0000'0000'0000 | random() >> 2;
    std::string id;
    for (auto half : {high, low})
        for (int shift = 56; shift >= 0; shift -= 8) id.push_back(static_cast<char>(half >> shift));
    return id;
}

Event newEvent(const std::string &type, const std::string &payload) {
    Event event;
    event.set_id(newId());
    event.set_type(type);
    event.set_payload(payload);
    return event;
}

// Begins an order with two events: both are stored, or neither.
AppendResponse Client::placeOrder(const std::string &order) {
    AppendRequest request;
    request.set_tenant(tenant);
    auto &part = *request.add_aggregates();
    part.mutable_aggregate()->set_type("order");
    part.mutable_aggregate()->set_id(order);
    part.mutable_expected()->set_none(true);
    *part.add_events() = newEvent("OrderPlaced", R"({"item":"book","cents":1200})");
    *part.add_events() = newEvent("OrderPaid", R"({"cents":1200})");

    grpc::ClientContext context;
    prepare(context, 10s);
    AppendResponse response;
    check(appends->Append(&context, request, &response));
    return response;
}

// end

// task: conflict

// Appends one event to an order that has that version; "Retry safely" shows appendSafely.
AppendResponse Client::append(const std::string &order, uint64_t version, Event event) {
    AppendRequest request;
    request.set_tenant(tenant);
    auto &part = *request.add_aggregates();
    part.mutable_aggregate()->set_type("order");
    part.mutable_aggregate()->set_id(order);
    part.mutable_expected()->set_exact(version);
    *part.add_events() = std::move(event);
    return appendSafely(request);
}

// Decides by an order's events, and decides again when somebody else has appended in the meantime.
AppendResponse Client::execute(const std::string &order, const Decision &decide) {
    std::vector<RecordedEvent> history;
    while (true) {
        // The first time everything, later only what is new.
        LoadRequest request;
        request.mutable_aggregate()->set_type("order");
        request.mutable_aggregate()->set_id(order);
        request.set_after_version(history.size());
        std::ranges::move(load(request), std::back_inserter(history));
        try {
            return append(order, history.size(), decide(history));
        } catch (const CallFailed &failure) {
            if (!failure.details || failure.details->reason() != "VERSION_CONFLICT") throw;
            const auto &conflict = failure.details->conflicts(0);
            std::cout << "conflict: expected version " << conflict.expected().exact() << ", found "
                      << conflict.actual() << std::endl;
        }
    }
}

CallFailed::CallFailed(const grpc::Status &status)
    : std::runtime_error(status.error_message()), code(status.error_code()) {
    google::rpc::Status all;
    all.ParseFromString(status.error_details());
    for (const auto &one : all.details()) {
        if (one.Is<CallStatus>()) one.UnpackTo(&details.emplace());
        if (one.Is<google::rpc::RetryInfo>()) one.UnpackTo(&retry.emplace());
    }
}

// end

// task: retry

// Sends the same request, with the same event ids, until the outcome is certain. If an earlier try was stored, the
// server answers what it answered then, and stores nothing.
AppendResponse Client::appendSafely(const AppendRequest &request) {
    for (int failures = 0;; ++failures) {
        try {
            grpc::ClientContext context;
            prepare(context, 10s);
            AppendResponse response;
            check(appends->Append(&context, request, &response));
            return response;
        } catch (const CallFailed &failure) {
            if (!isRetryable(failure)) throw;
            std::cout << "retry after " << (failure.code == grpc::UNAVAILABLE ? "UNAVAILABLE" : failure.what())
                      << std::endl;
            std::this_thread::sleep_for(pauseAfter(failure, failures));
        }
    }
}

namespace {

// Whether the same call may succeed when it is sent again. If the server has not said anything, the connection has
// failed, or the deadline has passed.
bool isRetryable(const CallFailed &failure) {
    if (failure.details) return failure.retry.has_value();
    return failure.code == grpc::UNAVAILABLE || failure.code == grpc::DEADLINE_EXCEEDED;
}

} // namespace

// end

// task: load

// Reads events of one aggregate, all from one consistent view.
std::vector<RecordedEvent> Client::load(const LoadRequest &what) {
    auto request = what;
    request.set_tenant(tenant);
    grpc::ClientContext context;
    prepare(context, 30s);
    auto stream = queries->Load(&context, request);
    std::vector<RecordedEvent> events;
    LoadResponse part;
    while (stream->Read(&part)) std::ranges::move(*part.mutable_events(), std::back_inserter(events));
    check(stream->Finish());
    return events;
}

// Loads an order as of a version, as of the position and the time of an append, and as it is now.
void Client::printHistory(const std::string &order, const AppendResponse &placed) {
    LoadRequest request;
    request.mutable_aggregate()->set_type("order");
    request.mutable_aggregate()->set_id(order);
    auto print = [&](const std::string &when) {
        std::cout << when << ": " << load(request).size() << " events" << std::endl;
    };
    request.set_to_version(1);
    print("as of version 1");
    request.set_as_of_position(placed.last_position());
    print("as of its position");
    request.set_as_of_time_micros(placed.recorded_at_micros());
    print("as of its time");
    request.clear_until();
    print("now");
}

// end

// task: subscribe

namespace {

// A stream that is cancelled if it is left before its end, also by an exception.
class Subscription {
public:
    Subscription(SubscribeService::Stub &subscriptions, const SubscribeRequest &request) {
        context.set_wait_for_ready(true);
        reader = subscriptions.Subscribe(&context, request);
    }

    ~Subscription() {
        if (hasEnded) return;
        context.TryCancel();
        reader->Finish();
    }

    bool read(SubscribeResponse &message) { return reader->Read(&message); }

    // How it ended, after its last message.
    grpc::Status finish() {
        hasEnded = true;
        return reader->Finish();
    }

private:
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<SubscribeResponse>> reader;
    bool hasEnded = false;
};

} // namespace

// Hands each event after a place to the handler, once and in order, through lost connections and restarted servers.
// Returns when the handler wants no more; throws what it throws, and failures that do not pass.
void Client::follow(Place last, const Handler &handle) {
    for (int failures = 0;; ++failures) {
        Subscription stream(*subscriptions, subscription(last));
        SubscribeResponse message;
        while (stream.read(message)) {
            for (const auto &event : message.events()) {
                if (!handle(event)) return;
                last = {event.position(), event.event().id()};
                failures = 0;
            }
        }
        CallFailed failure(stream.finish());
        if (!isRetryable(failure)) throw failure;
        std::this_thread::sleep_for(pauseAfter(failure, failures));
        std::cout << "resume after " << last.position << std::endl;
    }
}

// By the id of the last event, the server sees whether its events are still those that the subscriber knows: the call
// ends with HISTORY_CHANGED if not.
SubscribeRequest Client::subscription(const Place &last) const {
    SubscribeRequest request;
    request.set_tenant(tenant);
    request.set_after_position(last.position);
    if (last.position > 0) {
        request.mutable_last_seen()->set_position(last.position);
        request.mutable_last_seen()->set_event_id(last.eventId);
    }
    return request;
}

// end

// task: project

namespace {

// A connection to SQLite; it closes itself.
class Database {
public:
    explicit Database(const std::filesystem::path &path) {
        if (sqlite3_open(path.c_str(), &handle) != SQLITE_OK) fail();
    }
    Database(const Database &) = delete;
    ~Database() { sqlite3_close(handle); }

    sqlite3 *get() const { return handle; }
    void execute(const char *sql) {
        if (sqlite3_exec(handle, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail();
    }
    [[noreturn]] void fail() const { throw std::runtime_error(sqlite3_errmsg(handle)); }

private:
    sqlite3 *handle = nullptr;
};

class Statement {
public:
    Statement(Database &database, const char *sql) : database(database) {
        if (sqlite3_prepare_v2(database.get(), sql, -1, &handle, nullptr) != SQLITE_OK) database.fail();
    }
    Statement(const Statement &) = delete;
    ~Statement() { sqlite3_finalize(handle); }

    Statement &bind(int index, uint64_t value) {
        sqlite3_bind_int64(handle, index, static_cast<sqlite3_int64>(value));
        return *this;
    }
    Statement &bind(int index, const std::string &bytes) {
        sqlite3_bind_blob(handle, index, bytes.data(), static_cast<int>(bytes.size()), SQLITE_TRANSIENT);
        return *this;
    }
    bool step() {
        auto result = sqlite3_step(handle);
        if (result != SQLITE_ROW && result != SQLITE_DONE) database.fail();
        return result == SQLITE_ROW;
    }
    uint64_t integer(int column) const { return static_cast<uint64_t>(sqlite3_column_int64(handle, column)); }
    std::string bytes(int column) const {
        auto start = static_cast<const char *>(sqlite3_column_blob(handle, column));
        return std::string(start, start + sqlite3_column_bytes(handle, column));
    }

private:
    Database &database;
    sqlite3_stmt *handle = nullptr;
};

// A transaction that is rolled back unless it is committed.
class Transaction {
public:
    explicit Transaction(Database &database) : database(database) { database.execute("BEGIN IMMEDIATE"); }
    ~Transaction() {
        if (!isCommitted) sqlite3_exec(database.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
    void commit() {
        database.execute("COMMIT");
        isCommitted = true;
    }

private:
    Database &database;
    bool isCommitted = false;
};

void projectEvent(Database &database, const RecordedEvent &event) {
    Transaction transaction(database);
    Statement(database, "UPDATE progress SET position = ?, event_id = ? WHERE position < ?")
        .bind(1, event.position())
        .bind(2, event.event().id())
        .bind(3, event.position())
        .step();
    if (sqlite3_changes(database.get()) != 1) throw std::runtime_error("another process has projected this event");
    Statement(database, "INSERT INTO order_lines VALUES (?, ?, ?)")
        .bind(1, event.position())
        .bind(2, event.aggregate_id())
        .bind(3, event.event().type())
        .step();
    transaction.commit();
}

} // namespace

// Keeps a table in SQLite. What it writes for an event and the place after the event are one transaction, so a process
// that dies at any moment goes on exactly there.
void Client::project(const std::filesystem::path &path, const std::function<bool(uint64_t)> &wantsMore) {
    Database database(path);
    database.execute(R"(
        CREATE TABLE IF NOT EXISTS order_lines (position INTEGER, order_id BLOB, type TEXT);
        CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY, position INTEGER, event_id BLOB);
        INSERT OR IGNORE INTO progress VALUES (1, 0, x'');)");
    Place last;
    {
        Statement row(database, "SELECT position, event_id FROM progress");
        row.step();
        last = {row.integer(0), row.bytes(1)};
    }
    std::cout << "start after " << last.position << std::endl;
    follow(last, [&](const RecordedEvent &event) {
        projectEvent(database, event);
        return wantsMore(event.position());
    });
}

// end

// task: drain

namespace {

// How long to wait after a failure, partly by chance, so that not all clients come back at once. A server that is
// drained finishes its calls and ends its streams with the reason DRAINING. That is no failure: the channel looks for a
// server again by itself, and calls wait until it has found one.
std::chrono::milliseconds pauseAfter(const CallFailed &failure, int failures) {
    if (failure.details && failure.details->reason() == "DRAINING") {
        std::cout << "the server is draining" << std::endl;
        return 0ms;
    }
    auto pause = 50ms * (1 << std::min(failures, 6));
    if (failure.retry) {
        const auto &asked = failure.retry->retry_delay();
        pause = std::max(pause, std::chrono::milliseconds(asked.seconds() * 1'000 + asked.nanos() / 1'000'000));
    }
    static thread_local std::minstd_rand random{std::random_device{}()};
    return pause / 2 + std::chrono::milliseconds(random() % static_cast<unsigned>(pause.count()));
}

} // namespace

// Appends and follows at the same time, while servers come and go.
void Client::throughDrain(const std::string &order, uint64_t count) {
    auto followed = std::async(std::launch::async, [&] {
        follow({}, [=](const RecordedEvent &event) {
            std::cout << "event " + std::to_string(event.position()) + "\n" << std::flush;
            return event.position() < count;
        });
    });
    for (uint64_t version = 0; version < count; ++version) {
        append(order, version, newEvent("LineAdded", "{}"));
        std::cout << "appended version " + std::to_string(version + 1) + "\n" << std::flush;
    }
    followed.get();
}

// end
