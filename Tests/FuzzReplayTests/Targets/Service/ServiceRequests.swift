import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// Requests of every kind that a script asks for: few tenants, aggregates and event ids, so that they meet.
enum ServiceRequests {
    /// A request of one of 19 kinds; some kinds come more often.
    static func request(_ input: inout Input, _ kind: Int, _ world: ServiceWorld) -> CallRequest {
        let tenant = ServiceWorld.tenants[input.number(below: 3)]
        switch kind {
        case 0...3: return append(&input, tenant, world)
        case 4, 5: return load(&input, tenant)
        case 6, 7: return read(&input, tenant)
        case 8, 9, 10: return subscribe(&input, tenant)
        case 11: return .getHead(tenant)
        case 12: return .getStatus
        case 13:
            return .saveSnapshot(
                SaveSnapshotRequest(
                    tenant: tenant, aggregate: aggregate(&input), version: version(&input),
                    snapshot: NewSnapshot(
                        schemaVersion: 1 + UInt32(input.number(below: 3)),
                        payload: payload(&input, sizes: [2, 300, 6_000, 24_000]))))
        case 14:
            return .loadSnapshot(
                LoadSnapshotRequest(
                    tenant: tenant, aggregate: aggregate(&input),
                    to: input.number(below: 2) == 0 ? nil : version(&input), use: use(&input),
                    upcasting: upcasting(&input)))
        case 15: return .listSnapshots(tenant, aggregate(&input))
        case 16:
            return .deleteSnapshots(
                DeleteSnapshotsRequest(
                    tenant: tenant, aggregate: aggregate(&input),
                    version: input.number(below: 2) == 0 ? nil : version(&input)))
        case 17: return putSettings(&input, tenant)
        default: return .getSettings(tenant, SettingsKind.all[input.number(below: 2)])
        }
    }

    private static func append(_ input: inout Input, _ tenant: TenantID, _ world: ServiceWorld) -> CallRequest {
        let flags = input.byte()
        var aggregates: [AggregateAppend] = []
        for _ in 0..<(1 + Int(flags & 1) + Int(flags >> 1 & 1)) {
            let expected: ExpectedVersion =
                switch input.number(below: 8) {
                case 0: .none
                case 1: .exists
                case 2: .exact(version(&input))
                default: .any
                }
            var part = AggregateAppend(aggregate: aggregate(&input), expected: expected, events: [])
            for _ in 0..<(1 + input.number(below: 3)) { part.events += event(&input, world).map { [$0] } ?? [] }
            if flags & 4 != 0 { part.snapshot = NewSnapshot(payload: payload(&input, sizes: [2, 8_000])) }
            aggregates.append(part)
        }
        return .append(
            AppendRequest(tenant: tenant, aggregates: aggregates, includeConflictingEvents: flags & 8 != 0))
    }

    private static func event(_ input: inout Input, _ world: ServiceWorld) -> EncodedEvent? {
        let kind = input.byte()
        var id = UInt64(kind >> 6)
        if id > 1 {
            id = world.nextEvent + 2
            world.nextEvent += 1
        }
        guard let type = EventType(types[Int(kind & 3)]) else { return nil }
        let event = NewEvent(
            id: UUID(high: 7, low: id), type: type, schemaVersion: 1 + UInt32(kind >> 2 & 1),
            payload: payload(&input, sizes: [2, 100, 2_000, 8_000]))
        return try? EncodedEvent(event, limits: ServiceWorld.limits)
    }

    private static func load(_ input: inout Input, _ tenant: TenantID) -> CallRequest {
        let flags = input.byte()
        var request = LoadRequest(tenant: tenant, aggregate: aggregate(&input))
        if flags & 1 != 0 { request.after = version(&input) }
        if flags & 2 != 0 { request.direction = .backward }
        if flags & 4 != 0 { request.snapshot = use(&input) }
        if flags & 8 != 0 { request.eventsMax = UInt64(input.number(below: 4)) }
        if flags & 16 != 0 { request.upcasting = upcasting(&input) }
        switch flags >> 5 {
        case 0: request.target = .version(version(&input))
        case 1: request.target = .position(position(&input))
        case 2: request.target = .time(time(&input))
        default: break
        }
        return .load(request)
    }

    private static func read(_ input: inout Input, _ tenant: TenantID) -> CallRequest {
        let flags = input.byte()
        var request = ReadRequest(tenant: tenant)
        if flags & 1 != 0 { request.after = position(&input) }
        if flags & 2 != 0 { request.direction = .backward }
        if flags & 4 != 0 { request.filter = filter(&input) }
        if flags & 8 != 0 { request.eventsMax = UInt64(input.number(below: 4)) }
        if flags & 16 != 0 { request.upcasting = upcasting(&input) }
        switch flags >> 5 {
        case 0: request.target = .position(position(&input))
        case 1: request.target = .time(time(&input))
        default: break
        }
        return .read(request)
    }

    private static func subscribe(_ input: inout Input, _ tenant: TenantID) -> CallRequest {
        let flags = input.byte()
        var request = SubscribeRequest(tenant: tenant)
        if flags & 4 != 0 { request.filter = filter(&input) }
        if flags & 8 != 0 { request.heartbeatMillis = 100 * UInt32(input.byte()) }
        if flags & 16 != 0 { request.upcasting = upcasting(&input) }
        switch flags & 3 {
        case 0: request.start = .after(position(&input))
        case 1: request.start = .time(time(&input))
        case 2: request.start = .head
        default: break
        }
        return .subscribe(request)
    }

    private static func putSettings(_ input: inout Input, _ tenant: TenantID) -> CallRequest {
        let flags = input.byte()
        let kind = SettingsKind.all[Int(flags & 1)]
        let documents = kind == .upcasters ? upcasters : policies
        let choice = input.number(below: documents.count + 2)
        let document: ByteBuffer =
            switch choice {
            case documents.count: ByteBuffer()
            case documents.count + 1: ByteBuffer(bytes: input.bytes(Int(input.byte())))
            default: ByteBuffer(string: documents[choice])
            }
        return .putSettings(
            PutSettingsRequest(
                tenant: tenant, kind: kind, document: document,
                expectedRevision: flags & 2 == 0 ? nil : UInt64(input.number(below: 4))))
    }

    // MARK: Parts

    static let types = ["Placed", "Old", "Older", "Text"]

    /// The last ones make payloads longer, or fail on most.
    private static let upcasters = [
        #"{"upcasters":[{"event":"Old","from":1,"operations":[{"type":"Placed"}]}]}"#,
        #"{"upcasters":[{"event":"Old","from":1,"operations":[{"default":{"path":"/x","value":[1,2]}}]}]}"#,
        #"{"upcasters":[{"event":"Older","from":1,"operations":[{"type":"Old"}]},"#
            + #"{"event":"Old","from":2,"operations":[{"rename":{"path":"/s","to":"t"}}]},"#
            + #"{"snapshot":"order","from":1,"operations":[{"remove":{"path":"/s"}}]}]}"#,
        #"{"upcasters":[{"event":"Placed","from":1,"operations":[{"copy":{"from":"/s","to":"/t"}},"#
            + #"{"copy":{"from":"/s","to":"/u"}}]}]}"#,
        #"{"upcasters":[{"event":"Placed","from":1,"operations":[{"convert":{"path":"/s","to":"integer"}}]}]}"#,
    ]
    private static let policies = [
        #"{"policies":[{"every_events":2,"keep":2}]}"#, #"{"policies":[{"aggregate_type":"order","every_bytes":900}]}"#,
    ]

    static func aggregate(_ input: inout Input) -> AggregateName {
        let choice = input.number(below: 4)
        return name(choice)
    }

    /// One of four aggregates of two types.
    static func name(_ choice: Int) -> AggregateName {
        guard let type = AggregateType(choice & 1 == 0 ? "order" : "customer") else {
            preconditionFailure("these are types")
        }
        return AggregateName(type: type, id: UUID(high: 2, low: UInt64(choice >> 1)))
    }

    /// JSON of one of those sizes.
    static func payload(_ input: inout Input, sizes: [Int]) -> ByteBuffer {
        payload(bytes: sizes[input.number(below: sizes.count)])
    }

    /// JSON of that size, with one text; at least `{}`.
    static func payload(bytes: Int) -> ByteBuffer {
        guard bytes > 8 else { return ByteBuffer(string: "{}") }
        var buffer = ByteBuffer(string: #"{"s":""#)
        buffer.writeRepeatingByte(UInt8(ascii: "7"), count: bytes - 8)
        buffer.writeString(#""}"#)
        return buffer
    }

    private static func version(_ input: inout Input) -> Version { Version(UInt64(input.number(below: 8))) }

    private static func position(_ input: inout Input) -> Position { Position(UInt64(input.number(below: 32))) }

    private static func time(_ input: inout Input) -> Timestamp {
        Timestamp(microseconds: 1_700_000_001_000_000 + 1_000 * Int64(input.byte()))
    }

    private static func use(_ input: inout Input) -> SnapshotUse {
        let choice = input.number(below: 4)
        return SnapshotUse(schemaVersions: choice == 0 ? [] : [UInt32(choice)])
    }

    private static func upcasting(_ input: inout Input) -> UpcastingOptions {
        switch input.number(below: 4) {
        case 0: .raw
        case 1: UpcastingOptions(onFailure: .raw)
        case 2: UpcastingOptions(stopAt: ["Old": 2])
        default: .latest
        }
    }

    private static func filter(_ input: inout Input) -> EventFilter {
        let choice = input.byte()
        var filter = EventFilter()
        if choice & 1 != 0 { filter.eventTypes = Set([EventType(types[Int(choice >> 4 & 3)])].compactMap { $0 }) }
        if choice & 2 != 0 { filter.aggregateTypes = [name(Int(choice >> 6)).type] }
        if choice & 4 != 0 { filter.aggregateIDs = [name(Int(choice >> 6)).id] }
        return filter
    }
}
