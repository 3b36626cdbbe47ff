import Foundation
import Logging
import MartletModel
import MartletService
import MartletStorageMemory
import MartletTLSOpenSSL
import MartletTesting
import Metrics
import MetricsTestKit
import NIOConcurrencyHelpers
import Testing

@testable import MartletServer

/// What is said of certificates that expire, with the clock in the test's hand.
@Suite struct CertificateWatchTests {
    private static let day: Int64 = 86_400_000_000

    @Test func aCertificateThatExpiresIsSaidOnceADay() throws {
        let files = try TestCertificates.shared.get()
        let tls = try TLSServerContext(
            TLSServerConfiguration(
                certificateFile: files.file("server.pem"), privateKeyFile: files.file("server.key"),
                clientCAFile: files.file("ca.pem")))
        let end = try #require(tls.certificates.first { $0.role == .server }).notAfterMicros
        #expect(tls.certificates.count == 2)
        let now = NIOLockedValueBox(Timestamp(microseconds: end - 31 * Self.day))
        let log = CapturedLog()
        var seen = 0
        let metrics = TestMetrics()
        let service = try EventService.start(
            engine: MemoryEngine(), limits: Limits(), serverVersion: "t", clock: { now.withLockedValue { $0 } },
            logger: log.logger, metrics: metrics)
        let watch = CertificateWatch(tls, service, clock: { now.withLockedValue { $0 } })
        func newLines() -> [String] {
            let lines = log.lines.filter { $0.contains("a certificate ") }
            defer { seen = lines.count }
            return Array(lines[seen...])
        }
        func lines(after micros: Int64) -> [String] {
            now.withLockedValue { $0 = Timestamp(microseconds: $0.microseconds + micros) }
            watch.look()
            return newLines()
        }
        #expect(lines(after: 0).isEmpty)
        #expect(lines(after: Self.day * 3 / 2).isEmpty == false)
        // Not again on the same day.
        #expect(lines(after: Self.day - 1).isEmpty)
        let warning = try #require(lines(after: 1).first)
        for part in ["warning", "expires soon", "server.pem", "role=server", "days_left=28"] {
            #expect(warning.contains(part), "\(part): \(warning)")
        }
        // After a reload that has changed nothing.
        watch.reloaded()
        #expect(newLines().count == 1)
        let over = try #require(lines(after: 29 * Self.day).first)
        for part in ["error", "has expired", "days_left=0"] { #expect(over.contains(part), "\(part): \(over)") }
        let gauge = try metrics.expectGauge("martlet_certificate_seconds_left", [("role", "server")])
        #expect(abs((gauge.lastValue ?? 0) + 43_200) < 1, "\(String(describing: gauge.lastValue))")
        #expect(try metrics.expectGauge("martlet_certificate_seconds_left", [("role", "client_ca")]).lastValue ?? 0 > 0)
        // A clock that is put back.
        #expect(lines(after: -3 * Self.day).count == 1)
    }
}
