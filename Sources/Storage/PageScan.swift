public import MartletModel

extension PageRange where Bound == Position {
    /// The part of the range that one page looks at: all of it, or with a filter at most `bounds.scanMax` positions
    /// from where the page begins.
    public func scanned(filter: EventFilter, bounds: PageBounds) -> PageRange {
        guard !filter.isEmpty, after < to, to.rawValue - after.rawValue > UInt64(bounds.scanMax) else { return self }
        var scanned = self
        switch bounds.direction {
        case .forward: scanned.to = Position(after.rawValue + UInt64(bounds.scanMax))
        case .backward: scanned.after = Position(to.rawValue - UInt64(bounds.scanMax))
        }
        return scanned
    }
}

extension EventPage {
    /// Completes a page by position: how far it looked, and whether that is the end of the range.
    ///
    /// Where a page without a filter ends before the range does, the storage has fewer events than it was said to have: the
    /// page has looked as far as there are events, or nowhere.
    ///
    /// - Precondition: ``isLast`` says whether the page holds all that matches in `scanned`. Where it does not, ``scannedTo``
    ///   is how far the page looked, or still ``Position/start`` where that was up to its last event.
    public mutating func complete(
        scanned: PageRange<Position>, of range: PageRange<Position>, isFiltered: Bool, _ direction: Direction
    ) {
        let lastEventID = endEventID
        defer { if scannedTo == lastPosition { endEventID = lastEventID } }
        if isLast, !isFiltered, direction == .forward, lastPosition != scanned.to {
            scannedTo = lastPosition ?? range.after
        } else if isLast {
            scannedTo = direction == .forward ? scanned.to : scanned.after.next
            isLast = scanned == range
        } else if scannedTo == .start {
            scannedTo = lastPosition ?? scannedTo
        }
    }
}
