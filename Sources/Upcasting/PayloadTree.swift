import MartletModel

/// A node's place in the tree's array; negative for none.
typealias NodeID = Int32

/// A payload as far as it was opened: a value is a slice of bytes until an operation looks into it.
///
/// Nodes live in one array and are linked by index; none is given back before the tree ends, so that their number
/// is bounded by what may be made. The root is the only child of ``holder``.
@safe struct PayloadTree: ~Copyable {
    enum Kind: UInt8 {
        /// A scalar, or an array or object that was not opened.
        case raw
        case object
        case array
        /// A place whose value was taken out, or did not come yet.
        case hole
        /// A node whose place another one took for good, which `first` names.
        case filled
    }

    struct Node {
        var kind: Kind
        /// Whether no two members have the same key.
        var isUnique = false
        /// The key in quotes, in an object.
        var key: Slice
        /// The bytes of what is raw.
        var value: Slice
        var parent: NodeID = -1
        var previous: NodeID = -1
        var next: NodeID = -1
        var first: NodeID = -1
        var last: NodeID = -1
        var childCount: Int32 = 0
    }

    static let holder: NodeID = 0

    private(set) var nodes: [Node] = []
    let limits: UpcastingLimits
    private var workLeft: Int
    @unsafe private let payload: UnsafeRawBufferPointer
    @unsafe private let pool: UnsafeRawBufferPointer
    /// Bytes that operations made, in a block of its own, so that all three sources are read alike.
    @unsafe private var made: UnsafeMutableRawBufferPointer
    private var madeCount = 0
    /// The last element that was looked for by index, to find its neighbour at once.
    private var cursor: (array: NodeID, index: Int32, node: NodeID) = (-1, 0, -1)

    /// The payload must be checked JSON; both must outlive the tree.
    @unsafe init(payload: UnsafeRawBufferPointer, pool: UnsafeRawBufferPointer, limits: UpcastingLimits) {
        unsafe self.payload = payload
        unsafe self.pool = pool
        unsafe made = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        self.limits = limits
        workLeft = limits.workPerPayloadMax
        nodes.reserveCapacity(32)
        nodes.append(Node(kind: .array, key: .none, value: .none, first: 1, last: 1, childCount: 1))
        let json = unsafe CheckedJSON(payload)
        let start = json.afterBlanks(0)
        let root = Slice(source: .payload, start: UInt32(start), end: UInt32(json.endOfValue(start)))
        nodes.append(Node(kind: .raw, key: .none, value: root, parent: Self.holder))
    }

    deinit { unsafe made.deallocate() }

    var root: NodeID { nodes[Int(Self.holder)].first }

    @inline(__always)
    func node(_ id: NodeID) -> Node { nodes[Int(id)] }

    // MARK: Bounds

    /// What was done so far, in bytes looked at; a value that was opened, copied or made takes about as much as 64 bytes,
    /// a byte that was made as one.
    var workDone: Int { limits.workPerPayloadMax - max(0, workLeft) + 64 * nodes.count + madeCount }

    /// Counts work in bytes looked at.
    @inline(__always)
    mutating func charge(_ work: Int) throws(Complaint) {
        workLeft -= work
        guard workLeft >= 0 else { throw Complaint("takes more than \(limits.workPerPayloadMax) bytes of work") }
    }

    mutating func add(_ node: Node) throws(Complaint) -> NodeID {
        guard nodes.count < limits.nodesPerPayloadMax else {
            throw Complaint("opens, copies or creates more than \(limits.nodesPerPayloadMax) values")
        }
        nodes.append(node)
        return NodeID(nodes.count - 1)
    }

    // MARK: Bytes

    @inline(__always)
    @unsafe func base(_ source: Slice.Source) -> UnsafeRawBufferPointer {
        switch source {
        case .payload: unsafe payload
        case .pool: unsafe pool
        case .made: unsafe UnsafeRawBufferPointer(made)
        }
    }

    /// The bytes; valid until something is made.
    @inline(__always)
    @unsafe func bytes(_ slice: Slice) -> UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: base(slice.source)[slice.range])
    }

    func array(_ slice: Slice) -> [UInt8] { unsafe Array(bytes(slice)) }

    /// Keeps new bytes.
    mutating func make(_ new: [UInt8]) throws(Complaint) -> Slice {
        guard new.count <= limits.madeBytesPerPayloadMax - madeCount else {
            throw Complaint("creates more than \(limits.madeBytesPerPayloadMax) bytes of new text")
        }
        if unsafe madeCount + new.count > made.count {
            let grown = UnsafeMutableRawBufferPointer.allocate(
                byteCount: unsafe max(256, 2 * made.count, madeCount + new.count), alignment: 1)
            unsafe grown.copyMemory(from: UnsafeRawBufferPointer(rebasing: made[..<madeCount]))
            unsafe made.deallocate()
            unsafe made = grown
        }
        unsafe UnsafeMutableRawBufferPointer(rebasing: made[madeCount...]).copyBytes(from: new)
        let slice = Slice(source: .made, start: UInt32(madeCount), end: UInt32(madeCount + new.count))
        madeCount += new.count
        return slice
    }

    /// The text of a string without its quotes, escapes resolved.
    mutating func text(ofString slice: Slice) throws(Complaint) -> [UInt8] {
        try charge(slice.count)
        var text: [UInt8] = []
        text.reserveCapacity(slice.count)
        unsafe CheckedJSON(base(slice.source)).decodeString(slice.range, into: &text)
        return text
    }

    /// Whether two keys name the same member.
    @inline(__always)
    mutating func isSame(_ a: Slice, _ b: Slice) throws(Complaint) -> Bool {
        if a.isEscaped || b.isEscaped { return try text(ofString: a) == text(ofString: b) }
        guard a.count == b.count else { return false }
        if a.count > 64 { try charge(a.count) }
        let (left, right) = unsafe (bytes(a), bytes(b))
        for index in 0..<a.count where unsafe left[index] != right[index] { return false }
        return true
    }

    /// The first byte of a value that was not opened.
    func lead(_ id: NodeID) -> UInt8 {
        let slice = node(id).value
        return slice.isEmpty ? 0 : unsafe base(slice.source)[Int(slice.start)]
    }

    // MARK: Opening

    /// Opens an array or object; false for anything else.
    mutating func open(_ id: NodeID) throws(Complaint) -> Bool {
        switch node(id).kind {
        case .object, .array: return true
        case .hole, .filled: return false
        case .raw: break
        }
        let kind: Kind
        switch lead(id) {
        case UInt8(ascii: "{"): kind = .object
        case UInt8(ascii: "["): kind = .array
        default: return false
        }
        let slice = node(id).value
        try charge(slice.count)
        let json = unsafe CheckedJSON(base(slice.source))
        var previous: NodeID = -1
        var count: Int32 = 0
        try json.forEachChild(Int(slice.start)) { (key, isEscaped, value) throws(Complaint) in
            let child = try add(
                Node(
                    kind: .raw,
                    key: Slice(
                        source: slice.source, isEscaped: isEscaped, start: UInt32(key.lowerBound),
                        end: UInt32(key.upperBound)),
                    value: Slice(
                        source: slice.source, start: UInt32(value.lowerBound), end: UInt32(value.upperBound)),
                    parent: id, previous: previous))
            if previous >= 0 { nodes[Int(previous)].next = child } else { nodes[Int(id)].first = child }
            previous = child
            count += 1
        }
        nodes[Int(id)].kind = kind
        nodes[Int(id)].last = previous
        nodes[Int(id)].childCount = count
        return true
    }

    // MARK: Finding

    /// The member of that name; where several have it, the last one, and the others are dropped. Negative for none.
    mutating func member(_ object: NodeID, _ key: Slice) throws(Complaint) -> NodeID {
        try charge(4 * Int(node(object).childCount))
        var found: NodeID = -1
        var at = node(object).first
        while at >= 0 {
            let next = nodes[Int(at)].next
            if try isSame(nodes[Int(at)].key, key) {
                if found >= 0 { unlink(found) }
                found = at
                if nodes[Int(object)].isUnique { break }
            }
            at = next
        }
        return found
    }

    /// The element of that index; negative for none.
    mutating func element(_ array: NodeID, _ index: Int32) throws(Complaint) -> NodeID {
        guard index >= 0, index < node(array).childCount else { return -1 }
        var (at, position) = (node(array).first, Int32(0))
        if cursor.array == array, cursor.index <= index { (at, position) = (cursor.node, cursor.index) }
        try charge(4 * Int(index - position))
        while position < index {
            at = nodes[Int(at)].next
            position += 1
        }
        cursor = (array, index, at)
        return at
    }

    /// Drops the members of an object whose key comes again later.
    mutating func dropDuplicates(_ object: NodeID) throws(Complaint) {
        guard !node(object).isUnique else { return }
        var at = node(object).last
        if node(object).childCount <= 8 {
            while at >= 0 {
                var earlier = node(at).previous
                while earlier >= 0 {
                    let next = node(earlier).previous
                    if try isSame(node(earlier).key, node(at).key) { unlink(earlier) }
                    earlier = next
                }
                at = node(at).previous
            }
        } else {
            var seen: Set<[UInt8]> = []
            try charge(32 * Int(node(object).childCount))
            while at >= 0 {
                let previous = node(at).previous
                if !seen.insert(try text(ofString: node(at).key)).inserted { unlink(at) }
                at = previous
            }
        }
        nodes[Int(object)].isUnique = true
    }

    // MARK: Changing

    mutating func setKey(_ id: NodeID, _ key: Slice) { nodes[Int(id)].key = key }

    /// Makes a value of those bytes of any node, in its place.
    mutating func setValue(_ id: NodeID, _ value: Slice) {
        setContainer(id, .raw)
        nodes[Int(id)].value = value
    }

    /// Makes an empty array or object of any node, in its place.
    mutating func setContainer(_ id: NodeID, _ kind: Kind) {
        if cursor.array == id { cursor.array = -1 }
        nodes[Int(id)].kind = kind
        nodes[Int(id)].isUnique = kind == .object
        nodes[Int(id)].first = -1
        nodes[Int(id)].last = -1
        nodes[Int(id)].childCount = 0
    }

    /// Takes a node out of its parent.
    mutating func unlink(_ id: NodeID) {
        let node = node(id)
        guard node.parent >= 0 else { return }
        if cursor.array == node.parent { cursor.array = -1 }
        if node.previous >= 0 {
            nodes[Int(node.previous)].next = node.next
        } else {
            nodes[Int(node.parent)].first = node.next
        }
        if node.next >= 0 {
            nodes[Int(node.next)].previous = node.previous
        } else {
            nodes[Int(node.parent)].last = node.previous
        }
        nodes[Int(node.parent)].childCount -= 1
        nodes[Int(id)].parent = -1
        nodes[Int(id)].previous = -1
        nodes[Int(id)].next = -1
    }

    /// Adds a node that has no parent as the last child.
    mutating func append(_ id: NodeID, to parent: NodeID) {
        let last = node(parent).last
        nodes[Int(id)].parent = parent
        nodes[Int(id)].previous = last
        nodes[Int(id)].next = -1
        if last >= 0 { nodes[Int(last)].next = id } else { nodes[Int(parent)].first = id }
        nodes[Int(parent)].last = id
        nodes[Int(parent)].childCount += 1
    }

    /// Puts a node that has no parent in the place of another, which then has none; the key stays with the place.
    mutating func replace(_ old: NodeID, with new: NodeID) {
        let node = node(old)
        if cursor.array == node.parent { cursor.array = -1 }
        nodes[Int(new)].key = node.key
        nodes[Int(new)].parent = node.parent
        nodes[Int(new)].previous = node.previous
        nodes[Int(new)].next = node.next
        if node.parent >= 0 {
            if node.previous >= 0 {
                nodes[Int(node.previous)].next = new
            } else {
                nodes[Int(node.parent)].first = new
            }
            if node.next >= 0 { nodes[Int(node.next)].previous = new } else { nodes[Int(node.parent)].last = new }
        }
        nodes[Int(old)].parent = -1
        nodes[Int(old)].previous = -1
        nodes[Int(old)].next = -1
    }

    /// Lets those who still have a replaced node find the one that took its place.
    mutating func forward(_ old: NodeID, to new: NodeID) {
        nodes[Int(old)].kind = .filled
        nodes[Int(old)].first = new
    }

    /// A copy of a value with all that it holds, without a parent.
    mutating func copy(_ original: NodeID) throws(Complaint) -> NodeID {
        func blank(_ node: Node) -> Node {
            Node(kind: node.kind, isUnique: node.isUnique, key: node.key, value: node.value)
        }
        let copy = try add(blank(node(original)))
        var (from, to) = (original, copy)
        while true {
            if node(from).first >= 0, node(from).kind == .object || node(from).kind == .array {
                from = node(from).first
            } else {
                while from != original, node(from).next < 0 {
                    from = node(from).parent
                    to = node(to).parent
                }
                if from == original { return copy }
                from = node(from).next
                to = node(to).parent
            }
            let child = try add(blank(node(from)))
            append(child, to: to)
            to = child
        }
    }
}
