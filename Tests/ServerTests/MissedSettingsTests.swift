import FoundationEssentials
import MartletClient
import MartletModel
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Settings come into force although the read that was to bring them into force failed.
@Suite struct MissedSettingsTests {
    @Test func subscriptionsGetThemAllTheSame() async throws {
        let engine = FaultyEngine(MemoryEngine())
        let tenant = TenantID(UUID())
        let placed = try #require(EventType("Placed"))
        let rename = #"{"rename":{"path":"/n","to":"count","required":true}}"#
        let upcasters = #"{"upcasters":[{"event":"Placed","from":1,"operations":[\#(rename)]}]}"#
        let order = AggregateName.new()
        let seen = NIOLockedValueBox(0)
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                try await withThrowingTaskGroup(of: Bool.self) { group in
                    group.addTask {
                        for try await item in client.subscribe(SubscribeRequest(tenant: tenant)) {
                            guard case .events(let events, _) = item else { continue }
                            seen.withLockedValue { $0 += events.count }
                            if events.contains(where: { $0.event.schemaVersion == 2 }) { return true }
                        }
                        return false
                    }
                    group.addTask {
                        _ = try await client.append(
                            [NewEvent(type: placed, payload: ByteBuffer(string: #"{"n":1}"#))], to: order,
                            expecting: .any, tenant: tenant)
                        // Now it knows the settings of before.
                        while seen.withLockedValue({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(1)) }
                        engine.failReads(count: 1)
                        let request = PutSettingsRequest(
                            tenant: tenant, kind: .upcasters, document: ByteBuffer(string: upcasters))
                        try await client.putSettings(request)
                        for _ in 0..<500 {
                            _ = try await client.append(
                                [NewEvent(type: placed, payload: ByteBuffer(string: #"{"n":1}"#))], to: order,
                                expecting: .any, tenant: tenant)
                            try await Task.sleep(for: .milliseconds(10))
                        }
                        return false
                    }
                    let isFound = try await group.next()
                    #expect(isFound == true, "no event came under the new settings")
                    group.cancelAll()
                }
            }
        }
    }
}
