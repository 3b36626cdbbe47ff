import FoundationEssentials
import MartletClient
import MartletModel
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// The events that a conflict carries are those that a load would bring.
@Suite struct ConflictUpcastTests {
    @Test func conflictingEventsComeInTodaysSchema() async throws {
        let tenant = TenantID(UUID())
        let order = AggregateName(type: AggregateType("order"), id: UUID())
        let placed = EventType("Placed")
        @Sendable func event(_ payload: String) -> NewEvent {
            NewEvent(type: placed, payload: ByteBuffer(string: payload))
        }
        let rename = #"{"rename":{"path":"/n","to":"count","required":true}}"#
        let upcasters = #"{"upcasters":[{"event":"Placed","from":1,"operations":[\#(rename)]}]}"#
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .upcasters, document: ByteBuffer(string: upcasters)))
                _ = try await client.append(
                    [event(#"{"n":1}"#), event("{}"), event(#"{"n":3}"#)], to: order, expecting: .none, tenant: tenant)
                let error = await #expect(throws: MartletError.self) {
                    try await client.append(
                        [NewAggregateEvents(aggregate: order, expected: .none, events: [event("{}")])], tenant: tenant,
                        includeConflictingEvents: true)
                }
                #expect(error?.reason == .versionConflict && error?.conflicts.first?.eventsTruncated == false)
                let events = try #require(try error?.decodedConflictEvents()[order])
                #expect(events.map(\.event.schemaVersion) == [2, 1, 2])
                #expect(events.map { String(buffer: $0.event.payload) } == [#"{"count":1}"#, "{}", #"{"count":3}"#])
                #expect(events.map { $0.upcastFailure != nil } == [false, true, false], "one that fails is marked")
            }
        }
    }
}
