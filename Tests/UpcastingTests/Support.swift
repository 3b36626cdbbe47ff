import Foundation
import MartletModel
import MartletUpcasting
import NIOCore
import Testing

/// Short ways to say what the tests say often.
enum Sample {
    static let json = "application/json"

    static func event(_ type: String) throws -> EventType { try #require(EventType(type)) }

    static func set(_ definition: String, limits: UpcastingLimits = UpcastingLimits()) throws -> UpcasterSet {
        try UpcasterSet(definition: ByteBuffer(string: definition), limits: limits)
    }

    /// A set of one step, for events of type `E` from 1, of those operations.
    static func step(_ operations: String, limits: UpcastingLimits = UpcastingLimits()) throws -> UpcasterSet {
        try set(#"{"upcasters":[{"event":"E","from":1,"operations":[\#(operations)]}]}"#, limits: limits)
    }
}

/// What an event became.
enum Became: Equatable {
    case unchanged
    case payload(String)
    case failed(String)
}

extension UpcasterSet {
    func upcast(
        _ payload: String, type: String = "E", from version: UInt32 = 1, contentType: String = Sample.json,
        atMost target: UInt32? = nil, outputBytesMax: Int = 1 << 20
    ) throws -> (outcome: UpcastOutcome, payload: String) {
        var output = ByteBuffer(string: "before")
        let outcome = upcast(
            event: try Sample.event(type), schemaVersion: version, contentType: contentType,
            payload: ByteBuffer(string: payload), atMost: target, outputBytesMax: outputBytesMax, to: &output)
        var rest = output
        #expect(rest.readString(length: 6) == "before")
        switch outcome {
        case .upcast: break
        case .unchanged, .failed: #expect(output.readableBytes == 6)
        }
        return (outcome, String(buffer: rest))
    }

    func became(_ payload: String, outputBytesMax: Int = 1 << 20) throws -> Became {
        let (outcome, payload) = try upcast(payload, outputBytesMax: outputBytesMax)
        switch outcome {
        case .unchanged: return .unchanged
        case .upcast: return .payload(payload)
        case .failed(let failure): return .failed(failure.complaint)
        }
    }
}

/// A generator that a seed reproduces.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    /// A new seed, or the one to replay, from the environment.
    static func seed() -> UInt64 {
        ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
            ?? UInt64.random(in: 1...UInt64.max)
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
