//! Waiting for several channel operations at once: the [`select!`](crate::select!) macro, and [`Select`] for cases that
//! are known only at run time.
//!
//! Exactly one case happens; of those that are ready at one instant, each is chosen with the same probability; a value
//! is never received and dropped, and never sent twice. Source: Go's `select`, and `reflect.Select`.

mod case;
mod macros;
mod pass;

use std::fmt;
use std::future::Future;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use goby_runtime::{TIMED_OUT, Wait};

use crate::chan::{Receiver, RecvError, SendError, Sender};

pub use self::case::{Case, RecvCase, SendCase, no_receiver, no_sender};
pub use self::pass::{Cases, Choice, Look, Until, look, run, wait};

/// Cases that a [`Select`] may have. Source: Go's `reflect.Select`.
pub const MAX_CASES: usize = 65_536;

/// Waits for ever: what `select! {}` does.
#[doc(hidden)]
pub fn forever() -> ! {
    run(Choice::fair(), &mut [], Until::Forever);
    unreachable!("nobody ends a select without cases")
}

/// `default(duration)`: the deadline, unless it lies beyond the clock.
#[doc(hidden)]
pub fn until(timeout: Duration) -> Until {
    goby_runtime::now().checked_add(timeout).map_or(Until::Forever, Until::Deadline)
}

/// A select whose cases are added at run time.
///
/// ```
/// use goby::chan;
/// use goby::chan::Select;
///
/// let channels: Vec<_> = (0..10).map(|_| chan::bounded(1)).collect();
/// channels[3].0.send("hello").unwrap();
/// let mut select = Select::new();
/// for (_, rx) in &channels {
///     select.recv(rx);
/// }
/// let mut selected = select.select();
/// assert_eq!(selected.index(), 3);
/// assert_eq!(selected.recv(&channels[3].1), Ok("hello"));
/// ```
#[derive(Default)]
#[must_use = "a select does nothing until it selects"]
pub struct Select<'a> {
    cases: Vec<Box<dyn Case + Send + 'a>>,
}

impl<'a> Select<'a> {
    /// Makes a select without cases; it would wait for ever.
    pub fn new() -> Select<'a> {
        Select { cases: Vec::new() }
    }

    /// Adds a case that receives; gives its index.
    ///
    /// # Panics
    ///
    /// When there are [`MAX_CASES`] already.
    pub fn recv<T: Send>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.add(Box::new(RecvCase::new(receiver)))
    }

    /// Adds a case that sends `value`; gives its index. If another case happens, the value is dropped.
    ///
    /// # Panics
    ///
    /// When there are [`MAX_CASES`] already.
    pub fn send<T: Send>(&mut self, sender: &'a Sender<T>, value: T) -> usize {
        self.add(Box::new(SendCase::new(sender, Some(value))))
    }

    /// Adds a case that sends what is in `slot`; gives its index. The value stays there unless it is sent.
    ///
    /// # Panics
    ///
    /// When there are [`MAX_CASES`] already.
    pub fn send_from<T: Send>(&mut self, sender: &'a Sender<T>, slot: &'a mut Option<T>) -> usize {
        self.add(Box::new(SendCase::from_slot(sender, slot)))
    }

    fn add(&mut self, case: Box<dyn Case + Send + 'a>) -> usize {
        assert!(self.cases.len() < MAX_CASES, "a select has at most {MAX_CASES} cases");
        self.cases.push(case);
        self.cases.len() - 1
    }

    /// Waits until one case has happened.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    pub fn select(self) -> Selected<'a> {
        self.select_until(Until::Forever).expect("without a deadline a select ends with a case")
    }

    /// Carries out a case that is ready now; none if none is.
    pub fn try_select(self) -> Option<Selected<'a>> {
        self.select_until(Until::Now)
    }

    /// Waits until one case has happened, at most for `timeout`.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    pub fn select_timeout(self, timeout: Duration) -> Option<Selected<'a>> {
        self.select_until(until(timeout))
    }

    /// Waits until one case has happened, at most until `deadline`.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    pub fn select_deadline(self, deadline: Instant) -> Option<Selected<'a>> {
        self.select_until(Until::Deadline(deadline))
    }

    fn select_until(mut self, until: Until) -> Option<Selected<'a>> {
        let index = run(Choice::fair(), &mut refs(&mut self.cases), until)?;
        Some(Selected::new(self.cases, index))
    }

    /// Waits from async code until one case has happened.
    ///
    /// ```
    /// use goby::chan;
    /// use goby::chan::Select;
    ///
    /// let (tx, rx) = chan::bounded(0);
    /// goby::go(move || tx.send(1));
    /// let received = goby::block_on(async {
    ///     let mut select = Select::new();
    ///     select.recv(&rx);
    ///     select.select_async().await.recv(&rx)
    /// });
    /// assert_eq!(received, Ok(1));
    /// ```
    ///
    /// # Cancellation
    ///
    /// Dropped before it is ready, the future has done nothing: a value that was already on its way to it goes to the
    /// next receiver. A value that it offered may have been taken.
    pub fn select_async(self) -> SelectFuture<'a> {
        SelectFuture { cases: self.cases, wait: Wait::task(), stage: Stage::Unpolled, _pinned: PhantomPinned }
    }
}

fn refs<'r, 'a>(cases: &'r mut [Box<dyn Case + Send + 'a>]) -> Vec<&'r mut (dyn Case + 'a)> {
    cases.iter_mut().map(|case| &mut **case as &mut (dyn Case + 'a)).collect()
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("cases", &self.cases.len()).finish()
    }
}

/// The case that happened, and its result.
#[must_use = "the received value is inside"]
pub struct Selected<'a> {
    case: Box<dyn Case + Send + 'a>,
    index: usize,
}

impl<'a> Selected<'a> {
    fn new(mut cases: Vec<Box<dyn Case + Send + 'a>>, index: usize) -> Selected<'a> {
        Selected { case: cases.swap_remove(index), index }
    }

    /// The index of the case, as given when it was added.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Gives what the case received, where it was a receive from `receiver`.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when the channel is closed and drained.
    ///
    /// # Panics
    ///
    /// When the case is another one, or the result has been taken.
    pub fn recv<T>(&mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        let chan = receiver.chan().map(case::any);
        assert!(self.case.is_recv() && self.case.chan() == chan, "case {} is another one", self.index);
        // SAFETY: a receive from that channel, which carries values of one type; the channel is alive
        // because the case borrows it.
        let case = unsafe { &mut *(&raw mut *self.case).cast::<RecvCase<'_, T>>() };
        case.take().expect("the result has been taken")
    }

    /// Tells how the send went, where the case was a send to `sender`.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value, when the channel is closed or its receivers are gone.
    ///
    /// # Panics
    ///
    /// When the case is another one, or the result has been taken.
    pub fn send<T>(&mut self, sender: &Sender<T>) -> Result<(), SendError<T>> {
        let chan = sender.chan().map(case::any);
        assert!(!self.case.is_recv() && self.case.chan() == chan, "case {} is another one", self.index);
        // SAFETY: as in `recv`.
        let case = unsafe { &mut *(&raw mut *self.case).cast::<SendCase<'_, T>>() };
        case.take().expect("the result has been taken")
    }
}

impl fmt::Debug for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selected").field("index", &self.index).finish_non_exhaustive()
    }
}

/// What a [`SelectFuture`] is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unpolled,
    Queued,
    Ended,
}

/// The future of [`Select::select_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct SelectFuture<'a> {
    /// Boxed, so that the waiters inside stay where they are.
    cases: Vec<Box<dyn Case + Send + 'a>>,
    wait: Wait,
    stage: Stage,
    _pinned: PhantomPinned,
}

impl<'a> Future for SelectFuture<'a> {
    type Output = Selected<'a>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Selected<'a>> {
        // SAFETY: the wait, which is queued by reference, is not moved.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(this.stage != Stage::Ended, "polled after it was ready");
        this.wait.set_waker(cx.waker());
        let mut cases = refs(&mut this.cases);
        let won = match this.stage {
            Stage::Unpolled => {
                this.stage = Stage::Queued;
                let order = pass::Order::new(&cases);
                // SAFETY: the cases are boxed, the wait is pinned with the future, and its drop takes them out.
                unsafe { pass::look_or_queue(&mut cases, &order, Some(&this.wait), false) }
            }
            // SAFETY: queued by an earlier poll, and claimed.
            _ => this.wait.token().and_then(|token| unsafe { pass::take_out(&mut cases, token) }),
        };
        match won {
            Some(index) => {
                this.stage = Stage::Ended;
                Poll::Ready(Selected::new(std::mem::take(&mut this.cases), index))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for SelectFuture<'_> {
    fn drop(&mut self) {
        if self.stage != Stage::Queued {
            return;
        }
        // Nobody may claim it while the cases are taken out, one after the other.
        let unparker = self.wait.claim(TIMED_OUT);
        let token = if unparker.is_some() { TIMED_OUT } else { self.wait.token().expect("claimed by somebody") };
        let mut cases = refs(&mut self.cases);
        // SAFETY: queued by a poll, and claimed with this token.
        if let Some(index) = unsafe { pass::take_out(&mut cases, token) } {
            cases[index].undo();
        }
        // There is nobody to unpark. The waker inside is the executor's code, which may panic: last.
        drop(unparker);
    }
}

impl fmt::Debug for SelectFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectFuture").field("cases", &self.cases.len()).finish_non_exhaustive()
    }
}
