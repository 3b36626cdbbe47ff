#include "status.h"

#include <google/rpc/status.pb.h>

namespace {

constexpr auto errorDomain = "martlet.v1";

constexpr const char *codeNames[] = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
};

template <class Detail> void unpack(const google::protobuf::Any &any, std::optional<Detail> &detail) {
    if (any.Is<Detail>()) any.UnpackTo(&detail.emplace());
}

} // namespace

ErrorDetails::ErrorDetails(const grpc::Status &status) {
    google::rpc::Status details;
    if (status.error_details().empty() || !details.ParseFromString(status.error_details())) return;
    code = details.code();
    for (const auto &any : details.details()) {
        unpack(any, info);
        unpack(any, retry);
        unpack(any, call);
    }
}

void checkEnd(const Json &expected, const grpc::Status &status) {
    auto code = expected.is_null() ? "OK" : expected["code"].get<std::string>();
    std::string name = codeNames[status.error_code()];
    if (name != code)
        throw Failure("the call ended with " + name + ", not with " + code + ": " + status.error_message());
    if (expected.is_null() || !expected.contains("reason")) return;
    auto reason = expected["reason"].get<std::string>();
    auto retryable = expected.value("retryable", false);
    ErrorDetails details(status);
    if (details.code != status.error_code())
        throw Failure("grpc-status-details-bin holds no google.rpc.Status of " + name);
    if (!details.info || details.info->reason() != reason || details.info->domain() != errorDomain)
        throw Failure("the ErrorInfo is not of " + reason);
    if (!details.call || details.call->code() != static_cast<unsigned>(status.error_code()) ||
        details.call->reason() != reason || details.call->retryable() != retryable)
        throw Failure("the CallStatus is not of " + reason);
    if (details.retry.has_value() != retryable)
        throw Failure(retryable ? "there is no RetryInfo" : "there is a RetryInfo");
    if (retryable && details.retry->retry_delay().seconds() <= 0 && details.retry->retry_delay().nanos() <= 0)
        throw Failure("the RetryInfo has no delay");
    if (expected.contains("details")) match(expected["details"], toJson(*details.call));
}
