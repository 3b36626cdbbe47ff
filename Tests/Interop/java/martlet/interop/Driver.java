package martlet.interop;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.grpc.ManagedChannel;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Carries out cases with grpc-java; Tests/Interop/cases/README.md describes them, and run_cases.py starts this:
 *
 * <pre>Driver --target HOST:PORT --ca FILE CASE...</pre>
 *
 * It writes a line of JSON for each case, and for each thing asked of run_cases.py, whose answers come as lines of
 * JSON.
 */
public final class Driver {
    private static final BufferedReader INPUT =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    private static final PrintStream OUTPUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Driver() {}

    /** A channel to the target that trusts the authority in the file. */
    static ManagedChannel channel(String target, File authority) throws IOException {
        return NettyChannelBuilder.forTarget(target)
                .sslContext(GrpcSslContexts.forClient().trustManager(authority).protocols("TLSv1.3").build())
                .build();
    }

    /** Asks run_cases.py for something, and waits until it is done. */
    static JsonObject askServer(JsonObject step) {
        var line = new JsonObject();
        line.add("ask", step);
        OUTPUT.println(line);
        try {
            var answer = JsonParser.parseString(INPUT.readLine()).getAsJsonObject();
            if (answer.has("error")) throw new Failure(answer.get("error").getAsString());
            return answer;
        } catch (IOException exception) {
            throw new Failure("run_cases.py is gone: " + exception.getMessage());
        }
    }

    private static JsonArray steps(Path path) throws IOException {
        return JsonParser.parseString(Files.readString(path)).getAsJsonObject().getAsJsonArray("steps");
    }

    public static void main(String[] arguments) throws IOException {
        if (arguments.length < 5 || !arguments[0].equals("--target") || !arguments[2].equals("--ca")) {
            System.err.println("usage: Driver --target HOST:PORT --ca FILE CASE...");
            System.exit(2);
        }
        var channel = channel(arguments[1], new File(arguments[3]));
        for (var index = 4; index < arguments.length; index++) {
            var path = Path.of(arguments[index]);
            var result = new JsonObject();
            result.addProperty("case", path.getFileName().toString().replaceFirst("\\.json$", ""));
            try {
                new Runner(channel).run(steps(path));
                result.addProperty("passed", true);
                result.addProperty("why", "");
            } catch (Failure failure) {
                result.addProperty("passed", false);
                result.addProperty("why", failure.getMessage());
            }
            OUTPUT.println(result);
        }
        channel.shutdownNow();
    }
}
