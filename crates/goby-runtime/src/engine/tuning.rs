//! The scheduler's numbers, each with its unit, where it comes from, and the row of the bench
//! (`bench/README.md`) that moves with it. How much memory is kept, and how long a short lock is
//! waited for, is said in the files of `base/`.

use std::num::NonZeroU64;
use std::time::Duration;

// Time slices.

/// A goroutine's time slice. Origin: Go's number. Row: `hog_*_max`.
pub(crate) const SLICE: Duration = Duration::from_millis(10);
/// How often the monitor looks. A lone goroutine whose spawner computes waits that long for a thief
/// if the thief was not woken, or is patient. Origin: an eighth of a slice, rounded. Row:
/// `hog_1_goroutine_max`.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// The same after [`CALM`] ticks with nothing to do, until a goroutine or future is started. A tick
/// takes 30 µs, 1.5 % of what two workers that compute could do. A slice then ends later, by at
/// most the time it takes to see its begin and its end. Row: `imbalance_8`.
pub(crate) const CALM_TICK: Duration = Duration::from_millis(5);
/// In ticks: a slice.
pub(crate) const CALM: u32 = (SLICE.as_nanos() / TICK.as_nanos()) as u32;
/// How long all workers must have slept before the monitor sleeps, so that it is not woken for
/// every short pause. Row: `idle_cpu`.
pub(crate) const LINGER: Duration = Duration::from_millis(50);

// Fairness (`worker/fairness.rs`).

/// Rounds from one pause to the next, at most. Origin: Go's number, for its global queue. Row:
/// `worker_pool_8`.
pub(crate) const FAIRNESS: u32 = 61;
/// Every so many pauses the worker looks at inbox, clock and system, even if the monitor has not
/// ticked: a look costs up to 300 ns, and a round takes 10 ns or more. Row: `pingpong_apart`.
pub(crate) const MAINTENANCE: u64 = 4;
/// How many operations in a row a goroutine is refused until it gives way: each takes 5 ns or more,
/// and a switch some 10. Row: `select_2_default`.
pub(crate) const REFUSALS: u32 = 32;
/// How long each of them takes at most, in a debug build too, if the goroutine does nothing else. A
/// goroutine that takes longer polls between two pieces of work, and would lose its share of the
/// processor to those that do not poll.
pub(crate) const REFUSAL: Duration = Duration::from_nanos(500);
/// How long [`FAIRNESS`] rounds take, at least, where a worker leaves unstarted goroutines to a
/// worker that has less to run. Row: `imbalance_8_worst`.
pub(crate) const LONG_ROUNDS: Duration = Duration::from_micros(100);
/// How many more of the goroutines that are to be spread live on a worker before it gives one away:
/// one that lives only for a moment is better off where it is started. Row: `http_1000`.
pub(crate) const SPREAD_SLACK: usize = 4;

// Stealing (`worker/theft.rs`).

/// How long a victim must have neither changed its queue nor paused before all that it has is left
/// alone. Origin: longer than the guards of new stacks take, some page faults, or a tick of the
/// monitor on the victim's processor. Rows: `hog_*_p50`, `fanin_100_0`.
pub(crate) const QUIET: Duration = Duration::from_micros(32);
/// The shortest span. Origin: a wave of a thousand empty goroutines takes 80 µs. Row: `skynet_1m`.
pub(crate) const SHORTEST_SPAN: Duration = Duration::from_micros(250);
/// The span of a victim of which nothing is known. A hundred goroutines that wait for each other
/// have all begun by then, and stay together: with half of them on another worker, each message
/// between them costs 3 to 10 times as much. Row: `fanin_100_0`.
pub(crate) const FIRST_SPAN: Duration = TICK;
/// The longest span, and how long a theft's lesson is valid. Rows: `scale_spawn_1000000`,
/// `idle_1m_async_wake`.
pub(crate) const LONGEST_SPAN: Duration = Duration::from_millis(64);
/// The most that is stolen at once. Row: `context_cancel_100k`.
pub(crate) const STEAL_MAX: usize = 256;
/// How often per tick a worker's unstarted goroutines make it wake another: a wake-up costs it 2
/// µs. Row: `spawn`.
pub(crate) const WAKES_PER_TICK: usize = 8;

// Sleep (`worker/search.rs`).

/// How long a worker looks around before it sleeps. Origin: twice what it costs to wake a sleeping
/// thread. Row: `burst_10us_p50`.
pub(crate) const SPIN: Duration = Duration::from_micros(40);
/// Spins pay where waits are short. Each wait shorter than a spin adds one, up to `EAGER`. Each
/// longer wait takes two, down to `WEARY`. Above zero the worker spins. Before that rule, traffic
/// with pauses of 100 µs took 79 % of a processor for nothing. Row: `burst_100us_cpu`.
pub(crate) const EAGER: i32 = 4;
pub(crate) const WEARY: i32 = -2 * EAGER;
/// A worker with sockets gives way while it spins. If it gets its processor back later than this,
/// other threads want it. Origin: a call of `sched_yield` takes 0.5 µs where no thread does, and a
/// switch to another and back several. Row: `http_64`, beside two busy processes.
pub(crate) const CROWDED: Duration = Duration::from_micros(10);
/// For how many times as long the worker then sleeps instead of spinning: giving way loses it at
/// most one part in so many of its time.
pub(crate) const CROWDED_SHARE: u32 = 32;
/// Spins between looks at the clock and at the others' queues: some 5 µs. A look takes a cache line
/// from a worker that writes to it with every goroutine that it starts, for up to half a
/// microsecond. Row: `spawn`.
pub(crate) const SPINS_PER_LOOK: u32 = 200;
/// How often a goroutine looks for its unpark before it parks, at one spin per look: about 1.5 µs,
/// some round trips between two workers. Row: `pingpong_apart`.
pub(crate) const ANSWER_LOOKS: u32 = 64;
/// How late the kernel may end a worker's sleep, in nanoseconds, to end several at once. Origin:
/// its default, 50 µs, is longer than many timers run. Row: `burst_100us_due_p50`.
pub(crate) const TIMER_SLACK: NonZeroU64 = NonZeroU64::new(1000).unwrap();

// Memory of the scheduler's.

/// Free stacks that a worker keeps: at twice as many it gives this many back. Row: `spawn`.
pub(crate) const STACK_CACHE: usize = 64;
/// Goroutine ids taken from the process's counter at a time. Row: `spawn`.
pub(crate) const ID_BATCH: u64 = 256;
/// How often the workers' heaps must have grown for an idle program to be tidied up: by two
/// thousand goroutines or futures. Row: `release_1m_async_back`.
pub(crate) const WORTH_TIDYING: u64 = 16;
/// How long the workers' heaps must not have grown by then: a program that needs the memory every
/// second keeps it. Taking it back costs malloc 0.13 ms per MB, and several times that where little
/// has been freed between blocks in use. A thread that allocates meanwhile may wait. Row:
/// `release_1m_async_90_percent`.
pub(crate) const SETTLED: Duration = Duration::from_secs(3);
/// How often unwanted stacks are trimmed. Row: `release_1m_90_percent`.
pub(crate) const TRIM: Duration = Duration::from_secs(1);
