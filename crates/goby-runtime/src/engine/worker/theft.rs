//! When a worker takes unstarted goroutines and futures from another: how long the thief watches
//! the victim first, and whether taking pays.
//!
//! Two workers that begin goroutines of the same queue pass each other the cache lines of the queue
//! and of all that these goroutines share. Where each goroutine does next to nothing, both workers
//! together are slower than one. Then the thief leaves the victim alone, for longer each time
//! ([`Truce`]). The thief cannot know that beforehand, so it compares how fast the goroutines come
//! and go with it and without it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::engine::run_queue::Sight;

/// How long a victim must have left its unstarted goroutines alone, and had no turn, before a thief
/// takes some. Until then the victim may be about to run them itself, with the goroutines that talk
/// to them. A victim that has turns, of `FAIRNESS` short rounds each, begins them eventually.
///
/// Longer than a few page faults take, or the guards of new stacks.
const QUIET: Duration = Duration::from_micros(32);
/// The same in a truce. There a thief looks at a tick of the monitor, and the monitor may have
/// taken the victim's processor for 30 µs.
const QUIET_IN_TRUCE: Duration = Duration::from_micros(100);
/// How long a thief looks at a victim: until it knows whether the victim is quiet.
pub(super) const LOOK: Duration = Duration::from_micros(60);
/// The same in a truce, once per tick: until it also knows whether the victim has few now
/// ([`SPAN_ALONE`]).
pub(super) const LOOK_IN_TRUCE: Duration = Duration::from_micros(120);
/// How long a victim may have unstarted goroutines, although it begins one after the other, before
/// a thief takes some. What the victim can run within that time is not worth stealing: a wave of a
/// thousand empty goroutines takes 80 µs.
const BACKLOG: Duration = Duration::from_micros(200);
/// The same where `FAIRNESS` rounds take less than `SHORT_TURN`. A hundred goroutines that wait for
/// each other have all begun by then, and stay together. With half of them on another worker, each
/// message between them cost 3 to 10 times as much.
const BACKLOG_OF_SHORT: Duration = Duration::from_millis(2);
const SHORT_TURN: Duration = Duration::from_micros(20);
/// The shortest time for which the changes are counted: without the thief, and with it.
const SPAN_ALONE: Duration = Duration::from_micros(100);
const SPAN_SHARED: Duration = Duration::from_micros(500);
/// How long the count of what a victim does alone stays valid: later it may do something else.
const UP_TO_DATE: Duration = Duration::from_millis(50);
/// Fewer changes than this per millisecond are few: then two workers get more done than one.
const FEW: u64 = 500;
/// How many ticks of the monitor (1 ms) the first truce lasts, and the longest. Each truce is twice
/// as long as the one before.
const FIRST_TRUCE: usize = 4;
const LONGEST_TRUCE: usize = 64;

/// What a thief sees when it looks at a victim.
pub(super) struct Look {
    /// The victim's queue, and its turns.
    pub(super) sight: Sight,
    pub(super) turns: u64,
    /// The changes of the thief's own queue: what has come, and what has left.
    pub(super) own: usize,
    pub(super) now: Instant,
    /// The monitor's tick.
    pub(super) tick: usize,
}

/// The victim that a thief watches.
#[derive(Clone, Copy)]
pub(super) struct Watched {
    pub(super) index: usize,
    /// The last look.
    sight: Sight,
    turns: u64,
    /// Since when it has had some, as far as we have seen, and how many turns it had had by then.
    backlog_since: Instant,
    backlog_turns: u64,
    /// Since when it has had the same ones, without a turn.
    quiet_since: Instant,
    /// We have taken from it.
    is_robbed: bool,
    pace: Pace,
}

impl Watched {
    pub(super) fn new(index: usize, look: &Look) -> Watched {
        Watched {
            index,
            sight: look.sight,
            turns: look.turns,
            backlog_since: look.now,
            backlog_turns: look.turns,
            quiet_since: look.now,
            is_robbed: false,
            pace: Pace::new(look),
        }
    }

    /// Returns whether this victim, whose queue is now as in `sight`, comes before the others: they
    /// must wait until it has none left or has been robbed. It does not come first
    ///
    /// - if we have taken from it,
    /// - if it has come to the end of its own since the last look, or
    /// - if there is a truce and it is busy with its own.
    ///
    /// In the last two cases no thief takes from it for a long time.
    pub(super) fn comes_first(&self, sight: Sight, is_truce: bool) -> bool {
        !(self.is_robbed || sight.emptied != self.sight.emptied || is_truce && sight != self.sight)
    }

    /// Returns the same victim, marked as one that we have taken from.
    pub(super) fn robbed(self) -> Watched {
        Watched { is_robbed: true, ..self }
    }

    /// Records a look at the victim, which has unstarted goroutines, and returns whether to steal
    /// now. One of these is enough:
    ///
    /// - It has neither changed its queue nor had a turn for [`QUIET`] ([`QUIET_IN_TRUCE`] in a
    ///   truce).
    /// - It has not come to the end of its queue for [`BACKLOG`] ([`BACKLOG_OF_SHORT`] if its
    ///   rounds are short), its pace without us is known, and there is no truce.
    pub(super) fn may_be_robbed(&mut self, look: &Look, truce: &Truce) -> bool {
        // It has come to the end of its queue: the backlog, and the count, begin anew.
        if look.sight.emptied != self.sight.emptied {
            self.backlog_since = look.now;
            self.backlog_turns = look.turns;
            self.pace = Pace::new(look);
        }
        // It has done something, so it is not quiet.
        if (look.sight, look.turns) != (self.sight, self.turns) {
            (self.sight, self.turns) = (look.sight, look.turns);
            self.quiet_since = look.now;
        }
        match self.pace.measure(look) {
            Some(true) => truce.end(),
            Some(false) => truce.extend(look.tick),
            None => {}
        }
        let backlog = look.now.duration_since(self.backlog_since);
        let has_short_rounds = u128::from(look.turns - self.backlog_turns) > backlog.as_nanos() / SHORT_TURN.as_nanos();
        let patience = if has_short_rounds { BACKLOG_OF_SHORT } else { BACKLOG };
        let is_truce = truce.holds(look.tick);
        let quiet = if is_truce { QUIET_IN_TRUCE } else { QUIET };
        let is_quiet = look.now.duration_since(self.quiet_since) >= quiet;
        let may = is_quiet || backlog >= patience && self.pace.is_known(look) && !is_truce;
        if may {
            self.pace.begin_sharing(look);
        }
        may
    }
}

/// How fast a victim's unstarted goroutines come and go.
#[derive(Clone, Copy)]
struct Pace {
    /// When the count began, and the changes by then: of the victim's queue, and of ours.
    since: Instant,
    theirs: usize,
    ours: usize,
    /// How many changes per millisecond there were when the victim was last left alone, and when
    /// that was counted.
    alone: Option<(u64, Instant)>,
    /// We have taken from it since the count began.
    is_shared: bool,
}

impl Pace {
    fn new(look: &Look) -> Pace {
        Pace { since: look.now, theirs: look.sight.changes, ours: look.own, alone: None, is_shared: false }
    }

    /// Counts the changes and returns whether it pays to take from the victim, as soon as that is
    /// known.
    fn measure(&mut self, look: &Look) -> Option<bool> {
        let time = look.now.duration_since(self.since);
        if time < if self.is_shared { SPAN_SHARED } else { SPAN_ALONE } {
            return None;
        }
        let a_millisecond = |changes: usize| changes as u64 * 1_000_000 / time.as_nanos() as u64;
        let theirs = a_millisecond(look.sight.changes.wrapping_sub(self.theirs));
        let ours = a_millisecond(look.own.wrapping_sub(self.ours));
        let Pace { alone, is_shared, .. } = *self;
        *self = Pace::new(look);
        // It was alone in this span: this is the pace to compare with.
        if !is_shared {
            self.alone = Some((theirs, look.now));
            return (theirs < FEW).then_some(true);
        }
        let (alone, counted) = alone?;
        // We took from it in this span. If many came and went, only a recent pace is compared with.
        let are_few = theirs < FEW || ours < FEW;
        let is_out_of_date = alone < FEW || look.now.duration_since(counted) > UP_TO_DATE;
        if !are_few && is_out_of_date {
            return None;
        }
        // Both workers together must do an eighth more than the victim did alone.
        let pays = are_few || theirs + ours > alone + alone / 8;
        self.alone = Some((alone, counted));
        self.is_shared = pays;
        Some(pays)
    }

    /// Returns whether the pace without us is known. If it is not, it is counted from now on.
    fn is_known(&mut self, look: &Look) -> bool {
        if self.alone.is_none() && self.is_shared {
            *self = Pace::new(look);
        }
        self.alone.is_some()
    }

    /// Notes that we are about to take from the victim.
    fn begin_sharing(&mut self, look: &Look) {
        if !self.is_shared {
            *self = Pace { alone: self.alone, is_shared: true, ..Pace::new(look) };
        }
    }
}

/// A span in which thieves leave a worker's unstarted goroutines to it, because they are many and
/// do next to nothing. No worker stays awake for them, and none is woken when more come. At each
/// tick of the monitor one thief looks whether the worker is quiet, or has few now.
pub(super) struct Truce {
    /// The tick at which it ends.
    end: AtomicUsize,
    /// How many ticks the last one was to last; zero if taking has paid since.
    length: AtomicUsize,
}

impl Truce {
    pub(super) fn new() -> Truce {
        Truce { end: AtomicUsize::new(0), length: AtomicUsize::new(0) }
    }

    // Relaxed, everywhere: these are hints, and two thieves that write at once have found nearly
    // the same.

    pub(super) fn holds(&self, tick: usize) -> bool {
        tick < self.end.load(Ordering::Relaxed)
    }

    fn extend(&self, tick: usize) {
        let length = (self.length.load(Ordering::Relaxed) * 2).clamp(FIRST_TRUCE, LONGEST_TRUCE);
        self.length.store(length, Ordering::Relaxed);
        self.end.store(tick + length, Ordering::Relaxed);
    }

    fn end(&self) {
        self.end.store(0, Ordering::Relaxed);
        self.length.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Runtime;
    use crate::engine::worker::Worker;

    /// A look after so many microseconds, with one tick per millisecond, that sees so many changes
    /// of the victim's queue (`changes`) and of the thief's (`own`).
    fn look(start: Instant, micros: u64, changes: usize, turns: u64, own: usize) -> Look {
        let sight = Sight { changes, emptied: 0 };
        Look { sight, turns, own, now: start + Duration::from_micros(micros), tick: micros as usize / 1000 }
    }

    /// Returns how many microseconds a victim is left alone. It is looked at every microsecond, its
    /// queue changes once per `change` microseconds, and it has one turn per `turn` microseconds.
    fn patience(change: u64, turn: u64) -> u64 {
        let start = Instant::now();
        let truce = Truce::new();
        let mut watched = Watched::new(0, &look(start, 0, 0, 0, 0));
        (1..1_000_000)
            .find(|&micros| {
                let look = look(start, micros, (micros / change) as usize, micros / turn, 0);
                watched.may_be_robbed(&look, &truce)
            })
            .expect("no patience is endless")
    }

    #[test]
    fn thieves_leave_those_with_short_rounds_alone_for_longer() {
        let never = u64::MAX;
        assert_eq!(patience(never, never), 32, "it computes");
        assert_eq!(patience(never, 31), 200, "a round takes half a microsecond, and it may be about to begin one");
        assert_eq!(patience(1, never), 200, "it begins one after the other");
        assert_eq!(patience(10, 30), 200, "a round takes half a microsecond");
        assert_eq!(patience(10, 10), 2000, "a round takes a sixth of one");
        assert_eq!(patience(40, 40), 32, "a round takes two thirds of one");
        assert_eq!(patience(40, 10), 2000, "short rounds, and now and then one of these");
    }

    #[test]
    fn who_comes_to_the_end_of_its_own_is_not_robbed() {
        let start = Instant::now();
        let truce = Truce::new();
        let mut watched = Watched::new(0, &look(start, 0, 0, 0, 0));
        for micros in 1..10_000 {
            let mut look = look(start, micros, micros as usize, 0, 0);
            look.sight.emptied = micros as usize / 100;
            assert!(!watched.may_be_robbed(&look, &truce));
        }
    }

    /// The victim stops in the middle of a span: that it has few is known 50 µs later.
    #[test]
    fn who_leaves_its_own_alone_is_robbed_in_a_truce() {
        let start = Instant::now();
        let truce = Truce::endless();
        let mut watched = Watched::new(0, &look(start, 0, 0, 0, 0));
        let robbed = (10..20_000).step_by(10).find(|&micros| {
            let changes = 10 * micros.min(5_050) as usize;
            watched.may_be_robbed(&look(start, micros, changes, 0, 0), &truce)
        });
        assert_eq!(robbed, Some(5_150));
    }

    /// The victim has begun one per 50 µs since then, so it is never quiet for long enough.
    #[test]
    fn a_truce_ends_when_few_come_and_go() {
        let start = Instant::now();
        let truce = Truce::endless();
        let mut watched = Watched::new(0, &look(start, 0, 0, 0, 0));
        let robbed = (10..20_000_u64).step_by(10).find(|&micros| {
            let changes = 10 * micros.min(5_000) as usize + (micros.saturating_sub(5_000) / 50) as usize;
            watched.may_be_robbed(&look(start, micros, changes, 0, 0), &truce)
        });
        assert_eq!(robbed, Some(5_100));
    }

    #[test]
    fn who_is_busy_with_its_own_does_not_hide_others() {
        let now = Instant::now();
        let (before, later) = (look(now, 0, 7, 0, 0), look(now, 5, 8, 0, 0));
        let watched = Watched::new(0, &before);
        assert!(
            watched.comes_first(before.sight, false) && watched.comes_first(later.sight, false),
            "it will be robbed"
        );
        assert!(watched.comes_first(before.sight, true), "it may be about to be");
        assert!(
            !watched.comes_first(Sight { emptied: 1, ..later.sight }, false),
            "it began them all, and has new ones"
        );
        assert!(!watched.comes_first(later.sight, true), "it will not be");
        assert!(!watched.robbed().comes_first(before.sight, false), "it has been");
    }

    impl Truce {
        /// A truce that does not end by itself.
        fn endless() -> Truce {
            Truce { end: AtomicUsize::new(usize::MAX), length: AtomicUsize::new(LONGEST_TRUCE) }
        }
    }

    /// Puts the calling goroutine's worker into a truce that does not end by itself.
    fn begin_truce() {
        let remote = Worker::current().expect("a goroutine calls").remote;
        remote.stealable.truce.end.store(usize::MAX, Ordering::Relaxed);
    }

    fn on_workers(workers: usize, test: impl FnOnce() + Send) {
        Runtime::builder().workers(workers).build().expect("a runtime").run(test);
    }

    #[test]
    fn nobody_stays_awake_for_who_is_in_a_truce() {
        on_workers(1, || {
            let goroutines = [(); 2].map(|()| crate::go(|| ()));
            let remote = Worker::current().expect("a goroutine calls").remote;
            assert!(remote.has_for_others(0));
            begin_truce();
            assert!(!remote.has_for_others(0));
            goroutines.into_iter().for_each(|goroutine| goroutine.join().expect("it ends"));
        });
    }

    /// In a truce no worker is woken by a spawn, and this truce would not end by itself. Other
    /// workers may have watched this one before, while it had dust.
    #[test]
    fn a_computation_in_a_truce_does_not_keep_what_has_not_begun() {
        for (workers, goroutines, futures) in [(2, 1, 0), (2, 0, 1), (2, 50, 50), (4, 1, 0), (4, 50, 50)] {
            on_workers(workers, || {
                let begun = Arc::new(AtomicUsize::new(0));
                let dust: Vec<_> = (0..1000).map(|_| crate::go(|| ())).collect();
                dust.into_iter().for_each(|goroutine| goroutine.join().expect("it ends"));
                begin_truce();
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

    /// Looks every 10 µs for 20 ms at a victim that has `alone` changes per millisecond until it is
    /// robbed for the first time. Afterwards it has `theirs` per millisecond, and the thief `ours`.
    /// Returns how many of the looks after that were robberies.
    fn robberies(alone: u64, theirs: u64, ours: u64) -> usize {
        let start = Instant::now();
        let truce = Truce::new();
        let mut watched = Watched::new(0, &look(start, 0, 0, 0, 0));
        // In thousandths.
        let (mut there, mut here, mut robbed) = (0, 0, 0);
        for micros in (10..20_000).step_by(10) {
            let is_shared = robbed > 0 && !truce.holds(micros as usize / 1000);
            there += 10 * if is_shared { theirs } else { alone };
            here += 10 * if is_shared { ours } else { 0 };
            let look = look(start, micros, there as usize / 1000, 0, here as usize / 1000);
            robbed += usize::from(watched.may_be_robbed(&look, &truce));
        }
        robbed
    }

    #[test]
    fn there_is_a_truce_where_two_do_no_more_than_one() {
        assert!(robberies(10_000, 8_000, 8_000) > 1900, "it pays");
        assert!(robberies(10_000, 4_000, 4_000) < 300, "it does not");
        assert!(robberies(10_000, 5_000, 300) > 1900, "what we take takes us long");
        assert!(robberies(400, 200, 100) > 1900, "they are few");
    }

    #[test]
    fn each_truce_is_twice_as_long_as_the_one_before() {
        let truce = Truce::new();
        for (tick, length) in [(100, 4), (200, 8), (300, 16), (400, 32), (500, 64), (600, 64)] {
            truce.extend(tick);
            assert!(truce.holds(tick + length - 1) && !truce.holds(tick + length));
        }
        truce.end();
        assert!(!truce.holds(600));
        truce.extend(700);
        assert!(!truce.holds(704), "taking has paid since");
    }
}
