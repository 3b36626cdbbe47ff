import FoundationEssentials
import MartletModel
import Testing

@Suite struct NumbersTests {
    @Test func versionsAndPositionsCount() {
        #expect(Version.none.next == Version(1) && Version(1).next == Version(rawValue: 2))
        #expect(Position.start.next == Position(1) && Position(41).next == Position(rawValue: 42))
        #expect(Version.none < Version(1) && Version(1) < .max && !(Version(1) < Version(1)))
        #expect(Position.start < Position(1) && Position(1) < .max && !(Position(1) < Position(1)))
        #expect(Version.max.rawValue == 0x7FFF_FFFF_FFFF_FFFF && Position.max.rawValue == 0x7FFF_FFFF_FFFF_FFFF)
        #expect(Version(18_446_744_073_709_551_615).description == "18446744073709551615")
        #expect(Position(12).description == "12")
    }

    @Test func aTenantWithoutEventsHasItsHeadAtTheStart() {
        #expect(TenantHead.empty.position == .start && TenantHead.empty.recordedAt.microseconds == 0)
    }

    @Test func theClockOfNowIsThatOfTheSystem() {
        let before = Date().timeIntervalSince1970
        let now = Double(Timestamp.now().microseconds) / 1_000_000
        let after = Date().timeIntervalSince1970
        #expect(before - 0.001 <= now && now <= after + 0.001)
    }
}
