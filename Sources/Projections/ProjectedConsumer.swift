import MartletClient
import MartletModel

/// A consumer whose events a runner takes in: where the read model keeps how far it is, and what that is compared with.
struct ProjectedConsumer: Sendable {
    let id: ConsumerID
    let progress: ProjectionProgress
    let past: PastCheck
    /// Of a ``RebuildableProjection``.
    let generations: GenerationStore?

    init(_ id: ConsumerID, _ projection: any Projection, _ client: MartletClient) {
        self.id = id
        progress = ProjectionProgress(id)
        past = PastCheck(client: client, consumer: id)
        generations = projection is any RebuildableProjection ? GenerationStore(id) : nil
    }
}
