//! Goroutines that borrow from the function that starts them.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::Arc;
use std::thread;

use crate::base::discard::{discard, discard_quietly};
use crate::base::lock::Lock;
use crate::base::order::Order;
use crate::base::tsan;
use crate::engine::birth::{Birth, Joined};
use crate::engine::checkpoint::checkpoint;
use crate::engine::current::current_shared;
use crate::engine::gate::{Decision, Gate};
use crate::engine::go::JoinHandle;
use crate::engine::goexit::is_goexit;
use crate::engine::io::reactor::tell_cure_at_end;
use crate::engine::join_error::JoinError;
use crate::engine::owed::{Debt, NeverRan};
use crate::engine::wait_reason::WaitReason;

/// Runs `f`, which may start goroutines that borrow from its environment, and waits for all of
/// them.
///
/// Source: `std::thread::scope`.
///
/// ```
/// let mut numbers = vec![1, 2, 3];
/// let sum = goby::scope(|s| {
///     let sum = s.go(|| numbers.iter().sum::<i32>());
///     sum.join().unwrap()
/// });
/// numbers.push(sum);
/// assert_eq!(numbers, [1, 2, 3, 6]);
/// ```
///
/// # Blocking
///
/// Until every goroutine of the scope has ended.
///
/// # Panics
///
/// As `f` does; otherwise with the payload of the first goroutine of the scope that panicked and
/// was not joined. A result that nobody joined is dropped before the scope ends, and a panic of its
/// destructor counts as a panic of its goroutine. The payloads of further panics are dropped; a
/// panic of such a payload's destructor is lost. A goroutine that never ran, because its runtime
/// was dropped, counts as one that panicked.
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    checkpoint();
    let scope = Scope {
        inner: Arc::new(Inner { running: Gate::new(0), panicked: Lock::new(None), order: Order::new() }),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.inner.running.wait(WaitReason::ScopeWait, None, |n, _| Decision::ready_if(*n == 0));
    scope.inner.order.follow();
    let panicked = scope.inner.panicked.lock().take();
    // Drop what is not raised first: if its destructor panicked during the unwinding, the process
    // would abort.
    match (result, panicked) {
        (Ok(value), None) => value,
        (Ok(value), Some(payload)) => {
            discard_quietly(value);
            panic::resume_unwind(payload)
        }
        (Err(payload), panicked) => {
            discard_quietly(panicked);
            panic::resume_unwind(payload)
        }
    }
}

/// Starts goroutines that end before the scope does.
pub struct Scope<'scope, 'env: 'scope> {
    inner: Arc<Inner>,
    /// Invariant, so that neither lifetime can be shortened or lengthened.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

struct Inner {
    running: Gate<usize>,
    /// The payload of a goroutine that nobody joined.
    panicked: Lock<Option<Box<dyn Any + Send>>>,
    /// From the goroutines to the scope's end.
    order: Order,
}

impl Inner {
    /// Keeps the panic of a goroutine that nobody joined, unless there is one already.
    fn keep(&self, payload: Box<dyn Any + Send>) {
        if is_goexit(&*payload) {
            return;
        }
        let mut panicked = self.panicked.lock();
        let unwanted = if panicked.is_none() { panicked.replace(payload) } else { Some(payload) };
        drop(panicked);
        // The payload is the user's, and its drop may park: so drop it outside the lock.
        discard_quietly(unwanted);
    }
}

/// Where a goroutine of a scope leaves its result.
struct Packet<'scope, T> {
    scope: Arc<Inner>,
    result: Lock<Option<thread::Result<T>>>,
    /// From the goroutine to whoever drops the result.
    order: Order,
    _scope: PhantomData<&'scope ()>,
}

impl<T> Drop for Packet<'_, T> {
    fn drop(&mut self) {
        // The second holder drops the packet: a result that is still there was not joined.
        let Some(unjoined) = self.result.lock().take() else { return };
        if !mem::needs_drop::<T>() && unjoined.is_ok() {
            return;
        }
        let _heed = tsan::heed();
        self.order.follow();
        if let Err(payload) = unjoined.and_then(discard) {
            self.scope.keep(payload);
        }
    }
}

/// One of the two holders of a packet: the handle and the goroutine.
struct Holder<'scope, T>(ManuallyDrop<Arc<Packet<'scope, T>>>);

impl<T> Drop for Holder<'_, T> {
    fn drop(&mut self) {
        // No edge, as in `goroutine::detach`.
        let _ignore = tsan::ignore();
        // SAFETY: the field is not used again.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

/// Counts a goroutine of a scope. Its drop is the last thing that the goroutine does: after it
/// nothing borrowed is touched.
struct Running {
    scope: Arc<Inner>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.scope.order.precede();
        let _ignore = tsan::ignore();
        self.scope.running.with(|n, waiters| {
            *n -= 1;
            if *n == 0 {
                waiters.unpark_all(0);
            }
        });
    }
}

/// What a goroutine owes to its scope.
struct Body<'scope, T> {
    packet: Holder<'scope, T>,
    running: Running,
}

impl<T> Body<'_, T> {
    fn end(self, result: thread::Result<T>) {
        let Body { packet, running } = self;
        *packet.0.result.lock() = Some(result);
        packet.0.order.precede();
        // A result that nobody will join is dropped here, while the scope still waits for us.
        drop(packet);
        drop(running);
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine that may borrow from outside the scope.
    ///
    /// # Panics
    ///
    /// See [`scope`].
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        checkpoint();
        {
            // No edge: a goroutine that has ended does not come before one that is started later.
            let _ignore = tsan::ignore();
            self.inner.running.with(|n, _| *n += 1);
        }
        let packet = Arc::new(Packet {
            scope: self.inner.clone(),
            result: Lock::new(None),
            order: Order::new(),
            _scope: PhantomData,
        });
        let theirs = Holder(ManuallyDrop::new(packet.clone()));
        let packet = Holder(ManuallyDrop::new(packet));
        let body = Body { packet: theirs, running: Running { scope: self.inner.clone() } };
        let debt = Debt::new(
            body,
            |body: Body<'_, T>| {
                let result = panic::catch_unwind(AssertUnwindSafe(f));
                body.end(result.inspect_err(|payload| tell_cure_at_end(&**payload)));
            },
            |body| body.end(Err(Box::new(NeverRan::MESSAGE))),
        );
        // SAFETY: `scope` does not return before `running` is zero. By then the goroutine has
        // dropped what it borrowed. `f` was dropped by its call, or before the debt is paid without
        // it. The result was dropped with the packet, or is in the packet for the handle, which
        // cannot outlive 'scope.
        let handle = unsafe { Birth::<Joined>::at(Location::caller()).start(current_shared(), move || debt.pay()) };
        ScopedJoinHandle { handle, packet }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// Owns the right to join a goroutine of a scope.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<()>,
    packet: Holder<'scope, T>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits until the goroutine has ended, and returns its result.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    ///
    /// # Errors
    ///
    /// [`JoinError`] with the payload of its panic, which the scope then does not raise again.
    pub fn join(self) -> Result<T, JoinError> {
        // This fails if the goroutine never ran; the reason is in the packet.
        let _ = self.handle.join();
        let result = self.packet.0.result.lock().take().expect("an ended goroutine has left its result");
        result.map_err(JoinError::new)
    }

    /// Returns whether the goroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("id", &self.handle.id()).finish_non_exhaustive()
    }
}
