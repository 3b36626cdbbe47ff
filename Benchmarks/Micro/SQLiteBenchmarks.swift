import Benchmark
import Foundation
import Logging
import MartletModel
import MartletStorage
import MartletStorageSQLite
import NIOCore

/// An engine on a file of its own, which goes with it.
private final class Store {
    private let folder: URL
    let engine: SQLiteEngine
    let writer: any StorageWriter

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-micro-\(UUID().uuidString)")
        engine = SQLiteEngine(
            path: folder.appendingPathComponent("m.db").path,
            logger: Logger(label: "micro", factory: { _ in SwiftLogNoOpLogHandler() }))
        try engine.prepare()
        writer = engine.makeWriter()
    }

    deinit { try? FileManager.default.removeItem(at: folder) }
}

/// The engine without anything around it: what a commit costs in CPU, its sync not counted, and a page.
func sqliteBenchmarks() {
    for (calls, events) in [(64, 1), (8, 100)] {
        let commits = 20
        Benchmark.micro(
            "sqlite-commit-\(calls)x\(events)", seconds: 2, allocationsSlack: 25 + calls * events / 32,
            operations: commits,
            {
                (
                    store: try Store(),
                    batches: try (0..<commits).map { _ in try Samples.batch(calls: calls, events: events) }
                )
            },
            { state, index in
                let result = try state.store.writer.commit(
                    state.batches[index], now: Samples.now, lockWait: .zero)
                guard result.runs.first?.events.count == calls * events else { throw Samples.Failure("a refused call") }
            })
    }
    Benchmark.micro(
        "sqlite-read-page-of-1000-events", operations: 50,
        {
            let store = try Store()
            for _ in 0..<10 {
                _ = try store.writer.commit([.append(try Samples.append(100))], now: Samples.now, lockWait: .zero)
            }
            return (store: store, reader: store.engine.makeReader())
        },
        { state, _ in
            let page = try state.reader.page(
                of: Samples.tenant, positions: PageRange(after: Position.start, to: Position(1_000)), filter: .all,
                bounds: PageBounds(bytesMax: 1 << 20))
            guard page.count == 1_000 else { throw Samples.Failure("\(page.count) events") }
        })
}
