#!/usr/bin/env python3
"""Runs test binaries, or other commands, side by side.

    ci/side_by_side.py [--only PACKAGE] [--under PROGRAM] cargo test ARGUMENTS...
    ci/side_by_side.py COMMAND ';' COMMAND...

cargo runs one test binary after another, and most tests wait more than they compute. Given a
`cargo test`, this script is what cargo runs in place of each binary (its *runner*): it notes the
binary, its folder and its environment. When cargo has built everything, the binaries run, as many
at a time as there are processors. Documentation tests are no binaries: run those apart.

The output of each is printed whole when it ends, after a line with its wall and processor time. If
the script is told to stop, by a time limit say, it prints the output so far of what still runs.
Everything runs to its end even if something fails. Then the script prints the end of what failed
once more, where a log that is cut keeps it, and fails.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROCESSORS = len(os.sched_getaffinity(0))
# Where the runner leaves its notes.
NOTES = "GOBY_SIDE_BY_SIDE"
# How much is printed once more of what failed, in bytes.
END = 6000


class Job:
    def __init__(self, name, command, folder=None, environment=None):
        self.name, self.command, self.folder, self.environment = name, command, folder, environment
        self.log = tempfile.TemporaryFile()
        self.process = None

    def run(self):
        """Runs it to its end, prints what it printed, and returns whether it succeeded."""
        with printing:
            print(f"++++ {self.name}", flush=True)
        start = time.monotonic()
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, start_new_session=True)
        # Not Popen's own wait, which keeps the processor time to itself.
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        took = f"{time.monotonic() - start:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of a processor"
        end = "" if status == 0 else f", FAILED (exit status {self.process.returncode})"
        self.show(took + end)
        return status == 0

    def show(self, how, end=None):
        """Prints what it printed, or the last `end` bytes of it."""
        with printing:
            sys.stdout.buffer.write(f"---- {self.name}: {how}\n".encode())
            # Not by a seek: the process, if it still runs, writes where this file stands.
            size = os.fstat(self.log.fileno()).st_size
            start = 0 if end is None else max(0, size - end)
            sys.stdout.buffer.write(os.pread(self.log.fileno(), size - start, start))
            sys.stdout.buffer.flush()


printing = threading.RLock()


def note(command):
    """As cargo's runner: leaves a note of what would be run."""
    environment = {name: value for name, value in os.environ.items() if name != NOTES}
    notes = Path(os.environ[NOTES])
    text = json.dumps({"command": command, "folder": os.getcwd(), "environment": environment})
    (notes / f"{len(list(notes.iterdir())):03}").write_text(text)


def of_cargo(command, only, under):
    """The test binaries of a `cargo test`, built."""
    runner = json.dumps([sys.executable, str(Path(__file__).resolve()), "--note"])
    config = f"target.'cfg(all())'.runner={runner}"
    with tempfile.TemporaryDirectory() as notes:
        subprocess.run([command[0], "--config", config, *command[1:]], env={**os.environ, NOTES: notes}, check=True)
        noted = [json.loads(path.read_text()) for path in sorted(Path(notes).iterdir())]
    for each in noted:
        package = each["environment"]["CARGO_PKG_NAME"]
        if only in (None, package):
            name = f"{package} {Path(each['command'][0]).name}"
            yield Job(name, [*under, *each["command"]], each["folder"], each["environment"])


def of_line(line):
    """The commands of a line."""
    command = []
    for word in [*line, ";"]:
        if word != ";":
            command.append(word)
        elif command:
            yield Job(shlex.join(command), command)
            command = []


def run(jobs):
    """Runs the jobs, the first ones first, and returns those that failed."""
    waiting, failed = list(jobs), []

    def work():
        while waiting:
            try:
                job = waiting.pop(0)
            except IndexError:
                return
            if not job.run():
                failed.append(job)

    def stop(*_):
        waiting.clear()
        for job in jobs:
            if job.process is not None and job.process.returncode is None:
                # With all that it has started.
                os.killpg(job.process.pid, signal.SIGTERM)
                job.show("still ran when all was stopped")
        os._exit(1)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    workers = [threading.Thread(target=work) for _ in range(max(2, PROCESSORS))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return failed


def main():
    line, only, under = sys.argv[1:], None, []
    if line[:1] == ["--note"]:
        return note(line[1:])
    if line[:1] == ["--only"]:
        only, line = line[1], line[2:]
    if line[:1] == ["--under"]:
        under, line = [line[1]], line[2:]
    if not line:
        sys.exit(__doc__)
    try:
        jobs = list(of_cargo(line, only, under) if line[:2] == ["cargo", "test"] else of_line(line))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    failed = run(jobs)
    for job in failed:
        job.show("FAILED, the end of it once more", END)
    if failed:
        sys.exit("failed: " + "; ".join(job.name for job in failed))
    if not jobs:
        sys.exit("nothing ran")


if __name__ == "__main__":
    main()
