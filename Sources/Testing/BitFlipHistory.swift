import FoundationEssentials
import MartletModel
import MartletRecordCodec
public import MartletStorage
import NIOCore

/// A history, and everything that a server would read of it.
public struct BitFlipHistory: Sendable {
    private let tenants = (0..<2).map { _ in TenantID(UUID()) }
    private let names = (0..<5).map { AggregateName.new(["order", "cart"][$0 % 2]) }
    private var sent: [AppendRequest] = []
    private var consumers: [ConsumerHistory] = []

    /// Stores a history.
    /// - Parameter numbers: what makes it.
    public init(_ engine: any StorageEngine, _ numbers: inout SeededGenerator) throws {
        let writer = engine.makeWriter()
        for round in 0..<60 {
            var request = try AppendRequest.of(
                (0..<Int.random(in: 1...12, using: &numbers)).map { _ in
                    try .sample(#""\#(String(repeating: "x", count: Int.random(in: 0...600, using: &numbers)))""#)
                }, to: names[round % 5], tenant: tenants[round % 2])
            if round % 8 == 0 { request.aggregates[0].snapshot = NewSnapshot(payload: ByteBuffer(string: "\(round)")) }
            sent.append(request)
            try writer.append(request, now: Timestamp(microseconds: Int64(round) * 1_000))
        }
        for tenant in tenants {
            _ = try writer.apply(
                .putSettings(
                    PutSettingsRequest(
                        tenant: tenant, kind: .snapshotPolicies, document: ByteBuffer(string: #"{"policies":[]}"#))),
                now: Timestamp(microseconds: 50_000))
        }
        for (index, tenant) in tenants.enumerated() {
            try Self.schedule(writer, tenant, names[index])
            // No bit turns the name of a consumer into one that another tenant has.
            consumers.append(try ConsumerHistory(engine, of: tenant, label: "tenant-\(index)", &numbers))
        }
    }

    /// Two schedules that wait, and one that is set aside.
    private static func schedule(_ writer: any StorageWriter, _ tenant: TenantID, _ name: AggregateName) throws {
        var changes: [ScheduleChange] = []
        for (number, text) in ["invoice-1", "invoice-2", "reminder"].enumerated() {
            guard let key = ScheduleKey(text) else { preconditionFailure("a valid key") }
            changes.append(
                .set(
                    NewSchedule(
                        key, due: Timestamp(microseconds: Int64(number + 1) * 7_000), aggregate: name,
                        event: try .sample(#"{"amount": \#(number)}"#),
                        latenessMillisMax: number == 0 ? nil : 60_000)))
        }
        guard case .set(let last) = changes[2] else { return }
        for kind in [.asked(changes), .park(last.key, event: last.event.id, reason: "no")] as [SchedulesChange.Kind] {
            _ = try writer.apply(
                .schedules(SchedulesChange(kind, of: tenant, countMax: 10)), now: Timestamp(microseconds: 1))
        }
    }

    private static func schedules(of tenants: [TenantID], _ reader: any StorageReader) throws(StorageError) -> [String]
    {
        var answers: [String] = []
        for tenant in tenants {
            for isParkedOnly in [false, true] {
                let found = try reader.schedules(of: tenant, after: nil, isParkedOnly: isParkedOnly, countMax: 10)
                answers += found.map { "schedule \($0)" }
            }
        }
        for now in [Timestamp(microseconds: 0), Timestamp(microseconds: 100_000)] {
            let due = try reader.dueSchedules(
                DueQuestion(
                    now: now, patienceMicros: 0, tenantsMax: 10, countPerTenantMax: 10, bytesMax: .max))
            answers += due.schedules.map { "due \($0)" }.sorted() + ["next due \(String(describing: due.next))"]
        }
        return answers
    }

    /// Those of the answers that are events: each with its bytes, and thereby with its place.
    public static func records(in answers: [String]) -> Set<String> { Set(answers.filter { $0.hasPrefix("event ") }) }

    private static func records(_ page: EventPage) throws(StorageError) -> [String] {
        var rest = page.entries
        var records: [String] = []
        do throws(RecordFault) {
            while let record = try RecordedEntries.nextRecord(of: &rest) { records.append("event \(record.hashValue)") }
        } catch { throw StorageError(.corrupted, "\(error)") }
        return records + ["\(page.count) events"]
    }

    /// What a server on that engine, which has a copy of the history, answers, as text; it writes nothing new.
    public func answers(of engine: any StorageEngine) throws(StorageError) -> [String] {
        try engine.prepare()
        let reader = engine.makeReader()
        var answers: [String] = []
        for tenant in tenants {
            let tenantState = try reader.tenantState(of: tenant)
            answers.append("\(tenantState)")
            let settings = try reader.settings(of: tenant)
            answers.append("\(settings.revision) \(settings.documents.map { "\($0.key)\(String(buffer: $0.value))" })")
            for filter in [EventFilter.all, EventFilter(aggregateTypes: [names[1].type])] {
                for direction: Direction in [.forward, .backward] {
                    let page = try reader.page(
                        of: tenant, positions: PageRange(after: .start, to: tenantState.head.position), filter: filter,
                        bounds: PageBounds(direction: direction, bytesMax: .max))
                    answers += try Self.records(page)
                }
            }
            for name in names {
                let page = try reader.page(
                    of: name, in: tenant, versions: PageRange(after: .none, to: .max),
                    bounds: PageBounds(bytesMax: .max))
                answers += try Self.records(page)
                for info in try reader.snapshots(of: name, in: tenant) {
                    let stored = try reader.snapshot(of: name, in: tenant, at: info.version)
                    // One that is damaged is left out.
                    if info.isIntact, let stored, stored.isIntact { answers.append("\(stored)") }
                }
                for position in [5, 20, 60] as [UInt64] {
                    answers.append("\(try reader.version(of: name, in: tenant, asOf: Position(position)))")
                }
            }
            for micros in stride(from: Int64(0), to: 40_000, by: 7_000) {
                answers.append("\(try reader.position(of: tenant, asOf: Timestamp(microseconds: micros)))")
            }
        }
        for consumers in consumers { answers += try consumers.answers(of: reader) }
        answers += try Self.schedules(of: tenants, reader)
        let writer = engine.makeWriter()
        for consumers in consumers { answers += try consumers.answers(of: writer) }
        for request in sent {
            answers.append("\(try writer.append(request, now: Timestamp(microseconds: 60_000)) as AppendReceipt?)")
        }
        return answers
    }
}

/// What became of bits that were flipped in a copy of a history.
public struct BitFlipTally: Sendable {
    /// Flips that a read was refused for.
    public private(set) var refused = 0
    /// Flips that changed no event, and that the check found.
    public private(set) var found = 0
    /// Flips that changed nothing that is read.
    public private(set) var idle = 0
    private let history: BitFlipHistory
    private let before: [String]
    private let records: Set<String>

    /// A tally of flips in copies of a history, which is what that engine has.
    public init(_ history: BitFlipHistory, on engine: any StorageEngine) throws {
        self.history = history
        before = try history.answers(of: engine)
        records = BitFlipHistory.records(in: before)
    }

    /// Reads everything of a copy with another bit.
    /// - Parameter isFound: whether the check finds something.
    /// - Returns: what is wrong; nil where nothing is.
    public mutating func count(_ engine: any StorageEngine, isFound: () throws -> Bool) throws -> String? {
        let after: [String]
        do throws(StorageError) { after = try history.answers(of: engine) } catch {
            refused += 1
            return nil
        }
        if after == before {
            idle += 1
            return nil
        }
        // What ids are stored and which snapshots there are is an index's to tell.
        found += 1
        guard records.isSuperset(of: BitFlipHistory.records(in: after)) else { return "changed what an event says" }
        return try isFound() ? nil : "was served"
    }
}

extension BitFlipTally: CustomStringConvertible {
    /// The figures.
    public var description: String {
        "of \(refused + found + idle) bits \(refused) refused a read, \(found) changed no event and were found by the "
            + "check, \(idle) changed nothing that is read"
    }
}
