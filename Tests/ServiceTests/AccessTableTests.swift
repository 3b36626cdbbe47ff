import NIOCore
import FoundationEssentials
import MartletAccess
import MartletModel
import Testing

@Suite struct AccessTableTests {
    private let own = TenantID(UUID(high: 1, low: 1))
    private let other = TenantID(UUID(high: 1, low: 2))

    @Test func aPrincipalMayUseItsTenantsOnly() throws {
        let aggregate = AggregateName(type: AggregateType("order"), id: UUID(high: 2, low: 1))
        let principal = Principal(identity: "CN=a", tenants: .only([own]))
        let name = try #require(ConsumerName("mails"))
        let worker = try #require(WorkerName("mailer"))
        func requests(_ tenant: TenantID) -> [CallRequest] {
            let consumer = ConsumerID(tenant: tenant, name: name)
            return [
                .append(AppendRequest(tenant: tenant, aggregates: [])),
                .load(LoadRequest(tenant: tenant, aggregate: aggregate)), .read(ReadRequest(tenant: tenant)),
                .subscribe(SubscribeRequest(tenant: tenant)), .getHead(tenant),
                .saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: tenant, aggregate: aggregate, version: Version(1),
                        snapshot: NewSnapshot(payload: .init()))),
                .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: aggregate)),
                .listSnapshots(tenant, aggregate),
                .deleteSnapshots(DeleteSnapshotsRequest(tenant: tenant, aggregate: aggregate)),
                .putSettings(PutSettingsRequest(tenant: tenant, kind: .upcasters, document: .init())),
                .getSettings(tenant, .upcasters), .putConsumer(PutConsumerRequest(consumer, ConsumerDefinition())),
                .getConsumer(consumer), .listConsumers(ListConsumersRequest(tenant: tenant)),
                .deleteConsumer(consumer), .resetConsumer(ResetConsumerRequest(consumer, start: .head)),
                .listBlockedKeys(ListBlockedKeysRequest(consumer)),
                .unblockKeys(UnblockKeysRequest(consumer, keys: [])),
                .awaitConsumer(AwaitConsumerRequest(consumer, position: Position(1))),
                .consume(ConsumeRequest(consumer, worker: worker)),
            ]
        }
        for request in requests(own) { #expect(AccessTable.refusal(of: request, to: principal) == nil) }
        for request in requests(other) {
            #expect(AccessTable.refusal(of: request, to: principal)?.reason == .tenantNotAllowed)
            #expect(AccessTable.refusal(of: request, to: .anybody) == nil)
        }
        for request in [CallRequest.getStatus, .getServerInfo] {
            #expect(AccessTable.refusal(of: request, to: principal) == nil)
        }
    }

    @Test func onlyWhoMayUseAllTenantsSeesTheirActivity() {
        #expect(AccessTable.statusView(of: .anybody) == .whole)
        #expect(AccessTable.statusView(of: Principal(identity: "CN=a", tenants: .only([own]))) == .health)
    }

    @Test func aCertificateNamesTenantsByItsURIs() throws {
        let uri = "spiffe://example.org/tenant/\(own)"
        #expect(
            try Principal.certificate(subject: "CN=a", uris: ["https://example.org", uri])
                == Principal(identity: "CN=a", tenants: .only([own])))
        for uris in [
            [], ["spiffe://example.org/tenant/1"], ["spiffe:///tenant/\(own)"], [uri + "/x"],
            // Foundation reads a UUID from it, and another one than it says.
            ["spiffe://example.org/tenant/111111-1-1111-4111-8111-11111111111a"],
            // The mark and the slash after it are one character, but two segments of the name.
            ["spiffe://example\u{603}/x.org/tenant/\(own)"],
        ] {
            #expect(throws: MartletError.self) { try Principal.certificate(subject: "CN=a", uris: uris) }
        }
    }
}
