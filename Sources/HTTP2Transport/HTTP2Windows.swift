import MartletModel
import NIOCore

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
    /// Decoding this many bytes of fields takes about as long as handling a frame.
    static let decodedBytesOfFrame = 64
    /// Inflating this many bytes takes about as long as handling a frame.
    static let inflatedBytesOfFrame = 1 << 10
    /// Answers to PING and SETTINGS that wait to be read.
    static let answersWaitingMax = 4_096
    /// The largest window (RFC 9113, 6.9.1).
    static let sizeMax = 1 << 31 - 1
    /// The bits of a window's size, or of a stream's number.
    static let sizeMask: UInt32 = 1 << 31 - 1
}
