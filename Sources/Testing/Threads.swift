import Foundation

/// Work on threads of its own: engines block, and must not block the few threads that tasks share.
public enum Threads {
    /// Runs `body` on a new thread.
    public static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let thread = Thread { continuation.resume(with: Result { try body() }) }
            thread.stackSize = 1 << 20
            thread.start()
        }
    }

    /// Begins `body` on a new thread, whatever tasks do meanwhile.
    public static func start<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) -> RunningThread<Value> {
        let running = RunningThread<Value>()
        let thread = Thread { running.finish(Result { try body() }) }
        thread.stackSize = 1 << 20
        thread.start()
        return running
    }

    /// Runs `body` on so many threads at once, which begin together.
    /// - Returns: what each returned, in the order of their numbers.
    public static func race<Value: Sendable>(
        _ count: Int, _ body: @escaping @Sendable (Int) throws -> Value
    ) async throws -> [Value] {
        let line = StartingLine(count)
        return try await withThrowingTaskGroup(of: (Int, Value).self) { group in
            for index in 0..<count {
                group.addTask {
                    try await run {
                        line.wait()
                        return (index, try body(index))
                    }
                }
            }
            var values: [Int: Value] = [:]
            for try await (index, value) in group { values[index] = value }
            return values.sorted { $0.key < $1.key }.map(\.value)
        }
    }
}

/// A thread's work, and what comes of it.
///
/// `@unchecked Sendable`: the condition guards the result.
public final class RunningThread<Value: Sendable>: @unchecked Sendable {
    private let condition = NSCondition()
    private var result: Result<Value, any Error>?

    fileprivate init() {}

    fileprivate func finish(_ result: Result<Value, any Error>) {
        condition.withLock {
            self.result = result
            condition.broadcast()
        }
    }

    /// Whether it has come to its end.
    public var isDone: Bool { condition.withLock { result != nil } }

    /// Waits for the end.
    /// - Throws: what the work threw.
    public func value() throws -> Value {
        try condition.withLock {
            while true {
                if let result { return try result.get() }
                condition.wait()
            }
        }
    }
}

/// Holds threads until all have come.
///
/// `@unchecked Sendable`: the condition guards the number.
private final class StartingLine: @unchecked Sendable {
    private let condition = NSCondition()
    private var missing: Int

    init(_ count: Int) { missing = count }

    func wait() {
        condition.withLock {
            missing -= 1
            if missing == 0 { condition.broadcast() }
            while missing > 0 { condition.wait() }
        }
    }
}
