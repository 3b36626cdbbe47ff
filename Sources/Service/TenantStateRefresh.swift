import MartletModel
import NIOConcurrencyHelpers

/// Asks storage where followed tenants stand, after that may have changed unseen: some at a time, so that other reads
/// come in between, and one read at a time. Tenants that are named come before a round over all of them; who asks for all
/// while a round is under way is served by one more after it. Of a tenant that is named many times, one look is enough.
final class TenantStateRefresh: Sendable {
    /// Tenants that one read asks for.
    static let tenantsAtOnce = 256

    /// A tenant to be looked after.
    struct Asked: Hashable, Sendable {
        var tenant: TenantID
        /// The number of a past that is over, as somebody has found; nil where that is to be found out.
        var overPast: UInt64?
    }

    private struct State {
        var isUnderWay = false
        var isAllAsked = false
        /// Those that were named.
        var named: [TenantID: UInt64?] = [:]
        /// What is left of a round over all.
        var round: ArraySlice<TenantID> = []
        /// Pasts that are over, of tenants that could not be looked after: nobody else may find it again.
        var missed: [TenantID: UInt64] = [:]
    }

    private let tenants: @Sendable () -> [TenantID]
    private let ask: @Sendable ([Asked], _ completion: @escaping @Sendable (_ isDone: Bool) -> Void) -> Void
    private let state = NIOLockedValueBox(State())

    /// - Parameters:
    ///   - tenants: those that are followed now.
    ///   - ask: has some of them looked after, and calls its completion once, with whether that was done or has failed.
    init(
        tenants: @escaping @Sendable () -> [TenantID],
        ask: @escaping @Sendable ([Asked], _ completion: @escaping @Sendable (_ isDone: Bool) -> Void) -> Void
    ) {
        self.tenants = tenants
        self.ask = ask
    }

    /// Looks after all of them.
    func begin() { add { $0.isAllAsked = true } }

    /// Looks after these.
    func begin(_ tenants: [TenantID]) {
        guard !tenants.isEmpty else { return }
        add { state in for tenant in tenants where state.named[tenant] == nil { state.named[tenant] = .some(nil) } }
    }

    /// Looks after a tenant whose past of that number is over.
    func begin(_ tenant: TenantID, after past: UInt64) { add { $0.named[tenant] = past } }

    private func add(_ change: (inout State) -> Void) {
        let isFirst = state.withLockedValue { state in
            change(&state)
            // Not before somebody asks again: storage may be out of reach.
            for (tenant, past) in state.missed where state.named[tenant] == nil { state.named[tenant] = past }
            state.missed = [:]
            defer { state.isUnderWay = true }
            return !state.isUnderWay
        }
        if isFirst { goOn() }
    }

    private func miss(_ asked: [Asked]) {
        state.withLockedValue { state in
            for asked in asked { if let past = asked.overPast { state.missed[asked.tenant] = past } }
        }
    }

    private enum Next {
        case ask([Asked])
        case round
        case rest
    }

    private func goOn() {
        while true {
            let next = state.withLockedValue { state -> Next in
                if !state.named.isEmpty {
                    let some = state.named.prefix(Self.tenantsAtOnce).map { Asked(tenant: $0.key, overPast: $0.value) }
                    for asked in some { state.named[asked.tenant] = nil }
                    return .ask(some)
                }
                if !state.round.isEmpty {
                    let some = state.round.prefix(Self.tenantsAtOnce).map { Asked(tenant: $0) }
                    state.round = state.round.dropFirst(Self.tenantsAtOnce)
                    return .ask(some)
                }
                if state.isAllAsked {
                    state.isAllAsked = false
                    return .round
                }
                state.isUnderWay = false
                return .rest
            }
            switch next {
            case .rest: return
            case .ask(let some):
                return ask(some) { [self] isDone in
                    if !isDone { miss(some) }
                    goOn()
                }
            case .round:
                let all = tenants()
                state.withLockedValue { $0.round = all[...] }
            }
        }
    }
}
