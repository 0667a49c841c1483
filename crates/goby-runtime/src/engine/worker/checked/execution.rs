//! The state of an execution: who can go on, and what has happened. It knows nothing of the worker.

use std::ptr::NonNull;

use async_task::Runnable;

use super::IDS;
use super::chooser::{Chooser, End, Event, Plan, Point};
use crate::base::stack_trace::StackTrace;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::park::Wait;

/// One that can go on.
pub(super) enum Item {
    Goroutine(NonNull<Goroutine>),
    Future(Runnable),
}

/// The state of an execution. Only the worker's own thread touches it.
pub(super) struct Execution {
    pub(super) plan: Plan,
    /// Alive for the length of [`Worker::execute`].
    chooser: NonNull<dyn Chooser>,
    /// The numbers of those that can go on, and, at the same places, they. Their order follows from
    /// the choices before.
    pub(super) numbers: Vec<u64>,
    pub(super) items: Vec<Item>,
    /// The one that a point has chosen to run after it.
    pub(super) next: Option<Item>,
    /// The one that ran last; zero: a timer.
    pub(super) running: u64,
    /// The id of the first goroutine.
    first: u64,
    /// The goroutines and futures that earlier executions have left behind.
    pub(super) before: (usize, usize),
    /// The number of the next future.
    next_future: u64,
    pub(super) steps: u64,
    /// The wait of the goroutine that waits until nothing else can go on.
    pub(super) idler: Option<NonNull<Wait>>,
    /// Points are passed over: the running goroutine is inside a short lock.
    pub(super) is_mute: bool,
    pub(super) main_has_ended: bool,
    pub(super) end: Option<End>,
}

impl Execution {
    /// Adds one that can go on.
    pub(super) fn add(&mut self, number: u64, item: Item) {
        debug_assert!(!self.numbers.contains(&number), "it is there already");
        self.numbers.push(number);
        self.items.push(item);
    }

    pub(super) fn number(&self, id: GoroutineId) -> u64 {
        id.as_u64().wrapping_sub(self.first).wrapping_add(1)
    }

    /// Adds a goroutine, unless it is of an earlier execution.
    pub(super) fn add_goroutine(&mut self, g: NonNull<Goroutine>) {
        // SAFETY: it is runnable, so its record is alive.
        let header = unsafe { g.as_ref() };
        let number = self.number(header.id);
        if number == 0 || number > IDS {
            return;
        }
        if !header.is_pinned() {
            // What a scheduler or a timer starts has no parent.
            let parent = match header.origin.parent {
                0 => 0,
                parent => self.number(GoroutineId::from_u64(parent)),
            };
            self.chooser().born(number, parent, header.origin.spawned_at);
        }
        self.tell(|running| Event::Wakes(running, number));
        self.add(number, Item::Goroutine(g));
    }

    pub(super) fn add_future(&mut self, runnable: Runnable) {
        let number = self.next_future;
        self.next_future += 1;
        self.tell(|running| Event::Wakes(running, number));
        self.add(number, Item::Future(runnable));
    }

    pub(super) fn chooser(&mut self) -> &mut dyn Chooser {
        // SAFETY: alive by the contract of the field, and only this thread uses it, in calls that
        // do not nest: a chooser calls nothing of goby.
        unsafe { self.chooser.as_mut() }
    }

    #[inline]
    pub(super) fn tell(&mut self, event: impl FnOnce(u64) -> Event) {
        let running = self.running;
        let chooser = self.chooser();
        if chooser.wants_events() {
            chooser.happens(event(running));
        }
    }

    /// Counts a step. Returns false if it is one too many.
    pub(super) fn step(&mut self) -> bool {
        self.steps += 1;
        if self.steps > self.plan.max_steps {
            self.end.get_or_insert(End::OutOfSteps);
        }
        self.end.is_none()
    }

    /// Chooses among those that can go on, of which there is one at least, and takes that one out.
    /// Returns none if the chooser ends the execution.
    pub(super) fn choose(&mut self, current: Option<u64>, yields: bool) -> Option<(u64, Item)> {
        let place = if self.numbers.len() == 1 {
            0
        } else {
            // SAFETY: as in `chooser`.
            let chooser = unsafe { self.chooser.as_mut() };
            let point = Point { current, yields, candidates: &self.numbers, step: self.steps };
            match chooser.choose(&point) {
                Some(place) if place < self.numbers.len() => place,
                _ => {
                    self.end.get_or_insert(End::GivenUp);
                    return None;
                }
            }
        };
        Some((self.numbers.swap_remove(place), self.items.swap_remove(place)))
    }

    /// One has been chosen.
    pub(super) fn pass(&mut self, number: u64) {
        self.running = number;
        self.tell(Event::Passes);
    }
}

impl Execution {
    pub(super) fn empty(plan: Plan, chooser: *mut dyn Chooser) -> Execution {
        Execution {
            plan,
            chooser: NonNull::new(chooser).expect("made from a reference"),
            numbers: Vec::new(),
            items: Vec::new(),
            next: None,
            running: 0,
            first: 0,
            before: (0, 0),
            next_future: IDS,
            steps: 0,
            idler: None,
            is_mute: false,
            main_has_ended: false,
            end: None,
        }
    }

    /// Begins anew. The former execution has finished, or nothing of it can go on. So nothing of it
    /// is left here but the room in its lists.
    pub(super) fn begin(&mut self, plan: Plan, chooser: *mut dyn Chooser, first: u64, before: (usize, usize)) {
        self.plan = plan;
        self.chooser = NonNull::new(chooser).expect("made from a reference");
        self.first = first;
        self.before = before;
        self.next_future = IDS;
        (self.running, self.steps) = (0, 0);
        (self.main_has_ended, self.end) = (false, None);
    }

    /// Tells that a goroutine has come to a point.
    #[inline]
    pub(super) fn arrive(&mut self, g: &Goroutine, number: u64, object: usize) {
        let chooser = self.chooser();
        if !chooser.wants_events() {
            return;
        }
        if chooser.wants_stacks()
            && let Some(stack) = g.usable_stack().and_then(|usable| StackTrace::of_goroutine(&usable))
        {
            chooser.arrives(number, stack);
        }
        chooser.happens(Event::Arrives(number, object));
    }
}
