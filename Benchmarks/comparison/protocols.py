"""gRPC beside Martlet's own protocol, and beside UmaDB's gRPC: what is to be reached, in one table."""

from .judging import against, at_least, below, both

PEERS = ["martlet", "martlet-grpc", "martlet-session", "umadb-tls"]
COLUMNS = ["martlet/1", "gRPC", "AppendSession", "UmaDB, TLS"]
# Of the rate of martlet/1.
UNARY_APPENDS, SESSIONS, STREAMS = 0.55, 0.85, 0.80
# Of what is due: less is behind.
ON_TIME = 0.98


def rate_text(work, rate):
    if rate is None:
        return ""
    due = work.deliveries_due
    behind = f" of {due:,} due" if due and rate.median < ON_TIME * due else ""
    return f"{rate.median:,.0f}{behind}"


def cell(judged, factor):
    """The ratio of the medians, what it is to be, and the verdict."""
    if judged is None:
        return ""
    verdict, ratio = judged
    return f"{ratio:.2f} (≥ {factor:.2f}: {verdict})"


def beside_umadb(figures, work):
    """A rate above UmaDB's. Where both deliver what is due, neither rate can be above the other's: then p99 decides."""
    mine, other = figures.figure(work.name, "martlet-grpc"), figures.figure(work.name, "umadb-tls")
    judged = at_least(1, mine, other)
    if judged is None:
        return ""
    verdict, ratio = judged
    if work.rate and against(ON_TIME * work.deliveries_due, other) != "not reached":
        p99 = [figures.figure(work.name, peer, "p99") for peer in ("martlet-grpc", "umadb-tls")]
        verdict = both(below(*p99), against(ON_TIME * work.deliveries_due, mine))
        return f"p99 {p99[0].median:.2f} to {p99[1].median:.2f} ms ({verdict})"
    return f"{ratio:.2f} (> 1: {verdict})"


def micros(figures, work):
    name = "serverMicros" if work.kind in ("history", "live") else "callMicros"
    found = [figures.figure(work.name, peer, name) for peer in PEERS]
    return " / ".join(f"{one.median:,.1f}" if one else "–" for one in found)


def table(works, figures):
    """Lines of Markdown. `works` are those that were measured."""
    lines = [
        "## gRPC beside martlet/1", "",
        "Medians: events/s, of live works deliveries/s. A ratio is \"open\" where the rounds overlap. A run counts only"
        " if each append got positions and versions of its own, and each load, history and subscriber each event once,"
        " in order. Server CPU, in the order of the columns: µs for each call of appends and loads, each event of a"
        " history, each delivery of live works.", "",
        "| | " + " | ".join(COLUMNS + ["gRPC ÷ martlet/1", "AppendSession ÷ martlet/1", "gRPC beside UmaDB",
                                       "server CPU µs"]) + " |",
        "|" + "---|" * 9,
    ]
    for work in works:
        rates = [figures.figure(work.name, peer) for peer in PEERS]
        if not any(rates):
            continue
        own, grpc, session, _ = rates
        least = UNARY_APPENDS if work.kind == "append" else STREAMS
        cells = [work.title] + [rate_text(work, rate) for rate in rates]
        cells += [cell(at_least(least, grpc, own), least), cell(at_least(SESSIONS, session, own), SESSIONS)]
        cells += [beside_umadb(figures, work), micros(figures, work)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + [""]
