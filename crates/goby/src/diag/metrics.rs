//! Figures of the process, as data and in Prometheus' text format.
//!
//! All come from counters that the runtimes keep anyway, and from `/proc`: taking them asks no
//! worker, and parks nobody.

use std::fmt;
use std::fs;
use std::time::Duration;

use goby_runtime::{RuntimeLoad, WorkerLoad, loads};

/// Whether a figure tells of now or of all the time until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It goes up and down.
    Gauge,
    /// It goes up only, until a runtime is dropped: the figures of that one are gone then.
    Counter,
}

/// One figure, for the process or for each of several things.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name: that of Go's package `runtime/metrics` where Go has the same figure. It is a path
    /// and a unit, such as `/sched/goroutines:goroutines`. What Go has not is below `/goby/`.
    pub name: &'static str,
    /// What it tells, in a sentence.
    pub help: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// Its values, each with labels that say of what it tells; one value without labels if it is
    /// of the process.
    pub values: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Metric {
    /// Returns the sum of its values.
    ///
    /// ```
    /// use goby::diag;
    /// let metrics = diag::metrics();
    /// let created = metrics.get("/sched/goroutines-created:goroutines").unwrap();
    /// assert!(created.total() >= 0.0);
    /// ```
    pub fn total(&self) -> f64 {
        self.values.iter().map(|(_, value)| value).sum()
    }

    /// Returns the name in Prometheus' form, by the rule of Go's client library:
    /// `/sched/goroutines:goroutines` becomes `go_sched_goroutines_goroutines`, and what is below
    /// `/goby/` begins with `goby_`.
    ///
    /// ```
    /// use goby::diag;
    /// let metrics = diag::metrics();
    /// let goroutines = metrics.get("/sched/goroutines:goroutines").unwrap();
    /// assert_eq!(goroutines.prometheus_name(), "go_sched_goroutines_goroutines");
    /// ```
    pub fn prometheus_name(&self) -> String {
        let path = self.name.trim_start_matches('/');
        let start = if path.starts_with("goby/") { "" } else { "go_" };
        let end = if self.kind == MetricKind::Counter { "_total" } else { "" };
        format!("{start}{}{end}", path.replace(['/', '-', ':'], "_"))
    }
}

/// The figures of the process at one moment: see [`metrics`].
#[derive(Clone, Debug)]
pub struct Metrics {
    all: Vec<Metric>,
}

impl Metrics {
    /// Returns all figures.
    pub fn iter(&self) -> std::slice::Iter<'_, Metric> {
        self.all.iter()
    }

    /// Returns the figure of this name.
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.all.iter().find(|metric| metric.name == name)
    }
}

impl<'a> IntoIterator for &'a Metrics {
    type Item = &'a Metric;
    type IntoIter = std::slice::Iter<'a, Metric>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Returns the figures of the process: goroutines, workers, blocking calls, memory.
///
/// As text they are what Prometheus reads (text format 0.0.4). Source: Go's package
/// `runtime/metrics`.
///
/// ```
/// use goby::diag;
///
/// let runtime = goby::Runtime::builder().workers(2).build()?;
/// runtime.run(|| {
///     let metrics = diag::metrics();
///     assert!(metrics.get("/sched/goroutines:goroutines").unwrap().total() >= 1.0);
///     let text = metrics.to_string();
///     assert!(text.contains("# TYPE go_sched_gomaxprocs_threads gauge"), "{text}");
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn metrics() -> Metrics {
    let mut loads = loads();
    name_apart(&mut loads);
    let mut all = of_process(&loads);
    all.extend(of_runtimes(&loads));
    all.extend(of_workers(&loads));
    all.extend(of_memory());
    Metrics { all }
}

/// Gives runtimes of one name different ones, since no two values may have the same labels.
fn name_apart(loads: &mut [RuntimeLoad]) {
    for i in 1..loads.len() {
        let (before, [load, ..]) = loads.split_at_mut(i) else { return };
        let plain = load.name.clone();
        let mut number = 2;
        while before.iter().any(|other| other.name == load.name) {
            load.name = format!("{plain}#{number}");
            number += 1;
        }
    }
}

fn metric(
    name: &'static str,
    kind: MetricKind,
    help: &'static str,
    values: Vec<(Vec<(&'static str, String)>, f64)>,
) -> Metric {
    Metric { name, help, kind, values }
}

/// What Go has, too, as one figure of all runtimes.
fn of_process(loads: &[RuntimeLoad]) -> Vec<Metric> {
    use MetricKind::{Counter, Gauge};
    let workers = || loads.iter().flat_map(|load| &load.workers);
    let sum = |of: fn(&RuntimeLoad) -> usize| loads.iter().map(of).sum::<usize>() as f64;
    let one = |value| vec![(Vec::new(), value)];
    let unstarted = workers().map(|worker| worker.runnable + worker.unstarted).sum::<usize>() as f64;
    vec![
        metric(
            "/sched/goroutines:goroutines",
            Gauge,
            "Goroutines that have been started and have not ended.",
            one(sum(|load| load.goroutines)),
        ),
        metric(
            "/sched/goroutines-created:goroutines",
            Counter,
            "Goroutines that were ever started.",
            one(loads.iter().map(|load| load.created).sum::<u64>() as f64),
        ),
        metric(
            "/sched/goroutines/runnable:goroutines",
            Gauge,
            "Goroutines and futures that wait for a worker, as far as workers have last looked.",
            one(unstarted + sum(|load| load.injected)),
        ),
        metric(
            "/sched/gomaxprocs:threads",
            Gauge,
            "Workers that the runtimes were made with.",
            one(sum(|load| load.n_configured)),
        ),
        metric(
            "/sched/threads/total:threads",
            Gauge,
            "Threads of the runtimes: workers, monitors, and those for blocking calls.",
            one(sum(|load| load.workers.len() + 1 + load.helper_threads)),
        ),
    ]
}

fn of_runtimes(loads: &[RuntimeLoad]) -> Vec<Metric> {
    use MetricKind::{Counter, Gauge};
    let each = |of: fn(&RuntimeLoad) -> f64| {
        loads.iter().map(|load| (vec![("runtime", load.name.clone())], of(load))).collect()
    };
    vec![
        metric("/goby/futures:futures", Gauge, "Spawned futures that have not ended.", each(|load| load.tasks as f64)),
        metric(
            "/goby/blocking/calls:calls",
            Gauge,
            "Blocking calls that run, or wait for a thread.",
            each(|load| load.blocking_calls as f64),
        ),
        metric(
            "/goby/blocking/queued:calls",
            Gauge,
            "Blocking calls that wait for a thread.",
            each(|load| load.blocking_queued as f64),
        ),
        metric(
            "/goby/blocking/threads:threads",
            Gauge,
            "Threads for blocking calls.",
            each(|load| load.helper_threads as f64),
        ),
        metric(
            "/goby/thefts:thefts",
            Counter,
            "How often a worker has taken unstarted goroutines from another.",
            each(|load| load.thefts as f64),
        ),
    ]
}

fn of_workers(loads: &[RuntimeLoad]) -> Vec<Metric> {
    use MetricKind::{Counter, Gauge};
    let each = |of: fn(&WorkerLoad) -> Option<f64>| {
        let values = loads.iter().flat_map(|load| {
            load.workers.iter().filter_map(move |worker| {
                let labels = vec![("runtime", load.name.clone()), ("worker", worker.index.to_string())];
                Some((labels, of(worker)?))
            })
        });
        values.collect()
    };
    vec![
        metric(
            "/goby/worker/goroutines:goroutines",
            Gauge,
            "Goroutines that have begun to run on a worker, and have not ended.",
            each(|worker| Some(worker.goroutines as f64)),
        ),
        metric(
            "/goby/worker/runnable:goroutines",
            Gauge,
            "A worker's started goroutines that were runnable when it last looked.",
            each(|worker| Some(worker.runnable as f64)),
        ),
        metric(
            "/goby/worker/unstarted:goroutines",
            Gauge,
            "Goroutines and futures in a worker's queue that have not begun to run.",
            each(|worker| Some(worker.unstarted as f64)),
        ),
        metric(
            "/goby/worker/sockets:sockets",
            Gauge,
            "Sockets that are registered with a worker.",
            each(|worker| Some(worker.sockets as f64)),
        ),
        metric(
            "/goby/worker/slices:slices",
            Counter,
            "Time slices that began on a worker.",
            each(|worker| Some(worker.slices as f64)),
        ),
        metric(
            "/goby/worker/ran:cpu-seconds",
            Counter,
            "How long a worker's thread has run.",
            each(|worker| worker.ran.as_ref().map(Duration::as_secs_f64)),
        ),
        metric(
            "/goby/worker/starved:seconds",
            Counter,
            "How long a worker's thread has waited for a processor.",
            each(|worker| worker.starved.as_ref().map(Duration::as_secs_f64)),
        ),
    ]
}

/// What the kernel tells of the process; nothing where there is no `/proc`.
fn of_memory() -> Vec<Metric> {
    let Ok(text) = fs::read_to_string("/proc/self/statm") else { return Vec::new() };
    let mut pages = text.split_whitespace().map_while(|word| word.parse::<u64>().ok());
    let (Some(mapped), Some(resident)) = (pages.next(), pages.next()) else { return Vec::new() };
    let bytes = |pages: u64| vec![(Vec::new(), (pages * rustix::param::page_size() as u64) as f64)];
    vec![
        metric(
            "/goby/memory/resident:bytes",
            MetricKind::Gauge,
            "Memory of the process that is resident.",
            bytes(resident),
        ),
        metric(
            "/goby/memory/mapped:bytes",
            MetricKind::Gauge,
            "Address space of the process; that of free stacks counts.",
            bytes(mapped),
        ),
    ]
}

/// Prints all figures in Prometheus' text format, version 0.0.4.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for metric in &self.all {
            let name = metric.prometheus_name();
            let kind = match metric.kind {
                MetricKind::Gauge => "gauge",
                MetricKind::Counter => "counter",
            };
            writeln!(f, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help)?;
            for (labels, value) in &metric.values {
                f.write_str(&name)?;
                for (i, (key, text)) in labels.iter().enumerate() {
                    write!(f, "{}{key}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(text))?;
                }
                writeln!(f, "{} {value}", if labels.is_empty() { "" } else { "}" })?;
            }
        }
        Ok(())
    }
}

/// Escapes a label's value as the format asks.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_labels_are_written_as_prometheus_reads_them() {
        let metrics = Metrics {
            all: vec![
                metric("/a/b-c:cpu-seconds", MetricKind::Counter, "Help.", vec![(Vec::new(), 1.5)]),
                metric(
                    "/goby/x:y",
                    MetricKind::Gauge,
                    "More.",
                    vec![(vec![("k", "a\"\\\nb".to_owned()), ("l", "2".to_owned())], 3.0)],
                ),
            ],
        };
        let text = "# HELP go_a_b_c_cpu_seconds_total Help.\n# TYPE go_a_b_c_cpu_seconds_total counter\n\
                    go_a_b_c_cpu_seconds_total 1.5\n# HELP goby_x_y More.\n# TYPE goby_x_y gauge\n\
                    goby_x_y{k=\"a\\\"\\\\\\nb\",l=\"2\"} 3\n";
        assert_eq!(metrics.to_string(), text);
    }
}
