import FoundationEssentials
import MartletClient
import MartletModel
import MartletStorageMemory
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

@Suite struct TenantTests {
    struct OrderPlaced: EventPayload, Equatable {
        static let eventType: EventType = "OrderPlaced"
        var customer: String
        var at: Date?
    }

    struct OrderPaid: EventPayload {
        static let eventType: EventType = "OrderPaid"
        static let schemaVersion: UInt32 = 2
        var cents: Int
    }

    /// Stored as plain text.
    struct Noted: EventPayload {
        static let eventType: EventType = "Noted"
        static let contentType = "text/plain"
        var text: String

        init(_ text: String) { self.text = text }
        init(payload: ByteBuffer) throws { text = String(buffer: payload) }
        func encodedPayload() throws -> ByteBuffer { ByteBuffer(string: text) }
    }

    private func with(_ body: @escaping @Sendable (Tenant) async throws -> Void) async throws {
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in try await body(client.tenant(TenantID(UUID()))) }
        }
    }

    @Test func eventsAreAppendedAndReadAsPayloads() async throws {
        try await with { tenant in
            let order = try tenant.aggregate("order", key: "A-17")
            let placed = OrderPlaced(customer: "Ada", at: Date(timeIntervalSince1970: 0.25))
            var metadata = EventMetadata()
            metadata.userID = "ada"
            metadata.tags = ["shop": "north"]
            let receipt = try await tenant.append(
                [placed, OrderPaid(cents: 5), Noted("héllo")], to: order, expecting: .none, metadata: metadata)
            #expect(receipt.lastPosition == 3)
            let other = tenant.aggregate("order", id: UUID())
            let payment = try NewEvent(OrderPaid(cents: 6), id: UUID(high: 3, low: 4))
            _ = try await tenant.append([payment], to: other, expecting: .none)
            #expect(try await tenant.append([payment], to: other, expecting: .none).replayed, "the same id again")

            var seen: [String] = []
            for try await event in try await tenant.load(order) {
                #expect(event.aggregateKey == "A-17" && event.event.metadata.userID == "ada")
                #expect(event.event.metadata.tags["shop"] == "north")
                switch try event.payload(as: OrderPlaced.self, OrderPaid.self) {
                case let event as OrderPlaced: seen.append("\(event == placed)")
                case let event as OrderPaid: seen.append("\(event.cents)")
                default: seen.append(try event.payload(as: Noted.self)?.text ?? "?")
                }
            }
            #expect(seen == ["true", "5", "héllo"])
            let older = try await tenant.load(order, after: 1, asOf: .version(2))
            #expect(older.view.version == 2)
            for try await event in older { #expect(event.version == 2 && event.event.type == "OrderPaid") }
            var positions: [Position] = []
            for try await event in try await tenant.read(after: 1, where: .payloads(OrderPaid.self)) {
                positions.append(event.position)
                #expect((event.aggregateKey == nil) == (event.position == 4))
            }
            #expect(positions == [2, 4])
            #expect(try await tenant.head().position == 4)
        }
    }

    @Test func aPayloadOfAnotherVersionSaysSo() async throws {
        try await with { tenant in
            let event = NewEvent(type: "OrderPaid", schemaVersion: 1, payload: ByteBuffer(string: #"{"cents":1}"#))
            let damaged = NewEvent(type: "OrderPlaced", payload: ByteBuffer(string: #"{"customer":7}"#))
            let order = tenant.aggregate("order", id: UUID())
            _ = try await tenant.append([event, damaged], to: order, expecting: .any)
            for try await event in try await tenant.load(order) {
                #expect(throws: EventUndecodable.self) { try event.payload(as: OrderPaid.self, OrderPlaced.self) }
                #expect(try event.payload(as: Noted.self) == nil)
            }
        }
    }

    @Test func anAggregateOfAnotherTenantIsRefused() async throws {
        try await with { tenant in
            let foreign = tenant.client.tenant(TenantID(UUID()))
            let order = try foreign.aggregate("order", key: "A-17")
            await #expect(throws: MartletError.self) {
                try await tenant.append([OrderPaid(cents: 1)], to: order, expecting: .any)
            }
            await #expect(throws: MartletError.self) { try await tenant.load(order) }
        }
    }

    @Test func eventsComeAsTheyAreAppended() async throws {
        try await with { tenant in
            let order = tenant.aggregate("order", id: UUID())
            _ = try await tenant.append([Noted("1"), Noted("2")], to: order, expecting: .none)
            var texts: [String] = []
            for try await event in tenant.events(after: 1) {
                texts.append(try event.payload(as: Noted.self)?.text ?? "?")
                if texts.count == 4 { break }
                let next = Int(event.position.rawValue) + 1
                _ = try await tenant.append([Noted("\(next)")], to: order, expecting: .any)
            }
            #expect(texts == ["2", "3", "4", "5"])
            var signals: [String] = []
            for try await item in tenant.events(from: .after(4), where: .payloads(Noted.self)).items {
                switch item {
                case .started: signals.append("started")
                case .events(let events, _): signals.append("\(events.count)")
                case .caughtUp: signals.append("caught up")
                default: break
                }
                if signals.last == "caught up" { break }
            }
            #expect(signals.first == "started" && signals.last == "caught up" && signals.contains("1"))
        }
    }

    @Test func eventsGoOnAfterTheLastOneUnlessItIsAnotherOne() async throws {
        try await with { tenant in
            let order = tenant.aggregate("order", id: UUID())
            let events = try [NewEvent(Noted("1")), NewEvent(Noted("2"))]
            _ = try await tenant.append(events, to: order, expecting: .none)
            func first(after last: EventMark?) async throws -> Position? {
                for try await event in tenant.events(after: last) {
                    #expect(event.mark == EventMark(position: event.position, eventID: event.event.id))
                    return event.position
                }
                return nil
            }
            #expect(try await first(after: nil) == 1)
            #expect(try await first(after: EventMark(position: 1, eventID: events[0].id)) == 2)
            let error = await #expect(throws: MartletError.self) {
                try await first(after: EventMark(position: 1, eventID: events[1].id))
            }
            #expect(error?.reason == .historyChanged)
        }
    }

    @Test func settingsComeFromTheEnvironment() throws {
        let id = "11111111-1111-4111-8111-111111111111"
        let environment = [
            "MARTLET_SERVER": "[::1]:7000", "MARTLET_CA": "ca.pem", "MARTLET_CERT": "c.pem", "MARTLET_KEY": "",
            "MARTLET_TENANT": id,
        ]
        let read = try ClientConfiguration(environment: environment)
        #expect(read.host == "::1" && read.port == 7000 && read.tls.serverName == "::1")
        #expect(read.tls.caFile == "ca.pem" && read.tls.certificateFile == "c.pem" && read.tls.privateKeyFile == nil)
        #expect(read.tenant?.description == id)
        let given = try ClientConfiguration(
            server: "events.example.com:1", tls: .ca("other.pem"), tenant: TenantID(UUID(high: 1, low: 1)),
            environment: environment)
        #expect(given.host == "events.example.com" && given.tls.caFile == "other.pem")
        #expect(given.tenant == TenantID(UUID(high: 1, low: 1)))
        let none = try ClientConfiguration(environment: [:])
        #expect(none.host == "127.0.0.1" && none.port == 7311 && none.tls.caFile == nil && none.tenant == nil)
        for wrong in [["MARTLET_SERVER": "7311"], ["MARTLET_SERVER": "a:b"], ["MARTLET_TENANT": "me"]] {
            #expect(throws: SettingError.self, "\(wrong)") { try ClientConfiguration(environment: wrong) }
        }
        let client = MartletClient(configuration: none, logger: .silent)
        #expect(throws: SettingError.self) { try client.tenant() }
    }
}
