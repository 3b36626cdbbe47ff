import FoundationEssentials
public import MartletModel
public import MartletStorage

/// Where a load or a read stands. Events are immutable and only ever added, so that pages read one after the
/// other within a range that was fixed at the beginning are one consistent view.
public struct QueryCursor: Sendable {
    private enum Range: Sendable {
        case versions(AggregateName, PageRange<Version>)
        case positions(PageRange<Position>, EventFilter)
    }

    // In an order that leaves no gaps: a cursor is copied with each page, and one of more than 128 bytes by a call.
    /// The tenant's head when the view was fixed; nil where it is not known.
    private let head: EventMark?
    private let tenant: TenantID
    /// The event that the next page follows.
    private var lastEventID: UUID?
    private let direction: Direction
    /// The view was told before any event was read in it: the first page must be of the same past.
    private var provesHead = false
    /// Whether everything was read.
    public private(set) var isDone: Bool
    /// So many events are left to read at most.
    private var remaining: UInt64
    private var range: Range

    /// A cursor at the beginning of a load whose view was resolved.
    /// - Parameter head: the tenant's head by then.
    public init(_ request: LoadRequest, view: LoadView, head: TenantHead = .empty) {
        self.head = EventMark(head)
        tenant = request.tenant
        direction = request.direction
        range = .versions(request.aggregate, PageRange(after: request.after, to: view.version))
        remaining = request.eventsMax ?? .max
        isDone = request.after >= view.version
    }

    /// A cursor at the beginning of a read whose view was resolved.
    public init(_ request: ReadRequest, view: ReadView) {
        head = EventMark(view.head)
        tenant = request.tenant
        direction = request.direction
        range = .positions(PageRange(after: request.after, to: view.to), request.filter)
        remaining = request.eventsMax ?? .max
        isDone = request.after >= view.to
    }

    /// The view is told, and nothing was read in it.
    public mutating func viewTold() { provesHead = true }

    /// Reads the next page.
    /// - Throws: `historyChanged` where the storage has come back with another past since the view was fixed.
    public func read(
        _ reader: any StorageReader, bytesMax: Int, scanMax: Int
    ) throws(StorageError) -> EventPage {
        var bounds = PageBounds(
            direction: direction, eventsMax: Int(clamping: remaining), bytesMax: bytesMax,
            scanMax: scanMax, following: lastEventID)
        if provesHead, lastEventID == nil, let head {
            let place = EventPlace(tenant: tenant, position: head.position)
            guard try reader.eventIDs(at: [place])[0] == head.eventID else { throw .historyChanged }
        }
        switch range {
        case .versions(let aggregate, let range):
            let page = try reader.page(of: aggregate, in: tenant, versions: range, bounds: bounds)
            try check(page, lastNumber: page.lastVersion?.rawValue, after: range.after.rawValue, to: range.to.rawValue)
            return page
        case .positions(let range, let filter):
            bounds.marksEnd = lastEventID != nil || range.to.rawValue - range.after.rawValue > UInt64(clamping: scanMax)
            let page = try reader.page(of: tenant, positions: range, filter: filter, bounds: bounds)
            guard filter.isEmpty else { return page }
            try check(page, lastNumber: page.lastPosition?.rawValue, after: range.after.rawValue, to: range.to.rawValue)
            return page
        }
    }

    /// All events of a view were there when it was fixed.
    private func check(_ page: EventPage, lastNumber: UInt64?, after: UInt64, to: UInt64) throws(StorageError) {
        let isWhole: Bool
        switch direction {
        case .forward: isWhole = !page.isLast || lastNumber == to
        case .backward: isWhole = lastNumber.map { $0 + UInt64(page.count) - 1 == to } ?? false
        }
        guard isWhole else { throw .historyChanged }
    }

    /// Moves on past a page that ``read(_:bytesMax:scanMax:)`` gave.
    public mutating func advance(past page: EventPage) {
        if remaining < .max { remaining -= min(remaining, UInt64(page.count)) }
        isDone = page.isLast || remaining == 0
        lastEventID = page.endEventID
        switch range {
        case .versions(let aggregate, var range):
            guard let last = page.lastVersion else { return isDone = true }
            if direction == .forward { range.after = last } else { range.to = Version(max(1, last.rawValue) - 1) }
            self.range = .versions(aggregate, range)
            if range.after >= range.to { isDone = true }
        case .positions(var range, let filter):
            if direction == .forward {
                range.after = page.scannedTo
            } else {
                range.to = Position(max(1, page.scannedTo.rawValue) - 1)
            }
            self.range = .positions(range, filter)
            if range.after >= range.to { isDone = true }
        }
    }
}

/// Resolves what a query's target means now, with the head that the tenant has. What a caller gets wrong is a value.
public enum QueryResolution {
    /// The view that a load reads from.
    public static func view(
        of request: LoadRequest, head: TenantHead, now: Timestamp, reader: any StorageReader
    ) throws(StorageError) -> Result<LoadView, MartletError> {
        let position: Position
        switch request.target {
        case .now: position = head.position
        case .version(let version):
            let known =
                version > .none
                ? try reader.position(of: version, of: request.aggregate, in: request.tenant) : Position.start
            if let known { return .success(LoadView(version: version, position: known)) }
            position = head.position
        case .position(let asked):
            guard asked <= head.position else { return .failure(.beyondHead(asked, head)) }
            position = asked
        case .time(let time):
            guard time <= now else { return .failure(.timeInFuture(time, now)) }
            position = try reader.position(of: request.tenant, asOf: time)
        }
        let version = try reader.version(of: request.aggregate, in: request.tenant, asOf: position)
        return .success(LoadView(version: version, position: position))
    }

    /// The view that a read reads from.
    public static func view(
        of request: ReadRequest, head: TenantHead, now: Timestamp, reader: any StorageReader
    ) throws(StorageError) -> Result<ReadView, MartletError> {
        switch request.target {
        case .head: return .success(ReadView(to: head.position, head: head))
        case .position(let asked): return .success(ReadView(to: min(asked, head.position), head: head))
        case .time(let time):
            guard time <= now else { return .failure(.timeInFuture(time, now)) }
            let position = try reader.position(of: request.tenant, asOf: time)
            return .success(ReadView(to: min(position, head.position), head: head))
        }
    }

    /// The position after which a subscription starts.
    public static func start(
        of request: SubscribeRequest, head: TenantHead, now: Timestamp, reader: any StorageReader
    ) throws(StorageError) -> Result<Position, MartletError> {
        if let seen = request.lastSeen, seen != EventMark(head) {
            let place = EventPlace(tenant: request.tenant, position: seen.position)
            guard seen.position <= head.position, try reader.eventIDs(at: [place])[0] == seen.eventID else {
                return .failure(.historyChanged(comparableTo: .start))
            }
        }
        switch request.start {
        case .head: return .success(head.position)
        case .after(let asked):
            guard asked <= head.position else {
                // What the subscriber saw is there, and what it did not want to see after it was.
                return .failure(
                    request.lastSeen.map { .historyChanged(comparableTo: $0.position) } ?? .beyondHead(asked, head))
            }
            return .success(asked)
        case .time(let time):
            guard time <= now else { return .failure(.timeInFuture(time, now)) }
            let before = Timestamp(microseconds: max(time.microseconds, .min + 1) - 1)
            return .success(try reader.position(of: request.tenant, asOf: before))
        }
    }
}

extension EventMark {
    /// The event at a head; nil where it is not known.
    fileprivate init?(_ head: TenantHead) {
        guard let id = head.eventID else { return nil }
        self.init(position: head.position, eventID: id)
    }
}

extension MartletError {
    static func beyondHead(_ asked: Position, _ head: TenantHead) -> MartletError {
        MartletError(
            .outOfRange, reason: .positionBeyondHead,
            message: "position \(asked) is beyond the tenant's head, \(head.position): ask for one that exists")
    }

    static func timeInFuture(_ asked: Timestamp, _ now: Timestamp) -> MartletError {
        MartletError(
            .outOfRange, reason: .timeInFuture,
            message: "time \(asked) is in the future by the server's clock, \(now): ask for a time that has passed")
    }
}
