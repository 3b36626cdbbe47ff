import MartletModel
import MartletStorageMemory
import MartletTesting
import Testing

@testable import MartletStorage

extension ReaderPool.Admission {
    var isAdded: Bool { if case .added = self { true } else { false } }
}

@Suite struct ReaderPoolTests {
    private let done = Recorder<Int>()
    private let refused = Recorder<Int>()
    private let engine = MemoryEngine()

    private func job(_ number: Int, behind gate: Gate? = nil, begun: Recorder<Int>? = nil) -> ReaderPool.Job {
        let (done, refused) = (done, refused)
        return { reader in
            guard reader != nil else { return refused.add(number) }
            begun?.add(number)
            gate?.pass()
            done.add(number)
        }
    }

    /// A pool with its threads started.
    private func pool(
        readsMax: Int = 1_000, threads: Int, readsPerTenantMax: Int = .max, started: Bool = true
    ) -> ReaderPool {
        let pool = ReaderPool(
            readsMax: readsMax, threadCount: threads, readsPerTenantMax: readsPerTenantMax, uptimeNanos: { 0 })
        let engine = engine
        if started { for _ in 0..<threads { pool.start(standsBack: false) { engine.makeReader() } } }
        return pool
    }

    private func tenant(_ number: UInt64 = 1) -> TenantID { Sample.tenant(number) }

    @Test func readsAreBoundedInCountAndOneTenantGetsHalf() async {
        let pool = pool(readsMax: 10, threads: 1)
        let gate = Gate()
        let begun = Recorder<Int>()
        #expect(pool.add(for: tenant(), job(1, behind: gate, begun: begun)) == .added(1))
        #expect(await begun.reaches(1))
        for number in 2...5 { #expect(pool.add(for: tenant(), job(number)) == .added(UInt64(number))) }
        #expect(pool.add(for: tenant(), job(6)) == .full(5), "as many as are still free")
        for number in 11...12 { #expect(pool.add(for: tenant(2), job(number)).isAdded, "a newcomer finds room") }
        gate.open()
        #expect(await done.reaches(7))
        #expect(pool.add(for: tenant(), job(7)).isAdded, "there is room again")
        #expect(await done.reaches(8))
        await pool.close()
        #expect(done.values.sorted() == [1, 2, 3, 4, 5, 7, 11, 12] && refused.values.isEmpty)
    }

    @Test func aClosedPoolSaysSoEvenWhereItIsFull() async {
        let pool = pool(readsMax: 0, threads: 1, started: false)
        #expect(pool.add(for: tenant(), job(1)) == .full(0))
        await pool.close()
        #expect(pool.add(for: tenant(), job(2)) == .closed)
        #expect(done.values.isEmpty && refused.values.isEmpty)
        await pool.close()
    }

    @Test func closingRefusesWhatWaitsAndLetsAReadEnd() async {
        let pool = pool(threads: 1)
        let gate = Gate()
        let begun = Recorder<Int>()
        #expect(pool.add(for: tenant(), job(0, behind: gate, begun: begun)).isAdded)
        #expect(await begun.reaches(1))
        for number in 1...3 { #expect(pool.add(for: tenant(), job(number)).isAdded) }
        let closed = Recorder<Bool>()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await pool.close()
                closed.add(true)
            }
            #expect(await refused.reaches(3))
            #expect(closed.values.isEmpty && done.values.isEmpty, "closed while a read is under way")
            gate.open()
        }
        #expect(done.values == [0] && refused.values == [1, 2, 3] && closed.values.count == 1)
    }

    @Test func closingWithoutThreadsRefusesWhatWaits() async {
        let pool = pool(threads: 2, started: false)
        for number in 1...3 { #expect(pool.add(for: tenant(), job(number)).isAdded) }
        await pool.close()
        #expect(refused.values == [1, 2, 3] && done.values.isEmpty)
    }

    @Test func oneThreadIsAlwaysLeftForOtherTenants() async {
        let pool = pool(threads: 3)
        let gate = Gate()
        let begun = Recorder<Int>()
        for number in 1...4 { #expect(pool.add(for: tenant(1), job(number, behind: gate, begun: begun)).isAdded) }
        #expect(await begun.reaches(2))
        #expect(pool.add(for: tenant(2), job(21)).isAdded)
        #expect(pool.add(for: tenant(2), job(22)).isAdded)
        #expect(await done.reaches(2))
        #expect(done.values == [21, 22] && begun.values.sorted() == [1, 2], "two of three threads at most")
        gate.open()
        #expect(await done.reaches(6))
        await pool.close()
    }

    /// Threads that one tenant may not take stay free for the others.
    @Test(arguments: [(1, 1), (2, 2), (4, 4), (.max, 4)]) func oneTenantsReadsAreBounded(max: Int, taken: Int) async {
        let pool = pool(threads: 5, readsPerTenantMax: max)
        let gate = Gate()
        let begun = Recorder<Int>()
        for number in 1...6 { #expect(pool.add(for: tenant(1), job(number, behind: gate, begun: begun)).isAdded) }
        #expect(await begun.reaches(taken))
        for number in 21...40 { #expect(pool.add(for: tenant(UInt64(number)), job(number)).isAdded) }
        #expect(await done.reaches(20))
        #expect(begun.values.count == taken && done.values.allSatisfy { $0 > 20 })
        gate.open()
        #expect(await done.reaches(26))
        await pool.close()
    }

    /// Defect 4 of D1: calls that were cancelled at once kept their places, and everybody else waited behind them.
    @Test func whatWasCancelledHoldsUpNobody() async {
        let pool = pool(readsMax: 40_000, threads: 2)
        let gate = Gate()
        let begun = Recorder<Int>()
        #expect(pool.add(for: tenant(1), job(0, behind: gate, begun: begun)).isAdded)
        #expect(await begun.reaches(1))
        var numbers: [UInt64] = []
        for number in 1...17_500 {
            guard case .added(let ticket) = pool.add(for: tenant(1), job(number)) else { continue }
            numbers.append(ticket)
        }
        #expect(numbers.count == 17_500)
        for number in numbers.dropLast() { #expect(pool.remove(number, of: tenant(1))) }
        #expect(!pool.remove(numbers[0], of: tenant(1)), "it has left already")
        gate.open()
        #expect(await done.reaches(2))
        #expect(pool.add(for: tenant(2), job(20_000)).isAdded)
        #expect(await done.reaches(3))
        #expect(done.values == [0, 17_500, 20_000], "nothing of what was cancelled ran")
        await pool.close()
        #expect(refused.values.isEmpty)
    }

    @Test func aFloodedPoolServesTheOthersInTurn() async {
        let pool = pool(readsMax: 40_000, threads: 2)
        let gate = Gate()
        let begun = Recorder<Int>()
        #expect(pool.add(for: tenant(1), job(0, behind: gate, begun: begun)).isAdded)
        #expect(await begun.reaches(1))
        for number in 1...17_500 { #expect(pool.add(for: tenant(1), job(number)).isAdded) }
        // The second thread has nothing to do: this one of the flood is under way.
        for number in 20_001...20_100 { #expect(pool.add(for: tenant(2), job(number)).isAdded) }
        #expect(await done.reaches(100))
        #expect(Array(done.values.prefix(100)) == Array(20_001...20_100), "no read of the flood came before")
        gate.open()
        #expect(await done.reaches(17_601))
        await pool.close()
    }

    @Test func eachReadIsCalledOnceOrCancelledOverManyRounds() async {
        for round in 0..<50 {
            let pool = pool(threads: 3)
            let called = Recorder<Int>()
            let added = Recorder<Int>()
            let cancelled = Recorder<Int>()
            await withTaskGroup(of: Void.self) { group in
                for producer in 0..<3 {
                    group.addTask {
                        let tenant = tenant(UInt64(producer % 2))
                        for index in 0..<40 {
                            let number = producer * 100 + index
                            guard case .added(let ticket) = pool.add(for: tenant, { _ in called.add(number) }) else {
                                continue
                            }
                            added.add(number)
                            if index % 3 == 0, pool.remove(ticket, of: tenant) { cancelled.add(number) }
                        }
                    }
                }
                if round % 2 == 0 { group.addTask { await pool.close() } }
            }
            if round % 2 == 1 { #expect(await eventually { called.values.count + cancelled.values.count == 120 }) }
            await pool.close()
            #expect((called.values + cancelled.values).sorted() == added.values.sorted(), "round \(round)")
        }
    }
}
