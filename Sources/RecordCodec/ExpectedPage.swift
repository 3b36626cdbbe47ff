import CMartletChecksum
import FoundationEssentials
public import MartletModel

/// What a page without a filter must be: records of a tenant, and of one aggregate or of all, whose numbers follow one
/// another.
public struct ExpectedPage: Sendable {
    /// Which number of a record counts.
    public enum Numbers: Sendable {
        /// Versions of an aggregate.
        case versions(AggregateName)
        /// Positions of the tenant.
        case positions
    }

    private let tenant: TenantID
    private let numbers: Numbers
    private let after: UInt64
    private let to: UInt64
    private let direction: Direction

    /// A page of numbers above `after` up to `to`, from the near end on.
    public init(tenant: TenantID, _ numbers: Numbers, after: UInt64, to: UInt64, _ direction: Direction) {
        self.tenant = tenant
        self.numbers = numbers
        self.after = after
        self.to = to
        self.direction = direction
    }

    /// As many as are kept without an allocation.
    private static let batchMax = 24

    /// Whether the bytes are `count` such records, all as servers write them and each with a checksum that fits.
    ///
    /// False says nothing: records of before there were checksums, and those written in another way, are looked at one by
    /// one by ``RecordOutline``.
    @unsafe public func isSurely(_ entries: UnsafeRawBufferPointer, count: Int) -> Bool {
        switch numbers {
        case .positions: return unsafe isSurely(entries, count, of: nil)
        case .versions(let aggregate):
            let type = aggregate.type.text
            return unsafe withUnsafeTemporaryAllocation(byteCount: type.utf8.count + 18, alignment: 1) { head in
                for (index, byte) in type.utf8.enumerated() { unsafe head[index] = byte }
                let end = type.utf8.count
                unsafe head[end] = 5 << 3 | 2
                unsafe head[end + 1] = 16
                unsafe withUnsafeBytes(of: aggregate.id.uuid) { id in
                    for index in 0..<16 { unsafe head[end + 2 + index] = id[index] }
                }
                return unsafe isSurely(entries, count, of: UnsafeRawBufferPointer(head))
            }
        }
    }

    /// - Parameter aggregate: the bytes of its type, and of the field of its id.
    @inline(__always)
    @unsafe private func isSurely(
        _ entries: UnsafeRawBufferPointer, _ count: Int, of aggregate: UnsafeRawBufferPointer?
    ) -> Bool {
        guard let start = entries.baseAddress else { return false }
        return unsafe withUnsafeTemporaryAllocation(of: martlet_summed_record.self, capacity: Self.batchMax) { batch in
            unsafe withUnsafeBytes(of: tenant.uuid.uuid) { tenant in
                var reader = unsafe StraightReader(start, at: 0, end: entries.count)
                var waiting = 0
                var last = after
                var left = count
                while let record = unsafe reader.content(key: 0x0A) {
                    guard left > 0, let straight = unsafe StraightRecord(start, record),
                        let checksum = straight.checksum
                    else { return false }
                    let number = unsafe aggregate == nil ? straight.position : straight.version
                    if let aggregate = unsafe aggregate, let wanted = aggregate.baseAddress {
                        let first = straight.aggregateType.lowerBound
                        guard straight.aggregateID.upperBound &- first == aggregate.count,
                            unsafe martlet_is_same(wanted, start + first, aggregate.count)
                        else { return false }
                    }
                    guard number > after, number <= to else { return false }
                    switch direction {
                    case .forward: guard number == last &+ 1 else { return false }
                    case .backward: guard left == count || number &+ 1 == last else { return false }
                    }
                    last = number
                    left &-= 1
                    unsafe batch[waiting] = martlet_summed_record(
                        event: start + straight.event.lowerBound,
                        event_count: straight.event.upperBound &- straight.event.lowerBound,
                        head: start + record.lowerBound, head_count: straight.headEnd &- record.lowerBound,
                        checksum: checksum)
                    waiting &+= 1
                    guard waiting == Self.batchMax else { continue }
                    guard unsafe martlet_crc32c_fits(batch.baseAddress, waiting, tenant.baseAddress) else {
                        return false
                    }
                    waiting = 0
                }
                return unsafe reader.at == entries.count && left == 0
                    && martlet_crc32c_fits(batch.baseAddress, waiting, tenant.baseAddress)
            }
        }
    }
}
