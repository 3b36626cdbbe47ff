import Foundation
import MartletModel

/// How much of a file its manifests speak of.
struct ManifestCoverage: Sendable {
    /// Lines that no manifest speaks of.
    var uncovered: UInt64 = 0
    /// Lines that one does.
    var covered: UInt64 = 0
    var hasManifest = false

    var isComplete: Bool { hasManifest && uncovered == 0 }

    /// What is to be said about lines without a manifest.
    var complaint: String? {
        guard uncovered > 0 else { return nil }
        guard hasManifest else {
            return "there is no manifest, the last line of an export: whether the file is whole was not checked"
        }
        return "\(uncovered) of \(covered + uncovered) lines have no manifest: whether they are whole was not checked"
    }
}

/// A file of lines, or standard input.
struct ImportSource: Sendable {
    let file: String
    let tenant: TenantID
    let isRegularFile: Bool

    /// As it is called in messages.
    var name: String { file == "-" ? "standard input" : file }

    /// Its size in bytes, if it is known.
    let bytes: UInt64?

    init(file: String, tenant: TenantID) {
        (self.file, self.tenant) = (file, tenant)
        // What a symbolic link stands for.
        let path = URL(fileURLWithPath: file).resolvingSymlinksInPath().path
        let attributes = file == "-" ? nil : try? FileManager.default.attributesOfItem(atPath: path)
        isRegularFile = attributes?[.type] as? FileAttributeType == .typeRegular
        bytes = isRegularFile ? (attributes?[.size] as? NSNumber)?.uint64Value : nil
    }

    func reader() throws -> ImportReader { try ImportReader(self) }

    /// Reads all of it, and stores nothing.
    /// - Throws: ``CommandFailure`` for a line that cannot be imported, and a manifest that is not that of its lines.
    func check() throws -> ManifestCoverage {
        do {
            var reader = try reader()
            var bar = ProgressBar("check", total: bytes)
            var count: UInt64 = 0
            while try reader.next() != nil {
                count += 1
                bar.update(count, progress: reader.bytesRead)
            }
            bar.update(count, progress: reader.bytesRead, isLast: true)
            return reader.coverage
        } catch let failure as CommandFailure {
            throw CommandFailure("\(failure). Nothing was imported")
        }
    }
}

/// Reads the lines of a file that is imported, and checks manifests as they come.
struct ImportReader {
    struct Line {
        var number: Int
        var event: NewEvent
        var aggregate: AggregateName
    }

    private let source: ImportSource
    private var lines: LineReader
    private var digest: LineDigest
    /// How many lines were read, but for empty ones.
    private var count: UInt64 = 0
    private(set) var coverage = ManifestCoverage()

    var bytesRead: UInt64 { lines.bytesRead }

    fileprivate init(_ source: ImportSource) throws {
        self.source = source
        lines = try LineReader(source.file)
        digest = try LineDigest()
    }

    /// The next event; nil at the end.
    mutating func next() throws -> Line? {
        while let line = try lines.next() {
            count += 1
            do {
                if let manifest = try EventManifest.decode(line) {
                    try check(manifest)
                    continue
                }
                let event = try parse(line)
                digest.add(line)
                return event
            } catch let fault as LineFault {
                throw CommandFailure("\(source.name), line \(lines.number): \(fault)")
            }
        }
        // Those of the last part.
        coverage.uncovered += digest.count
        _ = digest.finish()
        return nil
    }

    private func parse(_ line: [UInt8]) throws -> Line {
        let parsed = try EventLine.decode(line, tenant: source.tenant)
        guard parsed.hasID else {
            throw LineFault("\"id\" is missing: an import needs it to resume after an interruption")
        }
        guard let aggregate = parsed.aggregate else {
            throw LineFault("\"aggregate_type\" and \"aggregate_id\" are missing")
        }
        guard parsed.expected == nil else {
            throw LineFault("\"expect\" is for append: an import stores what a file has")
        }
        return Line(number: lines.number, event: parsed.event, aggregate: aggregate)
    }

    /// A manifest speaks of as many lines before it as it says: a file may begin with those of an interrupted export, which
    /// have none.
    private mutating func check(_ manifest: EventManifest) throws {
        let there = digest.count
        guard manifest.events <= there else {
            throw LineFault(
                "the manifest speaks of \(manifest.events) events, and there are \(there) before it: lines are missing")
        }
        let whole = digest.finish()
        coverage.hasManifest = true
        coverage.uncovered += there - manifest.events
        guard there == manifest.events || source.isRegularFile else {
            coverage.uncovered += manifest.events
            return
        }
        coverage.covered += manifest.events
        let sum = there == manifest.events ? whole : try sum(of: manifest.events)
        guard sum == manifest.sha256 else {
            throw LineFault(
                "the \(manifest.events) lines before the manifest are not those that were exported: their SHA-256 is \(sum), "
                    + "not \(manifest.sha256). Export again, or take the manifest out to import them as they are")
        }
    }

    /// The checksum of so many lines before the one that was read last.
    private func sum(of events: UInt64) throws -> String {
        var again = try LineReader(source.file)
        var digest = try LineDigest()
        for index in 1..<count {
            guard let line = try again.next() else { break }
            // No manifest is between them: it would have ended the part.
            if count - index <= events { digest.add(line) }
        }
        return digest.finish()
    }
}
