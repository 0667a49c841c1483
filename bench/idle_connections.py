#!/usr/bin/env python3
"""What an idle keep-alive connection costs the server: resident memory per connection.

    python3 bench/idle_connections.py                        15,000 connections to goby's server
    python3 bench/idle_connections.py -n 1000000             a million, on a machine that has the descriptors and memory
    python3 bench/idle_connections.py --at-most 1536         fails if a connection costs more bytes than that
    python3 bench/idle_connections.py --server "PROGRAM ARG" another server, which gets ADDR as its last argument

The server is one process, the clients are others, because descriptors are limited per process (`ulimit -n`). Each client
makes a request, reads the answer and keeps the connection. Then the server has time to let them rest. What counts is the
growth of its anonymous memory (RssAnon): the program's own text is not a connection's. In the end each connection makes
one more request.

A million needs `sysctl fs.nr_open=2000000 fs.file-max=3000000` and as large a hard limit of descriptors for the server,
and some 16 GB for the kernel's side of both ends. The clients connect to several addresses of 127.0.0.0/8, since one
address has 28,000 ports.
"""

import argparse
import multiprocessing
import os
import pathlib
import resource
import shlex
import socket
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


def build():
    manifest = pathlib.Path(__file__).parent / "Cargo.toml"
    subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", manifest], check=True)
    target = os.environ.get("CARGO_TARGET_DIR", manifest.parent / "target")
    return [str(pathlib.Path(target) / "release" / "goby-bench"), "http-server"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=15_000, help="connections (default: 15,000)")
    parser.add_argument("--at-most", type=int, help="bytes per connection")
    parser.add_argument("--server", type=shlex.split, help="a program, which gets ADDR as its last argument")
    args = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (args.server or build()) + [f"0.0.0.0:{port}"]
    server = subprocess.Popen(command, preexec_fn=lambda: raise_limit(args.n + 1000), stdout=subprocess.DEVNULL)
    try:
        await_server(port)
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
        for pipe in groups:
            pipe.send("ask")
        for pipe in groups:
            pipe.recv()
        print("each of them has answered once more")
    finally:
        server.kill()
        server.wait()
    if args.at_most is not None and each > args.at_most:
        sys.exit(f"an idle connection costs {each:.0f} bytes, more than {args.at_most}")


if __name__ == "__main__":
    main()
