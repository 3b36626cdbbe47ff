"""The tasks of Docs/CLIENTS.md with Martlet's Python client; Tests/Interop/run_tasks.py starts this once for each:

    tasks.py TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]

The parts between `task:` and `end` are those that the page shows.
"""

import sys
import threading
import uuid

import martlet
from martlet.projections import Projection, SQLite


# task: connect
def connect(server, ca, certificate, key):
    """A client that presents its certificate. It takes the limit of what it receives from the server."""
    client = martlet.connect(server, ca=ca, cert=certificate, key=key)
    info = client.server_info()
    print(f"connected as {info.identity}, messages of up to {info.frame_bytes_max} bytes")
    return client


# end


# task: append
def place_order(order):
    """Begins an order with two events: both are stored, or neither."""
    return order.append(
        [
            martlet.NewEvent("OrderPlaced", {"item": "book", "cents": 1200}),
            martlet.NewEvent("OrderPaid", {"cents": 1200}),
        ],
        expecting=martlet.NONE,
    )


# end


# task: conflict
def execute(order, decide):
    """Appends what is decided on the order's history, and decides again if somebody else was faster."""
    while True:
        history = order.load()
        try:
            return order.append(decide(history.events), expecting=history.version)
        except martlet.VersionConflict as error:
            conflict = error.conflicts[0]
            print(f"conflict: expected version {conflict.expected}, found {conflict.actual}")


# end


# task: retry
def append_safely(order, event, version):
    """Appends an event once, however often the request has to be sent.

    The client sends it again, with the same event id, while its 30 seconds last. OutcomeUnknown means that they have
    passed and the event may be stored: append the same event again, now or later, to find out.
    """
    return order.append(event, expecting=version)


# end


# task: load
def print_history(order, placed):
    """What the order was at a version, at a position, and at a time."""
    for name, moment in [
        ("version 1", martlet.AsOf.version(1)),
        ("its position", martlet.AsOf.position(placed.last_position)),
        ("its time", martlet.AsOf.time(placed.recorded_at)),
    ]:
        print(f"as of {name}: {len(order.load(as_of=moment).events)} events")
    print(f"now: {len(order.load().events)} events")


# end


# task: subscribe
def follow(tenant, place, handle):
    """Hands over every event after a place, for ever. Lost connections and drains are dealt with inside.

    Keep the last event's place (its position and id) together with what was made of it, and begin there next time.
    """
    for event in tenant.events(after=place):
        handle(event)


# end


# task: project
TABLE = "CREATE TABLE IF NOT EXISTS order_lines (position bigint PRIMARY KEY, order_id text, type text)"


def projection(tenant, database, handle):
    """Puts each event into a table once: the handler's writes and the progress commit together."""
    consumer = tenant.consumer("order-lines")
    consumer.put()
    return Projection(consumer, handle, SQLite(database), tables=TABLE)


def add_line(delivery, cursor):
    event = delivery.event
    cursor.execute(
        "INSERT INTO order_lines (position, order_id, type) VALUES (?, ?, ?)",
        (event.position, str(event.aggregate_id), event.type),
    )


# end


# task: drain
def append_many(order, count):
    """Calls and subscriptions go on when a server is drained, as soon as there is another one, or the same again."""
    for version in range(count):
        yield append_safely(order, martlet.NewEvent("LineAdded", {}), version)


# end


def say(line):
    """Prints a line at once, and whole while another thread prints."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def conflict_task(tenant):
    order = tenant.aggregate("order", uuid.uuid4())
    append_safely(order, martlet.NewEvent("OrderPlaced", {"cents": 1200}), 0)
    tries = 0

    def decide(events):
        nonlocal tries
        tries += 1
        if tries == 1:
            append_safely(order, martlet.NewEvent("OrderPaid", {"cents": 1200}), 1)
        return martlet.NewEvent("OrderShipped", {"after": len(events)})

    print(f"appended version {execute(order, decide).version}")


def retry_task(tenant):
    say("ready")
    sys.stdin.readline()
    order = tenant.aggregate("order", uuid.uuid4())
    receipt = append_safely(order, martlet.NewEvent("OrderPlaced", {"cents": 1200}), 0)
    print(f"stored as version {receipt.version}, replayed: {str(receipt.replayed).lower()}")


class Enough(Exception):
    """All events have come."""


def print_events(tenant, count):
    def handle(event):
        say(f"event {event.position}")
        if event.position == count:
            raise Enough

    try:
        follow(tenant, 0, handle)
    except Enough:
        pass


def project_task(tenant, count, database):
    def handle(delivery, cursor):
        add_line(delivery, cursor)
        say(f"projected {delivery.event.position}")
        if cursor.execute("SELECT count(*) FROM order_lines").fetchone()[0] == count:
            running.stop()

    running = projection(tenant, database, handle)
    running.run()


def drain_task(tenant, count):
    thread = threading.Thread(target=print_events, args=(tenant, count))
    thread.start()
    for receipt in append_many(tenant.aggregate("order", uuid.uuid4()), count):
        say(f"appended version {receipt.version}")
    thread.join()


def main():
    server, ca, certificate, key, tenant_id, task, *more = sys.argv[1:]
    count = int(more[0]) if more else 0
    with connect(server, ca, certificate, key) as client:
        tenant = client.tenant(tenant_id)
        order = tenant.aggregate("order", uuid.uuid4())
        match task:
            case "connect":
                assert client.server_info().tenants == (tenant.id,)
            case "append":
                receipt = place_order(order)
                first = receipt.aggregates[0]
                print(
                    f"appended versions {first.first_version} to {first.last_version} "
                    f"at positions {receipt.first_position} to {receipt.last_position}"
                )
            case "conflict":
                conflict_task(tenant)
            case "retry":
                retry_task(tenant)
            case "load":
                placed = place_order(order)
                append_safely(order, martlet.NewEvent("OrderShipped", {}), 2)
                print_history(order, placed)
            case "subscribe":
                print_events(tenant, count)
            case "project":
                project_task(tenant, count, more[1])
            case "drain":
                drain_task(tenant, count)
            case _:
                sys.exit(f"there is no task {task}")


main()
