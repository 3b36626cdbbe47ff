import Testing

@Suite struct PackedInputsTests {
    /// An empty input, one of two bytes, one of 258.
    private static let inputs = [[], [1, 2], [UInt8](repeating: 3, count: 258)]
    private static let pack = [0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 1, 2] + inputs[2]

    @Test func inputsComeAsTheyWerePacked() throws {
        #expect(try PackedInputs.unpack(Self.pack) == Self.inputs)
        #expect(try PackedInputs.unpack([]) == [])
    }

    /// Whatever is missing at the end: only a cut between two inputs cannot be seen.
    @Test func aPackThatIsCutOffIsRefused() throws {
        for count in Self.pack.indices where ![0, 4, 10].contains(count) {
            #expect(throws: PackedInputs.Damage.self, "\(count) bytes") {
                try PackedInputs.unpack(Array(Self.pack.prefix(count)))
            }
        }
        let length = #expect(throws: PackedInputs.Damage.self) { try PackedInputs.unpack(Array(Self.pack.prefix(7))) }
        #expect(length?.description == "input 1 at byte 4: its length is cut off, 3 bytes of 4 are left")
        let input = #expect(throws: PackedInputs.Damage.self) { try PackedInputs.unpack(Self.pack.dropLast()) }
        #expect(input?.description == "input 2 at byte 10: it is cut off, 257 bytes of 258 are left")
    }

    @Test(arguments: [[0, 0, 0, 1, 2, 0, 0, 0, 1, 1], [0, 0, 0, 1, 2, 0, 0, 0, 1, 2]] as [[UInt8]])
    func aPackThatIsNotInOrderIsRefused(_ pack: [UInt8]) {
        let damage = #expect(throws: PackedInputs.Damage.self) { try PackedInputs.unpack(pack) }
        #expect(damage?.description == "input 1 at byte 5: it does not come after the one before in order")
    }
}
