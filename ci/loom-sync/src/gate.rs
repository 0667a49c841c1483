//! What the sources under test use of the runtime: a gate of loom's mutex and condition variable,
//! and a clock that each look moves on by a step that the model chooses.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use loom::sync::atomic::Ordering;
use loom::sync::{Arc, Condvar, Mutex};

#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitReason {
    MutexLock,
    RwLockRead,
    RwLockWrite,
    SemaphoreAcquire,
    WaitGroupWait,
}

pub(crate) enum Decision<R, W = usize> {
    Ready(R),
    Wait(W),
}

impl<W: Default> Decision<(), W> {
    pub(crate) fn ready_if(is_ready: bool) -> Decision<(), W> {
        if is_ready { Decision::Ready(()) } else { Decision::Wait(W::default()) }
    }
}

pub(crate) enum Waited<R> {
    Ready(R),
    Unparked(usize),
    #[allow(dead_code)] // There are no deadlines in the models.
    TimedOut,
}

pub(crate) struct Gate<S> {
    inner: Mutex<(S, VecDeque<(usize, Arc<Slot>)>)>,
}

/// Where a waiter finds its token.
struct Slot {
    token: Mutex<Option<usize>>,
    left: Condvar,
}

type Wakes = Vec<(Arc<Slot>, usize)>;

pub(crate) struct Waiters<'a> {
    queue: &'a mut VecDeque<(usize, Arc<Slot>)>,
    wakes: &'a mut Wakes,
}

impl Waiters<'_> {
    pub(crate) fn front_tag(&mut self) -> Option<usize> {
        self.queue.front().map(|(tag, _)| *tag)
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn unpark_one(&mut self, token: usize) -> bool {
        let Some((_, slot)) = self.queue.pop_front() else { return false };
        self.wakes.push((slot, token));
        true
    }

    pub(crate) fn unpark_all(&mut self, token: usize) -> usize {
        std::iter::from_fn(|| self.unpark_one(token).then_some(())).count()
    }
}

/// Wakes the waiters, after unlocking, as the runtime does.
fn wake(wakes: Wakes) {
    for (slot, token) in wakes {
        *slot.token.lock().unwrap() = Some(token);
        slot.left.notify_one();
    }
}

impl<S> Gate<S> {
    pub(crate) fn new(state: S) -> Gate<S> {
        Gate { inner: Mutex::new((state, VecDeque::new())) }
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut S, &mut Waiters<'_>) -> R) -> R {
        let mut wakes = Wakes::new();
        let result = {
            let mut inner = self.inner.lock().unwrap();
            let (state, queue) = &mut *inner;
            f(state, &mut Waiters { queue, wakes: &mut wakes })
        };
        wake(wakes);
        result
    }

    pub(crate) fn wait<R>(
        &self,
        _: WaitReason,
        deadline: Option<Instant>,
        f: impl FnOnce(&mut S, &mut Waiters<'_>) -> Decision<R>,
    ) -> Waited<R> {
        assert!(deadline.is_none(), "the models have no deadlines");
        let slot = Arc::new(Slot { token: Mutex::new(None), left: Condvar::new() });
        let mut wakes = Wakes::new();
        let verdict = {
            let mut inner = self.inner.lock().unwrap();
            let (state, queue) = &mut *inner;
            let verdict = f(state, &mut Waiters { queue, wakes: &mut wakes });
            if let Decision::Wait(tag) = verdict {
                queue.push_back((tag, slot.clone()));
            }
            verdict
        };
        wake(wakes);
        if let Decision::Ready(ready) = verdict {
            return Waited::Ready(ready);
        }
        let mut token = slot.token.lock().unwrap();
        loop {
            match *token {
                Some(token) => return Waited::Unparked(token),
                None => token = slot.left.wait(token).unwrap(),
            }
        }
    }
}

/// What reports are told of a wait.
pub(crate) fn with_reach<R>(_context: bool, _timer: Option<IsArmed<'_>>, f: impl FnOnce() -> R) -> R {
    f()
}

pub(crate) type IsArmed<'a> = &'a dyn Fn() -> bool;

/// No model has a value with a destructor that panics.
pub(crate) fn discard_quietly<T>(value: T) {
    drop(value);
}

/// No model ends a goroutine from inside.
pub(crate) fn is_goexit(_payload: &(dyn std::any::Any + Send)) -> bool {
    false
}

impl fmt::Debug for Waiters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiters")
    }
}

impl<S> fmt::Debug for Gate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

thread_local! {
    /// By how many microseconds a look moves the clock on, and how many looks there were. A model's
    /// threads are coroutines of one OS thread, and loom does not explore the clock.
    static CLOCK: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Sets the clock to its start.
pub(crate) fn set_clock(step: u64) {
    CLOCK.set((step, 0));
}

pub(crate) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    let (step, looks) = CLOCK.get();
    CLOCK.set((step, looks + 1));
    *START.get_or_init(Instant::now) + Duration::from_micros(looks * step)
}

pub(crate) fn checkpoint() {}

pub(crate) fn checkpoint_on(_object: usize) {}

pub(crate) fn gives_back(_object: usize) {}

/// Called after a refused try, which may give way.
pub(crate) fn refused() {}

/// Called at a look, which may give way.
pub(crate) fn polled() {}

/// Why a goroutine has not run. In a model all run.
pub(crate) struct NeverRan;

impl NeverRan {
    pub(crate) const MESSAGE: &str = "never ran";
}

pub(crate) fn go_owing<S: 'static>(
    _: &Location<'static>,
    owed: S,
    run: impl FnOnce(S) + 'static,
    _never: impl FnOnce(S) + 'static,
) {
    loom::thread::spawn(move || run(owed));
}

/// The runtime's fences, as its own models have them.
pub(crate) fn light_fence() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

pub(crate) fn heavy_fence() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

pub(crate) fn fences_work() -> bool {
    true
}

/// Spins once.
pub(crate) struct Backoff(bool);

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff(true)
    }

    pub(crate) fn spin(&mut self) -> bool {
        std::mem::replace(&mut self.0, false)
    }
}
