//! Sockets: a file descriptor, and, per direction, whether it is ready and the waiters for that.
//!
//! The system reports readiness once, at the edge. So the edges are counted ([`Edges`]). A
//! goroutine reads the count and tries its operation. If the operation would block, the goroutine
//! waits for an edge *since the count that it read*, and tries again. Every edge wakes all waiters.
//! A wake-up may be for nothing, because another goroutine was faster; then the operation is tried
//! once more than needed. Whoever has made an operation possible by other means counts an edge too
//! ([`Source::tell`]).

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;

use crate::base::edges::Edges;
use crate::base::lock::Lock;
use crate::base::tsan;
use crate::engine::current;
use crate::engine::errand::{Foreign, Notice};
use crate::engine::gate::{Decision, Gate, Waited};
use crate::engine::io::poller::Key;
use crate::engine::runtimes;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::{Remote, Worker};

/// Which half of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading, and accepting.
    Read,
    /// Writing, and connecting.
    Write,
}

/// The halves of a socket, as its poller knows them.
pub(crate) struct Readiness {
    read: Half,
    write: Half,
    /// A short read does not mean that the socket is empty: the stream was shut down or broken, or
    /// has had urgent data. Set before the edge.
    is_uncounted: AtomicBool,
    /// For the wakers.
    _foreign: Foreign,
}

/// One direction.
struct Half {
    edges: Edges,
    waiting: Gate<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Waits fail until this is cleared.
    interrupted: bool,
    waker: Option<Notice>,
    watcher: Option<Arc<dyn Watcher>>,
}

/// What [`Source::watch`] calls at the next edge.
pub trait Watcher: Send + Sync {
    /// The direction may have become ready. This runs on a scheduler's stack: it runs no code of
    /// the user, and neither does dropping the watcher.
    fn edge(&self);
}

/// The token of a wait that an edge ended.
const EDGE: usize = 0;
/// The token of a wait that `interrupt` ended.
const INTERRUPTED: usize = 1;

impl Readiness {
    pub(crate) fn new() -> Readiness {
        let half = || Half { edges: Edges::new(), waiting: Gate::new(Waiting::default()) };
        Readiness { read: half(), write: half(), is_uncounted: false.into(), _foreign: Foreign }
    }

    /// Tells the waiters of the directions that became ready. `is_uncounted`: from now on a short
    /// read does not mean that the socket is empty.
    pub(crate) fn ready(&self, read: bool, write: bool, is_uncounted: bool) {
        if is_uncounted {
            // Relaxed: the edge publishes it.
            self.is_uncounted.store(true, Ordering::Relaxed);
        }
        for (half, is_ready) in [(&self.read, read), (&self.write, write)] {
            if is_ready {
                half.tell();
            }
        }
    }

    /// Makes all waiters try once more, and wait with another poller: the worker of this poller has
    /// stopped.
    pub(crate) fn send_away(&self) {
        self.read.wake_all();
        self.write.wake_all();
    }

    fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

impl Half {
    fn tell(&self) {
        if self.edges.tell() {
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let (waker, watcher) = self.waiting.with(|waiting, waiters| {
            self.edges.nobody_waits();
            waiters.unpark_all(EDGE);
            (waiting.waker.take(), waiting.watcher.take())
        });
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(watcher) = watcher {
            watcher.edge();
        }
    }
}

/// Something with a file descriptor that is told when it is ready.
///
/// The descriptor is registered with the poller of the goroutine that first waits on it. When the
/// runtime of that goroutine is shut down, all waiters are woken, and register the descriptor
/// again, with their own poller.
///
/// ```
/// use goby_runtime::{Direction, Source};
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// let (a, b) = UnixStream::pair()?;
/// b.set_nonblocking(true)?;
/// let b = Source::new(b);
/// let reader = goby_runtime::go(move || loop {
///     let mut buffer = [0; 5];
///     let edges = b.edges(Direction::Read);
///     match b.get_ref().read(&mut buffer) {
///         Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => b.wait(Direction::Read, edges, None).unwrap(),
///         result => break result.map(|n| buffer[..n].to_vec()),
///     }
/// });
/// (&a).write_all(b"hello")?;
/// assert_eq!(reader.join().unwrap()?, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Source<T: AsFd> {
    io: T,
    readiness: Arc<Readiness>,
    /// The worker whose poller it is registered with; null before the first time. Written under the
    /// lock of `key`. Release and Acquire: a reader that sees the worker here sees the registration
    /// too.
    home: AtomicPtr<Remote>,
    /// The key of its registration.
    key: Lock<Option<Key>>,
    /// Never registered again. Written under the lock of `key`.
    is_closed: AtomicBool,
    /// The life of that poller in which it is registered. Written and read as `home`.
    life: AtomicU64,
    /// What dumps show of the waits to read and to write.
    reasons: [WaitReason; 2],
}

impl<T: AsFd> Source<T> {
    /// Takes a socket that is in non-blocking mode.
    pub fn new(io: T) -> Source<T> {
        Source::with_reasons(io, [WaitReason::IoWait; 2])
    }

    /// Takes a descriptor that is no socket: dumps show these reasons of its waits to read and to
    /// write.
    #[doc(hidden)]
    pub fn with_reasons(io: T, reasons: [WaitReason; 2]) -> Source<T> {
        // Now, while there is a descriptor to be had. `close` tries again.
        let _ = nothing();
        Source {
            io,
            readiness: Arc::new(Readiness::new()),
            home: AtomicPtr::new(ptr::null_mut()),
            key: Lock::new(None),
            is_closed: false.into(),
            life: 0.into(),
            reasons,
        }
    }

    /// Returns the socket, for operations that do not block.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Counts the edges so far. Read it *before* an operation is tried, and pass it to the wait if
    /// the operation would block.
    #[inline]
    pub fn edges(&self, direction: Direction) -> usize {
        self.readiness.half(direction).edges.count()
    }

    /// Parks until there is an edge after the first `edges`, so that the socket may be ready; at
    /// most until `deadline`. Every edge ends all waits.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the deadline; `ConnectionAborted` with the text "wait interrupted" after
    /// [`interrupt`](Source::interrupt); and what registering may give, such as a limit of the
    /// system.
    pub fn wait(&self, direction: Direction, edges: usize, deadline: Option<Instant>) -> io::Result<()> {
        self.register()?;
        let half = self.readiness.half(direction);
        let waited = half.waiting.wait(self.reasons[direction as usize], deadline, |waiting, _| {
            if waiting.interrupted {
                Decision::Ready(INTERRUPTED)
            } else if !half.edges.awaits(edges) || !self.is_registered() {
                // The poller may have closed since, and have sent the other waiters away before
                // this one came.
                Decision::Ready(EDGE)
            } else {
                Decision::Wait(0)
            }
        });
        match waited {
            Waited::Ready(EDGE) | Waited::Unparked(EDGE) => Ok(()),
            Waited::Ready(_) | Waited::Unparked(_) => Err(interrupted()),
            Waited::TimedOut => Err(io::Error::new(io::ErrorKind::TimedOut, "deadline exceeded")),
        }
    }

    /// Does as [`wait`](Source::wait) for a future: ready if an edge has come, otherwise the waker
    /// is kept, and woken later.
    ///
    /// Each direction keeps one waker, the last one given.
    ///
    /// # Errors
    ///
    /// As for `wait`.
    pub fn poll_ready(&self, direction: Direction, edges: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.register()?;
        let half = self.readiness.half(direction);
        let mut waker = Some(Notice::new(cx.waker()));
        let result = half.waiting.with(|waiting, _| {
            if waiting.interrupted {
                Poll::Ready(Err(interrupted()))
            } else if !half.edges.awaits(edges) || !self.is_registered() {
                // As in `wait`.
                Poll::Ready(Ok(()))
            } else {
                std::mem::swap(&mut waiting.waker, &mut waker);
                Poll::Pending
            }
        });
        // The old waker is the executor's code: dropped outside the lock.
        drop(waker);
        result
    }

    /// Calls `watcher` at the first edge after the first `edges`. Returns false if there has been
    /// one: then the watcher is not kept.
    ///
    /// Each direction keeps one watcher, the last one given, besides the waker of
    /// [`poll_ready`](Source::poll_ready).
    /// [`interrupt`](Source::interrupt) does not reach watchers.
    ///
    /// ```
    /// use goby_runtime::{Direction, Source, Watcher};
    /// use std::os::unix::net::UnixStream;
    /// use std::{io::Write, sync::{Arc, mpsc}};
    ///
    /// struct Tell(mpsc::Sender<()>);
    /// impl Watcher for Tell {
    ///     fn edge(&self) {
    ///         self.0.send(()).unwrap();
    ///     }
    /// }
    ///
    /// let (a, mut b) = UnixStream::pair()?;
    /// let a = Source::new(a);
    /// let (tell, told) = mpsc::channel();
    /// let edges = a.edges(Direction::Read);
    /// if a.watch(Direction::Read, edges, Arc::new(Tell(tell)))? {
    ///     b.write_all(b"x")?;
    ///     told.recv().unwrap();
    /// }
    /// assert!(a.edges(Direction::Read) > edges);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What registering may give.
    pub fn watch(&self, direction: Direction, edges: usize, watcher: Arc<dyn Watcher>) -> io::Result<bool> {
        self.register()?;
        let half = self.readiness.half(direction);
        let mut watcher = Some(watcher);
        let is_kept = half.waiting.with(|waiting, _| {
            // As in `wait`.
            let waits = half.edges.awaits(edges) && self.is_registered();
            if waits {
                std::mem::swap(&mut waiting.watcher, &mut watcher);
            }
            waits
        });
        // The one that is not kept is dropped outside the lock.
        drop(watcher);
        Ok(is_kept)
    }

    /// Counts the edges of the read half. Returns `None` once that half has been shut down, by
    /// either side, is broken, or has had urgent data: a read stops there although there is more.
    ///
    /// A read that took less than there was room for has emptied the socket. If the count has not
    /// changed since before that read, another read would block, and later data gives an edge. So a
    /// reader may wait at once, and save the system call. The end of the stream gives no further
    /// edge if its edge came before the read; hence `None`.
    pub fn read_edges(&self) -> Option<usize> {
        // In this order: a reader that sees the edge sees the flag that was set before it.
        let edges = self.edges(Direction::Read);
        (!self.readiness.is_uncounted.load(Ordering::Relaxed)).then_some(edges)
    }

    /// Counts an edge that the system does not know of. All who tried their operation before this,
    /// and wait or come to wait, try it again.
    ///
    /// ```
    /// use goby_runtime::{Direction, Source, go};
    /// use std::os::unix::net::UnixStream;
    /// use std::sync::Arc;
    ///
    /// let (a, _b) = UnixStream::pair()?;
    /// let a = Arc::new(Source::new(a));
    /// let edges = a.edges(Direction::Read);
    /// let waits = a.clone();
    /// let waiter = go(move || waits.wait(Direction::Read, edges, None));
    /// a.tell(Direction::Read);
    /// waiter.join().unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tell(&self, direction: Direction) {
        self.readiness.half(direction).tell();
    }

    /// Makes the waits of both directions fail, present and future ones.
    pub fn interrupt(&self) {
        for half in [&self.readiness.read, &self.readiness.write] {
            let waker = half.waiting.with(|waiting, waiters| {
                waiting.interrupted = true;
                waiters.unpark_all(INTERRUPTED);
                waiting.waker.take()
            });
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Undoes [`interrupt`](Source::interrupt).
    pub fn clear_interrupt(&self) {
        for half in [&self.readiness.read, &self.readiness.write] {
            half.waiting.with(|waiting, _| waiting.interrupted = false);
        }
    }

    #[inline]
    fn home(&self) -> Option<&'static Remote> {
        // SAFETY: null, or from a `Remote`; those live forever.
        unsafe { self.home.load(Ordering::Acquire).as_ref() }
    }

    /// Returns whether it is registered with a poller that is still open.
    #[inline]
    fn is_registered(&self) -> bool {
        self.home().is_some_and(|home| home.poller.life() == self.life.load(Ordering::Acquire))
    }

    /// Registers with the poller of the calling goroutine's worker, the first time, and again if
    /// that poller has closed.
    #[inline]
    fn register(&self) -> io::Result<()> {
        if self.is_registered() { Ok(()) } else { self.register_slow() }
    }

    #[cold]
    fn register_slow(&self) -> io::Result<()> {
        // ThreadSanitizer is to see the edge from the thread that has made the worker.
        let remote = match Worker::current() {
            Some(worker) => {
                if worker.is_checked() {
                    worker.leave_check(
                        "a socket or pipe of the system inside a check, which cannot say when it is ready: talk \
                         through channels there",
                    );
                }
                worker.remote
            }
            None => current::default_shared().any_remote(),
        };
        let _ignore = tsan::ignore();
        let mut key = self.key.lock();
        if self.is_registered() {
            return Ok(());
        }
        // Relaxed: written under this lock.
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(io::Error::from(rustix::io::Errno::BADF));
        }
        // A sleeping worker need not be told: the system reports events of the new socket to it.
        let added = remote.poller.add(self.io.as_fd(), self.readiness.clone())?;
        *key = Some(added);
        self.life.store(added.life(), Ordering::Release);
        self.home.store(ptr::from_ref(remote).cast_mut(), Ordering::Release);
        Ok(())
    }

    fn unregister(&self, home: Option<&'static Remote>, key: Option<Key>) {
        let (Some(home), Some(key)) = (home, key) else { return };
        let was_last = home.poller.remove(self.io.as_fd(), key);
        // A worker of the same runtime need not tell its monitor: that ticks, and looks when the
        // worker sleeps.
        if was_last && Worker::current().is_none_or(|worker| !ptr::eq(worker.shared, home.shared)) {
            runtimes::look_again();
        }
    }
}

/// What owns the descriptor that it lends, so that the descriptor may be closed through it. Only
/// std's types are known to: the trait is sealed.
pub trait OwnsFd: AsFd + sealed::Sealed {}

mod sealed {
    use std::os::fd::OwnedFd;
    use std::{fs, net, os::unix};

    pub trait Sealed {}

    macro_rules! own {
        ($($t:ty),*) => { $(impl Sealed for $t {} impl super::OwnsFd for $t {})* };
    }
    own!(OwnedFd, fs::File, net::TcpStream, net::TcpListener, net::UdpSocket);
    own!(unix::net::UnixStream, unix::net::UnixListener, unix::net::UnixDatagram);
}

impl<T: OwnsFd> Source<T> {
    /// Closes what the descriptor names, although others may hold the source. A second call does
    /// nothing, unless the first one has failed.
    ///
    /// The number of the descriptor stays taken until the source is dropped, and names nothing from
    /// now on: every system call on it fails with `EBADF`. So an operation that is under way in
    /// another thread never meets a descriptor that the system has given the number to since.
    ///
    /// Waits are not ended: [`interrupt`](Source::interrupt) does that.
    ///
    /// ```
    /// use goby_runtime::Source;
    /// use std::{io::Read, os::unix::net::UnixStream};
    /// let (a, mut b) = UnixStream::pair()?;
    /// let a = Source::new(a);
    /// a.close()?;
    /// assert_eq!(b.read(&mut [0])?, 0, "the end");
    /// assert!(a.get_ref().read(&mut [0]).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, if there were too many descriptors ever since the first source was made: one
    /// that names nothing is opened then, for all. The descriptor is open then, and no longer
    /// registered.
    pub fn close(&self) -> io::Result<()> {
        let _ignore = tsan::ignore();
        {
            let mut key = self.key.lock();
            // Relaxed: all of it is under this lock.
            self.is_closed.store(true, Ordering::Relaxed);
            // The poller keeps a socket by its file, which a copy of the descriptor may keep open.
            self.unregister(self.home(), key.take());
            // No poller has this life: later waits try to register, and fail. Release as in
            // `register_slow`.
            self.life.store(0, Ordering::Release);
        }
        replace_by_nothing(self.io.as_fd())
    }
}

/// Returns a descriptor that was opened for its path alone. One for all, opened early: closing a
/// socket then needs no further one, and works when there are too many.
fn nothing() -> io::Result<&'static OwnedFd> {
    static NOTHING: OnceLock<OwnedFd> = OnceLock::new();
    match NOTHING.get() {
        Some(fd) => Ok(fd),
        None => {
            let fd = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            // Of two that come here at once, one closes its own again.
            Ok(NOTHING.get_or_init(|| fd))
        }
    }
}

/// Closes what a descriptor names and lets its number name nothing, in one step.
///
/// A descriptor that was opened for its path alone is no file to any call that reads, writes,
/// waits or asks.
fn replace_by_nothing(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nothing = nothing()?;
    // SAFETY: open, since it is borrowed, and owned by the caller's `T`, by `OwnsFd`. It is not
    // closed here, so whoever has borrowed it keeps a descriptor that is open.
    let mut fd = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) });
    Ok(rustix::io::dup3(nothing, &mut fd, DupFlags::CLOEXEC)?)
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "wait interrupted")
}

impl<T: AsFd> Drop for Source<T> {
    fn drop(&mut self) {
        let key = *self.key.lock();
        let _ignore = tsan::ignore();
        self.unregister(self.home(), key);
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}
