import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import Testing

/// A transaction that stays open over a slot, as that of a handler that does not return, holds back that slot alone.
@Suite(.timeLimit(.minutes(2))) struct LockedSlotTests {
    @Test(.enabled(if: PostgresTestDatabase.isAvailable))
    func otherSlotsAreTakenOver() async throws {
        let harness = try await RebuildHarness(.postgresql)
        let accounts = UInt64(0)..<20
        let others = accounts.filter { harness.slot(of: $0) != 0 }
        #expect(others.count < accounts.count, "some are of the slot")
        try await harness.with { client in
            for account in accounts { try await harness.append(account, client) }
            try await harness.takeIn(client)
            let isLocked = NIOLockedValueBox(false)
            let isFreed = NIOLockedValueBox(false)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await harness.readModels.withTransaction { transaction in
                        _ = try await transaction.execute(
                            "UPDATE martlet_projection_slots SET position = position WHERE slot = 0")
                        isLocked.withLockedValue { $0 = true }
                        // PostgreSQL ends what is idle for 30 s.
                        for _ in 0..<2_500 where !isFreed.withLockedValue({ $0 }) {
                            try await Task.sleep(for: .milliseconds(10))
                        }
                    }
                }
                while !isLocked.withLockedValue({ $0 }) { try await Task.sleep(for: .milliseconds(10)) }
                for account in accounts { try await harness.append(account, client) }
                try await harness.whileRunning(client) {
                    var count: Int64 = 0
                    for _ in 0..<1_800 where count < Int64(accounts.count + others.count) {
                        try await Task.sleep(for: .milliseconds(10))
                        count =
                            try await harness.readModels.rows("SELECT count(*) FROM ledger_effects")[0][0].integer ?? 0
                    }
                    #expect(count == Int64(accounts.count + others.count), "all but those of the locked slot")
                    isFreed.withLockedValue { $0 = true }
                    try await harness.awaitHead(client)
                }
                try await group.waitForAll()
            }
            try await harness.expectAll(client)
        }
    }
}
