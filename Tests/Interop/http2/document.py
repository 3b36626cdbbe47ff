"""The table of clauses in Docs/HTTP2.md: made from what was seen, and compared with it."""

import pathlib

from .deviations import DEVIATIONS

BEGIN = "<!-- made by `python -m http2 --document Docs/HTTP2.md --write`: begin -->"
END = "<!-- end of what the suite has made -->"
FLOODS_BEGIN = "<!-- made by `python -m http2 floods --document Docs/HTTP2.md`: begin -->"
FLOODS_END = "<!-- end of the floods -->"


def table(tests, seen):
    """Clauses with what is sent and what comes; then the deviations."""
    lines = ["| Clause | What is sent | What comes |", "|---|---|---|"]
    for test in tests:
        mark = " (a deviation)" if test.name in DEVIATIONS else ""
        lines.append(f"| {test.clause} | {test.sent} | {seen[test.name]}{mark} |")
    lines += ["", "### Deviations", ""]
    for test in tests:
        if known := DEVIATIONS.get(test.name):
            lines.append(f"- **{test.clause}, {test.sent}**: {known.instead}, and not {' or '.join(test.expected)}. "
                         f"{known.cause} {known.harmless}")
    return "\n".join(lines)


def parts(path, begin, end):
    text = pathlib.Path(path).read_text()
    head, rest = text.split(begin + "\n")
    old, tail = rest.split("\n" + end)
    return head, old, tail


def agrees(path, tests, seen):
    """Whether the page has the table of what was seen."""
    return parts(path, BEGIN, END)[1] == table(tests, seen)


def replace(path, begin, end, new):
    head, _, tail = parts(path, begin, end)
    pathlib.Path(path).write_text(f"{head}{begin}\n{new}\n{end}{tail}")


def write(path, tests, seen):
    """Puts the table of what was seen into the page."""
    replace(path, BEGIN, END, table(tests, seen))


def write_floods(path, rows):
    """Puts the floods' figures into the page."""
    mib = 1 << 20
    lines = ["| Flood | Frames sent | Connections | Memory before, at most | Processor | Bystander p50, p99 | How they end |",
             "|---|---|---|---|---|---|---|"]
    for sent, flood, before, peak, cpu, by, seen in rows:
        lines.append(f"| {sent} | {flood.frames:,} | {flood.connections} | {before // mib}, {peak // mib} MiB | {cpu:.0%} | "
                     f"{by['p50']:.1f}, {by['p99']:.1f} ms | {seen or '-'} |")
    replace(path, FLOODS_BEGIN, FLOODS_END, "\n".join(lines))
