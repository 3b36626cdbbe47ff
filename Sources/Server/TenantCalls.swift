import MartletSubscriptions
import MartletDelivery
import MartletModel
import MartletSession
import MartletStorage
import MartletTenants
import MartletUpcasting
import NIOCore

/// The unary calls that write: appends, snapshots and settings. Used on the call's event loop.
struct TenantCalls {
    private let shared: ServerShared
    private let context: CallContext
    private let answer: (CallMessage) -> Void

    init(_ shared: ServerShared, _ context: CallContext, _ answer: @escaping (CallMessage) -> Void) {
        self.shared = shared
        self.context = context
        self.answer = answer
    }

    func append(_ request: AppendRequest) {
        withPolicies(of: request.tenant) { policies in
            let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
            shared.store.append(request.under(policies)) { result in
                bound.eventLoop.execute {
                    let call = bound.value
                    switch result {
                    case .success(let receipt):
                        if !receipt.replayed { call.shared.counters.append(request.eventCount) }
                        call.answer(.append(receipt))
                    case .failure(let error): call.refuse(request.tenant, error)
                    }
                }
            }
        }
    }

    /// The events that came in between go out as a load would deliver them; one that cannot be upcast, as stored and
    /// marked.
    func refuse(_ tenant: TenantID, _ error: MartletError) {
        guard error.conflicts.contains(where: { $0.events.readableBytes > 0 }) else { return context.end(error) }
        let (settings, limits) = (shared.settings, shared.limits)
        context.read(
            for: tenant,
            { reader throws(StorageError) in
                let settings = try settings.resolve(tenant, try reader.standing(of: tenant), reader: reader)
                let delivery = EventDelivery(
                    set: settings.upcasters, options: UpcastingOptions(onFailure: .raw),
                    payloadBytesMax: limits.upcastPayloadBytesMax)
                return error.conflicts.map { conflict in
                    var conflict = conflict
                    conflict.deliver(by: delivery)
                    return conflict
                }
            }
        ) { result in
            var delivered = error
            delivered.conflicts =
                (try? result.get())
                ?? error.conflicts.map { conflict in
                    var conflict = conflict
                    conflict.eventsTruncated = conflict.eventsTruncated || conflict.events.readableBytes > 0
                    conflict.events = ByteBuffer()
                    return conflict
                }
            context.end(delivered)
        }
    }

    func save(_ request: SaveSnapshotRequest) {
        withPolicies(of: request.tenant) { policies in
            apply(.saveSnapshot(request, kept: policies[request.aggregate.type].kept))
        }
    }

    func delete(_ request: DeleteSnapshotsRequest) { apply(.deleteSnapshots(request)) }

    /// Checks the document on a storage thread, where that may take its time, and puts it.
    func put(_ request: PutSettingsRequest) {
        context.read(for: request.tenant, { _ throws(StorageError) in Self.fault(of: request) }) { result in
            switch result {
            case .failure(let error), .success(let error?): context.end(error)
            case .success(nil): apply(.putSettings(request))
            }
        }
    }

    private static func fault(of request: PutSettingsRequest) -> MartletError? {
        guard request.document.readableBytes > 0 else { return nil }
        do throws(MartletError) {
            switch request.kind {
            case .upcasters: _ = try UpcasterSet(definition: request.document)
            case .snapshotPolicies: _ = try SnapshotPolicies(document: request.document)
            default: return .invalidField("kind", "is unknown")
            }
            return nil
        } catch { return error }
    }

    private func apply(_ change: TenantChange) {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        shared.store.apply(change) { result in
            bound.eventLoop.execute {
                switch result {
                case .failure(let error): bound.value.context.end(error)
                case .success(let outcome): bound.value.finish(change, outcome)
                }
            }
        }
    }

    private func finish(_ change: TenantChange, _ outcome: TenantChangeOutcome) {
        switch outcome {
        case .snapshotSaved(let receipt): answer(.snapshotSaved(receipt))
        case .snapshotBeyondAggregate(let version): context.end(.snapshotBeyond(version))
        case .snapshotsDeleted(let count): answer(.snapshotsDeleted(UInt64(count)))
        case .settingsConflict(let revision): context.end(.settingsConflict(revision))
        case .settingsPut(let revision):
            // Acknowledged once they are in force here: whoever reads then gets events under them.
            let tenant = change.tenant
            let (settings, hub) = (shared.settings, shared.hub)
            context.read(
                for: tenant,
                { reader throws(StorageError) in
                    let standing = try reader.standing(of: tenant)
                    hub.settingsChanged(tenant, to: try settings.resolve(tenant, standing, reader: reader))
                }
            ) { _ in answer(.settingsPut(revision: revision)) }
        }
    }

    /// Calls `body` with the tenant's policies, at once where they are known. Where storage cannot tell them, the call
    /// goes on without: they only give advice.
    private func withPolicies(of tenant: TenantID, _ body: @escaping (SnapshotPolicies) -> Void) {
        let known = shared.settings.known(tenant, now: context.eventLoop.now)
        if let known { body(known.settings.policies) }
        guard known == nil || known?.isOld == true && shared.store.isShared else { return }
        let settings = shared.settings
        context.read(
            for: tenant,
            { reader throws(StorageError) in
                try settings.resolve(tenant, try reader.standing(of: tenant), reader: reader)
            }
        ) { result in
            if known == nil { body((try? result.get())?.policies ?? .none) }
        }
    }
}

extension VersionConflict {
    fileprivate mutating func deliver(by delivery: EventDelivery) {
        guard events.readableBytes > 0 else { return }
        do throws(MartletError) {
            let delivered = try delivery.deliver(EventPage(entries: events, count: 1), bytesMax: .max)
            events = delivered.page.entries
            if delivered.isCut { eventsTruncated = true }
        } catch {
            // A record that cannot be read: the client loads what came in between, and is told there.
            events = ByteBuffer()
            eventsTruncated = true
        }
    }
}

extension MartletError {
    fileprivate static func snapshotBeyond(_ version: Version) -> MartletError {
        MartletError(
            .failedPrecondition, reason: .snapshotBeyondAggregate,
            message: "the aggregate is at version \(version): save a snapshot of a state that it has had")
    }

    fileprivate static func settingsConflict(_ revision: UInt64) -> MartletError {
        MartletError(
            .aborted, reason: .settingsConflict,
            message: "the tenant's settings have revision \(revision): get them, decide again and put them again")
    }
}
