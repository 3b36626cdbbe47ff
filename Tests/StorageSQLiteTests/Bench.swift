import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
@testable import MartletStorageSQLite

/// A file of its own, and an engine on it.
struct Bench {
    let folder: TemporaryFolder
    let path: String
    let engine: SQLiteEngine
    let writer: any StorageWriter
    let tenant = TenantID(UUID())

    init(prepares: Bool = true, rangesHeldMax: Int = 20) throws {
        // SQLite runs on the disk that can fail, in all of these tests.
        guard FaultyDisk.install() else { throw BenchFailure("SQLite took no VFS") }
        folder = try TemporaryFolder()
        path = folder.path + "/data/m.db"
        engine = SQLiteEngine(file: DatabaseFile(path: path, rangesHeldMax: rangesHeldMax), logger: .silent)
        writer = engine.makeWriter()
        if prepares { try engine.prepare() }
    }

    /// What the file says of itself.
    func pragma(_ name: String) throws -> String? {
        try SQLiteConnection(path: path, creates: false).text("PRAGMA \(name)")
    }

    /// Checks that the tenant holds exactly these events, in order and without a gap, and the file is sound.
    func holds(_ ids: [UUID], _ reader: (any StorageReader)? = nil) throws -> Bool {
        let events = try (reader ?? engine.makeReader()).events(of: tenant)
        let isSound = try pragma("integrity_check") == "ok"
        return isSound && events.map(\.event.id) == ids
            && events.map(\.position.rawValue) == ids.indices.map { UInt64($0) + 1 }
    }
}

struct BenchFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

extension AppendRequest {
    /// The ids of its events, in order.
    var ids: [UUID] { aggregates.flatMap { $0.events.map(\.id) } }
}

/// What storage refuses with; nil where it does not.
func refusal(_ body: () throws(StorageError) -> Void) -> StorageError? {
    do throws(StorageError) {
        try body()
        return nil
    } catch { return error }
}
