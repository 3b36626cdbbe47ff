import MartletTesting
import Testing

@testable import MartletStorageSQLite

/// What an operator can do with a consumer one of whose rows is damaged.
@Suite struct DamagedConsumerTests {
    @Test(arguments: DamagedSlot.statements + ["UPDATE consumer_slots SET slot = -1 WHERE slot = 0"])
    func aConsumerWithADamagedSlotCanBeResetAndDeleted(_ statement: String) throws {
        let bench = try Bench()
        try DamagedSlot.check(bench.engine, of: bench.tenant) { try RawDatabase(bench.path).run(statement) }
    }
}
