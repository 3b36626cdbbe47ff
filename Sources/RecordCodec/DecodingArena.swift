public import CMartletProtos

/// The memory that unpacking one protobuf message may take.
///
/// protobuf-c amplifies hostile input: a megabyte of empty sub-messages asks for many megabytes of
/// structs. The arena hands out memory until its budget is spent, then none, upon which protobuf-c gives up;
/// all of it goes back at once when the arena ends, so that no unpacked message outlives the function that
/// unpacked it.
@safe public struct DecodingArena: ~Copyable {
    @safe private final class Storage {
        /// Chunks of memory, in the order in which they were taken; the last one is being filled.
        @unsafe var chunks: [UnsafeMutableRawPointer] = unsafe []
        var chunkBytes = 0
        /// Of all chunks.
        var heldBytes = 0
        var filledBytes = 0
        var remaining: Int
        var wasExhausted = false

        init(budget: Int) { remaining = budget }

        deinit {
            unsafe chunks.forEach { unsafe $0.deallocate() }
        }

        @unsafe func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
            let size = (size + 15) & ~15
            if filledBytes + size > chunkBytes {
                guard size <= remaining else {
                    wasExhausted = true
                    return nil
                }
                let usual = unsafe chunks.isEmpty ? 2_048 : min(2 * chunkBytes, DecodingArena.chunkBytesMax)
                chunkBytes = min(remaining, max(size, usual))
                remaining -= chunkBytes
                heldBytes += chunkBytes
                filledBytes = 0
                unsafe chunks.append(.allocate(byteCount: chunkBytes, alignment: 16))
            }
            guard let chunk = unsafe chunks.last else { return nil }
            defer { filledBytes += size }
            return unsafe chunk + filledBytes
        }
    }

    /// A chunk is longer only for one allocation that is: what is handed out is most of what is held.
    static let chunkBytesMax = 16 << 10

    private let storage: Storage

    /// An arena of at most `budget` bytes.
    public init(budget: Int) { storage = Storage(budget: budget) }

    /// Memory that is held by now, whether it was handed out or not.
    var heldBytes: Int { storage.heldBytes }

    /// Whether an allocation was refused because the budget was spent.
    public var wasExhausted: Bool { storage.wasExhausted }

    /// Calls `body` with an allocator for protobuf-c; what it hands out lives as long as the arena.
    @unsafe public borrowing func withAllocator<Result>(
        _ body: (UnsafeMutablePointer<ProtobufCAllocator>) -> Result
    ) -> Result {
        var allocator = unsafe ProtobufCAllocator(
            alloc: { context, size in
                guard let context = unsafe context else { return nil }
                return unsafe Unmanaged<Storage>.fromOpaque(context).takeUnretainedValue().allocate(size)
            },
            free: { _, _ in },
            allocator_data: Unmanaged.passUnretained(storage).toOpaque())
        return withExtendedLifetime(storage) { unsafe body(&allocator) }
    }
}
