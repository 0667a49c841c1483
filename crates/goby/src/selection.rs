//! Waiting for several channel operations at once: the [`select!`](crate::select!) macro, and
//! [`Select`] for cases that are known only at run time.
//!
//! Exactly one case happens. Of the cases that are ready at one instant, each is chosen with the
//! same probability. A value is never received and dropped, and never sent twice. Source: Go's
//! `select`, and `reflect.Select`; for the loop over one `Select`, and `ready`, crossbeam-channel.
//!
//! A select makes up to three passes over its cases:
//!
//! 1. Lock the channels of all cases. At that one instant, see which cases are ready. Of several,
//!    choose one at random, or the first if the select is biased. Carry it out. Done.
//! 2. None is ready: queue a waiter in every channel, unlock them, park. The peer that carries out
//!    one of the cases claims the wait, and with it the select.
//! 3. Lock each channel once more, one at a time, and take the waiters out.
//!
//! Files: `macros` turns arms into cases; `case` says what a case does, and `kinds` how. Two files
//! go through the passes: `unrolled` for a `select!`, over cases whose types it knows, and
//! `ordered` for all others; `steps` is what they share. `future` waits from async code.
//!
//! Source: Go's `selectgo`.

mod macros;
mod case;
mod kinds;
mod steps;
mod unrolled;
mod ordered;
mod future;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::chan::{Receiver, RecvError, SendError, Sender};

pub use self::case::Case;
use self::case::{AsCase, Removed};
use self::future::Queued;
pub use self::future::SelectFuture;
pub use self::kinds::{RecvCase, SendCase, no_receiver, no_sender};
use self::ordered::Order;
pub use self::ordered::run;
pub use self::steps::{Choice, Until};
pub use self::unrolled::{Cases, Look, look, wait};

/// How many cases a [`Select`] may have. Source: Go's `reflect.Select`.
pub const MAX_CASES: usize = 65_536;

/// Waits forever. This is what `select! {}` does.
#[doc(hidden)]
pub fn forever() -> ! {
    run(Choice::fair(), &mut [], Until::Forever);
    unreachable!("nobody ends a select without cases")
}

/// Returns the deadline of a `default(duration)`, unless it lies beyond the clock.
#[doc(hidden)]
pub fn until(timeout: Duration) -> Until {
    goby_runtime::now().checked_add(timeout).map_or(Until::Forever, Until::Deadline)
}

/// A select with cases that are added at run time.
///
/// It is made once and selects as often as it is asked to, without allocating. The [`Selected`] has
/// the result of the case: the value received, or how the send went.
///
/// ```
/// use goby::chan::{self, Select};
///
/// let channels: Vec<_> = (0..10).map(|_| chan::bounded(1)).collect();
/// let mut select = Select::new();
/// for (_, rx) in &channels {
///     select.recv(rx);
/// }
/// for (i, (tx, rx)) in channels.iter().enumerate() {
///     tx.send(i).unwrap();
///     let mut selected = select.select();
///     assert_eq!(selected.index(), i);
///     assert_eq!(selected.recv(rx), Ok(i));
/// }
/// ```
///
/// A case that receives stays. If its channel is closed and drained it is always ready, until it is
/// [removed](Select::remove). A case that sends has its value beforehand, since a waiting receiver
/// takes the value at once. When the value is sent the case is disabled, until it is [given
/// another](Select::put). An unsent value stays, and is dropped with the select if nobody [takes it
/// back](Select::take).
///
/// ```
/// use goby::chan::{self, RecvError, Select};
///
/// let (numbers_tx, numbers) = chan::bounded(1);
/// let (squares_tx, squares) = chan::bounded(1);
/// goby::go(move || (1..=3).for_each(|n| numbers_tx.send(n).unwrap()));
/// goby::go(move || {
///     let mut select = Select::new();
///     let (next, out) = (select.recv(&numbers), select.send_later(&squares_tx));
///     loop {
///         let mut selected = select.select();
///         if selected.index() == next {
///             let Ok(n) = selected.recv(&numbers) else { break };
///             // What was there before is not sent yet: with one place, this waits.
///             if let Some(unsent) = select.put(out, &squares_tx, n * n) {
///                 squares_tx.send(unsent).unwrap();
///             }
///         } else {
///             selected.send(&squares_tx).unwrap();
///         }
///     }
///     if let Some(unsent) = select.take(out, &squares_tx) {
///         squares_tx.send(unsent).unwrap();
///     }
/// });
/// assert_eq!(squares.iter().collect::<Vec<_>>(), [1, 4, 9]);
/// ```
#[doc(alias("reflect.Select", "select_all"))]
#[derive(Default)]
#[must_use = "a select does nothing until it selects"]
pub struct Select<'a> {
    cases: Vec<Boxed<'a>>,
    /// The order of the cases' locks, if it is known.
    order: Option<Order>,
    biased: bool,
    /// The case that happened last. Its result is dropped when the cases are used next.
    happened: Option<usize>,
    /// The cases that a future has queued. The future may have been forgotten: the next use of the
    /// cases first takes them out.
    queued: Queued,
}

impl<'a> Select<'a> {
    /// Makes a select without cases. As it is, it would wait forever.
    pub fn new() -> Select<'a> {
        Select::default()
    }

    /// Makes a select that takes the first case that is ready, in the order in which they were
    /// added.
    ///
    /// Source: crossbeam-channel; the `biased;` of a [`select!`](crate::select!).
    ///
    /// ```
    /// use goby::chan::{self, Select};
    ///
    /// let ((urgent_tx, urgent), (work_tx, work)) = (chan::bounded(1), chan::bounded(1));
    /// work_tx.send("work")?;
    /// urgent_tx.send("urgent")?;
    /// let mut select = Select::new_biased();
    /// let first = select.recv(&urgent);
    /// select.recv(&work);
    /// assert_eq!(select.select().index(), first);
    /// # Ok::<(), goby::chan::SendError<&str>>(())
    /// ```
    pub fn new_biased() -> Select<'a> {
        let mut select = Select::default();
        select.biased = true;
        select
    }

    /// Adds a case that receives; returns its index.
    ///
    /// # Panics
    ///
    /// When there are [`MAX_CASES`] already.
    pub fn recv<T: Send>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.add(Box::new(RecvCase::new(receiver)))
    }

    /// Adds a case that sends `value`; returns its index. If another case happens, the value stays
    /// for the next time.
    ///
    /// # Panics
    ///
    /// When there are [`MAX_CASES`] already.
    pub fn send<T: Send>(&mut self, sender: &'a Sender<T>, value: T) -> usize {
        self.add(Box::new(SendCase::reusable(sender, Some(value))))
    }

    /// Adds a case that sends the value in `slot`; returns its index. A value that is not sent is
    /// back in `slot` when the select is dropped.
    ///
    /// # Panics
    ///
    /// When there are [`MAX_CASES`] already.
    pub fn send_from<T: Send>(&mut self, sender: &'a Sender<T>, slot: &'a mut Option<T>) -> usize {
        self.add(Box::new(SendCase::from_slot(sender, slot)))
    }

    /// Adds a case that sends a value that is [put](Select::put) there later; returns its index.
    ///
    /// Without a value the case never happens. [`ready`](Select::ready) counts it all the same: it
    /// asks whether a send would not wait.
    ///
    /// # Panics
    ///
    /// When there are [`MAX_CASES`] already.
    pub fn send_later<T: Send>(&mut self, sender: &'a Sender<T>) -> usize {
        self.add(Box::new(SendCase::reusable(sender, None)))
    }

    fn add(&mut self, case: Box<dyn Case + Send + 'a>) -> usize {
        assert!(self.cases.len() < MAX_CASES, "a select has at most {MAX_CASES} cases");
        self.settle();
        self.order = None;
        self.cases.push(Still::new(case));
        self.cases.len() - 1
    }

    /// Gives the case `index`, which sends to `sender`, its value; returns the unsent value that
    /// was there.
    ///
    /// If `sender` is a [`never`](Sender::never), it returns `value` itself.
    ///
    /// # Panics
    ///
    /// When the case is no send to that channel.
    #[track_caller]
    pub fn put<T>(&mut self, index: usize, sender: &Sender<T>, value: T) -> Option<T> {
        match self.send_case(index, sender) {
            Some(case) => case.put(value),
            None => Some(value),
        }
    }

    /// Takes back the unsent value of the case `index`, which sends to `sender`, and so disables
    /// the case.
    ///
    /// ```
    /// use goby::chan::{self, Select};
    ///
    /// let (tx, rx) = chan::bounded(0);
    /// let mut select = Select::new();
    /// let out = select.send(&tx, "not taken");
    /// assert!(select.try_select().is_none());
    /// assert_eq!(select.take(out, &tx), Some("not taken"));
    /// ```
    ///
    /// # Panics
    ///
    /// When the case is no send to that channel.
    #[track_caller]
    pub fn take<T>(&mut self, index: usize, sender: &Sender<T>) -> Option<T> {
        self.send_case(index, sender)?.take_back()
    }

    /// Returns the case `index`; none if `sender` has no channel, because the type that such a case
    /// sends cannot be known.
    #[track_caller]
    fn send_case<'s, T>(&'s mut self, index: usize, sender: &'s Sender<T>) -> Option<&'s mut SendCase<'s, T>> {
        self.settle();
        let case = self.cases.get_mut(index).unwrap_or_else(|| no_case(index));
        let chan = sender.chan().map(case::any);
        assert!(!case.is_recv() && case.chan() == chan, "case {index} is no send to this channel");
        chan?;
        // SAFETY: it is a send to that channel, which carries values of one type. The channel is
        // alive because the case borrows it.
        Some(unsafe { &mut *(&raw mut **case).cast::<SendCase<'s, T>>() })
    }

    /// Removes the case `index`, with its value if it sends. The other cases keep their indices.
    /// Source: crossbeam-channel.
    ///
    /// ```
    /// use goby::chan::{self, RecvError, Select};
    ///
    /// let receivers: Vec<_> = (0..3).map(|i| {
    ///     let (tx, rx) = chan::bounded(1);
    ///     tx.send(i).unwrap();
    ///     rx
    /// }).collect();
    /// let mut select = Select::new();
    /// receivers.iter().for_each(|rx| { select.recv(rx); });
    /// let (mut sum, mut open) = (0, receivers.len());
    /// while open > 0 {
    ///     let mut selected = select.select();
    ///     let index = selected.index();
    ///     match selected.recv(&receivers[index]) {
    ///         Ok(value) => sum += value,
    ///         Err(RecvError) => {
    ///             select.remove(index);
    ///             open -= 1;
    ///         }
    ///     }
    /// }
    /// assert_eq!(sum, 3);
    /// ```
    ///
    /// # Panics
    ///
    /// When there is none, or it has been removed.
    #[track_caller]
    pub fn remove(&mut self, index: usize) {
        self.settle();
        self.order = None;
        let case = self.cases.get_mut(index).unwrap_or_else(|| no_case(index));
        assert!(!case.is_removed(), "case {index} has been removed");
        *case = Still::new(Box::new(Removed));
    }

    /// Waits until one case has happened.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    pub fn select(&mut self) -> Selected<'_> {
        self.select_until(Until::Forever).expect("without a deadline a select ends with a case")
    }

    /// Carries out a case that is ready now; returns none if no case is ready.
    pub fn try_select(&mut self) -> Option<Selected<'_>> {
        self.select_until(Until::Now)
    }

    /// Waits until one case has happened, at most for `timeout`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    pub fn select_timeout(&mut self, timeout: Duration) -> Option<Selected<'_>> {
        self.select_until(until(timeout))
    }

    /// Waits until one case has happened, at most until `deadline`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    pub fn select_deadline(&mut self, deadline: Instant) -> Option<Selected<'_>> {
        self.select_until(Until::Deadline(deadline))
    }

    fn select_until(&mut self, until: Until) -> Option<Selected<'_>> {
        let biased = self.biased;
        let (cases, order) = self.parts();
        let index = ordered::select(cases, order, until, biased)?;
        Some(self.selected(index))
    }

    fn selected(&mut self, index: usize) -> Selected<'_> {
        self.happened = Some(index);
        Selected { case: &mut *self.cases[index], index }
    }

    /// Ends the last use of the cases, before they are used again.
    #[inline]
    fn settle(&mut self) {
        if self.queued.is_queued() {
            self.take_out();
        }
        if let Some(index) = self.happened.take() {
            self.cases[index].forget();
        }
    }

    /// Waits until one of the operations would not wait, and carries out none; returns the index of
    /// the case.
    ///
    /// This is for what a [`Selected`] cannot do: to look first, and to decide then which goroutine
    /// receives, or which value is sent. Others may come in between: use
    /// [`try_recv`](Receiver::try_recv) or [`try_send`](Sender::try_send), and ask again if they
    /// refuse.
    ///
    /// ```
    /// use goby::chan::{self, Select};
    ///
    /// let ((tx, rx), (_tx, idle)) = (chan::bounded(0), chan::bounded::<i32>(0));
    /// goby::go(move || tx.send("hello").unwrap());
    /// let mut select = Select::new();
    /// select.recv(&idle);
    /// let hello = select.recv(&rx);
    /// assert_eq!(select.ready(), hello);
    /// assert_eq!(rx.try_recv(), Ok("hello"));
    /// ```
    ///
    /// Two calls of `ready` that wait for each other's rendezvous wait forever: one side must send
    /// or receive. Source: crossbeam-channel.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    pub fn ready(&mut self) -> usize {
        self.ready_until(Until::Forever).expect("without a deadline it ends with a case")
    }

    /// Returns the index of a case that would not wait now; none if all would wait.
    pub fn try_ready(&mut self) -> Option<usize> {
        self.ready_until(Until::Now)
    }

    /// Waits as [`ready`](Select::ready) does, at most for `timeout`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    pub fn ready_timeout(&mut self, timeout: Duration) -> Option<usize> {
        self.ready_until(until(timeout))
    }

    /// Waits as [`ready`](Select::ready) does, at most until `deadline`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    pub fn ready_deadline(&mut self, deadline: Instant) -> Option<usize> {
        self.ready_until(Until::Deadline(deadline))
    }

    fn ready_until(&mut self, until: Until) -> Option<usize> {
        let biased = self.biased;
        let (cases, order) = self.parts();
        ordered::ready(cases, order, until, biased)
    }

    /// Waits from async code until one case has happened.
    ///
    /// ```
    /// use goby::chan::{self, Select};
    ///
    /// let (tx, rx) = chan::bounded(0);
    /// goby::go(move || (1..=3).for_each(|i| tx.send(i).unwrap()));
    /// let sum = goby::block_on(async {
    ///     let mut select = Select::new();
    ///     select.recv(&rx);
    ///     let mut sum = 0;
    ///     for _ in 0..3 {
    ///         sum += select.select_async().await.recv(&rx).unwrap();
    ///     }
    ///     sum
    /// });
    /// assert_eq!(sum, 6);
    /// ```
    ///
    /// # Cancellation
    ///
    /// If the future is dropped before it is ready, it has received nothing. A value that it
    /// offered may have been taken; otherwise the value stays in its case.
    pub fn select_async(&mut self) -> SelectFuture<'_, 'a> {
        self.settle();
        SelectFuture::new(self)
    }

    /// Returns the cases, none of which is queued, and the order of their locks.
    fn parts(&mut self) -> (&mut [Boxed<'a>], &Order) {
        self.settle();
        let order = self.order.get_or_insert_with(|| Order::new(&self.cases));
        (&mut self.cases, order)
    }
}

#[cold]
#[track_caller]
fn no_case(index: usize) -> ! {
    panic!("there is no case {index}")
}

impl Drop for Select<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("cases", &self.cases.len()).field("biased", &self.biased).finish_non_exhaustive()
    }
}

/// A case in a [`Select`].
type Boxed<'a> = Still<dyn Case + Send + 'a>;

/// A box with a content that others may point to. Moving a `Box` would claim that nobody else
/// points there.
struct Still<T: ?Sized>(NonNull<T>);

impl<T: ?Sized> Still<T> {
    fn new(content: Box<T>) -> Still<T> {
        Still(NonNull::from(Box::leak(content)))
    }
}

// SAFETY: it owns its content.
unsafe impl<T: ?Sized + Send> Send for Still<T> {}

impl<T: ?Sized> Deref for Still<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: alive until the drop.
        unsafe { self.0.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for Still<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }
}

impl<T: ?Sized> Drop for Still<T> {
    fn drop(&mut self) {
        // SAFETY: leaked in `new`, and dropped here only.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl AsCase for Boxed<'_> {
    fn get(&self) -> &(dyn Case + '_) {
        &**self
    }

    fn get_mut(&mut self) -> &mut (dyn Case + '_) {
        &mut **self
    }
}

/// The case that happened, and its result.
#[must_use = "the received value is inside"]
pub struct Selected<'s> {
    case: &'s mut (dyn Case + Send + 's),
    index: usize,
}

impl Selected<'_> {
    /// The index of the case, as given when it was added.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns what the case received, if it was a receive from `receiver`.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when the channel is closed and drained.
    ///
    /// # Panics
    ///
    /// When the case is another one, or the result has been taken.
    #[track_caller]
    pub fn recv<T>(&mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        let chan = receiver.chan().map(case::any);
        // A case that happened has a channel.
        assert!(self.case.is_recv() && self.case.chan() == chan, "case {} is no receive from this channel", self.index);
        // SAFETY: it is a receive from that channel, which carries values of one type. The channel
        // is alive because the case borrows it.
        let case = unsafe { &mut *(&raw mut *self.case).cast::<RecvCase<'_, T>>() };
        case.take().expect("a result is given once")
    }

    /// Returns how the send went, if the case was a send to `sender`.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value, when the channel is closed or its receivers are gone.
    ///
    /// # Panics
    ///
    /// When the case is another one, or the result has been taken.
    #[track_caller]
    pub fn send<T>(&mut self, sender: &Sender<T>) -> Result<(), SendError<T>> {
        let chan = sender.chan().map(case::any);
        assert!(!self.case.is_recv() && self.case.chan() == chan, "case {} is no send to this channel", self.index);
        // SAFETY: as in `recv`.
        let case = unsafe { &mut *(&raw mut *self.case).cast::<SendCase<'_, T>>() };
        case.take().expect("a result is given once")
    }
}

impl fmt::Debug for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selected").field("index", &self.index).finish_non_exhaustive()
    }
}
