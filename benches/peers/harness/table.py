"""What came out: a table for each row, its bars, and one table over all rows."""

import statistics
from dataclasses import dataclass

from .rows import MORE_IS_BETTER, TOLERANCE

UNITS = {
    "cpu_ns_rec": "CPU ns/record", "krec_s": "k records/s", "steady_krec_s": "k records/s", "mb_s": "MB/s",
    "peak_mb": "peak MiB", "p50_us": "p50 µs", "p99_us": "p99 µs", "wakes_s_connection": "wakes/s per connection",
    "wakes_s": "wakes/s", "cpu_us_s": "CPU µs/s", "refetch": "fetched ÷ log", "sent_kb": "sent KB",
}


@dataclass
class Results:
    """`lines`: label → line of each round, None for one that failed; `failures`: label → its last words."""

    name: str
    row: object
    cells: list
    lines: dict
    failures: dict

    def values(self, label, figure):
        return [line[figure] for line in self.lines.get(label, []) if line]

    def median(self, label, figure):
        values = self.values(label, figure)
        return statistics.median(values) if values else None


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def markdown(head, lines):
    table = [head, *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    for index, line in enumerate(table):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")
        if index == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def baseline(results):
    """Whose figures are divided by the others': milena's first way to take part."""
    return next((cell.label for cell in results.cells if cell.peer == "milena"), None)


def print_row(results):
    row, ours = results.row, baseline(results)
    figures, first = row.figures, row.figures[0]
    ratios = figures[:2] if len(figures) > 2 else figures[:1]
    units = [UNITS.get(figure, figure) for figure in figures]
    head = ["client", units[0], "least–most", *units[1:], *(f"{ours} ÷: {UNITS.get(f, f)}" for f in ratios)]
    lines = []
    for cell in results.cells:
        values = results.values(cell.label, first)
        if not values:
            continue
        line = [cell.label, number(statistics.median(values)), f"{number(min(values))}–{number(max(values))}"]
        line += [number(results.median(cell.label, figure)) for figure in figures[1:]]
        for figure in ratios:
            own, other = results.median(ours, figure), results.median(cell.label, figure)
            line.append(f"{own / other:.2f}" if own is not None and other else "–")
        lines.append(line)
    absent = {**row.lacks, **{label: f"failed: {failure}" for label, failure in results.failures.items()}}
    lines += [[label, *("–" for _ in head[1:])] for label in absent]
    most = max((len(lines) for lines in results.lines.values()), default=0)
    rounds = "round" if most == 1 else "rounds"
    print(f"\n### {results.name}\n\n{row.mode}: {row.about}; median of {most} {rounds}\n")
    markdown(head, lines)
    if absent:
        print()
    for label, why in absent.items():
        print(f"- {label} {why}")


@dataclass
class Verdict:
    text: str
    holds: object  # True, False, or None: not measured


def judge(results, bar):
    more = bar.figure in MORE_IS_BETTER
    sign, unit = ("≥" if more else "≤"), UNITS.get(bar.figure, bar.figure)
    ours = results.median(bar.milena, bar.figure)
    if not bar.of:
        text = f"{bar.milena}: {number(ours)} {unit} {sign} {number(bar.factor)}"
        if ours is None:
            return Verdict(text, None)
        return Verdict(text, ours >= bar.factor if more else ours <= bar.factor)
    of = bar.of
    if of == "best":
        medians = {cell.label: results.median(cell.label, bar.figure) for cell in results.cells if cell.peer != "milena"}
        medians = {label: median for label, median in medians.items() if median}
        of = (max if more else min)(medians, key=medians.get) if medians else "the best peer"
    theirs = results.median(of, bar.figure)
    factor = "" if bar.factor == 1 else f"{bar.factor} × "
    text = f"{bar.milena}: {number(ours)} {unit} {sign} {factor}{number(theirs)} of {of}"
    if ours is None or not theirs:
        return Verdict(text, None)
    rounds = zip(results.lines[bar.milena], results.lines[of])
    spread = sorted(own[bar.figure] / other[bar.figure] for own, other in rounds if own and other and other[bar.figure])
    text += f": {ours / theirs:.2f} ({spread[0]:.2f}–{spread[-1]:.2f})" if spread else f": {ours / theirs:.2f}"
    bound = bar.factor * theirs
    return Verdict(text, ours >= bound / TOLERANCE if more else ours <= bound * TOLERANCE)


def verdicts(results):
    return [judge(results, bar) for bar in results.row.bars]


def print_bars(results):
    words = {True: "holds", False: "MISSED", None: "not measured"}
    judged = verdicts(results)
    if judged:
        print()
    for verdict in judged:
        print(f"- {words[verdict.holds]}: {verdict.text}")


def print_summary(all_results, peers):
    """One line a row: the median of its first figure for each client, milena in the first way that it takes part."""
    lines = []
    for results in all_results:
        first = results.row.figures[0]
        cells = []
        for peer in peers:
            label = next((cell.label for cell in results.cells if cell.peer == peer), None)
            cells.append(number(results.median(label, first)) if label else "–")
        judged = verdicts(results)
        missed = [verdict.text for verdict in judged if verdict.holds is not True]
        bars = "" if not judged else "all hold" if not missed else "; ".join(missed)
        lines.append([results.name, results.row.about, UNITS.get(first, first), *cells, bars])
    print()
    markdown(["row", "what", "median of", *peers, "bars missed"], lines)
