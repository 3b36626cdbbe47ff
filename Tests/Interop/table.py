"""A table of languages and what they have to pass."""


def print_table(kind, names, results):
    """Prints a row for each name, with a column for each language of the results.

    `results` holds for each language the names that it has come to, with why they failed: an empty text if they passed.
    Returns how many failed.
    """
    rows = [[kind, *results]]
    for name in names:
        outcomes = (of_language.get(name) for of_language in results.values())
        rows.append([name, *("passed" if why == "" else "FAILED" for why in outcomes)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
    failures = sum(row.count("FAILED") for row in rows[2:])
    print(f"{len(names) * len(results) - failures} passed, {failures} failed", flush=True)
    return failures
