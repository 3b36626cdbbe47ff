"""Medians over the rounds, and the tables."""

from . import protocols
from .busy import is_busy
from .judging import Figures, overlap
from .targets import targets
from .works import TITLES

# Whose rate is divided by that of the others.
DIVIDED = ("martlet", "martlet-grpc", "martlet-postgresql")


def figures_of(work, result):
    """The figures of one run that are compared."""
    latency = result.get(work.latency) or {}
    micros = lambda name: latency[name] / 1e3 if latency.get("count") else None
    events = result.get("deliveries" if work.is_live else "events") or 0
    micros_of = lambda name, count: (result.get(name) or 0) * 1e6 / count if count else None
    memory = result.get("memory") or {}
    call = result.get("latency") or {}
    early = result.get("deliveriesBeforeAcknowledgement")
    whole = result.get("commitToDeliveryLatency") or result.get("sentToDeliveryLatency") or {}
    return {
        "rate": result.get(work.metric), "p50": micros("p50"), "p99": micros("p99"),
        "driverMicros": micros_of("clientCPUSeconds", events), "serverMicros": micros_of("serverCPUSeconds", events),
        "callMicros": micros_of("serverCPUSeconds", result.get("calls")),
        "peakMiB": memory.get("peakMiB"), "afterMiB": memory.get("afterMiB"),
        "appended": result.get("eventsPerSecond"),
        "callP50": call.get("p50", 0) / 1e3, "callP99": call.get("p99", 0) / 1e3,
        "early": None if early is None else early * 100,
        "wholeP50": whole.get("p50", 0) / 1e3, "wholeP99": whole.get("p99", 0) / 1e3,
    }


def summarize(works, runs):
    """By work and peer: the figures of each round, and how many runs were made while the machine was busy."""
    by_name = {work.name: work for work in works}
    rounds, busy = {}, {}
    for run in runs:
        if "result" in run and run["work"] in by_name:
            key = run["work"], run["peer"]
            rounds.setdefault(key, []).append(figures_of(by_name[run["work"]], run["result"]))
            busy[key] = busy.get(key, 0) + is_busy(run.get("othersCores", 0))
    return Figures(rounds), busy


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(figures, work, martlet, peer):
    own, other = figures.figure(work, martlet), figures.figure(work, peer)
    if own is None or other is None or not other.median or peer == martlet:
        return ""
    return f"{own.median / other.median:.2f}" + (" (open)" if overlap(own, other) else "")


def behind(work, row):
    """Whether the events came as fast as they were due, and went as fast as they came."""
    if row["appended"] < 0.98 * work.rate:
        return ", behind with appends"
    return ", behind" if work.rate and row["rate"] < 0.98 * row["appended"] * work.subscribers else ""


def table(work, figures, busy, failures):
    unit = "deliveries/s" if work.is_live else "events/s"
    # CPU time for each event, or delivery, and for each call where that is something else.
    is_by_call = work.kind == "load" or (work.kind == "append" and work.batch > 1)
    lines = [f"### {work.name}: {work.title}", ""]
    columns = ["", unit, "rounds", "martlet/1 ÷ it", "gRPC ÷ it", "PostgreSQL ÷ it", "p50 ms", "p99 ms"]
    if work.is_live:
        columns += ["before ack.", "from the start p50, p99 ms", "appended/s", "append p50, p99 ms"]
    columns += ["driver µs", "server µs"] + ["server µs a call"] * is_by_call + ["memory peak, after MiB"]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for peer in work.peers:
        rate = figures.figure(work.name, peer)
        if rate is None:
            reason = failures.get((work.name, peer))
            if reason:
                lines.append(f"| {TITLES[peer]} | failed: {reason[:100]} |" + " |" * (len(columns) - 2))
            continue
        names = figures.rounds[(work.name, peer)][0]
        row = {name: found.median if (found := figures.figure(work.name, peer, name)) else None for name in names}
        memory = f"{number(row['peakMiB'])}, {number(row['afterMiB'])}" if row["peakMiB"] is not None else ""
        marks = f" †{busy[(work.name, peer)]}" if busy[(work.name, peer)] else ""
        cells = [TITLES[peer] + marks, number(rate.median), f"{number(rate.least)}–{number(rate.most)}"]
        cells += [ratio(figures, work.name, martlet, peer) for martlet in DIVIDED]
        cells += [number(row["p50"], 2), number(row["p99"], 2)]
        if work.is_live:
            cells[1] += behind(work, row)
            cells += [number(row["early"]) + " %", f"{number(row['wholeP50'], 2)}, {number(row['wholeP99'], 2)}",
                      number(row["appended"]),
                      f"{number(row['callP50'], 2)}, {number(row['callP99'], 2)}"]
        cells += [number(row["driverMicros"], 1), number(row["serverMicros"], 1)]
        cells += [number(row["callMicros"], 1)] * is_by_call + [memory]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + [""]


def busyness(record):
    """What others used of the machine, round by round."""
    lines = ["Others used, in cores (†N: N runs of that row while it was more than a tenth of the machine):", ""]
    for number_of_round, before in enumerate(record.get("othersCoresBefore", []), 1):
        runs = [run for run in record["runs"] if run.get("round") == number_of_round and "othersCores" in run]
        if not runs:
            continue
        used = [run["othersCores"] for run in runs]
        most = max(runs, key=lambda run: run["othersCores"])
        count = sum(is_busy(cores) for cores in used)
        verdict = f"; **busy in {count} of {len(runs)} runs**" if count else ""
        lines.append(f"- round {number_of_round}: {before:.2f} before it, {sum(used) / len(used):.2f} during it,"
                     f" at most {most['othersCores']:.2f} ({most['work']}, {TITLES[most['peer']]}){verdict}")
    return lines + [""] if len(lines) > 2 else []


def markdown(works, run_record):
    figures, busy = summarize(works, run_record["runs"])
    failures = {(run["work"], run["peer"]): run["error"] for run in run_record["runs"] if "error" in run}
    machine = run_record["machine"]
    lines = [
        "# Martlet and its peers", "",
        f"{run_record['startedAt']}: {run_record['rounds']} rounds in turn, {run_record['seconds']} s each after"
        f" {run_record['warmup']} s; medians. {machine['cores']} cores ({machine['cpu']}), a sync of 4 KiB takes"
        f" {machine['syncMicros']['p50']} µs (p99 {machine['syncMicros']['p99']} µs), load before the start"
        f" {machine['load']}. Servers and load tester share the machine.", "",
        "p50 and p99: of a call; of live works from the acknowledgement to the delivery. Driver and server µs: CPU"
        " time for each event, or delivery. Open: the two peers' rounds overlap. Benchmarks/README.md says what is"
        " compared and what cannot be.", "",
    ]
    for name, server in sorted(run_record["servers"].items()):
        lines.append(f"- {TITLES[name]} {server['version']}: {server['settings']}")
    lines += [""] + busyness(run_record)
    measured = [work for work in works
                if any((work.name, peer) in figures.rounds or (work.name, peer) in failures for peer in work.peers)]
    lines += protocols.table([work for work in measured if work.compares_protocols], figures)
    for work in measured:
        lines += table(work, figures, busy, failures)
    if not run_record.get("isProtocols"):
        lines += ["## Targets", "", "| target | | measured |", "|---|---|---|"]
        for text, judged in targets(figures):
            verdict, what = judged or ("", "not measured")
            lines.append(f"| {text} | {'**not reached**' if verdict == 'not reached' else verdict} | {what} |")
    return "\n".join(lines) + "\n"
