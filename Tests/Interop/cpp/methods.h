// The methods that cases call.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

using MessagePtr = std::unique_ptr<google::protobuf::Message>;

// A stream of answers that steps read from.
struct Stream {
    std::shared_ptr<grpc::ClientContext> context;
    // The next message; null at the end.
    std::function<MessagePtr()> next;
    // How the call ended, after its last message.
    std::function<grpc::Status()> finish;
};

// A method of a service. One of `unary` and `stream` is set.
struct Method {
    std::function<MessagePtr()> newRequest;
    std::function<grpc::Status(grpc::ClientContext &, const google::protobuf::Message &, MessagePtr &)> unary;
    std::function<Stream(std::shared_ptr<grpc::ClientContext>, const google::protobuf::Message &)> stream;
};

// The methods by their full names.
std::map<std::string, Method> allMethods(const std::shared_ptr<grpc::Channel> &channel);
