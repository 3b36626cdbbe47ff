import MartletModel
import MartletStorage
import MartletSubscriptions
import MartletTenants
import NIOConcurrencyHelpers

/// Asks storage where the followed tenants stand, after that may have changed unseen: some at a time, so that other reads
/// come in between, and one round at a time. Who asks while a round is under way is served by one more after it.
final class StandingRefresh: Sendable {
    /// Tenants that one read asks for.
    static let tenantsAtOnce = 256

    private enum State {
        case idle
        case underWay(isAskedAgain: Bool)
    }

    private let tenants: @Sendable () -> [TenantID]
    private let ask: @Sendable ([TenantID], _ completion: @escaping @Sendable () -> Void) -> Void
    private let state = NIOLockedValueBox(State.idle)

    /// - Parameters:
    ///   - tenants: those that are followed now.
    ///   - ask: has some of them looked after, and calls its completion once when that is done or has failed.
    init(
        tenants: @escaping @Sendable () -> [TenantID],
        ask: @escaping @Sendable ([TenantID], _ completion: @escaping @Sendable () -> Void) -> Void
    ) {
        self.tenants = tenants
        self.ask = ask
    }

    /// Looks after all of them.
    func begin() {
        let isFirst = state.withLockedValue { state in
            if case .underWay = state {
                state = .underWay(isAskedAgain: true)
                return false
            }
            state = .underWay(isAskedAgain: false)
            return true
        }
        if isFirst { goOn(tenants()[...]) }
    }

    private func goOn(_ rest: ArraySlice<TenantID>) {
        guard rest.isEmpty else {
            return ask(Array(rest.prefix(Self.tenantsAtOnce))) { [self] in goOn(rest.dropFirst(Self.tenantsAtOnce)) }
        }
        let isAskedAgain = state.withLockedValue { state in
            guard case .underWay(isAskedAgain: true) = state else {
                state = .idle
                return false
            }
            state = .underWay(isAskedAgain: false)
            return true
        }
        if isAskedAgain { goOn(tenants()[...]) }
    }
}

extension EventHub {
    /// Has a tenant's subscriptions go by the settings that it has by now, or end where there is no memory for these.
    func refreshSettings(
        _ tenant: TenantID, _ standing: TenantStanding, _ settings: SettingsCache, _ reader: any StorageReader
    ) throws(StorageError) {
        do throws(StorageError) {
            settingsChanged(tenant, to: try settings.resolve(tenant, standing, reader: reader))
        } catch {
            guard error.kind == .memoryFull else { throw error }
            settingsFailed(tenant, revision: standing.settingsRevision, MartletError(error))
        }
    }
}
