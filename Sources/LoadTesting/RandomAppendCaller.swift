import MartletClient
import MartletModel

/// A client that appends to an aggregate chosen at random, whatever its version, of a tenant chosen at random.
struct RandomAppendCaller: Caller {
    /// Among what a client chooses. Names are made of numbers, so that a million of them take no memory.
    struct Choices: Hashable, Sendable {
        let tenants: RunTenants
        /// Numbers of the tenants that this client writes to.
        let tenantNumbers: Range<Int>
        /// Aggregates of each tenant.
        let aggregates: Int

        func next(using random: inout FastRandom) -> (tenant: Int, aggregate: Int) {
            (Int.random(in: tenantNumbers, using: &random), Int.random(in: 0..<aggregates, using: &random))
        }
    }

    let client: MartletClient
    let batch: Int
    let choices: Choices
    let tally: TenantTally
    var executor: any TaskExecutor { client.taskExecutor }
    private var maker: EventMaker
    private var random: FastRandom

    /// - Parameter random: makes the choices; ids of events come from `maker`, which repeats none of another run.
    init(
        client: MartletClient, batch: Int, choices: Choices, tally: TenantTally, maker: EventMaker, random: FastRandom
    ) {
        self.client = client
        self.batch = batch
        self.choices = choices
        self.tally = tally
        self.maker = maker
        self.random = random
    }

    mutating func call() async throws(MartletError) -> Int {
        let (tenant, aggregate) = choices.next(using: &random)
        let request = AppendRequest(
            tenant: choices.tenants[tenant],
            aggregates: [
                AggregateAppend(
                    aggregate: BenchNames.aggregate(numbered: aggregate), expected: .any, events: maker.events(batch))
            ])
        let receipt: AppendReceipt
        do throws(MartletError) {
            receipt = try await client.append(request)
        } catch {
            if error.leavesOutcomeOpen { tally.add(unknown: batch, tenant: tenant) }
            throw error
        }
        tally.add(acknowledged: batch, tenant: tenant)
        guard receipt.lastPosition.rawValue &- receipt.firstPosition.rawValue == UInt64(batch - 1) else {
            throw .badAnswer(
                "an append of \(batch) events was acknowledged from position \(receipt.firstPosition) to "
                    + "\(receipt.lastPosition)")
        }
        return batch
    }
}
