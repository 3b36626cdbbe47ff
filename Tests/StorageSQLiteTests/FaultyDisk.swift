import CMartletSQLite
import NIOConcurrencyHelpers

/// The disk under SQLite, which fails as it is told to and notes what it was asked.
///
/// SQLite reaches files through a VFS. This one is the system's own, but for the writes and syncs of the files whose
/// path begins as a test has said. It is the default from the first ``install()`` on, so that the engine runs on it
/// as it is.
enum FaultyDisk {
    enum Call: Hashable {
        case write(String)
        case sync(String)
    }

    enum Fault: Hashable {
        /// No room for another byte.
        case full
        /// A write that the disk refuses.
        case write
        /// A sync that the disk refuses.
        case sync
        /// A file system that takes no writes.
        case readOnly

        fileprivate var code: Int32 {
            switch self {
            case .full: SQLITE_FULL
            case .write: SQLITE_IOERR | 3 << 8
            case .sync: SQLITE_IOERR | 4 << 8
            case .readOnly: SQLITE_READONLY
            }
        }
    }

    private struct State {
        /// By the beginning of the path.
        var faults: [String: Fault] = [:]
        /// Paths that are whole, and not the beginning of others.
        var whole: Set<String> = []
        /// How many writes still go through, by the beginning of the path.
        var writesLeft: [String: Int] = [:]
        var calls: [String: [Call]] = [:]
        /// By the address of SQLite's file object.
        var paths: [UInt: String] = [:]
        /// By the address of the system's methods, of which databases and logs have different ones: those in their
        /// place. They are few, and stay.
        var wrapped: [UInt: UInt] = [:]
    }

    private static let state = NIOLockedValueBox(State())
    // On the heap: the compiler gives a global of such a C struct too little room.
    private nonisolated(unsafe) static let system = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
    private nonisolated(unsafe) static let own = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
    private nonisolated(unsafe) static let systemMethods = UnsafeMutablePointer<sqlite3_io_methods>
        .allocate(capacity: 1)
    private static let name: StaticString = "faulty"

    private static let installed: Bool = {
        guard let found = unsafe sqlite3_vfs_find(nil) else { return false }
        unsafe system.initialize(to: found.pointee)
        unsafe own.initialize(to: found.pointee)
        unsafe own.pointee.zName = UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
        unsafe own.pointee.xOpen = { vfs, path, file, flags, outFlags in
            guard let open = unsafe FaultyDisk.system.pointee.xOpen else { return SQLITE_ERROR }
            let code = unsafe open(vfs, path, file, flags, outFlags)
            if code == SQLITE_OK, let path = unsafe path, let file = unsafe file {
                unsafe FaultyDisk.hook(file, String(cString: path))
            }
            return code
        }
        return unsafe sqlite3_vfs_register(own, 1) == SQLITE_OK
    }()

    /// Makes this the disk of every database that is opened from now on.
    static func install() -> Bool { installed }

    /// From now on that happens to files whose path begins so; nil for nothing any more.
    ///
    /// - Parameters:
    ///   - writes: so many go through before.
    ///   - isWhole: only the file of that very path fails: a database, and not its log.
    static func fail(_ path: String, _ fault: Fault?, after writes: Int = 0, isWhole: Bool = false) {
        state.withLockedValue {
            if isWhole { $0.whole.insert(path) } else { $0.whole.remove(path) }
            $0.faults[path] = fault
            $0.writesLeft[path] = writes
        }
    }

    /// What `body` asked of the files whose path begins so, by the rest of the path.
    static func calls(_ path: String, _ body: () throws -> Void) rethrows -> [Call] {
        state.withLockedValue { $0.calls[path] = [] }
        try body()
        return state.withLockedValue { $0.calls.removeValue(forKey: path) ?? [] }
    }

    @unsafe private static func hook(_ file: UnsafeMutablePointer<sqlite3_file>, _ path: String) {
        guard let methods = unsafe file.pointee.pMethods else { return }
        let wrapped = state.withLockedValue { state in
            state.paths[UInt(bitPattern: file)] = path
            if let known = state.wrapped[UInt(bitPattern: methods)] { return known }
            let made = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
            unsafe made.initialize(to: Self.wrapped(methods.pointee))
            // Writes and syncs are the same in all of them.
            unsafe systemMethods.initialize(to: methods.pointee)
            state.wrapped[UInt(bitPattern: methods)] = UInt(bitPattern: made)
            return UInt(bitPattern: made)
        }
        unsafe file.pointee.pMethods = UnsafePointer(bitPattern: wrapped)
    }

    private static func wrapped(_ methods: sqlite3_io_methods) -> sqlite3_io_methods {
        var methods = methods
        unsafe methods.xWrite = { file, bytes, count, offset in
            let address = UInt(bitPattern: file)
            if let code = FaultyDisk.note(address, isWrite: true) { return code }
            return unsafe FaultyDisk.systemMethods.pointee.xWrite?(file, bytes, count, offset) ?? SQLITE_ERROR
        }
        unsafe methods.xSync = { file, flags in
            let address = UInt(bitPattern: file)
            if let code = FaultyDisk.note(address, isWrite: false) { return code }
            return unsafe FaultyDisk.systemMethods.pointee.xSync?(file, flags) ?? SQLITE_ERROR
        }
        return methods
    }

    private static func note(_ file: UInt, isWrite: Bool) -> Int32? {
        state.withLockedValue { state in
            guard let path = state.paths[file] else { return nil }
            for prefix in state.calls.keys where path.hasPrefix(prefix) {
                let rest = String(path.dropFirst(prefix.count))
                state.calls[prefix]?.append(isWrite ? .write(rest) : .sync(rest))
            }
            for (prefix, fault) in state.faults where path.hasPrefix(prefix) && (fault == .sync) != isWrite {
                if state.whole.contains(prefix), path != prefix { continue }
                let left = state.writesLeft[prefix] ?? 0
                guard left > 0 else { return fault.code }
                state.writesLeft[prefix] = left - 1
            }
            return nil
        }
    }
}
