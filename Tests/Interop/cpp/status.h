// What a failed call tells.
#pragma once

#include <optional>

#include <google/rpc/error_details.pb.h>
#include <grpcpp/grpcpp.h>

#include "martlet/v1/status.pb.h"
#include "values.h"

// What the status of a failed call holds, in `grpc-status-details-bin`.
struct ErrorDetails {
    explicit ErrorDetails(const grpc::Status &status);

    int code = 0;
    std::optional<google::rpc::ErrorInfo> info;
    std::optional<google::rpc::RetryInfo> retry;
    std::optional<martlet::v1::CallStatus> call;
};

// Holds the end of a call to the status that a step expects; throws a Failure.
void checkEnd(const Json &expected, const grpc::Status &status);
