import Foundation
import MartletModel
import NIOCore

/// What attacks are made of.
enum Ammunition {
    static let type = eventType("Grow")

    static func eventType(_ name: String) -> EventType {
        guard let type = EventType(name) else { preconditionFailure("\(name) is not an event type") }
        return type
    }

    static func aggregate(_ type: String = "target") -> AggregateName {
        guard let type = AggregateType(type) else { preconditionFailure("\(type) is not an aggregate type") }
        return AggregateName(type: type, id: UUID())
    }

    static func events(_ count: Int, payload: String = "{}") -> [NewEvent] {
        (0..<count).map { _ in NewEvent(type: type, payload: ByteBuffer(string: payload)) }
    }

    /// Events whose payload nobody parses.
    static func large(_ bytes: Int, _ count: Int = 1) -> [NewEvent] {
        (0..<count).map { _ in
            NewEvent(
                type: type, contentType: "application/octet-stream",
                payload: ByteBuffer(repeating: UInt8(ascii: "x"), count: bytes))
        }
    }

    static func snapshot(_ bytes: Int) -> NewSnapshot {
        NewSnapshot(
            contentType: "application/octet-stream", payload: ByteBuffer(repeating: UInt8(ascii: "x"), count: bytes))
    }

    /// Upcasters of one step for events of ``type``, and of one for snapshots of the aggregate type `target`, which
    /// doubles their member `filled`.
    static func definition(_ operations: String) -> ByteBuffer {
        let double = #"{"copy":{"from":"/filled","to":"/again"}}"#
        return ByteBuffer(
            string: """
                {"upcasters":[{"event":"Grow","from":1,"operations":[\(operations)]},
                {"snapshot":"target","from":1,"operations":[\(double)]}]}
                """)
    }

    /// An upcaster that makes `bytes` bytes of two, up to 1.9 MB.
    static func growing(to bytes: Int) -> ByteBuffer {
        let half = String(repeating: "x", count: bytes / 2)
        return definition(#"{"set":{"path":"/a","value":"\#(half)"}},{"copy":{"from":"/a","to":"/b"}}"#)
    }

    /// An upcaster that fails, with as long a complaint as a definition allows.
    static func failing() -> ByteBuffer {
        let path = "/" + String(repeating: "p", count: 1_000)
        return definition(#"{"rename":{"path":"\#(path)","to":"x","required":true}}"#)
    }
}

/// Definitions that spend nearly all of what one payload's chain may spend, on a payload of two bytes.
enum Heavy: String, CaseIterable {
    case elements, members, text

    /// A debug build takes as long for a short chain as a release build for one of 100 steps.
    #if DEBUG
        private static let steps = 10
    #else
        private static let steps = 100
    #endif

    var definition: ByteBuffer {
        let steps = (0..<Self.steps).map { step in
            let operations = step == 0 ? [first] : (0..<operationsOfAStep).map { operation(100 * step + $0) }
            return #"{"event":"Grow","from":\#(step + 1),"operations":[\#(operations.joined(separator: ","))]}"#
        }
        return ByteBuffer(string: #"{"upcasters":[\#(steps.joined(separator: ","))]}"#)
    }

    private var operationsOfAStep: Int { self == .elements ? 1 : 20 }

    private var first: String {
        switch self {
        case .elements:
            let ones = Array(repeating: "1", count: 1_900).joined(separator: ",")
            return #"{"set":{"path":"/l","value":[\#(ones)]}}"#
        case .members:
            let members = (0..<1_500).map { #""k\#($0)":1"# }.joined(separator: ",")
            return #"{"set":{"path":"/m","value":{\#(members)}}}"#
        case .text: return #"{"set":{"path":"/s","value":"\#(String(repeating: "a,", count: 4_000))"}}"#
        }
    }

    private func operation(_ number: Int) -> String {
        switch self {
        case .elements: #"{"convert":{"path":"/l/*","to":"\#(number % 200 == 0 ? "string" : "integer")"}}"#
        case .members: #"{"default":{"path":"/m/x\#(number % 7)","value":1}}"#
        case .text:
            number % 2 == 0
                ? #"{"split":{"path":"/s","separator":"b","to":"/s"}}"#
                : #"{"join":{"path":"/s","separator":"b","into":"/s"}}"#
        }
    }
}
