import MartletModel
import MartletQueries
import MartletStorage
import NIOCore

/// Streams the events of one aggregate.
enum LoadCall {
    static func make(_ request: LoadRequest, _ creditBytes: UInt64, _ handle: CallHandle) -> QueryStream {
        let (queries, clock) = (handle.service.queries, handle.service.clock)
        // A snapshot goes out with the first page, or before it.
        let snapshotBytes = request.snapshot == nil ? 0 : handle.limits.snapshotBytesMax
        return QueryStream(
            tenant: request.tenant, parts: parts, openingBytesMax: snapshotBytes + handle.limits.pageBytesMax,
            creditBytes: creditBytes, handle
        ) { reader throws(StorageError) in
            try queries.open(request, now: clock(), reader: reader)
        }
    }

    private static let parts = QueryStream.Parts(
        part: { entries, view in
            guard case .load(let view)? = view else { return .load(entries, nil) }
            return .load(entries, view)
        },
        waits: { .loadWaits(creditBytes: $0) })
}
