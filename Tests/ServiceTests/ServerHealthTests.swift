import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOCore
import NIOEmbedded
import Testing

@testable import MartletService

/// What a server says of its health, as its storage fails and comes back.
@Suite struct ServerHealthTests {
    private final class Watcher: HealthWatcher {
        let health: ServerHealth
        private(set) var states: [ServingState] = []
        init(_ health: ServerHealth) { self.health = health }
        func healthChanged() { states.append(health.state) }
    }

    /// A server whose time and threads are in the test's hand.
    private final class Bench {
        let loop = EmbeddedEventLoop()
        let engine = FaultyEngine(MemoryEngine())
        let service: EventService
        private let hands: StorageHands
        let tenant = TenantID(UUID())
        var health: ServerHealth { service.health }

        init() throws {
            let loop = loop
            (service, hands) = try EventService.startByHand(
                engine: engine, limits: Limits(), serverVersion: "1", clock: { Timestamp(microseconds: 1) },
                logger: .silent, uptime: { loop.now })
            service.startHealth(on: loop)
        }

        deinit {
            service.health.stop()
            service.release()
        }

        /// Carries out what waits.
        func run() {
            loop.run()
            while hands.commitOne() || hands.readOne() { loop.run() }
        }

        func append() throws {
            service.store.write(.append(try .sample(tenant: tenant))) { _ in }
            run()
        }

        func read() {
            let tenant = tenant
            service.store.read(for: tenant) { reader throws(StorageError) in
                try reader.head(of: tenant)
            } completion: { (_: Result<TenantHead, MartletError>) in
            }
            run()
        }

        func advance(_ time: TimeAmount) {
            loop.advanceTime(by: time)
            run()
        }
    }

    @Test(arguments: [FaultyEngine.CommitFault.unavailable, .unknownWithoutCommit, .unknownAfterCommit, .full])
    func writesThatFailAreToldAndSoIsThatTheyComeBack(_ fault: FaultyEngine.CommitFault) throws {
        let bench = try Bench()
        let watcher = Watcher(bench.health)
        bench.health.watch(watcher, on: bench.loop)
        try bench.append()
        #expect(bench.health.state == ServingState() && watcher.states.isEmpty)
        bench.engine.failCommits(fault)
        try bench.append()
        #expect(bench.health.state.storage == .reads)
        #expect(!bench.health.state.serves(.writes) && bench.health.state.serves(.reads))
        for _ in 0..<100 { try bench.append() }
        bench.advance(.seconds(3))
        #expect(watcher.states.count == 1)
        bench.engine.failCommits(.none)
        bench.advance(.seconds(1))
        #expect(bench.health.state == ServingState(), "nobody has to append for it to be found out")
        #expect(watcher.states.count == 2)
        bench.advance(.seconds(100))
        #expect(watcher.states.count == 2)
    }

    @Test func oneCommitThatFailsIsNoOutage() throws {
        let bench = try Bench()
        let watcher = Watcher(bench.health)
        bench.health.watch(watcher, on: bench.loop)
        bench.engine.failCommits(.unavailable, count: 1)
        try bench.append()
        bench.advance(.seconds(2))
        #expect(bench.health.state == ServingState() && watcher.states.isEmpty)
    }

    @Test func readsThatFailAreTold() throws {
        let bench = try Bench()
        bench.engine.failReads(true)
        bench.read()
        #expect(bench.health.state.storage == .writes)
        bench.engine.failReads(false)
        bench.advance(.seconds(1))
        #expect(bench.health.state == ServingState())
    }

    @Test(arguments: [StorageError.Kind.corrupted, .locked, .historyChanged, .memoryFull])
    func whatConcernsOneTenantIsNoOutage(_ kind: StorageError.Kind) throws {
        let bench = try Bench()
        bench.engine.failCommits(.unavailable)
        for use in StorageUse.allCases { bench.health.note(.failed(use, kind)) }
        bench.run()
        bench.advance(.seconds(2))
        #expect(bench.health.state == ServingState())
    }

    /// A full disk takes a commit that writes nothing.
    @Test func aRefusedAppendDoesNotSayThatStorageCanBeWritten() throws {
        let bench = try Bench()
        let request = try AppendRequest.sample(tenant: bench.tenant)
        bench.service.store.write(.append(request)) { _ in }
        bench.run()
        bench.health.note(.failed(.writes, .full))
        // Stored before: nothing is written.
        bench.service.store.write(.append(request)) { _ in }
        bench.run()
        bench.engine.failCommits(.full)
        bench.advance(.seconds(1))
        #expect(bench.health.state.storage == .reads)
    }

    @Test func nothingIsLookedIntoAfterTheEnd() throws {
        let bench = try Bench()
        bench.engine.failCommits(.full)
        try bench.append()
        bench.health.stop()
        bench.engine.failCommits(.none)
        bench.advance(.seconds(10))
        #expect(bench.health.state.storage == .reads)
        bench.health.note(.probed(.writes, nil))
        #expect(bench.health.state.storage == .reads)
    }

    @Test func everyWatcherIsToldBeforeADrainGoesOn() throws {
        let bench = try Bench()
        let watchers = (0..<1_000).map { _ in Watcher(bench.health) }
        for watcher in watchers { bench.health.watch(watcher, on: bench.loop) }
        bench.health.forget(watchers[7], on: bench.loop)
        let told = bench.health.startDraining(on: bench.loop)
        #expect(bench.health.state.isDraining && !bench.health.state.serves([]))
        let bound = NIOLoopBound(watchers, eventLoop: bench.loop)
        told.whenSuccess {
            for (index, watcher) in bound.value.enumerated() { #expect(watcher.states.count == (index == 7 ? 0 : 1)) }
        }
        bench.loop.run()
        try told.wait()
        #expect(watchers[0].states.first?.isDraining == true)
        try bench.health.startDraining(on: bench.loop).wait()
        bench.loop.run()
        #expect(watchers[0].states.count == 1, "it drains once")
    }
}
