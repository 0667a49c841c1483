//! When a worker takes unstarted goroutines and futures from another
//! (`docs/decisions/15-patient-thieves.md`).
//!
//! A goroutine that is taken at once is parted from those that talk to it. And two workers that
//! begin trivial goroutines of one queue pass each other the cache lines of that queue, and are
//! slower together than one. So a thief takes what the victim has left alone:
//!
//! - A victim that does nothing else in goby for [`QUIET`] computes. Everything that it has not
//!   begun is left alone.
//! - A victim that begins one after the other leaves the rest alone. How long a thief watches that
//!   before it takes half of them is the victim's *span*. The span is [`FIRST_SPAN`] when nothing
//!   is known. After a theft that did not pay it doubles, and after one that did it halves.
//!
//! A theft pays if both workers together begin more goroutines per second than the victim did alone
//! in the span before the theft. What a theft has shown is forgotten after [`LONGEST_SPAN`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Remote;
use crate::base::policy;
use crate::engine::run_queue::Sight;
use crate::engine::tuning::{FIRST_SPAN, LONGEST_SPAN, QUIET, SHORTEST_SPAN};

/// What a thief sees when it looks at a victim.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// The victim's queue of unstarted goroutines, and its pauses.
    pub(super) sight: Sight,
    pub(super) pauses: u64,
    /// The time, as `policy::nanos`.
    pub(super) now: u64,
}

impl Look {
    pub(super) fn at(victim: &Remote, now: Instant) -> Look {
        // Relaxed: a hint.
        let pauses = victim.stealable.turns.load(Ordering::Relaxed);
        Look { sight: victim.stealable.unstarted.sight(), pauses, now: policy::nanos(now) }
    }
}

/// What thieves know of a victim. It is the victim's, and written by whichever worker looks.
///
/// Relaxed, everywhere: these are hints. Of two thieves that look at once, one is not heard.
#[repr(align(64))]
pub(super) struct Patience {
    /// The last look, and since when the victim has looked like that.
    changes: AtomicUsize,
    pauses: AtomicU64,
    quiet_since: AtomicU64,
    /// Since when it has had some without a theft, and the changes of its queue by then. How often
    /// its queue had been empty by then.
    alone_since: AtomicU64,
    alone_changes: AtomicUsize,
    emptied: AtomicUsize,
    /// The span, and when a theft has last changed it.
    span: AtomicU64,
    learned: AtomicU64,
}

/// A theft from a victim that was busy, until it is known whether it has paid.
#[derive(Clone, Copy)]
pub(super) struct Theft {
    pub(super) victim: usize,
    at: u64,
    /// The changes of the victim's queue and of the thief's by then.
    theirs: usize,
    ours: usize,
    /// The changes of the victim's queue in the span before it, and how long that was.
    alone: (usize, u64),
}

/// What a look at a victim has led to.
pub(super) enum Verdict {
    Leave,
    /// To take from a victim that is quiet.
    Take,
    /// To take from one that is busy, and to [judge](Patience::judge) that afterwards.
    Try(Theft),
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience {
            changes: AtomicUsize::new(0),
            pauses: AtomicU64::new(0),
            quiet_since: AtomicU64::new(0),
            alone_since: AtomicU64::new(0),
            alone_changes: AtomicUsize::new(0),
            emptied: AtomicUsize::new(usize::MAX),
            span: AtomicU64::new(nanos(FIRST_SPAN)),
            learned: AtomicU64::new(0),
        }
    }

    /// Returns whether thieves have learned to leave the victim alone for long. No worker stays
    /// awake for what it has, and none is woken when more come: one looks at each tick of the
    /// monitor.
    pub(super) fn is_long(&self) -> bool {
        self.span.load(Ordering::Relaxed) > nanos(FIRST_SPAN)
    }

    /// Returns whether to take from the victim, which has unstarted goroutines. `ours` are the
    /// changes of the thief's own queue, and `victim` is the number by which the thief knows it.
    pub(super) fn look(&self, victim: usize, look: &Look, ours: usize) -> Verdict {
        let is_quiet = self.quiet_for(look) >= nanos(QUIET);
        if self.emptied.swap(look.sight.emptied, Ordering::Relaxed) != look.sight.emptied {
            self.leave_alone(look);
        }
        self.forget(look.now);
        if is_quiet {
            return Verdict::Take;
        }
        let alone_for = look.now.saturating_sub(self.alone_since.load(Ordering::Relaxed));
        if alone_for < self.span.load(Ordering::Relaxed) {
            return Verdict::Leave;
        }
        let alone = look.sight.changes.wrapping_sub(self.alone_changes.load(Ordering::Relaxed));
        self.leave_alone(look);
        Verdict::Try(Theft { victim, at: look.now, theirs: look.sight.changes, ours, alone: (alone, alone_for) })
    }

    /// Learns from a theft whose loot has been begun. `look` is at the victim now, and `ours` as
    /// above.
    pub(super) fn judge(&self, theft: &Theft, look: &Look, ours: usize) {
        let time = look.now.saturating_sub(theft.at);
        let both = look.sight.changes.wrapping_sub(theft.theirs) + ours.wrapping_sub(theft.ours);
        let (alone, alone_for) = theft.alone;
        // Both rates, each times both times. An eighth more, or it was chance; and what is begun at
        // once was not worth a theft.
        let pays = time >= nanos(QUIET) && product(both, alone_for) > product(alone + alone / 8, time);
        let span = self.span.load(Ordering::Relaxed);
        let span = if pays { span / 2 } else { span * 2 };
        self.span.store(span.clamp(nanos(SHORTEST_SPAN), nanos(LONGEST_SPAN)), Ordering::Relaxed);
        self.learned.store(look.now, Ordering::Relaxed);
        self.leave_alone(look);
    }

    /// Returns for how long the victim has done nothing in goby, and notes the look.
    fn quiet_for(&self, look: &Look) -> u64 {
        let changes = self.changes.swap(look.sight.changes, Ordering::Relaxed);
        let pauses = self.pauses.swap(look.pauses, Ordering::Relaxed);
        if (changes, pauses) != (look.sight.changes, look.pauses) {
            self.quiet_since.store(look.now, Ordering::Relaxed);
        }
        look.now.saturating_sub(self.quiet_since.load(Ordering::Relaxed))
    }

    /// Begins a span.
    fn leave_alone(&self, look: &Look) {
        self.alone_since.store(look.now, Ordering::Relaxed);
        self.alone_changes.store(look.sight.changes, Ordering::Relaxed);
    }

    /// Forgets what is too long ago.
    fn forget(&self, now: u64) {
        if now.saturating_sub(self.learned.load(Ordering::Relaxed)) > nanos(LONGEST_SPAN) {
            self.span.store(nanos(FIRST_SPAN), Ordering::Relaxed);
        }
    }
}

const fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

fn product(changes: usize, nanos: u64) -> u128 {
    changes as u128 * u128::from(nanos)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Runtime;
    use crate::engine::worker::Worker;

    const MICRO: u64 = 1000;
    const MILLI: u64 = 1_000_000;

    /// A look at a victim of so many changes and pauses.
    fn look(now: u64, changes: u64, pauses: u64) -> Look {
        Look { sight: Sight { changes: changes as usize, emptied: 0 }, pauses, now }
    }

    /// A victim, and a thief that looks at it every ten microseconds.
    struct Pair {
        patience: Patience,
        now: u64,
        /// In thousandths: the changes of the victim's queue, and of the thief's.
        theirs: u64,
        ours: u64,
    }

    impl Pair {
        fn new() -> Pair {
            Pair { patience: Patience::new(), now: MILLI, theirs: 1000, ours: 0 }
        }

        fn look(&self) -> Look {
            look(self.now, self.theirs / 1000, 0)
        }

        /// Lets ten microseconds pass, with so many changes per millisecond.
        fn pass(&mut self, theirs: u64, ours: u64) {
            self.now += 10 * MICRO;
            self.theirs += 10 * theirs;
            self.ours += 10 * ours;
        }

        /// Waits for a theft from a victim that has so many changes per millisecond, and returns
        /// how long it took. A theft is followed by `loot` during which the two have `theirs` and
        /// `ours`.
        fn theft(&mut self, alone: u64, theirs: u64, ours: u64, loot: u64) -> u64 {
            let start = self.now;
            let theft = loop {
                match self.patience.look(0, &self.look(), (self.ours / 1000) as usize) {
                    Verdict::Leave => self.pass(alone, 0),
                    Verdict::Take => panic!("it is busy"),
                    Verdict::Try(theft) => break theft,
                }
            };
            let waited = self.now - start;
            for _ in 0..loot / (10 * MICRO) {
                self.pass(theirs, ours);
            }
            self.patience.judge(&theft, &self.look(), (self.ours / 1000) as usize);
            waited
        }
    }

    /// Returns the verdict on a victim that has been looked at every ten microseconds for so long.
    /// Its queue changes once per `change` microseconds, and it pauses once per `pause`.
    fn verdict(micros: u64, change: u64, pause: u64) -> Verdict {
        let patience = Patience::new();
        let look_at = |micros| patience.look(0, &look(MILLI + micros * MICRO, 1 + micros / change, micros / pause), 0);
        (0..micros).step_by(10).for_each(|micros| _ = look_at(micros));
        look_at(micros)
    }

    #[test]
    fn all_that_a_computation_has_not_begun_is_taken() {
        let never = u64::MAX;
        assert!(matches!(verdict(30, never, never), Verdict::Leave));
        assert!(matches!(verdict(40, never, never), Verdict::Take));
        assert!(matches!(verdict(990, 20, never), Verdict::Leave), "it begins one after the other");
        assert!(matches!(verdict(990, never, 20), Verdict::Leave), "it is about to begin one");
        assert!(matches!(verdict(1000, 20, never), Verdict::Try(_)), "that takes it too long");
    }

    #[test]
    fn a_victim_that_comes_to_the_end_of_its_own_is_left_alone() {
        let patience = Patience::new();
        for micros in 1..10_000 {
            let mut look = look(MILLI + micros * MICRO, micros, 0);
            look.sight.emptied = micros as usize / 900;
            assert!(matches!(patience.look(0, &look, 0), Verdict::Leave));
        }
    }

    #[test]
    fn the_span_halves_where_thefts_pay() {
        let mut pair = Pair::new();
        let spans = [(); 4].map(|()| pair.theft(100, 100, 100, MILLI) / MICRO);
        assert_eq!(spans, [1000, 500, 250, 250]);
    }

    #[test]
    fn the_span_doubles_where_two_do_no_more_than_one() {
        let mut pair = Pair::new();
        let spans = [(); 8].map(|()| pair.theft(10_000, 5_000, 5_000, MILLI) / MILLI);
        assert_eq!(spans, [1, 2, 4, 8, 16, 32, 64, 64]);
        assert!(pair.patience.is_long());
    }

    #[test]
    fn a_theft_of_what_is_begun_at_once_does_not_pay() {
        let mut pair = Pair::new();
        let spans = [(); 3].map(|()| pair.theft(10_000, 10_000, 10_000, 20 * MICRO) / MILLI);
        assert_eq!(spans, [1, 2, 4]);
    }

    #[test]
    fn what_a_theft_has_shown_is_forgotten() {
        let mut pair = Pair::new();
        for _ in 0..5 {
            pair.theft(10_000, 5_000, 5_000, MILLI);
        }
        assert!(pair.patience.is_long());
        pair.now += LONGEST_SPAN.as_nanos() as u64 + 1;
        // Its queue has been empty in between.
        pair.patience.emptied.store(7, Ordering::Relaxed);
        assert_eq!(pair.theft(10_000, 5_000, 5_000, MILLI) / MILLI, 1);
    }

    /// Makes thieves patient with the calling goroutine's worker, for good.
    fn make_patient() {
        let remote = Worker::current().expect("a goroutine calls").remote;
        remote.stealable.patience.span.store(nanos(LONGEST_SPAN), Ordering::Relaxed);
        remote.stealable.patience.learned.store(u64::MAX, Ordering::Relaxed);
    }

    fn on_workers(workers: usize, test: impl FnOnce() + Send) {
        Runtime::builder().workers(workers).build().expect("a runtime").run(test);
    }

    #[test]
    fn no_worker_stays_awake_for_what_is_left_alone_for_long() {
        on_workers(1, || {
            let goroutines = [(); 2].map(|()| crate::go(|| ()));
            let remote = Worker::current().expect("a goroutine calls").remote;
            assert!(remote.has_for_others());
            make_patient();
            assert!(!remote.has_for_others());
            goroutines.into_iter().for_each(|goroutine| goroutine.join().expect("it ends"));
        });
    }

    /// Where thieves are patient, no worker is woken by a spawn. Other workers may have watched
    /// this one before, while it had dust.
    #[test]
    fn a_computation_keeps_nothing_unstarted_from_patient_thieves() {
        for (workers, goroutines, futures) in [(2, 1, 0), (2, 0, 1), (2, 50, 50), (4, 1, 0), (4, 50, 50)] {
            on_workers(workers, || {
                let begun = Arc::new(AtomicUsize::new(0));
                let dust: Vec<_> = (0..1000).map(|_| crate::go(|| ())).collect();
                dust.into_iter().for_each(|goroutine| goroutine.join().expect("it ends"));
                make_patient();
                let begin = || {
                    let begun = begun.clone();
                    move || {
                        begun.fetch_add(1, Ordering::SeqCst);
                    }
                };
                for _ in 0..goroutines {
                    drop(crate::go(begin()));
                }
                for _ in 0..futures {
                    let begin = begin();
                    crate::spawn(async move { begin() }).detach();
                }
                let start = Instant::now();
                while begun.load(Ordering::SeqCst) < goroutines + futures {
                    std::thread::yield_now(); // The processor, not the worker.
                    assert!(start.elapsed() < Duration::from_secs(60), "nobody took them, of {workers} workers");
                }
            });
        }
    }
}
