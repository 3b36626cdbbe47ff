public import MartletModel
import MartletSession
import NIOCore

/// A subscription whose events stay encoded, for those who do not look into each one: a relay, a load tester.
///
/// It ends with an error when the connection is lost: go on with a new one after the last position.
public struct EncodedSubscription: Sendable {
    fileprivate let stream: StreamHandle

    /// The next message. Its entries are those of ``EventPage/entries``; its `count` is 0.
    /// - Throws: why the subscription ended.
    public func next() async throws(MartletError) -> SubscriptionMessage {
        switch await stream.next() {
        case .part(.subscribe(let message), _): return message
        case .part: throw .wrongAnswer
        case .end(let failure): throw failure?.error ?? .endedEarly
        }
    }
}

extension MartletClient {
    /// Follows a tenant without decoding its events.
    /// - Parameter windowBytes: bytes of events that it takes in ahead of its consumer; nil means
    ///   ``ClientConfiguration/subscriptionWindowBytes``.
    /// - Throws: why there is no connection. Refusals come with the first message.
    public func subscribeEncoded(
        _ request: SubscribeRequest, windowBytes: Int? = nil
    ) async throws(MartletError) -> EncodedSubscription {
        EncodedSubscription(
            stream: try await open(
                .subscribe(request), windowBytes: windowBytes ?? configuration.subscriptionWindowBytes,
                eventBytesMax: 0))
    }

    private func open(
        _ request: CallRequest, windowBytes: Int, eventBytesMax: Int
    ) async throws(MartletError) -> StreamHandle {
        let deadline = configuration.requestTimeout.map { environment.now() + TimeAmount(clamping: $0) }
        do throws(CallFailure) {
            return try await connections.connection(until: deadline).get().stream(
                request, deadline: deadline, isDeadlineForStart: true,
                window: CreditWindow(
                    windowBytes: windowBytes, eventBytesMax: eventBytesMax,
                    windowBytesMax: configuration.limits.frameBytesMax))
        } catch { throw error.error }
    }
}

extension MartletError {
    fileprivate static let endedEarly = MartletError(
        .unavailable, reason: .connectionLost, message: "the server ended the subscription without a reason",
        isRetryable: true)
}
