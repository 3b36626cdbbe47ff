import Testing

@testable import MartletService

@Suite struct ProcessUsageTests {
    @Test func readsMemoryOutOfTheSystemsText() {
        var usage = ProcessUsage()
        usage.readMemory("Name:\tmartlet\nVmPeak:\t  900 kB\nVmHWM:\t  70 kB\nVmRSS:\t    64 kB\nThreads:\t4\n")
        #expect(usage == ProcessUsage(cpuMicros: 0, residentBytes: 64 << 10, residentPeakBytes: 70 << 10))
        usage = ProcessUsage()
        usage.readMemory("VmRSS: lots kB\nVmHWM: 99999999999999999999999 kB\nVmRSS:\n")
        #expect(usage == ProcessUsage())
    }

    @Test func knowsThisProcess() {
        let usage = ProcessUsage.now()
        #expect(usage.cpuMicros > 0)
        #expect(usage.residentBytes > 1 << 20)
        #expect(usage.residentPeakBytes >= usage.residentBytes)
    }
}
