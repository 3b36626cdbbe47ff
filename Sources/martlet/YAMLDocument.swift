import Dispatch
import Foundation
import MartletModel
import NIOConcurrencyHelpers
import Yams

/// Reads YAML as the JSON that it stands for.
///
/// Plain scalars mean what they mean in YAML 1.2's JSON schema: `null`, `true`, `false` and numbers, whose text is
/// kept to the last digit. Everything else is a string: what is quoted, `yes`, `on`, dates. Numbers that JSON has no
/// text for (`0x1F`, `007`, `.5`, `.inf`) are refused rather than guessed. Keys are their text.
enum YAMLDocument {
    private static let depthMax = 128
    private static let seconds = 10
    private static let stackBytes = 256 << 20

    /// - Parameter bytesMax: of the JSON; a document of aliases to aliases does not get beyond it.
    static func json(_ text: String, bytesMax: Int) throws(LineFault) -> [UInt8] {
        let result = NIOLockedValueBox<Result<[UInt8], LineFault>?>(nil)
        let done = DispatchSemaphore(value: 0)
        // The parser is recursive, and compares keys with all that aliases in them stand for: a thread of its own
        // bounds the depth and the time.
        let thread = Thread {
            let made: Result<[UInt8], LineFault>
            do throws(LineFault) {
                made = .success(try convert(text, bytesMax: bytesMax))
            } catch { made = .failure(error) }
            result.withLockedValue { $0 = made }
            done.signal()
        }
        thread.stackSize = stackBytes
        thread.start()
        guard done.wait(timeout: .now() + .seconds(seconds)) == .success, let made = result.withLockedValue({ $0 })
        else { throw LineFault("takes longer than \(seconds) s to read: write it without aliases") }
        return try made.get()
    }

    private static func convert(_ text: String, bytesMax: Int) throws(LineFault) -> [UInt8] {
        let mask = ScalarMask(for: text)
        do throws(LineFault) {
            let root: Node?
            do { root = try Parser(yaml: mask.masked(text)).singleRoot() } catch { throw LineFault(describe(error)) }
            guard let root else { throw LineFault("is empty") }
            var writer = Writer(bytesMax: bytesMax, mask: mask)
            try writer.write(root, depth: 1)
            return writer.bytes
        } catch { throw LineFault(mask.unmasked(error.description)) }
    }

    /// What the parser says, in a line.
    static func describe(_ error: any Error) -> String {
        func at(_ mark: Mark, _ problem: String) -> String { "line \(mark.line), column \(mark.column): \(problem)" }
        switch error as? YamlError {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return at(mark, problem)
        case .reader(let problem, _, _, _): return problem
        case .duplicatedKeysInMapping(let keys, let context):
            return at(context.mark, "the key \(keys.first ?? "") appears twice")
        default: return String("\(error)".prefix { $0 != "\n" })
        }
    }

    private struct Writer {
        let bytesMax: Int
        let mask: ScalarMask
        var bytes: [UInt8] = []

        mutating func write(_ node: Node, depth: Int) throws(LineFault) {
            guard depth <= YAMLDocument.depthMax else {
                throw fault(node, "nests more than \(YAMLDocument.depthMax) levels deep")
            }
            guard bytes.count <= bytesMax else {
                throw fault(node, "the document is more than \(bytesMax) bytes of JSON, all aliases included")
            }
            switch node {
            case .scalar(let scalar): try write(scalar, node)
            case .sequence(let elements):
                try allow(elements.tag, [Tag.Name.seq], node)
                bytes.append(UInt8(ascii: "["))
                for (index, element) in elements.enumerated() {
                    if index > 0 { bytes.append(UInt8(ascii: ",")) }
                    try write(element, depth: depth + 1)
                }
                bytes.append(UInt8(ascii: "]"))
            case .mapping(let members):
                try allow(members.tag, [Tag.Name.map], node)
                bytes.append(UInt8(ascii: "{"))
                var keys = Set<ExactText>(minimumCapacity: members.count)
                for (index, member) in members.enumerated() {
                    guard case .scalar(let key) = member.key else {
                        throw fault(member.key, "a key must be a scalar, as in JSON")
                    }
                    guard key.string != "<<" || key.style != .plain else {
                        throw fault(member.key, "merge keys (<<) are not supported: write out the members")
                    }
                    guard keys.insert(ExactText(mask.unmasked(key.string))).inserted else {
                        throw fault(member.key, "the key \(key.string) appears twice")
                    }
                    if index > 0 { bytes.append(UInt8(ascii: ",")) }
                    write(string: key.string)
                    bytes.append(UInt8(ascii: ":"))
                    try write(member.value, depth: depth + 1)
                }
                bytes.append(UInt8(ascii: "}"))
            case .alias: throw fault(node, "an alias without an anchor")
            }
        }

        private mutating func write(_ scalar: Node.Scalar, _ node: Node) throws(LineFault) {
            try allow(scalar.tag, [Tag.Name.str], node)
            let text = scalar.string
            guard scalar.style == .plain, scalar.tag.description != Tag.Name.str.rawValue else {
                return write(string: text)
            }
            switch text {
            case "", "~", "null", "Null", "NULL": bytes += Array("null".utf8)
            case "true", "True", "TRUE": bytes += Array("true".utf8)
            case "false", "False", "FALSE": bytes += Array("false".utf8)
            case _ where !Self.mayBeNumber(text): write(string: text)
            default:
                if (try? /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/.wholeMatch(in: text)) != nil {
                    bytes += Array(text.utf8)
                } else if Self.isOtherNumber(text) {
                    throw fault(
                        node,
                        "'\(text.prefix(40))' is a number that JSON cannot write: write it differently, or quote it")
                } else {
                    write(string: text)
                }
            }
        }

        private static func mayBeNumber(_ text: String) -> Bool {
            guard let first = text.utf8.first else { return false }
            return (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) || "-+.".utf8.contains(first)
        }

        /// A number of YAML 1.1 or 1.2 that is none of JSON.
        private static func isOtherNumber(_ text: String) -> Bool {
            let forms: [Regex<Substring>] = [
                /[-+]?[0-9][0-9_]*/, /[-+]?0o?[0-7_]+/, /[-+]?0x[0-9a-fA-F_]+/, /[-+]?0b[01_]+/,
                /[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?/, /[-+]?\.(?:inf|Inf|INF)/,
                /\.(?:nan|NaN|NAN)/,
            ]
            return forms.contains { (try? $0.wholeMatch(in: text)) != nil }
        }

        private mutating func write(string: String) {
            bytes.append(UInt8(ascii: "\""))
            for byte in mask.unmasked(string).utf8 {
                switch byte {
                case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
                case 0..<0x20: bytes += Array(String(format: "\\u%04x", Int(byte)).utf8)
                default: bytes.append(byte)
                }
            }
            bytes.append(UInt8(ascii: "\""))
        }

        private func allow(_ tag: Tag, _ names: [Tag.Name], _ node: Node) throws(LineFault) {
            let name = tag.description
            guard name.isEmpty || names.contains(where: { $0.rawValue == name }) else {
                throw fault(node, "the tag \(name.prefix(60)) is not supported")
            }
        }

        private func fault(_ node: Node, _ complaint: String) -> LineFault {
            LineFault((node.mark.map { "line \($0.line), column \($0.column): " } ?? "") + complaint)
        }
    }
}
