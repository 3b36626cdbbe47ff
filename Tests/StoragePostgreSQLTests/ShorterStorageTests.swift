import FoundationEssentials
import MartletModel
import MartletStorage
import MartletTesting
import Testing

@testable import MartletStoragePostgreSQL

/// A database that has come back with fewer events than a reader was told of.
@Suite(.blocking, .needsPostgres) struct ShorterStorageTests {
    @Test func aPageSaysHowFarTheEventsGo() throws {
        let bench = try Bench()
        let writer = bench.engine().makeWriter()
        for _ in 0..<10 { try writer.append(.sample(tenant: bench.tenant)) }
        let reader = bench.engine().makeReader()
        func page(after: UInt64, _ filter: EventFilter = .all) throws(StorageError) -> EventPage {
            var bounds = PageBounds(bytesMax: 1 << 20)
            bounds.marksEnd = true
            return try reader.page(
                of: bench.tenant, positions: PageRange(after: Position(after), to: Position(20)), filter: filter,
                bounds: bounds)
        }
        let some = try page(after: 5)
        #expect(some.count == 5 && some.scannedTo == Position(10) && some.endEventID != nil)
        let none = try page(after: 10)
        #expect(none.count == 0 && none.scannedTo == Position(10))
        // With a filter nobody knows whether what is missing would have matched.
        let filter = EventFilter(eventTypes: [EventType("Never")])
        let error = refusal { () throws(StorageError) in _ = try page(after: 5, filter) }
        #expect(error?.kind == .historyChanged)
    }
}
