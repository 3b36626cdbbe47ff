import Foundation
import MartletModel
import MartletStorage
import MartletTesting
@testable import MartletStoragePostgreSQL

/// A store at work over an engine: all of its threads and connections.
struct Store {
    let store: EventStore

    init(_ engine: PostgreSQLEngine) throws {
        store = EventStore(engine: engine, limits: Limits(), clock: { .now() }, logger: .silent)
        try store.start()
    }

    func end() async { await store.shutDown() }

    /// Appends and reads side by side, as many as there are threads and more.
    func serves(_ tenant: TenantID, calls: Int = 30) async throws {
        let store = store
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<calls {
                // Tenants commit side by side.
                let own = number % 3 == 0 ? tenant : TenantID(UUID())
                group.addTask {
                    let outcome = try await store.write(.append(try .sample(tenant: own)))
                    guard outcome.receipt != nil else { throw BenchFailure("\(outcome)") }
                }
                group.addTask {
                    _ = try await store.read(for: own) { reader throws(StorageError) in try reader.head(of: own) }
                }
            }
            try await group.waitForAll()
        }
    }
}
