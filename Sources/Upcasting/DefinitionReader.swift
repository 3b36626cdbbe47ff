import MartletModel
import NIOCore

/// Reads a definition document. Every refusal names the place: `upcasters[3].operations[2].rename.to`.
@safe struct DefinitionReader {
    let json: CheckedJSON
    let limits: UpcastingLimits
    /// Entries that the tables may still have.
    private var tableEntriesLeft: Int

    /// Reads the steps of a document, in the order in which they stand there.
    static func steps(_ document: ByteBuffer, limits: UpcastingLimits) throws(MartletError) -> [Step] {
        guard document.readableBytes <= limits.documentBytesMax else {
            throw .invalidUpcaster(
                "the document",
                "has \(document.readableBytes) bytes, at most \(limits.documentBytesMax) are allowed: "
                    + "apply it in parts", limit: "document_bytes_max", limits.documentBytesMax, document.readableBytes)
        }
        let result = unsafe document.withUnsafeReadableBytes { bytes -> Result<[Step], MartletError> in
            do throws(MartletError) {
                let depth: Int
                do throws(JSONText.Fault) {
                    depth = try unsafe JSONText.check(bytes)
                } catch {
                    throw .invalidUpcaster("the document", "is not JSON: at byte \(error.offset), \(error.complaint)")
                }
                guard depth <= limits.documentDepthMax else {
                    throw .invalidUpcaster(
                        "the document", "nests \(depth) levels deep, at most \(limits.documentDepthMax) are allowed",
                        limit: "document_depth_max", limits.documentDepthMax, depth)
                }
                var reader = unsafe DefinitionReader(json: CheckedJSON(bytes), limits: limits)
                return .success(try reader.document())
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private init(json: CheckedJSON, limits: UpcastingLimits) {
        self.json = json
        self.limits = limits
        tableEntriesLeft = limits.tableEntriesMax
    }

    private mutating func document() throws(MartletError) -> [Step] {
        let fields = try fields(json.afterBlanks(0), "the document", allowed: ["upcasters"])
        let list = try fields.required("upcasters")
        var steps: [Step] = []
        try forEachElement(list, max: limits.stepsMax, "steps") { (reader, value, place) throws(MartletError) in
            steps.append(try reader.step(value, place))
        }
        return steps
    }

    private mutating func step(_ value: Range<Int>, _ place: String) throws(MartletError) -> Step {
        let fields = try fields(
            value.lowerBound, place, allowed: ["event", "snapshot", "from", "operations"])
        let subject: UpcasterSubject
        switch (fields["event"], fields["snapshot"]) {
        case (let name?, nil): subject = .event(try eventType(name))
        case (nil, let name?):
            guard let type = AggregateType(try string(name)) else {
                throw .invalidUpcaster(name.place, "must be an aggregate type: 1 to 128 bytes of [A-Za-z0-9_.:-]")
            }
            subject = .snapshot(type)
        default: throw .invalidUpcaster(place, "must have either \"event\" or \"snapshot\"")
        }
        let from = try fields.required("from")
        guard let version = UInt32(asText(from.value)), (1..<UInt32.max).contains(version) else {
            throw .invalidUpcaster(from.place, "must be a whole number from 1 to \(UInt32.max - 1)")
        }
        var step = Step(Step.ID(subject: subject, from: version))
        let list = try fields.required("operations")
        try forEachElement(list, max: limits.operationsPerStepMax, "operations of one step") {
            (reader, value, place) throws(MartletError) in
            let operation = try reader.operation(value, place)
            if case .type = operation {
                guard subject.isEvent else { throw .invalidUpcaster(place, "a snapshot has no event type to change") }
                guard step.newType == nil else { throw .invalidUpcaster(place, "a step may change the type only once") }
            }
            step.append(operation)
        }
        guard !step.operations.isEmpty else { throw .invalidUpcaster(list.place, "must have at least one operation") }
        return step
    }

    private mutating func operation(_ value: Range<Int>, _ place: String) throws(MartletError) -> Operation {
        let fields = try fields(value.lowerBound, place, allowed: OperationReader.names)
        guard fields.members.count == 1, let (name, field) = fields.members.first else {
            throw .invalidUpcaster(place, "must have one member, the operation, but has \(fields.members.count)")
        }
        if name == "type" { return .type(try eventType(field)) }
        var reader = OperationReader(reader: self)
        let operation = try reader.operation(name, field)
        tableEntriesLeft = reader.reader.tableEntriesLeft
        return operation
    }

    private func eventType(_ field: Field) throws(MartletError) -> EventType {
        guard let type = EventType(try string(field)) else {
            throw .invalidUpcaster(
                field.place, "must be an event type: 1 to 256 bytes of UTF-8 without control characters")
        }
        return type
    }

    /// The entries of a table.
    mutating func table(_ field: Field) throws(MartletError) -> [Operation.TableEntry] {
        guard json.byte(field.value.lowerBound) == UInt8(ascii: "{") else {
            throw .invalidUpcaster(field.place, "must be an object")
        }
        var entries: [Operation.TableEntry] = []
        var seen: Set<[UInt8]> = []
        var left = tableEntriesLeft
        try json.forEachChild(field.value.lowerBound) { (key, _, value) throws(MartletError) in
            left -= 1
            guard left >= 0 else {
                throw .invalidUpcaster(
                    field.place, "tables may have at most \(limits.tableEntriesMax) entries in total",
                    limit: "table_entries_max", limits.tableEntriesMax, limits.tableEntriesMax + 1)
            }
            let name = try text(Field(place: field.place, value: key))
            guard seen.insert(name).inserted else {
                throw .invalidUpcaster(field.place, "has the entry \(Self.shown(name)) twice")
            }
            entries.append(Operation.TableEntry(key: name, value: json.compact(value)))
        }
        tableEntriesLeft = left
        return entries
    }

    /// Calls `body` with every element of an array and its place.
    mutating func forEachElement(
        _ field: Field, max: Int, _ noun: String,
        _ body: (inout DefinitionReader, Range<Int>, String) throws(MartletError) -> Void
    ) throws(MartletError) {
        guard json.byte(field.value.lowerBound) == UInt8(ascii: "[") else {
            throw .invalidUpcaster(field.place, "must be an array")
        }
        var index = 0
        try json.forEachChild(field.value.lowerBound) { (_, _, value) throws(MartletError) in
            guard index < max else {
                throw .invalidUpcaster(
                    field.place, "has more than \(max) \(noun)", limit: noun.replacing(" ", with: "_") + "_max", max,
                    max + 1)
            }
            try body(&self, value, "\(field.place)[\(index)]")
            index += 1
        }
    }
}

// The parts of which definitions are made.
extension DefinitionReader {
    /// A value and its place.
    struct Field {
        var place: String
        var value: Range<Int>
    }

    /// The members of an object.
    struct Fields {
        var place: String
        var members: [String: Field] = [:]

        subscript(name: String) -> Field? { members[name] }

        func required(_ name: String) throws(MartletError) -> Field {
            guard let field = members[name] else { throw .invalidUpcaster(place, "must have \"\(name)\"") }
            return field
        }
    }

    /// The members of the object that starts there.
    func fields(_ start: Int, _ place: String, allowed: [String]) throws(MartletError) -> Fields {
        guard json.byte(start) == UInt8(ascii: "{") else { throw .invalidUpcaster(place, "must be an object") }
        var fields = Fields(place: place)
        try json.forEachChild(start) { (key, _, value) throws(MartletError) in
            let bytes = try text(Field(place: place, value: key))
            guard let name = allowed.first(where: { $0.utf8.elementsEqual(bytes) }) else {
                throw .invalidUpcaster(
                    place, "has the unknown member \(Self.shown(bytes)); known are \(allowed.joined(separator: ", "))")
            }
            let field = Field(place: place == "the document" ? name : "\(place).\(name)", value: value)
            guard fields.members.updateValue(field, forKey: name) == nil else {
                throw .invalidUpcaster(place, "has \"\(name)\" twice")
            }
        }
        return fields
    }

    /// The text of a string, in UTF-8.
    func text(_ field: Field) throws(MartletError) -> [UInt8] {
        guard json.byte(field.value.lowerBound) == UInt8(ascii: "\"") else {
            throw .invalidUpcaster(field.place, "must be a string")
        }
        var text: [UInt8] = []
        guard json.decodeString(field.value, into: &text) else {
            throw .invalidUpcaster(field.place, "has a lone surrogate, which is not a character")
        }
        return text
    }

    func string(_ field: Field) throws(MartletError) -> String { String(decoding: try text(field), as: UTF8.self) }

    func boolean(_ field: Field) throws(MartletError) -> Bool {
        switch asText(field.value) {
        case "true": return true
        case "false": return false
        default: throw .invalidUpcaster(field.place, "must be true or false")
        }
    }

    func pointer(_ field: Field) throws(MartletError) -> JSONPointer {
        let text = try text(field)
        do throws(Complaint) {
            return try JSONPointer(text, limits: limits)
        } catch {
            throw .invalidUpcaster(field.place, error.text)
        }
    }

    /// The bytes of a short scalar; empty for a long one.
    private func asText(_ value: Range<Int>) -> String {
        value.count <= 16 ? String(decoding: json.slice(value), as: UTF8.self) : ""
    }

    /// A name for a message: its start, in quotes.
    static func shown(_ name: [UInt8]) -> String {
        let text = String(decoding: name.prefix(64), as: UTF8.self)
        return "\"\(text)\(name.count > 64 ? "…" : "")\""
    }
}

extension CheckedJSON {
    /// A value's bytes without the blanks between its parts.
    func compact(_ value: Range<Int>) -> [UInt8] {
        var compact: [UInt8] = []
        compact.reserveCapacity(value.count)
        var at = value.lowerBound
        while at < value.upperBound {
            switch byte(at) {
            case 0x20, 0x0A, 0x0D, 0x09: at += 1
            case UInt8(ascii: "\""):
                let end = min(max(endOfString(at).end, at + 1), value.upperBound)
                compact += slice(at..<end)
                at = end
            case let byte:
                compact.append(byte)
                at += 1
            }
        }
        return compact
    }
}

extension MartletError {
    /// A refused definition.
    static func invalidUpcaster(_ place: String, _ complaint: String) -> MartletError {
        MartletError(.invalidArgument, reason: .invalidUpcaster, message: "\(place): \(complaint)")
    }

    /// A definition that is refused because of a limit.
    static func invalidUpcaster(
        _ place: String, _ complaint: String, limit: String, _ max: Int, _ actual: Int
    ) -> MartletError {
        MartletError(
            .invalidArgument, reason: .invalidUpcaster, message: "\(place): \(complaint)",
            limit: LimitViolation(name: limit, limit: UInt64(clamping: max), actual: UInt64(clamping: actual)))
    }
}
