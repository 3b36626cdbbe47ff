import Foundation
import MartletClient
import MartletModel
import NIOConcurrencyHelpers

/// Asks the server once a second what its process uses. A server that does not answer leaves a gap, and holds up
/// nothing else.
final class ServerSampler: Sendable {
    private struct State: Sendable {
        var first: ServerStatus?
        var last: ServerStatus?
        var residentMax: UInt64 = 0
        var clocksAgree = true
    }

    /// How far the clocks of both may be apart beyond what the way there and back leaves open.
    private static let clockMicrosMax: Int64 = 1_000

    private let client: MartletClient
    private let state = NIOLockedValueBox(State())

    init(_ client: MartletClient) { self.client = client }

    /// The memory of the server as it was last told.
    var residentBytes: UInt64 { state.withLockedValue { $0.last?.residentBytes ?? 0 } }

    /// Asks now.
    func sample() async {
        do throws(MartletError) {
            let asked = Timestamp.now().microseconds
            let status = try await client.status()
            let answered = Timestamp.now().microseconds
            let told = status.serverTime.microseconds
            let agrees = told >= asked - Self.clockMicrosMax && told <= answered + Self.clockMicrosMax
            state.withLockedValue { state in
                state.clocksAgree = state.clocksAgree && agrees
                if state.first == nil { state.first = status }
                state.last = status
                state.residentMax = max(state.residentMax, status.residentBytes)
            }
        } catch {
            // The calls that are measured tell the error.
        }
    }

    /// Asks at the beginning of the measured time and then once a second, until it is cancelled.
    func watch(_ window: RunWindow) async {
        var second = 0.0
        while !Task.isCancelled {
            do { try await RunWindow.sleep(until: window.measureFrom + second) } catch { return }
            await sample()
            second = max(second + 1, (Moment.now().seconds(since: window.measureFrom)).rounded(.up))
        }
    }

    /// Puts into a report what was seen.
    func fill(_ report: inout RunReport) {
        let seen = state.withLockedValue { $0 }
        if !seen.clocksAgree { report.commitToDeliveryLatency = nil }
        guard let first = seen.first, let last = seen.last else { return }
        report.server.version = last.serverVersion
        report.server.engine = last.storageEngine
        report.serverCPUSeconds = rounded(Double(last.processCPUMicros &- first.processCPUMicros) / 1e6)
        report.serverMemoryBytes.before = first.residentBytes
        report.serverMemoryBytes.after = last.residentBytes
        // The peak since the server's start is of this run only where it grew in it.
        let grew = last.residentPeakBytes > first.residentPeakBytes
        report.serverMemoryBytes.peak = max(seen.residentMax, grew ? last.residentPeakBytes : 0)
    }
}

/// The CPU time of this process, user and system.
enum OwnUsage {
    static func cpuSeconds() -> Double {
        var times = rusage()
        // 0 is the process itself, whatever type the system's headers give the constant.
        guard unsafe getrusage(.init(0), &times) == 0 else { return 0 }
        return [times.ru_utime, times.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
    }
}
