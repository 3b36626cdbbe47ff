import MartletProjections
import MartletTesting
import Testing

@testable import MartletProjectionsSQLite

/// Prepared statements of a read model in SQLite.
@Suite struct StatementTests {
    @Test func theOneThatWasNotUsedForLongestGoes() {
        var recent = RecentlyUsed<Int>(countMax: 3)
        for number in 1...3 { #expect(recent.insert(number, for: "\(number)") == nil) }
        #expect(recent.use("1") == 1)
        #expect(recent.insert(4, for: "4") == 2)
        #expect(recent.use("2") == nil && recent.use("3") == 3)
        #expect(recent.insert(5, for: "5") == 1)
        #expect(recent.values.sorted() == [3, 4, 5] && recent.count == 3)
    }

    @Test(arguments: TestReadModels.Kind.available)
    func valuesAreFoundByTheirNumbers(_ kind: TestReadModels.Kind) async throws {
        let readModels = try await TestReadModels(kind)
        try await readModels.withTransaction { transaction in
            _ = try await transaction.execute("CREATE TABLE sums (account text PRIMARY KEY, cents bigint)")
            _ = try await transaction.execute("INSERT INTO sums VALUES ($2, $1)", .integer(1), .text("a"))
            _ = try await transaction.execute(
                "UPDATE sums SET cents = cents + $2 WHERE account = $1 AND cents < $2", .text("a"), .integer(4))
        }
        #expect(try await readModels.rows("SELECT * FROM sums") == [[.text("a"), .integer(5)]])
        let rows = (1...12).map { "$\($0)" }.reversed().joined(separator: ", ")
        try await readModels.withTransaction { transaction in
            let columns = (1...12).map { "c\($0) bigint" }.joined(separator: ", ")
            _ = try await transaction.execute("CREATE TABLE many (\(columns))")
            _ = try await transaction.execute("INSERT INTO many VALUES (\(rows))", (1...12).map { .integer($0) })
        }
        #expect(try await readModels.rows("SELECT * FROM many") == [(1...12).reversed().map { .integer($0) }])
        await #expect(throws: ProjectionDatabaseError.self) {
            try await readModels.withTransaction { try await $0.execute("SELECT $1", .integer(1), .integer(2)) }
        }
    }

    @Test func handlersThatWriteValuesIntoTheirStatementsLeaveFewOfThem() async throws {
        let folder = try TemporaryFolder()
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        _ = try await readModels.withTransaction { try await $0.execute("CREATE TABLE rows (number integer)") }
        for start in stride(from: 0, to: 1_000, by: 100) {
            try await readModels.withTransaction {
                for number in start..<start + 100 { try await $0.execute("INSERT INTO rows VALUES (\(number))") }
            }
            #expect(try await readModels.preparedCount() <= 64)
        }
        let rows = try await readModels.withTransaction {
            try await $0.execute("SELECT count(*), sum(number) FROM rows")
        }
        #expect(rows == [[.integer(1_000), .integer(499_500)]])
    }
}
