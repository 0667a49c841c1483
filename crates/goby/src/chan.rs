//! Channels: typed queues between goroutines, OS threads and futures, in any mixture.
//!
//! A channel has two ends, [`Sender`] and [`Receiver`]. Both can be cloned, so any number may send
//! and any number may receive. Each value goes to one receiver. Values arrive in the order in which
//! they were sent.
//!
//! | | when a send waits | when a receive waits |
//! |---|---|---|
//! | [`bounded(n)`](bounded) | the buffer holds `n` values | it is empty |
//! | [`bounded(0)`](bounded), a rendezvous | until a receiver takes the value | until a sender has one |
//! | [`unbounded()`](unbounded) | never | the buffer is empty |
//! | [`never()`](fn@never) | | always |
//!
//! # Closing
//!
//! A channel closes by ownership: when its last `Sender` is dropped, or early, by
//! [`Sender::close`]. Receivers still get the buffered values and then [`RecvError`]. A send on a
//! closed channel gives the value back in its error. When the last `Receiver` is dropped, sends
//! fail in the same way, also those that wait, and the buffered values are dropped. A receiver
//! cannot close, and closing twice does nothing, so Go's panics for both do not exist.
//!
//! ```
//! let (tx, rx) = goby::chan::bounded(2);
//! goby::go(move || {
//!     for i in 0..5 {
//!         tx.send(i).unwrap();
//!     }
//! });
//! assert_eq!(rx.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
//! ```
//!
//! # Large values
//!
//! A value moves once, from its sender's stack to the buffer or its receiver's stack. But each
//! function that passes it on by value has room for it in its frame, and stacks do not grow: they
//! have 192 KiB (see [`Builder::stack_size`](crate::Builder::stack_size)). An operation needs the
//! size of the value this many times, including the caller's own place for it (from 1 KiB on;
//! smaller values may need more):
//!
//! | | optimized | debug build |
//! |---|---|---|
//! | `send`, `try_send`, and those with a deadline | 4 | 10 |
//! | `recv`, `try_recv`, iterators | 3 | 11 |
//! | [`select!`](crate::select!) | 7 | 21 |
//! | the result of a goroutine, [`join`](crate::JoinHandle::join) | 4 | 8 |
//!
//! So 16 KiB fit in every build (6 KiB in a `select!`), 40 KiB in an optimized one. Send a larger
//! value in a `Box`, which is also faster, or give the goroutine a larger stack by
//! [`goroutine::Builder::stack_size`](crate::goroutine::Builder::stack_size).
//!
//! A page of the guide says which channel to take, and shows the usual loops:
//! [`channels_and_select`](crate::guide::channels_and_select).
//!
//! To wait for several at once, use [`select!`](crate::select!), or [`Select`] for cases that are
//! known only at run time. To give up when a context is done, use the same, or [`Sender::send_ctx`]
//! and [`Receiver::recv_ctx`]. In async code, use [`Sender::send_async`] and
//! [`Receiver::recv_async`].

pub(crate) mod core;
pub(crate) mod state;
pub(crate) mod keeper;
mod ctx;
mod err;
mod feed;
mod future;
mod iter;
pub(crate) mod large;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goby_runtime::{Wait, WaitReason, checkpoint, polled};

use self::core::Chan;
pub use self::ctx::{RecvCtxError, SendCtxError};
pub use self::err::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub(crate) use self::feed::{Feed, fed};
pub use self::future::{RecvFuture, SendFuture};
pub use self::iter::{IntoIter, Iter, TryIter};
use self::keeper::Kept;
pub(crate) use self::keeper::{Keeper, Reach};
use self::state::{Nothing, Refused};
pub use crate::select;
pub use crate::selection::{MAX_CASES, Select, SelectFuture, Selected};

/// Makes a channel with a buffer of `capacity` values. With 0 it is a rendezvous: every send waits
/// for its receive.
///
/// ```
/// let (tx, rx) = goby::chan::bounded(1);
/// tx.send("hello")?;
/// assert_eq!(rx.recv()?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Go's `make(chan T, n)`.
#[doc(alias("make", "channel", "sync_channel", "mpsc", "oneshot"))]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    // Inside, the largest number means "unbounded". A buffer of one less cannot be told from it.
    ends(Chan::new(capacity.min(usize::MAX - 1), Kept::ByNobody))
}

/// Makes a channel on which a send never waits. Memory is the only bound: prefer [`bounded`] if you
/// can name one.
///
/// ```
/// let (tx, rx) = goby::chan::unbounded();
/// for i in 0..1000 {
///     tx.send(i)?;
/// }
/// assert_eq!(rx.len(), 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "unbounded_channel")]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(Chan::new(usize::MAX, Kept::ByNobody))
}

/// Makes a receiver that never receives and is never closed: a disabled case of a
/// [`select!`](crate::select!).
///
/// ```
/// assert!(goby::chan::never::<i32>().try_recv().unwrap_err().is_empty());
/// ```
///
/// Source: a nil channel in Go.
#[doc(alias = "nil")]
pub const fn never<T>() -> Receiver<T> {
    Receiver { chan: None }
}

fn ends<T>(chan: Chan<T>) -> (Sender<T>, Receiver<T>) {
    let chan = Arc::new(chan);
    (Sender { chan: Some(chan.clone()) }, Receiver { chan: Some(chan) })
}

/// Parks until the deadline, or forever if there is none.
fn park_until(reason: WaitReason, deadline: Option<Instant>) {
    // SAFETY: parked on at once, and shown to nobody but the deadline's timer.
    unsafe { Wait::current() }.park_until(reason, deadline);
}

/// Parks forever.
fn park_forever(reason: WaitReason) -> ! {
    park_until(reason, None);
    unreachable!("nobody knows this wait");
}

/// Returns the deadline that lies `timeout` from now; none if that is beyond the clock.
fn deadline_after(timeout: Duration) -> Option<Instant> {
    goby_runtime::now().checked_add(timeout)
}

/// The sending end of a channel.
pub struct Sender<T> {
    /// `None`: a sender that waits forever.
    chan: Option<Arc<Chan<T>>>,
}

/// The receiving end of a channel.
pub struct Receiver<T> {
    /// `None`: a receiver that waits forever.
    chan: Option<Arc<Chan<T>>>,
}

// SAFETY: the ends move values between threads, and nothing else of `T`; the channel's state is
// behind its lock.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Receiver<T> {}

impl<T> std::panic::UnwindSafe for Sender<T> {}
impl<T> std::panic::RefUnwindSafe for Sender<T> {}
impl<T> std::panic::UnwindSafe for Receiver<T> {}
impl<T> std::panic::RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    /// Makes a sender on which every send waits forever: a disabled case. Source: a nil channel in
    /// Go.
    ///
    /// ```
    /// assert!(goby::chan::Sender::never().try_send(1).unwrap_err().is_full());
    /// ```
    pub const fn never() -> Sender<T> {
        Sender { chan: None }
    }

    pub(crate) fn chan(&self) -> Option<&Chan<T>> {
        self.chan.as_deref()
    }

    /// Sends a value. Waits while the buffer is full or, on a rendezvous, until a receiver takes
    /// the value.
    ///
    /// ```
    /// let (tx, rx) = goby::chan::bounded(1);
    /// tx.send(1).unwrap();
    /// drop(rx);
    /// assert_eq!(tx.send(2).unwrap_err().into_inner(), 2);
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value, when the channel is closed or its receivers are gone, also if
    /// that happens while the send waits.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let Some(chan) = self.chan() else { park_forever(WaitReason::ChanSendNil) };
        if const { large::is_large::<T>() } {
            return large::send(chan, value);
        }
        chan.send(value).map_err(SendError)
    }

    /// Sends a value if that needs no waiting.
    ///
    /// ```
    /// let (tx, _rx) = goby::chan::bounded(1);
    /// assert!(tx.try_send(1).is_ok());
    /// assert_eq!(tx.try_send(2).unwrap_err().into_inner(), 2);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the value.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let Some(chan) = self.chan() else {
            polled();
            return Err(TrySendError::Full(value));
        };
        if const { large::is_large::<T>() } {
            return large::try_send(chan, value);
        }
        chan.try_send(value).map_err(|refused| match refused {
            Refused::Full(value) => TrySendError::Full(value),
            Refused::Closed(value) => TrySendError::Closed(value),
        })
    }

    /// Sends a value; waits as [`send`](Sender::send) does, at most for `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// let (tx, _rx) = goby::chan::bounded(0);
    /// assert!(tx.send_timeout(1, Duration::from_millis(1)).unwrap_err().is_timeout());
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the value.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, deadline_after(timeout))
    }

    /// Sends a value; waits as [`send`](Sender::send) does, at most until `deadline`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the value.
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Some(deadline))
    }

    fn send_until(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let Some(chan) = self.chan() else {
            park_until(WaitReason::ChanSendNil, deadline);
            return Err(SendTimeoutError::Timeout(value));
        };
        if const { large::is_large::<T>() } {
            return large::send_until(chan, value, deadline);
        }
        chan.send_until(value, deadline).map_err(|refused| match refused {
            Refused::Full(value) => SendTimeoutError::Timeout(value),
            Refused::Closed(value) => SendTimeoutError::Closed(value),
        })
    }

    /// Sends a value from async code.
    ///
    /// ```
    /// let (tx, rx) = goby::chan::bounded(0);
    /// goby::spawn(async move { tx.send_async(7).await }).detach();
    /// assert_eq!(rx.recv(), Ok(7));
    /// ```
    ///
    /// # Cancellation
    ///
    /// If the future is dropped before it is ready, it may have sent all the same: a receiver may
    /// have taken the value since the last poll. Otherwise the value is dropped with the future.
    pub fn send_async(&self, value: T) -> SendFuture<'_, T> {
        SendFuture::new(self.chan(), value)
    }

    /// Closes the channel for all senders. Returns true if this call did it, false if it was closed
    /// before.
    ///
    /// Receivers get the buffered values, then [`RecvError`]. Sends that wait get their values
    /// back. When `close` returns, nobody waits any more. But a crowd of receivers is woken in
    /// pieces, in the order in which they came: until their turn comes, the last ones may still
    /// time out, or take another case of their `select!`.
    ///
    /// ```
    /// let (tx, rx) = goby::chan::bounded(1);
    /// tx.send(1)?;
    /// assert!(tx.close());
    /// assert!(!tx.close());
    /// assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(goby::chan::RecvError)));
    /// # Ok::<(), goby::chan::SendError<i32>>(())
    /// ```
    pub fn close(&self) -> bool {
        checkpoint();
        self.chan().is_some_and(Chan::close)
    }

    /// Whether every send would fail: the channel is closed, or its receivers are gone.
    pub fn is_closed(&self) -> bool {
        polled();
        self.is_refused()
    }

    /// Does the same as [`is_closed`](Sender::is_closed), for parts of goby.
    pub(crate) fn is_refused(&self) -> bool {
        self.chan().is_some_and(Chan::refuses)
    }

    /// Closes as [`close`](Sender::close) does, for parts of goby, which may hold a lock.
    pub(crate) fn end(&self) {
        let _ = self.chan().map(Chan::close);
    }
}

impl<T> Receiver<T> {
    pub(crate) fn chan(&self) -> Option<&Chan<T>> {
        self.chan.as_deref()
    }

    /// Whether a receiver is parked, or a receive future waits.
    pub(crate) fn has_waiting_receiver(&self) -> bool {
        self.chan().is_some_and(Chan::has_waiting_receiver)
    }

    /// Receives a value. Waits until there is one.
    ///
    /// ```
    /// let (tx, rx) = goby::chan::bounded(1);
    /// tx.send(1)?;
    /// drop(tx);
    /// assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(goby::chan::RecvError)));
    /// # Ok::<(), goby::chan::SendError<i32>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when the channel is closed and drained.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn recv(&self) -> Result<T, RecvError> {
        let Some(chan) = self.chan() else { park_forever(WaitReason::ChanReceiveNil) };
        if const { large::is_large::<T>() } {
            return large::recv(chan).map_err(|_| RecvError);
        }
        chan.recv().map_err(|_| RecvError)
    }

    /// Receives a value if that needs no waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let Some(chan) = self.chan() else {
            polled();
            return Err(TryRecvError::Empty);
        };
        let received = if const { large::is_large::<T>() } { large::try_recv(chan) } else { chan.try_recv() };
        received.map_err(|nothing| match nothing {
            Nothing::Empty => TryRecvError::Empty,
            Nothing::Closed => TryRecvError::Closed,
        })
    }

    /// Receives a value; waits at most for `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// let (_tx, rx) = goby::chan::bounded::<i32>(0);
    /// assert!(rx.recv_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] or [`RecvTimeoutError::Closed`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(WaitReason::ChanReceive, deadline_after(timeout))
    }

    /// Receives a value; waits at most until `deadline`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] or [`RecvTimeoutError::Closed`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(WaitReason::ChanReceive, Some(deadline))
    }

    /// Receives as [`recv_deadline`](Receiver::recv_deadline) does, under another name in dumps.
    pub(crate) fn recv_deadline_as(&self, reason: WaitReason, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(reason, Some(deadline))
    }

    fn recv_until(&self, reason: WaitReason, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let Some(chan) = self.chan() else {
            park_until(WaitReason::ChanReceiveNil, deadline);
            return Err(RecvTimeoutError::Timeout);
        };
        let received = if const { large::is_large::<T>() } {
            large::recv_until(chan, deadline)
        } else {
            chan.recv_until(reason, deadline)
        };
        received.map_err(|nothing| match nothing {
            Nothing::Empty => RecvTimeoutError::Timeout,
            Nothing::Closed => RecvTimeoutError::Closed,
        })
    }

    /// Receives a value from async code.
    ///
    /// ```
    /// let (tx, rx) = goby::chan::bounded(1);
    /// tx.send(7)?;
    /// assert_eq!(goby::block_on(rx.recv_async()), Ok(7));
    /// # Ok::<(), goby::chan::SendError<i32>>(())
    /// ```
    ///
    /// # Cancellation
    ///
    /// If the future is dropped before it is ready, it has received nothing.
    ///
    /// The future receives when it is polled. Until then a value that it was woken for lies in the
    /// channel, and another receiver may get it. A receiver that was parked before the value came
    /// gets it with the next send, or when the channel closes. On a rendezvous, where a send is
    /// over once it has met a receiver, the value waits in the future; a future that is dropped
    /// leaves it to the next receiver. So poll a future that has begun to wait, or drop it.
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture::new(self.chan())
    }

    /// Iterates over values until the channel is closed and drained; waits for each.
    ///
    /// Source: Go's `for v := range ch`.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// Iterates over the values that are there now, without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
    }

    /// Whether the channel is closed: buffered values can still be received, and nothing will
    /// follow.
    pub fn is_closed(&self) -> bool {
        polled();
        self.chan().is_some_and(Chan::is_closed)
    }
}

/// The methods that both ends have: they say the same of their channel.
macro_rules! both_ends {
    ($End:ident, $add:ident, $drop:ident) => {
        impl<T> $End<T> {
            /// Counts the buffered values, at most the capacity. If others use the channel, the
            /// number may be out of date when it is returned.
            pub fn len(&self) -> usize {
                polled();
                self.n_buffered()
            }

            fn n_buffered(&self) -> usize {
                self.chan().map_or(0, Chan::len)
            }

            /// Whether no value is buffered.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the buffer has no room; always true for a rendezvous.
            pub fn is_full(&self) -> bool {
                polled();
                self.capacity().is_some_and(|capacity| self.n_buffered() >= capacity)
            }

            /// How many values the buffer holds; `None` if it is unbounded.
            pub fn capacity(&self) -> Option<usize> {
                self.chan().map_or(Some(0), Chan::capacity)
            }

            /// Whether both are ends of one channel. All ends that wait forever count as one.
            pub fn same_channel(&self, other: &$End<T>) -> bool {
                match (&self.chan, &other.chan) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                }
            }
        }

        impl<T> Clone for $End<T> {
            fn clone(&self) -> $End<T> {
                if let Some(chan) = self.chan() {
                    chan.$add();
                }
                $End { chan: self.chan.clone() }
            }
        }

        impl<T> Drop for $End<T> {
            fn drop(&mut self) {
                if let Some(chan) = self.chan() {
                    chan.$drop();
                }
            }
        }

        impl<T> fmt::Debug for $End<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($End))
                    .field("len", &self.n_buffered())
                    .field("capacity", &self.capacity())
                    .field("closed", &self.chan().is_some_and(Chan::is_closed))
                    .finish()
            }
        }
    };
}

both_ends!(Sender, add_sender, drop_sender);
both_ends!(Receiver, add_receiver, drop_receiver);

/// Makes a channel with a keeper.
pub(crate) fn bounded_kept<T>(capacity: usize, keeper: impl Into<Kept>) -> (Sender<T>, Receiver<T>) {
    ends(Chan::new(capacity, keeper.into()))
}
