import Martlet
import MartletStorageMemory
import MartletTesting

/// Runs the code of a page with a tenant of a server in this process.
func withTenant(_ body: @escaping @Sendable (Tenant) async throws -> Void) async throws {
    try await TestServer.with(MemoryEngine()) { server in
        try await server.withClient { client in try await body(client.tenant(TenantID(UUID()))) }
    }
}
