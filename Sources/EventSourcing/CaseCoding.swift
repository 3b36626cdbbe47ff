import FoundationEssentials
import MartletModel
import NIOConcurrencyHelpers
import NIOCore

/// Takes an enum with a synthesized Codable apart: the coding key of its case, and the associated values.
///
/// Swift encodes `case opened(owner: String)` as `{"opened":{"owner":…}}` and `case opened(Opened)` as
/// `{"opened":{"_0":…}}`. Stored is what stands inside; which of the two it is, the type itself tells when it is asked to
/// decode `{"opened":{}}`.
struct CaseCoding<Event: Codable>: Sendable {
    enum Shape: Sendable {
        case noSuchCase
        /// An object of the labels.
        case labelled
        /// One value, or several without labels.
        case unlabelled
    }

    private static var only: ByteBuffer { ByteBuffer(string: #""_0""#) }
    private static var shapesMax: Int { 1_000 }
    private let shapes = NIOLockedValueBox<[ExactText: Shape]>([:])

    func shape(of name: String) -> Shape {
        if let known = shapes.withLockedValue({ $0[ExactText(name)] }) { return known }
        let shape = probe(name)
        // Names come from the store too: what is remembered is bounded.
        shapes.withLockedValue { if $0.count < Self.shapesMax { $0[ExactText(name)] = shape } }
        return shape
    }

    private func probe(_ name: String) -> Shape {
        guard let key = try? EventJSON.encode(name) else { return .noSuchCase }
        do {
            _ = try EventJSON.decode(Event.self, from: EventJSON.object(key, ByteBuffer(string: "{}")))
            return .labelled
        } catch DecodingError.typeMismatch(let type, let context) where context.codingPath.isEmpty && type == Event.self
        {
            return .noSuchCase
        } catch DecodingError.keyNotFound(let missing, let context) where missing.stringValue == "_0" {
            return context.codingPath.count == 1 ? .unlabelled : .labelled
        } catch {
            return .labelled
        }
    }

    /// The case's coding key, and what is stored.
    /// - Throws: the encoder's error; nil if the type is not such an enum.
    func split(_ event: Event) throws -> (name: String, payload: ByteBuffer)? {
        guard let members = EventJSON.members(try EventJSON.encode(event)), members.count == 1 else { return nil }
        let name = try EventJSON.decode(String.self, from: members[0].key)
        let payload = members[0].value
        guard let values = EventJSON.members(payload) else { return nil }
        guard values.count == 1, values[0].key == Self.only, case .unlabelled = shape(of: name) else {
            return (name, payload)
        }
        // What looks like associated values itself stays wrapped, so that reading can tell.
        if hasUnlabelled(values[0].value) { return (name, payload) }
        return (name, values[0].value)
    }

    /// The event of that case and stored payload, which is JSON.
    func join(_ name: String, _ payload: ByteBuffer) throws -> Event {
        let key = try EventJSON.encode(name)
        guard case .unlabelled = shape(of: name), !hasUnlabelled(payload) else {
            return try EventJSON.decode(Event.self, from: EventJSON.object(key, payload))
        }
        let wrapped = EventJSON.object(key, EventJSON.object(Self.only, payload))
        return try EventJSON.decode(Event.self, from: wrapped)
    }

    private func hasUnlabelled(_ payload: ByteBuffer) -> Bool {
        EventJSON.members(payload)?.contains { $0.key == Self.only } ?? false
    }
}
