import MartletClient
import MartletModel

/// Counts back what was acknowledged: by the heads of the tenants, and by reading their events where they are few.
struct TenantCount: Sendable {
    /// Up to this many events of a run are read back one by one.
    static let readBackMax: UInt64 = 200_000

    let tenants: [TenantID]
    private let before: [Position]

    /// Takes the heads of before.
    init(_ tenants: [TenantID], client: MartletClient) async throws {
        self.tenants = tenants
        before = try await Self.heads(tenants, client)
    }

    /// Compares what is stored now with what was acknowledged. A server that does not answer is a failure of the run,
    /// whose figures are told all the same.
    /// - Parameters:
    ///   - acknowledged: events by tenant, in the order of ``tenants``.
    ///   - unknown: events by tenant that may be stored or not.
    func verify(
        acknowledged: [UInt64], unknown: [UInt64], client: MartletClient, _ report: inout RunReport
    ) async throws {
        report.verified["appended"] = acknowledged.reduce(0, +)
        do {
            try await count(acknowledged: acknowledged, unknown: unknown, client: client, &report)
        } catch let error as MartletError {
            report.failures.append("the stored events could not be counted: \(error)")
        }
    }

    private func count(
        acknowledged: [UInt64], unknown: [UInt64], client: MartletClient, _ report: inout RunReport
    ) async throws {
        let after = try await Self.heads(tenants, client)
        var stored: UInt64 = 0
        for (index, tenant) in tenants.enumerated() {
            let count = after[index].rawValue - before[index].rawValue
            stored += count
            guard count < acknowledged[index] || count > acknowledged[index] + unknown[index] else { continue }
            report.failures.append(
                "tenant \(tenant): \(acknowledged[index]) events were acknowledged, the outcome of \(unknown[index]) "
                    + "is unknown, and \(count) are stored")
        }
        report.verified["stored"] = stored
        if unknown.contains(where: { $0 > 0 }) { report.verified["outcomeUnknown"] = unknown.reduce(0, +) }
        guard stored <= Self.readBackMax else { return }
        var readBack: UInt64 = 0
        for (index, tenant) in tenants.enumerated() where after[index] > before[index] {
            let request = ReadRequest(
                tenant: tenant, after: before[index], target: .position(after[index]), upcasting: .raw)
            var last = before[index]
            for try await page in try await client.read(request).pages {
                for event in page {
                    guard event.position == last.next else {
                        report.failures.append("tenant \(tenant): position \(event.position) follows \(last)")
                        return
                    }
                    last = event.position
                }
                readBack += UInt64(page.count)
            }
            if last != after[index] {
                report.failures.append("tenant \(tenant): its events end at \(last), but its head is \(after[index])")
            }
        }
        report.verified["readBack"] = readBack
    }

    private static func heads(_ tenants: [TenantID], _ client: MartletClient) async throws -> [Position] {
        var heads: [Position] = []
        for tenant in tenants { heads.append(try await client.head(of: tenant).position) }
        return heads
    }
}
