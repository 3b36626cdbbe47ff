import MartletModel
import MartletStorage
import MartletTesting

/// The whole service in memory: an input is a script of what several connections of several tenants do, and of when
/// storage, the event loops and the clock go on.
///
/// The service starts no threads here (``EventService/startByHand(engine:limits:serverVersion:clock:uptime:logger:)``):
/// storage's work is done where the script says so, so that a call can be cancelled in each of its states, and an input
/// always does the same. What must hold is in ``ServiceWorld`` and ``ServicePeer``:
/// - no frame is larger than the limit, and each is one that a client takes (``ServicePeer``);
/// - every call ends once, never after its connection is closed, and at the latest when its peer takes all that comes
///   (``ServicePeer``, ``ServiceWorld/finish()``);
/// - no account is ever above its bound (``ServiceWorld/checkAccounts()``), and all are empty when every connection is
///   closed (``ServiceWorld/checkNothingIsHeld()``).
enum ServiceScript {
    /// Steps that one input takes at most.
    private static let stepsMax = 100

    static func run(_ bytes: [UInt8]) throws {
        var input = Input(bytes)
        let world = try ServiceWorld(old: OldData(&input))
        defer { world.release() }
        var steps = 0
        while !input.isAtEnd, steps < stepsMax {
            steps += 1
            try step(&input, world)
            try world.checkAccounts()
        }
        try world.finish()
    }

    private static func step(_ input: inout Input, _ world: ServiceWorld) throws {
        let choice = input.byte()
        let peer = world.peers[Int(choice >> 5) % world.peers.count]
        switch choice & 31 {
        case 0...18: try start(ServiceRequests.request(&input, Int(choice & 31), world), &input, peer)
        case 19: try peer.cancel(input.number(below: 8))
        case 20: try peer.grant(input.number(below: 8), bytes: 1 << UInt64(input.number(below: 20)))
        case 21: try peer.setWritable(!peer.isWritable)
        case 22: world.advance(millis: 1 << Int64(input.number(below: 14)))
        case 23: _ = world.hands.commitOne()
        case 24: _ = world.hands.readOne()
        case 25: world.runLoops()
        case 26: try world.runToRest()
        case 27: peer.drain()
        case 28: world.reopen(peer)
        case 29: fail(&input, world)
        // Many at once: queues and pools are full sooner.
        default:
            let count = input.number(below: 32)
            let request = ServiceRequests.request(&input, input.number(below: 19), world)
            for _ in 0..<count { try start(request, &input, peer) }
        }
        try peer.check()
    }

    /// Storage fails from now on, or no more.
    private static func fail(_ input: inout Input, _ world: ServiceWorld) {
        switch input.number(below: 8) {
        case 0: world.engine.failReads(true)
        case 1: world.engine.failCommits(.unavailable, count: 2)
        case 2: world.engine.failCommits(.full, count: 1)
        case 3: world.engine.failCommits(.unknownAfterCommit, count: 1)
        case 4: world.engine.failCommits(.unknownWithoutCommit, count: 1)
        default:
            world.engine.failReads(false)
            world.engine.failCommits(.none)
        }
    }

    private static func start(_ request: CallRequest, _ input: inout Input, _ peer: ServicePeer) throws {
        let flags = input.byte()
        let credit: UInt64 = flags & 3 == 3 ? 1 << 40 : UInt64(flags & 3) * 3_000
        try peer.start(request, timeoutMillis: flags & 4 == 0 ? 0 : UInt32(flags), creditBytes: credit)
    }
}
