public import MartletModel
public import NIOCore

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
        /// Adds so many bytes of credit to a call.
        case credit(UInt64)
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

/// What a call asks for. Of the cases only an append is not boxed: it is the one that comes by the thousand.
public enum CallRequest: Hashable, Sendable {
    /// Appends events.
    case append(AppendRequest)
    /// Reads one aggregate.
    indirect case load(LoadRequest)
    /// Reads a tenant by position.
    indirect case read(ReadRequest)
    /// Follows a tenant.
    indirect case subscribe(SubscribeRequest)
    /// Asks for a tenant's head.
    case getHead(TenantID)
    /// Asks how the server does.
    case getStatus
    /// Saves a snapshot.
    indirect case saveSnapshot(SaveSnapshotRequest)
    /// Asks for a snapshot.
    indirect case loadSnapshot(LoadSnapshotRequest)
    /// Asks which snapshots an aggregate has.
    indirect case listSnapshots(TenantID, AggregateName)
    /// Deletes snapshots.
    indirect case deleteSnapshots(DeleteSnapshotsRequest)
    /// Replaces settings.
    indirect case putSettings(PutSettingsRequest)
    /// Asks for settings.
    case getSettings(TenantID, SettingsKind)

    /// The tenant that the call is about; nil for a call about the server.
    public var tenant: TenantID? {
        switch self {
        case .append(let request): request.tenant
        case .load(let request): request.tenant
        case .read(let request): request.tenant
        case .subscribe(let request): request.tenant
        case .getHead(let tenant): tenant
        case .getStatus: nil
        case .saveSnapshot(let request): request.tenant
        case .loadSnapshot(let request): request.tenant
        case .listSnapshots(let tenant, _): tenant
        case .deleteSnapshots(let request): request.tenant
        case .putSettings(let request): request.tenant
        case .getSettings(let tenant, _): tenant
        }
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

/// Which tenants a connection may use.
public enum TenantScope: Hashable, Sendable {
    /// Every tenant: no identity is configured.
    case all
    /// These tenants.
    case only(Set<TenantID>)

    /// Whether the connection may use that tenant.
    public func allows(_ tenant: TenantID) -> Bool {
        switch self {
        case .all: true
        case .only(let tenants): tenants.contains(tenant)
        }
    }
}

/// Accepts a connection.
public struct Welcome: Hashable, Sendable {
    /// The version of the protocol that both speak.
    public var protocolVersion: UInt32
    /// Version of the server program.
    public var serverVersion: String
    /// The tenants that the connection may use.
    public var scope: TenantScope
    /// The identity that the server sees; empty without one.
    public var identity: String
    /// The limits in force. Of a Welcome that came over the wire, only those that travel are the server's.
    public var limits: Limits
    /// The server's clock.
    public var serverTime: Timestamp

    /// A welcome of those parts.
    public init(
        protocolVersion: UInt32, serverVersion: String, scope: TenantScope, identity: String, limits: Limits,
        serverTime: Timestamp
    ) {
        self.protocolVersion = protocolVersion
        self.serverVersion = serverVersion
        self.scope = scope
        self.identity = identity
        self.limits = limits
        self.serverTime = serverTime
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
        /// The answer to an append.
        case append(AppendReceipt)
        /// A part of the answer to a load: entries (``EventPage/entries``); the view in the first part only.
        indirect case load(ByteBuffer, LoadView?)
        /// A part of the answer to a read: entries (``EventPage/entries``); the view in the first part only.
        indirect case read(ByteBuffer, ReadView?)
        /// A message of a subscription. `count` does not travel: it is 0 in a frame that came over the wire.
        case subscribe(SubscriptionMessage)
        /// The answer to getHead.
        case head(TenantHead)
        /// The answer to getStatus.
        indirect case serverStatus(ServerStatus)
        /// The answer to saveSnapshot.
        indirect case snapshotSaved(SaveSnapshotReceipt)
        /// The answer to loadSnapshot.
        indirect case snapshot(LoadedSnapshot)
        /// The answer to listSnapshots.
        case snapshots([SnapshotInfo])
        /// The answer to deleteSnapshots: how many there were.
        case snapshotsDeleted(UInt64)
        /// The answer to putSettings: the revision that they have now.
        case settingsPut(revision: UInt64)
        /// The answer to getSettings.
        indirect case settings(SettingsDocument)
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
}
