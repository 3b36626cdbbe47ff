package martlet.interop;

import com.google.gson.JsonObject;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.Durations;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.Optional;
import martlet.v1.CallStatus;

/** What {@code grpc-status-details-bin} holds of a call that failed. */
final class ErrorDetails {
    private static final String DOMAIN = "martlet.v1";

    private final com.google.rpc.Status status;

    ErrorDetails(StatusRuntimeException exception) {
        status = StatusProto.fromThrowable(exception);
    }

    /** The detail of that type, if there is one. */
    <Detail extends Message> Optional<Detail> find(Class<Detail> type) {
        for (Any detail : status.getDetailsList()) {
            if (!detail.is(type)) continue;
            try {
                return Optional.of(detail.unpack(type));
            } catch (InvalidProtocolBufferException exception) {
                throw new Failure(exception.getMessage());
            }
        }
        return Optional.empty();
    }

    /** Holds the end of a call, an exception or null, to the status that a step expects. */
    static void checkEnd(JsonObject expected, StatusRuntimeException exception) {
        var ended = exception == null ? Status.OK : exception.getStatus();
        var code = expected == null ? "OK" : expected.get("code").getAsString();
        if (!ended.getCode().name().equals(code)) {
            throw new Failure("the call ended with " + ended + ", not with " + code);
        }
        if (expected == null || !expected.has("reason")) return;
        var reason = expected.get("reason").getAsString();
        var retryable = expected.has("retryable") && expected.get("retryable").getAsBoolean();
        var details = new ErrorDetails(exception);
        if (details.status.getCode() != ended.getCode().value()) {
            throw new Failure("the details are of the code " + details.status.getCode());
        }
        var info = details.find(ErrorInfo.class);
        if (info.filter(one -> one.getReason().equals(reason) && one.getDomain().equals(DOMAIN)).isEmpty()) {
            throw new Failure("the ErrorInfo is not of " + reason + ": " + info);
        }
        var call = details.find(CallStatus.class);
        if (call.filter(one -> one.getCode() == ended.getCode().value()
                        && one.getReason().equals(reason)
                        && one.getRetryable() == retryable)
                .isEmpty()) {
            throw new Failure("the CallStatus is not of " + reason + ": " + call);
        }
        var retry = details.find(RetryInfo.class);
        if (retry.isPresent() != retryable) throw new Failure("retryable is " + retryable + ", the RetryInfo " + retry);
        if (retryable && !Durations.isPositive(retry.get().getRetryDelay())) {
            throw new Failure("the RetryInfo has no delay");
        }
        if (expected.has("details")) Patterns.match(expected.get("details"), Patterns.toJson(call.get()));
    }
}
