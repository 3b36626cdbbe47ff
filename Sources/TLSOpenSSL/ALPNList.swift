/// A list of application protocols as TLS writes it: each name after a byte with its length.
struct ALPNList: Sendable {
    let bytes: [UInt8]

    init(_ names: [String]) throws(TLSError) {
        var bytes: [UInt8] = []
        for name in names {
            guard let length = UInt8(exactly: name.utf8.count), length > 0 else {
                throw TLSError(.configuration, "an ALPN name has 1 to 255 bytes, '\(name)' has \(name.utf8.count)")
            }
            bytes.append(length)
            bytes += name.utf8
        }
        guard bytes.count <= Int(UInt16.max) else {
            throw TLSError(.configuration, "the ALPN names take \(bytes.count) bytes, the limit is \(UInt16.max)")
        }
        self.bytes = bytes
    }

    /// Where the first of our names that is among `offers`, a list of the same format, stands there.
    func firstMatch(in offers: [UInt8]) -> Range<Int>? {
        var ours = 0
        while let mine = Self.name(of: bytes, at: ours) {
            var theirs = 0
            while let other = Self.name(of: offers, at: theirs) {
                if bytes[mine] == offers[other] { return other }
                theirs = other.upperBound
            }
            ours = mine.upperBound
        }
        return nil
    }

    /// Where the name whose length byte is at `offset` stands; nil at the end, or where the list is damaged.
    private static func name(of list: [UInt8], at offset: Int) -> Range<Int>? {
        guard offset < list.count else { return nil }
        let start = offset + 1
        let end = start + Int(list[offset])
        return end <= list.count ? start..<end : nil
    }
}
