import MartletModel
import NIOCore

/// Writes a definition document in its canonical form: no blanks, members in a fixed order, options only where
/// they are set.
struct DefinitionWriter {
    private var bytes: [UInt8] = []

    static func document(_ steps: [Step]) -> ByteBuffer {
        var writer = DefinitionWriter()
        writer.raw("{\"upcasters\":[")
        for (index, step) in steps.enumerated() {
            if index > 0 { writer.raw(",") }
            writer.step(step)
        }
        writer.raw("]}")
        return ByteBuffer(bytes: writer.bytes)
    }

    /// One step, as it stands in a document.
    static func text(_ step: Step) -> ByteBuffer {
        var writer = DefinitionWriter()
        writer.step(step)
        return ByteBuffer(bytes: writer.bytes)
    }

    private mutating func raw(_ text: String) { bytes += text.utf8 }

    private mutating func string(_ text: some Collection<UInt8>) { bytes += JSONString.quoted(text) }

    private mutating func step(_ step: Step) {
        raw(step.id.subject.isEvent ? "{\"event\":" : "{\"snapshot\":")
        string(Array(step.id.subject.text.utf8))
        raw(",\"from\":\(step.id.from),\"operations\":[")
        for (index, operation) in step.operations.enumerated() {
            if index > 0 { raw(",") }
            self.operation(operation)
        }
        raw("]}")
    }

    /// A value inside an operation.
    private enum Part {
        case text([UInt8])
        case json([UInt8])
        case pointer(JSONPointer)
        case pointers([JSONPointer])
        case table([Operation.TableEntry])

        static func word(_ word: String) -> Part { .text(Array(word.utf8)) }
    }

    private mutating func part(_ part: Part) {
        switch part {
        case .text(let text): string(text)
        case .json(let json): bytes += json
        case .pointer(let pointer): string(pointer.text)
        case .pointers(let pointers):
            raw("[")
            for (index, pointer) in pointers.enumerated() {
                if index > 0 { raw(",") }
                string(pointer.text)
            }
            raw("]")
        case .table(let entries):
            raw("{")
            for (index, entry) in entries.enumerated() {
                if index > 0 { raw(",") }
                string(entry.key)
                raw(":")
                bytes += entry.value
            }
            raw("}")
        }
    }

    private mutating func write(
        _ name: String, _ parts: KeyValuePairs<String, Part?>, _ options: Operation.Options = Operation.Options()
    ) {
        raw("{\"\(name)\":{")
        var isFirst = true
        func comma(_ writer: inout DefinitionWriter) {
            if !isFirst { writer.raw(",") }
            isFirst = false
        }
        for case (let key, let part?) in parts {
            comma(&self)
            raw("\"\(key)\":")
            self.part(part)
        }
        for (key, isSet) in [("required", options.isRequired), ("replace", options.replaces)] where isSet {
            comma(&self)
            raw("\"\(key)\":true")
        }
        raw("}}")
    }

    private mutating func operation(_ operation: Operation) {
        switch operation {
        case .rename(let path, let name, let options):
            write("rename", ["path": .pointer(path), "to": .text(name)], options)
        case .move(let source, let target, let options):
            write("move", ["from": .pointer(source), "to": .pointer(target)], options)
        case .copy(let source, let target, let options):
            write("copy", ["from": .pointer(source), "to": .pointer(target)], options)
        case .remove(let path, let options): write("remove", ["path": .pointer(path)], options)
        case .set(let path, let value): write("set", ["path": .pointer(path), "value": .json(value)])
        case .setDefault(let path, let value): write("default", ["path": .pointer(path), "value": .json(value)])
        case .convert(let path, let target, let source, let options):
            write(
                "convert",
                [
                    "path": .pointer(path), "to": .word(target.rawValue),
                    "from": source.map { .word($0.rawValue) },
                ], options)
        case .map(let path, let table, let otherwise, let options):
            write(
                "map", ["path": .pointer(path), "table": .table(table), "default": otherwise.map { .json($0) }],
                options)
        case .wrapInArray(let path, let options):
            write("wrap", ["path": .pointer(path), "in": .word("array")], options)
        case .wrapInObject(let path, let key, let options):
            write("wrap", ["path": .pointer(path), "in": .word("object"), "key": .text(key)], options)
        case .unwrapArray(let path, let options):
            write("unwrap", ["path": .pointer(path), "from": .word("array")], options)
        case .unwrapObject(let path, let key, let options):
            write("unwrap", ["path": .pointer(path), "from": .word("object"), "key": .text(key)], options)
        case .split(let path, let separator, let targets, let options):
            write(
                "split", ["path": .pointer(path), "separator": .text(separator), "into": .pointers(targets)], options)
        case .splitToArray(let path, let separator, let target, let options):
            write("split", ["path": .pointer(path), "separator": .text(separator), "to": .pointer(target)], options)
        case .join(let paths, let separator, let target, let options):
            write(
                "join", ["paths": .pointers(paths), "separator": .text(separator), "into": .pointer(target)], options)
        case .joinArray(let path, let separator, let target, let options):
            write("join", ["path": .pointer(path), "separator": .text(separator), "into": .pointer(target)], options)
        case .type(let type):
            raw("{\"type\":")
            string(Array(type.text.utf8))
            raw("}")
        }
    }
}
