import MartletRecordCodec
import MartletModel
import MartletSession
import FoundationEssentials
import Logging
import NIOConcurrencyHelpers
import NIOCore
import MartletTLSOpenSSL
import Testing

@testable import MartletClient

enum Sample {
    static let tenant = TenantID(UUID(high: 1, low: 1))

    static func aggregate(_ number: UInt64 = 1) throws -> AggregateName {
        AggregateName(type: try type("order"), id: UUID(high: 2, low: number))
    }

    struct BadName: Error {}

    static func type(_ text: String) throws -> AggregateType {
        guard let type = AggregateType(text) else { throw BadName() }
        return type
    }

    static func event(payloadBytes: Int = 10) throws -> NewEvent {
        NewEvent(
            type: "happened", contentType: "text/plain", payload: ByteBuffer(repeating: 0x61, count: payloadBytes))
    }

    static func append(payloadBytes: Int = 10) throws -> AppendRequest {
        try AppendRequest(
            [NewAggregateEvents(aggregate: aggregate(), expected: .any, events: [event(payloadBytes: payloadBytes)])],
            tenant: tenant)
    }

    static func receipt(_ position: UInt64 = 1, replayed: Bool = false) -> AppendReceipt {
        AppendReceipt(
            aggregates: [], firstPosition: Position(position), lastPosition: Position(position),
            recordedAt: Timestamp(microseconds: 1), replayed: replayed)
    }

    static func head(_ position: UInt64) -> TenantHead {
        TenantHead(position: Position(position), recordedAt: Timestamp(microseconds: 1))
    }

    /// Entries of events at those positions, each with the same number as its version.
    static func entries(_ positions: [UInt64], payloadBytes: Int = 10) throws -> ByteBuffer {
        var entries = ByteBuffer()
        for position in positions {
            let body = try EncodedEvent(event(payloadBytes: payloadBytes)).body
            RecordedEntries.write(
                position: Position(position), version: Version(position), recordedAt: Timestamp(microseconds: 1),
                aggregate: try aggregate(), body: body, to: &entries)
        }
        return entries
    }

    static func recorded(_ position: UInt64) throws -> RecordedEvent {
        try RecordedEntries.decode(entries([position]))[0]
    }

    static func message(
        _ positions: [UInt64] = [], _ signal: SubscriptionMessage.Signal? = nil, head: UInt64 = 100,
        payloadBytes: Int = 10
    ) throws -> CallMessage {
        .subscribe(
            SubscriptionMessage(
                entries: try entries(positions, payloadBytes: payloadBytes), head: Sample.head(head), signal: signal))
    }

    static func error(_ reason: Reason, _ code: StatusCode = .unavailable, isRetryable: Bool = true) -> MartletError {
        MartletError(code, reason: reason, message: "as told", isRetryable: isRetryable)
    }

    static func welcome(_ limits: Limits) -> Welcome {
        Welcome(
            protocolVersion: 1, serverVersion: "fake", scope: .all, identity: "", limits: limits,
            serverTime: Timestamp(microseconds: 1))
    }
}

extension Transport {
    /// No TLS.
    static let plain = Transport(hasHandshake: false, addHandlers: { _ in }, prepare: { () throws(TLSError) in })
}

/// What a client under test gets: no TLS, waits that are noted and cut short, a constant for chance.
struct TestSetup: Sendable {
    var configuration: ClientConfiguration
    let waits = NIOLockedValueBox<[Duration]>([])
    private let ahead = NIOLockedValueBox(TimeAmount.zero)

    init(port: Int) {
        configuration = ClientConfiguration(port: port, tls: .init(serverName: "unused"), clientName: "test")
        configuration.connectTimeout = .seconds(5)
        configuration.requestTimeout = .seconds(20)
    }

    /// Moves the client's clock forward. Its timers go by the real one: what is due meanwhile is seen when one of them rings,
    /// at the latest with the keepalive, which is looked after four times in its time.
    func advance(_ time: TimeAmount) { ahead.withLockedValue { $0 = $0 + time } }

    var client: MartletClient {
        let (waits, ahead) = (waits, ahead)
        return MartletClient(
            configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            environment: ClientEnvironment(
                now: { .now() + ahead.withLockedValue { $0 } },
                sleep: { duration in
                    waits.withLockedValue { $0.append(duration) }
                    try await Task.sleep(for: .milliseconds(1))
                },
                random: { 0.5 },
                transport: .plain))
    }

    /// Runs `body` with a client that runs.
    func run<Result: Sendable>(_ body: (MartletClient) async throws -> Result) async throws -> Result {
        try await MartletClient.withRunning(client, body)
    }
}

/// Starts a fake server, and stops it after `body`.
func withServer<Result>(
    greets: Bool = true, limits: Limits = Limits(), _ body: (FakeServer, TestSetup) async throws -> Result
) async throws -> Result {
    let server = try await FakeServer.start(greets: greets, limits: limits)
    do {
        let result = try await body(server, TestSetup(port: server.port))
        await server.stop()
        return result
    } catch {
        await server.stop()
        throw error
    }
}

/// The error that `body` ends with; nil where it does not.
func failure<Value>(_ body: () async throws -> Value) async -> MartletError? {
    do {
        _ = try await body()
        return nil
    } catch {
        #expect(error is MartletError)
        return error as? MartletError
    }
}

extension [RecordedEvent] {
    var positions: [UInt64] { map(\.position.rawValue) }
}
