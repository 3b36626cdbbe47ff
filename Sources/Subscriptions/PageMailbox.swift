import NIOConcurrencyHelpers
import NIOCore

/// How pages get from storage threads to the subscriptions of one event loop: those that come together, as a page does that
/// a thousand wait for, wake the loop once. A turn of the loop hands out a slice of them.
final class PageMailbox: Sendable {
    /// A page for a subscription.
    struct Page: Sendable {
        let subscription: SubscriptionDriver
        let feed: TenantFeed
        let brought: SubscriptionDriver.Brought
    }

    /// So many are handed out in one turn of the loop.
    private static let slicePages = 256

    let eventLoop: any EventLoop
    private let pages = NIOLockedValueBox<[Page]>([])

    init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Brings a page to its subscription; from any thread, in order.
    func deliver(_ page: Page) {
        let isFirst = pages.withLockedValue { pages in
            pages.append(page)
            return pages.count == 1
        }
        if isFirst { eventLoop.execute { self.handOut() } }
    }

    private func handOut() {
        let taken = pages.withLockedValue { pages in
            defer { pages = [] }
            return pages
        }
        handOut(taken[...])
    }

    private func handOut(_ pages: ArraySlice<Page>) {
        for page in pages.prefix(Self.slicePages) { page.subscription.take(page.brought, page.feed) }
        let rest = pages.dropFirst(Self.slicePages)
        if !rest.isEmpty { eventLoop.execute { self.handOut(rest) } }
    }
}
