package martlet.interop;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.Message;
import io.grpc.StatusRuntimeException;
import martlet.v1.RecordedEvent;

/** The messages that one step reads: counts and merges them, and says when they are enough. */
final class Reading {
    private final JsonObject step;
    private final Variables variables;
    private final JsonObject until;
    private final boolean keeps;
    private final boolean isOrdered;
    private long position;
    private long events;
    private Message.Builder merged;

    Reading(JsonObject step, Variables variables) {
        this.step = step;
        this.variables = variables;
        until = (JsonObject) variables.fillPattern(step.get("until"));
        keeps = step.has("answer") || step.has("save");
        isOrdered = step.has("positions_after");
        if (isOrdered) position = Long.parseLong(variables.text(step.get("positions_after").getAsString()));
    }

    /** Takes the next message; true if it is the last one to read. */
    boolean take(Message message) {
        var field = message.getDescriptorForType().findFieldByName("events");
        for (var index = 0; field != null && index < message.getRepeatedFieldCount(field); index++) {
            takeEvent((RecordedEvent) message.getRepeatedField(field, index));
        }
        if (keeps) {
            if (merged == null) merged = message.newBuilderForType();
            merged.mergeFrom(message);
        }
        if (until == null) return false;
        if (until.has("events")) return events >= until.get("events").getAsLong();
        return Patterns.difference(until.get("message"), Patterns.toJson(message), "").isEmpty();
    }

    private void takeEvent(RecordedEvent event) {
        events++;
        if (!isOrdered) return;
        if (event.getPosition() != position + 1) {
            throw new Failure("position " + event.getPosition() + " came after " + position);
        }
        position++;
    }

    /** Checks what the step expects, after the last message. */
    void finish() {
        if (step.has("count") && step.get("count").getAsLong() != events) {
            throw new Failure(events + " events came, not " + step.get("count"));
        }
        if (!keeps) return;
        JsonElement answer = merged == null ? null : Patterns.toJson(merged.build());
        if (step.has("answer")) Patterns.match(variables.fillPattern(step.get("answer")), answer);
        variables.save(step.get("save"), answer);
    }

    /** The same, after the end of the call, with an exception or null. */
    void finishEnded(StatusRuntimeException exception) {
        if (until != null) throw new Failure("the stream ended before what was waited for: " + exception);
        ErrorDetails.checkEnd((JsonObject) variables.fillPattern(step.get("status")), exception);
        finish();
    }
}
