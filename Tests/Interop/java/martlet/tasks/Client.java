package martlet.tasks;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.Durations;
import com.google.rpc.RetryInfo;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import java.io.File;
import java.nio.ByteBuffer;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.LongPredicate;
import javax.net.ssl.SSLException;
import martlet.v1.AdminServiceGrpc;
import martlet.v1.AdminServiceGrpc.AdminServiceBlockingStub;
import martlet.v1.AggregateAppend;
import martlet.v1.AggregateName;
import martlet.v1.AppendRequest;
import martlet.v1.AppendResponse;
import martlet.v1.AppendServiceGrpc;
import martlet.v1.AppendServiceGrpc.AppendServiceBlockingStub;
import martlet.v1.CallStatus;
import martlet.v1.Event;
import martlet.v1.ExpectedVersion;
import martlet.v1.GetServerInfoRequest;
import martlet.v1.LoadRequest;
import martlet.v1.QueryServiceGrpc;
import martlet.v1.QueryServiceGrpc.QueryServiceBlockingStub;
import martlet.v1.RecordedEvent;
import martlet.v1.SeenEvent;
import martlet.v1.SubscribeRequest;
import martlet.v1.SubscribeServiceGrpc;
import martlet.v1.SubscribeServiceGrpc.SubscribeServiceBlockingStub;
import martlet.v1.VersionConflict;

// task: connect

/** A connection to Martlet, for one tenant. */
final class Client implements AutoCloseable {
    private final ByteString tenant;
    private final ManagedChannel channel;
    private final AdminServiceBlockingStub admin;
    private final AppendServiceBlockingStub appends;
    private final QueryServiceBlockingStub queries;
    private final SubscribeServiceBlockingStub subscriptions;

    /** Presents the certificate, and takes the limit of what it receives from the server. */
    Client(String target, File authority, File certificate, File key, UUID tenant) throws SSLException {
        this.tenant = bytes(tenant);
        channel = NettyChannelBuilder.forTarget(target)
                .sslContext(GrpcSslContexts.forClient()
                        .trustManager(authority)
                        .keyManager(certificate, key)
                        .protocols("TLSv1.3")
                        .build())
                // A connection that has died silently is found within 40 s.
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(10, TimeUnit.SECONDS)
                .build();
        admin = AdminServiceGrpc.newBlockingStub(channel).withWaitForReady();
        var info = admin.withDeadlineAfter(10, TimeUnit.SECONDS)
                .getServerInfo(GetServerInfoRequest.getDefaultInstance());
        var messageBytesMax = Math.toIntExact(info.getLimits().getFrameBytesMax());
        System.out.printf("connected as %s, messages of up to %d bytes%n", info.getIdentity(), messageBytesMax);
        appends = AppendServiceGrpc.newBlockingStub(channel).withWaitForReady();
        queries = QueryServiceGrpc.newBlockingStub(channel)
                .withWaitForReady()
                .withMaxInboundMessageSize(messageBytesMax);
        subscriptions = SubscribeServiceGrpc.newBlockingStub(channel)
                .withWaitForReady()
                .withMaxInboundMessageSize(messageBytesMax);
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }

    // end

    AdminServiceBlockingStub admin() {
        return admin;
    }

    ByteString tenant() {
        return tenant;
    }

    // task: append

    /** A UUIDv7. An event keeps its id however often it is sent. */
    static UUID newId() {
        var random = UUID.randomUUID();
        var high = System.currentTimeMillis() << 16 | 0x7000 | random.getMostSignificantBits() & 0x0fff;
        return new UUID(high, random.getLeastSignificantBits());
    }

    static ByteString bytes(UUID id) {
        var buffer = ByteBuffer.allocate(16);
        buffer.putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
        return ByteString.copyFrom(buffer.array());
    }

    static Event newEvent(String type, String payload) {
        return Event.newBuilder()
                .setId(bytes(newId()))
                .setType(type)
                .setPayload(ByteString.copyFromUtf8(payload))
                .build();
    }

    static AggregateName order(UUID id) {
        return AggregateName.newBuilder().setType("order").setId(bytes(id)).build();
    }

    /** Begins an order with two events: both are stored, or neither. */
    AppendResponse placeOrder(UUID order) {
        var part = AggregateAppend.newBuilder()
                .setAggregate(order(order))
                .setExpected(ExpectedVersion.newBuilder().setNone(true))
                .addEvents(newEvent("OrderPlaced", "{\"item\":\"book\",\"cents\":1200}"))
                .addEvents(newEvent("OrderPaid", "{\"cents\":1200}"));
        return appends.withDeadlineAfter(10, TimeUnit.SECONDS)
                .append(AppendRequest.newBuilder().setTenant(tenant).addAggregates(part).build());
    }

    // end

    // task: conflict

    /** Appends one event to an order that has that version; "Retry safely" shows appendSafely. */
    AppendResponse append(UUID order, long version, Event event) throws InterruptedException {
        var part = AggregateAppend.newBuilder()
                .setAggregate(order(order))
                .setExpected(ExpectedVersion.newBuilder().setExact(version))
                .addEvents(event);
        return appendSafely(AppendRequest.newBuilder().setTenant(tenant).addAggregates(part).build());
    }

    /** Decides by an order's events, and decides again when somebody else has appended in the meantime. */
    AppendResponse execute(UUID order, Function<List<RecordedEvent>, Event> decide) throws InterruptedException {
        var history = new ArrayList<RecordedEvent>();
        while (true) {
            // The first time everything, later only what is new.
            history.addAll(load(LoadRequest.newBuilder().setAggregate(order(order)).setAfterVersion(history.size())));
            var event = decide.apply(history);
            try {
                return append(order, history.size(), event);
            } catch (StatusRuntimeException failure) {
                var conflict = conflictOf(failure).orElseThrow(() -> failure);
                System.out.printf(
                        "conflict: expected version %d, found %d%n",
                        conflict.getExpected().getExact(), conflict.getActual());
            }
        }
    }

    /** The conflict that an append has failed with, if it was one. */
    static Optional<VersionConflict> conflictOf(StatusRuntimeException failure) {
        return detailOf(failure, CallStatus.class)
                .filter(status -> status.getReason().equals("VERSION_CONFLICT"))
                .map(status -> status.getConflicts(0));
    }

    /** What the server says about a call's failure, of that type. */
    static <D extends Message> Optional<D> detailOf(StatusRuntimeException failure, Class<D> type) {
        for (var detail : StatusProto.fromThrowable(failure).getDetailsList()) {
            if (!detail.is(type)) continue;
            try {
                return Optional.of(detail.unpack(type));
            } catch (InvalidProtocolBufferException malformed) {
                throw new IllegalStateException(malformed);
            }
        }
        return Optional.empty();
    }

    // end

    // task: retry

    /**
     * Sends the same request, with the same event ids, until the outcome is certain. If an earlier try was stored, the
     * server answers what it answered then, and stores nothing.
     */
    AppendResponse appendSafely(AppendRequest request) throws InterruptedException {
        for (var failures = 0; ; failures++) {
            try {
                return appends.withDeadlineAfter(10, TimeUnit.SECONDS).append(request);
            } catch (StatusRuntimeException failure) {
                if (!isRetryable(failure)) throw failure;
                System.out.println("retry after " + failure.getStatus().getCode());
                Thread.sleep(millisToPause(failure, failures));
            }
        }
    }

    /**
     * Whether the same call may succeed when it is sent again. If the server has not said anything, the connection has
     * failed, or the deadline has passed.
     */
    static boolean isRetryable(StatusRuntimeException failure) {
        if (detailOf(failure, CallStatus.class).isPresent()) return detailOf(failure, RetryInfo.class).isPresent();
        return switch (failure.getStatus().getCode()) {
            case UNAVAILABLE, DEADLINE_EXCEEDED -> true;
            default -> false;
        };
    }

    // end

    // task: load

    /** Reads events of one aggregate, all from one consistent view. */
    List<RecordedEvent> load(LoadRequest.Builder request) {
        var events = new ArrayList<RecordedEvent>();
        queries.withDeadlineAfter(30, TimeUnit.SECONDS)
                .load(request.setTenant(tenant).build())
                .forEachRemaining(part -> events.addAll(part.getEventsList()));
        return events;
    }

    /** Loads an order as of a version, as of the position and the time of an append, and as it is now. */
    void printHistory(UUID order, AppendResponse placed) {
        var request = LoadRequest.newBuilder().setAggregate(order(order));
        System.out.printf("as of version 1: %d events%n", load(request.clone().setToVersion(1)).size());
        System.out.printf(
                "as of its position: %d events%n",
                load(request.clone().setAsOfPosition(placed.getLastPosition())).size());
        System.out.printf(
                "as of its time: %d events%n",
                load(request.clone().setAsOfTimeMicros(placed.getRecordedAtMicros())).size());
        System.out.printf("now: %d events%n", load(request).size());
    }

    // end

    // task: subscribe

    /** The event that a subscriber has handled last. */
    record Place(long position, ByteString eventId) {
        static final Place START = new Place(0, ByteString.EMPTY);
    }

    /** Handles an event, and says whether it wants more. */
    interface Handler {
        boolean handle(RecordedEvent event) throws Exception;
    }

    /**
     * Hands each event after a place to the handler, once and in order, through lost connections and restarted servers.
     * Returns when the handler wants no more; throws what it throws, and failures that do not pass.
     */
    void follow(Place start, Handler handler) throws Exception {
        var last = start;
        for (var failures = 0; ; failures++) {
            var request = subscription(last);
            // However this block is left, the call is cancelled.
            try (var call = Context.current().withCancellation()) {
                var messages = call.call(() -> subscriptions.subscribe(request));
                while (messages.hasNext()) {
                    for (var event : messages.next().getEventsList()) {
                        if (!handler.handle(event)) return;
                        last = new Place(event.getPosition(), event.getEvent().getId());
                        failures = 0;
                    }
                }
            } catch (StatusRuntimeException failure) {
                if (!isRetryable(failure)) throw failure;
                Thread.sleep(millisToPause(failure, failures));
            }
            System.out.println("resume after " + last.position());
        }
    }

    /**
     * By the id of the last event, the server sees whether its events are still those that the subscriber knows: the
     * call ends with HISTORY_CHANGED if not.
     */
    private SubscribeRequest subscription(Place last) {
        var request = SubscribeRequest.newBuilder().setTenant(tenant).setAfterPosition(last.position());
        if (last.position() > 0) {
            request.setLastSeen(
                    SeenEvent.newBuilder().setPosition(last.position()).setEventId(last.eventId()));
        }
        return request.build();
    }

    // end

    // task: project

    /**
     * Keeps a table in SQLite. What it writes for an event and the place after the event are one transaction, so a
     * process that dies at any moment goes on exactly there.
     */
    void project(Connection database, LongPredicate wantsMore) throws Exception {
        Place last;
        database.setAutoCommit(false);
        try (var statement = database.createStatement()) {
            statement.execute("CREATE TABLE IF NOT EXISTS order_lines (position INTEGER, order_id BLOB, type TEXT)");
            statement.execute("CREATE TABLE IF NOT EXISTS progress "
                    + "(id INTEGER PRIMARY KEY, position INTEGER, event_id BLOB)");
            statement.execute("INSERT OR IGNORE INTO progress VALUES (1, 0, x'')");
            database.commit();
            try (var row = statement.executeQuery("SELECT position, event_id FROM progress")) {
                row.next();
                last = new Place(row.getLong(1), ByteString.copyFrom(row.getBytes(2)));
            }
            database.commit();
        }
        System.out.println("start after " + last.position());
        follow(last, event -> {
            project(event, database);
            return wantsMore.test(event.getPosition());
        });
    }

    private static void project(RecordedEvent event, Connection database) throws SQLException {
        try (var move = database.prepareStatement(
                        "UPDATE progress SET position = ?, event_id = ? WHERE position < ?");
                var insert = database.prepareStatement("INSERT INTO order_lines VALUES (?, ?, ?)")) {
            move.setLong(1, event.getPosition());
            move.setBytes(2, event.getEvent().getId().toByteArray());
            move.setLong(3, event.getPosition());
            if (move.executeUpdate() != 1) throw new SQLException("another process has projected this event");
            insert.setLong(1, event.getPosition());
            insert.setBytes(2, event.getAggregateId().toByteArray());
            insert.setString(3, event.getEvent().getType());
            insert.executeUpdate();
            database.commit();
        } catch (SQLException failure) {
            database.rollback();
            throw failure;
        }
    }

    // end

    // task: drain

    /**
     * How long to wait after a failure, partly by chance, so that not all clients come back at once. A server that is
     * drained finishes its calls and ends its streams with the reason DRAINING. That is no failure: the channel looks
     * for a server again by itself, and calls wait until it has found one.
     */
    static long millisToPause(StatusRuntimeException failure, int failures) {
        if (detailOf(failure, CallStatus.class).filter(status -> status.getReason().equals("DRAINING")).isPresent()) {
            System.out.println("the server is draining");
            return 0;
        }
        var asked = detailOf(failure, RetryInfo.class).map(info -> Durations.toMillis(info.getRetryDelay())).orElse(0L);
        var pause = Math.max(50L << Math.min(failures, 6), asked);
        return pause / 2 + ThreadLocalRandom.current().nextLong(pause);
    }

    /** Appends and follows at the same time, while servers come and go. */
    void throughDrain(UUID order, long count) throws Exception {
        var followed = CompletableFuture.runAsync(() -> {
            try {
                follow(Place.START, event -> {
                    System.out.println("event " + event.getPosition());
                    return event.getPosition() < count;
                });
            } catch (Exception failure) {
                throw new IllegalStateException(failure);
            }
        });
        for (var version = 0L; version < count; version++) {
            append(order, version, newEvent("LineAdded", "{}"));
            System.out.println("appended version " + (version + 1));
        }
        followed.get();
    }

    // end
}
