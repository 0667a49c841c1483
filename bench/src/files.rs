//! Files and processes: lines_1g, run_10k; and the same by std, which is their peer.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::thread;

use goby::process::{Command, Stdio};
use goby::{chan, scope};

use crate::measure::Clock;

/// The size of the file.
const BYTES: usize = 1 << 30;
/// Processes, and how many run at a time.
const PROCESSES: usize = 10_000;
const AT_ONCE: usize = 8;

/// A file of 1 GB, in lines of 1 to 160 bytes. It is made once, and read once, so that it is in the
/// system's memory as far as there is room.
fn file() -> PathBuf {
    let path = std::env::temp_dir().join("goby-bench-lines");
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= BYTES as u64) {
        return path;
    }
    let mut file = std::io::BufWriter::new(fs::File::create(&path).expect("there is room"));
    let text = "the quick brown fox jumps over the lazy dog ".repeat(4);
    let (mut written, mut n) = (0, 1);
    while written < BYTES {
        n = (n * 61 + 17) % 160;
        writeln!(file, "{}", &text[..n]).expect("there is room");
        written += n + 1;
    }
    file.flush().expect("there is room");
    path
}

fn count(lines: impl Iterator<Item = std::io::Result<String>>) -> usize {
    lines.map(|line| line.expect("it is UTF-8").len() + 1).sum()
}

pub fn lines() {
    let path = file();
    let clock = Clock::start();
    assert!(count(goby::fs::lines(&path).expect("it is there")) >= BYTES);
    clock.ms("lines_1g");
}

pub fn lines_std() {
    let path = file();
    let clock = Clock::start();
    let file = BufReader::new(fs::File::open(&path).expect("it is there"));
    assert!(count(file.lines()) >= BYTES);
    clock.ms("lines_1g_std");
}

pub fn run() {
    let (jobs, next) = chan::bounded(0);
    let clock = Clock::start();
    scope(|s| {
        for _ in 0..AT_ONCE {
            let next = next.clone();
            s.go(move || {
                for () in &next {
                    assert!(Command::new("true").stdin(Stdio::null()).status().expect("there is one").success());
                }
            });
        }
        (0..PROCESSES).for_each(|_| jobs.send(()).expect("they run"));
        drop(jobs);
    });
    clock.per_op("run_10k", PROCESSES);
}

pub fn run_std() {
    let clock = Clock::start();
    goby::blocking(|| {
        thread::scope(|s| {
            for _ in 0..AT_ONCE {
                s.spawn(|| {
                    for _ in 0..PROCESSES / AT_ONCE {
                        let mut command = std::process::Command::new("true");
                        assert!(command.stdin(Stdio::null()).status().expect("there is one").success());
                    }
                });
            }
        });
    });
    clock.per_op("run_10k_std", PROCESSES);
}
