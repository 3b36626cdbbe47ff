import MartletRecordCodec
import MartletModel
import MartletQueries
import MartletTenants
import MartletTesting
import MartletStorageMemory
import FoundationEssentials
import NIOCore
import Testing

@testable import MartletStorage

@Suite struct EventStoreTests {
    private func withStore(
        _ engine: any StorageEngine = MemoryEngine(), limits: Limits = Limits(),
        _ body: (EventStore) async throws -> Void
    ) async throws {
        let store = EventStore(engine: engine, limits: limits, clock: { Sample.now }, logger: .silent)
        try store.start()
        do { try await body(store) } catch {
            await store.shutDown()
            throw error
        }
        await store.shutDown()
    }

    /// Each has its own outcome: those for which there is no room are refused, the others are written in their order.
    @Test func commandsWrittenInOneGoHaveAnOutcomeEach() async throws {
        var limits = Limits()
        limits.waitingAppendBytesMax = 20_000
        try await withStore(limits: limits) { store in
            let answers = Recorder<(number: UInt64, result: Result<WriteOutcome, MartletError>)>()
            store.write(
                try (1...20 as ClosedRange<UInt64>).map { number in
                    (.append(try Sample.request(number)), { answers.add((number, $0)) })
                })
            #expect(await answers.reaches(20))
            let stored = answers.values.filter { (try? $0.result.get().receipt) != nil }
            let refused = answers.values.compactMap { answer -> Reason? in
                if case .failure(let error) = answer.result { error.reason } else { nil }
            }
            #expect(stored.count > 1 && stored.map(\.number) == Array(1...UInt64(stored.count)))
            #expect(refused == Array(repeating: .appendQueueFull, count: 20 - stored.count) && refused.count > 1)
        }
    }

    private func refusal(of request: AppendRequest, _ store: EventStore) async -> MartletError? {
        do throws(MartletError) {
            let receipt = try await store.append(request)
            Issue.record("stored at \(receipt.firstPosition)")
            return nil
        } catch { return error }
    }

    /// A memory engine whose reads of one tenant are bounded.
    private struct BoundedEngine: WrappingEngine {
        let base: any StorageEngine = MemoryEngine()
        let readersMax = 4
        let readersPerTenantMax: Int
    }

    /// The store hands the engine's figure on: so many reads of a tenant run at once, while others find a thread.
    @Test(arguments: [1, 2, 4]) func oneTenantsReadsAreBoundedAsTheEngineSays(max: Int) async throws {
        try await withStore(BoundedEngine(readersPerTenantMax: max)) { store in
            let gate = Gate()
            let (begun, done) = (Recorder<Int>(), Recorder<Int>())
            for number in 1...6 {
                store.read(
                    for: Sample.tenant(1),
                    { reader throws(StorageError) in
                        begun.add(number)
                        gate.pass()
                        return try reader.head(of: Sample.tenant(1))
                    }, completion: { (_: Result<TenantHead, MartletError>) in done.add(number) })
            }
            #expect(await begun.reaches(max))
            // As many go by as would fill every thread many times.
            for _ in 0..<20 {
                _ = try await store.read(for: Sample.tenant(2)) { reader throws(StorageError) in
                    try reader.head(of: Sample.tenant(2))
                }
            }
            #expect(begun.values.count == max)
            gate.open()
            #expect(await done.reaches(6))
        }
    }

    private func refusalOfRead(_ store: EventStore) async -> MartletError? {
        do throws(MartletError) {
            let head = try await store.read(for: Sample.tenant()) { reader throws(StorageError) in
                try reader.head(of: Sample.tenant())
            }
            Issue.record("read up to \(head.position)")
            return nil
        } catch { return error }
    }

    /// The conflicts of a refused append, with the events that came in between.
    private func conflicts(
        _ request: AppendRequest, _ store: EventStore, limits: Limits = Limits()
    ) async throws -> [VersionConflict] {
        let error = await refusal(of: request, store)
        #expect(error?.reason == .versionConflict && error?.code == .aborted && error?.isRetryable == false)
        let conflicts = error?.conflicts ?? []
        #expect(conflicts.allSatisfy { $0.events.readableBytes == 0 && !$0.eventsTruncated })
        let queries = QueryOpening(settings: SettingsCache(limits: limits), limits: limits)
        return try await store.read(for: request.tenant) { reader throws(StorageError) in
            queries.fill(conflicts, of: request.tenant, reader: reader).conflicts
        }
    }

    private func versions(_ conflict: VersionConflict) throws -> [UInt64] {
        let events = try RecordedEntries.decode(conflict.events)
        #expect(events.allSatisfy { $0.aggregate == conflict.aggregate })
        return events.map(\.version.rawValue)
    }

    @Test func aConflictCarriesTheEventsInBetweenOnRequest() async throws {
        try await withStore { store in
            _ = try await store.append(Sample.request(1, [try Sample.part(1, [1, 2]), try Sample.part(2, [3])]))
            _ = try await store.append(Sample.request(1, [try Sample.part(1, [4, 5])]))
            let table: [(ExpectedVersion, [UInt64])] = [
                (.none, [1, 2, 3, 4]), (.exact(.none), [1, 2, 3, 4]), (.exact(Version(1)), [2, 3, 4]),
                (.exact(Version(3)), [4]), (.exact(Version(5)), []), (.exact(.max), []),
            ]
            for (expected, between) in table {
                let found = try await conflicts(try Sample.request(9, expected), store)
                #expect(found.count == 1 && found[0].actual == Version(4) && found[0].expected == expected)
                #expect(try versions(found[0]) == between && !found[0].eventsTruncated, "\(expected)")
            }
            let several = try await conflicts(
                Sample.request(
                    1,
                    [
                        try Sample.part(2, .none, [9]), try Sample.part(3, .exists, [10]),
                        try Sample.part(4, .none, [11]),
                        try Sample.part(1, .exact(Version(2)), [12]),
                    ]), store)
            #expect(try several.map { try versions($0) } == [[1], [], [3, 4]])
            #expect(several.allSatisfy { !$0.eventsTruncated })
        }
    }

    @Test func withoutTheRequestAConflictCarriesNone() async throws {
        try await withStore { store in
            _ = try await store.append(try Sample.request(1))
            let error = try await refusal(of: Sample.request(2, .none), store)
            #expect(
                error?.conflicts == [
                    VersionConflict(aggregate: Sample.aggregate(), expected: .none, actual: Version(1))
                ])
        }
    }

    @Test func conflictingEventsFitInOnePageOverAllConflicts() async throws {
        let text = String(repeating: "x", count: 1_000)
        for pageBytesMax in [1, 1_000, 1_200, 2_000, 2_500, 3_700, 4_800, 10_000] {
            var limits = Limits()
            limits.pageBytesMax = pageBytesMax
            try await withStore(limits: limits) { store in
                _ = try await store.append(
                    Sample.request(
                        1, [try Sample.part(1, [1, 2], text: text), try Sample.part(2, [3, 4], text: text + text)]))
                let found = try await conflicts(
                    Sample.request(1, [try Sample.part(1, .none, [8]), try Sample.part(2, .none, [9])]), store,
                    limits: limits)
                let bytes = found.reduce(0) { $0 + $1.events.readableBytes }
                #expect(bytes <= pageBytesMax)
                for conflict in found {
                    let versions = try versions(conflict)
                    #expect(versions == Array([1, 2].prefix(versions.count)), "the oldest, without a gap")
                    #expect(conflict.eventsTruncated == (versions.count < 2), "\(pageBytesMax)")
                }
            }
        }
    }

    @Test func aConflictStandsWithoutItsEventsWhenTheyCannotBeRead() async throws {
        let engine = FaultyEngine(MemoryEngine())
        try await withStore(engine) { store in
            _ = try await store.append(try Sample.request(1))
            engine.failReads(true)
            let found = try await conflicts(try Sample.request(2, .none), store)
            #expect(found.map(\.actual) == [Version(1)] && found[0].eventsTruncated)
            #expect(found[0].events.readableBytes == 0)
        }
    }

    @Test func reuseIsAnsweredWithThePlaces() async throws {
        try await withStore { store in
            let receipt = try await store.append(try Sample.request(1))
            #expect(!receipt.replayed)
            let again = try await store.append(try Sample.request(1, .none))
            #expect(again.replayed && again.lastPosition == receipt.lastPosition)
            let error = try await refusal(of: Sample.request(1, text: "other"), store)
            #expect(error?.reason == .eventIDReused && error?.code == .alreadyExists && error?.isRetryable == false)
            #expect(error?.reusedEventIDs.map(\.position) == [Position(1)])
        }
    }

    @Test func storageFailuresAreToldApart() async throws {
        let engine = FaultyEngine(MemoryEngine())
        try await withStore(engine) { store in
            let table: [(FaultyEngine.CommitFault, Reason, StatusCode)] = [
                (.unavailable, .storageUnavailable, .unavailable), (.full, .storageFull, .resourceExhausted),
                (.unknownWithoutCommit, .outcomeUnknown, .unknown), (.unknownAfterCommit, .outcomeUnknown, .unknown),
            ]
            for (index, (fault, reason, code)) in table.enumerated() {
                engine.failCommits(fault, count: 1)
                let request = try Sample.request(UInt64(index) + 1)
                let error = await refusal(of: request, store)
                #expect(error?.reason == reason && error?.code == code && error?.isRetryable == true)
                if reason == .outcomeUnknown { #expect(error?.message.contains("nothing was written") == false) }
                let retried = try await store.append(request)
                #expect(retried.replayed == (fault == .unknownAfterCommit), "a retry is safe either way")
            }
            engine.failReads(true)
            let error = await refusalOfRead(store)
            #expect(error?.reason == .storageUnavailable)
        }
        let rest: [(StorageError.Kind, Reason)] = [
            (.corrupted, .storageCorrupted), (.schemaTooNew, .storageMisconfigured),
            (.misconfigured, .storageMisconfigured),
        ]
        for (kind, reason) in rest {
            let error = MartletError(StorageError(kind, "why"))
            #expect(error.reason == reason && !error.isRetryable && !error.message.contains("why"))
            let told = MartletError(forOperator: StorageError(kind, "why"))
            #expect(told.reason == reason && !told.isRetryable && told.message.contains("why"))
        }
    }

    @Test func fullQueuesAndAClosedStoreSayWhatTheyAre() async throws {
        var limits = Limits()
        limits.waitingAppendBytesMax = 10
        limits.waitingReadsMax = 0
        let store = EventStore(engine: MemoryEngine(), limits: limits, clock: { Sample.now }, logger: .silent)
        try store.start()
        let full = try await refusal(of: Sample.request(1), store)
        #expect(full?.reason == .appendQueueFull && full?.isRetryable == true)
        let busy = await refusalOfRead(store)
        #expect(busy?.reason == .readQueueFull && busy?.isRetryable == true)
        #expect(busy?.message.contains("tenant's share of waiting_reads_max, 0,") == true)
        await store.shutDown()
        let append = try await refusal(of: Sample.request(1), store)
        let read = await refusalOfRead(store)
        #expect(append?.reason == .draining && read?.reason == .draining && read?.isRetryable == true)
    }

    @Test func aReadSeesWhatWasAcknowledged() async throws {
        try await withStore { store in
            for number in 1...50 as ClosedRange<UInt64> {
                let receipt = try await store.append(try Sample.request(number))
                let head = try await store.read(for: Sample.tenant()) { reader throws(StorageError) in
                    try reader.head(of: Sample.tenant())
                }
                #expect(head.position == receipt.lastPosition && head.recordedAt == receipt.recordedAt)
            }
            #expect(store.committedEventCount == 50)
        }
    }

    @Test func aLongListOfConflictsIsCutInTheMessageOnly() {
        let conflicts = (1...5).map {
            VersionConflict(aggregate: Sample.aggregate($0), expected: .none, actual: Version($0))
        }
        let error = MartletError.versionConflicts(conflicts)
        #expect(error.conflicts == conflicts && error.message.contains("; and 2 more: nothing was written"))
        #expect(!MartletError.versionConflicts(Array(conflicts[..<3])).message.contains("more:"))
    }
}
