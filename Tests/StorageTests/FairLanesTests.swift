import MartletModel
import MartletTesting
import Testing

@testable import MartletStorage

@Suite struct FairLanesTests {
    private func tenant(_ number: Int) -> TenantID { Sample.tenant(UInt64(number)) }

    private func lanes(sizeMax: Int = 100_000, perTenant: Int = 1) -> FairLanes<Int> {
        FairLanes(sizeMax: sizeMax, takenPerTenantMax: perTenant, costMin: 1)
    }

    /// Takes and finishes the next; nil where there is none.
    private func serve(_ lanes: inout FairLanes<Int>, cost: (Int) -> UInt64) -> Int? {
        guard let taken = lanes.take() else { return nil }
        lanes.finish(taken, cost: cost(taken.element))
        return taken.element
    }

    @Test func tenantsShareByCostAndATenantsWorkKeepsItsOrder() {
        var lanes = lanes()
        // The first tenant's work costs ten times as much as the second's.
        for index in 0..<100 {
            #expect(lanes.add(1_000 + index, of: tenant(1)) != nil)
            #expect(lanes.add(2_000 + index, of: tenant(2)) != nil)
        }
        var order: [Int] = []
        while let next = serve(&lanes, cost: { $0 < 2_000 ? 1_000 : 100 }) { order.append(next) }
        #expect(order.filter { $0 < 2_000 } == Array(1_000..<1_100))
        #expect(order.filter { $0 >= 2_000 } == Array(2_000..<2_100))
        let share = order.prefix(55).filter { $0 < 2_000 }.count
        #expect((4...6).contains(share), "\(share) heavy ones among the first 55")
        #expect(lanes.isEmpty && !lanes.hasWork && lanes.size == 0)
    }

    @Test func aNewcomerGoesFirstAndSavesUpNoTurns() {
        var lanes = lanes()
        for index in 0..<1_000 { #expect(lanes.add(index, of: tenant(1)) != nil) }
        for _ in 0..<500 { #expect(serve(&lanes) { _ in 50 } != nil) }
        for index in 0..<100 { #expect(lanes.add(5_000 + index, of: tenant(2)) != nil) }
        var order: [Int] = []
        for _ in 0..<20 { order.append(serve(&lanes) { _ in 50 } ?? -1) }
        #expect(order[0] == 5_000, "the newcomer is next")
        let newcomers = order.filter { $0 >= 5_000 }.count
        #expect((10...11).contains(newcomers), "and has every other turn from then on: \(order)")
    }

    @Test func leavingIsNoWayToStartOver() {
        var lanes = lanes()
        // The second tenant has one heavy piece of work at a time, the first always has something waiting.
        for index in 0..<2_000 { #expect(lanes.add(index, of: tenant(1)) != nil) }
        var heavy = 0
        for turn in 0..<1_000 {
            if lanes.size(of: tenant(2)) == 0 { #expect(lanes.add(10_000 + turn, of: tenant(2)) != nil) }
            if let next = serve(&lanes, cost: { $0 >= 10_000 ? 900 : 100 }), next >= 10_000 { heavy += 1 }
        }
        #expect((90...110).contains(heavy), "a tenth of the turns is half of the time: \(heavy)")
    }

    @Test func aStreamOfNewcomersKeepsNobodyWaiting() {
        var lanes = lanes()
        // It did much while others waited too, so that it is far behind them.
        #expect(lanes.add(0, of: tenant(1)) != nil && lanes.add(1, of: tenant(2)) != nil)
        #expect(serve(&lanes) { _ in 100_000 } == 0)
        #expect(lanes.add(7, of: tenant(1)) != nil)
        var served = 0
        for number in 0..<20_000 {
            #expect(lanes.add(1_000 + number, of: tenant(1_000 + number)) != nil)
            served += 1
            if serve(&lanes, cost: { _ in 100 }) == 7 { break }
        }
        #expect(served > 500 && served < 5_000, "\(served) newcomers came first")
    }

    @Test func soMuchOfATenantIsUnderWayAtATime() {
        var lanes = lanes(perTenant: 2)
        for index in 0..<5 { #expect(lanes.add(index, of: tenant(1)) != nil) }
        let first = lanes.take()
        let second = lanes.take()
        #expect(first?.element == 0 && second?.element == 1 && lanes.take() == nil && !lanes.hasWork)
        #expect(lanes.add(9, of: tenant(2)) != nil && lanes.take()?.element == 9)
        if let first { lanes.finish(first, cost: 1_000) }
        #expect(lanes.hasWork && lanes.take()?.element == 2 && lanes.take() == nil)
    }

    @Test func oneTenantGetsHalfAndNewcomersFindRoom() {
        var lanes = lanes(sizeMax: 10)
        func fill(_ number: Int) -> Int {
            var count = 0
            while lanes.add(0, of: tenant(number)) != nil { count += 1 }
            return count
        }
        #expect((1...5).map { fill($0) } == [5, 3, 1, 1, 0])
        #expect(lanes.size == 10)
        let taken = lanes.take()
        #expect(lanes.add(0, of: tenant(9)) == nil, "what is under way is on the account")
        if let taken { lanes.finish(taken, cost: 1) }
        #expect(lanes.add(0, of: tenant(9)) != nil)
    }

    @Test func thoseWhoComeAndLeaveLeaveNothingBehind() {
        var lanes = lanes()
        #expect(lanes.add(0, of: tenant(1)) == 1)
        let taken = lanes.take()
        #expect(lanes.add(0, of: tenant(1)) == 2)
        for number in 3...20_000 as ClosedRange<UInt64> {
            #expect(lanes.add(0, of: tenant(Int(number % 4))) == number)
            #expect(lanes.remove(number, of: tenant(Int(number % 4))) == 0)
            guard lanes.placeCount <= 64 else { Issue.record("\(lanes.placeCount) places"); return }
        }
        for number in 20_001...60_000 as ClosedRange<UInt64> {
            #expect(lanes.add(0, of: tenant(Int(number))) == number)
            #expect(lanes.remove(number, of: tenant(Int(number))) == 0)
        }
        #expect(lanes.placeCount <= 64 && lanes.laneCount <= 1_030, "\(lanes.laneCount) lanes")
        if let taken { lanes.finish(taken, cost: 1) }
        #expect(serve(&lanes) { _ in 1 } == 0 && lanes.isEmpty)
    }

    /// Against a list that is searched from end to end.
    @Test func isWhatAPlainListWouldBe() {
        var random = SeededGenerator.fromEnvironment()
        let seed = random.seed
        for round in 0..<200 {
            let sizeMax = Int.random(in: 1...40, using: &random)
            let perTenant = Int.random(in: 1...3, using: &random)
            var lanes = FairLanes<Int>(sizeMax: sizeMax, takenPerTenantMax: perTenant, costMin: 3)
            var waiting: [(number: UInt64, tenant: Int, size: Int, element: Int)] = []
            var underWay: [(taken: FairLanes<Int>.Taken, tenant: Int, size: Int)] = []
            var spent: [Int: UInt64] = [:]
            let place: () -> Testing.Comment = { "seed \(seed), round \(round)" }
            for step in 0..<300 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<4:
                    let owner = Int.random(in: 1...4, using: &random)
                    let size = Int.random(in: 1...4, using: &random)
                    let all = waiting.map(\.size).reduce(0, +) + underWay.map(\.size).reduce(0, +)
                    let own =
                        waiting.filter { $0.tenant == owner }.map(\.size).reduce(0, +)
                        + underWay.filter { $0.tenant == owner }.map(\.size).reduce(0, +)
                    let number = lanes.add(step, of: tenant(owner), size: size)
                    #expect((number != nil) == (own + size <= sizeMax - all), place())
                    if let number { waiting.append((number, owner, size, step)) }
                case 4..<6:
                    guard let some = waiting.randomElement(using: &random) else { continue }
                    #expect(lanes.remove(some.number, of: tenant(some.tenant % 4 + 1)) == nil, place())
                    #expect(lanes.remove(some.number, of: tenant(some.tenant)) == some.element, place())
                    #expect(lanes.remove(some.number, of: tenant(some.tenant)) == nil, place())
                    waiting.removeAll { $0.number == some.number }
                case 6..<8:
                    let busy = Dictionary(grouping: underWay, by: \.tenant).filter { $0.value.count >= perTenant }
                    let free = waiting.filter { busy[$0.tenant] == nil }
                    #expect(lanes.hasWork == !free.isEmpty, place())
                    let taken = lanes.take()
                    guard let taken else {
                        #expect(free.isEmpty, place())
                        continue
                    }
                    let index = waiting.firstIndex { $0.element == taken.element }
                    guard let index else { Issue.record("taken twice: \(place())"); return }
                    let owner = waiting[index].tenant
                    #expect(busy[owner] == nil && !waiting[..<index].contains { $0.tenant == owner }, place())
                    underWay.append((taken, owner, waiting[index].size))
                    waiting.remove(at: index)
                default:
                    guard let index = underWay.indices.randomElement(using: &random) else { continue }
                    let done = underWay.remove(at: index)
                    let cost = UInt64.random(in: 0...50, using: &random)
                    spent[done.tenant, default: 0] += cost
                    lanes.finish(done.taken, cost: cost)
                }
                let size = waiting.map(\.size).reduce(0, +) + underWay.map(\.size).reduce(0, +)
                #expect(lanes.size == size && lanes.isEmpty == (size == 0) && size <= sizeMax, place())
            }
            let left = lanes.removeAll()
            #expect(left.sorted() == waiting.map(\.element).sorted(), place())
            for done in underWay { lanes.finish(done.taken, cost: 1) }
            #expect(lanes.isEmpty && !lanes.hasWork && lanes.take() == nil, place())
        }
    }
}
