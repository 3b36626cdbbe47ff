"""What Martlet is to reach, and whether it did."""


class Figures:
    """Medians over the rounds, by work and peer; None where something was not measured."""

    def __init__(self, medians):
        self.medians = medians

    def rate(self, work, peer):
        return self.medians.get((work, peer), {}).get("rate")

    def p99(self, work, peer):
        """In milliseconds."""
        return self.medians.get((work, peer), {}).get("p99")

    def best(self, works, peers):
        rates = [rate for work in works for peer in peers if (rate := self.rate(work, peer)) is not None]
        return max(rates) if rates else None


def at_least(factor, value, other):
    if value is None or other is None:
        return None
    return value >= factor * other, f"{value:,.0f} is {value / other:.2f} × {other:,.0f}"


def below(value, limit, unit="ms"):
    if value is None or limit is None:
        return None
    return value < limit, f"{value:,.2f} {unit}, against {limit:,.2f} {unit}"


def keeping_up(result, rate, due):
    """A latency counts only where what was due was delivered."""
    if result is None or rate is None:
        return None
    reached, text = result
    return reached and rate >= 0.98 * due, f"{text}; {rate:,.0f} of {due:,} deliveries/s"


def targets(figures):
    """Triples: the target, whether it is reached (None: not measured), what was measured."""
    rate, p99, best = figures.rate, figures.p99, figures.best
    uma = ["umadb", "umadb-tls"]
    lite, postgres = "martlet-sqlite", "martlet-postgresql"
    full = ["live-100-full-4x100", "live-100-full-1x20"]
    rows = [
        ("64 clients, SQLite: ≥ 5 × UmaDB with TLS",
         at_least(5, rate("append-64", lite), rate("append-64", "umadb-tls"))),
        ("64 clients, SQLite: ≥ Redis with TLS", at_least(1, rate("append-64", lite), rate("append-64", "redis-tls"))),
        ("64 clients, SQLite: p99 below 6 ms", below(p99("append-64", lite), 6)),
        ("64 clients, PostgreSQL: ≥ 4 × UmaDB with TLS",
         at_least(4, rate("append-64", postgres), rate("append-64", "umadb-tls"))),
        ("64 clients, PostgreSQL: ≥ 4 × the method of message-db",
         at_least(4, rate("append-64", postgres), rate("append-64", "message-db"))),
        ("64 clients over 8 connections, SQLite: ≥ 3 × UmaDB's best",
         at_least(3, rate("append-64-over-8", lite), best(["append-64-over-8"], uma))),
        ("1 client, SQLite: ≥ 1.5 × UmaDB with TLS",
         at_least(1.5, rate("append-1", lite), rate("append-1", "umadb-tls"))),
        ("1 client, PostgreSQL: ≥ 1.5 × UmaDB with TLS",
         at_least(1.5, rate("append-1", postgres), rate("append-1", "umadb-tls"))),
        ("Batches of 100, SQLite: ≥ 1.5 × UmaDB's best",
         at_least(1.5, rate("append-batches", lite), best(["append-batches"], uma))),
        ("Batches of 100, SQLite: ≥ 2 × UmaDB with TLS",
         at_least(2, rate("append-batches", lite), rate("append-batches", "umadb-tls"))),
        ("Batches of 100, PostgreSQL: ≥ 80 % of the plain table",
         at_least(0.8, rate("append-batches", postgres), rate("append-batches", "postgresql"))),
        ("Loads, 8 clients, SQLite: ≥ 5 × UmaDB with TLS",
         at_least(5, rate("load-8", lite), rate("load-8", "umadb-tls"))),
        ("Loads, 8 clients, SQLite: ≥ 5 × UmaDB with TLS and a page cache",
         at_least(5, rate("load-8", lite), rate("load-8", "umadb-cache"))),
        ("Loads, 8 clients, PostgreSQL: ≥ 50 % of the plain table",
         at_least(0.5, rate("load-8", postgres), rate("load-8", "postgresql"))),
        ("Whole history, 1 subscriber, SQLite: ≥ 2 × UmaDB with TLS",
         at_least(2, rate("history-1", lite), rate("history-1", "umadb-tls"))),
        ("Whole history, 1 subscriber, SQLite: ≥ 2 × UmaDB with TLS and a page cache",
         at_least(2, rate("history-1", lite), rate("history-1", "umadb-cache"))),
        ("Whole history, 10 subscribers, SQLite: ≥ 1,000,000 events/s in total",
         at_least(1, rate("history-10", lite), 1_000_000)),
        ("Live to 100 at 2,000 events/s, SQLite: all delivered, p99 below that of Redis without TLS",
         keeping_up(below(p99("live-100", lite), p99("live-100", "redis")), rate("live-100", lite), 200_000)),
        ("Live to 100 at full speed, SQLite: ≥ 5 × UmaDB with TLS",
         at_least(5, best(full, [lite]), best(full, ["umadb-tls"]))),
        ("Live to 100 at full speed, SQLite: ≥ 5 × UmaDB with TLS and a page cache",
         at_least(5, best(full, [lite]), best(full, ["umadb-cache"]))),
        ("Live to 100 at full speed, SQLite: ≥ 2 × Redis without TLS",
         at_least(2, best(full, [lite]), best(full, ["redis"]))),
    ]
    return [(text, *(result or (None, "not measured"))) for text, result in rows]
