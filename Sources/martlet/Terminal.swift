import Foundation
import MartletModel

/// Standard output, standard error, and the progress line on a terminal.
enum Terminal {
    /// Writes one line to standard error.
    static func complain(_ text: String) {
        let line = PrintableText.escape(lines: Array("martlet: \(text)\n".utf8))
        FileHandle.standardError.write(Data(line))
    }

    /// Writes bytes to standard output; ends the program quietly when nobody reads them any more. A terminal gets what
    /// others have chosen in printable form; a file or a pipe gets every byte as it is.
    static func write(_ bytes: [UInt8]) {
        var rest = (isTerminal ? PrintableText.escape(lines: bytes) : bytes)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Foundation.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0 {
                guard errno == EINTR else { exit(errno == EPIPE ? ExitStatus.done : ExitStatus.failed) }
                continue
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Writes one line to standard output.
    static func write(line: String) { write(Array(line.utf8) + [UInt8(ascii: "\n")]) }

    private static let isTerminal = isatty(STDOUT_FILENO) == 1

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
