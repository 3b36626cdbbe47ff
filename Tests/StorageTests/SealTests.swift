import FoundationEssentials
import MartletModel
import MartletStorage
import Testing

/// That a seal tells apart what would be the same bytes, one value after the other.
@Suite struct SealTests {
    @Test func anIDDoesNotCountForTheOneAfterIt() throws {
        let consumer = ConsumerID(
            tenant: TenantID(UUID(high: 3, low: 4)), name: try #require(ConsumerName("balances")))
        let id = UUID(high: 1, low: 2)
        func seal(event: UUID?, owner: UUID?) -> UInt32 {
            let slot = StoredSlot(epoch: 1, floor: Checkpoint(position: Position(3), eventID: event), owner: owner)
            return Seal.slot(slot, SlotID(consumer: consumer, number: 0))
        }
        #expect(seal(event: id, owner: nil) != seal(event: nil, owner: id))
    }
}
