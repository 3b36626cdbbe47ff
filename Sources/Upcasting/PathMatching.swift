import MartletModel

/// The values that a pointer leads to.
struct Matches {
    /// What a `*` stood for.
    struct Binding {
        /// The index of an element; -1 for a member.
        var index: Int32
        var key: Slice
    }

    struct Match {
        var node: NodeID
        /// What the last `*` stood for; the root without one.
        var base: NodeID
    }

    /// The last `*` of the pointer that was followed; 0 without one.
    var starPrefix: Int32 = 0
    var starCount = 0
    var hasBindings = false
    var list: [Match] = []
    /// As many for each match as the pointer has `*`.
    var bindings: [Binding] = []

    var count: Int { list.count }

    subscript(index: Int) -> Match { list[index] }

    /// Where a target that goes with a match is looked for.
    /// - Parameter hole: what stands in the match's place.
    func start(_ index: Int, _ hole: NodeID?) -> TargetStart {
        if hasBindings { return TargetStart(node: -1, segment: 0, binding: index * starCount) }
        let match = list[index]
        let node = starPrefix == 0 ? -1 : match.base == match.node ? hole ?? match.node : match.base
        return TargetStart(node: node, segment: starPrefix, binding: 0)
    }
}

/// Where a target is looked for from.
struct TargetStart {
    /// The node of the segments before; the root where negative.
    var node: NodeID
    /// The first segment to follow.
    var segment: Int32
    /// The binding of the first `*`.
    var binding: Int
}

extension UpcastMachine {
    /// Follows a pointer from the root to all that it leads to.
    /// - Parameters:
    ///   - bindings: whether to keep what each `*` stood for.
    ///   - upToStar: whether to stop at the last `*`.
    mutating func match(
        _ path: Program.Path, _ options: Operation.Options, bindings: Bool = false, upToStar: Bool = false
    ) throws(Complaint) {
        self.path = path
        matches.starPrefix = path.starPrefix
        matches.starCount = Int(path.starCount)
        matches.hasBindings = bindings
        matches.list.removeAll(keepingCapacity: true)
        matches.bindings.removeAll(keepingCapacity: true)
        var bound: [Matches.Binding] = []
        try follow(
            tree.root, 0, upToStar ? path.starPrefix : Int32(path.count), tree.root, &bound, options.isRequired)
    }

    /// Recursion goes one level deeper with each `*`, of which a pointer has few.
    private mutating func follow(
        _ start: NodeID, _ first: Int32, _ end: Int32, _ base: NodeID, _ bound: inout [Matches.Binding],
        _ isRequired: Bool
    ) throws(Complaint) {
        var at = start
        var position = first
        while position < end {
            let segment = program.segments[Int(path.segments.lowerBound + position)]
            position += 1
            guard segment.isEach else {
                let child = try child(at, segment)
                guard child >= 0 else {
                    culprit = at
                    if isRequired { throw Complaint("is absent but required") }
                    return
                }
                at = child
                continue
            }
            guard try tree.open(at) else {
                culprit = at
                if isRequired { throw Complaint("has no elements or members at the *, but they are required") }
                return
            }
            let isObject = tree.node(at).kind == .object
            if isObject { try tree.dropDuplicates(at) }
            try tree.charge(4 * Int(tree.node(at).childCount))
            var child = tree.node(at).first
            var index: Int32 = 0
            while child >= 0 {
                if matches.hasBindings {
                    bound.append(
                        Matches.Binding(index: isObject ? -1 : index, key: isObject ? tree.node(child).key : .none))
                }
                try follow(child, position, end, position == path.starPrefix ? child : base, &bound, isRequired)
                if matches.hasBindings { bound.removeLast() }
                child = tree.node(child).next
                index += 1
            }
            return
        }
        matches.list.append(Matches.Match(node: at, base: base))
        if matches.hasBindings {
            matches.bindings += bound
            guard matches.bindings.count <= tree.limits.nodesPerPayloadMax else {
                throw Complaint("matches more than \(tree.limits.nodesPerPayloadMax) values")
            }
        }
    }

    /// What a name leads to; negative for nothing.
    mutating func child(_ node: NodeID, _ segment: Program.Segment) throws(Complaint) -> NodeID {
        guard try tree.open(node) else { return -1 }
        return tree.node(node).kind == .object
            ? try tree.member(node, segment.key) : try tree.element(node, segment.index)
    }

    /// Puts a value, which has no parent, where the target is.
    mutating func place(
        _ node: NodeID, _ transfer: Program.Transfer, _ start: TargetStart
    ) throws(Complaint) {
        path = transfer.target
        let target = try find(transfer.target, start)
        guard tree.node(target).kind == .hole || transfer.options.replaces else {
            throw Complaint("cannot be the target: a value already exists there")
        }
        tree.replace(target, with: node)
        tree.forward(target, to: node)
    }

    /// Refuses to take a value that a target of the same operation has replaced, as it would come back from nowhere.
    func checkIsThere(_ node: NodeID, _ transfer: Program.Transfer) throws(Complaint) {
        guard transfer.options.replaces, !transfer.isShared else { return }
        var at = node
        while at > PayloadTree.holder { at = tree.node(at).parent }
        guard at == PayloadTree.holder, tree.node(node).kind != .filled else {
            throw Complaint("was replaced before its turn: the operation's targets overlap its sources")
        }
    }

    /// Finds the place where a pointer leads, and makes it where it is absent: a hole then, in parents that are
    /// made too.
    mutating func find(_ path: Program.Path, _ start: TargetStart) throws(Complaint) -> NodeID {
        self.path = path
        var at = start.node < 0 ? tree.root : start.node
        while tree.node(at).kind == .filled { at = tree.node(at).first }
        var star = start.binding
        for position in start.segment..<Int32(path.count) {
            let segment = program.segments[Int(path.segments.lowerBound + position)]
            var (index, key) = (segment.index, segment.key)
            var isArrayOnly = segment.isEnd
            if segment.isEach {
                guard star < matches.bindings.count else { throw Complaint("has a * that stands for nothing") }
                (index, key) = (matches.bindings[star].index, matches.bindings[star].key)
                isArrayOnly = index >= 0
                star += 1
            }
            if tree.node(at).kind == .hole { tree.setContainer(at, isArrayOnly ? .array : .object) }
            guard try tree.open(at) else {
                culprit = at
                throw Complaint("leads through a value that is neither an object nor an array")
            }
            let isObject = tree.node(at).kind == .object
            if isObject, segment.isEach, index >= 0 {
                throw Complaint("has a * that stands for an element, and leads to a member of an object there")
            }
            var child = isObject ? try tree.member(at, key) : try tree.element(at, index)
            if child < 0 {
                guard isObject || segment.isEnd && !segment.isEach || index == tree.node(at).childCount else {
                    culprit = at
                    throw Complaint("leads beyond the end of an array of \(tree.node(at).childCount) elements")
                }
                child = try tree.add(PayloadTree.Node(kind: .hole, key: isObject ? key : .none, value: .none))
                tree.append(child, to: at)
            }
            at = child
        }
        return at
    }

    /// The pointer at hand, with the index of each element in the place of its `*`.
    func concretePointer() -> String {
        let text = String(decoding: tree.array(path.text), as: UTF8.self)
        guard path.starCount > 0, culprit >= 0 else { return text }
        // Upwards from the value at hand, what each segment stood for: the index in an array, or -1.
        var indices: [Int] = []
        var at = culprit
        while at > PayloadTree.holder, indices.count <= path.count + 1 {
            let parent = tree.node(at).parent
            guard parent > PayloadTree.holder else { break }
            var index = -1
            if tree.node(parent).kind == .array {
                var sibling = at
                while sibling >= 0 {
                    index += 1
                    sibling = tree.node(sibling).previous
                }
            }
            indices.append(index)
            at = parent
        }
        guard at == tree.root else { return text }
        // Bytes are split, not characters: a slash and a combining mark after it are one character.
        var parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map {
            String(Substring($0))
        }
        for (offset, index) in indices.reversed().enumerated() where offset + 1 < parts.count {
            if parts[offset + 1] == "*", index >= 0 { parts[offset + 1] = String(index) }
        }
        return parts.joined(separator: "/")
    }
}
