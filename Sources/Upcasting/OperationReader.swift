import MartletModel

/// Reads one operation, and checks all that can be checked without a payload.
@safe struct OperationReader {
    typealias Field = DefinitionReader.Field
    typealias Fields = DefinitionReader.Fields

    /// The names of all operations.
    static let names = [
        "rename", "move", "copy", "remove", "set", "default", "convert", "map", "wrap", "unwrap", "split", "join",
        "type",
    ]

    var reader: DefinitionReader

    mutating func operation(_ name: String, _ field: Field) throws(MartletError) -> Operation {
        switch name {
        case "rename": try rename(field)
        case "move", "copy": try moveOrCopy(name, field)
        case "remove": try remove(field)
        case "set", "default": try setOrDefault(name, field)
        case "convert": try convert(field)
        case "map": try map(field)
        case "wrap": try wrap(field)
        case "unwrap": try unwrap(field)
        case "split": try split(field)
        case "join": try join(field)
        default: throw .invalidUpcaster(field.place, "is not an operation")
        }
    }

    private func fields(_ field: Field, _ names: String...) throws(MartletError) -> Fields {
        try reader.fields(field.value.lowerBound, field.place, allowed: names)
    }

    private func options(_ fields: Fields) throws(MartletError) -> Operation.Options {
        var options = Operation.Options()
        if let field = fields["required"] { options.isRequired = try reader.boolean(field) }
        if let field = fields["replace"] { options.replaces = try reader.boolean(field) }
        return options
    }

    private func pointer(_ fields: Fields, _ name: String) throws(MartletError) -> JSONPointer {
        try reader.pointer(try fields.required(name))
    }

    /// A pointer to which values go: as many `*` as where they come from, and not the whole payload unless that may
    /// be replaced.
    private func target(
        _ field: Field, from source: JSONPointer, _ options: Operation.Options
    ) throws(MartletError) -> JSONPointer {
        let target = try reader.pointer(field)
        guard target.starCount == source.starCount else {
            throw .invalidUpcaster(
                field.place,
                "has \(target.starCount) segments *, but the source has \(source.starCount): they pair up one to one")
        }
        guard !target.segments.isEmpty || options.replaces else {
            throw .invalidUpcaster(field.place, "is the whole payload, which always exists: set \"replace\": true")
        }
        return target
    }

    private func rename(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "to", "required", "replace")
        let path = try pointer(fields, "path")
        guard case .name = path.segments.last else {
            throw .invalidUpcaster("\(field.place).path", "must end in the name of a member")
        }
        return .rename(path, to: try reader.text(try fields.required("to")), try options(fields))
    }

    private func moveOrCopy(_ name: String, _ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "from", "to", "required", "replace")
        let options = try options(fields)
        let source = try pointer(fields, "from")
        let target = try target(try fields.required("to"), from: source, options)
        return name == "move" ? .move(from: source, to: target, options) : .copy(from: source, to: target, options)
    }

    private func remove(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "required")
        let path = try pointer(fields, "path")
        guard !path.segments.isEmpty else {
            throw .invalidUpcaster("\(field.place).path", "is the whole payload, which cannot be removed")
        }
        return .remove(path, try options(fields))
    }

    private func setOrDefault(_ name: String, _ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "value")
        let path = try pointer(fields, "path")
        let value = reader.json.compact(try fields.required("value").value)
        return name == "set" ? .set(path, value) : .setDefault(path, value)
    }

    private func form(_ field: Field) throws(MartletError) -> ValueForm {
        guard let form = ValueForm(rawValue: try reader.string(field)) else {
            throw .invalidUpcaster(
                field.place, "must be one of \(ValueForm.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return form
    }

    private func convert(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "to", "from", "required")
        let path = try pointer(fields, "path")
        let target = try form(try fields.required("to"))
        var source: ValueForm?
        if let from = fields["from"] {
            source = try form(from)
            guard target.isTime else {
                throw .invalidUpcaster(from.place, "is only for times: other values show what they are")
            }
            guard source?.isTime == true else {
                throw .invalidUpcaster(from.place, "must be rfc3339, epoch-seconds, epoch-millis or epoch-micros")
            }
        } else if target == .rfc3339 {
            throw .invalidUpcaster(
                field.place, "must have \"from\": epoch-seconds, epoch-millis or epoch-micros")
        }
        return .convert(path, to: target, from: source, try options(fields))
    }

    private mutating func map(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "table", "default", "required")
        let path = try pointer(fields, "path")
        let table = try reader.table(try fields.required("table"))
        return .map(
            path, table, otherwise: fields["default"].map { reader.json.compact($0.value) }, try options(fields))
    }

    /// The value of "in" or "from": an array, or an object and its key.
    private func container(_ fields: Fields, _ name: String) throws(MartletError) -> [UInt8]? {
        let kind = try fields.required(name)
        switch try reader.string(kind) {
        case "array":
            if let key = fields["key"] { throw .invalidUpcaster(key.place, "is only for objects") }
            return nil
        case "object": return try reader.text(try fields.required("key"))
        default: throw .invalidUpcaster(kind.place, "must be \"array\" or \"object\"")
        }
    }

    private func wrap(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "in", "key", "required")
        let path = try pointer(fields, "path")
        guard let key = try container(fields, "in") else { return .wrapInArray(path, try options(fields)) }
        return .wrapInObject(path, key: key, try options(fields))
    }

    private func unwrap(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "from", "key", "required")
        let path = try pointer(fields, "path")
        guard let key = try container(fields, "from") else { return .unwrapArray(path, try options(fields)) }
        return .unwrapObject(path, key: key, try options(fields))
    }

    private func separator(_ fields: Fields, mayBeEmpty: Bool) throws(MartletError) -> [UInt8] {
        let field = try fields.required("separator")
        let separator = try reader.text(field)
        let max = reader.limits.separatorBytesMax
        guard separator.count <= max else { throw .invalidUpcaster(field.place, "must have at most \(max) bytes") }
        guard mayBeEmpty || !separator.isEmpty else { throw .invalidUpcaster(field.place, "must not be empty") }
        return separator
    }

    /// The pointers of an array, at least one.
    private mutating func pointers(_ field: Field) throws(MartletError) -> [(pointer: JSONPointer, field: Field)] {
        var pointers: [(pointer: JSONPointer, field: Field)] = []
        try reader.forEachElement(field, max: reader.limits.pathsPerOperationMax, "paths of one operation") {
            (reader, value, place) throws(MartletError) in
            let field = Field(place: place, value: value)
            pointers.append((try reader.pointer(field), field))
        }
        guard !pointers.isEmpty else { throw .invalidUpcaster(field.place, "must have at least one pointer") }
        return pointers
    }

    private mutating func split(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "path", "separator", "into", "to", "required", "replace")
        let path = try pointer(fields, "path")
        let separator = try separator(fields, mayBeEmpty: false)
        let options = try options(fields)
        switch (fields["into"], fields["to"]) {
        case (let into?, nil):
            var targets: [JSONPointer] = []
            for (pointer, place) in try pointers(into) {
                guard !targets.contains(pointer) else { throw .invalidUpcaster(place.place, "is listed twice") }
                targets.append(try target(place, from: path, options))
            }
            return .split(path, separator: separator, into: targets, options)
        case (nil, let to?):
            let isInPlace = try reader.pointer(to) == path
            let target = isInPlace ? path : try target(to, from: path, options)
            return .splitToArray(path, separator: separator, to: target, options)
        default:
            throw .invalidUpcaster(field.place, "must have either \"into\" (several pointers) or \"to\" (an array)")
        }
    }

    private mutating func join(_ field: Field) throws(MartletError) -> Operation {
        let fields = try fields(field, "paths", "path", "separator", "into", "required", "replace")
        let separator = try separator(fields, mayBeEmpty: true)
        let into = try fields.required("into")
        let options = try options(fields)
        switch (fields["paths"], fields["path"]) {
        case (let list?, nil):
            let sources = try pointers(list)
            let target = try target(into, from: sources[0].pointer, options)
            for (pointer, field) in sources {
                guard pointer.starPrefix == target.starPrefix else {
                    throw .invalidUpcaster(field.place, "must be the same as \"into\" up to the last *")
                }
                guard pointer.segments.last != .each else {
                    throw .invalidUpcaster(field.place, "must not end in *: \"path\" joins the elements of an array")
                }
            }
            guard Set(sources.map(\.pointer)).count == sources.count else {
                throw .invalidUpcaster(list.place, "lists a pointer twice")
            }
            return .join(sources.map(\.pointer), separator: separator, into: target, options)
        case (nil, let path?):
            let source = try reader.pointer(path)
            let isInPlace = try reader.pointer(into) == source
            return .joinArray(
                source, separator: separator, into: isInPlace ? source : try target(into, from: source, options),
                options)
        default:
            throw .invalidUpcaster(field.place, "must have either \"paths\" (several pointers) or \"path\" (an array)")
        }
    }
}
