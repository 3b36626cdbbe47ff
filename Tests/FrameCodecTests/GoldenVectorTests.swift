import Foundation
import MartletFrameCodec
import MartletModel
import MartletSession
import MartletTesting
import NIOCore
import Testing

/// The frames that Docs/PROTOCOL.md shows, byte for byte: what the code writes, and what it reads.
@Suite struct GoldenVectorTests {
    /// The hex dumps of the page: each stands in a code block that begins with `frame NAME`; what follows a `#` in
    /// a line is a comment.
    static let page: [String: [UInt8]] = {
        let text = (try? ManualPage("PROTOCOL").text) ?? ""
        var vectors: [String: [UInt8]] = [:]
        for block in text.components(separatedBy: "```frame ").dropFirst() {
            let lines = (block.components(separatedBy: "```").first ?? "").split(separator: "\n")
            guard let name = lines.first else { continue }
            vectors[String(name)] = lines.dropFirst().flatMap { line in
                line.prefix { $0 != "#" }.split(separator: " ").compactMap { UInt8($0, radix: 16) }
            }
        }
        return vectors
    }()

    static func hex(_ buffer: ByteBuffer) -> String {
        buffer.readableBytesView.map { String(format: "%02x", $0) }.joined()
    }

    @Test func clientFramesAreAsThePageShows() throws {
        for (name, frame) in try GoldenFrames.client() {
            var bytes = ByteBuffer()
            ClientFrameCodec.encode(frame, to: &bytes)
            #expect(Self.page[name] == Array(bytes.readableBytesView), "\(name) is \(Self.hex(bytes))")
            var decoder = FrameDecoder(limits: Limits())
            decoder.feed(ByteBuffer(bytes: Self.page[name] ?? []))
            let message = try #require(try decoder.next(), "\(name) is a whole frame")
            #expect(try ClientFrameCodec.decode(message, limits: Limits()) == frame, "\(name)")
        }
    }

    @Test func serverFramesAreAsThePageShows() throws {
        for (name, frame) in try GoldenFrames.server() {
            var bytes = ByteBuffer()
            ServerFrameCodec.encode(frame, to: &bytes)
            #expect(Self.page[name] == Array(bytes.readableBytesView), "\(name) is \(Self.hex(bytes))")
            var decoder = FrameDecoder(limits: Limits())
            decoder.feed(ByteBuffer(bytes: Self.page[name] ?? []))
            let message = try #require(try decoder.next(), "\(name) is a whole frame")
            #expect(try ServerFrameCodec.decode(message, limits: Limits()) == frame, "\(name)")
        }
    }

    @Test func thePageShowsNothingElse() throws {
        let names = Set(try GoldenFrames.client().map(\.0) + GoldenFrames.server().map(\.0))
        #expect(Set(Self.page.keys) == names)
    }
}
