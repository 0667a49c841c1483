#!/usr/bin/env python3
"""What an idle keep-alive connection costs the server: resident memory per connection.

    python3 bench/idle_connections.py                        15,000 connections to goby's server
    python3 bench/idle_connections.py -n 1000000             a million, on a machine that has the descriptors and memory
    python3 bench/idle_connections.py --at-most 1536         fails if a connection costs more bytes than that
    python3 bench/idle_connections.py --server "PROGRAM ARG" another server, which gets ADDR as its last argument
    python3 bench/idle_connections.py -n 10000 --load 5      what the idle ones cost the busy ones: wrk beside them, 5 s a run

The server is one process, the clients are others, because descriptors are limited per process (`ulimit -n`). Each client
makes a request, reads the answer and keeps the connection. Then the server has time to let them rest. What counts is the
growth of its anonymous memory (RssAnon): the program's own text is not a connection's. In the end each connection makes
one more request.

With --load, wrk asks over 64 connections before the idle ones are opened, while they rest, and when they are closed; three
runs each, of which the median counts.

A million needs `sysctl fs.nr_open=2000000 fs.file-max=3000000` and as large a hard limit of descriptors for the server,
and some 16 GB for the kernel's side of both ends. The clients connect to several addresses of 127.0.0.0/8, since one
address has 28,000 ports.
"""

import argparse
import multiprocessing
import os
import pathlib
import resource
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
PER_PROCESS = 15_000
PER_ADDRESS = 25_000
# The server lets a connection rest after 1 s, and its runtime gives memory back some 3 s after a crowd.
REST = 10


def rss(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    sys.exit(f"process {pid} has ended")


def raise_limit(wanted):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
        except (ValueError, PermissionError):
            sys.exit(f"{wanted} descriptors are needed, and the hard limit is {hard}: see the head of {__file__}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def exchange(stream):
    stream.sendall(REQUEST)
    answer = stream.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200"), answer


def clients(first, n, port, pipe):
    raise_limit(n + 100)
    streams = []
    for i in range(first, first + n):
        stream = socket.create_connection((f"127.0.0.{1 + i // PER_ADDRESS}", port), timeout=60)
        exchange(stream)
        streams.append(stream)
    pipe.send("open")
    pipe.recv()
    for stream in streams:
        exchange(stream)
    pipe.send("answered")
    pipe.recv()


def await_server(port):
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
                return exchange(stream)
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("the server does not listen")


class Load:
    """wrk's figures, in the order of the runs."""

    RUNS = 3
    UNITS = {"us": 1e-3, "ms": 1, "s": 1e3}

    def __init__(self, port, seconds):
        self.command = ["wrk", "-t1", "-c64", f"-d{seconds}", "--latency", f"http://127.0.0.1:{port}/"]

    def run(self, when):
        rates, tails = zip(*(self.once() for _ in range(self.RUNS)))
        rate, tail = statistics.median(rates), statistics.median(tails)
        print(f"{when}: {rate:.0f} requests a second, p99 {tail:.2f} ms", flush=True)
        return rate, tail

    def once(self):
        text = subprocess.run(self.command, check=True, capture_output=True, text=True).stdout
        errors = re.search(r"Socket errors.*|Non-2xx.*", text)
        if errors:
            sys.exit(f"wrk: {errors.group()}")
        tail, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
        return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), float(tail) * self.UNITS[unit]


def build():
    manifest = pathlib.Path(__file__).parent / "Cargo.toml"
    subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", manifest], check=True)
    target = os.environ.get("CARGO_TARGET_DIR", manifest.parent / "target")
    return [str(pathlib.Path(target) / "release" / "goby-bench"), "http-server"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=15_000, help="connections (default: 15,000)")
    parser.add_argument("--at-most", type=int, help="bytes per connection")
    parser.add_argument("--load", type=int, metavar="SECONDS", help="also run wrk without and beside the idle connections")
    parser.add_argument("--load-at-least", type=float, metavar="SHARE", help="of the requests a second without them")
    parser.add_argument("--server", type=shlex.split, help="a program, which gets ADDR as its last argument")
    args = parser.parse_args()
    if args.load and not shutil.which("wrk"):
        sys.exit("wrk is not here: apt-get install wrk")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (args.server or build()) + [f"0.0.0.0:{port}"]
    server = subprocess.Popen(command, preexec_fn=lambda: raise_limit(args.n + 1000), stdout=subprocess.DEVNULL)
    try:
        await_server(port)
        load = Load(port, args.load) if args.load else None
        if load:
            alone, _ = load.run("without idle connections")
            # The busy connections' memory, too, is given back.
            time.sleep(REST)
        before = rss(server.pid)
        groups = []
        for first in range(0, args.n, PER_PROCESS):
            pipe, end = multiprocessing.Pipe()
            group = (first, min(PER_PROCESS, args.n - first), port, end)
            multiprocessing.Process(target=clients, args=group, daemon=True).start()
            groups.append(pipe)
        for pipe in groups:
            pipe.recv()
        open_ = rss(server.pid)
        time.sleep(REST)
        after = rss(server.pid)
        each = (after - before) / args.n
        print(f"{args.n} connections: {(open_ - before) / args.n:.0f} bytes each when just open, {each:.0f} idle")
        beside = load.run(f"beside {args.n} idle connections")[0] if load else 0
        for pipe in groups:
            pipe.send("ask")
        for pipe in groups:
            pipe.recv()
        print("each of them has answered once more")
        if load:
            for pipe in groups:
                pipe.send("close")
            load.run("when they are closed")
    finally:
        server.kill()
        server.wait()
    if args.load_at_least is not None and beside < args.load_at_least * alone:
        sys.exit(f"beside idle connections {beside / alone:.2f} of the requests a second are left")
    if args.at_most is not None and each > args.at_most:
        sys.exit(f"an idle connection costs {each:.0f} bytes, more than {args.at_most}")


if __name__ == "__main__":
    main()
