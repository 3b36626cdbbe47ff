import Benchmark
import MartletModel
import MartletStorage
import MartletSubscriptions
import NIOCore
import NIOEmbedded

/// One who waits at the head, takes what comes and waits again. Used by the one thread that owns the loop.
private final class Reader: FeedWaiter, @unchecked Sendable {
    let eventLoop: any EventLoop
    private let feed: TenantFeed
    private var position = Position.start
    private(set) var received = 0

    init(_ feed: TenantFeed, _ eventLoop: any EventLoop) {
        self.feed = feed
        self.eventLoop = eventLoop
    }

    func wait() { _ = feed.arm(self, after: position) }

    func wake() {
        let pulled = feed.pull(after: position, filter: .all, bytesMax: Samples.limits.pageBytesMax, scanMax: .max)
        if case .page(let page, _) = pulled {
            received += page.count
            position = page.lastPosition ?? position
        }
        wait()
    }
}

/// A commit of one event until every subscriber has it in hand.
func hubBenchmarks() {
    for (readers, operations) in [(1, 1_000), (100, 200)] {
        Benchmark.micro(
            "hub-publish-to-\(readers)-waiting-and-pull", operations: operations,
            {
                let hub = EventHub(limits: Samples.limits)
                let loop = EmbeddedEventLoop()
                let feed = hub.follow(Samples.tenant)
                let waiting = (0..<readers).map { _ in Reader(feed, loop) }
                for reader in waiting { reader.wait() }
                return (hub: hub, loop: loop, readers: waiting, runs: try Samples.runs(operations, events: 1))
            },
            { state, index in
                state.hub.publish(state.runs[index])
                state.loop.run()
                guard state.readers.allSatisfy({ $0.received == index + 1 }) else {
                    throw Samples.Failure("a reader missed run \(index)")
                }
            })
    }
}
