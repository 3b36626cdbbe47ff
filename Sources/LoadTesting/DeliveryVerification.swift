import MartletModel

extension DeliveryTracker {
    /// Checks that every subscriber got every event that was acknowledged and that the filter lets through.
    func verify(appends: [AppendCaller], filter: EventFilter, _ report: inout RunReport) {
        verify(
            matching: appends.reduce(0) { $0 + $1.matching }, unknown: appends.reduce(0) { $0 + $1.unknown },
            upTo: filter.isEmpty ? acknowledgements.lastPosition : 0, &report)
    }

    /// Checks what every subscriber got.
    /// - Parameters:
    ///   - matching: events that each must have got.
    ///   - unknown: events whose outcome is not known, and which may have come beside them.
    ///   - position: position that each must have reached.
    func verify(matching: UInt64, unknown: UInt64, upTo position: UInt64, _ report: inout RunReport) {
        var complete = 0
        for subscriber in 0..<subscribers where self.position(of: subscriber) >= position {
            let count = count(of: subscriber)
            if count >= matching, count <= matching + unknown { complete += 1 }
        }
        report.verified["delivered"] = deliveredCount
        report.verified["toEachSubscriber"] = matching
        report.verified["subscribersComplete"] = UInt64(complete)
        guard complete < subscribers else { return }
        report.failures.append(
            "\(subscribers - complete) of \(subscribers) subscribers did not get exactly the \(matching) events that "
                + "were acknowledged: the lowest count is \(leastCount)")
    }
}
