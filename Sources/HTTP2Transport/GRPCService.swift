public import MartletService
public import NIOCore

/// A method that is served over gRPC.
public struct GRPCMethod: Sendable {
    /// Whether the client sends any number of messages, rather than one.
    public var streamsRequests: Bool
    /// Whether the answer is any number of messages, rather than one.
    public var streamsResponses: Bool
    /// What its calls need of the storage.
    public var needs: StorageNeeds
    /// Makes what carries out a call of it, on the call's event loop.
    public var begin: @Sendable (GRPCCall) -> any GRPCHandler

    /// A method of those parts.
    public init(
        streamsRequests: Bool = false, streamsResponses: Bool = false, needs: StorageNeeds = [],
        begin: @escaping @Sendable (GRPCCall) -> any GRPCHandler
    ) {
        self.streamsRequests = streamsRequests
        self.streamsResponses = streamsResponses
        self.needs = needs
        self.begin = begin
    }
}

/// The methods of one service.
public struct GRPCService: Sendable {
    /// Its full name: `martlet.v1.AppendService`.
    public var name: String
    /// Its methods by name.
    public var methods: [String: GRPCMethod]

    /// What its methods need of the storage, together.
    public var needs: StorageNeeds { methods.values.reduce(into: []) { $0.formUnion($1.needs) } }

    /// A service of those parts.
    public init(name: String, methods: [String: GRPCMethod]) {
        self.name = name
        self.methods = methods
    }
}

/// Carries out calls. Used on their event loop; nothing is called after the call's end, but for ``ended(_:)``.
public protocol GRPCHandler: AnyObject {
    /// A message came: in a call that sends one only, once at most.
    func received(_ message: ByteBuffer, of call: GRPCCall)
    /// The client sends nothing more. A call that sends one message has sent it.
    func receivedEnd(of call: GRPCCall)
    /// The client takes more than it did when ``GRPCCall/room`` was 0.
    func pump(_ call: GRPCCall)
    /// The call is over, before or after ``GRPCCall/end(_:)``: the client cancelled it, its time ran out, or the connection
    /// is gone.
    func ended(_ call: GRPCCall)
    /// The server drains: a call that goes on for ever ends.
    func drain(_ call: GRPCCall)
}

extension GRPCHandler {
    /// Nothing waits.
    public func pump(_ call: GRPCCall) {}
    /// Nothing is held.
    public func ended(_ call: GRPCCall) {}
    /// The call ends by itself.
    public func drain(_ call: GRPCCall) {}
}

/// All that a server serves over gRPC.
public struct GRPCServices: Sendable {
    /// The services, by name.
    public private(set) var services: [GRPCService]
    private let methods: [String: GRPCMethod]
    /// What each service needs of the storage, by its name.
    let needs: [String: StorageNeeds]

    /// These services.
    public init(_ services: [GRPCService]) {
        self.services = services
        var methods: [String: GRPCMethod] = [:]
        for service in services {
            for (name, method) in service.methods { methods["/\(service.name)/\(name)"] = method }
        }
        self.methods = methods
        needs = Dictionary(services.map { ($0.name, $0.needs) }) { $0.union($1) }
    }

    /// The method of a path: `/martlet.v1.AppendService/Append`.
    func method(at path: String) -> GRPCMethod? { methods[path] }

    /// Whether a path names a service that is here, of whatever method.
    func hasService(at path: String) -> Bool {
        services.contains { path.hasPrefix("/\($0.name)/") }
    }
}
