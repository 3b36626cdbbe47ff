import Accounts
import Foundation
import Martlet
import MartletProjections

/// Money that came to an account or left it.
package struct Movement: Equatable {
    package var account: String
    /// The account's version.
    package var version: Int64
    package var position: Int64
    /// Negative if it left.
    package var cents: Int64

    private static let codec = Result { try EventCodec<Account>() }

    /// - Returns: nil for events that move nothing.
    /// - Throws: a failure that parks the account: no later event of it is taken in before somebody has looked at it.
    package init?(_ recorded: RecordedEvent) throws {
        do {
            switch try Self.codec.get().decode(recorded).first {
            case .event(.deposited(let deposited)): cents = Int64(deposited.cents)
            case .event(.withdrawn(let withdrawn)): cents = -Int64(withdrawn.cents)
            default: return nil
            }
        } catch { throw ProjectionFailure(.park, "\(error)") }
        account = recorded.aggregate.id.uuidString.lowercased()
        version = Int64(recorded.version.rawValue)
        position = Int64(recorded.position.rawValue)
    }
}
