/// Text that names something: the same only when its bytes in UTF-8 are the same.
///
/// Swift's `String` compares by canonical equivalence: `Café` composed and decomposed are one key of a dictionary of
/// strings, though they are two names on the wire and in storage.
public struct ExactText: Hashable, Sendable, Comparable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// The text.
    public var text: String

    /// That text.
    public init(_ text: String) { self.text = text }

    /// That text.
    public init(stringLiteral text: String) { self.text = text }

    /// The text.
    public var description: String { text }

    /// Whether the bytes are the same.
    public static func == (a: ExactText, b: ExactText) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }

    /// Sorts by the bytes.
    public static func < (a: ExactText, b: ExactText) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }

    /// Hashes the bytes.
    public func hash(into hasher: inout Hasher) { text.hashBytes(into: &hasher) }
}

extension String {
    /// Hashes the bytes in UTF-8. A `String` itself hashes alike what is canonically equivalent, of which a peer can
    /// make any number.
    func hashBytes(into hasher: inout Hasher) {
        let isHashed: Void? = unsafe utf8.withContiguousStorageIfAvailable { bytes in
            unsafe hasher.combine(bytes: UnsafeRawBufferPointer(bytes))
            hasher.combine(UInt8(0xFF))
        }
        guard isHashed == nil else { return }
        for byte in utf8 { hasher.combine(byte) }
        hasher.combine(UInt8(0xFF))
    }
}
