import MartletModel
import MartletTesting
import MartletStorageMemory
import FoundationEssentials
import Testing

@testable import MartletStorage

extension GroupCommitter.Admission {
    var isAdded: Bool { if case .added = self { true } else { false } }
}

@Suite struct GroupCommitterTests {
    typealias Outcome = (ticket: UInt64, result: Result<WriteOutcome, MartletError>)

    private let outcomes = Recorder<Outcome>()
    private let runs = Recorder<RecordedRun>()

    private func committer(_ limits: Limits = Limits()) -> GroupCommitter {
        let runs = runs
        return GroupCommitter(limits: limits, clock: { Sample.now }, logger: .silent, onCommit: { runs.add($0) })
    }

    private func add(_ request: AppendRequest, _ ticket: UInt64, to committer: GroupCommitter)
        -> GroupCommitter.Admission
    {
        let outcomes = outcomes
        return committer.add(.append(request)) { outcomes.add((ticket, $0)) }
    }

    private func answered(_ count: Int) async -> Bool {
        await outcomes.reaches(count)
    }

    @Test func batchesFormWhileACommitIsUnderWay() async throws {
        let committer = committer()
        let writer = GatedWriter()
        committer.start { writer }
        #expect(add(try Sample.request(1), 1, to: committer).isAdded)
        #expect(await eventually { writer.batches == [[1]] }, "an idle committer takes a call at once")
        for number in 2...10 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number, of: number % 3), number, to: committer).isAdded)
        }
        #expect(outcomes.values.isEmpty && committer.waitingBytes > 0)
        writer.gate.open()
        #expect(await answered(10))
        await committer.close()
        #expect(writer.batches.count == 2 && writer.batches[1].count == 9, "\(writer.batches)")
        let byTenant = Dictionary(grouping: writer.batches[1]) { $0 % 3 }
        #expect(byTenant.values.allSatisfy { $0 == $0.sorted() }, "a tenant's calls keep their order")
        #expect(outcomes.values.allSatisfy { (try? $0.result.get().receipt)?.replayed == false })
        #expect(committer.committedEventCount == 10 && committer.waitingBytes == 0)
        #expect(runs.values.count == 4, "one run a tenant and batch")
    }

    /// The committer finds all of them, however quick it is to notice the first.
    @Test func whatIsAddedInOneGoSharesACommit() async throws {
        let committer = committer()
        let writer = GatedWriter()
        writer.gate.open()
        committer.start { writer }
        let (rounds, count) = (50, 20)
        for round in 0..<rounds {
            let commands = try (1...count).map { index in
                let (number, outcomes) = (UInt64(round * count + index), outcomes)
                let request = try Sample.request(number, of: number % 3)
                return (
                    command: WriteCommand.append(request), isComplete: true,
                    completion: { @Sendable result in outcomes.add((number, result)) } as GroupCommitter.Completion
                )
            }
            let added = committer.add(commands).count { $0.isAdded }
            #expect(added == count)
            #expect(await answered((round + 1) * count))
        }
        await committer.close()
        #expect(writer.batches.map(\.count) == Array(repeating: count, count: rounds))
        let late = WriteCommand.append(try Sample.request(1))
        #expect(committer.add([(late, true, { _ in })]) == [.closed])
    }

    @Test func aRefusedCallLeavesTheOthersAlone() async throws {
        let committer = committer()
        let writer = GatedWriter()
        committer.start { writer }
        #expect(add(try Sample.request(1, of: 9), 1, to: committer).isAdded)
        #expect(await eventually { writer.batches.count == 1 })
        for number in 2...6 as ClosedRange<UInt64> {
            let request = try Sample.request(number, number % 2 == 0 ? .any : .none)
            #expect(add(request, number, to: committer).isAdded)
        }
        writer.gate.open()
        #expect(await answered(6))
        await committer.close()
        #expect(writer.batches == [[1], [2, 3, 4, 5, 6]])
        let positions = outcomes.values.map { try? $0.result.get().receipt?.lastPosition.rawValue }
        #expect(outcomes.values.map(\.ticket) == [1, 2, 3, 4, 5, 6])
        #expect(positions == [1, 1, nil, 2, nil, 3])
        #expect(committer.committedEventCount == 4)
    }

    @Test func aFailureAnswersAllOfItsBatchAndNoOther() async throws {
        let committer = committer()
        let writer = GatedWriter()
        let error = StorageError(.outcomeUnknown, "lost")
        writer.fail([StorageError(.unavailable, "away"), error])
        committer.start { writer }
        #expect(add(try Sample.request(1), 1, to: committer).isAdded)
        #expect(await eventually { writer.batches.count == 1 })
        for number in 2...4 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number), number, to: committer).isAdded)
        }
        writer.gate.open()
        #expect(await answered(4))
        #expect(add(try Sample.request(5), 5, to: committer).isAdded)
        #expect(await answered(5))
        await committer.close()
        let reasons = outcomes.values.map { outcome -> Reason? in
            if case .failure(let error) = outcome.result { error.reason } else { nil }
        }
        #expect(reasons == [.storageUnavailable, .outcomeUnknown, .outcomeUnknown, .outcomeUnknown, nil])
        #expect(runs.values.map(\.lastPosition) == [Position(1)] && committer.committedEventCount == 1)
        #expect(committer.waitingBytes == 0, "what failed waits no more")
    }

    @Test(arguments: [StorageError.Kind.corrupted, .full]) func oneTenantsDataFailsNoOther(kind: StorageError.Kind)
        async throws
    {
        let committer = committer()
        let writer = GatedWriter()
        // The batch of all three, then the half with one of them.
        writer.fail([StorageError(kind, "bad"), StorageError(kind, "bad")])
        for number in 1...3 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number, of: number), number, to: committer).isAdded)
        }
        writer.gate.open()
        committer.start { writer }
        #expect(await answered(3))
        await committer.close()
        #expect(writer.batches.map(\.count) == [3, 1, 2])
        #expect(outcomes.values.count { (try? $0.result.get().receipt) != nil } == 2)
        #expect(committer.committedEventCount == 2 && committer.waitingBytes == 0)
    }

    /// Of a thousand tenants, one that fails whatever it is with is found; where all fail, not every one is tried.
    @Test(arguments: [true, false]) func tenantsThatFailAreFoundInFewAttempts(allFail: Bool) async throws {
        let committer = committer()
        let writer = GatedWriter()
        writer.refuse { batch in
            allFail || batch.contains { $0.tenant == Sample.tenant(500) } ? StorageError(.corrupted, "bad") : nil
        }
        for number in 1...1_000 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number, of: number), number, to: committer).isAdded)
        }
        writer.gate.open()
        committer.start { writer }
        #expect(await answered(1_000))
        await committer.close()
        let stored = outcomes.values.filter { (try? $0.result.get().receipt) != nil }.map(\.ticket)
        #expect(Set(stored) == (allFail ? [] : Set(1...1_000).subtracting([500])) && stored.count == Set(stored).count)
        #expect(outcomes.values.count == 1_000 && writer.batches.count <= 32 && committer.waitingBytes == 0)
    }

    @Test func runsArePublishedBeforeTheirCallsAreAnswered() async throws {
        let order = Recorder<String>()
        let committer = GroupCommitter(
            limits: Limits(), clock: { Sample.now }, logger: .silent, onCommit: { _ in order.add("run") })
        let writer = GatedWriter()
        writer.gate.open()
        committer.start { writer }
        #expect(committer.add(.append(try Sample.request(1))) { _ in order.add("answer") }.isAdded)
        await committer.close()
        #expect(order.values == ["run", "answer"])
    }

    @Test func aBatchKeepsToItsLimits() async throws {
        var limits = Limits()
        limits.commitEventsMax = 4
        let committer = committer(limits)
        let writer = GatedWriter()
        committer.start { writer }
        #expect(add(try Sample.request(1), 1, to: committer).isAdded)
        #expect(await eventually { writer.batches.count == 1 })
        for number in 2...10 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number), number, to: committer).isAdded)
        }
        writer.gate.open()
        await committer.close()
        #expect(writer.batches == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10]])
    }

    @Test func aFullQueueRefusesAndHasRoomAgain() async throws {
        var limits = Limits()
        limits.waitingAppendBytesMax = 8_000
        let committer = committer(limits)
        let writer = GatedWriter()
        committer.start { writer }
        var added = 0
        while add(try Sample.request(UInt64(added + 1)), UInt64(added + 1), to: committer).isAdded { added += 1 }
        #expect(added > 1 && committer.waitingBytes < 5_000, "half of the room, and half a call")
        #expect(add(try Sample.request(1, of: 2), 1_000, to: committer).isAdded, "another tenant finds room")
        writer.gate.open()
        #expect(await answered(added + 1))
        #expect(await eventually { committer.waitingBytes == 0 })
        #expect(add(try Sample.request(2_000), 2_000, to: committer).isAdded)
        await committer.close()
        #expect(outcomes.values.count == added + 2)
    }

    @Test func writersCommitDifferentTenantsSideBySide() async throws {
        let committer = committer()
        let engine = MemoryEngine()
        let writers = [GatedWriter(engine), GatedWriter(engine)]
        for writer in writers { committer.start { writer } }
        #expect(add(try Sample.request(1, of: 1), 1, to: committer).isAdded)
        #expect(await eventually { writers.contains { $0.batches.count == 1 } })
        #expect(add(try Sample.request(2, of: 1), 2, to: committer).isAdded)
        #expect(add(try Sample.request(3, of: 2), 3, to: committer).isAdded)
        #expect(await eventually { writers.allSatisfy { $0.batches.count == 1 } })
        #expect(Set(writers.map(\.batches)) == [[[1]], [[3]]], "the tenant 1 waits for its own batch")
        writers.first { $0.batches == [[3]] }?.gate.open()
        #expect(await answered(1))
        #expect(outcomes.values.map(\.ticket) == [3])
        for writer in writers { writer.gate.open() }
        await committer.close()
        #expect(Set(outcomes.values.map(\.ticket)) == [1, 2, 3])
        #expect(runs.values.filter { $0.tenant == Sample.tenant(1) }.map(\.lastPosition) == [Position(1), Position(2)])
    }

    @Test(arguments: [1, 2]) func whatAWriterHandsOverIsCommittedBesideTheRest(writerCount: Int) async throws {
        let committer = committer()
        let engine = MemoryEngine()
        let writers = (0..<writerCount).map { _ in GatedWriter(engine) }
        let slow = [Sample.tenant(2), Sample.tenant(4)]
        for writer in writers { writer.handOver { slow.contains($0) } }
        for number in 1...8 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number, of: (number - 1) % 4 + 1), number, to: committer).isAdded)
        }
        for writer in writers { committer.start { writer } }
        #expect(await eventually { writers.allSatisfy { !$0.batches.isEmpty } }, "the rest was waited for")
        if writerCount == 2 { #expect(Set(writers.map(\.batches)) == [[[1, 3, 5, 7]], [[2, 4, 6, 8]]]) }
        // A later one waits for what was handed over of its tenant.
        #expect(add(try Sample.request(9, of: 2), 9, to: committer).isAdded)
        for writer in writers { writer.gate.open() }
        #expect(await answered(9))
        await committer.close()
        #expect(outcomes.values.allSatisfy { (try? $0.result.get().receipt)?.replayed == false })
        let positions = runs.values.filter { $0.tenant == Sample.tenant(2) }.map(\.lastPosition)
        #expect(positions == [Position(2), Position(3)])
        #expect(committer.committedEventCount == 9 && committer.waitingBytes == 0)
        let batches = Set(writers.flatMap(\.batches))
        #expect(batches == [[1, 3, 5, 7], [2, 4, 6, 8], [9]], "\(batches)")
    }

    /// A part of what a tenant has in a batch: the rest is answered without it, and what comes later waits for both.
    @Test(arguments: [1, 2]) func aPartOfATenantsCommandsIsHandedOver(writerCount: Int) async throws {
        let committer = committer()
        let engine = MemoryEngine()
        let writers = (0..<writerCount).map { _ in GatedWriter(engine) }
        for writer in writers {
            writer.handOverCommands { batch in
                batch.indices.filter {
                    guard case .append(let request) = batch[$0] else { return false }
                    return request.aggregates[0].aggregate == Sample.aggregate(2)
                }
            }
        }
        for number in 1...6 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number, to: 1 + number % 2), number, to: committer).isAdded)
        }
        for writer in writers { committer.start { writer } }
        #expect(await eventually { writers.allSatisfy { !$0.batches.isEmpty } })
        if writerCount == 2 { #expect(Set(writers.map(\.batches)) == [[[1, 3, 5]], [[2, 4, 6]]]) }
        #expect(add(try Sample.request(7), 7, to: committer).isAdded)
        // The first part to be committed does not let the tenant go.
        writers[0].gate.open()
        #expect(await answered(3))
        if writerCount == 2 {
            #expect(writers.flatMap(\.batches).count == 2 && outcomes.values.count == 3)
            writers[1].gate.open()
        }
        #expect(await answered(7))
        await committer.close()
        #expect(outcomes.values.allSatisfy { (try? $0.result.get().receipt)?.replayed == false })
        #expect(Set(writers.flatMap(\.batches)) == [[1, 3, 5], [2, 4, 6], [7]])
        #expect(committer.committedEventCount == 7 && committer.waitingBytes == 0)
    }

    @Test func whatIsHandedOverFailsByItself() async throws {
        let committer = committer()
        let writer = GatedWriter()
        writer.handOver { $0 == Sample.tenant(2) }
        writer.gate.open()
        for number in 1...3 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number, of: number), number, to: committer).isAdded)
        }
        writer.refuse { batch in
            batch.contains { $0.tenant == Sample.tenant(2) } ? nil : StorageError(.unavailable, "gone")
        }
        committer.start { writer }
        #expect(await answered(3))
        await committer.close()
        let stored = outcomes.values.filter { (try? $0.result.get().receipt) != nil }.map(\.ticket)
        #expect(stored == [2])
    }

    @Test func closingCommitsWhatWaitsAndTakesNoMore() async throws {
        let committer = committer()
        let writer = GatedWriter()
        committer.start { writer }
        for number in 1...20 as ClosedRange<UInt64> {
            #expect(add(try Sample.request(number, of: number % 4), number, to: committer).isAdded)
        }
        let closed = Recorder<Bool>()
        let late = try Sample.request(99)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    await committer.close()
                    closed.add(true)
                }
            }
            // Closing has begun once a call is refused.
            let refused = Recorder<Bool>()
            #expect(
                await eventually {
                    if committer.add(.append(late), completion: { _ in refused.add(true) }) == .closed { return true }
                    return false
                })
            #expect(closed.values.isEmpty, "closed while a commit is under way")
            writer.gate.open()
        }
        #expect(closed.values.count == 2)
        #expect(Set(outcomes.values.map(\.ticket)) == Set(1...20) && outcomes.values.count == 20)
        #expect(outcomes.values.allSatisfy { (try? $0.result.get().receipt) != nil })
        #expect(add(try Sample.request(30), 30, to: committer) == .closed && outcomes.values.count == 20)
        await committer.close()
    }

    @Test func closingWithoutWritersReturns() async { await committer().close() }

    @Test(arguments: [false, true]) func noCompletionIsLostOverManyRounds(handsOver: Bool) async throws {
        for round in 0..<20 {
            let engine = MemoryEngine()
            let runs = Recorder<RecordedRun>()
            let answers = Recorder<UInt64>()
            let committer = GroupCommitter(
                limits: Limits(), clock: { Sample.now }, logger: .silent, onCommit: { runs.add($0) })
            let writers = (0..<3).map { _ in GatedWriter(engine) }
            for writer in writers {
                writer.gate.open()
                if handsOver { writer.handOver { $0.uuid.bytes.reduce(0, ^) % 2 == 0 || Bool.random() } }
                committer.start { writer }
            }
            let added = Recorder<UInt64>()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for producer in 0..<4 as Range<UInt64> {
                    group.addTask {
                        for index in 0..<40 as Range<UInt64> {
                            let ticket = producer * 1_000 + index + 1
                            let request = try Sample.request(ticket, to: producer, of: index % 5)
                            if committer.add(.append(request), completion: { _ in answers.add(ticket) }).isAdded {
                                added.add(ticket)
                            }
                        }
                    }
                }
                // Half of the rounds close in the middle.
                if round % 2 == 0 { group.addTask { await committer.close() } }
                try await group.waitForAll()
            }
            await committer.close()
            #expect(answers.values.count == added.values.count, "round \(round)")
            #expect(Set(answers.values) == Set(added.values), "round \(round)")
            #expect(committer.committedEventCount == UInt64(added.values.count), "round \(round)")
            #expect(committer.waitingBytes == 0, "round \(round)")
            if round % 2 == 1 { #expect(added.values.count == 160, "round \(round)") }
            for (_, runs) in Dictionary(grouping: runs.values, by: \.tenant) {
                let positions = runs.flatMap { $0.firstPosition.rawValue...$0.lastPosition.rawValue }
                #expect(positions == Array(1...UInt64(positions.count)), "round \(round): published in order")
                // The calls of one producer to one tenant keep their order.
                let ids = Dictionary(grouping: runs.flatMap(\.events), by: \.aggregate)
                for events in ids.values {
                    let numbers = events.map(\.id.bytes)
                    let sorted = numbers.sorted { $0.lexicographicallyPrecedes($1) }
                    #expect(numbers == sorted, "round \(round)")
                }
            }
        }
    }
}
