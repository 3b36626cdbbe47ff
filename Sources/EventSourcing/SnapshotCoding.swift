import Logging
import MartletClient
import MartletModel
import NIOCore

/// A snapshot that the program cannot read. It never holds the state.
struct SnapshotUndecodable: Error {
    var complaint: String
}

extension Repository {
    /// The state of a snapshot, upcast to today's version.
    func decode(_ snapshot: Snapshot) throws(SnapshotUndecodable) -> A {
        guard let type = A.self as? any Codable.Type else { throw SnapshotUndecodable(complaint: "not Codable") }
        do {
            var payload = snapshot.payload
            var version = snapshot.schemaVersion
            while let step = codec.snapshots.steps[version] {
                payload = try step.transform(payload)
                version += 1
            }
            guard version == codec.snapshots.current, let state = try EventJSON.decode(type, from: payload) as? A
            else { throw SnapshotUndecodable(complaint: "schema version \(version) cannot be read") }
            return state
        } catch let error as SnapshotUndecodable {
            throw error
        } catch {
            throw SnapshotUndecodable(complaint: codingFault(error))
        }
    }

    /// The state as a snapshot; nil if the aggregate is not Codable, or cannot be encoded, which is counted.
    func snapshot(of state: A) -> NewSnapshot? {
        guard let state = state as? any Codable else { return nil }
        do {
            return NewSnapshot(schemaVersion: codec.snapshots.current, payload: try EventJSON.encode(state))
        } catch {
            snapshotFailed(codingFault(error))
            return nil
        }
    }

    /// Saves a snapshot of an aggregate as it is. Commands do so by ``RepositoryOptions/snapshots``; this is for a first
    /// one of aggregates that have long histories.
    /// - Returns: whether it was saved; false if the aggregate is not Codable too.
    @discardableResult
    public func saveSnapshot(of loaded: Loaded<A>) async -> Bool {
        guard loaded.version > .none, let snapshot = snapshot(of: loaded.state) else { return false }
        do throws(MartletError) {
            _ = try await calls.save(
                SaveSnapshotRequest(
                    tenant: tenant, aggregate: name(loaded.id), version: loaded.version, snapshot: snapshot))
            counters.add(to: \.snapshotsSaved)
            return true
        } catch {
            snapshotFailed(error.description)
            return false
        }
    }

    func snapshotFailed(_ complaint: String) {
        counters.add(to: \.snapshotSavesFailed)
        logger.warning("A snapshot was not saved", metadata: ["type": "\(A.type)", "complaint": "\(complaint)"])
    }
}
