import Accounts
import Foundation
import Martlet
import Transfers

/// The consumers of the bank's services. The server keeps how far each has come.
enum BankConsumer: String, CaseIterable {
    case transfers, clearing, balances, statements
    /// Of the projection in Python.
    case pythonStatements = "python-statements"

    /// Which events it gets.
    var filter: EventFilter {
        switch self {
        case .transfers: Transfers.filter(reactingTo: Clearing.type)
        case .clearing:
            EventFilter(aggregateTypes: [Clearing.type], eventTypes: ["asked"])
        case .balances, .statements, .pythonStatements: EventFilter(aggregateTypes: [Account.type])
        }
    }

    func id(_ settings: Settings) throws -> ConsumerID {
        guard let name = ConsumerName(rawValue) else { throw Problem("\(rawValue): not the name of a consumer") }
        return ConsumerID(tenant: settings.tenant, name: name)
    }
}

/// Puts the consumers, before any service begins. Repeated, it changes nothing: each keeps its place.
func putConsumers(_ settings: Settings, _ client: MartletClient) async throws {
    for consumer in BankConsumer.allCases {
        // Up to 8 workers share the events of one consumer, by account or transfer.
        let definition = ConsumerDefinition(filter: consumer.filter, slotCount: 8)
        try await client.putConsumer(PutConsumerRequest(consumer.id(settings), definition))
    }
}
