import Foundation
public import MartletModel
import NIOConcurrencyHelpers

/// A clock that stands still until it is moved. Shared by threads.
public final class ManualClock: Sendable {
    private let time: NIOLockedValueBox<Timestamp>

    /// A clock that shows that time.
    public init(_ time: Timestamp = Timestamp(microseconds: 1_767_225_600_000_000)) {
        self.time = NIOLockedValueBox(time)
    }

    /// The time that it shows.
    public var now: Timestamp { time.withLockedValue { $0 } }

    /// Moves it, forward or backward.
    public func advance(microseconds: Int64) { time.withLockedValue { $0.microseconds += microseconds } }

    /// The clock, as it is injected.
    public var clock: Clock { { [self] in now } }
}

/// How often a test tries what needs many tries: few times with every change, and often by `make test-long`.
public enum TestRounds {
    private static let isLong = ProcessInfo.processInfo.environment["MARTLET_TEST_LONG"] != nil

    /// How often.
    public static func count(_ usual: Int, long: Int) -> Int { isLong ? long : usual }
}

/// Random numbers that can be had again (SplitMix64, Steele et al., OOPSLA 2014).
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    /// Gives the same numbers again.
    public let seed: UInt64
    private var state: UInt64

    /// The generator of that seed.
    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// A generator of `MARTLET_TEST_SEED`, or of a seed that is random itself. A test prints it when it fails.
    public static func fromEnvironment() -> SeededGenerator {
        let seed = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        return SeededGenerator(seed: seed ?? UInt64.random(in: .min ... .max))
    }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
