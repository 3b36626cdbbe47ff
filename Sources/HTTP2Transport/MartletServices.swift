import MartletFrameCodec

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
                "AppendSession": GRPCMethod(streamsRequests: true, streamsResponses: true) { AppendSessionHandler($0) },
            ]),
        GRPCService(
            name: "martlet.v1.ConsumerService",
            methods: [
                "AwaitConsumer": .unary(.awaitConsumer),
                "Consume": GRPCMethod(streamsRequests: true, streamsResponses: true) { WorkerHandler($0) },
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
    fileprivate static func unary(_ kind: RequestKind) -> GRPCMethod { GRPCMethod { RequestHandler(kind, $0) } }

    fileprivate static func stream(_ kind: RequestKind) -> GRPCMethod {
        GRPCMethod(streamsResponses: true) { RequestHandler(kind, $0) }
    }
}
