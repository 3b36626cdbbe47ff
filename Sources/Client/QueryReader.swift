import MartletModel
import MartletSession
import NIOCore

/// Reads the pages of a load or a read, and goes on where it stopped when the connection is lost. Letting go of
/// it cancels the call.
struct QueryReader<Progress: QueryProgress>: Sendable {
    private let client: MartletClient
    private var progress: Progress
    private var attempts: Attempts
    private let hasOwnDeadline: Bool
    private var stream: StreamHandle?
    private var isDone = false

    init(_ client: MartletClient, _ progress: Progress, request: CallRequest, timeout: Duration?) {
        self.client = client
        self.progress = progress
        hasOwnDeadline = timeout != nil
        attempts = client.attempts(request, timeout: timeout)
    }

    /// The next part: events, and the view in the first. nil at the end.
    mutating func nextPart() async throws(MartletError) -> (events: EventBatch, view: Progress.View?)? {
        while !isDone {
            let stream: StreamHandle
            do throws(CallFailure) {
                guard let open = try await openStream() else { break }
                stream = open
            } catch {
                try await retry(after: error)
                continue
            }
            switch await stream.next() {
            case .end(nil): isDone = true
            case .end(let failure?): try await retry(after: failure)
            case .part(let body, _):
                guard let (entries, view) = Progress.part(body) else { throw .wrongAnswer }
                if let part = try take(entries, view) { return part }
            }
        }
        isDone = true
        stream = nil
        return nil
    }

    private mutating func take(
        _ entries: ByteBuffer, _ view: Progress.View?
    ) throws(MartletError) -> (events: EventBatch, view: Progress.View?)? {
        let events: EventBatch
        do throws(MartletError) {
            events = try EventBatch(entries)
        } catch {
            isDone = true
            stream = nil
            throw error
        }
        if let view { progress.began(view) }
        if !events.isEmpty {
            progress.delivered(events.count, position: events.lastPosition, version: events.lastVersion)
        }
        guard view != nil || !events.isEmpty else { return nil }
        attempts.succeed(now: client.environment.now())
        return (events, view)
    }

    private mutating func openStream() async throws(CallFailure) -> StreamHandle? {
        if let stream { return stream }
        guard let request = progress.request else { return nil }
        var deadline = attempts.deadline
        if !hasOwnDeadline {
            deadline = client.configuration.requestTimeout.map { client.environment.now() + TimeAmount(clamping: $0) }
        }
        let connection = try await client.connection(until: deadline)
        let limits = connection.welcome.limits
        let opened = connection.stream(
            request, deadline: deadline, isDeadlineForStart: !hasOwnDeadline,
            window: CreditWindow(
                windowBytes: client.configuration.streamWindowBytes,
                eventBytesMax: request.partBytesMax(limits),
                windowBytesMax: client.configuration.limits.frameBytesMax))
        stream = opened
        return opened
    }

    private mutating func retry(after failure: CallFailure) async throws(MartletError) {
        stream = nil
        // What broke may have been the very end.
        if progress.request == nil {
            isDone = true
            return
        }
        do throws(MartletError) {
            try await client.wait(&attempts, after: failure)
        } catch {
            isDone = true
            throw error
        }
    }
}

extension CallRequest {
    /// The most credit that one part of the answer may take: for the largest event, which upcasting may have made twice as
    /// long, or for a snapshot.
    fileprivate func partBytesMax(_ limits: Limits) -> Int {
        var upcasting = UpcastingOptions.latest
        var snapshotBytes = 0
        switch self {
        case .load(let request):
            upcasting = request.upcasting
            if request.snapshot != nil { snapshotBytes = limits.snapshotBytesMax }
        case .read(let request): upcasting = request.upcasting
        default: break
        }
        let eventBytes =
            (upcasting.isRaw ? limits.payloadBytesMax : limits.upcastPayloadBytesMax)
            + limits.metadataBytesMax + (64 << 10)
        // A small snapshot comes together with the first events.
        return max(eventBytes, snapshotBytes + limits.pageBytesMax)
    }
}
