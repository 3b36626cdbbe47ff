"""What is measured, and with whom."""

from dataclasses import dataclass

MARTLET = ["martlet-sqlite", "martlet-postgresql"]


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
    rate: int = 0
    upcast_steps: int = 0

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


def live(subscribers, rate, clients, batch, peers, suffix=""):
    if rate:
        title = f"Live to {subscribers:,} subscribers at {rate:,} events/s"
    else:
        title = f"Live to {subscribers:,} subscribers, {clients} writers at full speed, {batch} events a call"
    name = f"live-{subscribers}" if rate else f"live-{subscribers}-full{suffix}"
    return Work(name, title, "live", peers, clients=clients, batch=batch, subscribers=subscribers, rate=rate)


APPENDERS = MARTLET + ["umadb-tls", "redis-tls", "postgresql", "message-db"]
QUERIED = MARTLET + ["umadb-tls", "umadb-cache", "redis-tls", "postgresql", "sqlite"]
FOLLOWED = MARTLET + ["umadb-tls", "redis"]

WORKS = [
    Work("append-1", "Appends of one event, 1 client", "append", APPENDERS + ["umadb", "sqlite"]),
    Work("append-64", "Appends of one event, 64 clients with a connection each", "append", APPENDERS + ["umadb"],
         clients=64),
    Work("append-64-over-8", "Appends of one event, 64 clients over 8 connections", "append",
         MARTLET + ["umadb-tls", "umadb", "redis-tls", "postgresql"], clients=64, connections=8),
    Work("append-batches", "Appends of 100 events, 8 clients", "append", APPENDERS + ["umadb", "sqlite"], clients=8,
         batch=100),
    Work("load-1", "Loads of aggregates of 1,000 events, 1 client", "load", QUERIED, aggregates=100),
    Work("load-8", "Loads of aggregates of 1,000 events, 8 clients", "load", QUERIED, clients=8, aggregates=100),
    Work("history-1", "A history of 400,000 events in order, 1 subscriber", "history", QUERIED, history=400_000),
    Work("history-10", "A history of 200,000 events in order, 10 subscribers at once", "history",
         MARTLET + ["umadb-tls", "umadb-cache", "redis-tls", "postgresql"], clients=10, history=200_000),
    # As many writers as it takes to keep the rate with slow acknowledgements.
    live(1, 2000, 32, 1, FOLLOWED),
    live(10, 2000, 32, 1, FOLLOWED),
    live(100, 2000, 32, 1, FOLLOWED + ["umadb-cache", "redis-tls"]),
    live(1000, 2000, 32, 1, FOLLOWED),
    live(10, 0, 4, 100, FOLLOWED, "-4x100"),
    live(100, 0, 4, 100, FOLLOWED + ["umadb-cache"], "-4x100"),
    live(100, 0, 1, 20, FOLLOWED, "-1x20"),
]

TITLES = {
    "martlet-sqlite": "Martlet, SQLite",
    "martlet-postgresql": "Martlet, PostgreSQL",
    "umadb-tls": "UmaDB, TLS",
    "umadb": "UmaDB, no TLS",
    "umadb-cache": "UmaDB, TLS, page cache",
    "redis-tls": "Redis Streams, TLS",
    "redis": "Redis Streams, no TLS",
    "postgresql": "PostgreSQL, plain table (C)",
    "message-db": "PostgreSQL, method of message-db (C)",
    "sqlite": "SQLite in process (C)",
}
