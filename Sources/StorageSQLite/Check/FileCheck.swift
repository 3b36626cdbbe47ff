import Foundation
public import MartletStorage

/// Checks every invariant of a database file, whether a server uses it or not.
///
/// It takes no lock and writes nothing but a temporary file. All of it is one read transaction, so that it sees one
/// state; meanwhile a running server's write-ahead log grows. Memory does not grow with the history. It blocks, and takes
/// seconds for a million events.
public struct FileCheck {
    /// What is checked, in this order.
    public enum Subject: String, CaseIterable, Sendable {
        /// That the file is one of ours, in the schema that this code knows.
        case file
        /// SQLite's own structures: `PRAGMA integrity_check`.
        case pages
        /// Events at every position of each tenant, and its head.
        case blocks
        /// The table that tells stored events by id.
        case eventIDs = "event ids"
        /// Versions of each aggregate without a gap, and rows for all that have events.
        case aggregates
        /// The table that tells where an aggregate's events lie.
        case ranges
        /// Versions and checksums of snapshots, and what aggregates say of them.
        case snapshots
        /// Documents and revisions.
        case settings
        /// Definitions, slots, workers and blocked keys of consumers.
        case consumers
        /// Schedules, and what is counted of them.
        case schedules
    }

    /// How far a check has come.
    public struct Progress: Sendable {
        /// The check.
        public var subject: Subject
        /// Events that it has done.
        public var done: UInt64
        /// Events of all tenants.
        public var total: UInt64
    }

    /// The result of a check.
    public struct Outcome: Sendable {
        /// The check.
        public var subject: Subject
        /// What it looked at.
        public var summary: String
        /// Events that it looked at; 0 where it is not about events.
        public var events: UInt64
        /// How many things are not as they must be.
        public var findingsCount: Int
        /// The first of them: at most 20 in all checks together.
        public var findings: [FileFinding]
    }

    private let path: String
    private let hashKey: UInt64

    /// A check of the file at that path.
    public init(path: String) {
        var random = SystemRandomNumberGenerator()
        self.init(path: path, random: &random)
    }

    init(path: String, random: inout some RandomNumberGenerator) {
        self.path = path
        hashKey = random.next()
    }

    /// Runs the checks. After one of the file itself that fails, the others have no meaning and are left out.
    /// - Parameters:
    ///   - onProgress: called now and then.
    ///   - onOutcome: called for each check once it is done.
    /// - Returns: the number of findings.
    /// - Throws: ``StorageError``; `unavailable` where the file cannot be opened or is kept locked.
    public func run(
        onProgress: @escaping (Progress) -> Void = { _ in }, onOutcome: (Outcome) -> Void
    ) throws(StorageError) -> Int {
        let connection: SQLiteConnection
        do throws(StorageError) { connection = try SQLiteConnection(reading: path) } catch {
            guard error.kind == .corrupted else { throw error }
            let finding = FileFinding(
                subject: .file, tenant: "", place: path, found: "\(error)", expected: "a SQLite database")
            onOutcome(
                Outcome(
                    subject: .file, summary: "no database", events: 0, findingsCount: 1, findings: [finding]))
            return 1
        }
        let context = CheckContext(connection, hashKey: hashKey, onProgress: onProgress)
        func tell(_ subject: Subject, _ summary: String, events: UInt64 = 0) {
            onOutcome(
                Outcome(
                    subject: subject, summary: summary, events: events, findingsCount: context.counts[subject] ?? 0,
                    findings: context.findings.filter { $0.subject == subject }))
        }
        try attempt(.file, context) { () throws(SQLiteFault) in try checkFile(context) }
        tell(.file, "schema version \(Schema.version)")
        guard context.counts.isEmpty else { return context.findingsTotal }

        context.progress(.pages, 0)
        try attempt(.pages, context) { () throws(SQLiteFault) in try checkPages(context) }
        tell(.pages, "SQLite's integrity check")

        var blocks = ""
        var events: UInt64 = 0
        try attempt(.blocks, context) { () throws(SQLiteFault) in
            var check = try BlockCheck(context)
            try check.run()
            events = check.events
            blocks =
                "\(check.events) events in \(check.blocks) blocks of \(check.tenants) tenants, "
                + "\(check.withoutChecksum) without a checksum"
        }
        tell(.blocks, blocks, events: events)

        var ids: UInt64 = 0
        try attempt(.eventIDs, context) { () throws(SQLiteFault) in
            var check = EventIDCheck(context)
            try check.run()
            ids = check.ids.count
        }
        tell(.eventIDs, "\(ids) ids", events: ids)

        var (aggregates, ranges, snapshots) = ("", "", "")
        try attempt(.aggregates, context) { () throws(SQLiteFault) in
            var check = try AggregateCheck(context)
            try check.run()
            aggregates = "versions of \(check.aggregates) aggregates"
            ranges = "\(check.rangesInAll) rows, \(check.unmovedRanges) still in blocks only"
            snapshots = "\(check.snapshots) snapshots"
        }
        tell(.aggregates, aggregates, events: events)
        tell(.ranges, ranges)
        tell(.snapshots, snapshots)

        var documents: UInt64 = 0
        try attempt(.settings, context) { () throws(SQLiteFault) in
            var check = SettingsCheck(context)
            try check.run()
            documents = check.count
        }
        tell(.settings, "\(documents) documents")

        var consumers = ""
        try attempt(.consumers, context) { () throws(SQLiteFault) in
            var check = try ConsumerCheck(context)
            try check.run()
            consumers = check.summary
        }
        tell(.consumers, consumers)

        var schedules = ""
        try attempt(.schedules, context) { () throws(SQLiteFault) in
            var check = try ScheduleCheck(context)
            try check.run()
            schedules = "\(check.count) schedules"
        }
        tell(.schedules, schedules)
        return context.findingsTotal
    }

    /// Whether it is one of ours. Begins the transaction that all checks see.
    private func checkFile(_ context: CheckContext) throws(SQLiteFault) {
        let connection = context.connection
        try connection.run("BEGIN")
        let owner = try connection.text("PRAGMA application_id") ?? ""
        let version = try connection.text("PRAGMA user_version") ?? ""
        guard owner == "\(Schema.applicationID)" else {
            return context.find(
                .file, "", path, "application id \(owner)", "\(Schema.applicationID), that of a Martlet file")
        }
        guard version == "\(Schema.version)" else {
            return context.find(
                .file, "", path, "schema version \(version)",
                "\(Schema.version): a server of this version migrates an older file when it starts")
        }
        context.eventsInAll = UInt64(try connection.text(CheckStatements.eventsInAll) ?? "") ?? 0
    }

    private func checkPages(_ context: CheckContext) throws(SQLiteFault) {
        try context.connection.prepare("PRAGMA integrity_check(\(CheckContext.findingsMax))").visit { row in
            let text = row.text(0)
            if text != "ok" { context.find(.pages, "", "file \(path)", text, "no complaint from SQLite") }
        }
    }

    /// Runs a check. That the file is damaged so that SQLite cannot read on is a finding; other faults end the run.
    private func attempt(
        _ subject: Subject, _ context: CheckContext, _ body: () throws(SQLiteFault) -> Void
    ) throws(StorageError) {
        do throws(SQLiteFault) { try body() } catch {
            guard error.storageError.kind == .corrupted else { throw error.storageError }
            context.find(
                subject, "", "file \(path)", "\(error.message) (SQLite code \(error.code))", "a readable file")
        }
    }
}

extension CheckContext {
    fileprivate var findingsTotal: Int { counts.values.reduce(0, +) }
}
