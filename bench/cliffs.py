#!/usr/bin/env python3
"""Where a runtime is tempted to fall: goby beside Go, on this machine.

    python3 bench/cliffs.py                        all parts
    python3 bench/cliffs.py --only talk scale      these parts: talk burst idle balance memory scale

Prints a table a part, and with all parts writes bench/CLIFFS.md, bench/cliffs.json and bench/scale.svg over the old
ones. In CLIFFS.md, what stands below the line `<!-- by hand -->` is kept. What each figure is, and what is wanted of it:
bench/README.md. It builds first, as compare.py does.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

import chart  # noqa: E402
import compare  # noqa: E402
import run  # noqa: E402
from run import log  # noqa: E402

GO = run.TARGET / "go-bench"
PROCS = [1, 2, 4]
TALK = ["pingpong", "chan_spsc_128", "chan_spsc_0", "chan_mpmc_4x4_128", "fanin_100_0"]
SIZES = [10, 1000, 65_535, 100_000, 1_000_000]
SCALE = ["scale_spawn", "scale_wake", "scale_timer", "scale_select", "scale_context"]

# figure: (at most or at least, value). The others are shown beside Go's.
WANTED = {
    "imbalance_8": ("≤", 1.15),
    "hog_1_goroutine_max": ("≤", 2000), "hog_100_goroutines_max": ("≤", 2000),
    "hog_1_future_max": ("≤", 2000), "hog_100_futures_max": ("≤", 2000), "hog_100_woken_futures_max": ("≤", 2000),
    "life_10m_growth": ("≤", 10), "release_1m_back": ("≥", 90), "release_1m_async_back": ("≥", 90),
    "idle_wakeups": ("≤", 0), "idle_cpu": ("≤", 0),
}


def measure(args, figures, label, path, workload, procs=None):
    """Runs it once, on so many workers."""
    args = copy.copy(args)
    if procs:
        args.under = [*args.under, "env", f"GOBY_MAXPROCS={procs}", f"GOMAXPROCS={procs}"]
    run.run_workload(args, figures, label, path, workload)


def talk(args, figures):
    """Partners that talk, by number of workers: `label` is who and on how many."""
    for workload in TALK:
        for _ in range(args.reps):
            for procs in PROCS:
                log(f"{workload} on {procs}")
                measure(args, figures, f"goby {procs}", compare.GOBY, workload, procs)
                measure(args, figures, f"go {procs}", GO, workload, procs)
                if procs > 1:
                    apart = run.Figures()
                    measure(args, apart, "x", compare.GOBY, workload + "_apart", procs)
                    for value in apart.values.get(workload + "_apart", {}).get("x", []):
                        figures.add(workload, f"goby apart {procs}", value, "ns/op")
                    for note in apart.note.values():
                        figures.mark(workload, f"goby apart {procs}", note)


def talk_table(figures):
    lines = [["figure", "unit", "workers", "goby", "goby, forced apart", "go", "worst of goby's to go", "met"]]
    for workload in TALK:
        for procs in PROCS:
            labels = [f"goby {procs}", f"goby apart {procs}", f"go {procs}"]
            cells = [figures.summary(workload, label) for label in labels]
            ratio = met = ""
            if cells[2] and (cells[0] or cells[1]):
                worst = max(c["median"] for c in cells[:2] if c) / cells[2]["median"]
                ratio, met = f"{worst:.2f}", "yes" if worst <= 1 else "**no**"
            values = [figures.cell(workload, label).split(" x")[0] for label in labels]
            lines.append([workload, "ns/op", str(procs), *values, ratio, met])
    return lines


def each(workloads):
    """A part that runs these, goby beside Go."""
    def part(args, figures):
        for workload in workloads:
            for _ in range(args.reps):
                log(workload)
                measure(args, figures, "goby", compare.GOBY, workload)
                measure(args, figures, "go", GO, workload)
    return part


def idle(args, figures):
    """A program with a thousand parked goroutines, watched for five seconds from outside."""
    for _ in range(args.reps):
        for label, path in [("goby", compare.GOBY), ("go", GO)]:
            if not path.exists():
                continue
            log(f"idle_program {label}")
            with subprocess.Popen([str(path), "idle_program"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                process.stdout.readline()
                time.sleep(2)
                before = watched(process.pid)
                time.sleep(5)
                after = watched(process.pid)
                process.stdin.close()
                process.wait()
            figures.add("idle_wakeups", label, after[0] - before[0], "in 5 s")
            figures.add("idle_cpu", label, (after[1] - before[1]) / 1e3, "us in 5 s")


def watched(pid):
    """How often its threads have gone to sleep, and the ns they have run."""
    switches = ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        switches += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        ns += int((task / "schedstat").read_text().split()[0])
    return switches, ns


def beside_table(figures):
    lines = [["figure", "unit", "wanted", "goby", "met", "go"]]
    for name in figures.values:
        goby, wanted = figures.summary(name, "goby"), WANTED.get(name)
        met = ""
        if goby and wanted:
            good = goby["median"] <= wanted[1] if wanted[0] == "≤" else goby["median"] >= wanted[1]
            met = "yes" if good else "**no**"
        lines.append([name, figures.unit.get(name, ""), f"{wanted[0]} {wanted[1]:g}" if wanted else "",
                      figures.cell(name, "goby").split(" x")[0], met, figures.cell(name, "go")])
    return lines


def scale_picture(figures):
    panels = []
    for name, title in zip(SCALE, ["spawn, a goroutine", "wake, a goroutine", "timer start and stop, beside n",
                                   "select, a case of n", "context, a child of a tree of n"]):
        lines = []
        for label, color, dash in [("goby", 0, None), ("go", 1, "5 3")]:
            values = {n: statistics.median(figures.values[f"{name}_{n}"][label]) for n in SIZES
                      if figures.values.get(f"{name}_{n}", {}).get(label)}
            if values:
                lines.append((label, color, dash, values))
        panels.append((title, lines))
    chart.curves(HERE / "scale.svg", "Cost against number", "ns for each, by how many there are; flat is good. "
                 "Both axes logarithmic.", panels)


PARTS = {
    "talk": (talk, talk_table, "Partners that talk, on 1, 2 and 4 workers, and forced apart"),
    "burst": (each(["burst_10us", "burst_100us", "burst_1ms"]), beside_table, "A message each so often"),
    "idle": (idle, beside_table, "A program that has nothing to do"),
    "balance": (each(["imbalance_8", "hog_goroutines", "hog_futures"]), beside_table, "Work that begins on one worker"),
    "memory": (each(["life_10m", "release_1m", "release_1m_async"]), beside_table, "Memory over a program's life"),
    "scale": (each(SCALE), beside_table, "Cost against number"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--reps", type=run.at_least_one, default=5, help="repetitions of each run (5)")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="of one run (120)")
    parser.add_argument("--under", type=run.command, default=[], metavar="COMMAND", help="what each run is started by")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")
    args = parser.parse_args()
    args.once_over = args.timeout
    if not args.no_build:
        compare.build()
    if not compare.GOBY.exists():
        sys.exit(f"{compare.GOBY.name} is not built: leave --no-build out")
    if not GO.exists():
        log(f"{GO.name} is not built (Go is at https://go.dev/dl): left out")

    about, document = run.machine(), {}
    text = [f"{run.where(about)}; `python3 bench/cliffs.py --reps {args.reps}`. Median (least - greatest).",
            "What each figure is, and what is wanted: [README.md](README.md).",
            compare.costs_line(compare.machine_costs(args)), ""]
    print("\n".join(text), flush=True)
    for name in args.only or PARTS:
        part, table, title = PARTS[name]
        figures = run.Figures()
        part(args, figures)
        section = [f"## {title}", "", compare.markdown(table(figures)), ""]
        print("\n".join(section), flush=True)
        text += section
        document[name] = figures.json(sorted({label for values in figures.values.values() for label in values}))
        if name == "scale" and not args.only:
            scale_picture(figures)
            text += ["![cost against number](scale.svg)", ""]
    if not args.only:
        path = HERE / "CLIFFS.md"
        path.write_text("\n".join(["# No cliff", "", *text]) + "\n" + compare.by_hand(path))
        (HERE / "cliffs.json").write_text(json.dumps({"machine": about, "reps": args.reps, "parts": document}, indent=1) + "\n")
        log("written: CLIFFS.md, cliffs.json, scale.svg")


if __name__ == "__main__":
    main()
