import MartletModel

/// What is wrong with a ``Schema``: a defect of the program, told when a ``Repository`` is made.
public struct SchemaError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A kind of defect.
    public struct Kind: RawRepresentable, Hashable, Sendable {
        /// Its name.
        public var rawValue: String

        /// The kind of that name.
        public init(rawValue: String) { self.rawValue = rawValue }

        /// A type, a case or a step is there twice.
        public static let duplicate = Kind(rawValue: "duplicate")
        /// A chain of upcasters stops before the current version.
        public static let gap = Kind(rawValue: "gap")
        /// A chain of upcasters leads back to where it was.
        public static let cycle = Kind(rawValue: "cycle")
        /// An upcaster starts from, or leads to, a version above today's.
        public static let beyondCurrent = Kind(rawValue: "beyond current")
        /// A name or a version is not allowed.
        public static let invalid = Kind(rawValue: "invalid")
    }

    /// What kind of defect.
    public var kind: Kind
    /// Where, and what to do.
    public var message: String

    /// A defect of that kind.
    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    /// Kind and message.
    public var description: String { "\(kind.rawValue): \(message)" }
}

/// A type of event in one version.
struct EventVersion: Hashable, Sendable, CustomStringConvertible {
    var name: String
    var version: UInt32

    var description: String { "\(name) \(version)" }

    static func == (a: EventVersion, b: EventVersion) -> Bool {
        a.version == b.version && ExactText(a.name) == ExactText(b.name)
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(ExactText(name))
        hasher.combine(version)
    }
}

/// Upcasters of events, checked as a whole.
struct EventChains: Sendable {
    let steps: [EventVersion: EventStep]

    /// - Parameter current: the current version of a type; nil if there is no such type today.
    init(_ list: [EventStep], current: (String) -> UInt32?) throws(SchemaError) {
        var steps: [EventVersion: EventStep] = [:]
        for step in list {
            let at = EventVersion(name: step.name, version: step.from)
            guard step.from >= 1, step.from < .max else {
                throw SchemaError(.invalid, "versions start at 1, but there is an upcaster from \(at)")
            }
            guard steps.updateValue(step, forKey: at) == nil else {
                throw SchemaError(.duplicate, "there are two upcasters from \(at): keep only one")
            }
        }
        for (at, step) in steps {
            if let now = current(at.name), at.version >= now {
                throw SchemaError(
                    .beyondCurrent, "there is an upcaster from \(at), but the current version of \(at.name) is \(now)")
            }
            for (name, version) in step.outputs {
                let next = EventVersion(name: name.text, version: version)
                guard steps[next] == nil else { continue }
                guard let now = current(name.text) else {
                    throw SchemaError(.gap, "\(at) leads to \(next), not a current event: add the next upcaster")
                }
                guard version != now else { continue }
                throw version > now
                    ? SchemaError(.beyondCurrent, "\(at) leads to \(next), but the current version is \(now)")
                    : SchemaError(.gap, "\(at) leads to \(next): there is no upcaster from there to \(now)")
            }
        }
        self.steps = steps
        var done: Set<EventVersion> = []
        for start in steps.keys { try checkCircle(from: start, &done) }
    }

    /// Walks without recursion: a chain may be as long as its author likes.
    private func checkCircle(from start: EventVersion, _ done: inout Set<EventVersion>) throws(SchemaError) {
        var path: [(at: EventVersion, rest: [EventVersion])] = []
        var onPath: Set<EventVersion> = []
        func successors(_ at: EventVersion) -> [EventVersion] {
            (steps[at]?.outputs ?? [:]).map { EventVersion(name: $0.text, version: $1) }
        }
        path.append((start, successors(start)))
        onPath.insert(start)
        while let top = path.last {
            guard let next = top.rest.last else {
                done.insert(top.at)
                onPath.remove(top.at)
                path.removeLast()
                continue
            }
            path[path.count - 1].rest.removeLast()
            if onPath.contains(next) { throw SchemaError(.cycle, "\(top.at) leads back to \(next)") }
            if done.contains(next) { continue }
            path.append((next, successors(next)))
            onPath.insert(next)
        }
    }
}

/// Upcasters of snapshots, checked as a whole.
struct SnapshotChain: Sendable {
    let current: UInt32
    let steps: [UInt32: SnapshotStep]

    init(_ list: [SnapshotStep], current: UInt32) throws(SchemaError) {
        guard current >= 1 else { throw SchemaError(.invalid, "snapshot versions start at 1") }
        var steps: [UInt32: SnapshotStep] = [:]
        for step in list {
            guard step.from >= 1 else { throw SchemaError(.invalid, "snapshot versions start at 1") }
            guard step.from < current else {
                throw SchemaError(
                    .beyondCurrent,
                    "there is a snapshot upcaster from \(step.from), but the current version is \(current)")
            }
            guard steps.updateValue(step, forKey: step.from) == nil else {
                throw SchemaError(.duplicate, "there are two snapshot upcasters from \(step.from): keep only one")
            }
        }
        for from in steps.keys where from + 1 != current && steps[from + 1] == nil {
            throw SchemaError(.gap, "the snapshot upcaster from \(from) leads to \(from + 1), but none starts there")
        }
        self.current = current
        self.steps = steps
    }

    /// The versions that can be read.
    var readable: Set<UInt32> { Set(steps.keys).union([current]) }
}
