public import FoundationEssentials
public import MartletModel
public import NIOCore

/// What an event of one type says: a struct, whose JSON is the event's payload.
///
/// ```swift
/// struct OrderPlaced: EventPayload {
///     static let eventType: EventType = "OrderPlaced"
///     var customer: String
///     var cents: Int
/// }
/// ```
///
/// JSON has sorted keys, and a `Date` as RFC 3339 in UTC to the microsecond.
public protocol EventPayload: Codable, Sendable {
    /// The type of the event in the store. It does not follow from the name of the Swift type, which may change.
    static var eventType: EventType { get }

    /// Version of the payload's schema, from 1; 1 by default.
    static var schemaVersion: UInt32 { get }

    /// The media type; `application/json` by default.
    static var contentType: String { get }

    /// Reads a payload in ``schemaVersion``; from JSON by default.
    init(payload: ByteBuffer) throws

    /// The payload; JSON by default.
    func encodedPayload() throws -> ByteBuffer
}

extension EventPayload {
    /// The first version.
    public static var schemaVersion: UInt32 { 1 }

    /// JSON.
    public static var contentType: String { NewEvent.json }

    /// Reads JSON.
    public init(payload: ByteBuffer) throws { self = try EventJSON.decode(Self.self, from: payload) }

    /// Writes JSON.
    public func encodedPayload() throws -> ByteBuffer { try EventJSON.encode(self) }
}

extension NewEvent {
    /// An event of that payload.
    /// - Parameters:
    ///   - id: unique in the tenant; a retry by the program, beyond what the client itself retries, must pass the same one.
    ///   - metadata: who and what caused it.
    /// - Throws: ``EventUnencodable`` if the payload cannot be encoded.
    public init<Payload: EventPayload>(
        _ payload: Payload, id: UUID = .v7(), metadata: EventMetadata = .empty
    ) throws(EventUnencodable) {
        do {
            self.init(
                id: id, type: Payload.eventType, contentType: Payload.contentType,
                schemaVersion: Payload.schemaVersion, metadata: metadata, payload: try payload.encodedPayload())
        } catch {
            throw EventUnencodable(
                description: "the payload of \(Payload.eventType) cannot be encoded: \(codingFault(error))")
        }
    }
}

extension RecordedEvent {
    /// The event's payload, if it is of that type.
    /// - Returns: nil for an event of another type.
    /// - Throws: ``EventUndecodable`` for a payload that cannot be read, or in another schema version than the program's.
    public func payload<Payload: EventPayload>(as type: Payload.Type) throws(EventUndecodable) -> Payload? {
        guard event.type == type.eventType else { return nil }
        if let upcastFailure {
            throw EventUndecodable(self, "an upcaster in the server failed on it: \(upcastFailure)")
        }
        guard event.schemaVersion == type.schemaVersion else {
            throw EventUndecodable(
                self,
                event.schemaVersion > type.schemaVersion
                    ? "this program reads schema version \(type.schemaVersion): update it, or pass upcasting: .upTo(…)"
                    : "this program reads schema version \(type.schemaVersion): put an upcaster that leads there")
        }
        do { return try type.init(payload: event.payload) } catch {
            throw EventUndecodable(self, "its payload cannot be decoded: \(codingFault(error))")
        }
    }

    /// The event's payload, if it is of one of those types, for a `switch`:
    ///
    /// ```swift
    /// switch try event.payload(as: OrderPlaced.self, OrderPaid.self) {
    /// case let placed as OrderPlaced: print(placed.customer)
    /// case let paid as OrderPaid: print(paid.method)
    /// default: break
    /// }
    /// ```
    ///
    /// - Returns: nil for an event of another type.
    /// - Throws: as ``payload(as:)``.
    public func payload(
        as first: any EventPayload.Type, _ second: any EventPayload.Type, _ others: any EventPayload.Type...
    ) throws(EventUndecodable) -> (any EventPayload)? {
        for type in [first, second] + others where type.eventType == event.type { return try payload(opening: type) }
        return nil
    }

    private func payload<Payload: EventPayload>(
        opening type: Payload.Type
    ) throws(EventUndecodable) -> (any EventPayload)? { try payload(as: type) }
}

extension UpcastingOptions {
    /// Upcasters lead these events no further than the schema versions that the program knows, so that it can read them
    /// while newer programs bring newer upcasters.
    public static func upTo(_ payloads: any EventPayload.Type...) -> UpcastingOptions {
        var options = UpcastingOptions.latest
        for payload in payloads { options.stopAt[payload.eventType] = payload.schemaVersion }
        return options
    }
}

extension EventFilter {
    /// The events of those payloads.
    public static func payloads(_ types: any EventPayload.Type...) -> EventFilter {
        EventFilter(eventTypes: Set(types.map { $0.eventType }))
    }
}
