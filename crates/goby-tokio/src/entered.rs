//! Tokio's reactor, entered for the length of a call.
//!
//! `Handle::enter` keeps the handle in a thread-local until its guard is dropped. Guards must be
//! dropped in the reverse order, otherwise tokio panics. The calls of a worker need not nest: a
//! poll may come to code that parks the goroutine, and a neighbor's poll begins before that one
//! ends.
//!
//! So the guards belong to the thread. It has a stack of entries: a handle, its guard, and the
//! number of calls under way that use it.
//!
//! - A call uses the top entry if that is of its own handle; otherwise it pushes an entry.
//! - A call that ends leaves its entry. Then entries that no call uses are popped off the top.
//!
//! An entry in use keeps its place, since only the top is popped. So a call finds its entry by
//! index, and no guard is dropped out of order.
//!
//! But tokio's current handle is the top entry's. So a call that parks and goes on below an entry
//! of another handle sees that one until it ends. The documentation of `Bridge` says so.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::runtime::{EnterGuard, Handle};

struct Entry {
    handle: &'static Handle,
    calls: usize,
    /// Dropped by [`Leave`] only. A thread that ends with entries in use, those of goroutines that
    /// never ended, leaves the guards as they are: tokio's own thread-local may be gone by then.
    guard: ManuallyDrop<EnterGuard<'static>>,
}

thread_local! {
    static ENTRIES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `handle` entered. `f` may park the goroutine.
pub(crate) fn enter<R>(handle: &'static Handle, f: impl FnOnce() -> R) -> R {
    let _leave = Leave::enter(handle);
    f()
}

/// A call that uses an entry, until it is dropped.
struct Leave {
    /// None in a destructor of another thread-local, after this thread's entries are gone.
    index: Option<usize>,
    /// The entry is the thread's.
    _not_send: PhantomData<*const ()>,
}

impl Leave {
    fn enter(handle: &'static Handle) -> Leave {
        let index = ENTRIES.try_with(|entries| {
            let entries = &mut *entries.borrow_mut();
            match entries.last_mut() {
                Some(top) if ptr::eq(top.handle, handle) => top.calls += 1,
                _ => entries.push(Entry { handle, calls: 1, guard: ManuallyDrop::new(handle.enter()) }),
            }
            entries.len() - 1
        });
        Leave { index: index.ok(), _not_send: PhantomData }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let Some(index) = self.index else { return };
        let _ = ENTRIES.try_with(|entries| {
            let entries = &mut *entries.borrow_mut();
            entries[index].calls -= 1;
            while let Some(top) = entries.pop_if(|top| top.calls == 0) {
                drop(ManuallyDrop::into_inner(top.guard));
            }
        });
    }
}

pin_project! {
    /// A future that is polled, and dropped, with tokio entered.
    pub(crate) struct EnteredFuture<F> {
        // None once it has ended.
        #[pin]
        future: Option<F>,
        handle: &'static Handle,
    }

    impl<F> PinnedDrop for EnteredFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                enter(this.handle, || this.future.set(None));
            }
        }
    }
}

impl<F> EnteredFuture<F> {
    pub(crate) fn new(handle: &'static Handle, future: F) -> EnteredFuture<F> {
        EnteredFuture { future: Some(future), handle }
    }
}

impl<F: Future> Future for EnteredFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        enter(this.handle, || {
            let future = this.future.as_mut().as_pin_mut().expect("polled until it has ended");
            let poll = future.poll(cx);
            if poll.is_ready() {
                this.future.set(None);
            }
            poll
        })
    }
}
