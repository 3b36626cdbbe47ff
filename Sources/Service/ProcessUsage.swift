import Foundation

/// What this process uses of the machine.
struct ProcessUsage: Hashable {
    /// User and system time, of all threads.
    var cpuMicros: UInt64 = 0
    /// Memory in RAM; 0 where the system does not tell.
    var residentBytes: UInt64 = 0
    /// The most of it since the process started; 0 where the system does not tell.
    var residentPeakBytes: UInt64 = 0

    static func now() -> ProcessUsage {
        var usage = ProcessUsage()
        var times = rusage()
        // The constant is a C enum in Glibc and a number elsewhere: 0 is the process itself in both.
        if unsafe getrusage(.init(0), &times) == 0 {
            usage.cpuMicros = [times.ru_utime, times.ru_stime].reduce(0) {
                $0 + UInt64(clamping: $1.tv_sec) * 1_000_000 + UInt64(clamping: $1.tv_usec)
            }
        }
        if let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) { usage.readMemory(status) }
        return usage
    }

    /// Takes the memory out of the text of `/proc/self/status`.
    mutating func readMemory(_ status: String) {
        for line in status.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count == 3, words[2] == "kB", let kilobytes = UInt64(words[1]), kilobytes < 1 << 50 else {
                continue
            }
            switch words[0] {
            case "VmRSS:": residentBytes = kilobytes << 10
            case "VmHWM:": residentPeakBytes = kilobytes << 10
            default: break
            }
        }
    }
}
