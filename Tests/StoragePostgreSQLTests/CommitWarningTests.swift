import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// A warning of the database as it commits.
@Suite(.blocking, .needsPostgres) struct CommitWarningTests {
    @Test func isAnOpenOutcome() throws {
        let bench = try Bench()
        let writer = try bench.writer()
        let first = try AppendRequest.sample(tenant: bench.tenant)
        try writer.append(first)
        try bench.beforeEachCommit("RAISE WARNING 'this may not last'")
        var stored = first.ids
        for _ in 0..<3 {
            let request = try AppendRequest.sample(tenant: bench.tenant)
            let error = refusal { () throws(StorageError) in try writer.append(request) }
            #expect(error?.kind == .outcomeUnknown, "\(String(describing: error))")
            #expect(error?.description.contains("this may not last") == true)
            stored += request.ids
        }
        try bench.beforeEachCommit("NULL")
        let last = try AppendRequest.sample(tenant: bench.tenant)
        #expect(try writer.append(last)?.lastPosition == Position(5))
        #expect(try bench.holds(stored + last.ids))
    }

    @Test(arguments: ["NOTICE", "INFO", "LOG", "DEBUG"]) func whatIsLessThanAWarningIsNone(_ level: String) throws {
        let bench = try Bench()
        try bench.beforeEachCommit("RAISE \(level) 'all is well'")
        #expect(try bench.writer().append(try .sample(tenant: bench.tenant)) != nil)
    }

    @Test func aWarningOfAStatementBeforeIsNoneOfTheCommit() throws {
        let bench = try Bench()
        try bench.run(
            """
            CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE WARNING 'an event'; RETURN NULL; END $$;
            CREATE TRIGGER warn AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION warn();
            """)
        let writer = try bench.writer()
        let name = AggregateName.new()
        for _ in 0..<4 { #expect(try writer.append(try .sample(3, to: name, tenant: bench.tenant)) != nil) }
        #expect(writer.optimisticCommits == 3)
    }
}
