//! A select from async code. The queued cases and the wait belong to the [`Select`], not to the
//! future, because the future may be forgotten. They are in boxes there.
//!
//! A case that receives is only told that there is a value. Until the future is polled the value
//! stays in its channel, for the first receiver that comes. The value of a case that sends may be
//! taken at any time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use goby_runtime::{AnyWait, TIMED_OUT, TaskWait};

use super::case::How;
use super::{Select, Selected, Still, ordered};

/// The wait of a future, if its cases are queued for it.
#[derive(Default)]
pub(super) struct Queued {
    /// Kept for the next time.
    wait: Option<Still<TaskWait>>,
    is_queued: bool,
}

impl Queued {
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        self.is_queued
    }
}

impl Select<'_> {
    /// Takes the cases out of the queues in which a future has left them. A value that is left in
    /// one of them is dropped by `settle`, after this: its destructor is the user's code, which may
    /// panic, and nothing may be queued then.
    #[cold]
    pub(super) fn take_out(&mut self) {
        let wait = self.queued.wait.as_ref().expect("it is queued for one");
        self.queued.is_queued = false;
        // Nobody may claim the wait while the cases are taken out, one after the other.
        let unparker = wait.claim(TIMED_OUT);
        let token = if unparker.is_some() { TIMED_OUT } else { wait.token().expect("claimed by somebody") };
        self.happened = Some(token).filter(|&token| token < self.cases.len());
        // SAFETY: queued by a poll, and claimed with this token.
        unsafe { ordered::give_up(&mut self.cases, token) };
        // There is nobody to unpark. The waker inside is the executor's code, which may panic, so
        // it is dropped last.
        drop(unparker);
    }

    /// Carries out a case, or queues all; returns the index of the case that happened.
    fn look_or_queue(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        let biased = self.biased;
        let wait = TaskWait::new();
        // This is the executor's code, which may panic: it runs while nothing is queued.
        wait.set_waker(cx.waker());
        match &mut self.queued.wait {
            Some(place) => **place = wait,
            None => self.queued.wait = Some(Still::new(Box::new(wait))),
        }
        let order = self.order.get_or_insert_with(|| ordered::Order::new(&self.cases));
        let wait = self.queued.wait.as_deref().map(AnyWait::from);
        // SAFETY: the cases and the wait are boxed, and `settle` takes them out before anything
        // else is done with them.
        let won = unsafe { ordered::look_or_queue(&mut self.cases, order, wait, How::Tell, biased) };
        self.queued.is_queued = won.is_none();
        won
    }
}

/// The future of [`Select::select_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct SelectFuture<'s, 'a> {
    /// None: it has ended.
    select: Option<&'s mut Select<'a>>,
}

impl<'s, 'a> SelectFuture<'s, 'a> {
    pub(super) fn new(select: &'s mut Select<'a>) -> SelectFuture<'s, 'a> {
        SelectFuture { select: Some(select) }
    }
}

impl<'s> Future for SelectFuture<'s, '_> {
    type Output = Selected<'s>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Selected<'s>> {
        let select = self.select.as_deref_mut().expect("polled after it was ready");
        let mut won = None;
        if select.queued.is_queued {
            let wait = select.queued.wait.as_deref().expect("it is queued for one");
            if wait.token().is_none() {
                wait.set_waker(cx.waker());
            }
            // A claimer that comes meanwhile takes the new waker, or is seen here: both enter the
            // waker's lock.
            let Some(token) = wait.token() else { return Poll::Pending };
            select.queued.is_queued = false;
            // SAFETY: queued by an earlier poll, and claimed with this token.
            won = unsafe { ordered::take_out_told(&mut select.cases, token) };
        }
        let Some(index) = won.or_else(|| select.look_or_queue(cx)) else { return Poll::Pending };
        let select = self.select.take().expect("it is there");
        Poll::Ready(select.selected(index))
    }
}

impl Drop for SelectFuture<'_, '_> {
    fn drop(&mut self) {
        if let Some(select) = &mut self.select {
            select.settle();
        }
    }
}

impl fmt::Debug for SelectFuture<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectFuture").field("select", &self.select).finish()
    }
}
