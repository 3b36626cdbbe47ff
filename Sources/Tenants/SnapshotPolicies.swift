import FoundationEssentials
public import MartletModel
public import NIOCore

/// When snapshots of a tenant's aggregates are due, and how many are kept, by the type of aggregate.
///
/// The document is `{"policies": [{"aggregate_type": "order", "every_events": 100, "every_bytes": 65536, "keep": 3}]}`.
/// Each field may be left out: without a type, a policy is for all types that have none of their own; without
/// `every_events` and `every_bytes`, snapshots are never due; `keep` is 3.
public struct SnapshotPolicies: Hashable, Sendable {
    private static let policiesMax = 1_000

    private var byType: [AggregateType: SnapshotPolicy] = [:]
    private var fallback = SnapshotPolicy.never

    /// Never due.
    public static let none = SnapshotPolicies()

    private init() {}

    /// What they take in memory, about.
    var memoryBytes: Int { byType.count * 256 }

    /// The policy of a type.
    public subscript(type: AggregateType) -> SnapshotPolicy { byType[type] ?? fallback }

    /// Reads and checks a new document, which must be JSON in UTF-8 (RFC 8259).
    /// - Throws: ``MartletError`` with reason `INVALID_SETTINGS`, which names the place and what is wrong there.
    public init(document: ByteBuffer) throws(MartletError) {
        let fault = unsafe document.withUnsafeReadableBytes { bytes -> JSONText.Fault? in
            do throws(JSONText.Fault) {
                try unsafe JSONText.check(bytes)
                return nil
            } catch { return error }
        }
        if let fault { throw Self.invalid("document", "is not JSON: at byte \(fault.offset), \(fault.complaint)") }
        try self.init(stored: document)
    }

    /// Reads a document that is stored. Older servers took JSON in UTF-16 and UTF-32, too: it stays in force.
    /// - Throws: ``MartletError`` with reason `INVALID_SETTINGS`.
    init(stored document: ByteBuffer) throws(MartletError) {
        let policies: [Policy]
        do {
            policies = try JSONDecoder().decode(Document.self, from: Data(document.readableBytesView)).policies
        } catch let error as MartletError {
            throw error
        } catch let error as DecodingError {
            throw Self.invalid(error.place, error.complaint)
        } catch { throw Self.invalid("document", "cannot be read") }
        guard policies.count <= Self.policiesMax else {
            throw Self.invalid("policies", "has \(policies.count) entries, at most \(Self.policiesMax) are allowed")
        }
        var hasFallback = false
        for (index, policy) in policies.enumerated() {
            let place = "policies[\(index)]"
            guard policy.everyEvents ?? 1 >= 1, policy.everyBytes ?? 1 >= 1 else {
                throw Self.invalid(place, "has an interval of 0: omit it for never")
            }
            let kept = policy.keep ?? SnapshotPolicy.never.kept
            guard (1...SnapshotPolicy.keptMax).contains(kept) else {
                throw Self.invalid("\(place).keep", "is \(kept): it must be from 1 to \(SnapshotPolicy.keptMax)")
            }
            let made = SnapshotPolicy(everyEvents: policy.everyEvents, everyBytes: policy.everyBytes, kept: kept)
            if let text = policy.aggregateType {
                guard let type = AggregateType(text) else {
                    throw Self.invalid("\(place).aggregate_type", "must be 1 to 128 bytes of [A-Za-z0-9_.:-]")
                }
                guard byType.updateValue(made, forKey: type) == nil else {
                    throw Self.invalid(place, "is a second policy for \(type)")
                }
            } else {
                guard !hasFallback else { throw Self.invalid(place, "is a second policy without a type") }
                hasFallback = true
                fallback = made
            }
        }
    }

    fileprivate static func invalid(_ place: String, _ complaint: String) -> MartletError {
        MartletError(
            .invalidArgument, reason: .invalidSettings,
            message: "\(place) \(complaint); correct it and put the settings again")
    }

    private struct Document: Decodable {
        var policies: [Policy]

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: AnyKey.self)
            try container.allow(["policies"])
            policies = try container.decode([Policy].self, forKey: AnyKey("policies"))
        }
    }

    private struct Policy: Decodable {
        var aggregateType: String?
        var everyEvents: UInt64?
        var everyBytes: UInt64?
        var keep: Int?

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: AnyKey.self)
            try container.allow(["aggregate_type", "every_events", "every_bytes", "keep"])
            aggregateType = try container.decodeIfPresent(String.self, forKey: AnyKey("aggregate_type"))
            everyEvents = try container.decodeIfPresent(UInt64.self, forKey: AnyKey("every_events"))
            everyBytes = try container.decodeIfPresent(UInt64.self, forKey: AnyKey("every_bytes"))
            keep = try container.decodeIfPresent(Int.self, forKey: AnyKey("keep"))
        }
    }
}

/// Any member of an object, so that a misspelt one is not passed over.
private struct AnyKey: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }

    init(_ name: String) { stringValue = name }

    init?(stringValue: String) { self.stringValue = stringValue }

    init?(intValue: Int) { nil }
}

extension KeyedDecodingContainer where Key == AnyKey {
    fileprivate func allow(_ names: [String]) throws {
        for key in allKeys where !names.contains(where: { $0.utf8.elementsEqual(key.stringValue.utf8) }) {
            throw SnapshotPolicies.invalid(
                DecodingError.place(codingPath),
                "has an unknown member '\(String(key.stringValue.unicodeScalars.prefix(64)))', "
                    + "known are \(names.joined(separator: ", "))")
        }
    }
}

extension DecodingError {
    private var context: Context? {
        switch self {
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
            .dataCorrupted(let context):
            context
        @unknown default: nil
        }
    }

    fileprivate var place: String { Self.place(context?.codingPath ?? []) }

    fileprivate static func place(_ path: [any CodingKey]) -> String {
        let text = path.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
        return text.isEmpty ? "document" : String(text.drop { $0 == "." })
    }

    /// What is wrong, in words of this code: those of Swift's library are for programmers, and may change.
    fileprivate var complaint: String {
        switch self {
        case .keyNotFound(let key, _): "must have \"\(key.stringValue)\""
        case .valueNotFound: "must not be null"
        case .typeMismatch(let type, _):
            switch type {
            case is String.Type: "must be a string"
            case is UInt64.Type, is Int.Type: "must be a whole number"
            case is [Any].Type: "must be a list"
            default: "must be an object"
            }
        case .dataCorrupted: "is not JSON, or contains a number that is not whole or too large"
        @unknown default: "cannot be read"
        }
    }
}

extension AppendRequest {
    /// The request with what the tenant's policies say of its aggregates.
    func under(_ policies: SnapshotPolicies) -> AppendRequest {
        guard policies != .none else { return self }
        var request = self
        for index in request.aggregates.indices {
            request.aggregates[index].snapshotPolicy = policies[request.aggregates[index].aggregate.type]
        }
        return request
    }
}
