import MartletModel
import MartletSession
import NIOCore

/// What is left to do of a load or a read whose stream broke: the request that goes on where it stopped, in the
/// view that it began with.
protocol QueryProgress<View>: Sendable {
    associatedtype View: Sendable

    /// The request for what is missing; nil if nothing is.
    var request: CallRequest? { get }

    /// The view was told.
    mutating func began(_ view: View)

    /// This many events were delivered, the last of them with that position and version.
    mutating func delivered(_ count: Int, position: Position, version: Version)

    /// The entries, and the view of a first part; nil for a part of another call.
    static func part(_ body: CallMessage) -> (entries: ByteBuffer, view: View?)?
}

/// A load under way.
struct LoadProgress: QueryProgress {
    private let original: LoadRequest
    private var view: LoadView?
    private var lastVersion: Version?
    private var count: UInt64 = 0

    init(_ request: LoadRequest) { original = request }

    var request: CallRequest? {
        guard let view else { return .load(original) }
        var request = original
        request.target = .position(view.position)
        if let eventsMax = original.eventsMax {
            guard count < eventsMax else { return nil }
            request.eventsMax = eventsMax - count
        }
        guard view.version > original.after else { return nil }
        // The snapshot came with the view: what is left are events.
        request.snapshot = nil
        if let version = view.snapshot?.version {
            guard version < view.version else { return nil }
            request.after = version
        }
        guard let lastVersion else { return .load(request) }
        switch original.direction {
        case .forward:
            guard lastVersion < view.version else { return nil }
            request.after = lastVersion
        case .backward:
            guard lastVersion > original.after.next else { return nil }
            // Versions do not change: up to a version is a view as fixed as that of a position.
            request.target = .version(Version(lastVersion.rawValue - 1))
        }
        return .load(request)
    }

    mutating func began(_ view: LoadView) { if self.view == nil { self.view = view } }

    mutating func delivered(_ count: Int, position: Position, version: Version) {
        self.count += UInt64(count)
        lastVersion = version
    }

    static func part(_ body: CallMessage) -> (entries: ByteBuffer, view: LoadView?)? {
        guard case .load(let entries, let view) = body else { return nil }
        return (entries, view)
    }
}

/// A read under way.
struct ReadProgress: QueryProgress {
    private let original: ReadRequest
    private var view: ReadView?
    private var lastPosition: Position?
    private var count: UInt64 = 0

    init(_ request: ReadRequest) { original = request }

    var request: CallRequest? {
        guard let view else { return .read(original) }
        var request = original
        request.target = .position(view.to)
        if let eventsMax = original.eventsMax {
            guard count < eventsMax else { return nil }
            request.eventsMax = eventsMax - count
        }
        guard view.to > original.after else { return nil }
        guard let lastPosition else { return .read(request) }
        switch original.direction {
        case .forward:
            guard lastPosition < view.to else { return nil }
            request.after = lastPosition
        case .backward:
            guard lastPosition > original.after.next else { return nil }
            request.target = .position(Position(lastPosition.rawValue - 1))
        }
        return .read(request)
    }

    mutating func began(_ view: ReadView) { if self.view == nil { self.view = view } }

    mutating func delivered(_ count: Int, position: Position, version: Version) {
        self.count += UInt64(count)
        lastPosition = position
    }

    static func part(_ body: CallMessage) -> (entries: ByteBuffer, view: ReadView?)? {
        guard case .read(let entries, let view) = body else { return nil }
        return (entries, view)
    }
}
