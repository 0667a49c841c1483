#!/usr/bin/env python3
"""reqwest's GETs through goby-tokio beside the same inside tokio, on this machine, interleaved.

    python3 bench/bridge.py                    10 rounds of 50,000 requests
    python3 bench/bridge.py --rounds 3 --requests 20000
    python3 bench/bridge.py --under 'taskset -c 0,1'

Prints the median of each, and the ratio to tokio's; fails where the bridge takes more than BOUND of tokio's time.
`reactor` is what goby-tokio does not do: the futures run on the reactor's thread, and goroutines wait for them.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent / "bridge"
PROGRAM = HERE / "target" / "release" / "goby-bridge-bench"
WAYS = ["bridge", "reactor", "tokio"]
# What a request through the bridge may cost of the same inside tokio.
BOUND = 1.15


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--under", type=shlex.split, default=[], help="a command that each run is given to")
    args = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", HERE / "Cargo.toml",
                    "--target-dir", HERE / "target"], check=True)
    server = subprocess.Popen([PROGRAM, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        addr = server.stdout.readline().strip()
        values = {way: [] for way in WAYS}
        for turn in range(args.rounds):
            # In another order each time, so that nobody always follows the same one.
            for way in WAYS[turn % 3:] + WAYS[:turn % 3]:
                command = [*args.under, PROGRAM, way, addr, str(args.requests)]
                line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                values[way].append(float(line.split()[1]))
    finally:
        server.kill()
    medians = {way: statistics.median(values[way]) for way in WAYS}
    for way in WAYS:
        low, high = min(values[way]), max(values[way])
        print(f"{way:8} {medians[way]:8.0f} ns a request ({low:.0f} to {high:.0f}), "
              f"{medians[way] / medians['tokio']:.2f} of tokio's")
    ratio = medians["bridge"] / medians["tokio"]
    if ratio > BOUND:
        sys.exit(f"bridge.py: {ratio:.2f} of tokio's is more than {BOUND}")


main()
