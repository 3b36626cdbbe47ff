import FoundationEssentials
import MartletModel

/// Whose events are in a read model: those of one consumer, or those of the consumers that tenants have under one name.
enum ProjectionScope: Sendable {
    case one(ConsumerID)
    case all(ConsumerName)

    /// A tenant's id in the first characters of `projection`, before the slash.
    private static let tenantLength = 36

    var name: ConsumerName {
        switch self {
        case .one(let consumer): consumer.name
        case .all(let name): name
        }
    }

    /// What stands in `projection` of the rows that there are once for all tenants.
    var pointer: String {
        switch self {
        case .one(let consumer): ProjectionProgress(consumer).projection
        case .all(let name): "*/\(name)"
        }
    }

    /// Has a statement one of whose values is ``value(of:)`` find the rows of each tenant.
    /// - Parameter number: which of its values.
    func matches(_ number: Int = 1) -> String {
        switch self {
        case .one: "projection = $\(number)"
        case .all: "substr(projection, \(Self.tenantLength + 1)) = $\(number)"
        }
    }

    /// What ``matches`` looks for: the rows of the live generation, or those that another one has of slots and keys.
    func value(of generation: ProjectionGeneration? = nil) -> SQLValue {
        let suffix = generation.map(Self.suffix) ?? ""
        return switch self {
        case .one: .text(pointer + suffix)
        case .all(let name): .text("/\(name)\(suffix)")
        }
    }

    /// What stands behind `projection` in the rows that a generation which is not live has of slots and keys. No consumer has
    /// an @ in its name.
    static func suffix(_ generation: ProjectionGeneration) -> String { "@\(generation.number ?? 0)" }

    /// The tenant of a row of its own.
    static func tenant(of projection: String) -> TenantID? {
        UUID(text: projection.prefix(tenantLength)).map { TenantID($0) }
    }
}
