public import FoundationEssentials
import Instrumentation
public import MartletModel

/// Who asks for a command, and what it belongs to: set as metadata on every event that the command decides.
///
/// Bind one around the work of a request: `try await CommandContext.$current.withValue(context) { … }`.
public struct CommandContext: Hashable, Sendable {
    /// Names the command. Stands in for ``causationID`` and ``correlationID`` if these are empty.
    public var commandID: UUID
    /// Names the business transaction that the command belongs to.
    public var correlationID = ""
    /// Names what caused the command.
    public var causationID = ""
    /// The person or service that asks.
    public var userID = ""
    /// The role in which they ask.
    public var role = ""
    /// Names the request.
    public var requestID = ""
    /// The system that writes.
    public var source = ""
    /// W3C trace context; if empty, that of the current span by the instrument that the program has set up.
    public var traceparent = ""
    /// What tracing systems add to ``traceparent``; if that is empty, this also comes from the current span.
    public var tracestate = ""
    /// Free labels; two keys are the same only when their bytes are.
    public var tags: [ExactText: String] = [:]

    /// The context of the current task; nil means a new one for each command.
    @TaskLocal public static var current: CommandContext?

    /// A context of a new command.
    public init(commandID: UUID = .v7()) { self.commandID = commandID }

    /// The context of a command that reacts to an event: of the same business transaction, caused by the event.
    public init(causedBy event: RecordedEvent, commandID: UUID = .v7()) {
        self.commandID = commandID
        let metadata = event.event.metadata
        correlationID = metadata.correlationID.isEmpty ? Self.text(event.event.id) : metadata.correlationID
        causationID = Self.text(event.event.id)
        userID = metadata.userID
        role = metadata.role
        traceparent = metadata.traceparent
        tracestate = metadata.tracestate
    }

    /// The metadata of the command's events.
    package func metadata(occurredAt: Timestamp) -> EventMetadata {
        var metadata = EventMetadata()
        metadata.userID = userID
        metadata.role = role
        metadata.occurredAt = occurredAt
        metadata.correlationID = correlationID.isEmpty ? Self.text(commandID) : correlationID
        metadata.causationID = causationID.isEmpty ? Self.text(commandID) : causationID
        metadata.requestID = requestID
        metadata.source = source
        (metadata.traceparent, metadata.tracestate) =
            traceparent.isEmpty ? Self.currentTrace() : (traceparent, tracestate)
        metadata.tags = tags
        return metadata
    }

    private static func text(_ id: UUID) -> String { id.uuidString.lowercased() }

    private static func currentTrace() -> (parent: String, state: String) {
        guard let context = InstrumentationContext.current else { return ("", "") }
        var carrier: [String: String] = [:]
        InstrumentationSystem.instrument.inject(context, into: &carrier, using: DictionaryInjector())
        return (carrier["traceparent"] ?? "", carrier["tracestate"] ?? "")
    }
}

private struct DictionaryInjector: Injector {
    func inject(_ value: String, forKey key: String, into carrier: inout [String: String]) {
        carrier[key.lowercased()] = value
    }
}
