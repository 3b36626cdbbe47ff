import CMartletProtos
import MartletModel
@testable import MartletRecordCodec
import MartletTesting
import Testing

@Suite struct DecodingArenaTests {
    private static func unpacks(_ message: Wire, in arena: borrowing DecodingArena) -> Bool {
        unsafe message.bytes.withUnsafeBytes { bytes in
            unsafe arena.withAllocator { allocator in
                unsafe martlet__v1__event__unpack(
                    allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)) != nil
            }
        }
    }

    /// Two bytes each on the wire, 64 and more in memory.
    @Test func aMegabyteOfEmptyMessagesIsRefusedWithinTheBudget() {
        var tags = Wire()
        tags.bytes = Array([[UInt8]](repeating: [0x4A, 0x00], count: 1 << 19).joined())
        let message = Sample.bare.field(5, tags)
        let budget = Limits().decodeBytesMax(frameBytes: 1 << 10)
        let arena = DecodingArena(budget: budget)
        expect(Self.unpacks(message, in: arena), is: false)
        expect(arena.wasExhausted, is: true)
        // Nothing but the budget refused it.
        let room = DecodingArena(budget: 256 << 20)
        expect(Self.unpacks(message, in: room), is: true)
        expect(room.wasExhausted, is: false)
    }

    @Test func anOrdinaryMessageNeedsLittle() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<100 {
            let message = Wire(try EncodedEvent(Sample.event(using: &random)).body.array)
            let arena = DecodingArena(budget: Limits().decodeBytesMax(frameBytes: message.bytes.count))
            let isUnpacked = Self.unpacks(message, in: arena)
            #expect(isUnpacked, "seed \(random.seed)")
            expect(arena.wasExhausted, is: false)
        }
    }

    @Test func aBrokenMessageDoesNotExhaustTheArena() {
        let arena = DecodingArena(budget: 64 << 10)
        expect(Self.unpacks(Wire([0x0A, 0x7F, 1]), in: arena), is: false)
        expect(Self.unpacks(Wire([0xFF]), in: arena), is: false)
        expect(arena.wasExhausted, is: false)
        expect(Self.unpacks(Sample.bare, in: arena), is: true)
    }

    @Test func memoryIsHandedOutWithinTheBudgetAlignedAndApart() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<50 {
            let budget = Int.random(in: 0...100_000, using: &random)
            let arena = DecodingArena(budget: budget)
            unsafe arena.withAllocator { allocator in
                var taken: [(start: UInt, size: UInt)] = []
                var refusals = 0
                while refusals < 20 {
                    let size = Int.random(in: 1...(1 << Int.random(in: 1...14, using: &random)), using: &random)
                    guard
                        let memory = unsafe allocator.pointee.alloc(allocator.pointee.allocator_data, size)
                    else {
                        refusals += 1
                        continue
                    }
                    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0xAA, count: size)
                    taken.append((UInt(bitPattern: memory), UInt(size)))
                }
                let total = taken.reduce(0) { $0 + $1.size }
                #expect(total <= budget, "seed \(random.seed)")
                #expect(taken.allSatisfy { $0.start % 16 == 0 }, "seed \(random.seed)")
                taken.sort { $0.start < $1.start }
                let isApart = zip(taken, taken.dropFirst()).allSatisfy { $0.start + $0.size <= $1.start }
                #expect(isApart, "seed \(random.seed)")
            }
            expect(arena.wasExhausted, is: true)
        }
    }

    /// A budget that is held and not used is lost to what is made of a message.
    @Test(arguments: [16, 48, 100, 2_000, 15_000, 300_000]) func whatIsHeldIsMostlyHandedOut(_ size: Int) {
        let arena = DecodingArena(budget: 64 << 20)
        var handedOut = 0
        unsafe arena.withAllocator { allocator in
            for _ in 0..<500 where handedOut < 4 << 20 {
                _ = unsafe allocator.pointee.alloc(allocator.pointee.allocator_data, size)
                handedOut += size
            }
        }
        let held = arena.heldBytes
        #expect(held <= handedOut + handedOut / 8 + DecodingArena.chunkBytesMax, "\(held) bytes for \(handedOut)")
    }

    @Test func aNewArenaIsNotExhausted() { expect(DecodingArena(budget: 0).wasExhausted, is: false) }
}

/// `#expect` takes no property of a noncopyable value.
private func expect(_ actual: Bool, is expected: Bool, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(actual == expected, sourceLocation: sourceLocation)
}
