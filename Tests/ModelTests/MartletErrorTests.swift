import FoundationEssentials
import MartletModel
import Testing

@Suite struct MartletErrorTests {
    @Test func codesAreThoseOfGRPC() {
        let names = (UInt32(0)...16).map { StatusCode(rawValue: $0).description }
        #expect(names[0] == "OK" && names[3] == "INVALID_ARGUMENT" && names[10] == "ABORTED")
        #expect(names[14] == "UNAVAILABLE" && names[16] == "UNAUTHENTICATED")
        #expect(Set(names).count == 17)
        #expect(StatusCode(rawValue: 17).description == "17" && StatusCode(rawValue: .max).description == "4294967295")
    }

    @Test func anErrorNamesItsReasonAndWhatToDo() {
        let error = MartletError.limitExceeded("payload_bytes_max", limit: 10, actual: 12, "shorten it")
        #expect(error.description == "LIMIT_EXCEEDED: payload_bytes_max is 10, this call has 12: shorten it")
        #expect(error.limit == .init(name: "payload_bytes_max", limit: 10, actual: 12))
        #expect(error.code == .invalidArgument && !error.isRetryable)
        let field = MartletError.invalidField("tenant", "has 3 bytes: a UUID has 16")
        #expect(field.description == "INVALID_FIELD: tenant has 3 bytes: a UUID has 16" && field.limit == nil)
    }

    @Test func aRequestCountsItsEvents() throws {
        let request = AppendRequest(tenant: TenantID(UUID(high: 0, low: 1)), aggregates: [])
        #expect(request.eventCount == 0 && request.contentBytes == 0)
    }

    @Test func theBuffersOfARequestAreNoPartOfIt() {
        let request = AppendRequest(tenant: TenantID(UUID(high: 0, low: 1)), aggregates: [])
        var kept = request
        kept.heldBytes = 5_000
        #expect(kept.heldBytes == 5_000 && request.heldBytes == 0)
        #expect(kept == request && kept.hashValue == request.hashValue)
        kept.includeConflictingEvents = true
        #expect(kept != request)
    }
}
