import MartletStorageMemory
import MartletTesting
import Testing

/// Which tenants have a consumer of a name, in memory.
@Suite struct ConsumerTenantsTests {
    @Test func theyAreFoundInTheOrderOfTheirIDs() throws { try ConsumerTenants.check(MemoryEngine()) }
}
