import MartletModel

/// Bytes of a payload, of the program's pool, or made while the program runs.
struct Slice: Sendable {
    enum Source: UInt8, Sendable {
        case payload
        case pool
        case made
    }

    var source: Source
    /// For a string: whether it holds a backslash, where anyone cares.
    var isEscaped = false
    var start: UInt32
    var end: UInt32

    var range: Range<Int> { Int(start)..<Int(end) }
    var count: Int { Int(end - start) }
    var isEmpty: Bool { start == end }

    static let none = Slice(source: .pool, start: 0, end: 0)
}

/// A set's steps in the form that is run: flat arrays of plain values, and one pool of all names and constants.
struct Program: Sendable {
    struct Segment: Sendable {
        /// Whether it is `*`.
        var isEach: Bool
        /// Whether it is `-`, which stands for the end of an array.
        var isEnd: Bool
        /// The name in quotes.
        var key: Slice
        /// The index that the name stands for in an array; -1 for none.
        var index: Int32
    }

    struct Path: Sendable {
        var segments: Range<Int32>
        /// How many segments there are up to and including the last `*`; 0 without one.
        var starPrefix: Int32
        var starCount: Int32
        /// The pointer as written.
        var text: Slice

        var count: Int { segments.count }
    }

    /// A source and the target that goes with it.
    struct Transfer: Sendable {
        var source: Path
        var target: Path
        /// Whether both are the same up to the last `*`: the target is then looked for from there.
        var isShared: Bool
        var options: Operation.Options
    }

    enum Instruction: Sendable {
        case rename(Path, to: Slice, Operation.Options)
        case move(Transfer)
        case copy(Transfer)
        case remove(Path, Operation.Options)
        case set(Path, Slice, onlyIfAbsent: Bool)
        case convert(Path, to: ValueForm, from: ValueForm?, Operation.Options)
        case map(Path, table: Int, otherwise: Slice?, Operation.Options)
        case wrap(Path, key: Slice?, Operation.Options)
        case unwrap(Path, key: Slice?, Operation.Options)
        /// Targets are in ``Program/transfers``.
        case split(Range<Int>, separator: Slice)
        case splitToArray(Transfer, separator: Slice)
        /// Sources are in ``Program/transfers``.
        case join(Range<Int>, separator: Slice)
        case joinArray(Transfer, separator: Slice)
        case type
    }

    struct CompiledStep: Sendable {
        var instructions: Range<Int>
        /// Whether any of them is more than a new event type.
        var changesPayload: Bool
    }

    private(set) var pool: [UInt8] = []
    private(set) var segments: [Segment] = []
    private(set) var transfers: [Transfer] = []
    private(set) var tables: [[[UInt8]: Slice]] = []
    private(set) var instructions: [Instruction] = []
    /// In the order of the steps that were compiled.
    private(set) var steps: [CompiledStep] = []

    /// Compiles steps.
    init(_ steps: [Step]) {
        for step in steps {
            let start = instructions.count
            for operation in step.operations { instructions.append(compile(operation)) }
            let changesPayload = step.operations.contains { operation in
                if case .type = operation { false } else { true }
            }
            self.steps.append(
                CompiledStep(instructions: start..<instructions.count, changesPayload: changesPayload))
        }
    }

    /// What the program takes in memory, about.
    var memoryBytes: Int {
        pool.count + segments.count * MemoryLayout<Segment>.stride + transfers.count * MemoryLayout<Transfer>.stride
            + instructions.count * MemoryLayout<Instruction>.stride + steps.count * MemoryLayout<CompiledStep>.stride
            + tables.reduce(0) { sum, table in
                table.keys.reduce(sum + 64) { $0 + 128 + $1.count }
            }
    }

    private mutating func constant(_ bytes: [UInt8]) -> Slice {
        let start = UInt32(pool.count)
        pool += bytes
        return Slice(source: .pool, start: start, end: UInt32(pool.count))
    }

    private mutating func key(_ name: [UInt8]) -> Slice {
        let quoted = JSONString.quoted(name)
        var slice = constant(quoted)
        slice.isEscaped = quoted.contains(UInt8(ascii: "\\"))
        return slice
    }

    private mutating func path(_ pointer: JSONPointer) -> Path {
        let start = Int32(segments.count)
        for segment in pointer.segments {
            switch segment {
            case .each: segments.append(Segment(isEach: true, isEnd: false, key: .none, index: -1))
            case .name(let name):
                segments.append(
                    Segment(
                        isEach: false, isEnd: name == [UInt8(ascii: "-")], key: key(name),
                        index: JSONPointer.index(name) ?? -1))
            }
        }
        return Path(
            segments: start..<Int32(segments.count), starPrefix: Int32(pointer.starPrefix.count),
            starCount: Int32(pointer.starCount), text: constant(pointer.text))
    }

    private mutating func transfer(
        _ source: JSONPointer, _ target: JSONPointer, _ options: Operation.Options
    ) -> Transfer {
        Transfer(
            source: path(source), target: path(target), isShared: source.starPrefix == target.starPrefix,
            options: options)
    }

    private mutating func compile(_ operation: Operation) -> Instruction {
        switch operation {
        case .rename(let pointer, let name, let options): return .rename(path(pointer), to: key(name), options)
        case .move(let source, let target, let options): return .move(transfer(source, target, options))
        case .copy(let source, let target, let options): return .copy(transfer(source, target, options))
        case .remove(let pointer, let options): return .remove(path(pointer), options)
        case .set(let pointer, let value): return .set(path(pointer), constant(value), onlyIfAbsent: false)
        case .setDefault(let pointer, let value): return .set(path(pointer), constant(value), onlyIfAbsent: true)
        case .convert(let pointer, let target, let source, let options):
            return .convert(path(pointer), to: target, from: source, options)
        case .map(let pointer, let entries, let otherwise, let options):
            var table: [[UInt8]: Slice] = [:]
            for entry in entries { table[entry.key] = constant(entry.value) }
            tables.append(table)
            let fallback = otherwise.map { constant($0) }
            return .map(path(pointer), table: tables.count - 1, otherwise: fallback, options)
        case .wrapInArray(let pointer, let options): return .wrap(path(pointer), key: nil, options)
        case .wrapInObject(let pointer, let name, let options): return .wrap(path(pointer), key: key(name), options)
        case .unwrapArray(let pointer, let options): return .unwrap(path(pointer), key: nil, options)
        case .unwrapObject(let pointer, let name, let options): return .unwrap(path(pointer), key: key(name), options)
        case .split(let pointer, let separator, let targets, let options):
            let start = transfers.count
            for target in targets { transfers.append(transfer(pointer, target, options)) }
            return .split(start..<transfers.count, separator: constant(separator))
        case .splitToArray(let pointer, let separator, let target, let options):
            return .splitToArray(transfer(pointer, target, options), separator: constant(separator))
        case .join(let pointers, let separator, let target, let options):
            let start = transfers.count
            for pointer in pointers { transfers.append(transfer(pointer, target, options)) }
            return .join(start..<transfers.count, separator: constant(separator))
        case .joinArray(let pointer, let separator, let target, let options):
            return .joinArray(transfer(pointer, target, options), separator: constant(separator))
        case .type: return .type
        }
    }
}
