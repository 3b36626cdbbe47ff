import MartletModel
import MartletUpcasting
import NIOCore

/// A definition, a zero byte, a payload: whatever they are, work and output keep to their bounds, and what comes out is
/// JSON.
enum Upcasters {
    private static let limits: UpcastingLimits = {
        var limits = UpcastingLimits()
        limits.stepsMax = 20
        limits.tableEntriesMax = 50
        limits.nodesPerPayloadMax = 2_000
        limits.workPerPayloadMax = 256 << 10
        limits.madeBytesPerPayloadMax = 16 << 10
        return limits
    }()
    private static let outputBytesMax = 4 << 10

    static func run(_ bytes: [UInt8]) throws {
        let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
        let set: UpcasterSet
        do throws(MartletError) {
            set = try UpcasterSet(definition: ByteBuffer(bytes: parts.first ?? []), limits: limits)
        } catch {
            return try hold(error.reason == .invalidUpcaster, "refused as \(error)")
        }
        let canonical = set.definition()
        let again: UpcasterSet
        do throws(MartletError) {
            again = try UpcasterSet(definition: canonical, limits: limits)
        } catch {
            throw Finding("the canonical definition is refused: \(error)")
        }
        try hold(again.definition() == canonical, "the definition changes when it is read again")
        try hold(again.steps == set.steps, "the steps change when the definition is read again")
        let payload = parts.count > 1 ? Array(parts[1]) : Array("{}".utf8)
        for step in set.steps { try upcast(payload, by: set, step) }
    }

    private static func upcast(_ payload: [UInt8], by set: UpcasterSet, _ step: UpcasterStepSummary) throws {
        var output = ByteBuffer()
        let input = ByteBuffer(bytes: payload)
        let outcome =
            switch step.subject {
            case .event(let type):
                set.upcast(
                    event: type, schemaVersion: step.fromVersion, contentType: NewEvent.json, payload: input,
                    outputBytesMax: outputBytesMax, to: &output)
            case .snapshot(let type):
                set.upcast(
                    snapshot: type, schemaVersion: step.fromVersion, contentType: NewEvent.json, payload: input,
                    outputBytesMax: outputBytesMax, to: &output)
            }
        switch outcome {
        case .unchanged: throw Finding("\(step) was passed over")
        case .failed(let failure):
            try hold(output.readableBytes == 0, "output of a failure")
            try hold(!failure.complaint.isEmpty, "a failure without a complaint")
        case .upcast(let upcast):
            try hold(upcast.schemaVersion > step.fromVersion, "the version does not rise")
            try hold(output.readableBytes <= outputBytesMax, "\(output.readableBytes) bytes of output")
            // A chain that only renames copies the payload, whatever it is.
            guard (try? check(payload)) != nil else { return try hold(output.array == payload, "output of no JSON") }
            guard (try? check(output.array)) != nil else {
                throw Finding("the output is no JSON: \(String(buffer: output))")
            }
        }
    }

    private static func check(_ bytes: [UInt8]) throws {
        try unsafe bytes.withUnsafeBytes { bytes in try unsafe _ = JSONText.check(bytes) }
    }
}
