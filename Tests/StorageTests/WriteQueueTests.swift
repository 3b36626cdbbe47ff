import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletStorage

extension WriteQueue {
    fileprivate init(bytesMax: Int) { self.init(appendBytesMax: bytesMax, changeBytesMax: bytesMax) }

    fileprivate mutating func add(_ request: AppendRequest, ticket: Ticket) -> UInt64? {
        add(.append(request), ticket: ticket)?.number
    }
}

@Suite struct WriteQueueTests {
    /// What a call of one event with an `x` for its payload costs.
    private func cost() throws -> Int {
        var queue = WriteQueue<UInt64>(bytesMax: 1 << 20)
        #expect(queue.add(try Sample.request(1), ticket: 1) != nil)
        return queue.bytes
    }

    private func queue(_ calls: [(ticket: UInt64, tenant: UInt64)]) throws -> WriteQueue<UInt64> {
        var queue = WriteQueue<UInt64>(bytesMax: 1 << 20)
        for (ticket, tenant) in calls {
            #expect(queue.add(try Sample.request(ticket, of: tenant), ticket: ticket) != nil)
        }
        return queue
    }

    @Test func tenantsAreServedInTurn() throws {
        var queue = try queue([(11, 1), (12, 1), (13, 1), (14, 1), (21, 2), (31, 3), (32, 3)])
        let batch = queue.take(rowsMax: 100, bytesMax: 1 << 20)
        #expect(batch.map(\.ticket) == [11, 21, 31, 12, 32, 13, 14])
        #expect(!queue.hasWork && !queue.isEmpty)
        queue.finish(batch)
        #expect(queue.isEmpty && queue.bytes == 0 && queue.take(rowsMax: 1, bytesMax: 1).isEmpty)
    }

    @Test func aTenantIsInOneBatchOnly() throws {
        var queue = try queue([(11, 1), (12, 1), (21, 2), (31, 3)])
        let first = queue.take(rowsMax: 2, bytesMax: 1 << 20)
        #expect(first.map(\.ticket) == [11, 21])
        #expect(queue.add(try Sample.request(22, of: 2), ticket: 22) != nil)
        let second = queue.take(rowsMax: 2, bytesMax: 1 << 20)
        #expect(second.map(\.ticket) == [31], "the tenants 1 and 2 are under way")
        #expect(!queue.hasWork && queue.take(rowsMax: 2, bytesMax: 1 << 20).isEmpty)
        queue.finish(first)
        #expect(queue.take(rowsMax: 9, bytesMax: 1 << 20).map(\.ticket).sorted() == [12, 22])
    }

    @Test func aTenantWaitsForAllPartsOfItsBatch() throws {
        for isReversed in [false, true] {
            var queue = try queue([(11, 1), (12, 1), (13, 1), (14, 1), (21, 2)])
            let batch = queue.take(rowsMax: 5, bytesMax: 1 << 20)
            #expect(queue.add(try Sample.request(15, of: 1), ticket: 15) != nil)
            let odd = batch.filter { $0.ticket % 2 == 1 }
            let even = batch.filter { $0.ticket % 2 == 0 }
            queue.finish(isReversed ? even : odd)
            #expect(!queue.hasWork && queue.take(rowsMax: 9, bytesMax: 1 << 20).isEmpty)
            queue.finish(isReversed ? odd : even)
            let rest = queue.take(rowsMax: 9, bytesMax: 1 << 20)
            #expect(rest.map(\.ticket) == [15])
            queue.finish(rest)
            #expect(queue.isEmpty && queue.bytes == 0)
        }
    }

    /// Both parts of a batch wait on: in the order in which they came.
    @Test func partsThatAreSetAsideKeepTheirOrder() throws {
        for isReversed in [false, true] {
            var queue = try queue([(11, 1), (12, 1), (13, 1), (14, 1)])
            let batch = queue.take(rowsMax: 9, bytesMax: 1 << 20)
            let late = try #require(queue.add(try Sample.request(15, of: 1), ticket: 15))
            let now = ContinuousClock.now
            let parts = [batch.filter { $0.ticket % 2 == 1 }, batch.filter { $0.ticket % 2 == 0 }]
            for part in isReversed ? parts.reversed() : parts {
                #expect(!queue.hasLocked)
                // Neither was waited for.
                #expect(queue.setAside(part, at: now, isLook: true).isEmpty)
            }
            #expect(queue.nextDue(.new) != nil)
            #expect(queue.remove(batch[1].number, of: Sample.tenant(1))?.ticket == 12)
            #expect(queue.remove(late, of: Sample.tenant(1))?.ticket == 15)
            let locked = queue.takeLocked(.new, rowsMax: 9, bytesMax: 1 << 20, at: now + .seconds(2))?.batch ?? []
            #expect(locked.map(\.ticket) == [11, 13, 14])
            queue.finish(locked)
            #expect(queue.isEmpty && queue.bytes == 0)
        }
    }

    @Test func whoWasPassedOverComesFirst() throws {
        var queue = WriteQueue<UInt64>(bytesMax: 1 << 20)
        #expect(queue.add(try Sample.request(11, of: 1), ticket: 11) != nil)
        #expect(queue.add(Sample.request(2, [try Sample.part(1, [1, 2, 3, 4, 5])]), ticket: 21) != nil)
        #expect(queue.add(try Sample.request(22, of: 2), ticket: 22) != nil)
        #expect(queue.add(try Sample.request(31, of: 3), ticket: 31) != nil)
        #expect(queue.add(try Sample.request(12, of: 1), ticket: 12) != nil)
        let first = queue.take(rowsMax: 3, bytesMax: 1 << 20)
        #expect(first.map(\.ticket) == [11, 31, 12], "what fits goes ahead of another tenant's large call")
        queue.finish(first)
        #expect(queue.add(try Sample.request(13, of: 1), ticket: 13) != nil)
        let second = queue.take(rowsMax: 3, bytesMax: 1 << 20)
        #expect(second.map(\.ticket) == [21], "larger than the bound, but alone")
        queue.finish(second)
        #expect(queue.take(rowsMax: 3, bytesMax: 1 << 20).map(\.ticket) == [13, 22])
    }

    @Test func aBatchKeepsToItsBytes() throws {
        let cost = try cost()
        var queue = try queue([(11, 1), (12, 1), (21, 2), (22, 2)])
        let first = queue.take(rowsMax: 100, bytesMax: 3 * cost)
        #expect(first.map(\.ticket) == [11, 21, 12])
        queue.finish(first)
        let second = queue.take(rowsMax: 100, bytesMax: 1)
        #expect(second.map(\.ticket) == [22], "at least one")
    }

    @Test func oneTenantGetsHalfAndNewcomersFindRoom() throws {
        let cost = try cost()
        var queue = WriteQueue<UInt64>(bytesMax: 10 * cost)
        func fill(_ tenant: UInt64) throws -> Int {
            var count = 0
            while queue.add(try Sample.request(UInt64(count), of: tenant), ticket: tenant) != nil { count += 1 }
            return count
        }
        #expect(try (1...5).map { try fill($0) } == [5, 3, 1, 1, 0])
        #expect(queue.bytes == 10 * cost)
    }

    @Test func whatIsTakenStaysOnTheAccountUntilItIsFinished() throws {
        let cost = try cost()
        var queue = WriteQueue<UInt64>(bytesMax: 4 * cost)
        for ticket in 1...2 as ClosedRange<UInt64> {
            #expect(queue.add(try Sample.request(ticket), ticket: ticket) != nil)
        }
        let batch = queue.take(rowsMax: 9, bytesMax: 1 << 20)
        #expect(queue.bytes == 2 * cost)
        #expect(queue.add(try Sample.request(3), ticket: 3) == nil, "the share is still used")
        queue.finish(batch)
        #expect(queue.bytes == 0)
        #expect(queue.add(try Sample.request(3), ticket: 3) != nil)
    }

    @Test func aLargeCallGoesInWhereNothingElseIs() throws {
        let cost = try cost()
        var queue = WriteQueue<UInt64>(bytesMax: cost)
        #expect(queue.add(try Sample.request(1), ticket: 1) != nil, "all of the room")
        #expect(queue.add(try Sample.request(2, of: 2), ticket: 2) == nil)
        queue.finish(queue.take(rowsMax: 1, bytesMax: 1))
        var small = WriteQueue<UInt64>(bytesMax: cost - 1)
        #expect(small.add(try Sample.request(1), ticket: 1) == nil && small.isEmpty && !small.hasWork)
    }

    @Test func aCallCostsMoreTheMoreEventsItHas() throws {
        var queue = WriteQueue<UInt64>(bytesMax: 1 << 20)
        #expect(queue.add(Sample.request(1, [try Sample.part(1, Array(1...100))]), ticket: 1) != nil)
        #expect(queue.bytes > 100 * (try Sample.event(1).body.readableBytes), "tiny events take memory, too")
        let one = try cost()
        #expect(queue.bytes > 50 * one)
    }

    @Test func whoLeavesGivesBackItsRoomAndItsTurn() throws {
        var queue = try queue([(11, 1), (12, 1), (13, 1), (21, 2)])
        let bytes = queue.bytes
        #expect(queue.remove(2, of: Sample.tenant(2)) == nil, "another tenant's number")
        #expect(queue.remove(2, of: Sample.tenant(1))?.ticket == 12 && queue.bytes == bytes / 4 * 3)
        #expect(queue.remove(2, of: Sample.tenant(1)) == nil && queue.remove(99, of: Sample.tenant(1)) == nil)
        #expect(queue.remove(4, of: Sample.tenant(2))?.ticket == 21)
        let batch = queue.take(rowsMax: 100, bytesMax: 1 << 20)
        #expect(batch.map(\.ticket) == [11, 13])
        #expect(queue.remove(1, of: Sample.tenant(1)) == nil, "it is in a batch")
        #expect(queue.add(try Sample.request(14), ticket: 14) == 5)
        #expect(queue.remove(5, of: Sample.tenant(1))?.ticket == 14 && !queue.hasWork && !queue.isEmpty)
        queue.finish(batch)
        #expect(queue.isEmpty && queue.bytes == 0 && !queue.hasWork)
    }

    @Test func thoseWhoComeAndLeaveWhileOthersWaitLeaveNothingBehind() throws {
        var queue = try queue([(1, 1)])
        for ticket in 2...20_000 as ClosedRange<UInt64> {
            #expect(queue.add(try Sample.request(1, of: ticket % 3), ticket: ticket) == ticket)
            #expect(queue.remove(ticket, of: Sample.tenant(ticket % 3))?.ticket == ticket)
            guard queue.placeCount <= 64 else { Issue.record("\(queue.placeCount) places"); return }
        }
        #expect(queue.take(rowsMax: 9, bytesMax: 1 << 20).map(\.ticket) == [1] && !queue.hasWork)
    }

    private func put(_ number: UInt64, bytes: Int = 1) -> WriteCommand {
        .change(
            .putSettings(
                PutSettingsRequest(
                    tenant: Sample.tenant(number), kind: .upcasters,
                    document: ByteBuffer(repeating: 0x2E, count: bytes))))
    }

    @Test func changesAndAppendsOfATenantKeepTheirOrder() throws {
        var queue = try queue([(11, 1)])
        #expect(queue.add(put(1), ticket: 12) != nil)
        #expect(queue.add(try Sample.request(13), ticket: 13) != nil)
        #expect(queue.add(put(2), ticket: 21) != nil)
        let batch = queue.take(rowsMax: 100, bytesMax: 1 << 20)
        #expect(batch.map(\.ticket) == [11, 21, 12, 13])
        queue.finish(batch)
        #expect(queue.isEmpty && queue.bytes == 0)
    }

    @Test func changesTakeNoRoomOfAppends() throws {
        let cost = try cost()
        var queue = WriteQueue<UInt64>(appendBytesMax: 2 * cost, changeBytesMax: 4_000)
        #expect(queue.add(put(1, bytes: 9_000), ticket: 1) != nil, "the largest goes in where nothing else is")
        #expect(queue.add(put(2), ticket: 2) == nil)
        #expect(queue.add(try Sample.request(3, of: 2), ticket: 3) != nil)
        #expect(queue.add(try Sample.request(4, of: 2), ticket: 4) == nil, "half of it")
        queue.finish(queue.take(rowsMax: 9, bytesMax: 1 << 20))
        #expect(queue.add(put(2), ticket: 5) != nil && queue.bytes > 0)
    }

    @Test func whatIsNotCompleteHoldsUpItsTenantAlone() throws {
        var queue = try queue([(11, 1)])
        var asks: [Bool] = []
        for ticket in [12, 13] as [UInt64] {
            let added = queue.add(.append(try Sample.request(ticket)), isComplete: false, ticket: ticket)
            asks.append(added?.asks == true)
        }
        #expect(queue.add(try Sample.request(14), ticket: 14) != nil && asks == [true, false])
        #expect(queue.add(try Sample.request(21, of: 2), ticket: 21) != nil)
        let first = queue.take(rowsMax: 100, bytesMax: 1 << 20)
        #expect(first.map(\.ticket) == [11, 21])
        queue.finish(first)
        #expect(!queue.hasWork && !queue.isEmpty && queue.take(rowsMax: 9, bytesMax: 1 << 20).isEmpty)
        #expect(queue.complete(Sample.tenant(2)) { $0 }.isEmpty && !queue.hasWork, "another tenant")
        var completed = 0
        #expect(
            queue.complete(Sample.tenant(1)) {
                completed += 1; return $0
            }.isEmpty && completed == 2)
        let second = queue.take(rowsMax: 100, bytesMax: 1 << 20)
        #expect(second.map(\.ticket) == [12, 13, 14], "in the order in which they came")
        queue.finish(second)
        #expect(queue.isEmpty && queue.bytes == 0)
    }

    @Test func whatCannotBeCompletedLeaves() throws {
        var queue = WriteQueue<UInt64>(bytesMax: 1 << 20)
        for ticket in 1...3 as ClosedRange<UInt64> {
            #expect(queue.add(.append(try Sample.request(ticket)), isComplete: false, ticket: ticket) != nil)
        }
        #expect(queue.remove(1, of: Sample.tenant(1))?.ticket == 1)
        let left = queue.complete(Sample.tenant(1)) { $0.contentBytes > 1 << 20 ? $0 : nil }
        #expect(left.map(\.ticket) == [2, 3] && queue.isEmpty && queue.bytes == 0 && !queue.hasWork)
        #expect(queue.add(.append(try Sample.request(4)), isComplete: false, ticket: 4)?.asks == true, "asked for anew")
    }

    private func request(_ ticket: UInt64, of tenant: UInt64 = 1, heldBytes: Int) throws -> AppendRequest {
        var request = try Sample.request(ticket, of: tenant)
        request.heldBytes = heldBytes
        return request
    }

    @Test func anAppendCountsByTheBuffersThatItKeeps() throws {
        let own = try cost()
        var queue = WriteQueue<UInt64>(bytesMax: 100_000)
        #expect(queue.add(try request(1, heldBytes: 10), ticket: 1) != nil)
        #expect(queue.bytes == own, "no less than what it carries")
        #expect(queue.add(try request(2, of: 2, heldBytes: 40_000), ticket: 2) != nil)
        #expect((own + 40_000..<2 * own + 40_000).contains(queue.bytes))
        #expect(queue.add(try request(3, of: 2, heldBytes: 40_000), ticket: 3) == nil, "beyond its share")
        let batch = queue.take(rowsMax: 100, bytesMax: 2 * own)
        #expect(batch.map(\.ticket) == [1, 2], "a batch is bounded by what is written")
        queue.finish(batch)
        #expect(queue.bytes == 0)
    }

    @Test func anAppendInABufferBeyondTheQueueGoesInAlone() throws {
        var queue = WriteQueue<UInt64>(bytesMax: 100_000)
        #expect(queue.add(try request(1, heldBytes: 1 << 20), ticket: 1) != nil && queue.bytes == 100_000)
        #expect(queue.add(try Sample.request(2, of: 2), ticket: 2) == nil)
        queue.finish(queue.take(rowsMax: 1, bytesMax: 1))
        #expect(queue.bytes == 0)
    }

    @Test func whoIsCancelledInFrontLetsTheOthersGo() throws {
        var queue = WriteQueue<UInt64>(bytesMax: 1 << 20)
        #expect(queue.add(.append(try Sample.request(1)), isComplete: false, ticket: 1) != nil)
        #expect(queue.add(try Sample.request(2), ticket: 2) != nil && !queue.hasWork)
        #expect(queue.remove(1, of: Sample.tenant(1))?.ticket == 1 && queue.hasWork)
        #expect(queue.take(rowsMax: 9, bytesMax: 1 << 20).map(\.ticket) == [2])
    }

    @Test func nothingIsLostRepeatedOrOutOfOrder() throws {
        var random = SeededGenerator.fromEnvironment()
        let seed = random.seed
        for _ in 0..<100 {
            let bytesMax = Int.random(in: 5_000...40_000, using: &random)
            var queue = WriteQueue<UInt64>(bytesMax: bytesMax)
            var waiting: [TenantID: [UInt64]] = [:]
            var underWay: [[WriteQueue<UInt64>.Waiting]] = []
            var account = 0
            var next: UInt64 = 0
            var refused: UInt64 = 0
            var numbers: [UInt64: UInt64] = [:]
            func step(_ choice: Int) throws {
                switch choice {
                case 0..<5:
                    let events = (0..<UInt64.random(in: 1...6, using: &random)).map { 10 * next + $0 }
                    let request = Sample.request(
                        UInt64.random(in: 1...5, using: &random), [try Sample.part(1, events)])
                    next += 1
                    let before = queue.bytes
                    if let number = queue.add(request, ticket: next) {
                        #expect(number == next - refused, "seed \(seed)")
                        numbers[next] = number
                        waiting[request.tenant, default: []].append(next)
                        account += queue.bytes - before
                    } else {
                        refused += 1
                        #expect(queue.bytes == before && before > 0, "seed \(seed): refused without need")
                    }
                case 11..<14:
                    // Whoever is chosen leaves, if it still waits.
                    guard next > 0 else { return }
                    let ticket = UInt64.random(in: 1...next, using: &random)
                    guard let number = numbers[ticket] else { return }
                    let tenant = Sample.tenant(UInt64.random(in: 1...5, using: &random))
                    let isThere = waiting[tenant]?.contains(ticket) == true
                    let left = queue.remove(number, of: tenant)
                    #expect(left?.ticket == (isThere ? ticket : nil), "seed \(seed)")
                    waiting[tenant]?.removeAll { $0 == ticket }
                    account -= left?.bytes ?? 0
                    #expect(queue.remove(number, of: tenant) == nil, "seed \(seed): twice")
                case 5..<8:
                    let eventsMax = Int.random(in: 1...12, using: &random)
                    let limit = Int.random(in: 1...12_000, using: &random)
                    let busy = Set(underWay.flatMap { $0.map(\.command.tenant) })
                    let free = waiting.filter { !busy.contains($0.key) && !$0.value.isEmpty }
                    #expect(queue.hasWork == !free.isEmpty, "seed \(seed)")
                    let batch = queue.take(rowsMax: eventsMax, bytesMax: limit)
                    #expect(batch.isEmpty == free.isEmpty, "seed \(seed): idle with work at hand")
                    let events = batch.reduce(0) { $0 + $1.command.rowCount }
                    let bytes = batch.reduce(0) { $0 + $1.bytes }
                    #expect(
                        batch.count == 1 || (events <= eventsMax && bytes <= limit) || batch.isEmpty, "seed \(seed)")
                    for call in batch {
                        #expect(!busy.contains(call.command.tenant), "seed \(seed)")
                        #expect(waiting[call.command.tenant]?.removeFirst() == call.ticket, "seed \(seed): order")
                    }
                    if !batch.isEmpty { underWay.append(batch) }
                default:
                    guard !underWay.isEmpty else { return }
                    let batch = underWay.remove(at: Int.random(in: 0..<underWay.count, using: &random))
                    queue.finish(batch)
                    account -= batch.reduce(0) { $0 + $1.bytes }
                }
                #expect(queue.bytes == account && queue.bytes <= bytesMax, "seed \(seed)")
            }
            for _ in 0..<100 { try step(Int.random(in: 0..<14, using: &random)) }
            while !queue.isEmpty {
                try step(6)
                try step(9)
            }
            #expect(waiting.values.allSatisfy(\.isEmpty) && queue.bytes == 0 && !queue.hasWork, "seed \(seed)")
        }
    }
}
