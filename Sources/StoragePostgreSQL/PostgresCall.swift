import FoundationEssentials

/// A prepared statement with its parameters.
struct PostgresCall {
    var statement: String
    var parameters: PostgresParameters

    init(_ statement: String, _ values: [PostgresValue] = []) {
        self.init(statement, PostgresParameters(values))
    }

    init(_ statement: String, _ parameters: PostgresParameters) {
        self.statement = statement
        self.parameters = parameters
    }

    /// Tells the other servers that listen, if any.
    static func notify(_ notices: [String], from server: UUID) -> PostgresCall {
        PostgresCall("notify", [PostgresValue(notices), PostgresValue(server)])
    }
}
