import FoundationEssentials
import MartletModel
import MartletTenants
import MartletTesting
import NIOConcurrencyHelpers
import Testing

@Suite struct FairPoolTests {
    private static func holder(_ number: UInt64) -> FairPool.Holder { .tenant(TenantID(UUID(high: 1, low: number))) }

    private let a = holder(1)
    private let b = holder(2)
    private let c = holder(3)

    @Test func oneHolderAloneGetsHalfAndANewcomerTheRest() {
        let pool = FairPool(bytesMax: 100)
        #expect(pool.take(30, for: a) && pool.take(20, for: a))
        #expect(!pool.take(1, for: a), "as much as is still free, and no more")
        #expect(pool.take(25, for: b))
        #expect(!pool.take(26, for: c) && pool.take(25, for: c))
        pool.give(50, for: a)
        #expect(pool.bytes == 50 && pool.take(25, for: b), "what was given back is free again")
    }

    @Test func whoWaitsIsGrantedInTurn() {
        let pool = FairPool(bytesMax: 100)
        let log = NIOLockedValueBox<[String]>([])
        func wait(_ bytes: Int, _ holder: FairPool.Holder, _ name: String) -> FairPool.Admission {
            pool.take(bytes, for: holder) { log.withLockedValue { $0.append(name) } }
        }
        #expect(wait(50, a, "") == .taken)
        for name in ["a1", "a2", "a3"] { #expect(wait(40, a, name) != .taken) }
        #expect(wait(40, b, "") == .taken, "another's queue holds nobody up")
        #expect(wait(40, b, "b1") != .taken)
        #expect(!pool.take(1, for: a), "earlier requests of the same holder come first")
        pool.give(50, for: a)
        #expect(log.withLockedValue { $0 } == ["a1"], "b has its share, and a has one of it")
        pool.give(40, for: b)
        #expect(log.withLockedValue { $0 } == ["a1", "b1"])
    }

    @Test func whoLeavesIsNotGrantedAndHoldsNobodyUp() {
        let pool = FairPool(bytesMax: 100)
        let granted = NIOLockedValueBox<[Int]>([])
        #expect(pool.take(50, for: a))
        var waiting: [FairPool.WaitID] = []
        for number in 0..<1_000 {
            let admission = pool.take(10, for: a) { granted.withLockedValue { $0.append(number) } }
            if case .waits(let id) = admission { waiting.append(id) }
        }
        #expect(waiting.count == 1_000)
        for id in waiting.dropLast() { #expect(pool.stopWaiting(id)) }
        #expect(!pool.stopWaiting(waiting[0]), "only once")
        pool.give(10, for: a)
        #expect(granted.withLockedValue { $0 } == [999])
        #expect(!pool.stopWaiting(waiting[999]), "it is granted")
        #expect(pool.bytes == 50)
    }

    @Test func aHolderWhoseWaitersAllLeftIsServedAgain() {
        let pool = FairPool(bytesMax: 100)
        #expect(pool.take(50, for: a))
        guard case .waits(let id) = pool.take(10, for: a, granted: {}) else {
            Issue.record("granted beyond the share")
            return
        }
        #expect(pool.stopWaiting(id))
        pool.give(50, for: a)
        #expect(pool.take(10, for: a), "nobody waits any more")
    }

    @Test func whatIsThereAlreadyIsCountedBeyondTheShare() {
        let pool = FairPool(bytesMax: 100)
        #expect(pool.takeAlways(50, for: a) && !pool.takeAlways(60, for: a))
        #expect(pool.bytes == 110 && !pool.take(1, for: b))
        pool.give(110, for: a)
        #expect(pool.bytes == 0 && pool.take(1, for: b))
    }

    /// Against a model that only counts: nothing is granted twice, lost, or beyond the pool.
    @Test func itNeverGrantsMoreThanItHas() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<200 {
            let pool = FairPool(bytesMax: 1_000)
            let grants = NIOLockedValueBox<[Int: Int]>([:])
            var held: [FairPool.Holder: [Int]] = [:]
            var waiting: [(number: Int, holder: FairPool.Holder, bytes: Int, id: FairPool.WaitID)] = []
            func settle() {
                let granted = grants.withLockedValue { grants in
                    defer { grants = [:] }
                    return grants
                }
                for (number, bytes) in granted {
                    guard let index = waiting.firstIndex(where: { $0.number == number }) else {
                        Issue.record("granted to nobody, seed \(random.seed)")
                        continue
                    }
                    held[waiting.remove(at: index).holder, default: []].append(bytes)
                }
            }
            for number in 0..<300 {
                let holder = Self.holder(UInt64.random(in: 1...5, using: &random))
                switch Int.random(in: 0..<4, using: &random) {
                case 0, 1:
                    let bytes = Int.random(in: 1...300, using: &random)
                    switch pool.take(bytes, for: holder, granted: { grants.withLockedValue { $0[number] = bytes } }) {
                    case .taken: held[holder, default: []].append(bytes)
                    case .waits(let id): waiting.append((number, holder, bytes, id))
                    }
                case 2:
                    if let bytes = held[holder]?.popLast() { pool.give(bytes, for: holder) }
                default:
                    guard let index = waiting.indices.randomElement(using: &random) else { continue }
                    if pool.stopWaiting(waiting[index].id) { waiting.remove(at: index) }
                }
                settle()
                let total = held.values.reduce(0) { $0 + $1.reduce(0, +) }
                #expect(pool.bytes == total && total <= 1_000, "seed \(random.seed)")
            }
            // When all is given back, all who wait are granted in the end.
            while let holder = held.first(where: { !$0.value.isEmpty })?.key, let bytes = held[holder]?.popLast() {
                pool.give(bytes, for: holder)
                settle()
            }
            #expect(waiting.isEmpty && pool.bytes == 0, "seed \(random.seed)")
        }
    }
}
