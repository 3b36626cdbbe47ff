/// Runs a client of a server beside `body`, and closes it when `body` is done.
///
/// ```swift
/// try await Martlet.connect(to: "events.example.com:7311", tls: .ca("ca.pem")) { client in
///     print(try await client.tenant().head().position)
/// }
/// ```
///
/// What is not given comes from the environment, as in the program `martlet`: `MARTLET_SERVER`, `MARTLET_CA`,
/// `MARTLET_CERT`, `MARTLET_KEY` and `MARTLET_TENANT`. The connection is made when the first call needs it. For more
/// settings, or for a client that runs as a service, make a ``MartletClient`` of a
/// ``ClientConfiguration``.
///
/// - Parameters:
///   - server: `host:port`; 127.0.0.1:7311 if nothing says otherwise.
///   - tls: the files that secure the connection.
///   - tenant: the tenant that `client.tenant()` stands for.
///   - name: name and version of the program, for the server's log.
///   - logger: takes what the client has to say: connections made and lost, never what is sent.
///   - body: what to do with the client, which is closed afterwards.
/// - Throws: ``SettingError`` for a setting that cannot be used; what `body` throws.
public func connect<Result: Sendable>(
    to server: String? = nil, tls: ClientTLS? = nil, tenant: TenantID? = nil, as name: String = "martlet-swift",
    logger: Logger = Logger(label: "martlet.client"), _ body: (MartletClient) async throws -> Result
) async throws -> Result {
    let configuration = try ClientConfiguration(server: server, tls: tls, tenant: tenant, clientName: name)
    return try await MartletClient.withClient(configuration, logger: logger, body)
}
