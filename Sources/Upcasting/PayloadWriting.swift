import MartletModel
import NIOCore

extension PayloadTree {
    /// Writes the payload, or nothing where it fails.
    ///
    /// What was not opened is copied as it came in, with its blanks; neighbours that stand together in the payload
    /// are copied together. Opened arrays and objects are written without blanks.
    /// - Parameter payloadDepth: how deep the payload nested when it came in.
    mutating func write(payloadDepth: Int, bytesMax: Int, to output: inout ByteBuffer) throws(Complaint) {
        var size = 0
        var depth = 0
        try unsafe walk { (bytes, level) throws(Complaint) in
            depth = max(depth, level)
            size += bytes.count
            guard size <= bytesMax else { throw Complaint("the new payload has more than \(bytesMax) bytes") }
        }
        let start = output.writerIndex
        output.reserveCapacity(minimumWritableBytes: size)
        var fault: Complaint?
        unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { target in
            var at = 0
            do throws(Complaint) {
                try unsafe walk { (bytes, _) throws(Complaint) in
                    guard bytes.count <= target.count - at else { throw Complaint("the payload cannot be written") }
                    unsafe UnsafeMutableRawBufferPointer(rebasing: target[at...]).copyMemory(from: bytes)
                    at += bytes.count
                }
            } catch {
                fault = error
            }
            return at
        }
        // Slices come from the payload or from a definition; nested in each other they may go too deep.
        if fault == nil, depth + max(payloadDepth, limits.documentDepthMax) > JSONText.depthMax {
            unsafe output.withUnsafeReadableBytes { bytes in
                do throws(JSONText.Fault) {
                    try unsafe JSONText.check(
                        UnsafeRawBufferPointer(rebasing: bytes[(bytes.count - size)...]))
                } catch {
                    fault = Complaint("the new payload is \(error.complaint)")
                }
            }
        }
        if let fault {
            output.moveWriterIndex(to: start)
            throw fault
        }
    }

    /// Calls `sink` with the payload's bytes, piece by piece, and with how many arrays and objects are open there.
    @inline(__always)
    @unsafe private func walk(_ sink: (UnsafeRawBufferPointer, Int) throws(Complaint) -> Void) throws(Complaint) {
        var at = root
        var depth = 0
        guard at >= 0 else { throw Complaint("nothing is left of the payload") }
        while true {
            let node = node(at)
            let inObject = node.parent >= 0 && self.node(node.parent).kind == .object
            switch node.kind {
            case .raw:
                var end = node
                if inObject, node.hasKeyBeside {
                    // As many neighbours as stand together in the payload, commas and all, in one piece.
                    var next = node.next
                    while next >= 0, self.node(next).hasKeyBeside, self.node(next).follows(end) {
                        end = self.node(next)
                        at = next
                        next = end.next
                    }
                    try unsafe sink(
                        bytes(Slice(source: node.key.source, start: node.key.start, end: end.value.end)), depth)
                } else {
                    if inObject { try unsafe key(node, sink, depth) }
                    try unsafe sink(bytes(node.value), depth)
                }
            case .object, .array:
                if inObject { try unsafe key(node, sink, depth) }
                depth += 1
                guard depth <= JSONText.depthMax else {
                    throw Complaint("the new payload nests deeper than \(JSONText.depthMax) levels")
                }
                try unsafe byte(node.kind == .object ? "{" : "[", sink, depth)
                if node.first >= 0 {
                    at = node.first
                    continue
                }
                try unsafe byte(node.kind == .object ? "}" : "]", sink, depth)
                depth -= 1
            case .hole, .filled: throw Complaint("a value is missing")
            }
            while self.node(at).next < 0 {
                at = self.node(at).parent
                guard at > Self.holder else { return }
                try unsafe byte(self.node(at).kind == .object ? "}" : "]", sink, depth)
                depth -= 1
            }
            at = self.node(at).next
            try unsafe byte(",", sink, depth)
        }
    }

    @inline(__always)
    @unsafe private func key(
        _ node: Node, _ sink: (UnsafeRawBufferPointer, Int) throws(Complaint) -> Void, _ depth: Int
    ) throws(Complaint) {
        try unsafe sink(bytes(node.key), depth)
        try unsafe byte(":", sink, depth)
    }

    @inline(__always)
    @unsafe private func byte(
        _ byte: StaticString, _ sink: (UnsafeRawBufferPointer, Int) throws(Complaint) -> Void, _ depth: Int
    ) throws(Complaint) {
        try unsafe sink(UnsafeRawBufferPointer(start: byte.utf8Start, count: 1), depth)
    }
}

extension PayloadTree.Node {
    /// Whether a raw value stands right behind its key, with only the colon between.
    var hasKeyBeside: Bool {
        kind == .raw && key.source == .payload && value.source == .payload && value.start == key.end + 1
    }

    /// Whether, in the payload, the member stands right behind that one, with only the comma between.
    func follows(_ other: PayloadTree.Node) -> Bool { key.start == other.value.end + 1 }
}
