//! What a check is asked for.

use std::env;

use crate::explore::{self, Stats};
use crate::failure::Failure;
use crate::random::mix;
use crate::schedule::Schedule;
use crate::strategy::{Pct, Pos, RandomWalk, Replay, Strategy, Uniform};

/// The variables that set the seed and the number of executions of all checks.
const SEED: &str = "GOBY_CHECK_SEED";
const ITERATIONS: &str = "GOBY_CHECK_ITERATIONS";

/// The most steps of an execution, if the configuration says nothing.
const MAX_STEPS: u64 = 100_000;

/// How to choose who goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Random,
    Pct(u32),
    Uniform,
    Pos,
    Replay(Schedule),
}

impl Way {
    pub(crate) fn strategy(&self) -> Box<dyn Strategy> {
        match self {
            Way::Random => Box::new(RandomWalk::new()),
            Way::Pct(depth) => Box::new(Pct::new(*depth)),
            Way::Uniform => Box::new(Uniform::new()),
            Way::Pos => Box::new(Pos::new()),
            Way::Replay(schedule) => Box::new(Replay::new(schedule.choices.clone())),
        }
    }

    /// Returns its name in reports.
    pub(crate) fn name(&self) -> String {
        match self {
            Way::Random => "random walk".into(),
            Way::Pct(depth) => format!("PCT of depth {depth}"),
            Way::Uniform => "uniform random walk".into(),
            Way::Pos => "partial order sampling".into(),
            Way::Replay(_) => "replay".into(),
        }
    }
}

/// What a check is asked for: the way to choose, and its limits.
///
/// ```
/// use goby_check::{Config, check};
///
/// check(Config::pct(3, 50).max_steps(1000), || {
///     let (sender, receiver) = goby::chan::bounded(1);
///     goby::go(move || sender.send(7).unwrap());
///     assert_eq!(receiver.recv(), Ok(7));
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is run"]
pub struct Config {
    pub(crate) way: Way,
    pub(crate) iterations: u64,
    pub(crate) seed: Option<u64>,
    pub(crate) max_steps: u64,
    pub(crate) leaks: bool,
    pub(crate) stack_size: Option<usize>,
    pub(crate) trace: usize,
}

impl Config {
    fn of(way: Way, iterations: u64) -> Config {
        Config { way, iterations, seed: None, max_steps: MAX_STEPS, leaks: true, stack_size: None, trace: 40 }
    }

    /// At each point each goroutine that can go on is as likely as any other.
    pub fn random(iterations: u64) -> Config {
        Config::of(Way::Random, iterations)
    }

    /// Probabilistic concurrency testing: finds a mistake that needs an order among `depth` steps
    /// with a probability that has a lower bound. Two or three will do for most.
    ///
    /// # Panics
    ///
    /// If `depth` is zero.
    pub fn pct(depth: u32, iterations: u64) -> Config {
        assert!(depth > 0, "a depth of zero finds nothing");
        Config::of(Way::Pct(depth), iterations)
    }

    /// A random walk in which all interleavings are about equally likely, however uneven the work
    /// of the goroutines is.
    pub fn uniform(iterations: u64) -> Config {
        Config::of(Way::Uniform, iterations)
    }

    /// Partial order sampling: orders of operations that do not meet are not told apart.
    pub fn pos(iterations: u64) -> Config {
        Config::of(Way::Pos, iterations)
    }

    /// The one execution that a failure has printed.
    pub fn replay(schedule: Schedule) -> Config {
        Config { seed: Some(schedule.seed), ..Config::of(Way::Replay(schedule), 1) }
    }

    /// Sets the seed. Default: `GOBY_CHECK_SEED` from the environment, otherwise another one each
    /// time. A failure names it.
    pub fn seed(mut self, seed: u64) -> Config {
        self.seed = Some(seed);
        self
    }

    /// Sets after how many steps an execution counts as one that goes on forever. Default: 100,000.
    pub fn max_steps(mut self, n: u64) -> Config {
        self.max_steps = n;
        self
    }

    /// Sets whether a goroutine that still waits when all others have ended is a failure. Default:
    /// yes.
    pub fn leaks(mut self, yes: bool) -> Config {
        self.leaks = yes;
        self
    }

    /// Sets the size of the goroutines' stacks, that of the first included. Default: as in
    /// production, 192 KiB or `GOBY_STACK`.
    pub fn stack_size(mut self, bytes: usize) -> Config {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets how many steps a failure shows: the last ones. Default: 40.
    pub fn trace(mut self, steps: usize) -> Config {
        self.trace = steps;
        self
    }

    /// Runs the check, and returns a failure as a value.
    ///
    /// ```
    /// use goby_check::{Config, FailureKind};
    ///
    /// let stats = Config::random(10).run(|| {
    ///     let (sender, receiver) = goby::chan::bounded::<()>(0);
    ///     drop(sender);
    ///     assert!(receiver.recv().is_err());
    /// });
    /// assert_eq!(stats.unwrap().executions, 10);
    ///
    /// let failure = Config::random(10).run(|| {
    ///     let (_sender, receiver) = goby::chan::bounded::<()>(0);
    ///     _ = receiver.recv();
    /// });
    /// assert_eq!(failure.unwrap_err().kind(), FailureKind::Deadlock);
    /// ```
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread, until the check has ended.
    ///
    /// # Errors
    ///
    /// The first failure.
    ///
    /// # Panics
    ///
    /// If a variable of the environment is no number, or the system gives no thread.
    #[track_caller]
    pub fn run<T>(self, program: impl Fn() -> T + Send + Sync + 'static) -> Result<Stats, Box<Failure>> {
        let config = self.with_environment();
        explore::explore(config, move || _ = program())
    }

    /// Fills in what the configuration leaves to the environment, and to chance.
    fn with_environment(mut self) -> Config {
        if matches!(self.way, Way::Replay(_)) {
            return self;
        }
        if let Some(n) = number(ITERATIONS) {
            self.iterations = n;
        }
        self.seed = Some(self.seed.unwrap_or_else(seed));
        self
    }
}

/// Returns the seed from the environment, or another one each time.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    number(SEED).unwrap_or_else(|| mix(RandomState::new().hash_one(SEED), 0))
}

/// Returns the number that a variable of the environment holds: decimal, or hexadecimal after `0x`.
fn number(variable: &str) -> Option<u64> {
    let value = env::var_os(variable).filter(|value| !value.is_empty())?;
    let text = value.to_string_lossy();
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{variable}={value:?} is no number: change or unset it")))
}

/// Runs a program under the schedules that `config` says, and panics if one of them fails.
///
/// `program` is run once per execution, as the first goroutine. It must do the same each time,
/// apart from the order of its goroutines.
///
/// ```
/// goby_check::check(goby_check::Config::random(100), || {
///     assert_eq!(goby::go(|| 6 * 7).join().unwrap(), 42);
/// });
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread, until the check has ended.
///
/// # Panics
///
/// With a report, if an execution fails: what failed, the goroutines with their waits, the last
/// steps, and the schedule for [`replay`].
#[track_caller]
pub fn check<T>(config: Config, program: impl Fn() -> T + Send + Sync + 'static) {
    if let Err(failure) = config.run(program) {
        panic!("{failure}");
    }
}

/// Runs a program under `iterations` random schedules: see [`Config::random`] and [`check`].
///
/// ```
/// goby_check::check_random(100, || {
///     assert_eq!(goby::go(|| 6 * 7).join().unwrap(), 42);
/// });
/// ```
///
/// # Panics
///
/// As [`check`] does.
#[track_caller]
pub fn check_random<T>(iterations: u64, program: impl Fn() -> T + Send + Sync + 'static) {
    check(Config::random(iterations), program);
}

/// Runs a program under `iterations` schedules of [`Config::pct`]: see [`check`].
///
/// ```
/// goby_check::check_pct(3, 100, || {
///     assert_eq!(goby::go(|| 6 * 7).join().unwrap(), 42);
/// });
/// ```
///
/// # Panics
///
/// As [`check`] does.
#[track_caller]
pub fn check_pct<T>(depth: u32, iterations: u64, program: impl Fn() -> T + Send + Sync + 'static) {
    check(Config::pct(depth, iterations), program);
}

/// Runs a program under `iterations` schedules of [`Config::uniform`]: see [`check`].
///
/// ```
/// goby_check::check_uniform(100, || {
///     assert_eq!(goby::go(|| 6 * 7).join().unwrap(), 42);
/// });
/// ```
///
/// # Panics
///
/// As [`check`] does.
#[track_caller]
pub fn check_uniform<T>(iterations: u64, program: impl Fn() -> T + Send + Sync + 'static) {
    check(Config::uniform(iterations), program);
}

/// Runs a program under `iterations` schedules of [`Config::pos`]: see [`check`].
///
/// ```
/// goby_check::check_pos(100, || {
///     assert_eq!(goby::go(|| 6 * 7).join().unwrap(), 42);
/// });
/// ```
///
/// # Panics
///
/// As [`check`] does.
#[track_caller]
pub fn check_pos<T>(iterations: u64, program: impl Fn() -> T + Send + Sync + 'static) {
    check(Config::pos(iterations), program);
}

/// Runs a program under the one schedule that a failure has printed. If the program is the same, it
/// fails in the same way.
///
/// ```
/// // The whole schedule of a program without a choice.
/// goby_check::replay("g1-7-", || assert_eq!(6 * 7, 42));
/// ```
///
/// # Panics
///
/// As [`check`] does, and if the text is no schedule, or is one of another program: then the
/// choices do not fit.
#[track_caller]
pub fn replay<T>(schedule: &str, program: impl Fn() -> T + Send + Sync + 'static) {
    match schedule.parse() {
        Ok(schedule) => check(Config::replay(schedule), program),
        Err(error) => panic!("{error}"),
    }
}
