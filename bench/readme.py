#!/usr/bin/env python3
"""The figures in README.md, from bench/results.json.

    python3 bench/readme.py            writes them between the two marks in README.md
    python3 bench/readme.py --check    fails if they are not what results.json says

Needs nothing but Python. A whole run of `compare.py` writes both results.json and the README.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
BEGIN = "<!-- figures: written by bench/readme.py from bench/results.json -->"
END = "<!-- figures: end -->"

# The rows of the table: figure, and what it is.
ROWS = {
    "spawn": "start a goroutine that does nothing, and its end",
    "pingpong": "a value there and back, no buffer",
    "chan_spsc_128": "a message over a buffered channel",
    "fanin_100_0": "a message, a hundred senders to one receiver, no buffer",
    "select_2_blocking": "a `select!` over two channels",
    "mutex_uncontended": "lock and unlock",
    "mutex_8": "the same by eight at once",
    "skynet_1m": "a tree of a million goroutines",
    "context_cancel_100k": "a child context and its goroutine, from start to cancel",
    "idle_1m_bytes": "memory of an idle goroutine, of a million",
    "idle_1m_async_bytes": "memory of an idle future, of a million",
    "http_64": "HTTP over 64 connections",
    "echo_64": "echo over 64 connections",
}
PEERS = {"go": "Go", "tokio": "tokio", "may": "may", "java": "Java"}
# A cost that is this much above the best peer's counts as behind.
BEHIND = 1.05
WIDTH = 100


def number(v):
    return f"{v:,.0f}" if v >= 100 else f"{v:.1f}"


def wrap(words):
    """One paragraph of lines that are at most WIDTH long."""
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(lines)


def cell(row, label):
    summary = row["cells"].get(label)
    return number(summary["median"]) if summary else "–"


def columns(rows):
    """The peers that half of the rows have a figure of."""
    return [label for label in PEERS
            if 2 * sum(label in rows[figure]["cells"] for figure in ROWS if figure in rows) >= len(ROWS)]


def table(rows):
    shown = columns(rows)
    lines = [f"| | unit | goby | {' | '.join(PEERS[label] for label in shown)} |", "|---|---|" + "---:|" * (1 + len(shown))]
    for figure, what in ROWS.items():
        if figure not in rows:
            continue
        row = rows[figure]
        cells = " | ".join(cell(row, label) for label in ["goby", *shown])
        lines.append(f"| {what} (`{figure}`) | {row['unit']} | {cells} |")
    return "\n".join(lines)


def text(document):
    """What stands between the marks."""
    about = document["machine"]
    go = about["go"].split()[2].replace("go", "Go ") if about["go"] else "no Go"
    rows = {row["figure"]: row for row in document["rows"]}
    compared = [row for row in document["rows"] if row["ratio"] is not None]
    met = [row["met"] for row in compared if row["met"] is not None]
    behind = sorted((row for row in compared if row["ratio"] > BEHIND), key=lambda row: -row["ratio"])
    names = ", ".join(f"`{row['figure']}` ({row['ratio']:.1f} of {row['best']})" for row in behind)
    crates = about["crates"]
    added = about.get("added", []) if "java" in columns(rows) else []
    java = next((each for each in added if "java" in each["labels"]), None)
    apart = f"Java's column, virtual threads of {java['java']}, was measured apart, on {java['date'][:10]}. " if java else ""
    return "\n\n".join([
        wrap(f"Medians of {document['reps']} runs on {about['date'][:10]}: {about['cores']} cores of {about['cpu']}, "
             f"Linux {about['kernel'].split('-')[0]}, {go}, "
             f"tokio {crates['tokio']}, may {crates['may']}. Machines differ: compare within a row. "
             f"{apart}Less is better, but for requests per second."),
        table(rows),
        wrap(f"{met.count(True)} of {len(met)} bounds, each a share of the best peer's cost, are met. "
             f"In {len(behind)} of {len(compared)} rows goby costs over 5 % more than the best peer: "
             f"{names}."),
    ])


def update(only_check=False):
    wanted = f"{BEGIN}\n\n{text(json.loads((HERE / 'results.json').read_text()))}\n\n{END}"
    readme = README.read_text()
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        sys.exit(f"README.md needs the lines {BEGIN} and {END} once each")
    start, end = readme.index(BEGIN), readme.index(END) + len(END)
    if readme[start:end] == wanted:
        return
    if only_check:
        sys.exit("README.md has other figures than bench/results.json: python3 bench/readme.py writes them anew")
    README.write_text(readme[:start] + wanted + readme[end:])


if __name__ == "__main__":
    update(only_check="--check" in sys.argv[1:])
