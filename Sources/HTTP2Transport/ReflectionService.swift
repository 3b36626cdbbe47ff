import MartletModel
import NIOCore

extension GRPCService {
    /// `grpc.reflection.v1.ServerReflection`, and its predecessor `v1alpha`, which older tools ask for.
    public static let reflection: [GRPCService] = ["v1", "v1alpha"].map { version in
        GRPCService(
            name: "grpc.reflection.\(version).ServerReflection",
            methods: [
                "ServerReflectionInfo": GRPCMethod(streamsRequests: true, streamsResponses: true) {
                    ReflectionHandler($0)
                }
            ])
    }
}

/// Answers each request on a stream, in order. While the client does not read, its requests wait where they are.
private final class ReflectionHandler: GRPCHandler {
    private let reflection: Reflection

    init(_ call: GRPCCall) {
        reflection = Reflection(
            index: .own, services: call.connection?.services.services.map(\.name).sorted() ?? [])
    }

    func received(_ message: ByteBuffer, of call: GRPCCall) {
        do throws(MartletError) {
            call.send(try reflection.answer(message))
            if call.room == 0 { call.pause() }
        } catch { call.connection?.end(call, error) }
    }

    func receivedEnd(of call: GRPCCall) { call.end(.ok) }

    func pump(_ call: GRPCCall) { if call.room > 0 { call.resume() } }

    func drain(_ call: GRPCCall) { call.end(GRPCStatus(.draining)) }
}
