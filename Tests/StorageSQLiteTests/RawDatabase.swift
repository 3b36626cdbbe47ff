import CMartletSQLite
import Foundation
import MartletModel
import MartletStorage
import NIOCore
@testable import MartletStorageSQLite

/// A database as any other program would open it.
@safe final class RawDatabase {
    @unsafe private let database: OpaquePointer

    init(_ path: String) throws {
        var database: OpaquePointer?
        guard unsafe sqlite3_open(path, &database) == SQLITE_OK, let database = unsafe database else {
            throw BenchFailure("cannot open \(path)")
        }
        unsafe self.database = unsafe database
    }

    deinit { unsafe sqlite3_close_v2(database) }

    func run(_ sql: String) throws {
        guard unsafe sqlite3_exec(database, sql, nil, nil, nil) == SQLITE_OK else {
            throw BenchFailure("\(sql): \(unsafe String(cString: sqlite3_errmsg(database)))")
        }
    }
}

extension RawDatabase {
    /// Stores a run as the writer of the second schema did: numbers are places in these lists, from 1.
    func insertRows(of run: RecordedRun, _ tenants: [TenantID], _ names: [AggregateName]) throws {
        guard let tenant = tenants.firstIndex(of: run.tenant) else { throw BenchFailure("an unknown tenant") }
        var sql = """
            INSERT INTO tenants (no, id, position, recorded_at)
            VALUES (\(tenant + 1), \(Self.blob(run.tenant.uuid.bytes)), 0, 0) ON CONFLICT DO NOTHING;
            UPDATE tenants SET position = \(run.lastPosition.rawValue), recorded_at = \(run.recordedAt.microseconds)
            WHERE no = \(tenant + 1);
            """
        for (index, event) in run.events.enumerated() {
            guard let name = names.firstIndex(of: event.aggregate) else { throw BenchFailure("an unknown aggregate") }
            let no = tenant * names.count + name + 1
            let record = run.record(at: index)
            let key = try EventKeys.key(Int64(tenant + 1), Position(run.firstPosition.rawValue + UInt64(index)))
            sql += """
                INSERT INTO aggregates (no, tenant_no, type, id, version)
                VALUES (\(no), \(tenant + 1), '\(event.aggregate.type.text)', \(Self.blob(event.aggregate.id.bytes)), 0)
                ON CONFLICT DO NOTHING;
                UPDATE aggregates SET version = \(event.version.rawValue), bytes = bytes + \(record.readableBytes)
                WHERE no = \(no);
                INSERT INTO events (key, aggregate_no, version, recorded_at, tenant_no, event_id, type, record)
                VALUES (\(key), \(no),
                        \(event.version.rawValue), \(run.recordedAt.microseconds), \(tenant + 1),
                        \(Self.blob(event.id.bytes)), '\(event.type.text)', \(Self.blob(Array(record.readableBytesView))));
                """
        }
        try self.run("BEGIN; \(sql) COMMIT;")
    }

    private static func blob(_ bytes: [UInt8]) -> String {
        "x'" + bytes.map { String(format: "%02x", $0) }.joined() + "'"
    }
}
