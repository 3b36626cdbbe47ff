/// xoshiro256**: an id or a choice is no secret, and must cost little.
struct FastRandom: RandomNumberGenerator, Sendable {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    /// Seeded by the system.
    init() {
        var system = SystemRandomNumberGenerator()
        state = (system.next() | 1, system.next(), system.next(), system.next())
    }

    /// The same numbers for the same seed and stream; other streams of a seed give other numbers.
    init(seed: UInt64, stream: UInt64) {
        let start = Self.mixed(seed) &+ stream &* 0xD134_2543_DE82_EF95
        func word(_ number: UInt64) -> UInt64 { Self.mixed(start &+ number &* 0x9E37_79B9_7F4A_7C15) }
        state = (word(1) | 1, word(2), word(3), word(4))
    }

    mutating func next() -> UInt64 {
        func rotated(_ value: UInt64, _ bits: UInt64) -> UInt64 { value << bits | value >> (64 - bits) }
        let result = rotated(state.1 &* 5, 7) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = rotated(state.3, 45)
        return result
    }

    /// The output function of SplitMix64: seeds that are close to each other give states that are not.
    private static func mixed(_ value: UInt64) -> UInt64 {
        var mixed = value
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
