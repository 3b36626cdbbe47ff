import MartletModel
import MartletService
import MartletStorage
import MartletTesting
import NIOCore
import NIOEmbedded
import Testing
@testable import MartletStoragePostgreSQL

/// What a server says of its health while its database is away.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct ServiceHealthTests {
    private func wait(
        _ what: String, _ loop: NIOAsyncTestingEventLoop, until condition: () -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while !condition() {
            guard ContinuousClock.now < deadline else { throw BenchFailure("\(what): not within 30 s") }
            await loop.advanceTime(by: .seconds(1))
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Ends both. The loop first does what is on its way to it: once it closes it drops that, and with it the promise of a
    /// timer that was cancelled on another thread a moment before.
    private func end(_ service: EventService, _ loop: NIOAsyncTestingEventLoop) async {
        await service.shutDown()
        await loop.run()
        await loop.shutdownGracefully()
    }

    @Test func aDatabaseThatGoesAwayIsMissedWithoutACallAndItsReturnIsNoticed() async throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let loop = NIOAsyncTestingEventLoop()
        let service = try EventService.start(
            engine: bench.engine(), limits: Limits(), serverVersion: "1", clock: { .now() }, logger: .silent)
        service.startHealth(on: loop)
        #expect(service.health.state == ServingState())
        try cluster.stop(crashes: true)
        try await wait("the database is missed", loop) { service.health.state.storage.isEmpty }
        try cluster.start()
        try await wait("the database is back", loop) { service.health.state == ServingState() }
        await end(service, loop)
    }

    @Test func aServerOnAStandbyIsOutUntilItIsPromoted() async throws {
        let primary = try OwnCluster()
        let bench = try Bench(url: primary.url())
        let standby = try OwnCluster(standbyOf: primary)
        let loop = NIOAsyncTestingEventLoop()
        let service = try EventService.start(
            engine: PostgreSQLEngine(connectionString: standby.url(), schema: bench.schema, logger: .silent),
            limits: Limits(), serverVersion: "1", clock: { .now() }, logger: .silent)
        service.startHealth(on: loop)
        // A standby has no listeners: the server tries again each second.
        try await wait("it is found to serve nothing", loop) { service.health.state.storage.isEmpty }
        try primary.stop(crashes: true)
        try PostgresConnection(standby.url(), statements: []).run("SELECT pg_promote(true, 20)")
        try await wait("it is promoted", loop) { service.health.state == ServingState() }
        await end(service, loop)
    }
}
