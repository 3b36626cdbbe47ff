import Foundation
import MartletModel

/// Standard output, standard error, and the progress line on a terminal.
enum Terminal {
    /// Writes one line to standard error.
    static func complain(_ text: String) {
        let line = PrintableText.escape(lines: Array("martlet: \(text)\n".utf8))
        FileHandle.standardError.write(Data(line))
    }

    /// Writes bytes to standard output, and ends the program if that fails: quietly when nobody reads them any more. A
    /// terminal gets what others have chosen in printable form; a file or a pipe gets every byte as it is.
    static func write(_ bytes: [UInt8]) {
        do throws(CommandFailure) { try tryWrite(bytes) } catch {
            complain("\(error)")
            exit(ExitStatus.failed)
        }
    }

    /// The same, where somebody wants to say how far it came.
    static func tryWrite(_ bytes: [UInt8]) throws(CommandFailure) {
        var rest = (isTerminal ? PrintableText.escape(lines: bytes) : bytes)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Foundation.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0 {
                let code = errno
                if code == EINTR { continue }
                if code == EPIPE { exit(ExitStatus.done) }
                throw CommandFailure(
                    "standard output cannot be written: \(unsafe String(cString: strerror(code))). Check the file or the "
                        + "device that it goes to, and its free space")
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Writes one line to standard output.
    static func write(line: String) { write(Array(line.utf8) + [UInt8(ascii: "\n")]) }

    private static let isTerminal = isatty(STDOUT_FILENO) == 1

    /// Whether somebody sits there: standard input and standard error are a terminal.
    static let canAsk = isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1

    /// Writes one line to standard error, as it is meant for the one who sits there.
    static func say(_ text: String) {
        FileHandle.standardError.write(Data(PrintableText.escape(lines: Array("\(text)\n".utf8))))
    }

    /// Asks on standard error. Everything but yes is no.
    static func ask(_ question: String) -> Bool {
        FileHandle.standardError.write(Data(PrintableText.escape(lines: Array("\(question) [y/N] ".utf8))))
        return ["y", "yes"].contains((readLine() ?? "").lowercased())
    }

    /// Whether standard error is a terminal.
    static var showsProgress: Bool { isatty(STDERR_FILENO) == 1 }
}

/// A bar on a terminal: `label  [#####     ]  50 %  12,345 events  4,567/s`. Nothing elsewhere.
struct ProgressBar {
    private let label: String
    private let total: UInt64?
    private let startedAt = Date()
    private var shownAt = Date.distantPast
    private let isShown = Terminal.showsProgress

    init(_ label: String, total: UInt64?) {
        self.label = label
        self.total = total
    }

    /// - Parameter progress: how much of `total` is done, in its unit.
    mutating func update(_ done: UInt64, progress: UInt64, isLast: Bool = false) {
        let now = Date()
        guard isShown, isLast || now.timeIntervalSince(shownAt) >= 0.1 else { return }
        shownAt = now
        let seconds = max(0.001, now.timeIntervalSince(startedAt))
        var line = "\r\(label)  "
        if let total, total > 0 {
            let width = 30
            let filled = Int(min(1, Double(progress) / Double(total)) * Double(width))
            line += "[" + String(repeating: "#", count: filled) + String(repeating: " ", count: width - filled) + "]  "
            line += "\(Int(min(100, Double(progress) * 100 / Double(total)))) %  "
        }
        line += "\(done) events  \(Int(Double(done) / seconds))/s  "
        if isLast { line += "\n" }
        FileHandle.standardError.write(Data(line.utf8))
    }
}
