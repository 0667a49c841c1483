#!/usr/bin/env python3
"""goby beside Go, tokio, may and Java's virtual threads, on this machine, in one run, interleaved.

    python3 bench/compare.py                   the workloads
    python3 bench/compare.py --net             the workloads, then HTTP and echo
    python3 bench/compare.py --only pingpong http_64
    python3 bench/compare.py --quick           one repetition, for a first look
    python3 bench/compare.py --add java        that column into the results that are there; with --only, of these rows

It builds everything, runs it, prints one table, and writes bench/results.json, bench/results.svg,
bench/RESULTS.md and the README's figures over the old ones; with --only, --memory or --quick, or interrupted, it prints
only. In RESULTS.md, what stands below the line `<!-- by hand -->` is kept.

Needs cargo. Without Go its column is left out, and the echo and copy rows, whose load it makes; without Java 21
or later its column; without wrk the HTTP rows.
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

# figure: what goby's cost may be of the best peer's, at most. Below 1 goby is to be cheaper. Machines differ in speed, so
# no bound is a number of ns. None: shown, without a bound.
BOUNDS = {
    "spawn": 0.3, "spawn_async": None, "spawn_join": 0.18, "yield": 0.38,
    "pingpong": 0.48, "pingpong_async": None,
    "chan_spsc_128": 0.64, "chan_spsc_0": 0.29, "chan_mpmc_4x4_128": 0.42, "fanin_100_0": 0.23,
    "select_2_blocking": 0.33, "select_2_default": 0.46,
    "mutex_uncontended": 1.04, "mutex_8": 0.83,
    "skynet_1m": 0.14, "sieve_1000": 0.51,
    "idle_1m_bytes": 0.5, "idle_1m_tables": None, "idle_1m_park": 3.6, "idle_1m_wake": 0.37,
    "idle_1m_async_bytes": 0.5, "idle_1m_async_tables": None, "idle_1m_async_park": 0.38, "idle_1m_async_wake": 0.37,
    "sleep_1m_over": 2.5, "sleep_1m_rss": 0.5, "sleep_1m_async_over": 0.63, "sleep_1m_async_rss": 0.5,
    "worker_pool_8": 0.45, "worker_pool_8_pattern": None, "fanout_fanin_8": 0.33, "fanout_fanin_8_pattern": None,
    "context_cancel_100k": 2.4, "context_cancel_100k_async": 0.41, "timer_start_stop": 0.5,
    "http_64": 1.05, "http_64_p99": 1.05, "http_1000": 1.05, "http_1000_p99": 1.05,
    "json_64": 1.05, "json_64_p99": 1.05, "https_64": 1.05, "https_64_p99": 1.05, "h2_64": 1.05,
    "echo_64": 1.05, "echo_64_p99": None, "echo_1000": 1.05, "echo_1000_p99": None,
    "copy_10g": 1.0, "copy_1g": None,
    "http_slow_1000": None, "http_slow_1000_p99": None, "fetch_64": None,
}
# Whose figure these bounds are shares of, where that is not the best peer: may's HTTP has a parser of its own, and tokio's
# is over hyper, as goby's is.
BOUND_TO = {name: "tokio" for name in BOUNDS if name.startswith(("http", "json", "h2", "echo"))}
# Forms that only goby has: the same workload as the one of this name, whose figures the peers are shown with.
TWINS = ["spawn_async", "pingpong_async", "idle_1m_async", "sleep_1m_async", "worker_pool_8_pattern",
         "fanout_fanin_8_pattern", "context_cancel_100k_async"]
SUFFIXES = ["_async", "_pattern"]
# A peer's variant that stands for it, as the better known choice: tokio's own advice for short critical sections is
# a plain lock.
STANDS_FOR = {"mutex_uncontended_pl": "mutex_uncontended", "mutex_8_pl": "mutex_8"}
# Those whose best figure is what goby's is compared with; the threads are shown only.
PEERS = ["go", "tokio", "may", "java"]
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


def is_memory(name):
    return name.endswith(("_bytes", "_tables", "_rss"))


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
                 if label in PEERS and (twin(name), label) not in NOT_COUNTED}
        best = (max if more_is_better else min)(peers, key=peers.get) if peers else None
        goby, bound, bound_to = cells.get("goby"), BOUNDS.get(name), BOUND_TO.get(name, best)

        def ratio(peer):
            """Goby's cost over a peer's. Less than 1 is better than that peer, whatever the unit."""
            value, peer = goby and goby["median"], peers.get(peer)
            if not peer or not value or value <= 0 or peer <= 0:
                return None
            return peer / value if more_is_better else value / peer

        to_bound = ratio(bound_to)
        met = None if bound is None or to_bound is None else to_bound <= bound
        out.append({
            "figure": name, "unit": unit, "more_is_better": more_is_better, "bound": bound, "bound_to": bound_to,
            "met": met, "best": best, "ratio": ratio(best), "cells": cells, "notes": {label: figures.note[n, label] for label in labels
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
        bound = "" if row["bound"] is None else f"≤ {row['bound']:g}"
        bound += f" of {row['bound_to']}" if bound and row["bound_to"] != row["best"] else ""
        met = {True: "yes", False: "**no**", None: ""}[row["met"]]
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
        shown.append((row["figure"], row["ratio"], row["bound"],
                      f"{run.number(goby)}, {row['best']} {run.number(best)} {row['unit']}"))
    chart.bars(path, "goby's cost over the best peer's", f"The best of {', '.join(PEERS)} = 1; shorter is better. "
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
            "A bound is a share of the best peer's cost, of tokio's on the network: `≤ 0.3`, at most 0.3 of it. In memory it is half, "
            "which a goroutine's stack of a page or more cannot reach beside a task without one. Above 1 a peer was let be cheaper. "
            "What each figure is: [README.md](README.md).\n"
            + "".join(added_line(each) + "\n" for each in about.get("added", []))
            + (costs_line(about["costs"]) if about["costs"] else ""))


def added_line(added):
    """What was measured apart from the rest."""
    what = f" in {', '.join(added['workloads'])}" if added["workloads"] else ""
    java = f" ({added['java']})" if "java" in added["labels"] else ""
    return (f"{', '.join(added['labels'])}{java}{what}: measured apart, on {added['date'][:10]}, "
            f"{added['reps']} runs, goby {added['commit']}.")


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
            f"{met.count(True)} of {len(met)} bounds met.", "",
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


def from_document(document):
    """The figures of a results.json, as they were measured, and the labels in order."""
    figures, labels = run.Figures(), []
    for row in document["rows"]:
        name = row["figure"]
        figures.unit[name] = row["unit"]
        figures.values.setdefault(name, {})
        # What a form that only goby has is shown with is its twin's.
        own = [label for label in {**row["cells"], **row["notes"]} if label == "goby" or twin(name) == name]
        for label in own:
            if label in row["cells"]:
                figures.values[name][label] = row["cells"][label]["values"]
            if label in row["notes"]:
                figures.note[name, label] = row["notes"][label]
        labels += [label for label in own if label not in labels]
    return figures, labels


def add_to_results(args, about, new, added):
    """Replaces what is in results.json by what was measured now, and writes everything anew."""
    document = json.loads((HERE / "results.json").read_text())
    figures, labels = from_document(document)
    for name in new.values:
        figures.unit.setdefault(name, new.unit.get(name, ""))
        figures.values.setdefault(name, {}).update(new.values[name])
        for label in added:
            figures.note.pop((name, label), None)
    figures.note.update(new.note)
    labels += [label for label in added if label not in labels]
    reps = max((len(values) for by_label in new.values.values() for values in by_label.values()), default=0)
    entry = {"labels": added, "workloads": sorted(new.values) if args.some or args.memory else [], "reps": reps,
             **{key: about[key] for key in ("date", "commit", "load_at_start", "java")}}
    about = {**document["machine"]}
    about["added"] = [e for e in about.get("added", []) if e["labels"] != entry["labels"]] + [entry]
    args.net, args.reps = any(row["figure"] in run.NET for row in document["rows"]), document["reps"]
    text = json.dumps(json_document(args, about, figures, labels), indent=1) + "\n"
    (HERE / "results.json").write_text(text)
    write_results(args, about, figures, labels)
    readme.update()


def build(skip=()):
    if "goby" not in skip:
        run.make(["cargo", "build", "--release", "--locked", "--quiet"], HERE)
    run.build(skip)


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
    unknown = [label for label in args.skip + args.add if label not in known]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)} (there are {', '.join(known)})")


def without(args, net):
    """Leaves out the peers and the rows that this machine cannot run, with words."""
    has_go = shutil.which("go") is not None
    if not has_go:
        log("go is not here, so neither are its column and the rows that it drives (echo, copy, fetch): see https://go.dev/dl")
        args.skip.append("go")
    if not run.java():
        log(f"{run.NO_JAVA}, so neither is the column of its virtual threads: {run.GET_JAVA}")
        args.skip.append("java")
    for program, package, prefixes in run.DRIVERS:
        if not shutil.which(program) and any(name.startswith(prefixes) for name in net):
            log(f"{program} is not here, so neither are its rows ({', '.join(prefixes)}): apt-get install {package}")
            net = [name for name in net if not name.startswith(prefixes)]
    of_go = tuple(name for name in run.NET if not name.startswith(tuple(p for row in run.DRIVERS for p in row[2])))
    return [name for name in net if has_go or name not in of_go]


def main():
    parser = run.options(__doc__)
    parser.add_argument("--net", action="store_true", help="the network rows too")
    parser.add_argument("--quick", action="store_true", help="one repetition, two seconds of load")
    parser.add_argument("--memory", action="store_true", help="only figures of memory, which other load does not change")
    parser.add_argument("--add", nargs="+", metavar="LABEL", default=[],
                        help="measure only these, and put their figures into the results that are there")
    args = parser.parse_args()
    if args.quick:
        args.reps, args.seconds = 1, 2
    if not shutil.which("cargo"):
        sys.exit("cargo is not here: install Rust with rustup (https://rustup.rs)")
    workloads, net = choose(args, parser)
    check_peers(args, parser)
    args.some = bool(args.only)
    net = without(args, net)

    def beside(peers):
        wanted = [p for p in [("goby", GOBY), *peers, *args.peer] if p[0] not in args.skip + ["threads"]]
        return [p for p in wanted if not args.add or p[0] in args.add]

    if not beside(run.PEERS):
        sys.exit("nothing is left to measure")
    if not args.no_build:
        here = [label for label, _ in beside(run.PEERS)]
        build([label for label, _ in [("goby", GOBY), *run.PEERS] if label not in here])
    elif missing := [path.name for _, path in beside(run.PEERS) if not path.exists()]:
        sys.exit(f"not built: {', '.join(missing)}; leave --no-build out")

    about, figures = {**run.machine(), "costs": {} if args.add else machine_costs(args)}, run.Figures()
    labels = [label for label, _ in beside(run.PEERS)]
    try:
        for names, peers, runner in [(workloads, run.PEERS, run.run_workloads), (net, run.NET_PEERS, run.run_net)]:
            if names:
                args.only = names
                runner(args, beside(peers), figures)
    finally:
        arrange(figures)
        if args.memory:
            figures.values = {name: v for name, v in figures.values.items() if is_memory(name)}
            figures.note = {key: note for key, note in figures.note.items() if is_memory(key[0])}
        main_rows, variants = split(rows(figures, labels))
        print(f"{about_lines(about, args)}\n\n{table(main_rows + variants, labels)}")
        document = json.dumps(json_document(args, about, figures, labels), indent=1) + "\n"
        if args.json:
            args.json.write_text(document)
    if args.add:
        add_to_results(args, about, figures, labels)
    elif len(workloads) == len(WORKLOADS) and not (args.quick or args.memory or args.busy):
        if not args.json:
            (HERE / "results.json").write_text(document)
        write_results(args, about, figures, labels)
        if not args.json:
            readme.update()


if __name__ == "__main__":
    main()
