import MartletModel

/// One operation as a definition states it. Names and text are UTF-8; a JSON value is its text without blanks.
enum Operation: Hashable, Sendable {
    case rename(JSONPointer, to: [UInt8], Options)
    case move(from: JSONPointer, to: JSONPointer, Options)
    case copy(from: JSONPointer, to: JSONPointer, Options)
    case remove(JSONPointer, Options)
    case set(JSONPointer, [UInt8])
    case setDefault(JSONPointer, [UInt8])
    case convert(JSONPointer, to: ValueForm, from: ValueForm?, Options)
    case map(JSONPointer, [TableEntry], otherwise: [UInt8]?, Options)
    case wrapInArray(JSONPointer, Options)
    case wrapInObject(JSONPointer, key: [UInt8], Options)
    case unwrapArray(JSONPointer, Options)
    case unwrapObject(JSONPointer, key: [UInt8], Options)
    case split(JSONPointer, separator: [UInt8], into: [JSONPointer], Options)
    case splitToArray(JSONPointer, separator: [UInt8], to: JSONPointer, Options)
    case join([JSONPointer], separator: [UInt8], into: JSONPointer, Options)
    case joinArray(JSONPointer, separator: [UInt8], into: JSONPointer, Options)
    case type(EventType)

    /// Members that say the same in every operation.
    struct Options: Hashable, Sendable {
        /// `required`: an absent path fails.
        var isRequired = false
        /// `replace`: a value that stands at the target is replaced; otherwise it fails.
        var replaces = false
    }

    struct TableEntry: Hashable, Sendable {
        var key: [UInt8]
        var value: [UInt8]
    }
}

/// What `convert` makes of a value, or takes it for.
enum ValueForm: String, Hashable, Sendable, CaseIterable {
    case string
    case integer
    case number
    case boolean
    case rfc3339
    case epochSeconds = "epoch-seconds"
    case epochMillis = "epoch-millis"
    case epochMicros = "epoch-micros"

    /// Decimal digits of a second in one unit; nil for what is no count of time.
    var epochDigits: Int? {
        switch self {
        case .epochSeconds: 0
        case .epochMillis: 3
        case .epochMicros: 6
        default: nil
        }
    }

    var isTime: Bool { self == .rfc3339 || epochDigits != nil }
}

/// One step as a definition states it.
struct Step: Hashable, Sendable {
    struct ID: Hashable, Sendable {
        var subject: UpcasterSubject
        var from: UInt32
    }

    var id: ID
    private(set) var operations: [Operation] = []
    /// The event type after the step; nil where it stays.
    private(set) var newType: EventType?

    init(_ id: ID) { self.id = id }

    mutating func append(_ operation: Operation) {
        operations.append(operation)
        if case .type(let type) = operation { newType = type }
    }

    /// The step that follows, if there is one.
    var next: ID { ID(subject: newType.map(UpcasterSubject.event) ?? id.subject, from: id.from + 1) }

    var summary: UpcasterStepSummary {
        UpcasterStepSummary(
            subject: id.subject, fromVersion: id.from, operationCount: operations.count, newType: newType)
    }

    /// Events before snapshots, then by the type's bytes, then by version.
    static func isOrdered(_ a: Step, _ b: Step) -> Bool {
        if a.id.subject.isEvent != b.id.subject.isEvent { return a.id.subject.isEvent }
        if a.id.subject != b.id.subject {
            return a.id.subject.text.utf8.lexicographicallyPrecedes(b.id.subject.text.utf8)
        }
        return a.id.from < b.id.from
    }
}
