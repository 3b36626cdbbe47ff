"""What is measured, and with whom."""

from dataclasses import dataclass

# Martlet's protocols on the embedded engine, and its own protocol on PostgreSQL.
PROTOCOLS = ["martlet", "martlet-grpc", "martlet-session"]
MARTLET = PROTOCOLS + ["martlet-postgresql"]


@dataclass(frozen=True)
class Work:
    name: str
    title: str
    kind: str  # append, load, history or live
    peers: list[str]
    clients: int = 1
    connections: int | None = None
    batch: int = 1
    aggregates: int = 0
    history: int = 0
    subscribers: int = 1
    subscriber_connections: int | None = None
    rate: int = 0
    upcast_steps: int = 0

    @property
    def compares_protocols(self):
        """Whether it is in the table of Martlet's protocols."""
        return self.name in COMPARING_PROTOCOLS

    @property
    def is_live(self):
        return self.kind == "live"

    @property
    def metric(self):
        """The figure of `martlet-bench/1` that is compared."""
        return "deliveriesPerSecond" if self.is_live else "eventsPerSecond"

    @property
    def latency(self):
        return "deliveryLatency" if self.is_live else "latency"

    @property
    def deliveries_due(self):
        """Deliveries per second, where events are due at a rate."""
        return self.rate * self.subscribers


def live(subscribers, rate, clients, batch, peers, suffix="", connections=None):
    over = f" over {connections:,} connections" if connections else ""
    if rate:
        title = f"Live to {subscribers:,} subscribers{over} at {rate:,} events/s"
    else:
        title = f"Live to {subscribers:,} subscribers{over}, {clients} writers at full speed, {batch} events a call"
    name = f"live-{subscribers}" + (f"-over-{connections}" if connections else "") + ("" if rate else "-full") + suffix
    return Work(name, title, "live", peers, clients=clients, batch=batch, subscribers=subscribers, rate=rate,
                subscriber_connections=connections)


READERS = ["martlet", "martlet-grpc", "martlet-postgresql"]
APPENDERS = MARTLET + ["umadb-tls", "nats-tls", "redis-tls", "postgresql", "message-db"]
QUERIED = READERS + ["umadb-tls", "umadb-cache", "nats-tls", "redis-tls", "postgresql", "sqlite"]
FOLLOWED = READERS + ["umadb-tls", "nats-tls", "redis"]
# A subscriber of Redis waits on a connection of its own.
SHARING = READERS + ["umadb-tls", "nats-tls"]

WORKS = [
    Work("append-1", "Appends of one event, 1 client", "append", APPENDERS + ["umadb", "sqlite"]),
    Work("append-64", "Appends of one event, 64 clients with a connection each", "append", APPENDERS + ["umadb"],
         clients=64),
    Work("append-64-over-8", "Appends of one event, 64 clients over 8 connections", "append",
         MARTLET + ["umadb-tls", "umadb", "nats-tls", "redis-tls", "postgresql"], clients=64, connections=8),
    Work("append-batches", "Appends of 100 events, 8 clients", "append", APPENDERS + ["umadb", "sqlite"], clients=8,
         batch=100),
    Work("load-1", "Loads of aggregates of 1,000 events, 1 client", "load", QUERIED, aggregates=100),
    Work("load-8", "Loads of aggregates of 1,000 events, 8 clients", "load", QUERIED, clients=8, aggregates=100),
    Work("history-1", "A history of 400,000 events in order, 1 subscriber", "history", QUERIED, history=400_000),
    Work("history-10", "A history of 200,000 events in order, 10 subscribers at once", "history",
         READERS + ["umadb-tls", "umadb-cache", "nats-tls", "redis-tls", "postgresql"], clients=10,
         history=200_000),
    # As many writers as it takes to keep the rate with slow acknowledgements.
    live(1, 2000, 32, 1, FOLLOWED),
    live(10, 2000, 32, 1, FOLLOWED),
    live(100, 500, 32, 1, FOLLOWED, "-at-500"),
    live(100, 2000, 32, 1, FOLLOWED + ["umadb-cache", "redis-tls"]),
    live(1000, 2000, 32, 1, FOLLOWED),
    live(1000, 500, 32, 1, SHARING, "-at-500", connections=100),
    live(10, 0, 4, 100, FOLLOWED, "-4x100"),
    live(100, 0, 4, 100, FOLLOWED + ["umadb-cache"], "-4x100"),
    live(100, 0, 1, 20, FOLLOWED, "-1x20"),
]

# Few, so that they are measured within ten minutes on a quiet machine.
COMPARING_PROTOCOLS = {"append-64", "append-64-over-8", "load-8", "history-1", "live-100-at-500", "live-100-full-4x100",
                       "live-1000-over-100-at-500"}

TITLES = {
    "martlet": "Martlet, martlet/1",
    "martlet-grpc": "Martlet, gRPC",
    "martlet-session": "Martlet, gRPC, AppendSession",
    "martlet-postgresql": "Martlet, martlet/1, PostgreSQL",
    "umadb-tls": "UmaDB, TLS",
    "umadb": "UmaDB, no TLS",
    "umadb-cache": "UmaDB, TLS, page cache",
    "nats-tls": "NATS JetStream, TLS",
    "redis-tls": "Redis Streams, TLS",
    "redis": "Redis Streams, no TLS",
    "postgresql": "PostgreSQL, plain table (C)",
    "message-db": "PostgreSQL, method of message-db (C)",
    "sqlite": "SQLite in process (C)",
}
