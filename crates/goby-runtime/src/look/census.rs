//! A census: goroutines counted by where they were started and what they do, from their records.
//!
//! Each worker counts its own, so a million goroutines cost a walk over their records, not a
//! million entries. Only some of each group have their stacks taken: these show where the group
//! waits.

use std::collections::HashMap;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use crate::base::stack_trace::StackTrace;
use crate::base::{policy, tsan};
use crate::engine::attributes;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::reach::reported_flags;
use crate::engine::run_queue::Unstarted;
use crate::engine::runtimes;
use crate::engine::shared::Shared;
use crate::engine::worker::{Worker, current_id};
use crate::look::ask::ask;
use crate::look::inspect::{GoroutineInfo, Silent, Status};

/// On each worker, so many stacks are taken of each group, unless the filter says otherwise.
const STACKS: usize = 64;
/// Beyond that, the stack of every so manieth goroutine is taken, so that those that began late
/// are seen, too.
const STRIDE: u64 = 1024;
/// So many goroutines of each group are kept as they are.
const EXAMPLES: usize = 8;
/// So many different labels are counted on each worker: a label may be a request's number.
const LABELS: usize = 1000;

/// A key and a value.
type Label = (Arc<str>, Arc<str>);

/// Goroutines of all runtimes of the process, counted.
///
/// ```
/// use goby::diag::{self, Status};
///
/// let runtime = goby::Runtime::builder().workers(1).build()?;
/// runtime.run(|| {
///     let census = diag::census();
///     let me = census.groups().iter().find(|group| group.status == Status::Running).unwrap();
///     assert_eq!(me.n, 1);
///     assert!(census.n() >= 1);
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Census {
    groups: Vec<CensusGroup>,
    labels: Vec<(Label, u64)>,
    silent: Vec<Silent>,
    timers: usize,
}

/// The goroutines that were started at one place and have one [`Status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CensusGroup {
    /// Where they were started.
    pub started_at: &'static Location<'static>,
    /// What they do.
    pub status: Status,
    /// How many they are.
    pub n: u64,
    /// How many have been parked for how long: see [`WAITS`](CensusGroup::WAITS).
    pub waits: [u64; CensusGroup::WAITS.len() + 1],
    /// The longest of these waits.
    pub longest: Duration,
    /// How many have a timer that ends their wait.
    pub with_deadline: u64,
    /// How many wait until a context is done, among other things.
    pub reached_by_context: u64,
    /// The first ones that were come upon, and the one that has waited for longest.
    pub examples: Vec<GoroutineInfo>,
    /// Their stacks, with how many have each, the most frequent first. Not all stacks are taken if
    /// there are many goroutines: see [`n_stacks`](CensusGroup::n_stacks).
    pub stacks: Vec<(StackTrace, u64)>,
}

impl CensusGroup {
    /// The bounds between the entries of [`waits`](CensusGroup::waits): a wait that has lasted
    /// below the first one counts in the first entry.
    pub const WAITS: [Duration; 5] = [
        Duration::from_secs(1),
        Duration::from_secs(10),
        Duration::from_secs(60),
        Duration::from_secs(600),
        Duration::from_secs(3600),
    ];

    /// Counts the stacks that were taken.
    pub fn n_stacks(&self) -> u64 {
        self.stacks.iter().map(|(_, n)| n).sum()
    }

    /// Returns the stacks with how many goroutines have each, if those whose stacks were not taken
    /// are like those whose stacks were. It is exact if all were taken.
    pub fn estimate(&self) -> impl Iterator<Item = (&StackTrace, f64)> {
        let scale = self.n as f64 / self.n_stacks() as f64;
        self.stacks.iter().map(move |(stack, n)| (stack, *n as f64 * scale))
    }
}

impl Census {
    /// Returns the groups, the largest first.
    pub fn groups(&self) -> &[CensusGroup] {
        &self.groups
    }

    /// Counts the goroutines in all groups.
    pub fn n(&self) -> u64 {
        self.groups.iter().map(|group| group.n).sum()
    }

    /// Returns labels, as key and value, with how many goroutines have each, the most frequent
    /// first. Labels that few have may be missing if there are more than a thousand.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.labels.iter().map(|((key, value), n)| (&**key, &**value, *n))
    }

    /// Returns the workers that have not answered. Of their goroutines, only the running one is
    /// counted.
    pub fn silent_workers(&self) -> &[Silent] {
        &self.silent
    }

    /// Counts the timers that are armed, sleeps and deadlines included.
    pub fn timers(&self) -> usize {
        self.timers
    }
}

/// Which goroutines are counted in a [`Census`].
///
/// ```
/// use goby::diag::CensusFilter;
/// use goby::goroutine::with_labels;
///
/// let runtime = goby::Runtime::builder().workers(1).build()?;
/// runtime.run(|| {
///     let n = || CensusFilter::new().label("job", "7").count().n();
///     assert_eq!((n(), with_labels([("job", "7")], n)), (0, 1));
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CensusFilter {
    label: Option<(String, String)>,
    started_at: String,
    status: String,
    waited: Duration,
    stacks: usize,
}

impl Default for CensusFilter {
    fn default() -> CensusFilter {
        CensusFilter::new()
    }
}

impl CensusFilter {
    /// Makes a filter that all goroutines pass.
    pub fn new() -> CensusFilter {
        CensusFilter {
            label: None,
            started_at: String::new(),
            status: String::new(),
            waited: Duration::ZERO,
            stacks: STACKS,
        }
    }

    /// Counts only those with this label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> CensusFilter {
        self.label = Some((key.into(), value.into()));
        self
    }

    /// Counts only those that were started at a place whose text contains this.
    #[must_use]
    pub fn started_at(mut self, part: impl Into<String>) -> CensusFilter {
        self.started_at = part.into();
        self
    }

    /// Counts only those with a status whose text contains this.
    #[must_use]
    pub fn status(mut self, part: impl Into<String>) -> CensusFilter {
        self.status = part.into();
        self
    }

    /// Counts only those that have been parked for at least this time.
    #[must_use]
    pub fn waited(mut self, at_least: Duration) -> CensusFilter {
        self.waited = at_least;
        self
    }

    /// Takes so many stacks of each group on each worker. Default: 64.
    #[must_use]
    pub fn stacks(mut self, n: usize) -> CensusFilter {
        self.stacks = n;
        self
    }

    /// Counts.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread, until all workers have answered: at most 100 ms, if a
    /// worker does not come to a goby call. A worker answers between two goroutines. It counts some
    /// millions of goroutines per second, and takes some hundred thousand stacks per second.
    pub fn count(self) -> Census {
        self.count_in(&runtimes::alive())
    }

    pub(crate) fn count_in(self, runtimes: &[&'static Shared]) -> Census {
        let _ignore = tsan::ignore();
        let asker = current_id();
        let filter = Arc::new(self);
        let own = filter.clone();
        let answers = ask(runtimes, false, move |worker| worker.count(&filter, asker));
        let mut all = Tally::new(own);
        for shared in runtimes {
            // SAFETY: an item in a queue is alive, and its lock is held.
            shared.for_each_homeless(|item| unsafe { all.add_unstarted(item) });
        }
        let silent = answers.silent;
        answers.running.into_iter().for_each(|info| all.add_info(info));
        answers.given.into_iter().for_each(|part| all.join(part));
        let _heed = tsan::heed();
        attributes::can_be_read();
        all.into_census(silent)
    }
}

/// Counts the goroutines of all runtimes of the process, by where they were started and what they
/// do. [`CensusFilter`] counts some of them.
///
/// It is no snapshot: goroutines go on while it is made.
///
/// ```
/// let runtime = goby::Runtime::builder().workers(1).build()?;
/// assert!(runtime.run(|| goby::diag::census().n()) >= 1);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// As [`CensusFilter::count`].
pub fn census() -> Census {
    CensusFilter::new().count()
}

/// A census that is being made.
struct Tally {
    filter: Arc<CensusFilter>,
    now: u64,
    /// By the address of the place of start.
    groups: HashMap<(usize, Status), Group>,
    /// Whether a place of start, by its address, passes the filter.
    places: HashMap<usize, bool>,
    labels: HashMap<Label, u64>,
    timers: usize,
}

struct Group {
    counts: CensusGroup,
    /// The one that has waited for longest: its index among the worker's goroutines.
    longest_at: Option<usize>,
    stacks: HashMap<StackTrace, u64>,
}

impl Group {
    fn new(started_at: &'static Location<'static>, status: Status) -> Group {
        let counts = CensusGroup {
            started_at,
            status,
            n: 0,
            waits: Default::default(),
            longest: Duration::ZERO,
            with_deadline: 0,
            reached_by_context: 0,
            examples: Vec::new(),
            stacks: Vec::new(),
        };
        Group { counts, longest_at: None, stacks: HashMap::new() }
    }

    fn count(&mut self, waited: Option<Duration>, index: Option<usize>) {
        self.counts.n += 1;
        if let Some(waited) = waited {
            self.counts.waits[CensusGroup::WAITS.iter().filter(|&&bound| bound <= waited).count()] += 1;
            if waited > self.counts.longest {
                self.counts.longest = waited;
                self.longest_at = index;
            }
        }
    }

    fn into_counts(self) -> CensusGroup {
        let mut counts = self.counts;
        counts.stacks = self.stacks.into_iter().collect();
        // By their text in the end, so that two looks show them in the same order.
        counts.stacks.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.addresses().cmp(b.addresses())));
        counts.examples.sort_by_key(GoroutineInfo::id);
        counts.examples.dedup_by_key(|info| info.id());
        counts
    }
}

impl Tally {
    fn new(filter: Arc<CensusFilter>) -> Tally {
        Tally {
            filter,
            now: policy::nanos(policy::now()),
            groups: HashMap::new(),
            places: HashMap::new(),
            labels: HashMap::new(),
            timers: 0,
        }
    }

    /// Returns the group that a goroutine belongs to; none if it does not pass the filter.
    fn group(&mut self, g: &Goroutine, status: Status) -> Option<(&mut Group, Option<Duration>)> {
        let age = Duration::from_nanos(self.now.saturating_sub(g.notes.since.get()));
        let waited = matches!(status, Status::Waiting(_)).then_some(age);
        if self.filter.waited > waited.unwrap_or_default() {
            return None;
        }
        let place = g.origin.spawned_at;
        let filter = &*self.filter;
        if !filter.started_at.is_empty() {
            let passes = || place.to_string().contains(&filter.started_at);
            if !*self.places.entry(ptr::from_ref(place).addr()).or_insert_with(passes) {
                return None;
            }
        }
        if !filter.status.is_empty() && !status.as_str().contains(&filter.status) {
            return None;
        }
        // The goroutine keeps a reference, so this one is not the last: dropping it runs no code of
        // the program.
        let inherited = g.attributes.inherited();
        let labels = inherited.as_ref().map_or(&[][..], |inherited| &inherited.labels);
        if let Some((key, value)) = &filter.label
            && !labels.iter().any(|(k, v)| **k == **key && **v == **value)
        {
            return None;
        }
        for label in labels {
            if let Some(n) = self.labels.get_mut(label) {
                *n += 1;
            } else if self.labels.len() < LABELS {
                self.labels.insert(label.clone(), 1);
            }
        }
        let group = self.groups.entry((ptr::from_ref(place).addr(), status));
        Some((group.or_insert_with(|| Group::new(place, status)), waited))
    }

    /// Adds a goroutine, which has this index among those of its worker.
    ///
    /// # Safety
    ///
    /// The caller is the scheduler of the goroutine's home, where it has started and not ended.
    unsafe fn add(&mut self, worker: &Worker, g: NonNull<Goroutine>, index: usize, status: Status) {
        // SAFETY: not ended, so alive.
        let header = unsafe { g.as_ref() };
        let (now, most) = (self.now, self.filter.stacks);
        let Some((group, waited)) = self.group(header, status) else { return };
        group.count(waited, Some(index));
        let n = group.counts.n;
        let mut stack = None;
        if status != Status::Running && (n <= most as u64 || most > 0 && n.is_multiple_of(STRIDE)) {
            // SAFETY: by contract; it does not run, since the scheduler does.
            stack = unsafe { worker.capture(g) };
        }
        if let Some(stack) = &stack {
            *group.stacks.entry(stack.clone()).or_default() += 1;
        }
        if group.counts.examples.len() < EXAMPLES {
            // SAFETY: by contract.
            let mut info = unsafe { GoroutineInfo::of(g, status, now) };
            info.stack = stack;
            group.counts.examples.push(info);
        }
        if matches!(status, Status::Waiting(_)) {
            // SAFETY: by contract; a goroutine that waits is suspended.
            let flags = unsafe { reported_flags(header) };
            group.counts.with_deadline += u64::from(flags.has_deadline());
            group.counts.reached_by_context += u64::from(flags.has_context());
        }
    }

    /// # Safety
    ///
    /// The caller holds the lock of the queue that the item is in.
    unsafe fn add_unstarted(&mut self, item: &Unstarted) {
        let Unstarted::Goroutine(g) = item else { return };
        let now = self.now;
        // SAFETY: an item in a queue is alive, and nobody else refers to it.
        let header = unsafe { g.as_ref() };
        let Some((group, _)) = self.group(header, Status::Unstarted) else { return };
        group.count(None, None);
        if group.counts.examples.len() < EXAMPLES {
            // SAFETY: as above.
            group.counts.examples.push(unsafe { GoroutineInfo::of(*g, Status::Unstarted, now) });
        }
    }

    /// Adds what a silent worker runs, of which neither labels nor name are known.
    fn add_info(&mut self, info: GoroutineInfo) {
        let filter = &*self.filter;
        if filter.label.is_some()
            || !filter.waited.is_zero()
            || !info.started_at.to_string().contains(&filter.started_at)
            || !info.status.as_str().contains(&filter.status)
        {
            return;
        }
        let key = (ptr::from_ref(info.started_at).addr(), info.status);
        let group = self.groups.entry(key).or_insert_with(|| Group::new(info.started_at, info.status));
        group.count(None, None);
        if let Some(stack) = &info.stack {
            *group.stacks.entry(stack.clone()).or_default() += 1;
        }
        group.counts.examples.push(info);
    }

    /// Adds what another has counted.
    fn join(&mut self, part: Tally) {
        for (key, other) in part.groups {
            let (place, status) = (other.counts.started_at, other.counts.status);
            let group = self.groups.entry(key).or_insert_with(|| Group::new(place, status));
            let counts = &mut group.counts;
            counts.n += other.counts.n;
            counts.waits.iter_mut().zip(other.counts.waits).for_each(|(n, m)| *n += m);
            counts.longest = counts.longest.max(other.counts.longest);
            counts.with_deadline += other.counts.with_deadline;
            counts.reached_by_context += other.counts.reached_by_context;
            counts.examples.extend(other.counts.examples);
            other.stacks.into_iter().for_each(|(stack, n)| *group.stacks.entry(stack).or_default() += n);
        }
        part.labels.into_iter().for_each(|(label, n)| *self.labels.entry(label).or_default() += n);
        self.timers += part.timers;
    }

    fn into_census(self, silent: Vec<Silent>) -> Census {
        let mut groups: Vec<_> = self.groups.into_values().map(Group::into_counts).collect();
        let name = |group: &CensusGroup| (group.started_at.to_string(), group.status.as_str());
        groups.sort_by(|a, b| b.n.cmp(&a.n).then_with(|| name(a).cmp(&name(b))));
        let mut labels: Vec<_> = self.labels.into_iter().collect();
        labels.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        Census { groups, labels, silent, timers: self.timers }
    }
}

impl Worker {
    /// Counts the goroutines that are here.
    fn count(&self, filter: &Arc<CensusFilter>, asker: Option<GoroutineId>) -> Tally {
        let mut tally = Tally::new(filter.clone());
        let mut runnable = self.runnable();
        runnable.sort_unstable();
        let started = self.started();
        for (index, &g) in started.iter().enumerate() {
            // SAFETY: in the registry, so alive; this worker is its home.
            let header = unsafe { g.as_ref() };
            let status = Status::of(header, asker, || runnable.binary_search(&g).is_ok());
            // SAFETY: as above; the scheduler calls.
            unsafe { tally.add(self, g, index, status) };
        }
        for group in tally.groups.values_mut() {
            if let Some(index) = group.longest_at.take() {
                let (g, status) = (started[index], group.counts.status);
                // SAFETY: as above; no goroutine has run since.
                group.counts.examples.push(unsafe { self.info_with_stack(g, status, tally.now) });
            }
        }
        // SAFETY: an item in a queue is alive, and its lock is held.
        self.remote.stealable.unstarted.for_each(|item| unsafe { tally.add_unstarted(item) });
        tally.timers = self.remote.timers.n();
        tally
    }

    /// # Safety
    ///
    /// As for [`Tally::add`], and it does not run.
    unsafe fn info_with_stack(&self, g: NonNull<Goroutine>, status: Status, now: u64) -> GoroutineInfo {
        // SAFETY: by contract.
        unsafe { GoroutineInfo { stack: self.capture(g), ..GoroutineInfo::of(g, status, now) } }
    }
}

impl Status {
    /// Returns the words that dumps use.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Unstarted => "unstarted",
            Status::Runnable => "runnable",
            Status::Running => "running",
            Status::Waiting(reason) => reason.as_str(),
        }
    }
}
