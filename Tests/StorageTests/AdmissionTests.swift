import MartletModel
import MartletStorage
import Testing

/// Rules that came after the first events bind only what is not stored yet.
@Suite struct AdmissionTests {
    private static let error = MartletError.invalidField("events[0]", "is against a new rule")

    private func refused(_ request: AppendRequest) -> AppendRequest {
        var request = request
        request.admission = .refused(Self.error)
        return request
    }

    @Test func whatIsNotStoredIsRefusedAndNothingIsWritten() throws {
        var ledger = Ledger()
        let request = Sample.request(1, [try Sample.part(1, .none, [10, 11])])
        #expect(try ledger.commit([refused(request)]) == [.refused(Self.error)])
        #expect(ledger.rows.isEmpty)
        // Its fate is its own, in a batch, too.
        let other = Sample.request(1, [try Sample.part(2, .none, [20])])
        let outcomes = try ledger.commit([other, refused(request), request])
        #expect(outcomes[1] == .refused(Self.error))
        #expect(outcomes[0].receipt != nil && outcomes[2].receipt?.replayed == false)
    }

    @Test func aRetryOfWhatIsStoredIsAnsweredForEver() throws {
        var ledger = Ledger()
        let request = Sample.request(1, [try Sample.part(1, .none, [10, 11])])
        let first = try #require(try ledger.commit([request])[0].receipt)
        try ledger.commit([Sample.request(1, [try Sample.part(1, .any, [12])])])
        let again = try #require(try ledger.commit([refused(request)])[0].receipt)
        #expect(again.replayed && again.firstPosition == first.firstPosition)
        // Within the batch that stores it, too.
        var fresh = Ledger()
        #expect(try fresh.commit([request, refused(request)])[1].receipt?.replayed == true)
    }

    @Test func aReusedIdIsToldBeforeTheRule() throws {
        var ledger = Ledger()
        try ledger.commit([Sample.request(1, [try Sample.part(1, .none, [10])])])
        let other = Sample.request(1, [try Sample.part(2, .none, [10])])
        #expect(try ledger.commit([refused(other)])[0].reused?.count == 1)
    }
}
