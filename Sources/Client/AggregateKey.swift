public import FoundationEssentials
public import MartletModel
import MartletTLSOpenSSL

extension AggregateName {
    /// The tag of an event's metadata that holds the key of its aggregate: `aggregate_key`.
    public static let keyTag = ExactText("aggregate_key")

    /// The aggregate of that type whose id follows from a key, such as an order number.
    ///
    /// The id is a UUID of version 5 (RFC 9562). Its namespace is the tenant's UUID; the name is made of the bytes of the
    /// type, a zero byte, and the bytes of the key in UTF-8. The clients of all languages derive the same id. Keys are the
    /// same only if their bytes are: bring text that people type to one Unicode form first.
    ///
    /// - Parameter key: 1 to 512 bytes of UTF-8 without control characters (U+0000 to U+001F, U+007F to U+009F).
    /// - Throws: `INVALID_FIELD` that says what is wrong with the key.
    public init(type: AggregateType, key: String, tenant: TenantID) throws(MartletError) {
        try Self.check(key)
        let name = tenant.uuid.bytes + Array(type.text.utf8) + [0] + Array(key.utf8)
        guard var bytes = SHA1.digest(name).map({ Array($0.prefix(16)) }) else {
            throw MartletError(
                .internal, reason: .internalError, message: "OpenSSL cannot compute SHA-1 for the id of a key")
        }
        bytes[6] = bytes[6] & 0x0F | 0x50
        bytes[8] = bytes[8] & 0x3F | 0x80
        guard let id = UUID(bytes: bytes) else { throw .wrongAnswer }
        self.init(type: type, id: id)
    }

    private static func check(_ key: String) throws(MartletError) {
        guard !key.isEmpty else { throw .invalidField("key", "is empty: a key has 1 to 512 bytes of UTF-8") }
        guard key.utf8.count <= 512 else {
            throw .invalidField("key", "has \(key.utf8.count) bytes of UTF-8: a key has at most 512")
        }
        for scalar in key.unicodeScalars where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) {
            let digits = String(scalar.value, radix: 16, uppercase: true)
            let number = String(repeating: "0", count: 4 - digits.count) + digits
            throw .invalidField("key", "has a control character, U+\(number): remove it")
        }
    }
}

/// An aggregate of a tenant: what ``Tenant`` appends to and loads. ``Tenant/aggregate(_:key:)`` and
/// ``Tenant/aggregate(_:id:)`` make one.
public struct AggregateReference: Hashable, Sendable, CustomStringConvertible {
    /// The tenant that it belongs to.
    public let tenant: TenantID
    /// Its type and id.
    public let name: AggregateName
    /// The key that its id follows from; nil if it was made from an id. ``Tenant`` adds it to the metadata of each event
    /// that it appends, as the tag ``AggregateName/keyTag``.
    public let key: ExactText?

    init(tenant: TenantID, name: AggregateName, key: String? = nil) {
        self.tenant = tenant
        self.name = name
        self.key = key.map { ExactText($0) }
    }

    /// Its id, unique within the tenant and type.
    public var id: UUID { name.id }

    /// `type/id`.
    public var description: String { name.description }

    /// Its name, for a call of that tenant.
    /// - Throws: if it belongs to another one, where its key would lead to another id.
    func name(for tenant: TenantID) throws(MartletError) -> AggregateName {
        guard tenant == self.tenant else {
            throw .invalidField("aggregate", "\(name) belongs to tenant \(self.tenant), not to \(tenant)")
        }
        return name
    }
}

extension RecordedEvent {
    /// The key of the event's aggregate, if the event was appended through an aggregate that was named by its key.
    public var aggregateKey: String? { event.metadata.tags[AggregateName.keyTag] }
}
