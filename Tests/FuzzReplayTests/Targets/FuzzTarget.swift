import NIOCore

/// Code that reads bytes of others, and what must hold whatever they are.
struct FuzzTarget: Sendable {
    /// Names its inputs: `Fuzz/Corpus/NAME.pack` and the folder `Fuzz/Crashers/NAME`.
    let name: String
    /// Throws a ``Finding`` where something does not hold.
    let run: @Sendable ([UInt8]) throws -> Void

    /// Every target.
    static let all = [
        FuzzTarget(name: "stream", run: FrameStream.run),
        FuzzTarget(name: "client-frame", run: ClientFrames.run),
        FuzzTarget(name: "request", run: ClientFrames.runRequest),
        FuzzTarget(name: "server-frame", run: ServerFrames.run),
        FuzzTarget(name: "answer", run: ServerFrames.runAnswer),
        FuzzTarget(name: "record", run: Records.run),
        FuzzTarget(name: "server-session", run: ServerSessions.run),
        FuzzTarget(name: "client-session", run: ClientSessions.run),
        FuzzTarget(name: "service", run: ServiceScript.run),
        FuzzTarget(name: "http2", run: HTTP2Streams.run),
        FuzzTarget(name: "upcasters", run: Upcasters.run),
        FuzzTarget(name: "json", run: JSONTexts.run),
        FuzzTarget(name: "certificate", run: Certificates.run),
        FuzzTarget(name: "tenants", run: Certificates.runTenants),
        FuzzTarget(name: "postgres", run: PostgresValues.run),
        FuzzTarget(name: "import-line", run: ImportLines.run),
    ]
}

/// Something that must hold and did not.
struct Finding: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// Throws that complaint unless the condition holds.
func hold(_ condition: Bool, _ complaint: @autoclosure () -> String) throws(Finding) {
    guard condition else { throw Finding(complaint()) }
}

/// An input, taken apart from its front. At the end there are zeros.
struct Input {
    private(set) var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

    /// A number below `bound`, which is at most 256.
    mutating func number(below bound: Int) -> Int { Int(byte()) % bound }

    /// So many bytes, or as many as there are.
    mutating func bytes(_ count: Int) -> [UInt8] {
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }
}

extension ByteBuffer {
    var array: [UInt8] { Array(readableBytesView) }
}
