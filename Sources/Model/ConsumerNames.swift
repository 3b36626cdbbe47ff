import FoundationEssentials

/// The name of a consumer within its tenant: 1 to 128 bytes of `[A-Za-z0-9_.:-]`.
public struct ConsumerName: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The text.
    public let text: String

    /// The name of that text; nil if the text is not allowed.
    public init?(_ text: String) {
        guard PlainName.allows(text) else { return nil }
        self.text = text
    }

    /// The text.
    public var description: String { text }

    /// Names sort by their text.
    public static func < (a: ConsumerName, b: ConsumerName) -> Bool { a.text < b.text }
}

/// The name of a worker of a consumer, the same each time that it comes: 1 to 128 bytes of `[A-Za-z0-9_.:-]`.
public struct WorkerName: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The text.
    public let text: String

    /// The name of that text; nil if the text is not allowed.
    public init?(_ text: String) {
        guard PlainName.allows(text) else { return nil }
        self.text = text
    }

    /// The text.
    public var description: String { text }

    /// Names sort by their text.
    public static func < (a: WorkerName, b: WorkerName) -> Bool { a.text < b.text }
}

/// A consumer of a tenant.
public struct ConsumerID: Hashable, Sendable, Comparable {
    /// The tenant.
    public var tenant: TenantID
    /// The consumer's name.
    public var name: ConsumerName

    /// A consumer of those parts.
    public init(tenant: TenantID, name: ConsumerName) {
        self.tenant = tenant
        self.name = name
    }

    /// By the tenant, then by the name.
    public static func < (a: ConsumerID, b: ConsumerID) -> Bool {
        a.tenant == b.tenant ? a.name < b.name : a.tenant < b.tenant
    }
}

/// A slot of a consumer.
public struct SlotID: Hashable, Sendable, Comparable {
    /// The consumer.
    public var consumer: ConsumerID
    /// The slot's number, from 0.
    public var number: Int

    /// A slot of those parts.
    public init(consumer: ConsumerID, number: Int) {
        self.consumer = consumer
        self.number = number
    }

    /// By the consumer, then by the number.
    public static func < (a: SlotID, b: SlotID) -> Bool {
        a.consumer == b.consumer ? a.number < b.number : a.consumer < b.consumer
    }
}

/// A blocked key of a slot.
public struct BlockedKeyID: Hashable, Sendable {
    /// The slot.
    public var slot: SlotID
    /// The key.
    public var key: ConsumerKey

    /// A blocked key of those parts.
    public init(slot: SlotID, key: ConsumerKey) {
        self.slot = slot
        self.key = key
    }
}
