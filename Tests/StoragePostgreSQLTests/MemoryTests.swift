import Foundation
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// What writers remember, they may forget at any time, and are never wrong by.
@Suite(.blocking, .needsPostgres) struct MemoryTests {
    /// Commands of every kind, by two servers in turn.
    @Test func anyBatchComesToWhatTheOracleSays() throws {
        var comparison = WriteComparison()
        let bench = try Bench()
        let writers = try (0..<2).map { _ in try bench.writer() }
        var count = 0
        try comparison.write(batches: 300) {
            count += 1
            return writers[count / 7 % 2]
        }
        try comparison.check(bench.engine().makeReader())
    }

    /// Writers of two servers take turns: what one of them remembers, the others make wrong.
    ///
    /// That a snapshot is due may be left unsaid where another server has deleted the older ones, and this one has not heard of
    /// it; nothing else.
    @Test(arguments: [(4, 0), (100_000, 0), (100_000, 2)])
    func noAnswerIsAnotherThanTheOracles(_ countMax: Int, _ distrust: Int) throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench()
        let memories = (0..<2).map { _ in RememberedTenants(countMax: countMax, distrustMax: distrust) }
        let engines = memories.map { bench.engine(memory: $0) }
        let writers = try [0, 0, 1].map { try #require(engines[$0].makeWriter() as? PostgreSQLWriter) }
        let oracle = MemoryEngine()
        let oracleWriter = oracle.makeWriter()
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        let names = (0..<6).map { _ in AggregateName.new() }
        var sent: [AppendRequest] = []
        var unheard = UnheardDeletions()
        var writer = writers[0]
        for round in 0..<400 {
            if Int.random(in: 0..<8, using: &numbers) == 0 { writer = writers[Int.random(in: 0..<3, using: &numbers)] }
            let now = Timestamp(microseconds: Int64(round))
            let tenant = tenants[Int.random(in: 0..<3, using: &numbers)]
            let name = names[Int.random(in: 0..<6, using: &numbers)]
            if Int.random(in: 0..<10, using: &numbers) == 0 {
                let change = Self.change(tenant, name, &numbers)
                #expect(
                    try writer.apply(change, now: now) == oracleWriter.apply(change, now: now),
                    "seed \(random.seed), round \(round)")
                if case .deleteSnapshots = change { unheard.deleted(tenant, name) }
                continue
            }
            var batch: [AppendRequest] = []
            for _ in 0..<Int.random(in: 1...4, using: &numbers) {
                if let old = sent.randomElement(using: &numbers), Int.random(in: 0..<20, using: &numbers) == 0 {
                    batch.append(old)
                } else {
                    batch.append(try Self.append(tenants, names, oracle.makeReader(), &numbers))
                }
            }
            sent += batch
            let others = writers.filter { $0 !== writer }
            let outcomes = try Self.commit(batch, now: now, by: writer, slowOnes: others.randomElement(using: &numbers))
            let right = unheard.allowed(
                try oracleWriter.commit(batch, now: now).outcomes, for: batch, answers: outcomes)
            #expect(outcomes == right, "seed \(random.seed), round \(round)")
        }
        for tenant in tenants {
            #expect(
                try engines[0].makeReader().events(of: tenant) == oracle.makeReader().events(of: tenant),
                "seed \(random.seed)")
        }
        let fast = writers.reduce(0) { $0 + $1.optimisticCommits }
        let fastMin = countMax < 10 ? 5 : 50
        #expect(fast >= fastMin, "\(fast) batches were committed by what was remembered, seed \(random.seed)")
    }

    /// Aggregates whose snapshots one server has deleted, and of which the other may still say that none is due.
    private struct UnheardDeletions {
        private struct Key: Hashable {
            var tenant: TenantID
            var name: AggregateName
        }

        private var keys: Set<Key> = []

        mutating func deleted(_ tenant: TenantID, _ name: AggregateName) {
            keys.insert(Key(tenant: tenant, name: name))
        }

        /// The right outcomes, with what may be left unsaid as it was answered.
        mutating func allowed(
            _ right: [WriteOutcome], for batch: [AppendRequest], answers: [WriteOutcome]
        ) -> [WriteOutcome] {
            zip(batch, zip(right, answers)).map { request, outcomes in
                guard case .appended(var receipt) = outcomes.0, case .appended(let answer) = outcomes.1,
                    receipt.aggregates.map(\.aggregate) == answer.aggregates.map(\.aggregate)
                else { return outcomes.0 }
                for index in receipt.aggregates.indices where receipt.aggregates[index].snapshotDue {
                    let key = Key(tenant: request.tenant, name: receipt.aggregates[index].aggregate)
                    if answer.aggregates[index].snapshotDue {
                        keys.remove(key)
                    } else if keys.contains(key) {
                        receipt.aggregates[index].snapshotDue = false
                    }
                }
                return .appended(receipt)
            }
        }
    }

    /// Commits a batch whose slow part another writer commits meanwhile.
    private static func commit(
        _ batch: [AppendRequest], now: Timestamp, by writer: PostgreSQLWriter, slowOnes other: PostgreSQLWriter?
    ) throws -> [WriteOutcome] {
        let commands = batch.map { WriteCommand.append($0) }
        var slow: Set<Int> = []
        var slowResult = Result<[WriteOutcome], any Error>.success([])
        let fast = try writer.commit(commands, now: now) { indices in
            slow = Set(indices)
            let part = indices.map { commands[$0] }
            slowResult = Result { try (other ?? writer).commit(part, now: now, lockWait: .zero).outcomes }
        }
        var fastOutcomes = fast.outcomes.makeIterator()
        var slowOutcomes = try slowResult.get().makeIterator()
        return try commands.indices.map { index in
            try #require(slow.contains(index) ? slowOutcomes.next() : fastOutcomes.next())
        }
    }

    /// Calls that must be looked up, for each reason, beside those that need not be.
    @Test func whatMustBeLookedUpMakesNoOtherWait() throws {
        let bench = try Bench()
        let engine = bench.engine(time: HandMovedTime())
        let writers = try (0..<2).map { _ in try #require(engine.makeWriter() as? PostgreSQLWriter) }
        let writer = writers[0]
        let known = (0..<8).map { _ in (tenant: TenantID(UUID()), name: AggregateName.new()) }
        for (tenant, name) in known { try writer.append(.sample(to: name, .none, tenant: tenant)) }
        let replayed = try AppendRequest.sample(to: known[7].name, .exact(Version(1)), tenant: known[7].tenant)
        try writer.append(replayed)
        func batch(_ slow: [WriteCommand]) throws -> [WriteCommand] {
            var batch = try known.prefix(4).map {
                WriteCommand.append(try .sample(to: $0.name, .any, tenant: $0.tenant))
            }
            for (index, command) in slow.enumerated() { batch.insert(command, at: index * 2) }
            return batch
        }
        func of(_ index: Int, _ expected: ExpectedVersion, to name: AggregateName? = nil) throws -> WriteCommand {
            .append(try .sample(to: name ?? known[index].name, expected, tenant: known[index].tenant))
        }
        let reasons: [(String, [WriteCommand])] = [
            ("a tenant that is new", [.append(try .sample(tenant: TenantID(UUID())))]),
            ("an aggregate that is not known", [try of(4, .any, to: .new())]),
            ("a conflict", [try of(5, .none)]),
            ("a replay", [.append(replayed)]),
            ("a conflict after what is stored", [try of(6, .any), try of(6, .none)]),
        ]
        for (reason, slow) in reasons {
            let before = writers.map(\.optimisticCommits)
            var handed: [WriteCommand] = []
            let batch = try batch(slow)
            let result = try writer.commit(batch, now: .now()) { handed = $0.map { batch[$0] } }
            #expect(handed == slow, "\(reason)")
            #expect(result.outcomes.count == 4 && result.runs.count == 4, "\(reason)")
            #expect(writers[0].optimisticCommits == before[0] + 1, "\(reason)")
            let rest = try writers[1].commit(slow, now: .now(), lockWait: .zero)
            #expect(rest.outcomes.count == slow.count, "\(reason)")
            #expect(writers[1].optimisticCommits == before[1], "\(reason)")
        }
        // Where all must be looked up, nothing is handed over.
        var isHanded = false
        let result = try writer.commit([try of(5, .none), try of(6, .none)], now: .now()) { _ in isHanded = true }
        #expect(!isHanded && result.outcomes.count == 2 && result.runs.isEmpty)
    }

    /// Changes of consumers are handed over by themselves, and another writer may commit them meanwhile: appends of their tenant
    /// need not be looked up for them, neither beside them nor afterwards.
    @Test func whatConsumersChangeLeavesAppendsOfTheirTenantAlone() throws {
        let bench = try Bench()
        let engine = bench.engine(time: HandMovedTime())
        let writers = try (0..<2).map { _ in try #require(engine.makeWriter() as? PostgreSQLWriter) }
        let (tenant, name) = (bench.tenant, AggregateName.new())
        try writers[0].append(.sample(to: name, .none, tenant: tenant))
        let id = ConsumerID(tenant: tenant, name: try #require(ConsumerName("balances")))
        func change(_ kind: ConsumerChange.Kind) -> WriteCommand { .change(.consumer(ConsumerChange(kind, of: id))) }
        let definition = ConsumerDefinition(slotCount: 1)
        let put = change(.put(PutConsumer(definition, start: .start, expected: .any, countMax: 9)))
        #expect(try writers[1].commit([put], now: .now()).outcomes == [.consumer(.put(revision: 1, isNew: true))])
        func append(checkpoint: AppendCheckpoint? = nil) throws -> WriteCommand {
            var request = try AppendRequest.sample(to: name, .any, tenant: tenant)
            request.checkpoint = checkpoint
            return .append(request)
        }
        let worker = GroupTending.Worker(session: UUID(), name: try #require(WorkerName("a")), isNew: true)
        let tend = change(.tend(GroupTending(server: UUID(), workers: [worker], leaseMicros: 9, workersMax: 9)))
        let place = Checkpoint(position: Position(1), eventID: UUID())
        let progress = change(
            .progress([SlotSaving(slot: 0, change: SlotChange(epoch: 9, from: place, to: place, blocked: [:]))]))
        let unblock = change(.unblock([]))
        for _ in 0..<3 {
            let before = writers.map(\.optimisticCommits)
            let batch = [tend, try append(), progress, unblock, try append()]
            var (handed, outcomes): ([Int], [WriteOutcome]) = ([], [])
            let result = try writers[0].commit(batch, now: .now()) { indices in
                handed = indices
                let part = indices.map { batch[$0] }
                outcomes = (try? writers[1].commit(part, now: .now(), lockWait: .zero).outcomes) ?? []
            }
            #expect(handed == [0, 2, 3] && outcomes.count == 3)
            #expect(result.outcomes.count == 2 && result.outcomes.allSatisfy(\.isStoredNow))
            #expect(writers.map(\.optimisticCommits) == [before[0] + 1, before[1]])
        }
        // What depends on their order stays together, and a consumer that is put locks its tenant.
        let checkpoint = AppendCheckpoint(
            consumer: id.name, slot: 0, epoch: 9, event: place, key: ConsumerKey(bytes: []), isKeyBlocked: false)
        let other = (tenant: TenantID(UUID()), name: AggregateName.new())
        try writers[0].append(.sample(to: other.name, .none, tenant: other.tenant))
        for part in [[progress, try append(checkpoint: checkpoint)], [put, tend, try append()]] {
            let first = try WriteCommand.append(.sample(to: other.name, .any, tenant: other.tenant))
            var handed: [Int] = []
            _ = try writers[0].commit([first] + part, now: .now()) { handed = $0 }
            #expect(handed == Array(1...part.count))
        }
    }

    /// A connection that has been silent may be broken, and COMMIT is not sent along on one.
    @Test func afterASilenceAllIsLookedUpOnce() throws {
        let (bench, time) = (try Bench(), HandMovedTime())
        let writer = try #require(bench.engine(time: time).makeWriter() as? PostgreSQLWriter)
        let name = AggregateName.new()
        func isFromMemory() throws -> Bool {
            let before = writer.optimisticCommits
            try writer.append(.sample(to: name, tenant: bench.tenant))
            return writer.optimisticCommits > before
        }
        #expect(try !isFromMemory())
        #expect(try isFromMemory())
        time.advance(.milliseconds(999))
        #expect(try isFromMemory(), "each answer begins the time anew")
        time.advance(.seconds(1))
        #expect(try !isFromMemory())
        #expect(try isFromMemory())
    }

    /// Beyond the bound, what was used last stays.
    @Test func whatIsUsedStaysWhateverElseComes() throws {
        let bench = try Bench()
        let writer = try bench.writer(memory: RememberedTenants(countMax: 200))
        let (hot, name) = (TenantID(UUID()), AggregateName.new())
        try writer.append(.sample(to: name, tenant: hot))
        let before = writer.optimisticCommits
        for _ in 0..<300 {
            try writer.append(.sample(tenant: TenantID(UUID())))
            try writer.append(.sample(tenant: bench.tenant))
            try writer.append(.sample(to: name, tenant: hot))
        }
        // Every commit of the tenant that is there, of its one aggregate, and of the one that gets ever new ones.
        let fast = writer.optimisticCommits - before
        print("from memory: \(fast) of 900 commits, 300 of them of new tenants")
        #expect(fast == 300)
    }

    private static func append(
        _ tenants: [TenantID], _ names: [AggregateName], _ reader: any StorageReader, _ numbers: inout SeededGenerator
    ) throws -> AppendRequest {
        let tenant = tenants[Int.random(in: 0..<tenants.count, using: &numbers)]
        let name =
            Int.random(in: 0..<5, using: &numbers) == 0
            ? .new() : names[Int.random(in: 0..<names.count, using: &numbers)]
        let actual = try reader.version(of: name, in: tenant, asOf: .max)
        let expected: ExpectedVersion =
            [.any, .exists, .none, .exact(Version(.random(in: 0...20, using: &numbers))), .exact(actual)][
                min(4, Int.random(in: 0..<16, using: &numbers))]
        let count = Int.random(in: 1...2, using: &numbers)
        var request = try AppendRequest.sample(count, to: name, expected, tenant: tenant)
        request.aggregates[0].snapshotPolicy = SnapshotPolicy(everyEvents: 5, everyBytes: 700)
        if Int.random(in: 0..<10, using: &numbers) == 0 {
            request.aggregates[0].snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
        }
        return request
    }

    private static func change(
        _ tenant: TenantID, _ name: AggregateName, _ numbers: inout SeededGenerator
    ) -> TenantChange {
        if Int.random(in: 0..<4, using: &numbers) == 0 {
            return .deleteSnapshots(DeleteSnapshotsRequest(tenant: tenant, aggregate: name))
        }
        return .saveSnapshot(
            SaveSnapshotRequest(
                tenant: tenant, aggregate: name, version: Version(.random(in: 1...6, using: &numbers)),
                snapshot: NewSnapshot(payload: ByteBuffer(string: "{}"))), kept: 2)
    }

    @Test func anAppendOfWhatIsRememberedTakesOneRoundTrip() throws {
        let bench = try Bench()
        let writer = try bench.writer()
        let name = AggregateName.new()
        try writer.append(.sample(to: name, .none, tenant: bench.tenant))
        #expect(writer.optimisticCommits == 0)
        let expectations: [(AggregateName, ExpectedVersion)] = [
            (name, .exact(Version(1))), (name, .any), (name, .exists), (.new(), .none), (.new(), .exact(.none)),
        ]
        for (count, (name, expected)) in expectations.enumerated() {
            #expect(try writer.append(.sample(to: name, expected, tenant: bench.tenant)) != nil)
            #expect(writer.optimisticCommits == count + 1, "\(expected)")
        }
        // Whether it is there has to be looked up, once.
        let unknown = AggregateName.new()
        for count in 5...6 {
            #expect(try writer.append(.sample(to: unknown, .any, tenant: bench.tenant)) != nil)
            #expect(writer.optimisticCommits == count)
        }
        // What is refused is refused by what stands there.
        #expect(try writer.append(.sample(to: name, .none, tenant: bench.tenant)) == nil)
        #expect(writer.optimisticCommits == 6)
        let head = try bench.engine().makeReader().head(of: bench.tenant)
        #expect(head.position == Position(8))
    }

    @Test func anotherServersCommitIsNoticed() throws {
        let bench = try Bench()
        let (own, other) = (try bench.writer(memory: RememberedTenants(distrustMax: 0)), try bench.writer())
        let name = AggregateName.new()
        try own.append(.sample(to: name, .none, tenant: bench.tenant))
        for round in 1...5 {
            let version = Version(UInt64(round) * 3)
            try own.append(.sample(to: name, .any, tenant: bench.tenant))
            try other.append(.sample(to: name, .any, tenant: bench.tenant))
            // By what it remembers, this would be stored.
            let old = try AppendRequest.sample(to: name, .exact(Version(version.rawValue - 1)), tenant: bench.tenant)
            let refused = try own.commit([old], now: .now()).outcomes[0]
            #expect(
                refused
                    == .versionConflict([
                        VersionConflict(aggregate: name, expected: old.aggregates[0].expected, actual: version)
                    ]), "round \(round)")
            let receipt = try own.append(.sample(to: name, .exact(version), tenant: bench.tenant))
            #expect(receipt?.firstPosition.rawValue == version.rawValue + 1, "round \(round)")
        }
        #expect(own.optimisticCommits > 5)
    }

    @Test func whatIsStoredIsFoundAlthoughItIsNotRemembered() throws {
        let bench = try Bench()
        let first = try AppendRequest.sample(2, to: .new(), .none, tenant: bench.tenant)
        let receipt = try bench.writer().append(first)
        let memory = RememberedTenants(distrustMax: 0)
        let writer = try bench.writer(memory: memory)
        for round in 0..<3 {
            try writer.append(.sample(tenant: bench.tenant))
            // The aggregate is taken for new, and is not.
            let again = try writer.append(first)
            #expect(again?.replayed == true && again?.firstPosition == receipt?.firstPosition, "round \(round)")
            // The aggregate is new, the event is not.
            let elsewhere = AppendRequest.of(
                first.aggregates[0].events, to: .new(), .none, tenant: bench.tenant)
            let outcome = try writer.commit([elsewhere], now: .now()).outcomes[0]
            guard case .eventIDsReused(let ids) = outcome else { throw BenchFailure("\(outcome)") }
            #expect(ids.map(\.id) == first.ids, "round \(round)")
            // In another tenant it is another event.
            let tenant = TenantID(UUID())
            try writer.append(.sample(tenant: tenant))
            let other = AppendRequest.of(first.aggregates[0].events, to: .new(), .none, tenant: tenant)
            #expect(try writer.append(other)?.replayed == false, "round \(round)")
        }
        #expect(writer.optimisticCommits == 3)
    }

    @Test func snapshotsSavedOnAnotherServerCount() throws {
        let bench = try Bench()
        let (own, other) = (try bench.writer(memory: RememberedTenants(distrustMax: 0)), try bench.writer())
        let name = AggregateName.new()
        func isDue() throws -> Bool? {
            var request = try AppendRequest.sample(to: name, .any, tenant: bench.tenant)
            request.aggregates[0].snapshotPolicy = SnapshotPolicy(everyEvents: 3)
            return try own.append(request)?.aggregates[0].snapshotDue
        }
        #expect(try (1...3).map { _ in try isDue() } == [false, false, true])
        let save = SaveSnapshotRequest(
            tenant: bench.tenant, aggregate: name, version: Version(3),
            snapshot: NewSnapshot(payload: ByteBuffer(string: "{}")))
        _ = try other.apply(.saveSnapshot(save, kept: 3), now: .now())
        #expect(try (4...6).map { _ in try isDue() } == [false, false, true])
        // Its own, too.
        let second = SaveSnapshotRequest(
            tenant: bench.tenant, aggregate: name, version: Version(6), snapshot: save.snapshot)
        _ = try own.apply(.saveSnapshot(second, kept: 3), now: .now())
        #expect(try (7...9).map { _ in try isDue() } == [false, false, true])
    }

    @Test func whatWasFoundWrongIsNotTrustedForAWhile() throws {
        let bench = try Bench()
        let (own, other) = (try bench.writer(memory: RememberedTenants(distrustMax: 4)), try bench.writer())
        func append() throws -> Bool {
            let before = own.optimisticCommits
            try own.append(.sample(to: .new(), .none, tenant: bench.tenant))
            return own.optimisticCommits > before
        }
        #expect(try [append(), append()] == [false, true])
        try other.append(.sample(tenant: bench.tenant))
        #expect(try (0..<6).map { _ in try append() } == [false, false, false, false, false, true])
    }

    @Test func writersThatTakeTurnsUseOneConnection() throws {
        let bench = try Bench()
        let engine = bench.engine()
        let writers = try (0..<3).map { _ in try #require(engine.makeWriter() as? PostgreSQLWriter) }
        for round in 0..<9 { try writers[round % 3].append(.sample(to: .new(), .none, tenant: bench.tenant)) }
        #expect(writers.map(\.optimisticCommits) == [2, 3, 3])
        #expect(try bench.endSessions() == 1)
    }
}
