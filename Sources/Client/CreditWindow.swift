import MartletModel

/// The client's side of a stream's credit: how much the server may send, and when to grant more.
///
/// Credit left at the server, bytes buffered here, and bytes taken but not granted again always make up the window.
struct CreditWindow: Sendable {
    /// What the stream takes in ahead of its consumer.
    private(set) var windowBytes: Int
    /// Bytes that came and that the consumer has not taken.
    private(set) var bufferedBytes = 0
    /// How far the server's asking may raise the window.
    let windowBytesMax: Int
    private let stepBytes: Int
    private var takenBytes = 0
    /// What the server says that the next event needs: the next of each tenant, on a worker's stream over many.
    private var wants: [TenantID?: Int] = [:]
    /// The most of `wants`.
    private var wantedBytes = 0

    /// - Parameters:
    ///   - eventBytesMax: the largest event that must get through without the server asking for more; the window
    ///     is raised to hold it. 0 if the server asks.
    ///   - windowBytesMax: how far the server's asking may raise the window.
    init(windowBytes: Int, eventBytesMax: Int = 0, windowBytesMax: Int) {
        // A third of slack, so that credit need not go back after every page.
        let window = max(1, windowBytes, eventBytesMax + eventBytesMax / 2)
        self.windowBytes = window
        self.windowBytesMax = max(window, windowBytesMax)
        stepBytes = max(1, min(window / 4, window - eventBytesMax))
    }

    /// Credit that the server has, the grants under way to it included.
    var outstandingBytes: Int { windowBytes - bufferedBytes - takenBytes }

    /// Events came; never more than ``outstandingBytes``, which the session checks.
    mutating func receive(_ bytes: Int, of tenant: TenantID? = nil) {
        bufferedBytes += bytes
        if bytes > 0 { forget(tenant) }
    }

    /// The server waits no more for credit for the next event of that tenant.
    mutating func forget(_ tenant: TenantID?) {
        guard !wants.isEmpty, wants.removeValue(forKey: tenant) != nil else { return }
        wantedBytes = wants.values.max() ?? 0
    }

    /// The consumer took events.
    /// - Returns: credit to grant now.
    mutating func take(_ bytes: Int) -> Int {
        bufferedBytes -= bytes
        takenBytes += bytes
        return grant()
    }

    /// The server says that the next event needs so much credit.
    /// - Returns: credit to grant now. Where that is not enough because the consumer is slow, the rest
    ///   follows as it takes events.
    mutating func want(_ bytes: UInt64, for tenant: TenantID? = nil) -> Int {
        wants[tenant] = min(Int(clamping: bytes), windowBytesMax)
        wantedBytes = wants.values.max() ?? 0
        if wantedBytes > windowBytes {
            takenBytes += wantedBytes - windowBytes
            windowBytes = wantedBytes
        }
        return grant()
    }

    private mutating func grant() -> Int {
        guard takenBytes >= stepBytes || (takenBytes > 0 && outstandingBytes < wantedBytes) else { return 0 }
        defer { takenBytes = 0 }
        return takenBytes
    }
}
