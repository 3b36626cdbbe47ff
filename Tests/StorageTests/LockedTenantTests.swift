import Foundation
import MartletModel
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import Testing

@testable import MartletStorage

/// A tenant that another program has locked leaves the batch and waits, its calls in order; the others go on.
@Suite struct LockedTenantTests {
    private typealias Queue = WriteQueue<UInt64>

    private let start = ContinuousClock.now

    private func queue(_ calls: [(ticket: UInt64, tenant: UInt64)]) throws -> Queue {
        var queue = Queue(appendBytesMax: 1 << 20, changeBytesMax: 1 << 20)
        for (ticket, tenant) in calls {
            #expect(queue.add(.append(try Sample.request(ticket, of: tenant)), ticket: ticket) != nil)
        }
        return queue
    }

    private func take(
        _ queue: inout Queue, _ phase: LockPhase, after milliseconds: Int = 0
    ) throws -> (tickets: [UInt64], lockWait: Duration, batch: [Queue.Waiting]) {
        let taken = takeLocked(&queue, phase, after: milliseconds)
        return try #require(taken)
    }

    private func takeLocked(
        _ queue: inout Queue, _ phase: LockPhase, after milliseconds: Int = 0
    ) -> (tickets: [UInt64], lockWait: Duration, batch: [Queue.Waiting])? {
        queue.takeLocked(phase, rowsMax: 100, bytesMax: 1 << 20, at: start + .milliseconds(milliseconds))
            .map { ($0.batch.map(\.ticket), $0.lockWait, $0.batch) }
    }

    @Test func callsOfALockedTenantKeepTheirOrder() throws {
        var queue = try queue([(11, 1), (21, 2), (12, 1), (13, 1)])
        let bytes = queue.bytes
        let batch = queue.take(rowsMax: 3, bytesMax: 1 << 20)
        #expect(batch.map(\.ticket) == [11, 21, 12])
        #expect(queue.setAside(batch.filter { $0.ticket != 21 }, at: start).isEmpty)
        queue.finish(batch.filter { $0.ticket == 21 })
        #expect(queue.bytes == bytes / 4 * 3, "what waits on is on the account")
        #expect(queue.add(.append(try Sample.request(14)), ticket: 14) != nil)
        #expect(queue.add(.append(try Sample.request(22, of: 2)), ticket: 22) != nil)
        #expect(queue.take(rowsMax: 9, bytesMax: 1 << 20).map(\.ticket) == [22], "only tenants that are not locked")
        #expect(!queue.hasWork && queue.nextDue(.new) == start)
        let again = try take(&queue, .new)
        #expect(again.tickets == [11, 12, 13, 14] && again.lockWait == LockWait.duration(1))
        #expect(queue.nextDue(.new) == nil)
        queue.finish(again.batch)
        #expect(queue.add(.append(try Sample.request(15)), ticket: 15) != nil)
        #expect(queue.take(rowsMax: 9, bytesMax: 1 << 20).map(\.ticket) == [15], "it is as any other now")
    }

    @Test func whoIsLockedForLongIsWaitedForAlone() throws {
        var queue = try queue([(11, 1), (21, 2), (31, 3)])
        #expect(queue.setAside(queue.take(rowsMax: 9, bytesMax: 1 << 20), at: start).isEmpty)
        let all = try take(&queue, .new)
        #expect(all.tickets == [11, 21, 31], "together at first")
        #expect(queue.setAside(all.batch, at: start + LockWait.duration(1)).isEmpty)
        #expect(takeLocked(&queue, .new, after: 100) == nil)
        #expect(takeLocked(&queue, .again, after: 49) == nil, "it was to be waited for until then")
        let one = try take(&queue, .again, after: 50)
        #expect(one.tickets == [11] && one.lockWait == LockWait.duration(2))
        let two = try take(&queue, .again, after: 50)
        #expect(two.tickets == [21])
        queue.finish(two.batch)
        #expect(queue.setAside(one.batch, at: start + .milliseconds(150)).isEmpty)
        #expect(try take(&queue, .again, after: 150).tickets == [31])
        let third = try take(&queue, .again, after: 150)
        #expect(third.tickets == [11] && third.lockWait == LockWait.duration(3))
        #expect(queue.setAside(third.batch, at: start + .milliseconds(350)).isEmpty)
        #expect(takeLocked(&queue, .again, after: 1_000) == nil, "its lock lasts")
        #expect(try take(&queue, .lasting, after: 350).lockWait == LockWait.duration(4))
    }

    @Test func aCallIsRefusedAfterItsTimeAndNotBefore() throws {
        var queue = try queue([(11, 1)])
        #expect(queue.setAside(queue.take(rowsMax: 9, bytesMax: 1 << 20), at: start).isEmpty)
        var now = start
        var waits = 0
        while true {
            let dues = LockPhase.allCases.map { (phase: $0, due: queue.nextDue($0)) }.filter { $0.due != nil }
            try #require(dues.count == 1)
            let (phase, due) = (dues[0].phase, dues[0].due ?? now)
            now = max(now, due)
            let taken = queue.takeLocked(phase, rowsMax: 9, bytesMax: 1 << 20, at: now)
            let (batch, wait) = try #require(taken)
            now += wait
            waits += 1
            let leaving = queue.setAside(batch, at: now)
            if !leaving.isEmpty {
                #expect(leaving.map(\.ticket) == [11])
                break
            }
            #expect(queue.bytes > 0)
        }
        #expect(LockWait.max <= now - start && now - start < LockWait.max + .seconds(1), "\(now - start)")
        #expect((10...40).contains(waits), "\(waits)")
        #expect(queue.isEmpty && queue.bytes == 0 && queue.placeCount == 0)
    }

    @Test func cancelledCallsLeaveWhereverTheyWait() throws {
        var queue = Queue(appendBytesMax: 1 << 24, changeBytesMax: 1 << 20)
        for round in 0..<100 {
            var numbers: [(UInt64, UInt64)] = []
            for tenant in 1...20 as ClosedRange<UInt64> {
                let added = queue.add(.append(try Sample.request(tenant, of: tenant)), ticket: tenant)
                numbers.append((tenant, try #require(added).number))
            }
            #expect(queue.setAside(queue.take(rowsMax: 99, bytesMax: 1 << 24), at: start).isEmpty)
            for (tenant, number) in numbers where round % 2 == 0 || tenant != 7 {
                #expect(queue.remove(number, of: Sample.tenant(tenant))?.ticket == tenant)
            }
            #expect(queue.placeCount <= 64, "\(queue.placeCount) places in round \(round)")
            if round % 2 == 0 {
                #expect(queue.isEmpty && queue.bytes == 0)
            } else {
                let left = try take(&queue, .new)
                #expect(left.tickets == [7])
                queue.finish(left.batch)
            }
        }
        #expect(queue.isEmpty && queue.bytes == 0)
    }

    /// Sixty, and one writer that waits for them; half of them are free again after ten seconds.
    @Test func allAreLookedAtBetweenTheWaits() throws {
        var queue = try queue((1...60).flatMap { [(10 * $0, $0), (10 * $0 + 1, $0)] })
        var now = start
        var answers: [UInt64: ContinuousClock.Instant] = [:]
        var order: [UInt64] = []
        var waits: [UInt64: Int] = [:]
        func isLocked(_ waiting: Queue.Waiting) -> Bool {
            waiting.ticket / 10 % 2 == 0 || now < start + .seconds(10)
        }
        func answer(_ batch: [Queue.Waiting]) {
            for waiting in batch { answers[waiting.ticket] = now }
            order += batch.map(\.ticket)
        }
        func carryOut(_ batch: [Queue.Waiting], wait: Duration?) {
            let begin = now
            now += .milliseconds(2)
            // One that is locked makes all wait that are waited for together.
            if let wait, batch.contains(where: isLocked) { now = begin + wait }
            let locked = batch.filter { wait == nil ? isLocked($0) : batch.contains(where: isLocked) }
            let others = batch.filter { waiting in !locked.contains { $0.ticket == waiting.ticket } }
            queue.finish(others)
            answer(others)
            answer(queue.setAside(locked, at: now, isLook: wait == nil))
        }
        #expect(queue.setAside(queue.take(rowsMax: 999, bytesMax: 1 << 20), at: now).isEmpty)
        while !queue.isEmpty {
            let look = queue.takeLook(rowsMax: 50, bytesMax: 1 << 20, at: now)
            guard look.isEmpty else {
                #expect(Set(look.map { $0.ticket / 10 }).count == look.count, "the first of each")
                carryOut(look, wait: nil)
                continue
            }
            let free = queue.take(rowsMax: 999, bytesMax: 1 << 20)
            guard free.isEmpty else {
                carryOut(free, wait: nil)
                continue
            }
            var taken: (batch: [Queue.Waiting], lockWait: Duration)?
            for phase in LockPhase.allCases where taken == nil {
                taken = queue.takeLocked(phase, rowsMax: 999, bytesMax: 1 << 20, at: now)
            }
            guard let (batch, wait) = taken else {
                now += .milliseconds(10)
                continue
            }
            for tenant in Set(batch.map { $0.ticket / 10 }) { waits[tenant, default: 0] += 1 }
            carryOut(batch, wait: wait)
            guard now < start + .seconds(100) else { break }
        }
        #expect(answers.count == 120 && queue.bytes == 0 && queue.placeCount == 0)
        for tenant in 1...60 as ClosedRange<UInt64> {
            #expect(order.filter { $0 / 10 == tenant } == [10 * tenant, 10 * tenant + 1])
            let (from, to): (Duration, Duration) =
                tenant % 2 == 0 ? (LockWait.max, LockWait.max + .milliseconds(1_500)) : (.seconds(10), .seconds(12))
            for ticket in order where ticket / 10 == tenant {
                let waited = (answers[ticket] ?? start) - start
                #expect(from <= waited && waited < to, "tenant \(tenant): \(waited)")
            }
        }
        for tenant in stride(from: 2, through: 60, by: 2) as StrideThrough<UInt64> {
            #expect(answers[10 * tenant] == answers[10 * tenant + 1], "all that wait are refused")
        }
        let held = (1...30).map { waits[2 * $0] ?? 0 }
        #expect((held.max() ?? 0) - (held.min() ?? 0) <= 1, "each has its turn to be waited for: \(held)")
    }

    @Test func toBeLookedAtIsNoWait() throws {
        var queue = try queue([(11, 1), (21, 2), (22, 2)])
        #expect(queue.setAside(queue.take(rowsMax: 9, bytesMax: 1 << 20), at: start).isEmpty)
        let first = try take(&queue, .new)
        #expect(queue.setAside(first.batch, at: start + LockWait.duration(1)).isEmpty)
        for number in 1...10 {
            let now = start + LockWait.duration(1) + LockWait.lookEvery * number
            let look = queue.takeLook(rowsMax: 9, bytesMax: 1 << 20, at: now)
            #expect(look.map(\.ticket) == [11, 21], "look \(number)")
            #expect(queue.setAside(look, at: now, isLook: true).isEmpty)
            for later in [.zero, LockWait.lookEvery - .milliseconds(1)] {
                #expect(queue.takeLook(rowsMax: 9, bytesMax: 1 << 20, at: now + later).isEmpty, "once each")
            }
        }
        for tickets in [[11], [21, 22]] as [[UInt64]] {
            let wait = try take(&queue, .again, after: 3_000)
            #expect(wait.tickets == tickets && wait.lockWait == LockWait.duration(2))
        }
    }

    // MARK: The committer

    /// Storage in which tenants can be locked. Waits for them are counted.
    private final class LockingStorage: Sendable {
        struct State {
            var locked: Set<TenantID> = []
            var waiting = 0
            var waitingMax = 0
            var waits = 0
            var batches: [[TenantID]] = []
        }

        let base = MemoryEngine()
        let state = NIOLockedValueBox(State())

        func lock(_ tenants: Set<TenantID>) { state.withLockedValue { $0.locked = tenants } }

        func makeWriter() -> any StorageWriter { Writer(self) }

        private final class Writer: StorageWriter {
            let storage: LockingStorage

            init(_ storage: LockingStorage) { self.storage = storage }

            func commit(
                _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
            ) throws(StorageError) -> CommitResult {
                let tenants = Set(batch.map(\.tenant))
                func locked() -> Set<TenantID> { storage.state.withLockedValue { $0.locked.intersection(tenants) } }
                storage.state.withLockedValue { $0.batches.append(batch.map(\.tenant)) }
                if lockWait > .zero {
                    storage.state.withLockedValue {
                        $0.waiting += 1
                        $0.waits += 1
                        $0.waitingMax = max($0.waitingMax, $0.waiting)
                    }
                    defer { storage.state.withLockedValue { $0.waiting -= 1 } }
                    let end = ContinuousClock.now + lockWait
                    while !locked().isEmpty {
                        guard .now < end else { throw .tenantLocked }
                        Thread.sleep(forTimeInterval: 0.001)
                    }
                }
                let without = locked()
                let free = batch.filter { !without.contains($0.tenant) }
                let done = try storage.base.makeWriter().commit(free, now: now)
                var outcomes = done.outcomes.makeIterator()
                return CommitResult(
                    outcomes: batch.map {
                        without.contains($0.tenant)
                            ? .refused(MartletError(.tenantLocked)) : outcomes.next() ?? .limitReached(.tenants(max: 0))
                    }, runs: done.runs, lockedTenants: without)
            }
        }
    }

    private func committer() -> GroupCommitter {
        GroupCommitter(limits: Limits(), clock: { Sample.now }, logger: .silent, onCommit: { _ in })
    }

    @Test(arguments: [1, 2, 8]) func theOthersGoOnWhateverIsLocked(_ writers: Int) async throws {
        let storage = LockingStorage()
        let committer = committer()
        for _ in 0..<writers { committer.start { storage.makeWriter() } }
        let locked = Set((1...12).map { Sample.tenant($0) })
        storage.lock(locked)
        let held = Recorder<(UInt64, WriteOutcome?)>()
        for number in 1...120 as ClosedRange<UInt64> {
            let request = try Sample.request(number, of: 1 + number % 12)
            #expect(committer.add(.append(request)) { held.add((number, try? $0.get())) }.isAdded)
        }
        for round in 0..<20 as Range<UInt64> {
            let others = Recorder<WriteOutcome?>()
            for tenant in 100..<150 as Range<UInt64> {
                let request = try Sample.request(1_000 + round * 100 + tenant, of: tenant)
                #expect(committer.add(.append(request)) { others.add(try? $0.get()) }.isAdded)
            }
            #expect(await others.reaches(50))
            #expect(others.values.allSatisfy { $0?.receipt != nil })
        }
        #expect(held.values.isEmpty, "they wait")
        let waitingMax = storage.state.withLockedValue { $0.waitingMax }
        #expect(waitingMax <= writers / 2, "\(waitingMax) of \(writers) writers waited")
        storage.lock([])
        #expect(await held.reaches(120))
        await committer.close()
        #expect(committer.waitingBytes == 0)
        for tenant in 0..<12 as Range<UInt64> {
            let own = held.values.filter { $0.0 % 12 == tenant }
            #expect(own.map(\.0) == own.map(\.0).sorted(), "in the order in which they came")
            #expect(own.map { $0.1?.receipt?.lastPosition.rawValue } == (1...10).map { UInt64($0) })
        }
    }

    @Test func whoIsFreeAgainDoesNotWaitForThoseWhoAreNot() async throws {
        let storage = LockingStorage()
        let committer = committer()
        for _ in 0..<4 { committer.start { storage.makeWriter() } }
        storage.lock(Set((1...300).map { Sample.tenant($0) }))
        let answers = Recorder<UInt64>()
        for number in 1...300 as ClosedRange<UInt64> {
            let request = try Sample.request(number, of: number)
            #expect(committer.add(.append(request)) { _ in answers.add(number) }.isAdded)
        }
        #expect(await eventually { storage.state.withLockedValue { $0.waits > 4 } }, "one by one")
        storage.lock(Set((1...150).map { Sample.tenant($0) }))
        let before = storage.state.withLockedValue { $0.waits }
        #expect(await answers.reaches(150))
        let waits = storage.state.withLockedValue { $0.waits } - before
        #expect(answers.values.allSatisfy { $0 > 150 } && waits < 30, "\(waits) waits")
        storage.lock([])
        #expect(await answers.reaches(300))
        await committer.close()
        #expect(committer.waitingBytes == 0)
    }
}
