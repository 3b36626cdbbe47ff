#include "methods.h"

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "martlet/v1/admin.grpc.pb.h"
#include "martlet/v1/append.grpc.pb.h"
#include "martlet/v1/consumer.grpc.pb.h"
#include "martlet/v1/query.grpc.pb.h"
#include "martlet/v1/settings.grpc.pb.h"
#include "martlet/v1/snapshot.grpc.pb.h"
#include "martlet/v1/subscribe.grpc.pb.h"

namespace {

using google::protobuf::Message;
using grpc::ClientContext;

template <class Stub, class Request, class Answer>
Method unary(std::shared_ptr<Stub> stub, grpc::Status (Stub::*call)(ClientContext *, const Request &, Answer *)) {
    Method method;
    method.newRequest = [] { return std::make_unique<Request>(); };
    method.unary = [stub, call](ClientContext &context, const Message &request, MessagePtr &answer) {
        auto message = std::make_unique<Answer>();
        auto status = (*stub.*call)(&context, static_cast<const Request &>(request), message.get());
        answer = std::move(message);
        return status;
    };
    return method;
}

template <class Answer, class Reader>
Stream reading(std::shared_ptr<ClientContext> context, std::shared_ptr<Reader> reader) {
    Stream stream;
    stream.context = context;
    stream.next = [reader]() -> MessagePtr {
        auto message = std::make_unique<Answer>();
        if (!reader->Read(message.get())) return nullptr;
        return message;
    };
    // The reader uses the context to its end.
    stream.finish = [context, reader] { return reader->Finish(); };
    return stream;
}

template <class Stub, class Request, class Answer>
Method stream(
    std::shared_ptr<Stub> stub,
    std::unique_ptr<grpc::ClientReader<Answer>> (Stub::*call)(ClientContext *, const Request &)) {
    Method method;
    method.newRequest = [] { return std::make_unique<Request>(); };
    method.stream = [stub, call](std::shared_ptr<ClientContext> context, const Message &request) {
        std::shared_ptr reader = (*stub.*call)(context.get(), static_cast<const Request &>(request));
        return reading<Answer>(context, reader);
    };
    return method;
}

// A method that takes a stream of requests: it gets one.
template <class Stub, class Request, class Answer>
Method session(
    std::shared_ptr<Stub> stub,
    std::unique_ptr<grpc::ClientReaderWriter<Request, Answer>> (Stub::*call)(ClientContext *)) {
    Method method;
    method.newRequest = [] { return std::make_unique<Request>(); };
    method.stream = [stub, call](std::shared_ptr<ClientContext> context, const Message &request) {
        std::shared_ptr session = (*stub.*call)(context.get());
        session->Write(static_cast<const Request &>(request));
        session->WritesDone();
        return reading<Answer>(context, session);
    };
    return method;
}

} // namespace

std::map<std::string, Method> allMethods(const std::shared_ptr<grpc::Channel> &channel) {
    using namespace martlet::v1;
    using grpc::health::v1::Health;
    namespace reflection = grpc::reflection::v1;
    namespace alpha = grpc::reflection::v1alpha;
    std::shared_ptr admin = AdminService::NewStub(channel);
    std::shared_ptr append = AppendService::NewStub(channel);
    std::shared_ptr consumer = ConsumerService::NewStub(channel);
    std::shared_ptr query = QueryService::NewStub(channel);
    std::shared_ptr settings = SettingsService::NewStub(channel);
    std::shared_ptr snapshot = SnapshotService::NewStub(channel);
    std::shared_ptr subscribe = SubscribeService::NewStub(channel);
    std::shared_ptr health = Health::NewStub(channel);
    std::shared_ptr reflector = reflection::ServerReflection::NewStub(channel);
    std::shared_ptr olderReflector = alpha::ServerReflection::NewStub(channel);
    return {
        {"martlet.v1.AdminService/GetStatus", unary(admin, &AdminService::Stub::GetStatus)},
        {"martlet.v1.AppendService/Append", unary(append, &AppendService::Stub::Append)},
        {"martlet.v1.ConsumerService/PutConsumer", unary(consumer, &ConsumerService::Stub::PutConsumer)},
        {"martlet.v1.ConsumerService/AwaitConsumer", unary(consumer, &ConsumerService::Stub::AwaitConsumer)},
        {"martlet.v1.QueryService/GetHead", unary(query, &QueryService::Stub::GetHead)},
        {"martlet.v1.QueryService/Load", stream(query, &QueryService::Stub::Load)},
        {"martlet.v1.QueryService/Read", stream(query, &QueryService::Stub::Read)},
        {"martlet.v1.SettingsService/PutSettings", unary(settings, &SettingsService::Stub::PutSettings)},
        {"martlet.v1.SnapshotService/SaveSnapshot", unary(snapshot, &SnapshotService::Stub::SaveSnapshot)},
        {"martlet.v1.SnapshotService/LoadSnapshot", unary(snapshot, &SnapshotService::Stub::LoadSnapshot)},
        {"martlet.v1.SnapshotService/ListSnapshots", unary(snapshot, &SnapshotService::Stub::ListSnapshots)},
        {"martlet.v1.SnapshotService/DeleteSnapshots", unary(snapshot, &SnapshotService::Stub::DeleteSnapshots)},
        {"martlet.v1.SubscribeService/Subscribe", stream(subscribe, &SubscribeService::Stub::Subscribe)},
        {"grpc.health.v1.Health/Check", unary(health, &Health::Stub::Check)},
        {"grpc.health.v1.Health/Watch", stream(health, &Health::Stub::Watch)},
        {"grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
         session(reflector, &reflection::ServerReflection::Stub::ServerReflectionInfo)},
        {"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
         session(olderReflector, &alpha::ServerReflection::Stub::ServerReflectionInfo)},
    };
}
