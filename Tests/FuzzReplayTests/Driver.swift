#if FUZZING
    import Foundation

    /// The target that runs, by `MARTLET_FUZZ_TARGET`.
    private let target: FuzzTarget = {
        let name = ProcessInfo.processInfo.environment["MARTLET_FUZZ_TARGET"] ?? ""
        guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
            let names = FuzzTarget.all.map(\.name).joined(separator: " ")
            fatalError("MARTLET_FUZZ_TARGET is '\(name)': set it to one of \(names)")
        }
        return target
    }()

    /// What libFuzzer calls with each input.
    @_cdecl("LLVMFuzzerTestOneInput")
    func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
        do {
            try target.run(bytes)
        } catch {
            fatalError("\(target.name): \(error)")
        }
        return 0
    }
#endif
