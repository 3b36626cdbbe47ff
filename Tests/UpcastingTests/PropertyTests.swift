import MartletModel
import MartletTesting
import MartletUpcasting
import NIOCore
import Testing

/// Random steps on random payloads: the machine and the oracle agree, or both fail at the same operation.
@Suite("Properties")
struct PropertyTests {
    #if DEBUG
        static let rounds = TestRounds.count(6_000, long: 200_000)
    #else
        static let rounds = 200_000
    #endif

    @Test func theMachineAgreesWithTheOracle() throws {
        let seed = SplitMix.seed()
        print("upcasting against the oracle: seed \(seed)")
        var random = Generator(random: SplitMix(state: seed))
        var (upcast, failed) = (0, 0)
        for round in 0..<Self.rounds {
            let operations = (0..<random.int(1...6)).map { _ in random.operation() }
            let split = random.int(0...operations.count)
            let steps = [operations[..<split], operations[split...]].filter { !$0.isEmpty }
            let document = steps.enumerated().map { index, operations in
                #"{"event":"E","from":\#(index + 1),"operations":[\#(operations.map(\.json).joined(separator: ","))]}"#
            }
            let set = try Sample.set(#"{"upcasters":[\#(document.joined(separator: ","))]}"#)
            let payload = random.tree(3)

            var oracle = Oracle(root: payload)
            var expected: Int?
            for (index, operation) in operations.enumerated() where expected == nil {
                do { try oracle.apply(operation) } catch { expected = index }
            }
            let (outcome, text) = try set.upcast(random.spaced(payload.text))
            let context: Comment =
                "seed \(seed), round \(round): \(operations.map(\.json)) on \(payload.text)"
            switch outcome {
            case .unchanged: Issue.record(context)
            case .upcast:
                upcast += 1
                #expect(expected == nil, context)
                if expected == nil { #expect(text.filter { $0 != "\n" } == oracle.root.text, context) }
            case .failed(let failure):
                failed += 1
                let first = failure.fromVersion == 1 ? 0 : steps[0].count
                #expect(failure.operation.map { $0 + first } == expected, context)
            }
        }
        print("upcasting against the oracle: \(upcast) upcast, \(failed) failed")
        #expect(upcast > Self.rounds / 10)
        #expect(failed > Self.rounds / 10)
    }
}

/// Makes small payloads and operations that meet often.
struct Generator {
    var random: SplitMix

    mutating func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
    mutating func chance(_ percent: Int) -> Bool { int(1...100) <= percent }
    mutating func pick<Element>(_ list: [Element]) -> Element { list[int(0...list.count - 1)] }

    mutating func tree(_ depth: Int) -> Tree {
        let kind = int(0...9)
        if depth == 0 || kind < 3 {
            return .scalar(
                pick(
                    [
                        "null", "true", "false", #""a""#, #""x y""#, #""x y z""#, #""""#, #""1""#, #""\u0061 \/""#,
                        #""true""#,
                    ] + Oracle.numbers))
        }
        if kind < 6 { return .array((0..<int(0...3)).map { _ in tree(depth - 1) }) }
        return .object(
            (0..<int(0...4)).map { _ in
                Tree.Member(key: pick([#""a""#, #""b""#, #""c""#, #""\u0061""#, #""0""#]), value: tree(depth - 1))
            })
    }

    /// The text with line feeds between its parts, at times; no string of ours holds one.
    mutating func spaced(_ text: String) -> String {
        guard chance(30) else { return text }
        var spaced = ""
        var isInside = false
        for character in text {
            if character == "\"" { isInside.toggle() }
            if !isInside, ",:]}".contains(character), chance(50) { spaced += "\n" }
            spaced.append(character)
        }
        return spaced
    }

    mutating func path(stars: Int? = nil, endsInName: Bool = false, mayBeRoot: Bool = true) -> [String] {
        while true {
            let path = (0..<int(0...3)).map { _ in pick(["a", "b", "c", "a", "b", "*", "0", "1", "-"]) }
            if let stars, path.count(where: { $0 == "*" }) != stars { continue }
            if endsInName, path.isEmpty || path.last == "*" { continue }
            if !mayBeRoot, path.isEmpty { continue }
            return path
        }
    }

    private func stars(_ path: [String]) -> Int { path.count { $0 == "*" } }

    /// A target for a source: at times the same up to the last `*`.
    mutating func target(_ source: [String], replace: Bool) -> [String] {
        while true {
            let prefix = source[..<((source.lastIndex(of: "*") ?? -1) + 1)]
            let target =
                chance(60)
                ? prefix + (0..<int(0...2)).map { _ in pick(["a", "b", "c", "0", "-"]) } : path(stars: stars(source))
            if !target.isEmpty || replace { return Array(target) }
        }
    }

    mutating func operation() -> OracleOperation {
        let replace = chance(40)
        let required = chance(10)
        switch int(0...13) {
        case 0: return .rename(path(endsInName: true), pick(["a", "b", "c"]), required: required, replace: replace)
        case 1, 2:
            let source = path()
            return .move(source, target(source, replace: replace), copies: false, required: required, replace: replace)
        case 3:
            let source = path()
            return .move(source, target(source, replace: replace), copies: true, required: required, replace: replace)
        case 4: return .remove(path(mayBeRoot: false), required: required)
        case 5: return .set(path(), tree(1), onlyIfAbsent: false)
        case 6: return .set(path(), tree(1), onlyIfAbsent: true)
        case 7: return .convert(path(), pick(["string", "integer", "number", "boolean"]))
        case 8:
            return .map(path(), ["a": tree(0), "1": tree(0), "true": tree(1)], otherwise: chance(70) ? tree(0) : nil)
        case 9: return .wrap(path(), key: chance(50) ? "a" : nil)
        case 10: return .unwrap(path(), key: chance(50) ? "a" : nil)
        case 11:
            let source = path()
            var targets: [[String]] = []
            while targets.count < 2 {
                let next = target(source, replace: replace)
                if !targets.contains(next) { targets.append(next) }
            }
            return .split(source, into: targets, replace: replace)
        case 12:
            let source = path()
            if chance(50) { return .splitToArray(source, target(source, replace: replace), replace: replace) }
            return .joinArray(source, target(source, replace: replace), replace: replace)
        default:
            var sources: [[String]] = []
            let prefix = path(endsInName: true)
            let shared = Array(prefix[..<((prefix.lastIndex(of: "*") ?? -1) + 1)])
            while sources.count < 2 {
                let next = shared + (0..<int(1...2)).map { _ in pick(["a", "b", "c", "0"]) }
                if !sources.contains(next) { sources.append(next) }
            }
            while true {
                let into = shared + (0..<int(0...2)).map { _ in pick(["a", "b", "c", "-"]) }
                if !into.isEmpty || replace { return .join(sources, into, required: required, replace: replace) }
            }
        }
    }
}
