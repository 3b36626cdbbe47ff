/// A gRPC status code.
public struct StatusCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The code's number.
    public var rawValue: UInt32

    /// The code of that number.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Done.
    public static let ok = StatusCode(rawValue: 0)
    /// The caller ended the call.
    public static let cancelled = StatusCode(rawValue: 1)
    /// What happened is not known.
    public static let unknown = StatusCode(rawValue: 2)
    /// The call is wrong whatever the state of the server.
    public static let invalidArgument = StatusCode(rawValue: 3)
    /// The call's time ran out.
    public static let deadlineExceeded = StatusCode(rawValue: 4)
    /// What was asked for is not there.
    public static let notFound = StatusCode(rawValue: 5)
    /// What was to be made is there already.
    public static let alreadyExists = StatusCode(rawValue: 6)
    /// The identity may not do this.
    public static let permissionDenied = StatusCode(rawValue: 7)
    /// A limit or a quota is reached.
    public static let resourceExhausted = StatusCode(rawValue: 8)
    /// The state of the server does not allow it.
    public static let failedPrecondition = StatusCode(rawValue: 9)
    /// The call lost against another one.
    public static let aborted = StatusCode(rawValue: 10)
    /// Beyond the end of what exists.
    public static let outOfRange = StatusCode(rawValue: 11)
    /// The server does not know the call.
    public static let unimplemented = StatusCode(rawValue: 12)
    /// A defect of the server.
    public static let `internal` = StatusCode(rawValue: 13)
    /// The server or its storage cannot be reached.
    public static let unavailable = StatusCode(rawValue: 14)
    /// Stored data is damaged.
    public static let dataLoss = StatusCode(rawValue: 15)
    /// There is no identity.
    public static let unauthenticated = StatusCode(rawValue: 16)

    private static let names = [
        "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
        "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
    ]

    /// gRPC's name of the code, or its number.
    public var description: String {
        Int(rawValue) < Self.names.count ? Self.names[Int(rawValue)] : String(rawValue)
    }
}

/// A stable name of what went wrong, in capitals. Servers may know more than those listed here.
public struct Reason: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The name.
    public var rawValue: String

    /// The reason of that name.
    public init(rawValue: String) { self.rawValue = rawValue }

    private init(_ rawValue: String) { self.rawValue = rawValue }

    /// The name.
    public var description: String { rawValue }

    /// An expected version did not hold; the details list every one.
    public static let versionConflict = Reason("VERSION_CONFLICT")
    /// An event id is stored already with other content or elsewhere; the details list every one.
    public static let eventIDReused = Reason("EVENT_ID_REUSED")
    /// It is not known whether the append was stored; retry it with the same event ids.
    public static let outcomeUnknown = Reason("OUTCOME_UNKNOWN")
    /// A field is missing or malformed.
    public static let invalidField = Reason("INVALID_FIELD")
    /// A payload said to be JSON is not.
    public static let invalidJSON = Reason("INVALID_JSON")
    /// A definition of upcasters is refused; the message names the place in it and why.
    public static let invalidUpcaster = Reason("INVALID_UPCASTER")
    /// Something is larger or more than allowed; the details name the limit.
    public static let limitExceeded = Reason("LIMIT_EXCEEDED")
    /// A time still to come was asked for.
    public static let timeInFuture = Reason("TIME_IN_FUTURE")
    /// A position beyond the head was asked for.
    public static let positionBeyondHead = Reason("POSITION_BEYOND_HEAD")
    /// The storage has come back with another past than the one that the call goes on from.
    public static let historyChanged = Reason("HISTORY_CHANGED")
    /// There is no such consumer.
    public static let consumerNotFound = Reason("CONSUMER_NOT_FOUND")
    /// There is a consumer of that name with another definition.
    public static let consumerExists = Reason("CONSUMER_EXISTS")
    /// A consumer's definition has another revision than the expected one.
    public static let consumerRevisionConflict = Reason("CONSUMER_REVISION_CONFLICT")
    /// A consumer's keys can be divided anew only while it is paused and no key is blocked.
    public static let consumerInUse = Reason("CONSUMER_IN_USE")
    /// The tenant has as many consumers as it may, or the consumer as many workers.
    public static let tooManyConsumers = Reason("TOO_MANY_CONSUMERS")
    /// A newer stream has the worker's name.
    public static let workerReplaced = Reason("WORKER_REPLACED")
    /// More tenants have the consumer than one worker's stream follows.
    public static let tooManyTenants = Reason("TOO_MANY_TENANTS")
    /// Nothing was heard of the worker for too long.
    public static let workerSilent = Reason("WORKER_SILENT")
    /// What was said of a delivery that was never made.
    public static let neverDelivered = Reason("NEVER_DELIVERED")
    /// Another worker has the slot: nothing was written.
    public static let fenced = Reason("FENCED")
    /// The event that an append reacts to is settled already: nothing was written.
    public static let eventSettled = Reason("EVENT_SETTLED")
    /// The event that an append reacts to was taken back, since its key was blocked; it comes again. Nothing was written.
    public static let eventTakenBack = Reason("EVENT_TAKEN_BACK")
    /// The tenant has as many schedules as it may: nothing was written.
    public static let tooManySchedules = Reason("TOO_MANY_SCHEDULES")
    /// The connection's identity may not use the tenant.
    public static let tenantNotAllowed = Reason("TENANT_NOT_ALLOWED")
    /// The server does not know the call.
    public static let unknownCall = Reason("UNKNOWN_CALL")
    /// The caller ended the call.
    public static let cancelled = Reason("CANCELLED")
    /// The call's time ran out.
    public static let deadlineExceeded = Reason("DEADLINE_EXCEEDED")
    /// Too many appends wait; retry later.
    public static let appendQueueFull = Reason("APPEND_QUEUE_FULL")
    /// Too many reads wait; retry later.
    public static let readQueueFull = Reason("READ_QUEUE_FULL")
    /// The connection has too many open calls.
    public static let tooManyCalls = Reason("TOO_MANY_CALLS")
    /// The server has too many connections.
    public static let tooManyConnections = Reason("TOO_MANY_CONNECTIONS")
    /// Storage cannot be reached; nothing was written.
    public static let storageUnavailable = Reason("STORAGE_UNAVAILABLE")
    /// Storage is full; nothing was written.
    public static let storageFull = Reason("STORAGE_FULL")
    /// The storage has no number left for what the call would add: a position, a version, a tenant.
    public static let storageLimitReached = Reason("STORAGE_LIMIT_REACHED")
    /// Storage is damaged.
    public static let storageCorrupted = Reason("STORAGE_CORRUPTED")
    /// The storage schema is newer than the server knows, or the storage is set up wrongly.
    public static let storageMisconfigured = Reason("STORAGE_MISCONFIGURED")
    /// The server drains.
    public static let draining = Reason("DRAINING")
    /// A frame cannot be read.
    public static let badFrame = Reason("BAD_FRAME")
    /// A frame is longer than the limit.
    public static let frameTooLarge = Reason("FRAME_TOO_LARGE")
    /// Decoding a frame would take more memory than it may.
    public static let decodeBudgetExceeded = Reason("DECODE_BUDGET_EXCEEDED")
    /// The first frame was not Hello, or Hello came twice.
    public static let helloExpected = Reason("HELLO_EXPECTED")
    /// No common version of the protocol.
    public static let protocolVersionUnsupported = Reason("PROTOCOL_VERSION_UNSUPPORTED")
    /// A call id is 0 or was used before.
    public static let invalidCallID = Reason("INVALID_CALL_ID")
    /// The other end was silent for too long.
    public static let keepaliveTimeout = Reason("KEEPALIVE_TIMEOUT")
    /// The client's certificate names no tenant.
    public static let noTenantInCertificate = Reason("NO_TENANT_IN_CERTIFICATE")
    /// The peer sends pings, credit, or calls that are refused without end.
    public static let tooManyControlFrames = Reason("TOO_MANY_CONTROL_FRAMES")
    /// The client's certificate, or one that it depends on, has expired since it connected.
    public static let certificateExpired = Reason("CERTIFICATE_EXPIRED")
    /// The server no longer trusts the CA of the client's certificate.
    public static let certificateNotTrusted = Reason("CERTIFICATE_NOT_TRUSTED")
    /// A server would be open to other machines without asking who connects.
    public static let openToAll = Reason("OPEN_TO_ALL")
    /// The limits contradict each other.
    public static let invalidLimits = Reason("INVALID_LIMITS")
    /// The connection went away, or could not be made.
    public static let connectionLost = Reason("CONNECTION_LOST")
    /// The client was closed.
    public static let clientClosed = Reason("CLIENT_CLOSED")
    /// The TLS handshake failed.
    public static let tlsFailed = Reason("TLS_FAILED")
    /// An upcaster failed on an event; the details name it.
    public static let upcastFailed = Reason("UPCAST_FAILED")
    /// A snapshot of a version that the aggregate does not have yet.
    public static let snapshotBeyondAggregate = Reason("SNAPSHOT_BEYOND_AGGREGATE")
    /// A settings document cannot be used.
    public static let invalidSettings = Reason("INVALID_SETTINGS")
    /// The tenant's settings have another revision than expected.
    public static let settingsConflict = Reason("SETTINGS_CONFLICT")
    /// A defect of the server.
    public static let internalError = Reason("INTERNAL")
}

/// How a call failed: the same on the wire, in the server and in the client.
///
/// The message is for a person and names the limit or value and the next step; it never holds a payload
/// or a credential.
public struct MartletError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What went beyond a limit.
    public struct LimitViolation: Hashable, Sendable {
        /// Name of the limit, as in Welcome.
        public var name: String
        /// The limit.
        public var limit: UInt64
        /// What came.
        public var actual: UInt64

        /// A violation of those parts.
        public init(name: String, limit: UInt64, actual: UInt64) {
            self.name = name
            self.limit = limit
            self.actual = actual
        }
    }

    /// Boxed: what may be an error, a result or a frame, is passed on many times, and seldom is one.
    private final class Content: Hashable, Sendable {
        let code: StatusCode
        let reason: Reason
        let message: String
        let isRetryable: Bool
        let conflicts: [VersionConflict]
        let reusedEventIDs: [ReusedEventID]
        let limit: LimitViolation?
        let failedUpcast: FailedUpcast?
        let comparablePosition: Position?
        let conflictsCount: Int
        let reusedEventIDsCount: Int

        init(
            _ code: StatusCode, _ reason: Reason, _ message: String, isRetryable: Bool, _ conflicts: [VersionConflict],
            _ reusedEventIDs: [ReusedEventID], _ limit: LimitViolation?, _ failedUpcast: FailedUpcast?,
            _ comparablePosition: Position?, conflictsCount: Int, reusedEventIDsCount: Int
        ) {
            self.conflictsCount = max(conflictsCount, conflicts.count)
            self.reusedEventIDsCount = max(reusedEventIDsCount, reusedEventIDs.count)
            self.comparablePosition = comparablePosition
            self.code = code
            self.reason = reason
            self.message = message
            self.isRetryable = isRetryable
            self.conflicts = conflicts
            self.reusedEventIDs = reusedEventIDs
            self.limit = limit
            self.failedUpcast = failedUpcast
        }

        static func == (a: Content, b: Content) -> Bool {
            a.code == b.code && a.reason == b.reason && a.message == b.message && a.isRetryable == b.isRetryable
                && a.conflicts == b.conflicts && a.reusedEventIDs == b.reusedEventIDs && a.limit == b.limit
                && a.failedUpcast == b.failedUpcast && a.comparablePosition == b.comparablePosition
                && a.conflictsCount == b.conflictsCount && a.reusedEventIDsCount == b.reusedEventIDsCount
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(code)
            hasher.combine(reason)
            hasher.combine(message)
        }
    }

    private var content: Content

    /// gRPC's code.
    public var code: StatusCode { content.code }
    /// The stable name.
    public var reason: Reason { content.reason }
    /// For a person.
    public var message: String { content.message }
    /// Whether the same call, sent again, may succeed; a retried append carries the same event ids.
    public var isRetryable: Bool { content.isRetryable }
    /// With `VERSION_CONFLICT`: every expected version that did not hold, or the first of them: ``conflictsCount`` says how
    /// many there are.
    public var conflicts: [VersionConflict] {
        get { content.conflicts }
        set {
            content = Content(
                code, reason, message, isRetryable: isRetryable, newValue, reusedEventIDs, limit, failedUpcast,
                comparablePosition, conflictsCount: conflictsCount, reusedEventIDsCount: reusedEventIDsCount)
        }
    }
    /// How many expected versions did not hold: more than are listed where the list was cut to what the transport holds.
    public var conflictsCount: Int { content.conflictsCount }
    /// With `EVENT_ID_REUSED`: every reused id, or the first of them: ``reusedEventIDsCount`` says how many there are.
    public var reusedEventIDs: [ReusedEventID] { content.reusedEventIDs }
    /// How many ids were reused: more than are listed where the list was cut to what the transport holds.
    public var reusedEventIDsCount: Int { content.reusedEventIDsCount }
    /// With a limit: which.
    public var limit: LimitViolation? { content.limit }
    /// With `UPCAST_FAILED`: which event, and where.
    public var failedUpcast: FailedUpcast? { content.failedUpcast }
    /// With `HISTORY_CHANGED` of a subscription: the highest position up to which the server knows that nothing has changed;
    /// it knows nothing of later ones.
    public var comparablePosition: Position? { content.comparablePosition }

    /// An error of those parts. A count below the number of those that are listed means that number.
    public init(
        _ code: StatusCode, reason: Reason, message: String, isRetryable: Bool = false,
        conflicts: [VersionConflict] = [], reusedEventIDs: [ReusedEventID] = [], limit: LimitViolation? = nil,
        failedUpcast: FailedUpcast? = nil, comparablePosition: Position? = nil, conflictsCount: Int = 0,
        reusedEventIDsCount: Int = 0
    ) {
        content = Content(
            code, reason, message, isRetryable: isRetryable, conflicts, reusedEventIDs, limit, failedUpcast,
            comparablePosition, conflictsCount: conflictsCount, reusedEventIDsCount: reusedEventIDsCount)
    }

    /// The error with at most that many conflicts and reused event ids listed; it still says how many there are.
    public func listing(conflictsMax: Int, reusedEventIDsMax: Int) -> MartletError {
        MartletError(
            code, reason: reason, message: message, isRetryable: isRetryable,
            conflicts: Array(conflicts.prefix(conflictsMax)),
            reusedEventIDs: Array(reusedEventIDs.prefix(reusedEventIDsMax)), limit: limit, failedUpcast: failedUpcast,
            comparablePosition: comparablePosition, conflictsCount: conflictsCount,
            reusedEventIDsCount: reusedEventIDsCount)
    }

    /// `REASON: message`.
    public var description: String { "\(reason): \(message)" }

    /// A field is missing or malformed.
    public static func invalidField(_ name: String, _ complaint: String) -> MartletError {
        MartletError(.invalidArgument, reason: .invalidField, message: "\(name) \(complaint)")
    }

    /// Something is larger or more than allowed.
    public static func limitExceeded(
        _ name: String, limit: Int, actual: Int, _ advice: String
    ) -> MartletError {
        MartletError(
            .invalidArgument, reason: .limitExceeded,
            message: "\(name) is \(limit), this call has \(actual): \(advice)",
            limit: LimitViolation(name: name, limit: UInt64(clamping: limit), actual: UInt64(clamping: actual)))
    }
}
