package martlet.interop;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Optional;
import java.util.stream.IntStream;
import java.util.stream.StreamSupport;

/** Compares values with patterns. */
final class Patterns {
    private Patterns() {}

    /** A message in protobuf's JSON mapping, with default values. */
    static JsonElement toJson(Message message) {
        try {
            return JsonParser.parseString(JsonFormat.printer().includingDefaultValueFields().print(message));
        } catch (InvalidProtocolBufferException exception) {
            throw new Failure(exception.getMessage());
        }
    }

    /** Throws a failure if the value does not match the pattern. */
    static void match(JsonElement pattern, JsonElement value) {
        difference(pattern, value, "").ifPresent(wrong -> {
            throw new Failure(wrong);
        });
    }

    /** Where and how a value does not match a pattern; empty if it does. */
    static Optional<String> difference(JsonElement pattern, JsonElement given, String path) {
        var value = given == null ? JsonNull.INSTANCE : given;
        if (pattern.isJsonObject()) return differenceOfObject(pattern.getAsJsonObject(), value, path);
        if (pattern.isJsonArray()) {
            var parts = pattern.getAsJsonArray();
            if (!value.isJsonArray() || value.getAsJsonArray().size() != parts.size()) {
                return Optional.of(path + ": " + value + " has not " + parts.size() + " elements");
            }
            var elements = value.getAsJsonArray();
            return IntStream.range(0, parts.size())
                    .mapToObj(index -> difference(parts.get(index), elements.get(index), path + "." + index))
                    .flatMap(Optional::stream)
                    .findFirst();
        }
        return pattern.equals(value) ? Optional.empty() : Optional.of(path + ": " + value + " is not " + pattern);
    }

    private static Optional<String> differenceOfObject(JsonObject pattern, JsonElement value, String path) {
        if (pattern.has("$json")) {
            var bytes = value.isJsonPrimitive() ? Base64.getDecoder().decode(value.getAsString()) : new byte[0];
            var stored = JsonParser.parseString(new String(bytes, StandardCharsets.UTF_8));
            var expected = pattern.get("$json");
            return stored.equals(expected)
                    ? Optional.empty()
                    : Optional.of(path + ": " + stored + " is not " + expected);
        }
        if (pattern.has("$count")) {
            var count = pattern.get("$count").getAsInt();
            return value.isJsonArray() && value.getAsJsonArray().size() == count
                    ? Optional.empty()
                    : Optional.of(path + ": " + value + " has not " + count + " elements");
        }
        if (pattern.has("$contains")) {
            var elements = value.isJsonArray() ? value.getAsJsonArray() : new JsonArray();
            return StreamSupport.stream(pattern.getAsJsonArray("$contains").spliterator(), false)
                    .filter(part -> StreamSupport.stream(elements.spliterator(), false)
                            .allMatch(element -> difference(part, element, "").isPresent()))
                    .map(part -> path + ": nothing matches " + part)
                    .findFirst();
        }
        if (!value.isJsonObject()) return Optional.of(path + ": " + value + " is no object");
        var members = value.getAsJsonObject();
        return pattern.entrySet().stream()
                .map(one -> difference(one.getValue(), members.get(one.getKey()), path + "." + one.getKey()))
                .flatMap(Optional::stream)
                .findFirst();
    }
}
