import FoundationEssentials
import Logging
import MartletClient
import MartletEventSourcing
import MartletModel

/// Aggregates of all types, from the server.
struct Repositories: AggregateSource {
    let client: MartletClient
    let tenant: TenantID
    let logger: Logger
    let types = TypeCache()

    func load<A: Aggregate>(_ type: A.Type, _ id: UUID) async throws -> Loaded<A> {
        try await repository(of: type).loadOrNew(id)
    }

    func repository<A: Aggregate>(of type: A.Type) throws -> Repository<A> {
        try types.value { try Repository<A>(client.tenant(tenant), logger: logger) }
    }
}
