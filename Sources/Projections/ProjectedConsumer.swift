import MartletClient
import MartletModel

/// A consumer whose events a runner takes in: where the read model keeps how far it is, and what that is compared with.
struct ProjectedConsumer: Sendable {
    let id: ConsumerID
    let progress: ProjectionProgress
    let past: PastCheck
    /// Of a ``RebuildableProjection``.
    let generations: TenantGenerations?

    init(_ id: ConsumerID, _ generations: GenerationStore?, _ client: MartletClient) {
        self.id = id
        progress = ProjectionProgress(id)
        past = PastCheck(client: client, consumer: id)
        self.generations = generations.map { TenantGenerations($0, id) }
    }
}
