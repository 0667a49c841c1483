//! A worker whose goroutines run in an order that somebody else chooses: the seam of `goby_check`
//! (`docs/decisions/65-checks.md`).
//!
//! ```text
//! an execution:  what is runnable is gathered, the chooser chooses, the chosen one runs to its
//!                next point; with nothing runnable comes the one that waits for that, then the
//!                first timer, then the end
//! ```
//!
//! A *point* is where a goroutine asks who goes on: [`come_to_point`](Worker::come_to_point), in
//! the cold branch of every checkpoint. It runs on the goroutine's stack, and the goroutine goes on
//! without a switch if it is chosen.

mod chooser;
mod execution;

use std::any::Any;
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

pub use self::chooser::{Chooser, End, Event, NO_OBJECT, Plan, Point};
use self::execution::{Execution, Item};
use super::Worker;
use crate::base::policy;
use crate::base::report::payload_text;
use crate::base::tsan;
use crate::engine::carried;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::io::future;
use crate::engine::io::timer::NEVER;
use crate::engine::park::Wait;
use crate::engine::run_queue::Unstarted;
use crate::engine::switch;
use crate::engine::wait_reason::WaitReason;

/// Goroutine ids that one check reserves: more than an execution can start. A future's number is
/// this and more.
const IDS: u64 = 1 << 32;

/// The place of an execution in its worker.
pub(super) struct Check {
    execution: UnsafeCell<Option<Box<Execution>>>,
}

impl Check {
    pub(super) fn none() -> Check {
        Check { execution: UnsafeCell::new(None) }
    }
}

impl Worker {
    /// Returns the execution, for a few lines that call no other method of the worker.
    #[expect(clippy::mut_from_ref, reason = "the borrows are short, and on one thread")]
    fn execution(&self) -> Option<&mut Execution> {
        // SAFETY: only this thread touches it, and no caller keeps the reference over a switch or
        // over a call that asks for it, too.
        unsafe { (*self.check.execution.get()).as_deref_mut() }
    }

    /// Returns whether its goroutines are those of a check.
    #[inline]
    pub(crate) fn is_checked(&self) -> bool {
        self.shared.settings.checked
    }

    /// Runs one execution: `main` as a goroutine, and all that it starts. Returns how it ended, and
    /// after how many steps.
    ///
    /// Its goroutines that have not ended are left as they are. If it has neither
    /// [finished](End::Finished) nor [leaked](End::Leaked), some of them could go on, and the
    /// worker runs no other execution.
    pub(crate) fn execute(&self, plan: Plan, chooser: &mut (dyn Chooser + '_), main: impl FnOnce()) -> (End, u64) {
        debug_assert!(!self.in_goroutine() && self.is_checked());
        let chooser: *mut (dyn Chooser + '_) = chooser;
        // SAFETY: only the lifetime changes. The execution, which alone uses it, is taken out
        // below.
        let chooser: *mut (dyn Chooser + 'static) = unsafe { std::mem::transmute(chooser) };
        let start = policy::virtual_nanos();
        // SAFETY: only this thread touches it, and there is no execution.
        let place = unsafe { &mut *self.check.execution.get() };
        let before = (self.shared.num_goroutines(), self.shared.n_tasks());
        let first = self.births.begin_ids(IDS, before.0 > 0);
        let execution = match place.take() {
            Some(kept) => kept,
            None => Box::new(Execution::empty(plan, chooser)),
        };
        let execution = place.insert(execution);
        execution.begin(plan, chooser, first, before);
        policy::seed(plan.seed);
        // Never cleared in a check: each checkpoint takes its cold branch.
        self.remote.orders.slice_over.store(true, Ordering::Relaxed);
        self.fair.refuse_at_once();
        main();
        self.explore();
        // Those of a static, or of goroutines that are left.
        self.remote.timers.forget();
        self.set_virtual_time(start);
        let execution = self.execution().expect("it was put there");
        let (end, steps) = (execution.end.take().unwrap_or(End::Finished), execution.steps);
        if end != End::Finished {
            // Nothing of it runs again, so nothing of it is dropped.
            std::mem::forget(std::mem::take(&mut execution.items));
            std::mem::forget(execution.next.take());
        }
        // So that nothing asks the chooser, which the caller is about to drop.
        execution.end = Some(End::GivenUp);
        (end, steps)
    }

    /// Runs what can run, until the execution ends.
    fn explore(&self) {
        loop {
            self.gather();
            if self.remote.mail.requests.are_pending() {
                self.answer_requests();
            }
            let execution = self.execution().expect("there is one");
            if execution.end.is_some() {
                return;
            }
            let item = match execution.next.take() {
                Some(item) => item,
                None if self.timers_are_due() => {
                    execution.running = 0;
                    self.remote.timers.run_due();
                    continue;
                }
                None if execution.numbers.is_empty() => {
                    self.end_quiet();
                    continue;
                }
                None => match self.choose_next() {
                    Some(item) => item,
                    None => return,
                },
            };
            self.run_item(item);
        }
    }

    /// Chooses the next one, for the scheduler.
    fn choose_next(&self) -> Option<Item> {
        let execution = self.execution()?;
        if !execution.step() {
            return None;
        }
        // The one that ran last is among them only if it has yielded, or has begun a point that
        // timers had to come before.
        let last = execution.running;
        let current = execution.numbers.contains(&last).then_some(last);
        let (number, item) = execution.choose(current, current.is_some())?;
        execution.pass(number);
        Some(item)
    }

    #[inline(never)]
    fn run_item(&self, item: Item) {
        let n_ended = || self.remote.tally.ended.load(Ordering::Relaxed);
        let ended = n_ended();
        match item {
            // SAFETY: it can go on, so its record is alive.
            Item::Goroutine(g) if unsafe { g.as_ref() }.is_pinned() => self.resume(g),
            Item::Goroutine(g) => self.start(g),
            Item::Future(runnable) => future::run(self, runnable),
        }
        if n_ended() != ended
            && let Some(execution) = self.execution()
        {
            execution.tell(Event::Ends);
        }
    }

    /// Takes all that has become runnable out of the worker's queues.
    #[inline]
    fn gather(&self) {
        if self.has_runnable() || self.remote.stealable.unstarted.len() > 0 || self.is_called_from_outside() {
            self.gather_some();
        }
    }

    /// Returns whether another thread has woken or started something.
    fn is_called_from_outside(&self) -> bool {
        !self.remote.mail.inbox.is_empty() || self.shared.inject.len() > 0
    }

    fn gather_some(&self) {
        let Some(execution) = self.execution() else { return };
        if let Some(g) = self.run_next.take() {
            execution.add_goroutine(g);
        }
        while let Some(g) = self.local.pop_front() {
            execution.add_goroutine(g);
        }
        while let Some(item) = self.remote.stealable.unstarted.pop_oldest() {
            match item {
                Unstarted::Goroutine(g) => execution.add_goroutine(g),
                Unstarted::Future(runnable) => execution.add_future(runnable),
            }
        }
        if self.is_called_from_outside() {
            let text = "another thread has woken a goroutine of the check, or has started one in it: nobody can repeat \
                        what threads do, so start goroutines with goby::go in place of threads";
            execution.end.get_or_insert(End::Left(text.into()));
        }
    }

    /// Returns whether a timer is due.
    #[inline]
    fn timers_are_due(&self) -> bool {
        self.remote.timers.next_due() <= policy::virtual_nanos()
    }

    /// Does what is to be done when nothing can go on.
    fn end_quiet(&self) {
        let execution = self.execution().expect("there is one");
        execution.running = 0;
        if let Some(idler) = execution.idler.take() {
            // SAFETY: its goroutine is parked on it until the unpark.
            if let Some(unparker) = unsafe { idler.as_ref() }.claim(0) {
                unparker.unpark();
            }
            return;
        }
        let main_has_ended = execution.main_has_ended;
        let time_moves = !main_has_ended || execution.plan.time_outlives_main;
        if (self.shared.num_goroutines(), self.shared.n_tasks()) == execution.before {
            execution.end = Some(End::Finished);
            return;
        }
        let due = self.remote.timers.next_due();
        // A timer's callback may start something: `are_awaited` asks nothing of the execution.
        if due != NEVER && time_moves && self.remote.timers.are_awaited() {
            return self.set_virtual_time(due);
        }
        let end = if main_has_ended { End::Leaked } else { End::Deadlock };
        self.execution().expect("there is one").end = Some(end);
    }

    /// Sets the clock of the worker's thread.
    pub(crate) fn set_virtual_time(&self, nanos: u64) {
        policy::set_virtual(nanos);
        self.shared.monitor.set_clock(policy::now());
    }

    /// Lets the chooser say who goes on, at a point of the running goroutine.
    #[cold]
    #[inline(never)]
    pub(crate) fn come_to_point(&self, yields: bool, object: usize) {
        let Some(g) = self.running.current.get() else { return };
        // The goroutines of the worker share the execution in turn, which ThreadSanitizer does not
        // know; here, and in what follows.
        let _ignore = tsan::ignore();
        // In a destructor during an unwinding, others would see a thread that panics.
        if switch::panicking() || self.execution().is_none_or(|execution| execution.is_mute) {
            return;
        }
        // SAFETY: it is running, so its record is alive.
        let header = unsafe { g.as_ref() };
        self.gather();
        let Some(execution) = self.execution() else { return };
        let number = execution.number(header.id);
        if execution.end.is_some() || !execution.step() {
            return self.stop_for_good(g);
        }
        execution.arrive(header, number, object);
        if header.notes.flags.carries() || self.timers_are_due() {
            return self.give_way_to_scheduler(header, number);
        }
        if execution.numbers.is_empty() {
            return execution.pass(number);
        }
        execution.add(number, Item::Goroutine(g));
        let Some((chosen, item)) = execution.choose(Some(number), yields) else { return self.stop_for_good(g) };
        execution.pass(chosen);
        if chosen != number {
            execution.next = Some(item);
            self.suspend_at_point(header);
        }
    }

    /// A point of a goroutine of a check that is about to give something back.
    #[cold]
    pub(crate) fn give_back(&self, object: usize) {
        if self.is_checked() {
            self.come_to_point(false, object);
        }
    }

    /// Lets the scheduler choose: what the goroutine carries must be taken off before others run,
    /// and timers fire between goroutines.
    fn give_way_to_scheduler(&self, g: &Goroutine, number: u64) {
        let suspend = || {
            if let Some(execution) = self.execution() {
                execution.add(number, Item::Goroutine(NonNull::from(g)));
            }
            self.suspend_at_point(g);
        };
        if !g.notes.flags.carries() {
            return suspend();
        }
        carried::away(g, |keeper| {
            if keeper.is_none() {
                suspend();
            }
        });
    }

    /// Suspends the running goroutine, which can go on.
    fn suspend_at_point(&self, g: &Goroutine) {
        g.notes.reason.store(WaitReason::Yield as u8, Ordering::Relaxed);
        // SAFETY: it is running, and is among those that can go on, which only this thread resumes.
        unsafe { switch::suspend(NonNull::from(g)) };
    }

    /// Suspends the running goroutine of an execution that has ended: nothing resumes it.
    pub(crate) fn stop_for_good(&self, g: NonNull<Goroutine>) {
        loop {
            // SAFETY: it is running, so its record is alive.
            self.suspend_at_point(unsafe { g.as_ref() });
        }
    }

    /// Ends the execution because of what its goroutine, or a future, is about to do outside of the
    /// check.
    #[cold]
    pub(crate) fn leave_check(&self, text: &str) {
        let _ignore = tsan::ignore();
        if let Some(execution) = self.execution() {
            execution.end.get_or_insert(End::Left(text.into()));
        }
        match self.running.current.get() {
            Some(g) if !switch::panicking() => self.stop_for_good(g),
            // It ends when the goroutine waits.
            Some(_) => {}
            None => panic!("{text}"),
        }
    }

    /// Sets whether points are passed over, and returns whether they were.
    pub(crate) fn set_mute(&self, is_mute: bool) -> bool {
        let _ignore = tsan::ignore();
        self.execution().is_some_and(|execution| std::mem::replace(&mut execution.is_mute, is_mute))
    }

    /// Notes that the main goroutine has ended; `message` is that of its panic.
    pub(crate) fn note_end_of_main(&self, message: Option<String>) {
        let _ignore = tsan::ignore();
        let Some(execution) = self.execution() else { return };
        execution.main_has_ended = true;
        if let Some(message) = message {
            execution.end.get_or_insert(End::Panicked { number: 1, message });
        }
    }

    /// Notes a panic that nobody joins.
    pub(crate) fn note_unjoined(&self, g: &Goroutine, payload: &(dyn Any + Send)) {
        let _ignore = tsan::ignore();
        if let Some(execution) = self.execution() {
            let number = execution.number(g.id);
            execution.end.get_or_insert(End::Panicked { number, message: payload_text(payload).into() });
        }
    }

    /// Parks the running goroutine until no other can go on and time would move.
    pub(crate) fn wait_until_quiet(&self) {
        // SAFETY: this goroutine parks on it below. It is shown to `end_quiet` only, which unparks.
        let wait = unsafe { Wait::current() };
        let execution = self.execution().expect("a goroutine of a check runs in an execution");
        assert!(execution.idler.is_none(), "wait is already in progress in another goroutine");
        execution.idler = Some(NonNull::from(&wait));
        wait.park(WaitReason::Inspect);
    }

    /// Returns the number of the running goroutine in its execution.
    pub(crate) fn number_in_check(&self) -> Option<u64> {
        let g = self.running()?;
        self.execution().map(|execution| execution.number(g.id))
    }

    /// Returns the number that the id of a goroutine of its execution stands for.
    pub(crate) fn number_of(&self, id: GoroutineId) -> u64 {
        self.execution().map_or(0, |execution| execution.number(id))
    }

    /// Returns the goroutines that an execution has gathered.
    pub(super) fn gathered(&self) -> Vec<NonNull<Goroutine>> {
        let items = self.execution().map_or(&[][..], |execution| &execution.items);
        items.iter().filter_map(|item| if let Item::Goroutine(g) = item { Some(*g) } else { None }).collect()
    }
}
