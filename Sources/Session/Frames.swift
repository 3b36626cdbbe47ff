public import MartletModel

/// Names a call within its connection: chosen by the client, above 0, each greater than the one before.
public struct CallID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number.
    public var rawValue: UInt64

    /// That call.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// That call.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The connection itself.
    public static let connection = CallID(0)

    /// The number as text.
    public var description: String { String(rawValue) }

    /// Calls sort by number.
    public static func < (a: CallID, b: CallID) -> Bool { a.rawValue < b.rawValue }
}

/// A frame from client to server.
public struct ClientFrame: Hashable, Sendable {
    /// What the frame says. Large and rare cases are boxed: a frame is passed on many times.
    public enum Body: Hashable, Sendable {
        /// Opens the connection.
        indirect case hello(Hello)
        /// Adds this many bytes of credit to a call.
        case credit(UInt64)
        /// What a worker says on the stream of its call: 1 to ``WorkerReply/countMax``.
        case replies([WorkerReply])
        /// What a worker says, malformed: its call ends with the error, the connection goes on.
        indirect case malformedReplies(MartletError)
        /// Ends a call.
        case cancel
        /// Asks for a pong.
        case ping(UInt64)
        /// Answers a ping.
        case pong(UInt64)
        /// Opens a call.
        case request(CallRequest)
        /// Opens a call that cannot be carried out: the request is malformed or unknown. The call
        /// ends with the error, the connection goes on.
        indirect case malformed(MartletError)
        /// A hello that does not keep to its bounds.
        indirect case malformedHello(MartletError)
    }

    /// The call that the frame belongs to.
    public var callID: CallID
    /// With a request: milliseconds until the call's deadline; 0 means none.
    public var timeoutMillis: UInt32
    /// With a request that streams: the first credit.
    public var creditBytes: UInt64
    /// What the frame says.
    public var body: Body

    /// A frame of those parts.
    public init(_ callID: CallID, _ body: Body, timeoutMillis: UInt32 = 0, creditBytes: UInt64 = 0) {
        self.callID = callID
        self.timeoutMillis = timeoutMillis
        self.creditBytes = creditBytes
        self.body = body
    }
}

/// Opens a connection.
public struct Hello: Hashable, Sendable {
    /// The protocol versions that the client speaks.
    public var protocolVersions: [UInt32]
    /// Name and version of the client, at most 256 bytes.
    public var clientName: String

    /// A hello of those parts.
    public init(protocolVersions: [UInt32] = [protocolVersion], clientName: String) {
        self.protocolVersions = protocolVersions
        self.clientName = clientName
    }
}

/// The version of the protocol that this code speaks.
public let protocolVersion: UInt32 = 1

/// Accepts a connection. What the server says of itself can be read as if it were the welcome's own.
@dynamicMemberLookup
public struct Welcome: Hashable, Sendable {
    /// The version of the protocol that both speak.
    public var protocolVersion: UInt32
    /// What the server is; its features are not said.
    public var server: ServerInfo

    /// A welcome of those parts.
    public init(protocolVersion: UInt32, server: ServerInfo) {
        self.protocolVersion = protocolVersion
        self.server = server
    }

    /// A welcome of those parts.
    public init(
        protocolVersion: UInt32, serverVersion: String, scope: TenantScope, identity: String, limits: Limits,
        serverTime: Timestamp
    ) {
        self.init(
            protocolVersion: protocolVersion,
            server: ServerInfo(
                serverVersion: serverVersion, scope: scope, identity: identity, limits: limits, serverTime: serverTime))
    }

    /// What the server says of itself.
    public subscript<Value>(dynamicMember path: WritableKeyPath<ServerInfo, Value>) -> Value {
        get { server[keyPath: path] }
        set { server[keyPath: path] = newValue }
    }
}

/// A frame from server to client.
public struct ServerFrame: Hashable, Sendable {
    /// What the frame says. Large and rare cases are boxed: a frame is passed on many times.
    public enum Body: Hashable, Sendable {
        /// The answer to hello.
        indirect case welcome(Welcome)
        /// The end of a streaming call, or of any call that fails; nil is OK. On the connection: why it is
        /// closed.
        indirect case status(MartletError?)
        /// The server takes no calls after this one.
        case goAway(lastCallID: CallID, message: String)
        /// Asks for a pong.
        case ping(UInt64)
        /// Answers a ping.
        case pong(UInt64)
        /// A part of the answer to a call, or all of it.
        case message(CallMessage)
    }

    /// The call that the frame belongs to.
    public var callID: CallID
    /// What the frame says.
    public var body: Body

    /// A frame of those parts.
    public init(_ callID: CallID, _ body: Body) {
        self.callID = callID
        self.body = body
    }

    /// A frame with a message of a call.
    public init(_ callID: CallID, _ message: CallMessage) { self.init(callID, .message(message)) }
}
