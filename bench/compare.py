#!/usr/bin/env python3
"""goby beside Go, tokio and may, on this machine, in one run, interleaved.

    python3 bench/compare.py                   the workloads
    python3 bench/compare.py --net             the workloads, then HTTP and echo
    python3 bench/compare.py --only pingpong http_64
    python3 bench/compare.py --quick           one repetition, for a first look

It builds everything, runs it, prints one table, and writes bench/results.json, bench/results.svg,
bench/RESULTS.md and the README's figures over the old ones; with --only or --quick, or interrupted, it prints only. In RESULTS.md, what
stands below the line `<!-- by hand -->` is kept.

Needs cargo. Without Go its column is left out, and the echo rows, whose load it makes; without wrk the
HTTP rows are left out.
"""

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

import chart  # noqa: E402
import readme  # noqa: E402
import run  # noqa: E402
from run import log  # noqa: E402

GOBY = HERE / "target" / "release" / "goby-bench"
COMMAND = "python3 bench/compare.py"
BY_HAND = "<!-- by hand -->"

# figure: what goby is to reach: at most, or for req/s at least.
BOUNDS = {
    "spawn": 65, "spawn_async": None, "spawn_join": 60, "yield": 10,
    "pingpong": 60, "pingpong_async": None,
    "chan_spsc_128": 9, "chan_spsc_0": 36, "chan_mpmc_4x4_128": 14, "fanin_100_0": 50,
    "select_2_blocking": 75, "select_2_default": 5,
    "mutex_uncontended": 4.8, "mutex_8": 10,
    "skynet_1m": 110, "sieve_1000": 20,
    "idle_1m_bytes": 4800, "idle_1m_park": 2800, "idle_1m_wake": 150,
    "idle_1m_async_bytes": 300, "idle_1m_async_park": 300, "idle_1m_async_wake": 150,
    "sleep_1m_over": 2000, "sleep_1m_rss": None, "sleep_1m_async_over": 500, "sleep_1m_async_rss": None,
    "worker_pool_8": 45, "worker_pool_8_pattern": None, "fanout_fanin_8": 160, "fanout_fanin_8_pattern": None,
    "context_cancel_100k": 3000, "context_cancel_100k_async": 500, "timer_start_stop": 45,
    "http_64": 125_000, "http_64_p99": 3_500, "http_1000": 105_000, "http_1000_p99": 15_000,
    "echo_64": 125_000, "echo_64_p99": None, "echo_1000": 105_000, "echo_1000_p99": None,
    "http_slow_1000": None, "http_slow_1000_p99": None, "fetch_64": None,
}
# The best peer's figure on the machine that the bounds were set on. A bound is a share of it, too: that can be asked of a
# machine of any speed.
PEER_THEN = {
    "spawn": 214, "spawn_join": 327, "yield": 26.5, "pingpong": 125,
    "chan_spsc_128": 14, "chan_spsc_0": 125, "chan_mpmc_4x4_128": 33, "fanin_100_0": 213,
    "select_2_blocking": 229, "select_2_default": 10.8, "mutex_uncontended": 4.6, "mutex_8": 12,
    "skynet_1m": 773, "sieve_1000": 39,
    "idle_1m_bytes": 439, "idle_1m_park": 780, "idle_1m_wake": 407, "sleep_1m_over": 800,
    "worker_pool_8": 100, "fanout_fanin_8": 485, "context_cancel_100k": 1230, "timer_start_stop": 90,
    "http_64": 116_000, "http_64_p99": 4_100, "http_1000": 98_400, "http_1000_p99": 15_100,
    "echo_64": 108_000, "echo_1000": 90_900,
}
# Forms that only goby has: the same workload as the one of this name, whose figures the peers are shown with.
TWINS = ["spawn_async", "pingpong_async", "idle_1m_async", "sleep_1m_async", "worker_pool_8_pattern",
         "fanout_fanin_8_pattern", "context_cancel_100k_async"]
SUFFIXES = ["_async", "_pattern"]
# A peer's variant that stands for it, as the better known choice: tokio's own advice for short critical sections is
# a plain lock.
STANDS_FOR = {"mutex_uncontended_pl": "mutex_uncontended", "mutex_8_pl": "mutex_8"}
# Peers whose figure is not comparable, so not the best one: no other thread may touch what it selects over.
NOT_COUNTED = {("select_2_default", "may")}

WORKLOADS = [name for base in run.WORKLOADS for name in [base] + [base + s for s in SUFFIXES if base + s in TWINS]]


def twin(name):
    """The figure of the peers that a figure of goby's is compared with."""
    for suffix in SUFFIXES:
        name = name.replace(suffix, "")
    return name


def arrange(figures):
    """What is compared in another form than it is printed in."""
    for variant, name in STANDS_FOR.items():
        if variant in figures.values:
            figures.values[name].update(figures.values.pop(variant))
    # sleep_1m takes a second if it costs nothing: count what is over it.
    for name in [name for name in figures.values if name in ("sleep_1m", "sleep_1m_async")]:
        figures.unit[name + "_over"] = "ms"
        figures.values[name + "_over"] = {label: [v - 1000 for v in values]
                                          for label, values in figures.values.pop(name).items()}
        for label in [label for n, label in figures.note if n == name]:
            figures.note[name + "_over", label] = figures.note.pop((name, label))


def rows(figures, labels):
    """One dict a figure, in the order of BOUNDS; figures of one peer alone (its variants) come last."""
    out = []
    for name in sorted(figures.values, key=lambda n: list(BOUNDS).index(n) if n in BOUNDS else len(BOUNDS)):
        unit = figures.unit.get(name, "")
        # Where all have failed there is no unit.
        more_is_better = unit == "req/s" or name in run.NET
        cells = {label: figures.summary(name if label == "goby" else twin(name), label)
                 for label in labels if (name if label == "goby" else twin(name)) in figures.values}
        cells = {label: cell for label, cell in cells.items() if cell}
        peers = {label: cell["median"] for label, cell in cells.items()
                 if label in ("go", "tokio", "may") and (twin(name), label) not in NOT_COUNTED}
        best = (max if more_is_better else min)(peers, key=peers.get) if peers else None
        goby, bound = cells.get("goby"), BOUNDS.get(name)

        def ratio(value, peer=peers.get(best)):
            """Less than 1 is better than the best peer, whatever the unit."""
            if not peer or not value or value <= 0 or peer <= 0:
                return None
            return peer / value if more_is_better else value / peer

        asked = ratio(bound, PEER_THEN.get(twin(name))) if bound else None
        met = None
        if goby and bound is not None:
            met = goby["median"] >= bound if more_is_better else goby["median"] <= bound
            if not met and asked and ratio(goby["median"]) and ratio(goby["median"]) <= asked:
                met = "share"
        out.append({
            "figure": name, "unit": unit, "more_is_better": more_is_better, "bound": bound, "best": best, "met": met,
            "asked": asked,
            "ratio": ratio(goby["median"]) if goby else None, "bound_ratio": ratio(bound) if bound else None,
            "cells": cells, "notes": {label: figures.note[n, label] for label in labels
                                      for n in {name if label == "goby" else twin(name)} if (n, label) in figures.note},
        })
    return out


def cell(row, label):
    summary, note = row["cells"].get(label), row["notes"].get(label)
    if not summary:
        return note or "–"
    text = run.number(summary["median"])
    if len(summary["values"]) > 1:
        text += f" ({run.number(summary['min'])}–{run.number(summary['max'])})"
    return text + (f" [{note}]" if note else "")


def table(rows, labels):
    """The figures in Markdown."""
    head = ["figure", "unit", "bound", "goby", "met", "to best peer"] + [label for label in labels if label != "goby"]
    lines = [head]
    for row in rows:
        bound = "" if row["bound"] is None else ("≥ " if row["more_is_better"] else "≤ ") + f"{row['bound']:g}"
        bound += f", {row['asked']:.2f}" if row["asked"] else ""
        met = {True: "yes", "share": "share", False: "**no**", None: ""}[row["met"]]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} of {row['best']}"
        lines.append([row["figure"], row["unit"], bound, cell(row, "goby"), met, ratio]
                     + [cell(row, label) for label in labels if label != "goby"])
    return markdown(lines)


def markdown(lines):
    """A table; the first line is its head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in lines)


def split(rows):
    """The rows to compare, and the peers' variants of them, which goby has no form of."""
    main = [row for row in rows if row["figure"] in BOUNDS]
    return main, [row for row in rows if row["figure"] not in BOUNDS]


def picture(path, rows, about):
    shown = []
    for row in rows:
        if row["ratio"] is None:
            continue
        goby, best = row["cells"]["goby"]["median"], row["cells"][row["best"]]["median"]
        shown.append((row["figure"], row["ratio"], row["asked"] or row["bound_ratio"],
                      f"{run.number(goby)}, {row['best']} {run.number(best)} {row['unit']}"))
    chart.bars(path, "goby's cost over the best peer's", f"The best of Go, tokio and may = 1; shorter is better. "
               f"Medians, {about['cores']} cores, {about['date'][:10]}.", shown)


def machine_costs(args):
    """What the machine itself costs now: it differs from hour to hour on a shared one, and bounds in ns with it."""
    log("what the machine itself costs")
    figures = run.Figures()
    for _ in range(args.reps):
        run.run_workload(args, figures, "goby", GOBY, "machine")
    return {name.removeprefix("machine_"): figures.summary(name, "goby") for name in figures.values
            if figures.values[name]}


def costs_line(costs):
    return "The machine itself, ns: " + ", ".join(
        f"{name.replace('_', ' ')} {run.number(c['median'])} ({run.number(c['min'])}–{run.number(c['max'])})"
        for name, c in costs.items()) + "."


def about_lines(about, args):
    crates = ", ".join(f"{name} {about['crates'][name]}" for name in ("tokio", "may", "hyper") if name in about["crates"])
    return (f"{run.where(about)}; {about['rustc']}; {crates}. Default workers.\n"
            f"`{COMMAND}{' --net' if args.net else ''} --reps {args.reps}`, interleaved. "
            "Median (least–greatest). The ratio is goby's cost over the best peer's: under 1 is better.\n"
            "The bounds were set on another machine, before goby was written. `≤ 65, 0.30`: at most 65 ns or, since machines differ, at "
            "most 0.30 of the best peer's cost here, which is the share that 65 ns was there. Above 1 a peer was let be cheaper: a "
            "stack costs more than a future. What each figure is: [README.md](README.md).\n"
            + costs_line(about["costs"]))


def by_hand(path):
    """What was written by hand at the end of a file that is about to be written anew."""
    old = path.read_text() if path.exists() else ""
    return old[old.index(BY_HAND):] if BY_HAND in old else BY_HAND + "\n"


def write_results(args, about, figures, labels):
    main, variants = split(rows(figures, labels))
    picture(HERE / "results.svg", main, about)
    path = HERE / "RESULTS.md"
    met = [row["met"] for row in main if row["met"] is not None]
    text = ["# Results", "", about_lines(about, args), "",
            f"{len(met) - met.count(False)} of {len(met)} bounds met: {met.count(True)} as they are (yes), "
            f"{met.count('share')} as shares of the best peer (share).", "",
            "![goby's cost over the best peer's](results.svg)", "", table(main, labels), ""]
    if variants:
        text += ["Variants that only a peer has:", "", table(variants, labels), ""]
    path.write_text("\n".join(text) + "\n" + by_hand(path))
    log(f"written: {path.name}, results.svg")


def json_document(args, about, figures, labels):
    # The summary's own ratio is to Go.
    for_json = [{**row, "cells": {label: {k: v for k, v in c.items() if k != "ratio"} for label, c in row["cells"].items()}}
                for row in rows(figures, labels)]
    return {"machine": about, "reps": args.reps, "rows": for_json}


def build():
    run.make(["cargo", "build", "--release", "--locked", "--quiet"], HERE)
    run.build()


def choose(args, parser):
    """The workloads and the network rows to run."""
    unknown = [name for name in args.only or [] if name not in WORKLOADS + list(run.NET)]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)} (there are {', '.join(WORKLOADS + list(run.NET))})")
    if args.only:
        return [n for n in args.only if n in WORKLOADS], [n for n in args.only if n in run.NET]
    return WORKLOADS, [name for name, row in run.NET.items() if row[2]] if args.net else []


def check_peers(args, parser):
    known = ["goby", *(label for label, _ in run.PEERS + args.peer)]
    unknown = [label for label in args.skip if label not in known]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)} (there are {', '.join(known)})")


def without(net, has_go):
    """Leaves out the rows that this machine cannot run, with words."""
    if not has_go:
        log("go is not here, so neither are its column and the rows that it drives (echo, fetch): see https://go.dev/dl")
    if not shutil.which("wrk") and any(name.startswith("http") for name in net):
        log("wrk is not here, so neither are the HTTP rows: apt-get install wrk")
    return [name for name in net if (shutil.which("wrk") if name.startswith("http") else has_go)]


def main():
    parser = run.options(__doc__)
    parser.add_argument("--net", action="store_true", help="the network rows too")
    parser.add_argument("--quick", action="store_true", help="one repetition, two seconds of load")
    args = parser.parse_args()
    if args.quick:
        args.reps, args.seconds = 1, 2
    if not shutil.which("cargo"):
        sys.exit("cargo is not here: install Rust with rustup (https://rustup.rs)")
    workloads, net = choose(args, parser)
    check_peers(args, parser)
    has_go = shutil.which("go") is not None
    net = without(net, has_go)
    if not has_go:
        args.skip.append("go")
    if not args.no_build:
        build()
    elif missing := [path.name for _, path in [("goby", GOBY), *run.PEERS] if not path.exists()]:
        sys.exit(f"not built: {', '.join(missing)}; leave --no-build out")

    def beside(peers):
        return [p for p in [("goby", GOBY), *peers, *args.peer] if p[0] not in args.skip + ["threads"]]

    about, figures = {**run.machine(), "costs": machine_costs(args)}, run.Figures()
    labels = [label for label, _ in beside(run.PEERS)]
    try:
        for names, peers, runner in [(workloads, run.PEERS, run.run_workloads), (net, run.NET_PEERS, run.run_net)]:
            if names:
                args.only = names
                runner(args, beside(peers), figures)
    finally:
        arrange(figures)
        main_rows, variants = split(rows(figures, labels))
        print(f"{about_lines(about, args)}\n\n{table(main_rows + variants, labels)}")
        document = json.dumps(json_document(args, about, figures, labels), indent=1) + "\n"
        if args.json:
            args.json.write_text(document)
    if len(workloads) == len(WORKLOADS) and not args.quick:
        if not args.json:
            (HERE / "results.json").write_text(document)
        write_results(args, about, figures, labels)
        if not args.json:
            readme.update()


if __name__ == "__main__":
    main()
