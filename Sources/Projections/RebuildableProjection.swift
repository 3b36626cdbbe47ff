public import MartletModel

/// A projection whose tables the library makes, so that it can build them anew beside those that are in use.
///
/// The tables of generation 3 are `balances_g3` and so on; a view `balances` shows readers those of the live generation. A
/// handler asks for the name of the table that it is to write to: ``ProjectedEvent/table(_:)``. ``ProjectionRebuilder``
/// builds the next generation and switches to it.
public protocol RebuildableProjection: Projection {
    /// The projection's tables. A handler writes to no others.
    var tables: [ProjectionTable] { get }

    /// The version of what the handler does and of ``tables``, from 1: raise it with each change that calls for a rebuild.
    ///
    /// A generation belongs to the version that built it. A runner of a higher version waits until a generation of its
    /// version is live; one of a lower version ends with an error.
    var version: Int { get }

    /// Called when the tables of a generation are made, in the same transaction: fills in rows that no event brings, grants
    /// rights, and so on.
    func prepare(_ generation: ProjectionGeneration, in transaction: any ProjectionTransaction) async throws
}

extension RebuildableProjection {
    /// 1.
    public var version: Int { 1 }

    /// Does nothing.
    public func prepare(_ generation: ProjectionGeneration, in transaction: any ProjectionTransaction) async throws {}
}

/// A projection of which one key can be rebuilt alone (``ProjectionRebuilder/rebuild(_:)``): its rows belong to one key each.
public protocol KeyRebuildableProjection: RebuildableProjection {
    /// Deletes all rows that the tenant's events of that key have brought, and none of another key's. Tenants may have the same
    /// keys.
    func reset(
        _ key: ConsumerKey, of tenant: TenantID, generation: ProjectionGeneration,
        in transaction: any ProjectionTransaction
    ) async throws
}

/// A table of a projection.
public struct ProjectionTable: Hashable, Sendable {
    /// Length of the longest name, in bytes.
    public static let nameBytesMax = 40

    /// The name that readers use: ``nameBytesMax`` bytes of `[a-z0-9_]` at most, not beginning with a digit.
    public var name: String
    /// The columns and constraints, as they stand between the brackets of `CREATE TABLE`.
    public var columns: String
    /// Columns of each index, as they stand between the brackets of `CREATE INDEX`.
    public var indexes: [String]
    /// The columns that ``ProjectionRebuilder/verify(rowsMax:)`` compares, separated by commas: nil is all of them. Leave out
    /// those that a replay fills with other values, such as a time of insertion.
    public var comparedColumns: String?

    /// A table of those parts.
    public init(_ name: String, _ columns: String, indexes: [String] = [], comparing comparedColumns: String? = nil) {
        self.name = name
        self.columns = columns
        self.indexes = indexes
        self.comparedColumns = comparedColumns
    }

    /// Throws a `ProjectionRebuildError` for names that no table can have.
    static func check(_ tables: [ProjectionTable]) throws {
        var names: Set<String> = []
        for table in tables {
            let bytes = Array(table.name.utf8)
            let isName =
                !bytes.isEmpty && bytes.count <= nameBytesMax && !(0x30...0x39).contains(bytes[0])
                && bytes.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
            guard isName, !table.name.hasPrefix("martlet_") else {
                throw ProjectionRebuildError(
                    .declaration,
                    "\"\(table.name)\" cannot be the name of a projection's table: it needs 1 to \(nameBytesMax) bytes of "
                        + "[a-z0-9_], no digit at the start, and not the prefix martlet_")
            }
            guard names.insert(table.name).inserted else {
                throw ProjectionRebuildError(.declaration, "the projection declares the table \(table.name) twice")
            }
        }
        guard !tables.isEmpty else {
            throw ProjectionRebuildError(
                .declaration, "the projection declares no table: a rebuild would build nothing")
        }
    }
}

/// A generation of a projection's tables.
public struct ProjectionGeneration: Hashable, Sendable {
    /// From 1; nil for a projection that makes its tables itself.
    public let number: Int64?

    init(_ number: Int64?) { self.number = number }

    /// The name under which this generation has a table: `balances_g3`; without a number the name itself.
    public func table(_ name: String) -> String { number.map { "\(name)_g\($0)" } ?? name }
}

/// Why a projection could not be rebuilt, verified or run.
public struct ProjectionRebuildError: Error, Hashable, CustomStringConvertible {
    /// What has happened.
    public enum Kind: Hashable, Sendable {
        /// The projection's ``RebuildableProjection/tables`` cannot be made.
        case declaration
        /// An event failed that has to be taken in. What was built so far is kept, and the next call goes on at this event.
        case event(Position, of: TenantID)
        /// The read model has events of a tenant whose consumer is not there, or that tenant cannot be left out. The message
        /// says what to do.
        case tenant(TenantID)
        /// A later call has taken over the generation that this one was building.
        case takenOver
        /// The live generation is of another ``RebuildableProjection/version``.
        case version
        /// There is no generation to go back to.
        case nothingKept
    }

    /// What has happened.
    public var kind: Kind
    /// The same for a person, with what to do.
    public var message: String

    init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
