public import MartletModel
import MartletSession
import NIOConcurrencyHelpers

/// The events that a load or a read answers, in the order asked for, all from one view.
///
/// They come in as they are taken: at most ``ClientConfiguration/streamWindowBytes`` wait in the client. When the
/// connection is lost the stream goes on from where it was, in the same view. It is iterated once; leaving the loop, or
/// letting go of the stream, cancels the call.
public struct EventStream<View: Sendable>: AsyncSequence, Sendable {
    /// Events, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var pages: EventPages<View>.Iterator
        private var page: ArraySlice<RecordedEvent> = []

        fileprivate init(_ pages: EventPages<View>.Iterator) { self.pages = pages }

        /// The next event; nil at the end.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> RecordedEvent? {
            while page.isEmpty {
                guard let next = try await pages.next(isolation: actor) else { return nil }
                page = next[...]
            }
            return page.popFirst()
        }
    }

    /// What the events are read from.
    public let view: View
    /// The same events, as they came over the wire: in pages of 1 or more.
    public var pages: EventPages<View> { EventPages(batches) }
    /// The same pages, not decoded: for those who look at few of the events, or only pass them on.
    public let batches: EventBatches<View>

    init(view: View, batches: EventBatches<View>) {
        self.view = view
        self.batches = batches
    }

    /// Takes the events out of the stream; a second iterator throws.
    public func makeAsyncIterator() -> Iterator { Iterator(pages.makeAsyncIterator()) }
}

/// The events of an ``EventStream`` in pages.
public struct EventPages<View: Sendable>: AsyncSequence, Sendable {
    /// Pages, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var batches: EventBatches<View>.Iterator

        fileprivate init(_ batches: EventBatches<View>.Iterator) { self.batches = batches }

        /// The next page, of 1 or more events; nil at the end.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> [RecordedEvent]? {
            try await batches.next(isolation: actor)?.decoded()
        }
    }

    private let batches: EventBatches<View>

    init(_ batches: EventBatches<View>) { self.batches = batches }

    /// Takes the pages out of the stream; a second iterator throws.
    public func makeAsyncIterator() -> Iterator { Iterator(batches.makeAsyncIterator()) }
}

/// The events of an ``EventStream`` as they came over the wire, not decoded.
public struct EventBatches<View: Sendable>: AsyncSequence, Sendable {
    /// Batches, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var source: Source

        fileprivate init(_ source: Source) { self.source = source }

        /// The next batch, of 1 or more events; nil at the end.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> EventBatch? {
            try await source.next()
        }
    }

    /// What is left of the stream.
    enum Source: Sendable {
        case load(first: EventBatch, QueryReader<LoadProgress>)
        case read(first: EventBatch, QueryReader<ReadProgress>)
        case taken
    }

    private let source: NIOLockedValueBox<Source>

    init(_ source: Source) { self.source = NIOLockedValueBox(source) }

    /// Takes the batches out of the stream; a second iterator throws.
    public func makeAsyncIterator() -> Iterator {
        Iterator(
            source.withLockedValue { source in
                defer { source = .taken }
                return source
            })
    }
}

extension EventBatches.Source {
    mutating func next() async throws(MartletError) -> EventBatch? {
        switch self {
        case .load(let first, var reader):
            defer { self = .load(first: .none, reader) }
            return try await reader.nextBatch(first)
        case .read(let first, var reader):
            defer { self = .read(first: .none, reader) }
            return try await reader.nextBatch(first)
        case .taken:
            throw MartletError(
                .failedPrecondition, reason: .cancelled,
                message: "a stream can be iterated only once: load or read again")
        }
    }
}

extension QueryReader {
    fileprivate mutating func nextBatch(_ first: EventBatch) async throws(MartletError) -> EventBatch? {
        guard first.isEmpty else { return first }
        while let part = try await nextPart() {
            if !part.events.isEmpty { return part.events }
        }
        return nil
    }

    /// Reads to the first part, which carries the view.
    mutating func begin() async throws(MartletError) -> (events: EventBatch, view: Progress.View) {
        guard let part = try await nextPart(), let view = part.view else { throw .wrongAnswer }
        return (part.events, view)
    }
}

extension MartletClient {
    /// Reads the events of one aggregate. An aggregate without events answers version 0 and no events.
    /// - Parameter timeout: of the whole stream; nil means that only its beginning is bounded, by
    ///   ``ClientConfiguration/requestTimeout``.
    public func load(
        _ request: LoadRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> EventStream<LoadView> {
        var reader = QueryReader(self, LoadProgress(request), request: .load(request), timeout: timeout)
        let first = try await reader.begin()
        return EventStream(view: first.view, batches: EventBatches(.load(first: first.events, reader)))
    }

    /// Reads a tenant's events by position.
    /// - Parameter timeout: of the whole stream; nil means that only its beginning is bounded, by
    ///   ``ClientConfiguration/requestTimeout``.
    public func read(
        _ request: ReadRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> EventStream<ReadView> {
        var reader = QueryReader(self, ReadProgress(request), request: .read(request), timeout: timeout)
        let first = try await reader.begin()
        return EventStream(view: first.view, batches: EventBatches(.read(first: first.events, reader)))
    }
}
