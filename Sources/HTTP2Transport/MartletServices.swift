import MartletFrameCodec
import MartletService

extension GRPCService {
    /// Martlet's own services.
    public static let martlet: [GRPCService] = [
        GRPCService(
            name: "martlet.v1.AdminService",
            methods: ["GetServerInfo": .unary(.getServerInfo), "GetStatus": .unary(.getStatus)]),
        GRPCService(
            name: "martlet.v1.AppendService",
            methods: [
                "Append": .unary(.append),
                "AppendSession": GRPCMethod(
                    streamsRequests: true, streamsResponses: true, needs: RequestKind.append.needs
                ) { AppendSessionHandler($0) },
            ]),
        GRPCService(
            name: "martlet.v1.ConsumerService",
            methods: [
                "AwaitConsumer": .unary(.awaitConsumer),
                "Consume": GRPCMethod(
                    streamsRequests: true, streamsResponses: true, needs: RequestKind.consume.needs
                ) { WorkerHandler($0) },
                "DeleteConsumer": .unary(.deleteConsumer),
                "GetConsumer": .unary(.getConsumer),
                "ListBlockedKeys": .unary(.listBlockedKeys),
                "ListConsumers": .unary(.listConsumers),
                "PutConsumer": .unary(.putConsumer),
                "ResetConsumer": .unary(.resetConsumer),
                "UnblockKeys": .unary(.unblockKeys),
            ]),
        GRPCService(
            name: "martlet.v1.QueryService",
            methods: [
                "GetHead": .unary(.getHead),
                "Load": .stream(.load),
                "Read": .stream(.read),
            ]),
        GRPCService(
            name: "martlet.v1.ScheduleService",
            methods: [
                "ChangeSchedules": .unary(.changeSchedules),
                "ListSchedules": .unary(.listSchedules),
            ]),
        GRPCService(
            name: "martlet.v1.SettingsService",
            methods: [
                "GetSettings": .unary(.getSettings),
                "PutSettings": .unary(.putSettings),
            ]),
        GRPCService(
            name: "martlet.v1.SnapshotService",
            methods: [
                "DeleteSnapshots": .unary(.deleteSnapshots),
                "ListSnapshots": .unary(.listSnapshots),
                "LoadSnapshot": .unary(.loadSnapshot),
                "SaveSnapshot": .unary(.saveSnapshot),
            ]),
        GRPCService(
            name: "martlet.v1.SubscribeService",
            methods: ["Subscribe": .stream(.subscribe)]),
    ]
}

extension GRPCMethod {
    fileprivate static func unary(_ kind: RequestKind) -> GRPCMethod {
        GRPCMethod(needs: kind.needs) { RequestHandler(kind, $0) }
    }

    fileprivate static func stream(_ kind: RequestKind) -> GRPCMethod {
        GRPCMethod(streamsResponses: true, needs: kind.needs) { RequestHandler(kind, $0) }
    }
}

extension RequestKind {
    /// What a call of this kind needs of the storage: the one list that the health of each service comes from.
    var needs: StorageNeeds {
        switch self {
        case .append, .saveSnapshot, .deleteSnapshots, .putSettings, .putConsumer, .deleteConsumer, .resetConsumer,
            .unblockKeys, .changeSchedules:
            .writes
        case .consume: [.reads, .writes]
        case .load, .read, .subscribe, .getHead, .loadSnapshot, .listSnapshots, .getSettings, .getConsumer,
            .listConsumers, .listBlockedKeys, .awaitConsumer, .listSchedules:
            .reads
        case .getStatus, .getServerInfo: []
        }
    }
}
