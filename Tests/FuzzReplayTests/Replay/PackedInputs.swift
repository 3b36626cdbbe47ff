/// Inputs of fuzzing in one file: of each, its length in four bytes, big-endian, and its bytes. They are sorted by their
/// bytes, and none occurs twice: the same inputs give the same file. `Fuzz/run` reads and writes the same format.
enum PackedInputs {
    /// What is wrong with a file.
    struct Damage: Error, Equatable, CustomStringConvertible {
        var description: String
    }

    /// The inputs of a file, in its order.
    /// - Throws: ``Damage`` when the file is cut off, or its inputs are not in order: no input is left out silently.
    static func unpack(_ pack: [UInt8]) throws(Damage) -> [[UInt8]] {
        var inputs: [[UInt8]] = []
        var rest = pack[...]
        while !rest.isEmpty {
            let place = "input \(inputs.count) at byte \(rest.startIndex)"
            guard rest.count >= 4 else {
                throw Damage(description: "\(place): its length is cut off, \(rest.count) bytes of 4 are left")
            }
            let bytes = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
            rest = rest.dropFirst(4)
            guard rest.count >= bytes else {
                throw Damage(description: "\(place): it is cut off, \(rest.count) bytes of \(bytes) are left")
            }
            let input = Array(rest.prefix(bytes))
            if let last = inputs.last, !last.lexicographicallyPrecedes(input) {
                throw Damage(description: "\(place): it does not come after the one before in order")
            }
            inputs.append(input)
            rest = rest.dropFirst(bytes)
        }
        return inputs
    }
}
