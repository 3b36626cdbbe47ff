import Foundation
import MartletModel

/// Threads that read, each with a reader of its own. Reads wait in a lane for each tenant, and are served by what they
/// cost, so that a tenant with many or heavy reads does not hold up the others.
final class ReaderPool: @unchecked Sendable {
    /// Called on a reader's thread; nil when the pool is closed before the read's turn.
    typealias Job = @Sendable ((any StorageReader)?) -> Void

    /// What a read costs at least: about what taking it to a thread and back does.
    static let costMinNanos: UInt64 = 10_000

    // Guarded by `condition`.
    private var lanes: FairLanes<Job>
    private var isClosed = false

    private let condition = NSCondition()
    private let threads = WorkThreads()
    private let uptimeNanos: @Sendable () -> UInt64

    /// - Parameters:
    ///   - readsMax: reads that wait or are under way, over all tenants.
    ///   - threadCount: how many threads will be started. With more than one, one is always left for other tenants: a
    ///     read never waits for the end of another tenant's reads alone.
    ///   - readsPerTenantMax: this many reads of one tenant run at a time, if there are enough threads.
    init(
        readsMax: Int, threadCount: Int, readsPerTenantMax: Int = .max, uptimeNanos: @escaping @Sendable () -> UInt64
    ) {
        lanes = FairLanes(
            sizeMax: readsMax, takenPerTenantMax: max(1, min(readsPerTenantMax, threadCount - 1)),
            costMin: Self.costMinNanos)
        self.uptimeNanos = uptimeNanos
    }

    /// Starts a thread that reads with this reader.
    /// - Parameter standsBack: where reads take processors, they take what their callers make them take, and event loops and
    ///   commits, which serve everybody, must not wait for them. Where they wait for another process, a thread that stands back
    ///   would only hear later that its answer has come.
    func start(standsBack: Bool, reader: @escaping @Sendable () -> any StorageReader) {
        threads.start(name: "read", standsBack: standsBack) { [self] in runJobs(with: reader()) }
    }

    /// Carries out one read on the calling thread; false where none waits.
    func readOne(with reader: any StorageReader) -> Bool {
        guard let job = condition.withLock({ lanes.take() }) else { return false }
        let nanos = run(job, with: reader)
        condition.withLock { lanes.finish(job, cost: nanos) }
        return true
    }

    /// What became of a read that was to be added.
    enum Admission: Hashable {
        /// Under that number.
        case added(UInt64)
        /// The tenant's share is used up: it has so many reads here.
        case full(Int)
        case closed
    }

    /// Adds a read.
    func add(for tenant: TenantID, _ job: @escaping Job) -> Admission {
        condition.withLock {
            guard !isClosed else { return .closed }
            guard let number = lanes.add(job, of: tenant) else { return .full(lanes.size(of: tenant)) }
            condition.signal()
            return .added(number)
        }
    }

    /// Takes out a read that has not begun: it is not called. False where it has.
    func remove(_ number: UInt64, of tenant: TenantID) -> Bool {
        // What the read holds is freed outside the lock.
        let job = condition.withLock { lanes.remove(number, of: tenant) }
        return job != nil
    }

    /// Takes no more reads, refuses those that wait, then ends the threads.
    func close() async {
        let waiting = condition.withLock {
            isClosed = true
            condition.broadcast()
            return lanes.removeAll()
        }
        for job in waiting { job(nil) }
        await threads.waitForEnd()
    }

    /// Gives back a read that is done, with what it took, and takes the next.
    private func next(after done: (job: FairLanes<Job>.Taken, nanos: UInt64)?) -> FairLanes<Job>.Taken? {
        condition.withLock {
            if let done { lanes.finish(done.job, cost: done.nanos) }
            while true {
                if let job = lanes.take() { return job }
                if isClosed { return nil }
                condition.wait()
            }
        }
    }

    private func runJobs(with reader: any StorageReader) {
        var done: (job: FairLanes<Job>.Taken, nanos: UInt64)?
        while let job = next(after: done) {
            done = (job, run(job, with: reader))
        }
    }

    /// - Returns: the nanoseconds that it took.
    private func run(_ job: FairLanes<Job>.Taken, with reader: any StorageReader) -> UInt64 {
        let start = uptimeNanos()
        job.element(reader)
        let end = uptimeNanos()
        return end > start ? end - start : 0
    }
}
