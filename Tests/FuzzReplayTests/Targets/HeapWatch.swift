#if FUZZING
    import Glibc

    /// How much memory a piece of work holds at once, by the hooks of the address sanitizer.
    enum HeapWatch {
        /// Bytes that are held, and the most that were.
        nonisolated(unsafe) private static let counts: UnsafeMutablePointer<Int> = {
            let counts = UnsafeMutablePointer<Int>.allocate(capacity: 2)
            unsafe counts.initialize(repeating: 0, count: 2)
            return unsafe counts
        }()

        private typealias OnMalloc = @convention(c) (UnsafeRawPointer?, Int) -> Void
        private typealias OnFree = @convention(c) (UnsafeRawPointer?) -> Void
        private typealias Install = @convention(c) (OnMalloc, OnFree) -> Int32
        private typealias AllocatedSize = @convention(c) (UnsafeRawPointer?) -> Int

        private static let sizeOf: AllocatedSize? = unsafe dlsym(
            nil, "__sanitizer_get_allocated_size"
        ).map { unsafe unsafeBitCast($0, to: AllocatedSize.self) }

        private static let isInstalled: Bool = {
            guard let symbol = unsafe dlsym(nil, "__sanitizer_install_malloc_and_free_hooks"), unsafe sizeOf != nil
            else { return false }
            unsafe counts[0] = 0
            return unsafe unsafeBitCast(symbol, to: Install.self)(
                { _, size in
                    unsafe HeapWatch.counts[0] += size
                    if unsafe HeapWatch.counts[0] > HeapWatch.counts[1] {
                        unsafe HeapWatch.counts[1] = unsafe HeapWatch.counts[0]
                    }
                },
                { pointer in
                    if let sizeOf = unsafe HeapWatch.sizeOf, unsafe pointer != nil {
                        unsafe HeapWatch.counts[0] -= unsafe sizeOf(pointer)
                    }
                }) > 0
        }()

        /// The most bytes that `work` held at once.
        static func peak(_ work: () throws -> Void) throws -> Int {
            guard isInstalled else { throw Finding("the sanitizer offers no hooks: memory is not measured") }
            unsafe counts[0] = 0
            unsafe counts[1] = 0
            try work()
            return unsafe counts[1]
        }
    }
#else
    /// Without the sanitizer nothing tells how much memory a piece of work holds.
    enum HeapWatch {
        static func peak(_ work: () throws -> Void) throws -> Int {
            try work()
            return 0
        }
    }
#endif
