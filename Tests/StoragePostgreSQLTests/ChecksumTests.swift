import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// What was changed in the database behind the server's back is never delivered.
@Suite(.blocking, .needsPostgres) struct ChecksumTests {
    @Test func aChangedPayloadIsNeverDelivered() throws {
        let bench = try Bench()
        let name = AggregateName.new()
        let requests = try (0..<3).map { _ in
            try AppendRequest.of([.sample(#""payload-before""#)], to: name, tenant: bench.tenant)
        }
        let writer = bench.engine().makeWriter()
        for request in requests { try writer.append(request) }
        try bench.run(
            "UPDATE events SET record = overlay(record PLACING 'PAYLOAD+' FROM octet_length(record) - 12) "
                + "WHERE position = 2")
        try expectNoDelivery(bench, name, of: 2)
        let error = refusal { () throws(StorageError) in try writer.append(requests[1]) }
        #expect(error?.kind == .corrupted && error?.description.contains("position 2") == true)
        #expect(try writer.append(requests[2])?.replayed == true)
    }

    /// Rows that say another place than their records, and rows that are not there.
    @Test(arguments: [
        "UPDATE events SET version = version + 10 WHERE position = 2",
        "UPDATE events SET aggregate_no = 2 WHERE position = 2", "DELETE FROM events WHERE position = 2",
        "UPDATE events SET record = (SELECT record FROM events WHERE position = 1) WHERE position = 2",
    ])
    func aRowInAnotherPlaceIsNeverDelivered(_ sql: String) throws {
        let bench = try Bench()
        let name = AggregateName.new()
        let writer = bench.engine().makeWriter()
        for _ in 0..<3 { try writer.append(.sample(to: name, tenant: bench.tenant)) }
        try writer.append(.sample(tenant: bench.tenant))
        try bench.run(sql)
        let reader = bench.engine().makeReader()
        let error = refusal { () throws(StorageError) in
            _ = try reader.page(
                of: name, in: bench.tenant, versions: PageRange(after: .none, to: .max),
                bounds: PageBounds(bytesMax: 1 << 20))
        }
        #expect(error?.kind == .corrupted, "\(sql): \(String(describing: error))")
    }

    private func expectNoDelivery(_ bench: Bench, _ name: AggregateName, of position: UInt64) throws {
        let reader = bench.engine().makeReader()
        let tenant = bench.tenant
        for direction: Direction in [.forward, .backward] {
            let after = direction == .forward ? position - 1 : 0
            let to = direction == .forward ? position + 1 : position
            for bytesMax in [1, 1 << 20] {
                let bounds = PageBounds(direction: direction, bytesMax: bytesMax)
                for filter in [EventFilter.all, EventFilter(aggregateTypes: [name.type])] {
                    let error = refusal { () throws(StorageError) in
                        _ = try reader.page(
                            of: tenant, positions: PageRange(after: Position(after), to: Position(to)), filter: filter,
                            bounds: bounds)
                    }
                    #expect(error?.kind == .corrupted && error?.description.contains("position \(position)") == true)
                }
                let error = refusal { () throws(StorageError) in
                    _ = try reader.page(
                        of: name, in: tenant, versions: PageRange(after: Version(after), to: Version(to)),
                        bounds: bounds)
                }
                #expect(error?.kind == .corrupted && error?.description.contains("version \(position)") == true)
            }
        }
    }
}
