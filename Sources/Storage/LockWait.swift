/// How a tenant that another program has locked is waited for.
///
/// Its calls are set aside in their order, and the others go on. The first wait is short and for all that were set aside
/// together: most often a lock is that of another server's commit. Who is locked still then is waited for one by one, and
/// longer each time; between these waits, all of them are looked at together.
public enum LockWait {
    /// How long a call may wait for its tenant's lock before it is refused.
    public static let max = Duration.seconds(20)

    /// So often, at most, all that are waited for one by one are looked at together, without a wait.
    static let lookEvery = Duration.milliseconds(200)

    /// From that wait on, 1 being the first, a tenant's lock is one that lasts.
    static let lastingFrom = 4

    /// How long wait `number` may take, from 1.
    static func duration(_ number: Int) -> Duration {
        .milliseconds(min(1_000, 50 << min(number - 1, 5)))
    }
}
