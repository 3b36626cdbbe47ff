import Logging
import MartletModel
import MartletService
import MartletTLSOpenSSL
import NIOConcurrencyHelpers
import NIOCore

/// Tells an operator in time that a certificate expires: in the log when the server starts, when certificates were reloaded,
/// and once a day; as a metric every hour.
final class CertificateWatch: Sendable {
    static let warningDays: Int64 = 30
    static let interval = TimeAmount.hours(1)
    private static let dayMicros: Int64 = 86_400_000_000

    private let tls: TLSServerContext
    private let service: EventService
    private let clock: Clock
    private let warnedAt = NIOLockedValueBox<Timestamp?>(nil)

    init(_ tls: TLSServerContext, _ service: EventService, clock: @escaping Clock) {
        self.tls = tls
        self.service = service
        self.clock = clock
    }

    /// Looks now, and every hour.
    /// - Returns: what ends that.
    func start(on loop: any EventLoop) -> RepeatedTask {
        look()
        return loop.scheduleRepeatedTask(initialDelay: Self.interval, delay: Self.interval) { _ in self.look() }
    }

    /// Certificates were reloaded: what is still wrong is said again.
    func reloaded() {
        warnedAt.withLockedValue { $0 = nil }
        look()
    }

    func look() {
        let now = clock()
        let certificates = tls.certificates
        var left: [String: Double] = [:]
        for certificate in certificates {
            let seconds = Double(certificate.notAfterMicros - now.microseconds) / 1_000_000
            left[certificate.role.rawValue] = min(left[certificate.role.rawValue] ?? .infinity, seconds)
        }
        service.recordCertificates(secondsLeft: left)
        let isDue = warnedAt.withLockedValue { last in
            // A clock that was put back counts as a new day.
            if let last, 0..<Self.dayMicros ~= now.microseconds - last.microseconds { return false }
            last = now
            return true
        }
        guard isDue else { return }
        for certificate in certificates {
            let days = (certificate.notAfterMicros - now.microseconds) / Self.dayMicros
            guard days < Self.warningDays else { continue }
            let isOver = certificate.notAfterMicros <= now.microseconds
            service.logger.log(
                level: isOver ? .error : .warning,
                isOver
                    ? "a certificate has expired: put a new one in its place, and send SIGHUP"
                    : "a certificate expires soon: put a new one in its place, and send SIGHUP",
                metadata: [
                    "role": "\(certificate.role.rawValue)", "file": "\(certificate.file)",
                    "subject": "\(certificate.subject)",
                    "not_after": "\(Timestamp(microseconds: certificate.notAfterMicros))", "days_left": "\(days)",
                ])
        }
    }
}
