//! All goroutines as text, in the format of Go's tracebacks.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;

use crate::base::stack_trace::{Names, StackTrace};
use crate::engine::goroutine::Reported;
use crate::engine::runtimes;
use crate::engine::threads::WaitingThread;
use crate::look::inspect;
use crate::look::inspect::{Found, GoroutineInfo, LongWait, Silent, Status, Want};

/// So many members of a group are listed by number; further ones are only counted.
const NAMED: usize = 10;

/// All goroutines of the process, as data and, by its `Display`, as text in the format of Go's
/// tracebacks. Those that wait alike (same reason, start, name, labels and stack) are shown once,
/// with their number.
///
/// ```text
/// goroutine 18 [chan receive, 3 minutes]:
/// my_crate::consumer
///         src/main.rs:12
/// created by goroutine 1 at src/main.rs:30:5
/// ```
#[derive(Debug)]
pub struct Dump {
    found: Found,
    threads: Vec<WaitingThread>,
}

/// Looks at the goroutines of all runtimes of the process.
///
/// ```
/// let runtime = goby::Runtime::builder().workers(1).build()?;
/// let text = runtime.run(|| goby::diag::dump().to_string());
/// assert!(text.contains(" [running]:"), "{text}");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread, until all workers have answered: at most 100 ms, if a worker
/// does not come to a goby call. For such a worker the dump shows the goroutine that it runs, and
/// counts the others that are pinned to it.
pub fn dump() -> Dump {
    Dump::of(inspect::collect(&runtimes::alive(), Want::ALL))
}

impl Dump {
    pub(crate) fn of(found: Found) -> Dump {
        Dump { found, threads: Vec::new() }
    }

    pub(crate) fn with_threads(self, threads: Vec<WaitingThread>) -> Dump {
        Dump { threads, ..self }
    }

    /// Returns the goroutines, sorted by id.
    pub fn goroutines(&self) -> &[GoroutineInfo] {
        &self.found.goroutines
    }

    /// Returns the OS threads that wait in goby without a deadline, in the report of a deadlock;
    /// other dumps show none. A thread that waits in [`run`](crate::run) is none of them: its
    /// goroutine stands for it.
    pub fn threads(&self) -> &[WaitingThread] {
        &self.threads
    }

    /// Returns the workers that have not answered.
    pub fn silent_workers(&self) -> &[Silent] {
        &self.found.silent
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Names::default();
        for (i, group) in group(&self.found.goroutines).iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write_group(group, &mut names, f)?;
        }
        for (i, thread) in self.threads.iter().enumerate() {
            if i > 0 || !self.found.goroutines.is_empty() {
                writeln!(f)?;
            }
            thread.write(&mut names, f)?;
        }
        for silent in &self.found.silent {
            let (does, n_shown) =
                if silent.polls_future { ("is kept by a future", 0) } else { ("is not responding", 1) };
            write!(f, "\nworker {} {does}", silent.worker)?;
            match silent.n_started.saturating_sub(n_shown) {
                0 => writeln!(f)?,
                n => writeln!(f, ": up to {n} goroutines that are pinned to it are not shown")?,
            }
        }
        Ok(())
    }
}

/// What the goroutines of one group have in common.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    status: Status,
    parent: Option<u64>,
    started_at: *const Location<'static>,
    flags: Reported,
    name: Option<&'a str>,
    labels: &'a [(Arc<str>, Arc<str>)],
    stack: Option<&'a StackTrace>,
}

impl<'a> Alike<'a> {
    fn of(info: &'a GoroutineInfo) -> Alike<'a> {
        Alike {
            status: info.status,
            parent: info.started_by(),
            started_at: ptr::from_ref(info.started_at),
            flags: info.flags,
            name: info.name(),
            labels: info.inherited.as_ref().map_or(&[], |inherited| &inherited.labels),
            stack: info.stack.as_ref(),
        }
    }
}

/// Puts goroutines that are alike into groups, in the order of the first of each group.
pub(crate) fn group(infos: &[GoroutineInfo]) -> Vec<Vec<&GoroutineInfo>> {
    let mut groups: Vec<Vec<&GoroutineInfo>> = Vec::new();
    let mut known: HashMap<Alike<'_>, usize> = HashMap::new();
    for info in infos {
        let group = *known.entry(Alike::of(info)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(info);
    }
    groups
}

/// Writes goroutines that are alike.
pub(crate) fn write_group(group: &[&GoroutineInfo], names: &mut Names, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [first, others @ ..] = group else { return Ok(()) };
    let longest = group.iter().filter_map(|info| info.waited()).max().unwrap_or_default();
    writeln!(f, "goroutine {} [{}{}]:", first.id, first.status, LongWait(longest))?;
    if !others.is_empty() {
        let named: Vec<String> = others.iter().take(NAMED).map(|info| info.id.to_string()).collect();
        let more = if others.len() > NAMED { ", …" } else { "" };
        writeln!(f, "and {} more alike: {}{more}", others.len(), named.join(", "))?;
    }
    if let Some(name) = first.name() {
        writeln!(f, "name: {name}")?;
    }
    let labels: Vec<String> = first.labels().map(|(key, value)| format!("{key}={value}")).collect();
    if !labels.is_empty() {
        writeln!(f, "labels: {}", labels.join(", "))?;
    }
    match (&first.stack, first.status) {
        (Some(stack), _) => names.write(stack, f)?,
        (None, Status::Unstarted) => {}
        (None, _) => writeln!(f, "(its stack was not collected)")?,
    }
    write!(f, "created by ")?;
    match first.started_by() {
        Some(parent) => write!(f, "goroutine {parent}")?,
        None => write!(f, "a thread")?,
    }
    writeln!(f, " at {}", first.started_at)
}
