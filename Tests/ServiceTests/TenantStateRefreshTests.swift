import Foundation
import MartletModel
import NIOConcurrencyHelpers
import Testing

@testable import MartletService

/// Looking after the followed tenants.
@Suite struct TenantStateRefreshTests {
    private struct Asked {
        var tenants: [TenantID]
        var completion: @Sendable () -> Void
    }

    private let asked = NIOLockedValueBox<[Asked]>([])

    private func refresh(_ tenants: [TenantID]) -> TenantStateRefresh {
        TenantStateRefresh(
            tenants: { tenants },
            ask: { [asked] tenants, completion in
                asked.withLockedValue { $0.append(Asked(tenants: tenants.map(\.tenant), completion: completion)) }
            })
    }

    private func answer() -> [TenantID] {
        guard let next = asked.withLockedValue({ $0.isEmpty ? nil : $0.removeFirst() }) else { return [] }
        next.completion()
        return next.tenants
    }

    @Test func asksForSomeTenantsAtATime() {
        let tenants = (0..<700).map { _ in TenantID(UUID()) }
        refresh(tenants).begin()
        var all: [TenantID] = []
        for expected in [256, 256, 188] {
            #expect(asked.withLockedValue { $0.map(\.tenants.count) } == [expected], "one read at a time")
            all += answer()
        }
        #expect(all == tenants && answer().isEmpty)
    }

    @Test func isOneRoundAtATimeAndOneMoreForAllWhoAskedMeanwhile() {
        let refresh = refresh((0..<300).map { _ in TenantID(UUID()) })
        for _ in 0..<10 { refresh.begin() }
        var reads = 0
        while !answer().isEmpty { reads += 1 }
        #expect(reads == 4, "two rounds of two reads")
        refresh.begin()
        #expect(answer().count == 256 && answer().count == 44)
    }

    @Test func namedTenantsComeBeforeTheRestOfARound() {
        let all = (0..<600).map { _ in TenantID(UUID()) }
        let refresh = refresh(all)
        refresh.begin()
        let named = all[599]
        for _ in 0..<10 { refresh.begin([named]) }
        #expect(answer() == Array(all[..<256]))
        #expect(answer() == [named], "once, however often it is named")
        #expect(answer() == Array(all[256..<512]))
        #expect(answer() == Array(all[512...]) && answer().isEmpty)
    }

    @Test func asksNothingWhereNobodyIsFollowed() {
        let refresh = refresh([])
        for _ in 0..<3 { refresh.begin() }
        #expect(asked.withLockedValue { $0.isEmpty })
    }
}
