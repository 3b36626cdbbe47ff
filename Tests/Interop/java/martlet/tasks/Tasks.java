package martlet.tasks;

import static martlet.tasks.Client.newEvent;
import static martlet.tasks.Client.newId;

import java.io.File;
import java.sql.DriverManager;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicBoolean;
import martlet.v1.GetServerInfoRequest;

/**
 * The tasks of Docs/CLIENTS.md with grpc-java; Tests/Interop/run_tasks.py starts this once for each of them:
 *
 * <pre>Tasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]</pre>
 *
 * The parts of Client.java between {@code task:} and {@code end} are those that the page shows.
 */
public final class Tasks {
    private Tasks() {}

    private static void append(Client client) {
        var response = client.placeOrder(newId());
        var order = response.getAggregates(0);
        System.out.printf(
                "appended versions %d to %d at positions %d to %d%n",
                order.getFirstVersion(), order.getLastVersion(),
                response.getFirstPosition(), response.getLastPosition());
    }

    /** Has somebody else append between the load and the append of the first try. */
    private static void conflict(Client client) throws Exception {
        var order = newId();
        client.append(order, 0, newEvent("OrderPlaced", "{\"cents\":1200}"));
        var isFirst = new AtomicBoolean(true);
        var response = client.execute(order, history -> {
            if (isFirst.getAndSet(false)) {
                try {
                    client.append(order, 1, newEvent("OrderPaid", "{\"cents\":1200}"));
                } catch (InterruptedException interrupted) {
                    throw new IllegalStateException(interrupted);
                }
            }
            return newEvent("OrderShipped", "{\"after\":" + history.size() + "}");
        });
        System.out.println("appended version " + response.getAggregates(0).getLastVersion());
    }

    /** Appends when it is told to; the answer to its first try does not arrive. */
    private static void retry(Client client) throws Exception {
        System.out.println("ready");
        if (System.in.read() < 0) throw new IllegalStateException("nobody says when to begin");
        var response = client.append(newId(), 0, newEvent("OrderPlaced", "{\"cents\":1200}"));
        System.out.printf(
                "stored as version %d, replayed: %b%n",
                response.getAggregates(0).getLastVersion(), response.getReplayed());
    }

    private static void load(Client client) throws Exception {
        var order = newId();
        var placed = client.placeOrder(order);
        client.append(order, 2, newEvent("OrderShipped", "{}"));
        client.printHistory(order, placed);
    }

    private static void subscribe(Client client, long count) throws Exception {
        client.follow(Client.Place.START, event -> {
            System.out.println("event " + event.getPosition());
            return event.getPosition() < count;
        });
    }

    private static void project(Client client, long count, String path) throws Exception {
        try (var database = DriverManager.getConnection("jdbc:sqlite:" + path)) {
            client.project(database, position -> {
                System.out.println("projected " + position);
                return position < count;
            });
        }
    }

    private static void run(Client client, String task, long count, String path) throws Exception {
        switch (task) {
            case "connect" -> {
                var info = client.admin().getServerInfo(GetServerInfoRequest.getDefaultInstance());
                if (!info.getTenantsList().contains(client.tenant())) throw new IllegalStateException(info.toString());
            }
            case "append" -> append(client);
            case "conflict" -> conflict(client);
            case "retry" -> retry(client);
            case "load" -> load(client);
            case "subscribe" -> subscribe(client, count);
            case "project" -> project(client, count, path);
            case "drain" -> client.throughDrain(newId(), count);
            default -> throw new IllegalArgumentException("there is no task " + task);
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 6) {
            System.err.println("usage: Tasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]");
            System.exit(2);
        }
        var authority = new File(arguments[1]);
        var certificate = new File(arguments[2]);
        var count = arguments.length > 6 ? Long.parseLong(arguments[6]) : 0;
        try (var client = new Client(
                arguments[0], authority, certificate, new File(arguments[3]), UUID.fromString(arguments[4]))) {
            run(client, arguments[5], count, arguments.length > 7 ? arguments[7] : "");
        }
    }
}
