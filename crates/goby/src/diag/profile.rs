//! Profiles that existing tools read: where goroutines are, and where they wait for how long.

mod pprof;

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::time::{Duration, Instant, SystemTime};

use goby_runtime::{CensusFilter, CensusGroup, StackTrace, Status, WaitReason};

use crate::context::Context;
use crate::time;

/// The shortest time between two looks: Go's sampling of processors has the same.
const INTERVAL: Duration = Duration::from_millis(10);
/// A look may take one part in so many of the time.
const SHARE: u32 = 20;
/// The longest time between two looks.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// A profile: stacks with how many goroutines have each, or with how long goroutines waited there.
///
/// [`encode`](Profile::encode) gives it in the format of pprof, which `go tool pprof`, Speedscope,
/// Grafana and others read.
///
/// ```
/// use goby::diag::Profile;
///
/// let runtime = goby::Runtime::builder().workers(1).build()?;
/// runtime.run(|| {
///     let (tx, rx) = goby::chan::bounded::<u32>(0);
///     goby::go(move || rx.recv());
///     // Until it has begun to wait.
///     let waits = || Profile::goroutines().samples().iter().any(|sample| sample.status.as_str() == "chan receive");
///     while !waits() {
///         goby::yield_now();
///     }
///     let bytes = Profile::goroutines().encode();
///     assert!(bytes.windows(12).any(|part| part == b"chan receive"));
///     drop(tx);
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Profile {
    kind: ProfileKind,
    samples: Vec<ProfileSample>,
    taken_at: SystemTime,
    lasted: Duration,
}

/// What a [`Profile`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProfileKind {
    /// Where goroutines are: a sample has one value, how many.
    Goroutine,
    /// Where goroutines wait for each other: a sample has two values, how many were seen in all
    /// looks, and how long they waited, in nanoseconds.
    Block,
    /// As [`Block`](ProfileKind::Block), for locks alone.
    Mutex,
}

impl ProfileKind {
    /// Returns the names of a sample's values, each with its unit.
    ///
    /// ```
    /// use goby::diag::ProfileKind;
    /// assert_eq!(ProfileKind::Goroutine.values(), [("goroutine", "count")]);
    /// ```
    pub fn values(self) -> &'static [(&'static str, &'static str)] {
        match self {
            ProfileKind::Goroutine => &[("goroutine", "count")],
            ProfileKind::Block | ProfileKind::Mutex => &[("seen", "count"), ("delay", "nanoseconds")],
        }
    }

    /// Returns whether goroutines of this status count.
    fn includes(self, status: Status) -> bool {
        use WaitReason as W;
        let Status::Waiting(reason) = status else { return self == ProfileKind::Goroutine };
        let is_lock = matches!(reason, W::MutexLock | W::RwLockRead | W::RwLockWrite);
        match self {
            ProfileKind::Goroutine => true,
            ProfileKind::Mutex => is_lock,
            ProfileKind::Block => {
                is_lock
                    || matches!(reason, W::ChanReceive | W::ChanSend | W::ChanReceiveNil | W::ChanSendNil)
                    || matches!(reason, W::Select | W::SelectNoCases | W::CondWait | W::WaitGroupWait)
                    || matches!(reason, W::SemaphoreAcquire | W::BarrierWait | W::LatchWait | W::PoolGet)
                    || matches!(reason, W::OnceWait | W::Join | W::ScopeWait | W::ContextDone)
            }
        }
    }
}

/// The goroutines that have one stack, were started at one place, and have one status.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProfileSample {
    /// Their stack; none if they have not run yet, or run where they could not be looked at.
    pub stack: Option<StackTrace>,
    /// What they do.
    pub status: Status,
    /// Where they were started.
    pub started_at: &'static Location<'static>,
    /// Their values: see [`ProfileKind::values`].
    pub values: Vec<u64>,
}

/// Something that stands for a stack.
struct Spot<'a> {
    name: &'static str,
    file: &'a str,
    line: u32,
}

impl ProfileSample {
    /// Returns what stands for its stack if that has no calls of the program: where it was started.
    fn spot(&self) -> Spot<'_> {
        let name = match self.status {
            Status::Unstarted => "[unstarted]",
            Status::Running => "[running]",
            _ => "[unknown]",
        };
        Spot { name, file: self.started_at.file(), line: self.started_at.line() }
    }
}

impl Profile {
    /// Takes a profile of all goroutines of the process: where they are. Source: Go's
    /// `pprof.Lookup("goroutine")`.
    ///
    /// It is exact up to some thousands of goroutines that were started at one place. Beyond that
    /// some of the stacks stand for the others.
    ///
    /// ```
    /// use goby::diag::Profile;
    /// let runtime = goby::Runtime::builder().workers(1).build()?;
    /// let profile = runtime.run(Profile::goroutines);
    /// assert!(profile.samples().iter().map(|sample| sample.values[0]).sum::<u64>() >= 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As [`CensusFilter::count`].
    pub fn goroutines() -> Profile {
        let taken_at = SystemTime::now();
        let census = CensusFilter::new().stacks(4096).count();
        let samples = census.groups().iter().flat_map(samples_of).collect();
        Profile { kind: ProfileKind::Goroutine, samples, taken_at, lasted: Duration::ZERO }
    }

    /// Takes a profile of where goroutines wait for each other, for some time: at channels,
    /// selects, locks, joins and the like, but not in sleeps, for sockets or in blocking calls.
    ///
    /// It looks every 10 ms, or less often if a look takes long, so that looking takes 5 % of the
    /// time at most; nothing is recorded in between, and a goroutine that waits pays for it only
    /// when it is looked at. A wait counts while it lasts, so a goroutine that waits for good is
    /// in it from the first look on. Source: Go's `pprof.Lookup("block")`, which counts a wait when
    /// it has ended.
    ///
    /// ```
    /// use goby::Context;
    /// use goby::diag::Profile;
    /// use std::time::Duration;
    ///
    /// let runtime = goby::Runtime::builder().workers(1).build()?;
    /// runtime.run(|| {
    ///     let (tx, rx) = goby::chan::bounded::<u32>(0);
    ///     goby::go(move || rx.recv());
    ///     let profile = Profile::blocked(&Context::background(), Duration::from_millis(50));
    ///     let delay = |status: &str| -> u64 {
    ///         let samples = profile.samples().iter().filter(|sample| sample.status.as_str() == status);
    ///         samples.map(|sample| sample.values[1]).sum()
    ///     };
    ///     assert!(delay("chan receive") > 0);
    ///     assert_eq!(delay("sleep"), 0);
    ///     drop(tx);
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine for that time.
    ///
    /// # Cancellation
    ///
    /// When the context is done, the profile is what was seen until then.
    pub fn blocked(ctx: &Context, time: Duration) -> Profile {
        watch(ctx, time, ProfileKind::Block)
    }

    /// Takes a profile of where goroutines wait for locks: [`blocked`](Profile::blocked), for
    /// [`Mutex`](crate::sync::Mutex) and [`RwLock`](crate::sync::RwLock) alone. Source: Go's
    /// `pprof.Lookup("mutex")`, which shows where the locks were held.
    ///
    /// ```
    /// use goby::Context;
    /// use goby::diag::Profile;
    /// use std::time::Duration;
    /// let profile = Profile::locks(&Context::background(), Duration::from_millis(20));
    /// assert!(profile.samples().is_empty());
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine for that time.
    ///
    /// # Cancellation
    ///
    /// When the context is done, the profile is what was seen until then.
    pub fn locks(ctx: &Context, time: Duration) -> Profile {
        watch(ctx, time, ProfileKind::Mutex)
    }

    /// Returns what it tells.
    pub fn kind(&self) -> ProfileKind {
        self.kind
    }

    /// Returns the samples, in no order.
    pub fn samples(&self) -> &[ProfileSample] {
        &self.samples
    }

    /// Returns how long it was taken for.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// Encodes it in the format of pprof, `profile.proto`, not compressed. Each sample has the
    /// labels `state` and `started`.
    ///
    /// This looks the names of the functions up, which takes milliseconds, and where a program is
    /// large seconds: run it in [`blocking`](crate::blocking) where other goroutines should not
    /// wait.
    ///
    /// ```
    /// use goby::diag::Profile;
    /// let runtime = goby::Runtime::builder().workers(1).build()?;
    /// let bytes = runtime.run(|| Profile::goroutines().encode());
    /// assert!(bytes.windows(9).any(|part| part == b"goroutine"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        pprof::encode(self)
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("kind", &self.kind)
            .field("samples", &self.samples.len())
            .field("lasted", &self.lasted)
            .finish_non_exhaustive()
    }
}

/// Returns the samples of a group: so that their sum is the number of goroutines in it.
fn samples_of(group: &CensusGroup) -> Vec<ProfileSample> {
    let sample =
        |stack, n| ProfileSample { stack, status: group.status, started_at: group.started_at, values: vec![n] };
    if group.stacks.is_empty() {
        return vec![sample(None, group.n)];
    }
    let (mut exact, mut given) = (0.0, 0);
    let estimates = group.estimate().map(|(stack, n)| {
        exact += n;
        // The rest of a rounding goes to the next one.
        let n = exact.round() as u64 - given;
        given += n;
        (stack, n)
    });
    estimates.filter(|(_, n)| *n > 0).map(|(stack, n)| sample(Some(stack.clone()), n)).collect()
}

/// Looks at those that wait, again and again.
fn watch(ctx: &Context, time: Duration, kind: ProfileKind) -> Profile {
    let (taken_at, start) = (SystemTime::now(), Instant::now());
    let mut seen: HashMap<_, (ProfileSample, f64, f64)> = HashMap::new();
    let mut last = start;
    let mut interval = INTERVAL;
    while start.elapsed() < time {
        if time::sleep_ctx(ctx, interval.min(time.saturating_sub(start.elapsed()))).is_err() {
            break;
        }
        let now = Instant::now();
        let passed = now.duration_since(last).as_nanos() as f64;
        last = now;
        let census = CensusFilter::new().count();
        for group in census.groups().iter().filter(|group| kind.includes(group.status)) {
            for (stack, n) in group.estimate() {
                let key = (stack.clone(), group.status, std::ptr::from_ref(group.started_at).addr());
                let (_, looks, delay) = seen.entry(key).or_insert_with(|| {
                    let (status, started_at) = (group.status, group.started_at);
                    let sample = ProfileSample { stack: Some(stack.clone()), status, started_at, values: Vec::new() };
                    (sample, 0.0, 0.0)
                });
                *looks += n;
                *delay += n * passed;
            }
        }
        interval = (now.elapsed() * SHARE).clamp(INTERVAL, LONGEST_INTERVAL);
    }
    let with_values = |(sample, looks, delay): (ProfileSample, f64, f64)| ProfileSample {
        values: vec![looks.round() as u64, delay.round() as u64],
        ..sample
    };
    let samples = seen.into_values().map(with_values).collect();
    Profile { kind, samples, taken_at, lasted: start.elapsed() }
}
