//! What the workloads share: the output line, the clock, the process's size, percentiles.

use std::time::{Duration, Instant};

/// Print one figure.
pub fn report(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.2} {unit}");
}

/// A stopwatch, started when it is made.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub fn ns(self) -> f64 {
        self.elapsed().as_nanos() as f64
    }

    /// Report the time since the start, divided over `n` operations.
    pub fn per_op(self, name: &str, n: usize) {
        report(name, self.ns() / n as f64, "ns/op");
    }

    /// Report the time since the start, whole.
    pub fn ms(self, name: &str) {
        report(name, self.ns() / 1e6, "ms");
    }
}

/// The resident size of this process, in bytes, as the kernel counts it: some 100 KB more or less.
pub fn rss() -> f64 {
    field_of("/proc/self/status", "VmRSS:")
}

/// The size of its page tables, in bytes, which the resident size does not show.
pub fn page_tables() -> f64 {
    field_of("/proc/self/status", "VmPTE:")
}

/// The resident size exact to the page, and the part of it that is files: the text of the program
/// and its libraries, as far as it has been used. It walks through all that is mapped.
pub fn exact_rss() -> (f64, f64) {
    let rss = field_of("/proc/self/smaps_rollup", "Rss:");
    (rss, rss - field_of("/proc/self/smaps_rollup", "Anonymous:"))
}

/// Reads a size from a file of `/proc` that gives kB, and returns bytes.
fn field_of(file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(file).expect("/proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.expect("the field is there, in kB") * 1024.0
}

/// The time that all threads of this process have been on a processor, in ns.
pub fn cpu_ns() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    tasks
        // A thread may end between the two.
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .sum()
}

/// The sum 0 + 1 + ... + (n-1), which the channel workloads check.
pub const fn sum_below(n: usize) -> usize {
    n * (n - 1) / 2
}

/// The p-th percentile of sorted latencies in ns, in microseconds.
pub fn percentile_us(sorted_ns: &[u64], p: f64) -> f64 {
    if sorted_ns.is_empty() {
        return 0.0;
    }
    let i = ((sorted_ns.len() as f64 * p) as usize).min(sorted_ns.len() - 1);
    sorted_ns[i] as f64 / 1e3
}
