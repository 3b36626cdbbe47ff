public import MartletModel
public import NIOCore

/// The declarative upcasters of one tenant: immutable, checked as a whole, and compiled once.
///
/// An upcaster is one step: it turns the JSON payload of an event (or of a snapshot) of schema version n into
/// n + 1, by a list of operations. Steps chain, also through changes of the event's type. The definition
/// document, every operation and the corner cases are described in `Docs/UPCASTING.md`.
public struct UpcasterSet: Sendable {
    final class Storage: Sendable {
        let graph: StepGraph
        let program: Program
        let limits: UpcastingLimits
        let memoryBytes: Int

        init(
            _ steps: [Step], places: [Step.ID: String] = [:], limits: UpcastingLimits
        ) throws(MartletError) {
            graph = try StepGraph(steps, places: places, limits: limits)
            let bytes = DefinitionWriter.document(graph.steps).readableBytes
            guard bytes <= limits.documentBytesMax else {
                throw .invalidUpcaster(
                    "upcasters",
                    "the whole set would have \(bytes) bytes, at most \(limits.documentBytesMax) are allowed",
                    limit: "document_bytes_max", limits.documentBytesMax, bytes)
            }
            program = Program(graph.steps)
            // The operations hold their texts once more.
            memoryBytes = program.memoryBytes + program.pool.count + graph.memoryBytes(program)
            self.limits = limits
        }

        /// Without steps.
        init() {
            graph = StepGraph()
            program = Program([])
            memoryBytes = 0
            limits = UpcastingLimits()
        }
    }

    let storage: Storage
    private var lease: (any AnyObject & Sendable)?

    /// The set without steps, with the default limits.
    public static let empty = UpcasterSet(storage: Storage())

    private init(storage: Storage) { self.storage = storage }

    /// Reads, checks and compiles a definition document.
    /// - Throws: ``MartletError`` with reason `INVALID_UPCASTER`, whose message names the place in the document
    ///   (`upcasters[3].operations[2].rename.to`) and what is wrong there: bytes that are not JSON, an unknown
    ///   operation or member, a wrong type, a bad pointer, a step that comes twice, a gap in a chain, a cycle of
    ///   type renames, an overlong chain, or a limit, which the error then carries.
    public init(definition: ByteBuffer, limits: UpcastingLimits = UpcastingLimits()) throws(MartletError) {
        let steps = try DefinitionReader.steps(definition, limits: limits)
        var places: [Step.ID: String] = [:]
        for (index, step) in steps.enumerated() {
            if let first = places.updateValue("upcasters[\(index)]", forKey: step.id) {
                throw .invalidUpcaster(
                    "upcasters[\(index)]",
                    "is a second step for \(step.id.subject) from \(step.id.from), after \(first)")
            }
        }
        self.init(storage: try Storage(steps, places: places, limits: limits))
    }

    /// The bounds under which the set was made, and which hold for every payload.
    public var limits: UpcastingLimits { storage.limits }

    /// Tells this set from others as long as it lives; copies of it are the same.
    public var identity: ObjectIdentifier { ObjectIdentifier(storage) }

    /// What the set takes in memory, about; up to some 20 times its document where that is many small operations.
    public var memoryBytes: Int { storage.memoryBytes }

    /// This set, with something that lives as long as anybody uses it: the memory that it takes is given back by that.
    public func held(by lease: any AnyObject & Sendable) -> UpcasterSet {
        var set = self
        set.lease = lease
        return set
    }

    /// Whether there is no step.
    public var isEmpty: Bool { storage.graph.steps.isEmpty }

    /// Every step: events before snapshots, then by the bytes of the type, then by version.
    public var steps: [UpcasterStepSummary] { storage.graph.steps.map(\.summary) }

    /// The canonical definition document: the steps in the order of ``steps``, without blanks. It makes an equal
    /// set again, and the same document.
    public func definition() -> ByteBuffer { DefinitionWriter.document(storage.graph.steps) }

    /// Each step as it stands in ``definition()``, in the order of ``steps``.
    public func stepDefinitions() -> [ByteBuffer] { storage.graph.steps.map(DefinitionWriter.text) }

    /// This set with the steps of another one, each of which replaces the step of the same subject and version.
    ///
    /// The whole is checked again, under the other set's limits.
    /// - Throws: ``MartletError`` with reason `INVALID_UPCASTER`; it names the step, as the two documents have no
    ///   common place.
    public func applying(_ other: UpcasterSet) throws(MartletError) -> UpcasterSet {
        let replaced = Set(other.storage.graph.steps.map(\.id))
        let kept = storage.graph.steps.filter { !replaced.contains($0.id) }
        return UpcasterSet(storage: try Storage(kept + other.storage.graph.steps, limits: other.limits))
    }

    /// This set without the step of that subject and version, or without all steps of the subject.
    ///
    /// A step that is not there is no error: compare ``steps`` before and after.
    /// - Throws: ``MartletError`` with reason `INVALID_UPCASTER` where the rest has a gap.
    public func removing(_ subject: UpcasterSubject, from version: UInt32? = nil) throws(MartletError) -> UpcasterSet {
        let kept = storage.graph.steps.filter {
            $0.id.subject != subject || (version != nil && version != $0.id.from)
        }
        return UpcasterSet(storage: try Storage(kept, limits: limits))
    }

    // MARK: Chains

    /// Whether anything would be changed about an event of that stored type and schema version.
    public func concerns(event type: EventType, schemaVersion: UInt32) -> Bool {
        !isEmpty && storage.graph.indices[Step.ID(subject: .event(type), from: schemaVersion)] != nil
    }

    /// Whether anything would be changed about a snapshot of an aggregate of that type and that schema version.
    public func concerns(snapshot type: AggregateType, schemaVersion: UInt32) -> Bool {
        !isEmpty && storage.graph.indices[Step.ID(subject: .snapshot(type), from: schemaVersion)] != nil
    }

    /// The schema version in which events delivered as that type arrive, fully upcast; nil where no chain ends at
    /// that type.
    public func latestVersion(of type: EventType) -> UInt32? { storage.graph.latest[.event(type)] }

    /// The schema version in which snapshots of aggregates of that type arrive, fully upcast; nil without steps.
    public func latestVersion(of type: AggregateType) -> UInt32? { storage.graph.latest[.snapshot(type)] }

    /// The type and schema version as which an event of that stored type and version is delivered, if every step
    /// succeeds.
    /// - Parameter target: the schema version to stop at; nil for the latest.
    public func delivered(
        event type: EventType, schemaVersion: UInt32, atMost target: UInt32? = nil
    ) -> (type: EventType, schemaVersion: UInt32) {
        let end = storage.graph.end(Step.ID(subject: .event(type), from: schemaVersion), atMost: target)
        guard case .event(let delivered) = end.subject else { return (type, schemaVersion) }
        return (delivered, end.from)
    }

    /// The type as which an event of that stored type and version is delivered, if every step succeeds.
    /// - Parameter target: the schema version to stop at; nil for the latest.
    public func deliveredType(of type: EventType, schemaVersion: UInt32, atMost target: UInt32? = nil) -> EventType {
        isEmpty ? type : delivered(event: type, schemaVersion: schemaVersion, atMost: target).type
    }

    /// The stored types whose events may be delivered as one of those types, at whatever schema version the
    /// reader stops; those types themselves among them.
    ///
    /// A filter by delivered types looks for these in storage, and then keeps what ``deliveredType(of:schemaVersion:atMost:)``
    /// says is wanted: a stored type may be delivered as another one at some versions only.
    public func storedTypes(deliveredAs types: Set<EventType>) -> Set<EventType> {
        storage.graph.storedTypes(deliveredAs: types)
    }
}

extension StepGraph {
    /// Where the chain that starts at that step, if there is one, ends.
    func end(_ start: Step.ID, atMost target: UInt32?) -> Step.ID {
        var end = start
        var at = indices[start]
        while let index = at, end.from < target ?? .max {
            end = steps[index].next
            at = next[index]
        }
        return end
    }

    /// The indices of the steps of the chain that starts at that step, at most to that version.
    func chain(_ start: Step.ID, atMost target: UInt32?) -> [Int] {
        var chain: [Int] = []
        var at = indices[start]
        while let index = at, steps[index].id.from < target ?? .max {
            chain.append(index)
            at = next[index]
        }
        return chain
    }
}
