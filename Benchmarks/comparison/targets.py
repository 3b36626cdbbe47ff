"""What Martlet is to reach, and whether it did."""

from .judging import Figure, against, at_least, below, both


def times(factor, one, other):
    judged = at_least(factor, one, other)
    if judged is None:
        return None
    verdict, ratio = judged
    return verdict, f"{one.median:,.0f} is {ratio:.2f} × {other.median:,.0f}"


def reaching(one, limit):
    verdict = against(limit, one)
    return None if verdict is None else (verdict, f"{one.median:,.0f}, against {limit:,}")


def under(one, limit, unit="ms"):
    verdict = below(one, limit)
    if verdict is None:
        return None
    other = limit.median if isinstance(limit, Figure) else limit
    return verdict, f"{one.median:,.2f} {unit}, against {other:,.2f} {unit}"


def keeping_up(result, rate, due):
    """A latency counts only where what was due was delivered."""
    if result is None or rate is None:
        return None
    verdict, text = result
    return both(verdict, against(0.98 * due, rate)), f"{text}; {rate.median:,.0f} of {due:,} deliveries/s"


def targets(figures):
    """Pairs: the target; the verdict with what was measured, None where it was not."""
    rate, best = figures.figure, figures.best
    p99 = lambda work, peer: figures.figure(work, peer, "p99")
    uma = ["umadb", "umadb-tls"]
    lite, postgres = "martlet", "martlet-postgresql"
    full = ["live-100-full-4x100", "live-100-full-1x20"]
    rows = [
        ("64 clients, SQLite: ≥ 5 × UmaDB with TLS",
         times(5, rate("append-64", lite), rate("append-64", "umadb-tls"))),
        ("64 clients, SQLite: ≥ Redis with TLS", times(1, rate("append-64", lite), rate("append-64", "redis-tls"))),
        ("64 clients, SQLite: p99 below 6 ms", under(p99("append-64", lite), 6)),
        ("64 clients, PostgreSQL: ≥ 4 × UmaDB with TLS",
         times(4, rate("append-64", postgres), rate("append-64", "umadb-tls"))),
        ("64 clients, PostgreSQL: ≥ 4 × the method of message-db",
         times(4, rate("append-64", postgres), rate("append-64", "message-db"))),
        ("64 clients over 8 connections, SQLite: ≥ 3 × UmaDB's best",
         times(3, rate("append-64-over-8", lite), best(["append-64-over-8"], uma))),
        ("1 client, SQLite: ≥ 1.5 × UmaDB with TLS",
         times(1.5, rate("append-1", lite), rate("append-1", "umadb-tls"))),
        ("1 client, PostgreSQL: ≥ 1.5 × UmaDB with TLS",
         times(1.5, rate("append-1", postgres), rate("append-1", "umadb-tls"))),
        ("Batches of 100, SQLite: ≥ 1.5 × UmaDB's best",
         times(1.5, rate("append-batches", lite), best(["append-batches"], uma))),
        ("Batches of 100, SQLite: ≥ 2 × UmaDB with TLS",
         times(2, rate("append-batches", lite), rate("append-batches", "umadb-tls"))),
        ("Batches of 100, PostgreSQL: ≥ 80 % of the plain table",
         times(0.8, rate("append-batches", postgres), rate("append-batches", "postgresql"))),
        ("Loads, 8 clients, SQLite: ≥ 5 × UmaDB with TLS",
         times(5, rate("load-8", lite), rate("load-8", "umadb-tls"))),
        ("Loads, 8 clients, SQLite: ≥ 5 × UmaDB with TLS and a page cache",
         times(5, rate("load-8", lite), rate("load-8", "umadb-cache"))),
        ("Loads, 8 clients, PostgreSQL: ≥ 50 % of the plain table",
         times(0.5, rate("load-8", postgres), rate("load-8", "postgresql"))),
        ("Whole history, 1 subscriber, SQLite: ≥ 2 × UmaDB with TLS",
         times(2, rate("history-1", lite), rate("history-1", "umadb-tls"))),
        ("Whole history, 1 subscriber, SQLite: ≥ 2 × UmaDB with TLS and a page cache",
         times(2, rate("history-1", lite), rate("history-1", "umadb-cache"))),
        ("Whole history, 10 subscribers, SQLite: ≥ 1,000,000 events/s in total",
         reaching(rate("history-10", lite), 1_000_000)),
        ("Live to 100 at 2,000 events/s, SQLite: all delivered, p99 below that of Redis without TLS",
         keeping_up(under(p99("live-100", lite), p99("live-100", "redis")), rate("live-100", lite), 200_000)),
        ("Live to 100 at full speed, SQLite: ≥ 5 × UmaDB with TLS",
         times(5, best(full, [lite]), best(full, ["umadb-tls"]))),
        ("Live to 100 at full speed, SQLite: ≥ 5 × UmaDB with TLS and a page cache",
         times(5, best(full, [lite]), best(full, ["umadb-cache"]))),
        ("Live to 100 at full speed, SQLite: ≥ 2 × Redis without TLS",
         times(2, best(full, [lite]), best(full, ["redis"]))),
    ]
    return rows
