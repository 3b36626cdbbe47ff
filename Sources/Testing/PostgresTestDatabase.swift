import Foundation

/// The database that tests have, as `MARTLET_TEST_POSTGRES` names it, and a schema in it that nobody else uses.
public struct PostgresTestDatabase: Sendable {
    /// Whether there is one.
    public static var isAvailable: Bool { environment != nil }
    /// What to do where there is none.
    public static let advice = "MARTLET_TEST_POSTGRES names no database: run the tests by make test"

    private static let environment = ProcessInfo.processInfo.environment["MARTLET_TEST_POSTGRES"]

    /// The database's URL.
    public let url: String
    /// The schema's name.
    public let schema = "t" + UUID().uuidString.lowercased().filter { $0 != "-" }

    /// A new schema.
    public init() throws {
        guard let url = Self.environment else { throw ConformanceFailure(Self.advice) }
        self.url = url
    }
}
