/// An event of a consumer to which a worker reacts by appending: stored with the append, so that nobody reacts to it a second
/// time. All that the worker was delivered of the slot before is settled, or is stored as settled or blocked.
public struct AppendCheckpoint: Hashable, Sendable {
    /// The consumer, of the append's tenant.
    public var consumer: ConsumerName
    /// The number of the slot.
    public var slot: Int
    /// The epoch under which the worker has the slot.
    public var epoch: UInt64
    /// The event.
    public var event: Checkpoint
    /// The event's key.
    public var key: ConsumerKey
    /// ``ConsumeMessage/Delivery/isKeyBlocked`` of the event's delivery.
    public var isKeyBlocked: Bool

    /// A checkpoint of those parts.
    public init(
        consumer: ConsumerName, slot: Int, epoch: UInt64, event: Checkpoint, key: ConsumerKey, isKeyBlocked: Bool
    ) {
        self.consumer = consumer
        self.slot = slot
        self.epoch = epoch
        self.event = event
        self.key = key
        self.isKeyBlocked = isKeyBlocked
    }
}
