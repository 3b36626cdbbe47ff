import MartletModel

/// Runs a program's steps on one payload.
@safe struct UpcastMachine: ~Copyable {
    struct Failure {
        var operation: Int
        var pointer: String
        var complaint: String
    }

    let program: Program
    var tree: PayloadTree
    var matches = Matches()
    /// Places from which values were taken during the operation.
    var holes: [NodeID] = []
    /// The pointer that is being followed, and the value at hand, for a failure.
    var path: Program.Path
    var culprit: NodeID = -1

    /// The payload must be checked JSON; both must outlive the machine.
    @unsafe init(
        program: Program, payload: UnsafeRawBufferPointer, pool: UnsafeRawBufferPointer, limits: UpcastingLimits
    ) {
        self.program = program
        tree = unsafe PayloadTree(payload: payload, pool: pool, limits: limits)
        path = Program.Path(segments: 0..<0, starPrefix: 0, starCount: 0, text: .none)
    }

    /// Runs one step; what went wrong, if anything.
    mutating func run(_ step: Int) -> Failure? {
        let instructions = program.steps[step].instructions
        for index in instructions {
            culprit = -1
            do throws(Complaint) {
                try tree.charge(16)
                try run(program.instructions[index])
                try fillUp()
            } catch {
                return Failure(
                    operation: index - instructions.lowerBound, pointer: concretePointer(), complaint: error.text)
            }
        }
        return nil
    }

    private mutating func run(_ instruction: Program.Instruction) throws(Complaint) {
        switch instruction {
        case .rename(let path, let key, let options): try rename(path, key, options)
        case .move(let transfer): try move(transfer)
        case .copy(let transfer): try copy(transfer)
        case .remove(let path, let options):
            try match(path, options)
            for index in 0..<matches.count { tree.unlink(matches[index].node) }
        case .set(let path, let value, let onlyIfAbsent): try set(path, value, onlyIfAbsent: onlyIfAbsent)
        case .convert(let path, let form, let source, let options):
            try match(path, options)
            for index in 0..<matches.count { try convert(next(index), to: form, from: source) }
        case .map(let path, let table, let otherwise, let options):
            try match(path, options)
            for index in 0..<matches.count { try map(next(index), program.tables[table], otherwise) }
        case .wrap(let path, let key, let options):
            try match(path, options)
            for index in 0..<matches.count { try wrap(next(index), key) }
        case .unwrap(let path, let key, let options):
            try match(path, options)
            for index in 0..<matches.count { try unwrap(next(index), key) }
        case .split(let transfers, let separator): try split(transfers, separator)
        case .splitToArray(let transfer, let separator): try splitToArray(transfer, separator)
        case .join(let transfers, let separator): try join(transfers, separator)
        case .joinArray(let transfer, let separator): try joinArray(transfer, separator)
        case .type: break
        }
    }

    /// The node of a match, which is then the value at hand.
    private mutating func next(_ index: Int) -> NodeID {
        culprit = matches[index].node
        return culprit
    }

    /// Takes out the holes that nothing filled.
    private mutating func fillUp() throws(Complaint) {
        for hole in holes where tree.node(hole).kind == .hole { tree.unlink(hole) }
        holes.removeAll(keepingCapacity: true)
    }

    // MARK: Operations on places

    private mutating func rename(
        _ path: Program.Path, _ key: Slice, _ options: Operation.Options
    ) throws(Complaint) {
        try match(path, options)
        for index in 0..<matches.count {
            let node = next(index)
            let parent = tree.node(node).parent
            guard parent >= 0, tree.node(parent).kind == .object else {
                throw Complaint("is an element of an array, which has no name")
            }
            let existing = try tree.member(parent, key)
            if existing == node { continue }
            if existing >= 0 {
                guard options.replaces else { throw Complaint("cannot be renamed: the new name already exists") }
                tree.unlink(existing)
            }
            tree.setKey(node, key)
        }
    }

    /// Puts a hole in the place of a value.
    mutating func takeOut(_ node: NodeID) throws(Complaint) -> NodeID {
        let hole = try tree.add(PayloadTree.Node(kind: .hole, key: .none, value: .none))
        tree.replace(node, with: hole)
        holes.append(hole)
        return hole
    }

    private mutating func move(_ transfer: Program.Transfer) throws(Complaint) {
        try match(transfer.source, transfer.options, bindings: !transfer.isShared)
        for index in 0..<matches.count {
            let node = next(index)
            path = transfer.source
            try checkIsThere(node, transfer)
            let hole = try takeOut(node)
            culprit = hole
            try place(node, transfer, matches.start(index, hole))
        }
    }

    private mutating func copy(_ transfer: Program.Transfer) throws(Complaint) {
        try match(transfer.source, transfer.options, bindings: !transfer.isShared)
        for index in 0..<matches.count {
            let node = next(index)
            path = transfer.source
            try checkIsThere(node, transfer)
            let copy = try tree.copy(node)
            try place(copy, transfer, matches.start(index, nil))
        }
    }

    private mutating func set(_ path: Program.Path, _ value: Slice, onlyIfAbsent: Bool) throws(Complaint) {
        try match(path, Operation.Options(), upToStar: true)
        for index in 0..<matches.count {
            culprit = matches[index].node
            let target = try find(path, TargetStart(node: culprit, segment: path.starPrefix, binding: 0))
            if onlyIfAbsent, tree.node(target).kind != .hole { continue }
            tree.setValue(target, value)
        }
    }

    private mutating func wrap(_ node: NodeID, _ key: Slice?) throws(Complaint) {
        let container = try tree.add(PayloadTree.Node(kind: .hole, key: .none, value: .none))
        tree.setContainer(container, key == nil ? .array : .object)
        tree.replace(node, with: container)
        tree.append(node, to: container)
        tree.setKey(node, key ?? .none)
    }

    private mutating func unwrap(_ node: NodeID, _ key: Slice?) throws(Complaint) {
        if isNull(node) { return }
        guard try tree.open(node), (tree.node(node).kind == .object) == (key != nil) else {
            throw Complaint(key == nil ? "must be an array of one element" : "must be an object with that key only")
        }
        let child: NodeID
        if let key { child = try tree.member(node, key) } else { child = tree.node(node).first }
        guard child >= 0, tree.node(node).childCount == 1 else {
            throw Complaint(
                key == nil
                    ? "must be an array of one element, but has \(tree.node(node).childCount)"
                    : "must be an object with that key only")
        }
        tree.unlink(child)
        tree.replace(node, with: child)
    }

    func isNull(_ node: NodeID) -> Bool { tree.node(node).kind == .raw && tree.lead(node) == UInt8(ascii: "n") }
}
