/// A value of a row, or a parameter of a statement.
public enum SQLValue: Hashable, Sendable {
    /// NULL.
    case null
    /// A number without a fraction, or a truth value: 0 or 1.
    case integer(Int64)
    /// A number.
    case real(Double)
    /// Text; also what a database has no simpler kind for, as it prints it: dates, numerics, UUIDs.
    case text(String)
    /// Bytes.
    case bytes([UInt8])

    /// The number; nil for another kind.
    public var integer: Int64? { if case .integer(let value) = self { value } else { nil } }

    /// The text; nil for another kind.
    public var text: String? { if case .text(let value) = self { value } else { nil } }

    /// The bytes; nil for another kind.
    public var bytes: [UInt8]? { if case .bytes(let value) = self { value } else { nil } }
}

/// An open transaction of a read model's database. Used by one task at a time, and only within
/// ``ProjectionDatabase/withTransaction(_:)``.
public protocol ProjectionTransaction: Sendable {
    /// Runs one statement.
    /// - Parameters:
    ///   - sql: its parameters are `$1`, `$2` and so on, each of them once, in this order.
    ///   - values: the parameters.
    /// - Returns: the rows.
    @discardableResult
    func execute(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]]
}

extension ProjectionTransaction {
    /// Runs one statement.
    /// - Parameters:
    ///   - sql: its parameters are `$1`, `$2` and so on, each of them once, in this order.
    ///   - values: the parameters.
    /// - Returns: the rows.
    @discardableResult
    public func execute(_ sql: String, _ values: SQLValue...) async throws -> [[SQLValue]] {
        try await execute(sql, values)
    }
}

/// Where a read model is: PostgreSQL or SQLite, by ``PostgreSQLReadModels``, ``SQLiteReadModels`` or an adapter to the
/// client that the program uses already.
///
/// An adapter must keep three promises: a transaction commits as a whole or not at all; what it has read of a row that it
/// writes has not been changed meanwhile by others (PostgreSQL's READ COMMITTED will do, as the row is locked by the first
/// statement); and a transaction whose program has vanished ends by itself, in PostgreSQL by
/// `idle_in_transaction_session_timeout` and keepalives.
public protocol ProjectionDatabase: Sendable {
    /// What a handler writes with.
    associatedtype Transaction: ProjectionTransaction

    /// The name of the database's type for bytes: `bytea` or `blob`.
    var bytesType: String { get }

    /// A statement that bounds for how long the statements after it in a transaction wait for locks; nil where the database
    /// does that by itself. A switch of generations begins with it: readers that hold a table for long then hold up the
    /// switch only, which is tried again, and not whoever comes after it.
    var lockTimeoutStatement: String? { get }

    /// Runs `body` in a transaction of its own: committed when it returns, rolled back when it throws. Transactions of
    /// several tasks run at the same time, or one after the other.
    func withTransaction<Result: Sendable>(
        _ body: @Sendable (Transaction) async throws -> Result
    ) async throws -> Result
}

extension ProjectionDatabase {
    /// Nil.
    public var lockTimeoutStatement: String? { nil }
}

/// What a database cannot do.
public struct ProjectionDatabaseError: Error, Hashable, CustomStringConvertible {
    /// What is wrong, in the database's words.
    public var message: String
    /// The same transaction may succeed later: the connection was lost, or another transaction was in the way. An adapter
    /// that does not tell has events count as failed, and parked in the end, which only wait for their database.
    public var isTransient: Bool

    /// An error of those parts.
    public init(_ message: String, isTransient: Bool) {
        self.message = message
        self.isTransient = isTransient
    }

    /// The message.
    public var description: String { message }
}
