import MartletEventSourcing
import NIOConcurrencyHelpers

/// What is made once for each type of aggregate: a codec, a repository.
final class TypeCache: Sendable {
    private let values = NIOLockedValueBox<[ObjectIdentifier: any Sendable]>([:])

    /// The value of that type; made if there is none yet, and by two tasks at once perhaps twice.
    func value<Value: Sendable>(_ make: () throws -> Value) rethrows -> Value {
        let key = ObjectIdentifier(Value.self)
        if let known = values.withLockedValue({ $0[key] }) as? Value { return known }
        let value = try make()
        values.withLockedValue { $0[key] = value }
        return value
    }

    func codec<A: Aggregate>(of type: A.Type) throws -> EventCodec<A> { try value { try EventCodec<A>() } }
}
