import MartletModel

// The operations on strings: map, split and join.

extension UpcastMachine {
    /// What a scalar reads as: a string its characters, anything else its text; nil for an array or object.
    mutating func scalarText(_ node: NodeID) throws(Complaint) -> [UInt8]? {
        guard tree.node(node).kind == .raw else { return nil }
        let value = tree.node(node).value
        switch tree.lead(node) {
        case UInt8(ascii: "{"), UInt8(ascii: "["): return nil
        case UInt8(ascii: "\""): return try tree.text(ofString: value)
        default:
            try tree.charge(value.count)
            return tree.array(value)
        }
    }

    mutating func map(_ node: NodeID, _ table: [[UInt8]: Slice], _ otherwise: Slice?) throws(Complaint) {
        guard let text = try scalarText(node) else {
            throw Complaint("is an array or object, which a table cannot contain")
        }
        guard let value = table[text] ?? otherwise else {
            throw Complaint("has a value that is not in the table, which has no default")
        }
        tree.setValue(node, value)
    }

    // MARK: Split

    mutating func split(_ transfers: Range<Int>, _ separator: Slice) throws(Complaint) {
        let first = program.transfers[transfers.lowerBound]
        let isShared = program.transfers[transfers].allSatisfy(\.isShared)
        try match(first.source, first.options, bindings: !isShared)
        for index in 0..<matches.count {
            path = first.source
            let node = matches[index].node
            culprit = node
            for transfer in transfers { try checkIsThere(node, program.transfers[transfer]) }
            if isNull(node) { continue }
            let parts = try parts(node, separator, max: transfers.count)
            guard parts.count == transfers.count else {
                throw Complaint("has \(parts.count) parts, but \(transfers.count) are expected")
            }
            let hole = try takeOut(node)
            culprit = hole
            for (part, transfer) in zip(parts, transfers) {
                let value = try tree.add(PayloadTree.Node(kind: .raw, key: .none, value: try tree.make(part)))
                try place(value, program.transfers[transfer], matches.start(index, hole))
            }
        }
    }

    mutating func splitToArray(_ transfer: Program.Transfer, _ separator: Slice) throws(Complaint) {
        try match(transfer.source, transfer.options, bindings: !transfer.isShared)
        for index in 0..<matches.count {
            path = transfer.source
            let node = matches[index].node
            culprit = node
            try checkIsThere(node, transfer)
            if isNull(node) { continue }
            let parts = try parts(node, separator, max: tree.limits.nodesPerPayloadMax)
            let array = try tree.add(PayloadTree.Node(kind: .hole, key: .none, value: .none))
            tree.setContainer(array, .array)
            for part in parts {
                let value = try tree.make(part)
                tree.append(try tree.add(PayloadTree.Node(kind: .raw, key: .none, value: value)), to: array)
            }
            let hole = try takeOut(node)
            culprit = hole
            try place(array, transfer, matches.start(index, hole))
        }
    }

    /// The strings around the separator, at most so many, of which the last takes the rest. Characters stay as they
    /// are written; the separator is found whether it is written plainly or with escapes.
    private mutating func parts(_ node: NodeID, _ separator: Slice, max: Int) throws(Complaint) -> [[UInt8]] {
        guard tree.node(node).kind == .raw, tree.lead(node) == UInt8(ascii: "\"") else {
            throw Complaint("must be a string")
        }
        let slice = tree.node(node).value
        let needle = tree.array(separator)
        try tree.charge(4 * slice.count)
        let json = unsafe CheckedJSON(tree.base(slice.source))
        let end = Int(slice.end) - 1
        var parts: [[UInt8]] = []
        var start = Int(slice.start) + 1
        var at = start
        while at < end, parts.count + 1 < max {
            let byte = json.byte(at)
            let isCandidate = byte == needle.first || byte == UInt8(ascii: "\\")
            if isCandidate { try tree.charge(needle.count) }
            if isCandidate, let after = json.end(of: needle, at: at, end: end) {
                parts.append(Self.quoted(json.slice(start..<at)))
                start = after
                at = after
            } else {
                at = byte == UInt8(ascii: "\\") ? json.escape(at, end: end).end : at + 1
            }
        }
        parts.append(Self.quoted(json.slice(start..<end)))
        return parts
    }

    private static func quoted(_ raw: [UInt8]) -> [UInt8] { [UInt8(ascii: "\"")] + raw + [UInt8(ascii: "\"")] }

    // MARK: Join

    mutating func join(_ transfers: Range<Int>, _ separator: Slice) throws(Complaint) {
        let first = program.transfers[transfers.lowerBound]
        try match(first.source, first.options, upToStar: true)
        for index in 0..<matches.count {
            let base = matches[index].base
            var sources: [NodeID] = []
            for transfer in program.transfers[transfers] {
                path = transfer.source
                if let source = try relative(base, path, isRequired: first.options.isRequired) {
                    sources.append(source)
                }
            }
            guard let text = try joined(sources, separator) else { continue }
            for source in sources { culprit = try takeOut(source) }
            let value = try tree.add(PayloadTree.Node(kind: .raw, key: .none, value: try tree.make(text)))
            let start = TargetStart(
                node: first.target.starPrefix == 0 ? -1 : base, segment: first.target.starPrefix, binding: 0)
            try place(value, first, start)
        }
    }

    /// Follows a pointer from what its last `*` stands for; nil where it leads to nothing.
    private mutating func relative(
        _ base: NodeID, _ path: Program.Path, isRequired: Bool
    ) throws(Complaint) -> NodeID? {
        var at = base
        for segment in path.segments.dropFirst(Int(path.starPrefix)) {
            culprit = at
            at = try child(at, program.segments[Int(segment)])
            guard at >= 0 else {
                if isRequired { throw Complaint("is absent but required") }
                return nil
            }
        }
        return at
    }

    mutating func joinArray(_ transfer: Program.Transfer, _ separator: Slice) throws(Complaint) {
        try match(transfer.source, transfer.options, bindings: !transfer.isShared)
        for index in 0..<matches.count {
            path = transfer.source
            let node = matches[index].node
            culprit = node
            try checkIsThere(node, transfer)
            if isNull(node) { continue }
            guard try tree.open(node), tree.node(node).kind == .array else { throw Complaint("must be an array") }
            var elements: [NodeID] = []
            var element = tree.node(node).first
            while element >= 0 {
                elements.append(element)
                element = tree.node(element).next
            }
            let text = try joined(elements, separator) ?? Self.quoted([])
            culprit = node
            let value = try tree.add(PayloadTree.Node(kind: .raw, key: .none, value: try tree.make(text)))
            let hole = try takeOut(node)
            culprit = hole
            try place(value, transfer, matches.start(index, hole))
        }
    }

    /// One string of the texts of scalars, as they are written, without those that are null; nil where none is left.
    private mutating func joined(_ nodes: [NodeID], _ separator: Slice) throws(Complaint) -> [UInt8]? {
        let between = JSONString.quoted(tree.array(separator)).dropFirst().dropLast()
        var text: [UInt8] = [UInt8(ascii: "\"")]
        var isEmpty = true
        for node in nodes where !isNull(node) {
            culprit = node
            guard tree.node(node).kind == .raw else { throw Complaint("is an array or object, which cannot be joined") }
            let value = tree.node(node).value
            try tree.charge(value.count + between.count)
            if !isEmpty { text += between }
            isEmpty = false
            switch tree.lead(node) {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                throw Complaint("is an array or object, which cannot be joined")
            case UInt8(ascii: "\""): text += tree.array(value).dropFirst().dropLast()
            default: text += tree.array(value)
            }
        }
        text.append(UInt8(ascii: "\""))
        return isEmpty ? nil : text
    }
}

extension CheckedJSON {
    /// Where the text ends that is found at that place of a string; nil where it is not found there.
    fileprivate func end(of text: [UInt8], at start: Int, end: Int) -> Int? {
        var at = start
        var found = 0
        while found < text.count {
            guard at < end else { return nil }
            guard byte(at) == UInt8(ascii: "\\") else {
                guard byte(at) == text[found] else { return nil }
                at += 1
                found += 1
                continue
            }
            let escape = escape(at, end: end)
            var character: [UInt8] = []
            Self.appendUTF8(escape.scalar, to: &character)
            guard text[found...].starts(with: character) else { return nil }
            at = escape.end
            found += character.count
        }
        return at
    }
}
