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

    private typealias Arguments = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    private typealias OneInput = @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt

    /// libFuzzer's own loop.
    @_silgen_name("LLVMFuzzerRunDriver")
    private func runDriver(
        _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<Arguments>, _ run: OneInput
    ) -> CInt

    /// Where the program begins: the package manager links an executable's main under this name.
    @_cdecl("martlet_fuzz_main")
    func fuzzMain(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
        var count = count
        var arguments = unsafe arguments
        return unsafe runDriver(&count, &arguments, testOneInput)
    }

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
