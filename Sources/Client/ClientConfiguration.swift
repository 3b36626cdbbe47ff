public import MartletModel
public import MartletTLSOpenSSL
public import NIOCore

/// How a client reaches its server, and how patient it is.
public struct ClientConfiguration: Sendable {
    /// Name or address of the server.
    public var host: String
    /// Its port.
    public var port: Int
    /// How the connection is secured.
    public var tls: TLSClientConfiguration
    /// Name and version of the program, for the server's log; at most 256 bytes of it are sent.
    public var clientName: String
    /// Time from connecting to the server's welcome, TLS included.
    public var connectTimeout: Duration = .seconds(10)
    /// Time that a call may take in all, retries included, unless the call says otherwise; nil means no bound. Of a
    /// load, a read or a subscription it bounds the time to the first part of each attempt.
    public var requestTimeout: Duration? = .seconds(30)
    /// How long to wait before a connection or a call is tried again.
    public var backoff = Backoff()
    /// How long a call is retried in all; it is never retried past its own timeout. A subscription is
    /// resumed for ever.
    public var retryBudget: Duration = .seconds(30)
    /// Bytes of events that a subscription takes in ahead of its consumer.
    public var subscriptionWindowBytes = 1 << 20
    /// Bytes of events that a load or a read takes in ahead of its consumer; raised where the largest event that the
    /// server allows would not fit.
    public var streamWindowBytes = 1 << 20
    /// What the client holds the server to: length and memory of a frame, idle time before a ping.
    public var limits = Limits()

    /// The tenant that ``MartletClient/tenant()`` stands for; nil means none.
    public var tenant: TenantID?

    /// The event loops to take one from, for the client's connections; nil means those that the process shares. A load
    /// tester gives a loop of its own, and runs on ``MartletClient/taskExecutor``.
    public var eventLoopGroup: (any EventLoopGroup)?

    /// A client of that server.
    public init(
        host: String = "127.0.0.1", port: Int = 7311, tls: TLSClientConfiguration, clientName: String = "martlet-swift"
    ) {
        self.host = host
        self.port = port
        self.tls = tls
        self.clientName = clientName
    }
}
