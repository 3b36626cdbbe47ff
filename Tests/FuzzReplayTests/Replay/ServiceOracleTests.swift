import MartletModel
import MartletSession
import NIOCore
import Testing

@testable import MartletService

/// What the target `service` complains about, when a service does it: here the test speaks in the service's place.
@Suite struct ServiceOracleTests {
    private static let settings = CallMessage.settings(SettingsDocument(document: ByteBuffer(), revision: 0))

    /// The complaint after `body`, if any.
    private func complaint(_ body: (ServiceWorld, ServicePeer) throws -> Void) throws -> String? {
        var old = Input([])
        let world = try ServiceWorld(old: OldData(&old))
        defer { world.release() }
        do {
            try body(world, world.peers[0])
            try world.runToRest()
            return nil
        } catch let finding as Finding {
            return finding.description
        }
    }

    /// Starts a call that storage does not answer yet; returns its key.
    private func start(_ peer: ServicePeer) throws -> CallKey {
        try peer.start(
            .getSettings(ServiceWorld.tenants[0], .snapshotPolicies), timeoutMillis: 0, creditBytes: 0)
        return try #require(peer.open.first).rawValue
    }

    @Test func aCallThatIsAnsweredIsNoComplaint() throws {
        #expect(try complaint { _, peer in _ = try start(peer) } == nil)
        #expect(try complaint { world, _ in try world.finish() } == nil)
    }

    /// Of a connection that is in its place still, and of one that another one replaced.
    @Test(arguments: [false, true]) func nothingMayComeAfterTheConnectionsEnd(_ isReplaced: Bool) throws {
        for isStatus in [false, true] {
            let found = try complaint { world, peer in
                let call = try start(peer)
                if isReplaced { world.reopen(peer) } else { peer.close() }
                if isStatus { peer.end(call, nil) } else { peer.send(Self.settings, of: call, isLast: true) }
            }
            #expect(found == "call 1 got something after the connection's end")
        }
    }

    @Test func aCallEndsOnce() throws {
        let answered = try complaint { _, peer in
            let call = try start(peer)
            peer.send(Self.settings, of: call, isLast: true)
            peer.send(Self.settings, of: call, isLast: true)
        }
        #expect(answered == "a message of call 1, which is not open")
        let ended = try complaint { _, peer in
            let call = try start(peer)
            peer.end(call, Sample.error)
            peer.end(call, Sample.error)
        }
        #expect(ended == "call 1 ended, but is not open")
    }

    @Test func noFrameIsAboveItsLimit() throws {
        let limit = ServiceWorld.limits.frameBytesMax
        let found = try complaint { _, peer in
            let document = ByteBuffer(repeating: 32, count: limit)
            peer.send(
                .settings(SettingsDocument(document: document, revision: 0)), of: try start(peer), isLast: true)
        }
        #expect(found?.hasSuffix("bytes, the limit is \(limit)") == true)
    }
}
