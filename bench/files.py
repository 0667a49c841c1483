#!/usr/bin/env python3
"""Files and processes: goby beside std on threads, on this machine, interleaved.

    python3 bench/files.py                 a file of 1 GB by lines; 10,000 processes, 8 at a time
    python3 bench/files.py --reps 3
    python3 bench/files.py --only lines_1g

Prints a table: the median of each, and goby's share of std's beside the bound. Builds goby-bench first. The file stays
in the temporary folder for the next run.
"""

import argparse
import statistics
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOBY = HERE / "target" / "release" / "goby-bench"
# figure: what goby's may be of std's, at most. None: shown, without a bound.
BOUNDS = {"lines_1g": 1.2, "run_10k": None}


def measure(workload):
    """Runs it once, and returns its figure."""
    out = subprocess.run([GOBY, workload], check=True, capture_output=True, text=True).stdout
    name, value, unit = out.split()
    assert name == workload, out
    return float(value), unit


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=BOUNDS, default=list(BOUNDS))
    args = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", HERE / "Cargo.toml"], check=True)
    print("| figure | unit | goby | std | share | bound |\n|---|---|---|---|---|---|")
    late = []
    for name in args.only:
        measure(name)  # Makes the file, and warms the caches.
        runs = [(measure(name), measure(f"{name}_std")) for _ in range(args.reps)]
        goby, std = (statistics.median(run[i][0] for run in runs) for i in (0, 1))
        bound = BOUNDS[name]
        print(f"| {name} | {runs[0][0][1]} | {goby:.0f} | {std:.0f} | {goby / std:.2f} | {bound or ''} |", flush=True)
        if bound and goby / std > bound:
            late.append(name)
    if late:
        raise SystemExit(f"over the bound: {', '.join(late)}")


if __name__ == "__main__":
    main()
