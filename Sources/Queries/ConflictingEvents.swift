import MartletDelivery
public import MartletModel
public import MartletStorage
import MartletTenants
import NIOCore

extension QueryOpening {
    /// Conflicts with the events that came in between, as far as one page holds all of them, and how many of these an
    /// upcaster failed on.
    public struct FilledConflicts: Sendable {
        /// In the order in which they came.
        public var conflicts: [VersionConflict]
        /// Events that are delivered as stored because an upcaster failed on them.
        public var failureCount = 0
    }

    /// Adds to each conflict the events after the expected version, oldest first, as a load would deliver them; one that
    /// cannot be upcast comes as stored, and marked.
    ///
    /// All of them together are at most one page (``Limits/pageBytesMax``), also after upcasters made them longer. Where
    /// there are more, or they cannot be read, ``VersionConflict/eventsTruncated`` is set: the conflict stands without
    /// them.
    public func fill(
        _ conflicts: [VersionConflict], of tenant: TenantID, reader: any StorageReader
    ) -> FilledConflicts {
        var filled = FilledConflicts(conflicts: conflicts)
        var room = limits.pageBytesMax
        var delivery: EventDelivery?
        for index in conflicts.indices {
            let conflict = conflicts[index]
            guard let after = conflict.versionBefore, after < conflict.actual else { continue }
            filled.conflicts[index].eventsTruncated = true
            guard room > 0 else { continue }
            do throws(StorageError) {
                if delivery == nil { delivery = try self.delivery(of: tenant, reader) }
                let stored = try reader.page(
                    of: conflict.aggregate, in: tenant, versions: PageRange(after: after, to: conflict.actual),
                    bounds: PageBounds(bytesMax: room))
                guard let delivered = try? delivery?.deliver(stored, bytesMax: room),
                    delivered.page.entries.readableBytes <= room
                else { continue }
                filled.conflicts[index].events = delivered.page.entries
                filled.conflicts[index].eventsTruncated = !delivered.page.isLast || delivered.isCut
                filled.failureCount += delivered.failureCount
                room -= delivered.page.entries.readableBytes
            } catch {
                // The client loads what came in between, and is told there.
                break
            }
        }
        return filled
    }

    private func delivery(of tenant: TenantID, _ reader: any StorageReader) throws(StorageError) -> EventDelivery {
        let settings = try settings.resolve(tenant, try reader.tenantState(of: tenant), reader: reader)
        return EventDelivery(
            set: settings.upcasters, options: UpcastingOptions(onFailure: .raw),
            payloadBytesMax: limits.upcastPayloadBytesMax)
    }
}

extension VersionConflict {
    /// The version that the caller knew; nil where it expected none in particular.
    fileprivate var versionBefore: Version? {
        switch expected {
        case .exact(let version): version
        case .none: Version.none
        case .any, .exists: nil
        }
    }
}
