// A client of Martlet, with generated stubs.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <google/rpc/error_details.pb.h>
#include <grpcpp/grpcpp.h>

#include "martlet/v1/admin.grpc.pb.h"
#include "martlet/v1/append.grpc.pb.h"
#include "martlet/v1/query.grpc.pb.h"
#include "martlet/v1/subscribe.grpc.pb.h"

// task: connect

// A call that has failed, and what the server says about it, if it says anything.
struct CallFailed : std::runtime_error {
    explicit CallFailed(const grpc::Status &status);

    grpc::StatusCode code;
    std::optional<martlet::v1::CallStatus> details;
    std::optional<google::rpc::RetryInfo> retry;
};

// The event that a subscriber has handled last.
struct Place {
    uint64_t position = 0;
    std::string eventId;
};

// A connection to Martlet, for one tenant.
class Client {
public:
    Client(
        const std::string &target, const std::filesystem::path &authority, const std::filesystem::path &certificate,
        const std::filesystem::path &key, std::string tenant);

    martlet::v1::GetServerInfoResponse serverInfo();
    martlet::v1::AppendResponse placeOrder(const std::string &order);
    martlet::v1::AppendResponse append(const std::string &order, uint64_t version, martlet::v1::Event event);
    martlet::v1::AppendResponse appendSafely(const martlet::v1::AppendRequest &request);

    using Decision = std::function<martlet::v1::Event(const std::vector<martlet::v1::RecordedEvent> &)>;
    martlet::v1::AppendResponse execute(const std::string &order, const Decision &decide);

    std::vector<martlet::v1::RecordedEvent> load(const martlet::v1::LoadRequest &request);
    void printHistory(const std::string &order, const martlet::v1::AppendResponse &placed);

    // Handles an event, and says whether it wants more.
    using Handler = std::function<bool(const martlet::v1::RecordedEvent &)>;
    void follow(Place last, const Handler &handle);
    void project(const std::filesystem::path &database, const std::function<bool(uint64_t)> &wantsMore);
    void throughDrain(const std::string &order, uint64_t count);

private:
    martlet::v1::SubscribeRequest subscription(const Place &last) const;

    std::string tenant;
    std::unique_ptr<martlet::v1::AdminService::Stub> admin;
    std::unique_ptr<martlet::v1::AppendService::Stub> appends;
    std::unique_ptr<martlet::v1::QueryService::Stub> queries;
    std::unique_ptr<martlet::v1::SubscribeService::Stub> subscriptions;
};

// end

std::string newId();
martlet::v1::Event newEvent(const std::string &type, const std::string &payload);
