import MartletModel

/// The steps of a set, checked as a whole: how they follow each other, and where they lead.
struct StepGraph: Sendable {
    /// In canonical order.
    let steps: [Step]
    /// Where a step stands in ``steps``.
    let indices: [Step.ID: Int]
    /// The step that follows each one.
    let next: [Int?]
    /// The schema version in which a subject arrives, fully upcast.
    let latest: [UpcasterSubject: UInt32]
    /// The stored types that steps begin with, each once.
    private let storedTypes: [EventType]
    /// The stored types, other than itself, whose events may be delivered as a type: a bit for each of ``storedTypes``.
    private let sources: [EventType: [UInt64]]

    /// What the graph takes in memory beside the texts of its operations, about: a block for each operation and each
    /// segment of a pointer, and tables that name each step, and each type by each that leads to it.
    func memoryBytes(_ program: Program) -> Int {
        steps.count * (MemoryLayout<Step>.stride + 512)
            + program.instructions.count * (MemoryLayout<Operation>.stride + 96)
            + program.segments.count * (MemoryLayout<JSONPointer.Segment>.stride + 64)
            + sources.values.reduce(storedTypes.count * 48) { $0 + 64 + $1.count * 8 }
    }

    /// Those types, and the stored types whose events may be delivered as one of them. However many of the types share
    /// stored types, each of these is taken once.
    func storedTypes(deliveredAs types: Set<EventType>) -> Set<EventType> {
        var bits = [UInt64](repeating: 0, count: (storedTypes.count + 63) / 64)
        for type in types { for (word, source) in (sources[type] ?? []).enumerated() { bits[word] |= source } }
        var stored = types
        for word in bits.indices {
            while bits[word] != 0 {
                stored.insert(storedTypes[word * 64 + bits[word].trailingZeroBitCount])
                bits[word] &= bits[word] - 1
            }
        }
        return stored
    }

    /// The graph without steps.
    init() {
        steps = []
        indices = [:]
        next = []
        latest = [:]
        storedTypes = []
        sources = [:]
    }

    /// The graph of those steps.
    /// - Parameters:
    ///   - places: the place of each step, for messages.
    /// - Throws: ``MartletError`` with reason `INVALID_UPCASTER` for a duplicate step, a gap, a cycle of type
    ///   renames, an overlong chain, or too many steps or table entries.
    init(_ steps: [Step], places: [Step.ID: String], limits: UpcastingLimits) throws(MartletError) {
        func place(_ step: Step) -> String {
            let subject = "\(step.id.subject) from \(step.id.from)"
            return places[step.id].map { "\($0) (\(subject))" } ?? subject
        }
        guard steps.count <= limits.stepsMax else {
            throw .invalidUpcaster(
                "upcasters", "has more than \(limits.stepsMax) steps", limit: "steps_max", limits.stepsMax, steps.count)
        }
        try Self.checkTables(steps, limits)
        let steps = steps.sorted(by: Step.isOrdered)
        var indices: [Step.ID: Int] = [:]
        for (index, step) in steps.enumerated() { indices[step.id] = index }
        let next = steps.map { indices[$0.next] }

        for (step, following) in zip(steps, steps.dropFirst()) where step.id.subject == following.id.subject {
            guard step.id.from + 1 == following.id.from else {
                throw .invalidUpcaster(
                    place(following),
                    "leaves a gap: there is a step from \(step.id.from) but none from \(step.id.from + 1)")
            }
        }

        var latest: [UpcasterSubject: UInt32] = [:]
        var sources: [EventType: [UInt64]] = [:]
        var storedTypes: [EventType] = []
        var numbers: [EventType: Int] = [:]
        for case .event(let type) in steps.map(\.id.subject) where numbers[type] == nil {
            numbers[type] = storedTypes.count
            storedTypes.append(type)
        }
        let noSources = [UInt64](repeating: 0, count: (storedTypes.count + 63) / 64)
        for (start, step) in steps.enumerated() {
            var seen: Set<UpcasterSubject> = [step.id.subject]
            var at = start
            var length = 1
            while true {
                if let type = steps[at].newType, .event(type) != steps[at].id.subject {
                    guard seen.insert(.event(type)).inserted else {
                        throw .invalidUpcaster(
                            place(steps[at]),
                            "creates a cycle: its events were \(type) before, and become \(type) again")
                    }
                    if case .event(let stored) = step.id.subject, let number = numbers[stored] {
                        sources[type, default: noSources][number / 64] |= 1 << UInt64(number % 64)
                    }
                }
                guard let following = next[at] else { break }
                at = following
                length += 1
                guard length <= limits.chainStepsMax else {
                    throw .invalidUpcaster(
                        place(step), "starts a chain of more than \(limits.chainStepsMax) steps",
                        limit: "chain_steps_max", limits.chainStepsMax, length)
                }
            }
            let end = steps[at].next
            if let known = latest.updateValue(end.from, forKey: end.subject), known != end.from {
                throw .invalidUpcaster(
                    place(steps[at]),
                    "leaves a gap: \(end.subject) arrives at version \(min(known, end.from)) and at version "
                        + "\(max(known, end.from)), and there is no step from \(min(known, end.from))")
            }
        }
        // Where a subject's own steps end in another type, its own events of the last version have none to go on.
        for step in steps where indices[Step.ID(subject: step.id.subject, from: step.id.from + 1)] == nil {
            if let version = latest[step.id.subject], version != step.id.from + 1 {
                throw .invalidUpcaster(
                    place(step),
                    "leaves a gap: other steps lead to \(step.id.subject) at version \(version), and its own end at "
                        + "\(step.id.from + 1)")
            }
        }
        self.steps = steps
        self.indices = indices
        self.next = next
        self.latest = latest
        self.storedTypes = storedTypes
        self.sources = sources
    }

    private static func checkTables(_ steps: [Step], _ limits: UpcastingLimits) throws(MartletError) {
        var entries = 0
        for step in steps {
            for case .map(_, let table, _, _) in step.operations { entries += table.count }
        }
        guard entries <= limits.tableEntriesMax else {
            throw .invalidUpcaster(
                "upcasters", "tables may have at most \(limits.tableEntriesMax) entries in total",
                limit: "table_entries_max", limits.tableEntriesMax, entries)
        }
    }
}
