/// Every bound of upcasting, in one place: what a definition may hold, and what one event may cost.
///
/// A payload nests at most `JSONText.depthMax` levels deep, before and after; the caller gives the bound of
/// the new payload's bytes with each call.
public struct UpcastingLimits: Hashable, Sendable {
    /// A definition document, and the canonical form of a whole set.
    public var documentBytesMax = 1 << 20
    /// Nesting of a definition document.
    public var documentDepthMax = 128
    /// Steps of a set.
    public var stepsMax = 1_000
    /// Operations of one step.
    public var operationsPerStepMax = 100
    /// Steps that one event or snapshot may pass through.
    public var chainStepsMax = 100
    /// Entries of all `map` tables of a set.
    public var tableEntriesMax = 10_000
    /// Bytes of one JSON Pointer.
    public var pointerBytesMax = 1_024
    /// Segments of one JSON Pointer.
    public var pointerSegmentsMax = 32
    /// Bytes of the separator of a `split` or a `join`.
    public var separatorBytesMax = 256
    /// Pointers of one `split` into, or of one `join` from, several places.
    public var pathsPerOperationMax = 32
    /// Values of one payload that its chain opens, copies or makes. It bounds memory: a value takes some 60 bytes.
    public var nodesPerPayloadMax = 200_000
    /// Work that one payload's chain may take, in bytes looked at; finding one member costs 4. It bounds time.
    public var workPerPayloadMax = 32 << 20
    /// Work of one page of events: none is begun when so much was done, so that a page takes at most this and the work
    /// of one payload. What checking, opening and writing take is counted in.
    public var workPerPageMax = 8 << 20
    /// Bytes of new text that the operations of one payload's chain may make.
    public var madeBytesPerPayloadMax = 16 << 20

    /// The default limits.
    public init() {}
}
