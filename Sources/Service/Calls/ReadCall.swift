import MartletModel
import MartletQueries
import MartletStorage
import NIOCore

/// Streams a tenant's events by position.
enum ReadCall {
    static func make(_ request: ReadRequest, _ creditBytes: UInt64, _ handle: CallHandle) -> QueryStream {
        let (queries, clock) = (handle.service.queries, handle.service.clock)
        return QueryStream(
            tenant: request.tenant, parts: parts, openingBytesMax: handle.limits.pageBytesMax,
            creditBytes: creditBytes, handle
        ) { reader throws(StorageError) in
            try queries.open(request, now: clock(), reader: reader)
        }
    }

    private static let parts = QueryStream.Parts(
        part: { entries, view in
            guard case .read(let view)? = view else { return .read(entries, nil) }
            return .read(entries, view)
        },
        waits: { .readWaits(creditBytes: $0) })
}
