public import MartletModel

/// What one frame to a client holds of events, of a snapshot or of a document, beside what names them.
///
/// What is stored may be longer than what may be stored today: the limits were larger when it came.
public struct AnswerSize: Hashable, Sendable {
    private let frameBytesMax: Int

    /// What frames hold under those limits.
    public init(_ limits: Limits) { frameBytesMax = limits.frameBytesMax }

    /// Whether no frame holds something of this many bytes.
    public func isExceeded(by bytes: Int) -> Bool { bytes > frameBytesMax - Limits.frameEnvelopeBytes }

    /// Why no frame holds something of this many bytes; nil if one does.
    public func fault(of what: @autoclosure () -> String, bytes: Int) -> MartletError? {
        guard isExceeded(by: bytes) else { return nil }
        return MartletError(
            .resourceExhausted, reason: .limitExceeded,
            message: "frame_bytes_max is \(frameBytesMax), and \(what()) takes \(bytes) bytes: "
                + "raise the server's frame_bytes_max to read it",
            limit: .init(name: "frame_bytes_max", limit: UInt64(frameBytesMax), actual: UInt64(bytes)))
    }

    /// Why no frame holds the entries of a page; nil where one does. Only a page of one event can be that long.
    public func fault(ofPageUpTo position: Position?, bytes: Int) -> MartletError? {
        fault(of: position.map { "the event at position \($0)" } ?? "the event", bytes: bytes)
    }
}
