package martlet.interop;

import com.google.common.util.concurrent.Futures;
import com.google.common.util.concurrent.UncheckedExecutionException;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Carries out the steps of one case. */
final class Runner {
    private static final long CALL_DEADLINE_MILLIS = 30_000;
    private static final long STREAM_DEADLINE_MILLIS = 600_000;

    private record OpenStream(ClientCall<Message, Message> call, Iterator<Message> messages) {}

    private final Channel channel;
    private final Variables variables = new Variables();
    private final Map<String, OpenStream> streams = new HashMap<>();

    Runner(Channel channel) {
        this.channel = channel;
    }

    /** Carries out the steps; the failure of the first one that fails has its number. */
    void run(JsonArray steps) {
        var number = 0;
        try {
            for (JsonElement step : steps) {
                number++;
                carryOut(step.getAsJsonObject());
            }
        } catch (RuntimeException exception) {
            var message = exception instanceof Failure ? exception.getMessage() : exception.toString();
            throw new Failure("step " + number + ": " + message);
        } finally {
            streams.values().forEach(stream -> stream.call.cancel("the case is over", null));
        }
    }

    private void carryOut(JsonObject step) {
        if (step.has("open")) {
            streams.put(step.get("open").getAsString(), open(step, STREAM_DEADLINE_MILLIS));
        } else if (step.has("read")) {
            read(streams.get(step.get("read").getAsString()), step);
        } else if (step.has("cancel")) {
            streams.get(step.get("cancel").getAsString()).call.cancel("the case says so", null);
        } else if (step.has("server")) {
            var answer = Driver.askServer(variables.fillRequest(step).getAsJsonObject());
            variables.save(step.get("save"), answer);
        } else {
            var giveUp = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis(step, "within_millis", 0));
            while (true) {
                try {
                    call(step);
                    return;
                } catch (Failure failure) {
                    if (System.nanoTime() - giveUp >= 0) throw failure;
                }
                sleep(50);
            }
        }
    }

    private ClientCall<Message, Message> newCall(JsonObject step, long deadlineMillis) {
        // A server that has just been started again may not be there yet.
        var options = CallOptions.DEFAULT
                .withDeadlineAfter(millis(step, "deadline_millis", deadlineMillis), TimeUnit.MILLISECONDS)
                .withWaitForReady();
        return channel.newCall(method(step), options);
    }

    private static MethodDescriptor<Message, Message> method(JsonObject step) {
        return Methods.named(step.get("call").getAsString());
    }

    private Message request(JsonObject step) {
        var request = Methods.newRequest(method(step));
        try {
            JsonFormat.parser().merge(variables.fillRequest(step.get("request")).toString(), request);
        } catch (InvalidProtocolBufferException exception) {
            throw new Failure(exception.getMessage());
        }
        return request.build();
    }

    private OpenStream open(JsonObject step, long deadlineMillis) {
        var call = newCall(step, deadlineMillis);
        // The iterator asks for one message after the other: a reader that is slow gets no more than it takes.
        return new OpenStream(call, ClientCalls.blockingServerStreamingCall(call, request(step)));
    }

    private void call(JsonObject step) {
        if (!method(step).getType().serverSendsOneMessage()) {
            read(open(step, CALL_DEADLINE_MILLIS), step);
            return;
        }
        var reading = new Reading(step, variables);
        try {
            var answer = ClientCalls.futureUnaryCall(newCall(step, CALL_DEADLINE_MILLIS), request(step));
            reading.take(Futures.getUnchecked(answer));
        } catch (UncheckedExecutionException exception) {
            reading.finishEnded((StatusRuntimeException) exception.getCause());
            return;
        }
        reading.finishEnded(null);
    }

    private void read(OpenStream stream, JsonObject step) {
        var reading = new Reading(step, variables);
        try {
            while (stream.messages.hasNext()) {
                if (reading.take(stream.messages.next())) {
                    reading.finish();
                    return;
                }
                sleep(millis(step, "pause_millis", 0));
            }
        } catch (StatusRuntimeException exception) {
            reading.finishEnded(exception);
            return;
        }
        reading.finishEnded(null);
    }

    private static long millis(JsonObject step, String name, long otherwise) {
        return step.has(name) ? step.get(name).getAsLong() : otherwise;
    }

    private static void sleep(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException exception) {
            Thread.currentThread().interrupt();
            throw new Failure("interrupted");
        }
    }
}
