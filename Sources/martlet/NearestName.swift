/// Finds what somebody may have meant who wrote a name that there is none of.
enum NearestName {
    /// The known name that is nearest to `name`, if it is near enough to be meant: a third of its letters may be other ones.
    static func of(_ name: String, among known: some Sequence<String>) -> String? {
        let written = Array(name.lowercased().utf8.prefix(256))
        return known.map { ($0, distance(written, Array($0.lowercased().utf8))) }
            .filter { $0.1 <= max(1, $0.0.utf8.count / 3) }
            .min { ($0.1, $0.0) < ($1.1, $1.0) }?.0
    }

    /// `; did you mean "NAME"?`, or else `; known: …`.
    static func hint(_ name: String, among known: [String]) -> String {
        guard let near = of(name, among: known) else { return "; known: \(known.sorted().joined(separator: ", "))" }
        return "; did you mean \"\(near)\"?"
    }

    /// How many letters must be put in, left out, replaced or swapped with their neighbour to make one name of the other
    /// (optimal string alignment: Boytsov, "Indexing methods for approximate dictionary searching", 2011, section 2.1).
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var older: [Int] = []
        var last = Array(0...right.count)
        for (row, letter) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                var best = min(last[column] + (letter == other ? 0 : 1), last[column + 1] + 1, current[column] + 1)
                if row > 0, column > 0, letter == right[column - 1], left[row - 1] == other {
                    best = min(best, older[column - 1] + 1)
                }
                current.append(best)
            }
            (older, last) = (last, current)
        }
        return last[right.count]
    }
}
