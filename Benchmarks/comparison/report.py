"""Medians over the rounds, and the tables."""

import statistics

from .targets import Figures, targets
from .works import MARTLET, TITLES


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def figures_of(work, result):
    """The figures of one run that are compared."""
    latency = result.get(work.latency) or {}
    micros = lambda name: latency[name] / 1e3 if latency.get("count") else None
    events = result.get("deliveries" if work.is_live else "events") or 0
    per_event = lambda name: (result.get(name) or 0) * 1e6 / events if events else None
    memory = result.get("memory") or {}
    call = result.get("latency") or {}
    early = result.get("deliveriesBeforeAcknowledgement")
    whole = result.get("commitToDeliveryLatency") or result.get("sentToDeliveryLatency") or {}
    return {
        "rate": result.get(work.metric), "p50": micros("p50"), "p99": micros("p99"),
        "driverMicros": per_event("clientCPUSeconds"), "serverMicros": per_event("serverCPUSeconds"),
        "peakMiB": memory.get("peakMiB"), "afterMiB": memory.get("afterMiB"),
        "appended": result.get("eventsPerSecond"),
        "callP50": call.get("p50", 0) / 1e3, "callP99": call.get("p99", 0) / 1e3,
        "early": None if early is None else early * 100,
        "wholeP50": whole.get("p50", 0) / 1e3, "wholeP99": whole.get("p99", 0) / 1e3,
    }


def summarize(works, runs):
    """By work and peer: medians, and how far the rates of the rounds are apart."""
    by_name = {work.name: work for work in works}
    grouped = {}
    for run in runs:
        if "result" in run:
            grouped.setdefault((run["work"], run["peer"]), []).append(
                figures_of(by_name[run["work"]], run["result"]))
    medians = {}
    for key, list_of_figures in grouped.items():
        row = {name: median([figures[name] for figures in list_of_figures]) for name in list_of_figures[0]}
        rates = [figures["rate"] for figures in list_of_figures]
        row["least"], row["most"], row["rounds"] = min(rates), max(rates), len(rates)
        medians[key] = row
    return medians


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(medians, work, martlet, peer):
    own, other = medians.get((work, martlet), {}).get("rate"), medians.get((work, peer), {}).get("rate")
    if own is None or not other or peer in MARTLET:
        return ""
    return f"{own / other:.2f}"


def behind(work, row):
    """Whether the events came as fast as they were due, and went as fast as they came."""
    if row["appended"] < 0.98 * work.rate:
        return ", behind with appends"
    return ", behind" if work.rate and row["rate"] < 0.98 * row["appended"] * work.subscribers else ""


def table(work, medians, failures):
    unit = "deliveries/s" if work.is_live else "events/s"
    lines = [f"### {work.name}: {work.title}", ""]
    columns = ["", unit, "rounds", "SQLite ÷ it", "PostgreSQL ÷ it", "p50 ms", "p99 ms"]
    if work.is_live:
        columns += ["before ack.", "from the start p50, p99 ms", "appended/s", "append p50, p99 ms"]
    columns += ["driver µs", "server µs", "memory peak, after MiB"]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for peer in work.peers:
        row = medians.get((work.name, peer))
        if row is None:
            reason = failures.get((work.name, peer))
            if reason:
                lines.append(f"| {TITLES[peer]} | failed: {reason[:100]} |" + " |" * (len(columns) - 2))
            continue
        memory = f"{number(row['peakMiB'])}, {number(row['afterMiB'])}" if row["peakMiB"] is not None else ""
        cells = [TITLES[peer], number(row["rate"]), f"{number(row['least'])}–{number(row['most'])}",
                 ratio(medians, work.name, "martlet-sqlite", peer),
                 ratio(medians, work.name, "martlet-postgresql", peer),
                 number(row["p50"], 2), number(row["p99"], 2)]
        if work.is_live:
            cells[1] += behind(work, row)
            cells += [number(row["early"]) + " %", f"{number(row['wholeP50'], 2)}, {number(row['wholeP99'], 2)}",
                      number(row["appended"]),
                      f"{number(row['callP50'], 2)}, {number(row['callP99'], 2)}"]
        cells += [number(row["driverMicros"], 1), number(row["serverMicros"], 1), memory]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + [""]


def markdown(works, run_record):
    medians = summarize(works, run_record["runs"])
    failures = {(run["work"], run["peer"]): run["error"] for run in run_record["runs"] if "error" in run}
    machine = run_record["machine"]
    lines = [
        "# Martlet and its peers", "",
        f"{run_record['startedAt']}: {run_record['rounds']} rounds in turn, {run_record['seconds']} s each after"
        f" {run_record['warmup']} s; medians. {machine['cores']} cores ({machine['cpu']}), a sync of 4 KiB takes"
        f" {machine['syncMicros']['p50']} µs (p99 {machine['syncMicros']['p99']} µs), load before the start"
        f" {machine['load']}. Servers and load tester share the machine.", "",
        "p50 and p99: of a call; of live works from the acknowledgement to the delivery. Driver and server µs: CPU time"
        " for each event, or delivery. Benchmarks/README.md says what is compared and what cannot be.", "",
    ]
    for name, server in sorted(run_record["servers"].items()):
        lines.append(f"- {TITLES[name]} {server['version']}: {server['settings']}")
    lines.append("")
    for work in works:
        if not any((work.name, peer) in medians or (work.name, peer) in failures for peer in work.peers):
            continue
        lines += table(work, medians, failures)
    lines += ["## Targets", "", "| target | | measured |", "|---|---|---|"]
    for text, reached, measured in targets(Figures(medians)):
        mark = {True: "reached", False: "**not reached**", None: ""}[reached]
        lines.append(f"| {text} | {mark} | {measured} |")
    return "\n".join(lines) + "\n"
