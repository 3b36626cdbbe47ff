import FoundationEssentials
import MartletModel
import MartletSession
import NIOCore
import Testing

@testable import MartletClient

/// The stream of a worker of many tenants' consumers, frame by frame.
@Suite(.timeLimit(.minutes(1))) struct TenantsStreamTests {
    private let a = Sample.tenant(1)
    private let b = Sample.tenant(2)
    private let c = Sample.tenant(3)

    private func assigned(_ tenant: TenantID, _ epoch: UInt64, slots: Range<Int> = 0..<2) -> CallMessage {
        .consumeOf(
            tenant, .assigned(slots.map { ConsumeMessage.Slot(number: $0, epoch: epoch, checkpoint: .start) }))
    }

    private func events(_ tenant: TenantID, _ numbers: ClosedRange<UInt64>, slot: Int = 0) throws -> CallMessage {
        .consumeOf(
            tenant,
            .events(
                try Sample.entries(Array(numbers)),
                numbers.map {
                    .init(number: $0, slot: slot, attempt: 1, mayBeRepeated: false, key: ConsumerKey(bytes: [7]))
                }))
    }

    /// The next replies; other frames in between are passed over.
    private func replies(_ server: FakeServer) async throws -> [WorkerReply] {
        while true {
            if case .replies(let replies) = try await server.frame().frame.body { return replies }
        }
    }

    @Test func deliveriesOfAllTenantsAreNumberedTogether() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let request = try Sample.work(of: [a, b], epochAbove: 7)
                let worker = TenantsWorker(client.consume(request, windowBytes: 5_000))
                async let taken = worker.take(5)
                let call = try await server.call()
                #expect(call.request == .consumeTenants(request))
                #expect(call.frame.creditBytes == 5_000 && call.frame.timeoutMillis == 0)
                call.send(.consume(.joined([a, b])))
                call.send(assigned(a, 8))
                call.send(assigned(b, 9, slots: 0..<1))
                call.send(try events(a, 1...2))
                call.send(try events(b, 3...4))
                call.send(try events(a, 5...5, slot: 1))
                let events = try await taken
                #expect(events.map(\.tenant) == [a, a, b, b, a])
                #expect(events.map(\.event.epoch) == [8, 8, 9, 9, 8])
                #expect(events.map(\.event.delivery.number) == [1, 2, 3, 4, 5])
                worker.consumption.acknowledge(upTo: events[2].event.delivery)
                worker.consumption.reject(events[3].event.delivery, .park, reason: "bad")
                worker.consumption.acknowledge(events[4].event.delivery)
                var said: [WorkerReply] = []
                while said.count < 3 { said += try await replies(server) }
                #expect(
                    said == [
                        .acknowledge(3, upTo: true), .reject(4, .park, reason: "bad"), .acknowledge(5, upTo: false),
                    ])
            }
        }
    }

    @Test func aLostConnectionTakesTheSlotsOfEachTenant() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TenantsWorker(client.consume(try Sample.work(of: [])))
                async let taken = worker.take(2)
                let first = try await server.call()
                // The last has no slots for this worker.
                first.send(.consume(.joined([c, b, a])))
                first.send(assigned(b, 1, slots: 3..<4))
                first.send(assigned(a, 1))
                first.send(.consumeOf(c, .assigned([])))
                first.send(try events(b, 1...1, slot: 3))
                first.send(try events(a, 2...2))
                let old = try await taken
                while await worker.epochs[c] != [:] { try await worker.next() }
                await first.connection.close()
                #expect(try await worker.next() == .of(a, .revoked([0, 1])))
                #expect(try await worker.next() == .of(b, .revoked([3])))
                async let joined = worker.next()
                let second = try await server.call()
                second.send(.consume(.joined([b])))
                #expect(try await joined == .joined([b]))
                second.send(assigned(b, 2, slots: 0..<1))
                second.send(try events(b, 1...1))
                let new = try await worker.take(1)[0].event
                #expect(new.epoch == 2 && new.delivery != old[0].event.delivery)
                // What is said of the first stream comes too late.
                worker.consumption.acknowledge(upTo: old[1].event.delivery)
                worker.consumption.acknowledge(new.delivery)
                #expect(try await replies(server) == [.acknowledge(1, upTo: false)])
                await worker.leave()
                while try await server.frame().frame != ClientFrame(second.frame.callID, .cancel) {}
            }
        }
    }

    @Test func aTenantIsLeftAndJoinedAgainAndOthersComeLater() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TenantsWorker(client.consume(try Sample.work(of: [])))
                async let first = worker.next()
                let call = try await server.call()
                call.send(.consume(.joined([])))
                #expect(try await first == .joined([]), "of no tenant at first")
                call.send(.consume(.joined([a])))
                call.send(assigned(a, 1))
                try await worker.hold(slots: 2, of: [a])
                let gone = Sample.error(.consumerNotFound, .notFound, isRetryable: false)
                call.send(.consumeOf(a, .left(gone)))
                #expect(try await worker.next() == .left(a, gone))
                call.send(.consume(.joined([a, b])))
                call.send(assigned(b, 4))
                call.send(assigned(a, 5))
                try await worker.hold(slots: 2, of: [a, b])
                call.send(try events(a, 1...1, slot: 1))
                let taken = try await worker.take(1)
                #expect(taken[0].tenant == a && taken[0].event.epoch == 5)
                call.send(.consumeOf(a, .left(Sample.error(.storageUnavailable))))
                #expect(try await worker.next() == .left(a, Sample.error(.storageUnavailable)))
                // It has no slots of that one that could be revoked.
                await call.connection.close()
                #expect(try await worker.next() == .of(b, .revoked([0, 1])))
            }
        }
    }

    /// What a server says that it must not say.
    enum Fault: CaseIterable, Sendable {
        case eventsOfATenantThatWasLeft
        case slotsOfATenantThatWasNotJoined
        case aTenantThatIsJoinedTwice
        case tooManyTenants
        case aSlotOfAnotherTenant
        case aSlotBeyondAll
        case leavingTwice
    }

    @Test(arguments: Fault.allCases) func aServerThatIsWrongEndsIt(_ fault: Fault) async throws {
        var limits = Limits()
        limits.tenantsPerStreamMax = 2
        try await withServer(limits: limits) { server, setup in
            try await setup.run { client in
                let worker = TenantsWorker(client.consume(try Sample.work(of: [])))
                async let first = worker.next()
                let call = try await server.call()
                call.send(.consume(.joined([a])))
                #expect(try await first == .joined([a]))
                call.send(assigned(a, 1))
                try await worker.hold(slots: 2, of: [a])
                let gone = CallMessage.consumeOf(
                    a, .left(Sample.error(.consumerNotFound, .notFound, isRetryable: false)))
                let word: String
                switch fault {
                case .eventsOfATenantThatWasLeft:
                    call.send(gone)
                    call.send(try events(a, 1...1))
                    word = "\(a)"
                case .slotsOfATenantThatWasNotJoined:
                    call.send(assigned(b, 1))
                    word = "\(b)"
                case .aTenantThatIsJoinedTwice:
                    call.send(.consume(.joined([a])))
                    word = "\(a)"
                case .tooManyTenants:
                    call.send(.consume(.joined([b, c])))
                    word = "the 2 that"
                case .aSlotOfAnotherTenant:
                    call.send(.consume(.joined([b])))
                    call.send(assigned(b, 1, slots: 1..<2))
                    call.send(try events(b, 1...1, slot: 0))
                    word = "slot 0"
                case .aSlotBeyondAll:
                    call.send(assigned(a, 1, slots: 1_024..<1_025))
                    word = "slot 1024"
                case .leavingTwice:
                    call.send(gone)
                    call.send(gone)
                    word = "\(a)"
                }
                let error = await failure { while try await worker.next() != nil {} }
                #expect(error?.reason == .badFrame && error?.message.contains(word) == true, "\(error as Any)")
                #expect(try await worker.next() == nil)
                while try await server.frame().frame != ClientFrame(call.frame.callID, .cancel) {}
            }
        }
    }

    @Test func aWorkerOfOneTenantJoinsNoOthers() async throws {
        for message in [
            CallMessage.consume(.joined([a])),
            .consumeOf(Sample.tenant, .left(Sample.error(.consumerNotFound, .notFound, isRetryable: false))),
            .consumeOf(Sample.tenant, .assigned([])),
        ] {
            try await withServer { server, setup in
                try await setup.run { client in
                    let worker = TestWorker(client.consume(try Sample.work()))
                    async let held: Void = worker.hold(slots: 1)
                    let call = try await server.call()
                    call.send(
                        .consume(.assigned([ConsumeMessage.Slot(number: 0, epoch: 1, checkpoint: .start)])))
                    try await held
                    call.send(message)
                    let error = await failure { while try await worker.next() != nil {} }
                    #expect(error?.reason == .badFrame, "\(error as Any)")
                }
            }
        }
    }

    @Test func aWorkerOfManyTenantsIsToldOfEachTenantsCredit() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TenantsWorker(client.consume(try Sample.work(of: []), windowBytes: 1_000))
                async let held: Void = worker.hold(slots: 2, of: [a, b])
                let call = try await server.call()
                call.send(.consume(.joined([a, b])))
                call.send(assigned(a, 1))
                call.send(assigned(b, 1))
                try await held
                call.send(.consumeOf(a, .waits(creditBytes: 2_000)))
                #expect(try await server.frame().frame == ClientFrame(call.frame.callID, .credit(1_000)))
                // Another tenant's event goes first: what it took comes back at once, for that one still waits.
                let small = try events(b, 1...1)
                call.send(small)
                #expect(try await worker.take(1)[0].tenant == b)
                #expect(
                    try await server.frame().frame == ClientFrame(call.frame.callID, .credit(small.entryBytes)))
            }
        }
    }

    @Test func aConsumptionIsIteratedOnce() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let consumption = client.consume(try Sample.work(of: []))
                _ = consumption.makeAsyncIterator()
                let again = await failure { for try await _ in consumption {} }
                #expect(again?.code == .failedPrecondition)
            }
        }
    }

    @Test func creditThatIsHeldComesBackWhenItIsGivenBack() async throws {
        try await withServer { server, setup in
            var setup = setup
            setup.configuration.subscriptionWindowBytes = 1_000
            try await setup.run { client in
                let worker = TenantsWorker(client.consumeHoldingCredit(try Sample.work(of: [])))
                async let taken = worker.take(2)
                let call = try await server.call()
                #expect(call.frame.creditBytes == 1_000)
                call.send(.consume(.joined([a, b])))
                for (number, tenant) in [(1, a), (2, b)] as [(UInt64, TenantID)] {
                    call.send(assigned(tenant, 1))
                    call.send(try events(tenant, number...number))
                }
                let events = try await taken.map(\.event)
                call.send(.consumeOf(a, .waits(creditBytes: 1_000)))
                call.connection.send(ServerFrame(.connection, .ping(9)))
                #expect(try await server.frame().frame.body == .pong(9), "nothing is granted before it is given back")
                worker.consumption.giveBack(events)
                let bytes = events.reduce(0) { $0 + $1.creditBytes }
                #expect(try await server.frame().frame == ClientFrame(call.frame.callID, .credit(UInt64(bytes))))
            }
        }
    }
}
