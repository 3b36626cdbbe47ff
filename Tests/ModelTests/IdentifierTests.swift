import FoundationEssentials
import MartletModel
import MartletTesting
import Testing

@Suite struct IdentifierTests {
    @Test func aUUIDIsMadeOfExactly16Bytes() {
        let bytes: [UInt8] = Array(1...16)
        #expect(UUID(bytes: bytes)?.bytes == bytes)
        #expect(UUID(bytes: bytes)?.uuidString == "01020304-0506-0708-090A-0B0C0D0E0F10")
        for count in Array(0..<16) + [17, 32] { #expect(UUID(bytes: [UInt8](repeating: 1, count: count)) == nil) }
    }

    @Test func aUUIDIsReadFromItsTextAndFromNoOther() {
        let text = "01020304-0506-0708-090a-0b0c0d0e0f10"
        #expect(UUID(text: text)?.bytes == Array(1...16))
        #expect(UUID(text: text.uppercased())?.bytes == Array(1...16))
        for other in [
            "", "1", text + "0", String(text.dropLast()), "{\(text.dropFirst())",
            "010203-4-0506-0708-090a-0b0c0d0e0f10",
            "0102030405-06-0708-090a-0b0c0d0e0f10", "+1020304-0506-0708-090a-0b0c0d0e0f10",
            " 1020304-0506-0708-090a-0b0c0d0e0f10", "g1020304-0506-0708-090a-0b0c0d0e0f10",
            "0x020304-0506-0708-090a-0b0c0d0e0f10", "é020304-0506-0708-090a-0b0c0d0e0f10",
        ] {
            #expect(UUID(text: other) == nil, "\(other)")
        }
    }

    @Test func wordsAreBigEndian() {
        let id = UUID(high: 0x0102_0304_0506_0708, low: 0x090A_0B0C_0D0E_0F10)
        #expect(id.bytes == Array(1...16))
        #expect(UUID(bytes: id.bytes) == id)
    }

    @Test func tenantsSortByTheirBytes() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<1_000 {
            // Mostly equal bytes, so that late ones decide, too.
            let words = (0..<4).map { _ in random.next() & 0x8000_0001_8000_00FF }
            let a = TenantID(UUID(high: words[0] & 1, low: words[1]))
            let b = TenantID(UUID(high: words[2] & 1, low: words[3]))
            #expect((a < b) == a.uuid.bytes.lexicographicallyPrecedes(b.uuid.bytes), "seed \(random.seed): \(a) \(b)")
        }
        #expect(TenantID(UUID(high: 0xAB << 56, low: 0)).description == "ab000000-0000-0000-0000-000000000000")
    }

    @Test func version7HoldsTheTimeTheVersionAndTheVariant() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<500 {
            let millis = UInt64.random(in: 0..<1 << 48, using: &random)
            let now = Timestamp(microseconds: Int64(millis) * 1_000 + Int64.random(in: 0..<1_000, using: &random))
            let bytes = UUID.v7(at: now, using: &random).bytes
            #expect(bytes[..<6].reduce(0) { $0 << 8 | UInt64($1) } == millis, "seed \(random.seed)")
            #expect(bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10, "seed \(random.seed)")
        }
    }

    @Test func version7SortsByMillisecond() {
        var random = SeededGenerator.fromEnvironment()
        var now = Timestamp(microseconds: 1_767_225_600_000_000)
        var last = UUID.v7(at: now, using: &random)
        for _ in 0..<1_000 {
            now.microseconds += 1_000 * Int64.random(in: 1...1_000_000, using: &random)
            let next = UUID.v7(at: now, using: &random)
            #expect(last.bytes.lexicographicallyPrecedes(next.bytes), "seed \(random.seed)")
            last = next
        }
    }

    @Test func version7UsesAllItsRandomBits() {
        struct Ones: RandomNumberGenerator { func next() -> UInt64 { .max } }
        struct Zeros: RandomNumberGenerator { func next() -> UInt64 { 0 } }
        var ones = Ones()
        var zeros = Zeros()
        let epoch = Timestamp(microseconds: 0)
        #expect(UUID.v7(at: epoch, using: &ones) == UUID(high: 0x7FFF, low: 0xBFFF_FFFF_FFFF_FFFF))
        #expect(UUID.v7(at: epoch, using: &zeros) == UUID(high: 0x7000, low: 0x8000_0000_0000_0000))
    }

    @Test func version7TakesEveryMoment() {
        var random = SeededGenerator(seed: 1)
        let before = UUID.v7(at: Timestamp(microseconds: .min), using: &random)
        #expect(Array(before.bytes[..<6]) == [0, 0, 0, 0, 0, 0], "before 1970 counts as 1970")
        let far = UUID.v7(at: Timestamp(microseconds: .max), using: &random)
        #expect(far.bytes[6] >> 4 == 7 && far.bytes[8] >> 6 == 0b10)
    }

    @Test func version7OfNowIsUniqueAndInTime() {
        let before = UInt64(Timestamp.now().microseconds / 1_000)
        let ids = (0..<1_000).map { _ in UUID.v7() }
        let after = UInt64(Timestamp.now().microseconds / 1_000)
        #expect(Set(ids).count == ids.count)
        let millis = ids.map { $0.bytes[..<6].reduce(0) { $0 << 8 | UInt64($1) } }
        #expect(millis.allSatisfy { (before...max(before, after)).contains($0) })
        #expect(millis == millis.sorted())
    }
}
