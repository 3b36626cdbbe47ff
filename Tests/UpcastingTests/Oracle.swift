/// A JSON value as simply as it can be: the oracle of the property test.
indirect enum Tree: Equatable {
    struct Member: Equatable {
        /// With quotes, as written.
        var key: String
        var value: Tree
    }

    /// As written.
    case scalar(String)
    case array([Tree])
    case object([Member])
    /// A place that is empty until the operation ends.
    case hole

    /// The value without its blanks.
    var text: String {
        switch self {
        case .scalar(let text): text
        case .array(let elements): "[\(elements.map(\.text).joined(separator: ","))]"
        case .object(let members): "{\(members.map { "\($0.key):\($0.value.text)" }.joined(separator: ","))}"
        case .hole: "?"
        }
    }

    static func name(_ key: String) -> String {
        String(key.dropFirst().dropLast()).replacing("\\u0061", with: "a")
    }

    /// The value without holes.
    var filled: Tree {
        switch self {
        case .scalar, .hole: self
        case .array(let elements): .array(elements.filter { $0 != .hole }.map(\.filled))
        case .object(let members):
            .object(
                members.filter { $0.value != .hole }.map { Member(key: $0.key, value: $0.value.filled) })
        }
    }

    var isNull: Bool { self == .scalar("null") }
}

/// The oracle fails where the machine does; why is not compared.
struct Failed: Error {}

/// Where a value stands: each name with its key as written, each index in brackets.
enum Spot: Equatable {
    case index(Int)
    case key(String)
}

/// The operations of the property test, applied to a whole tree, one after the other.
struct Oracle {
    var root: Tree
    /// Where the operation has replaced a value.
    var replaced: [[Spot]] = []

    init(root: Tree) { self.root = root }

    // MARK: Spots

    /// The value at a spot.
    func value(_ spots: [Spot]) -> Tree {
        spots.reduce(root) { value, spot in
            switch (value, spot) {
            // Its array may have been replaced since it was found.
            case (.array(let elements), .index(let index)) where elements.indices.contains(index): elements[index]
            case (.object(let members), .key(let key)):
                members.last { Tree.name($0.key) == Tree.name(key) }?.value ?? .hole
            default: .hole
            }
        }
    }

    /// Changes the value at a spot.
    mutating func change(_ spots: [Spot], _ body: (inout Tree) throws -> Void) rethrows {
        try Self.change(&root, spots[...], body)
    }

    private static func change(
        _ tree: inout Tree, _ spots: ArraySlice<Spot>, _ body: (inout Tree) throws -> Void
    ) rethrows {
        guard let spot = spots.first else { return try body(&tree) }
        switch (tree, spot) {
        case (.array(var elements), .index(let index)) where elements.indices.contains(index):
            try change(&elements[index], spots.dropFirst(), body)
            tree = .array(elements)
        case (.object(var members), .key(let key)):
            if let index = members.lastIndex(where: { Tree.name($0.key) == Tree.name(key) }) {
                try change(&members[index].value, spots.dropFirst(), body)
            }
            tree = .object(members)
        default: break
        }
    }

    /// Leaves only the last member of each name, or of that name.
    mutating func dropDuplicates(_ spots: [Spot], of name: String? = nil) {
        change(spots) { tree in
            guard case .object(let members) = tree else { return }
            tree = .object(
                members.enumerated().filter { index, member in
                    let own = Tree.name(member.key)
                    if let name, own != name { return true }
                    return !members[(index + 1)...].contains { Tree.name($0.key) == own }
                }.map(\.element))
        }
    }

    /// The spot that a name leads to; nil where nothing is there.
    mutating func child(_ spots: [Spot], _ name: String) -> Spot? {
        switch value(spots) {
        case .array(let elements):
            guard let index = Int(name), String(index) == name, elements.indices.contains(index) else { return nil }
            return .index(index)
        case .object:
            dropDuplicates(spots, of: name)
            guard case .object(let members) = value(spots) else { return nil }
            return members.first { Tree.name($0.key) == name }.map { .key($0.key) }
        default: return nil
        }
    }

    /// Every spot that a pointer leads to, in order.
    mutating func spots(_ path: ArraySlice<String>, at start: [Spot] = [], required: Bool) throws -> [[Spot]] {
        guard let segment = path.first else { return [start] }
        if segment != "*" {
            guard let next = child(start, segment) else {
                if required { throw Failed() }
                return []
            }
            return try spots(path.dropFirst(), at: start + [next], required: required)
        }
        dropDuplicates(start)
        var found: [[Spot]] = []
        switch value(start) {
        case .array(let elements):
            for index in elements.indices {
                found += try spots(path.dropFirst(), at: start + [.index(index)], required: required)
            }
        case .object(let members):
            for member in members {
                found += try spots(path.dropFirst(), at: start + [.key(member.key)], required: required)
            }
        default: if required { throw Failed() }
        }
        return found
    }

    /// What the `*` of a pointer stood for at a spot.
    static func bindings(_ path: [String], _ spots: [Spot]) -> [Spot] {
        zip(path, spots).filter { $0.0 == "*" }.map(\.1)
    }

    /// The spot of a target, made as a hole where it is absent.
    mutating func target(_ path: [String], _ bindings: [Spot]) throws -> [Spot] {
        var bindings = bindings[...]
        var at: [Spot] = []
        for segment in path {
            let bound = segment == "*" ? bindings.popFirst() : nil
            var isArray = segment == "-"
            if case .index = bound { isArray = true }
            if segment == "*", bound == nil { throw Failed() }
            if value(at) == .hole { change(at) { $0 = isArray ? .array([]) : .object([]) } }
            switch value(at) {
            case .array(let elements):
                let index: Int?
                switch bound {
                case .index(let number): index = number
                case .key: throw Failed()
                case nil:
                    index = segment == "-" ? elements.count : Int(segment).flatMap { String($0) == segment ? $0 : nil }
                }
                guard let index, index <= elements.count else { throw Failed() }
                if index == elements.count { change(at) { $0 = .array(elements + [.hole]) } }
                at.append(.index(index))
            case .object:
                let key: String
                switch bound {
                case .index: throw Failed()
                case .key(let text): key = text
                case nil: key = "\"\(segment)\""
                }
                if let spot = child(at, Tree.name(key)) {
                    at.append(spot)
                } else {
                    change(at) { tree in
                        guard case .object(let members) = tree else { return }
                        tree = .object(members + [Tree.Member(key: key, value: .hole)])
                    }
                    at.append(.key(key))
                }
            default: throw Failed()
            }
        }
        return at
    }

    mutating func place(_ new: Tree, _ path: [String], _ bindings: [Spot], replace: Bool) throws {
        let spot = try target(path, bindings)
        guard replace || value(spot) == .hole else { throw Failed() }
        if value(spot) != .hole { replaced.append(spot) }
        change(spot) { $0 = new }
    }

    /// Fails where the operation has replaced the value there already.
    func checkIsThere(_ spots: [Spot]) throws {
        func names(_ spots: [Spot]) -> [Spot] {
            spots.map { if case .key(let key) = $0 { .key(Tree.name(key)) } else { $0 } }
        }
        if replaced.contains(where: { names(spots).starts(with: names($0)) }) { throw Failed() }
    }
}
