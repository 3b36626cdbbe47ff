import Foundation
import MartletStorage
import MartletStoragePostgreSQL
import MartletStorageSQLite

extension Checkup {
    /// Checks everything that must be true of a SQLite file: a line a check, and below it the first findings.
    mutating func deep(_ path: String) throws {
        guard FileManager.default.fileExists(atPath: path) else {
            return fail("storage \(path) does not exist: check the path")
        }
        freeSpace(beside: path)
        var startedAt = Date()
        var shown = 0
        let bars = ProgressBars()
        let total: Int
        do throws(StorageError) {
            total = try FileCheck(path: path).run(onProgress: { bars.update($0) }) { outcome in
                bars.finish()
                let seconds = Date().timeIntervalSince(startedAt)
                startedAt = Date()
                var line = "\(outcome.subject.rawValue): \(outcome.summary)"
                if outcome.events > 0 {
                    line += String(
                        format: " (%.1f s, %.0f events/s)", seconds, Double(outcome.events) / max(0.001, seconds))
                } else if seconds >= 0.1 {
                    line += String(format: " (%.1f s)", seconds)
                }
                guard outcome.findingsCount > 0 else { return ok(line) }
                fail("\(line): \(outcome.findingsCount) findings")
                for finding in outcome.findings { Terminal.write(line: "      \(finding)") }
                shown += outcome.findings.count
            }
        } catch {
            bars.finish()
            return fail("storage \(path): \(error)")
        }
        if total > shown { Terminal.write(line: "      \(total) findings in all; the first \(shown) are shown") }
    }
}

extension Checkup {
    /// Everything that must be true of a PostgreSQL database, with a line a check.
    mutating func deep(database url: String) {
        do throws(StorageError) {
            _ = try DatabaseCheck(connectionString: url).run { outcome in
                let line = "\(outcome.subject): \(outcome.summary)"
                guard outcome.findingsCount > 0 else { return ok(line) }
                fail("\(line): \(outcome.findingsCount) findings")
                for finding in outcome.findings { Terminal.write(line: "      \(finding)") }
            }
        } catch { fail("storage: \(error)") }
    }
}

/// A bar for the check that runs, on a terminal only.
private final class ProgressBars {
    private var current: (subject: FileCheck.Subject, bar: ProgressBar)?
    private var last: UInt64 = 0

    func update(_ progress: FileCheck.Progress) {
        // SQLite says nothing while it checks its own structures.
        guard progress.subject != .pages else {
            if Terminal.showsProgress { FileHandle.standardError.write(Data("pages  SQLite reads the file …\n".utf8)) }
            return
        }
        if current?.subject != progress.subject {
            finish()
            current = (progress.subject, ProgressBar(progress.subject.rawValue, total: progress.total))
        }
        last = progress.done
        current?.bar.update(progress.done, progress: progress.done)
    }

    func finish() {
        current?.bar.update(last, progress: last, isLast: true)
        current = nil
    }
}
