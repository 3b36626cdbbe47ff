package martlet.interop;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Pattern;

/** What a case has saved, and the ids that it has made. */
final class Variables {
    private static final Pattern VARIABLE = Pattern.compile("\\$\\{([^}]+)\\}");
    private static final SecureRandom RANDOM = new SecureRandom();

    private final Map<String, String> values = new HashMap<>();

    /** Replaces the variables in a string. */
    String text(String text) {
        return VARIABLE.matcher(text).replaceAll(found -> value(found.group(1)));
    }

    private String value(String name) {
        return values.computeIfAbsent(name, missing -> {
            if (!missing.startsWith("uuid:")) throw new Failure("nothing was saved as " + missing);
            var id = new byte[16];
            RANDOM.nextBytes(id);
            return Base64.getEncoder().encodeToString(id);
        });
    }

    /** A request with its variables replaced, and with JSON as bytes. */
    JsonElement fillRequest(JsonElement value) {
        return fill(value, false);
    }

    /** A pattern with its variables replaced. */
    JsonElement fillPattern(JsonElement value) {
        return fill(value, true);
    }

    private JsonElement fill(JsonElement value, boolean isPattern) {
        if (value == null || value.isJsonNull()) return value;
        if (value.isJsonArray()) {
            var filled = new JsonArray();
            value.getAsJsonArray().forEach(one -> filled.add(fill(one, isPattern)));
            return filled;
        }
        if (value.isJsonObject()) {
            var filled = new JsonObject();
            for (var one : value.getAsJsonObject().entrySet()) {
                filled.add(one.getKey(), fill(one.getValue(), isPattern));
            }
            if (isPattern || !filled.has("$json")) return filled;
            var bytes = filled.get("$json").toString().getBytes(StandardCharsets.UTF_8);
            return new JsonPrimitive(Base64.getEncoder().encodeToString(bytes));
        }
        return value.getAsJsonPrimitive().isString() ? new JsonPrimitive(text(value.getAsString())) : value;
    }

    /** Keeps what lies at the paths of an answer. */
    void save(JsonElement paths, JsonElement answer) {
        if (paths == null) return;
        for (var path : paths.getAsJsonObject().entrySet()) {
            values.put(path.getKey(), find(path.getValue().getAsString(), answer).getAsString());
        }
    }

    private static JsonElement find(String path, JsonElement answer) {
        var value = answer;
        for (var part : path.split("\\.")) {
            JsonElement next = null;
            if (value != null && value.isJsonArray()) {
                var elements = value.getAsJsonArray();
                var index = Integer.parseInt(part);
                if (index < 0) index += elements.size();
                if (index >= 0 && index < elements.size()) next = elements.get(index);
            } else if (value != null && value.isJsonObject()) {
                next = value.getAsJsonObject().get(part);
            }
            if (next == null) throw new Failure("there is no " + path + " in the answer");
            value = next;
        }
        return value;
    }
}
