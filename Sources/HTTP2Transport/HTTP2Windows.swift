import MartletModel
import NIOCore
import NIOHTTP2

/// The settings that a server begins a connection with, and what else of HTTP/2 is counted in bytes or frames.
enum HTTP2Windows {
    /// HTTP/2's own initial window, of streams and of the connection, in bytes.
    static let initial = 65_535
    /// What a client may send on all streams together before messages are whole, in bytes: also what it can make the server
    /// hold without an account.
    static let connectionBytes = 256 << 10
    /// What a client may send ahead on a stream whose messages are taken as they come, in bytes.
    static let requestStreamBytes = 256 << 10
    /// One message is at least so long where events are waiting, however little window there is, in bytes.
    static let roomMin = 16 << 10
    /// The fields of a request, decoded, in bytes.
    static let headerListBytes = 16 << 10
    /// CONTINUATION frames of one request.
    static let continuationFramesMax = 8

    /// A part of a message that is shorter, and does not end it, counts as a frame that carries nothing, unless
    /// ``bytesOfFreeCrumb`` came before it: where records of TLS and windows end, they leave some.
    static let crumbBytes = 256
    static let bytesOfFreeCrumb = 4 << 10
    static let freeCrumbsMax = 256
    /// A message with its prefix is at least this long, where a call may be paused, in bytes.
    static let shortestMessageBytes = 16
    /// Inflating this many bytes takes about as long as handling a frame.
    static let inflatedBytesOfFrame = 1 << 10
    /// Answers to frames that wait to be read.
    static let controlFramesWaitingMax = 4_096
    /// Nobody can send that many frames within ``unlimitedTime``.
    private static let unlimitedCount = 64
    private static let unlimitedTime = TimeAmount.nanoseconds(1)

    static func connection(_ limits: Limits) -> NIOHTTP2Handler.ConnectionConfiguration {
        var configuration = NIOHTTP2Handler.ConnectionConfiguration()
        configuration.initialSettings = [
            // ``HTTP2FrameGuard`` tells the client another: the library would end the connection for one stream more.
            HTTP2Setting(parameter: .maxConcurrentStreams, value: Int(Int32.max)),
            HTTP2Setting(parameter: .initialWindowSize, value: initial),
            HTTP2Setting(parameter: .maxHeaderListSize, value: headerListBytes),
        ]
        configuration.maximumSequentialContinuationFrames = continuationFramesMax
        // Clients have streams that the server reset under way.
        configuration.maximumRecentlyResetStreams = limits.callsPerConnectionMax
        // A client that lives for months may err now and then.
        configuration.maximumConnectionGlitches = .max
        // Frames that carry nothing are the budget's matter, which answers earn, and which says why: ``HTTP2FrameGuard``. The
        // library would keep a time for each of them.
        configuration.controlFrameRateLimit.maximumCount = unlimitedCount
        configuration.controlFrameRateLimit.windowLength = unlimitedTime
        configuration.maximumSequentialEmptyDataFrames = .max
        configuration.maximumBufferedControlFrames = controlFramesWaitingMax
        return configuration
    }

    static var streams: NIOHTTP2Handler.StreamConfiguration {
        var configuration = NIOHTTP2Handler.StreamConfiguration()
        configuration.streamResetFrameRateLimit.maximumCount = unlimitedCount
        configuration.streamResetFrameRateLimit.windowLength = unlimitedTime
        configuration.streamErrorRateLimit.maximumCount = unlimitedCount
        configuration.streamErrorRateLimit.windowLength = unlimitedTime
        return configuration
    }
}
