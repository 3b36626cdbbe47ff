import Foundation
import MartletModel
import NIOConcurrencyHelpers
import Testing

@testable import MartletService

/// Looking after the followed tenants.
@Suite struct TenantStateRefreshTests {
    private struct Asked {
        var tenants: [TenantID]
        var completion: @Sendable (Bool) -> Void
    }

    private let asked = NIOLockedValueBox<[Asked]>([])

    private func refresh(_ tenants: [TenantID]) -> TenantStateRefresh {
        TenantStateRefresh(
            tenants: { tenants },
            ask: { [asked] tenants, completion in
                asked.withLockedValue { $0.append(Asked(tenants: tenants.map(\.tenant), completion: completion)) }
            })
    }

    private func answer(isDone: Bool = true) -> [TenantID] {
        guard let next = asked.withLockedValue({ $0.isEmpty ? nil : $0.removeFirst() }) else { return [] }
        next.completion(isDone)
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

    /// A run that contradicts the past is published once: nobody else says so again.
    @Test func aPastThatIsOverIsNotForgottenByAFailure() {
        let asked = NIOLockedValueBox<[TenantStateRefresh.Asked]>([])
        let fails = NIOLockedValueBox(3)
        let refresh = TenantStateRefresh(
            tenants: { [] },
            ask: { some, completion in
                asked.withLockedValue { $0 += some }
                completion(
                    fails.withLockedValue { left in
                        left -= 1
                        return left < 0
                    })
            })
        let tenant = TenantID(UUID())
        refresh.begin(tenant, after: 7)
        #expect(asked.withLockedValue { $0.count } == 1, "not again at once, where storage is out of reach")
        for _ in 0..<5 { refresh.begin() }
        let expected = TenantStateRefresh.Asked(tenant: tenant, overPast: 7)
        #expect(asked.withLockedValue { $0 } == [expected, expected, expected, expected])
    }

    @Test func asksNothingWhereNobodyIsFollowed() {
        let refresh = refresh([])
        for _ in 0..<3 { refresh.begin() }
        #expect(asked.withLockedValue { $0.isEmpty })
    }
}
