import MartletTesting
import MartletStorageMemory
import Testing

@testable import MartletStorage

@Suite struct ReaderPoolTests {
    private let done = Recorder<Int>()
    private let refused = Recorder<Int>()

    private func job(_ number: Int, behind gate: Gate? = nil) -> ReaderPool.Job {
        let (done, refused) = (done, refused)
        return { reader in
            guard reader != nil else { return refused.add(number) }
            gate?.pass()
            done.add(number)
        }
    }

    @Test func waitingReadsAreBoundedInCount() async {
        let pool = ReaderPool(waitingMax: 3)
        let engine = MemoryEngine()
        let gate = Gate()
        let begun = Recorder<Bool>()
        pool.start { engine.makeReader() }
        let first = job(0, behind: gate)
        #expect(
            pool.add { reader in
                begun.add(true)
                first(reader)
            } == .added)
        #expect(await begun.reaches(1), "what is being read does not wait")
        for number in 1...3 { #expect(pool.add(job(number)) == .added) }
        for number in 4...6 { #expect(pool.add(job(number)) == .full) }
        gate.open()
        #expect(await done.reaches(4))
        #expect(pool.add(job(7)) == .added, "there is room again")
        #expect(await done.reaches(5))
        await pool.close()
        #expect(done.values == [0, 1, 2, 3, 7] && refused.values.isEmpty)
    }

    @Test func aClosedPoolSaysSoEvenWhereItIsFull() async {
        let pool = ReaderPool(waitingMax: 0)
        #expect(pool.add(job(1)) == .full)
        await pool.close()
        #expect(pool.add(job(2)) == .closed)
        #expect(done.values.isEmpty && refused.values.isEmpty)
        await pool.close()
    }

    @Test func closingRefusesWhatWaitsAndLetsAReadEnd() async {
        let pool = ReaderPool(waitingMax: 10)
        let engine = MemoryEngine()
        let gate = Gate()
        let begun = Recorder<Bool>()
        pool.start { engine.makeReader() }
        let first = job(0, behind: gate)
        #expect(
            pool.add { reader in
                begun.add(true)
                first(reader)
            } == .added)
        #expect(await begun.reaches(1))
        for number in 1...3 { #expect(pool.add(job(number)) == .added) }
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
        let pool = ReaderPool(waitingMax: 10)
        for number in 1...3 { #expect(pool.add(job(number)) == .added) }
        await pool.close()
        #expect(refused.values == [1, 2, 3] && done.values.isEmpty)
    }

    @Test func threadsReadSideBySide() async {
        let pool = ReaderPool(waitingMax: 10)
        let engine = MemoryEngine()
        for _ in 0..<2 { pool.start { engine.makeReader() } }
        let gate = Gate()
        #expect(pool.add(job(1, behind: gate)) == .added)
        #expect(pool.add(job(2)) == .added)
        #expect(await done.reaches(1))
        #expect(done.values == [2])
        gate.open()
        #expect(await done.reaches(2))
        await pool.close()
    }

    @Test func eachReadIsCalledOnceOverManyRounds() async {
        for round in 0..<50 {
            let pool = ReaderPool(waitingMax: 50)
            let engine = MemoryEngine()
            for _ in 0..<2 { pool.start { engine.makeReader() } }
            let called = Recorder<Int>()
            let added = Recorder<Int>()
            await withTaskGroup(of: Void.self) { group in
                for producer in 0..<3 {
                    group.addTask {
                        for index in 0..<40 {
                            let number = producer * 100 + index
                            if pool.add({ _ in called.add(number) }) == .added { added.add(number) }
                        }
                    }
                }
                if round % 2 == 0 { group.addTask { await pool.close() } }
            }
            await pool.close()
            if round % 2 == 1 { #expect(await called.reaches(added.values.count)) }
            #expect(called.values.sorted() == added.values.sorted(), "round \(round)")
        }
    }
}
