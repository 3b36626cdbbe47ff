import FoundationEssentials
import MartletModel

extension ConformanceSuite {
    static let raceClauses: [ConformanceClause] = [
        ConformanceClause(
            "race.exact", "Of 16 racing appends with the same exact version exactly one wins, in each of 50 rounds."
        ) { s in
            let order = s.aggregate()
            for round in 0..<50 {
                let winners = try await race(s, order, .exact(Version(UInt64(round))))
                try requireEqual(winners, 1, "the winners of round \(round)")
            }
            try requireEqual(try await s.load(order).view.version, Version(50), "the version")
        },
        ConformanceClause("race.none", "Of 16 racing appends that expect no events exactly one wins.") { s in
            for round in 0..<10 {
                let winners = try await race(s, s.aggregate(), .none)
                try requireEqual(winners, 1, "the winners of round \(round)")
            }
        },
        ConformanceClause(
            "race.retry", "Of 16 racing calls with the same events one is stored, and the others are replayed."
        ) { s in
            let order = s.aggregate()
            let events = try s.events(2)
            let scenario = s
            let receipts = try await withThrowingTaskGroup(of: AppendReceipt.self) { group in
                for _ in 0..<16 { group.addTask { try await scenario.append(events, to: order, .none) } }
                var all: [AppendReceipt] = []
                for try await receipt in group { all.append(receipt) }
                return all
            }
            try requireEqual(receipts.count { !$0.replayed }, 1, "the calls that were stored")
            try requireEqual(Set(receipts.map(\.firstPosition)).count, 1, "the positions answered")
            try requireEqual(try await s.head().position, Position(2), "the head")
        },
        ConformanceClause("race.any", "Racing appends leave no gap in versions and positions, and lose nothing.") { s in
            let names = (0..<4).map { _ in s.aggregate() }
            let scenario = s
            let ids = try await withThrowingTaskGroup(of: [UUID].self) { group in
                for writer in 0..<8 {
                    group.addTask {
                        var ids: [UUID] = []
                        for round in 0..<25 {
                            let events = try scenario.events(1 + round % 3)
                            try await scenario.append(events, to: names[(writer + round) % 4])
                            ids += events.map(\.id)
                        }
                        return ids
                    }
                }
                var all: [UUID] = []
                for try await some in group { all += some }
                return all
            }
            let events = try await s.read().events
            try requireEqual(events.map(\.position.rawValue), Array(1...UInt64(ids.count)), "the positions")
            try requireEqual(Set(events.map(\.event.id)), Set(ids), "the ids")
            for name in names {
                let versions = events.filter { $0.aggregate == name }.map(\.version.rawValue)
                try requireEqual(versions, Array(1...UInt64(versions.count)), "the versions of \(name)")
            }
        },
        ConformanceClause("race.fate", "Appends that are committed together do not share a fate.") { s in
            let scenario = s
            let order = s.aggregate()
            try await s.append(try s.events(1), to: order)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<40 {
                    group.addTask {
                        let events = try scenario.events(1)
                        if index % 2 == 0 {
                            try await scenario.append(events, to: scenario.aggregate(), .none)
                        } else {
                            try await scenario.refused(.versionConflict) { () async throws(MartletError) in
                                try await scenario.append(events, to: order, .exact(Version(1_000)))
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            try requireEqual(try await s.head().position, Position(21), "the head")
        },
        ConformanceClause("race.tenants", "Tenants that append at once each have positions of their own.") { s in
            let scenario = s
            let tenants = (0..<5).map { _ in TenantID(UUID()) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for tenant in tenants {
                    group.addTask {
                        for round in 1...20 {
                            let receipt = try await scenario.append(
                                try scenario.events(1), to: scenario.aggregate(), tenant: tenant)
                            try requireEqual(receipt.firstPosition.rawValue, UInt64(round), "the position")
                        }
                    }
                }
                try await group.waitForAll()
            }
        },
    ]

    /// How many of 16 racing appends are accepted; the others must be refused with a conflict.
    private static func race(
        _ s: Scenario, _ aggregate: AggregateName, _ expected: ExpectedVersion
    ) async throws -> Int {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<16 {
                group.addTask {
                    let events = try s.events(1)
                    do throws(MartletError) {
                        try await s.append(events, to: aggregate, expected)
                        return true
                    } catch {
                        try requireEqual(error.reason, .versionConflict, "the reason")
                        return false
                    }
                }
            }
            var winners = 0
            for try await won in group where won { winners += 1 }
            return winners
        }
    }
}
