import MartletStorage

/// How many rows to ask for, so that a page is full and little is read in vain: learned from the pages before.
struct PageSizes {
    private static let rowsMin = 4
    private static let rowsMax = 4_096
    /// A record that is no longer comes with its row in any case.
    private static let inlineMin = 2_048

    /// Of an event's entry, about.
    private var eventBytes = 256

    /// So many rows; one more than fit, if they are as large as those before.
    func rows(_ bounds: PageBounds) -> Int {
        min(bounds.eventsMax, max(Self.rowsMin, min(Self.rowsMax, bounds.bytesMax / eventBytes + 1)))
    }

    /// Records that are longer are fetched on their own, once it is known that they fit the page: so that what the
    /// rows take in memory is bounded, whatever the records' lengths.
    func inlineMax(_ bounds: PageBounds) -> Int { min(max(4 * eventBytes, Self.inlineMin), max(bounds.bytesMax, 1)) }

    /// A page held so much.
    mutating func note(bytes: Int, of count: Int) {
        guard count > 0 else { return }
        eventBytes = max(32, (3 * eventBytes + bytes / count) / 4)
    }
}
