//! Sockets: something with a file descriptor, and per direction whether it is ready and who waits for it to be.
//!
//! The system tells of readiness once, at the edge. So an operation is tried first; when it would block, its goroutine
//! waits for an edge *since the last one it consumed*, and tries again. An edge that nobody waits for is remembered.
//! A wake-up may be for nothing (somebody else was faster); then the operation is tried once more than needed.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use crate::base::lock::Lock;
use crate::base::tsan;
use crate::engine::current;
use crate::engine::errand::{Foreign, Notice};
use crate::engine::gate::{Gate, Waited};
use crate::engine::io::poller::Key;
use crate::engine::park::WaitReason;
use crate::engine::runtimes;
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
    read: Gate<Half>,
    write: Gate<Half>,
    /// Edges of the read half so far; `FOR_EVER` once it has been shut down or broken, or had urgent data. Written by the poller's thread only.
    read_edges: AtomicU64,
    /// An edge of the write half is remembered, and nobody waits: another one says nothing new. The poller reports "may be
    /// written" beside every "may be read", so this saves it the lock and the cache line. Set and cleared under the lock; it
    /// is cleared before the operation that finds the socket full, and the system orders the edge that follows after that.
    write_told: AtomicBool,
    /// The wakers.
    _foreign: Foreign,
}

/// `read_edges`: what a read took says nothing of what is left: the stream has ended, or has had urgent data.
const FOR_EVER: u64 = u64::MAX;

#[derive(Default)]
struct Half {
    /// An edge has come that nobody has consumed.
    ready: bool,
    /// Waits fail until this is cleared.
    interrupted: bool,
    waker: Option<Notice>,
}

/// The token of a wait that an edge ended.
const EDGE: usize = 0;
/// The token of a wait that `interrupt` ended.
const INTERRUPTED: usize = 1;

impl Readiness {
    pub(crate) fn new() -> Readiness {
        Readiness {
            read: Gate::new(Half::default()),
            write: Gate::new(Half::default()),
            read_edges: 0.into(),
            write_told: false.into(),
            _foreign: Foreign,
        }
    }

    /// Tells the waiters of the directions that became ready; `uncounted`: edges of reading say nothing from now on.
    pub(crate) fn ready(&self, read: bool, write: bool, uncounted: bool) {
        if read {
            let edges = self.read_edges.load(Ordering::Relaxed);
            // Release pairs with the Acquire of `read_edges` below. Before the waiters are told, and their lock is taken:
            // who has been told, or finds the edge there, knows that the count is a new one.
            self.read_edges.store(if uncounted || edges == FOR_EVER { FOR_EVER } else { edges + 1 }, Ordering::Release);
            self.edge(Direction::Read);
        }
        if write && !self.write_told.load(Ordering::SeqCst) {
            self.edge(Direction::Write);
        }
    }

    fn edge(&self, direction: Direction) {
        let waker = self.half(direction).with(|half, waiters| {
            half.ready = waiters.unpark_all(EDGE) == 0;
            let waker = half.waker.take();
            if direction == Direction::Write {
                self.write_told.store(half.ready && waker.is_none(), Ordering::SeqCst);
            }
            waker
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has whoever waits try once more, and wait with another poller: this one's worker has stopped.
    pub(crate) fn send_away(&self) {
        self.edge(Direction::Read);
        self.edge(Direction::Write);
    }

    /// Consumes an edge if one has come. Under the lock of that half.
    fn consume(&self, direction: Direction, half: &mut Half) -> bool {
        if direction == Direction::Write {
            self.write_told.store(false, Ordering::SeqCst);
        }
        std::mem::take(&mut half.ready)
    }

    fn half(&self, direction: Direction) -> &Gate<Half> {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

/// Something with a file descriptor that is told when it is ready.
///
/// The descriptor is registered with the poller of the goroutine that first waits on it. When that one's runtime is shut down, it moves
/// to whoever waits then: those who do are woken, and register it again.
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
///     match b.get_ref().read(&mut buffer) {
///         Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => b.wait(Direction::Read, None).unwrap(),
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
    /// The worker whose poller it is registered with; null before the first time. Written under the lock of `key`. Release and
    /// Acquire: who finds it here finds it registered there.
    home: AtomicPtr<Remote>,
    /// What it is registered as.
    key: Lock<Option<Key>>,
    /// The life of that poller in which it is. Written and read as `home`.
    life: AtomicU64,
}

impl<T: AsFd> Source<T> {
    /// Takes a socket that is in non-blocking mode.
    pub fn new(io: T) -> Source<T> {
        Source {
            io,
            readiness: Arc::new(Readiness::new()),
            home: AtomicPtr::new(ptr::null_mut()),
            key: Lock::new(None),
            life: 0.into(),
        }
    }

    /// Gives the socket, for operations that do not block.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Parks until the socket may be ready, at most until `deadline`.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the deadline; `ConnectionAborted` with the text "wait interrupted" after
    /// [`interrupt`](Source::interrupt); and what registering may give, such as a limit of the system.
    pub fn wait(&self, direction: Direction, deadline: Option<Instant>) -> io::Result<()> {
        self.register()?;
        let waited = self.readiness.half(direction).wait(WaitReason::IoWait, deadline, |half, _| {
            if half.interrupted {
                Err(INTERRUPTED)
            } else if self.readiness.consume(direction, half) || !self.is_registered() {
                // The poller may have closed since, and another waiter have taken the edge that this gave.
                Err(EDGE)
            } else {
                Ok(0)
            }
        });
        match waited {
            Waited::Ready(EDGE) | Waited::Unparked(EDGE) => Ok(()),
            Waited::Ready(_) | Waited::Unparked(_) => Err(interrupted()),
            Waited::TimedOut => Err(io::Error::new(io::ErrorKind::TimedOut, "deadline exceeded")),
        }
    }

    /// Asks the same as [`wait`](Source::wait) of a future: ready if an edge has come, otherwise the waker is told.
    ///
    /// Each direction has room for one waker, the last one given.
    ///
    /// # Errors
    ///
    /// As for `wait`.
    pub fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.register()?;
        let mut waker = Some(Notice::new(cx.waker()));
        let result = self.readiness.half(direction).with(|half, _| {
            if half.interrupted {
                Poll::Ready(Err(interrupted()))
            } else if self.readiness.consume(direction, half) || !self.is_registered() {
                // As in `wait`.
                Poll::Ready(Ok(()))
            } else {
                std::mem::swap(&mut half.waker, &mut waker);
                Poll::Pending
            }
        });
        // The old waker is the executor's code: dropped outside the lock.
        drop(waker);
        result
    }

    /// Forgets an edge that has come already, to be called *before* an operation is tried: the operation finds whatever
    /// that edge told of, and a wait afterwards is for a newer one. Saves an operation that would only say "not ready".
    pub fn forget_edge(&self, direction: Direction) {
        if self.home().is_some() {
            self.readiness.half(direction).with(|half, _| self.readiness.consume(direction, half));
        }
    }

    /// Counts the edges of the read half; `None` once it has been shut down, by either side, is broken, or has had urgent
    /// data, at which a read stops though there is more.
    ///
    /// A read that took less than there was room for has emptied the socket: if the count is still what it was before
    /// that read, another one would block, and what arrives from then on gives an edge. So a reader may wait at once, and
    /// save the system call. The end of the stream gives no further edge when its edge came before the read; hence `None`.
    pub fn read_edges(&self) -> Option<u64> {
        // Acquire pairs with the Release of `Readiness::ready`.
        let edges = self.readiness.read_edges.load(Ordering::Acquire);
        (edges != FOR_EVER).then_some(edges)
    }

    /// Makes the waits of both directions fail, those going on and those to come.
    pub fn interrupt(&self) {
        for half in [&self.readiness.read, &self.readiness.write] {
            let waker = half.with(|half, waiters| {
                half.interrupted = true;
                waiters.unpark_all(INTERRUPTED);
                half.waker.take()
            });
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Undoes [`interrupt`](Source::interrupt).
    pub fn clear_interrupt(&self) {
        for half in [&self.readiness.read, &self.readiness.write] {
            half.with(|half, _| half.interrupted = false);
        }
    }

    #[inline]
    fn home(&self) -> Option<&'static Remote> {
        // SAFETY: it is null, or from a remote, and those live for ever.
        unsafe { self.home.load(Ordering::Acquire).as_ref() }
    }

    /// Whether it is registered with a poller that still looks.
    #[inline]
    fn is_registered(&self) -> bool {
        self.home().is_some_and(|home| home.poller.life() == self.life.load(Ordering::Acquire))
    }

    /// Registers with the poller of the calling goroutine's worker, the first time, and if that poller has gone.
    #[inline]
    fn register(&self) -> io::Result<()> {
        if self.is_registered() { Ok(()) } else { self.register_slow() }
    }

    #[cold]
    fn register_slow(&self) -> io::Result<()> {
        let _ignore = tsan::ignore();
        let mut key = self.key.lock();
        if self.is_registered() {
            return Ok(());
        }
        let remote = match Worker::current() {
            Some(worker) => worker.remote,
            None => current::default_shared().any_remote(),
        };
        // A worker that sleeps learns of the new socket from the system itself.
        let added = remote.poller.add(self.io.as_fd(), self.readiness.clone())?;
        *key = Some(added);
        self.life.store(added.life(), Ordering::Release);
        self.home.store(ptr::from_ref(remote).cast_mut(), Ordering::Release);
        Ok(())
    }
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "wait interrupted")
}

impl<T: AsFd> Drop for Source<T> {
    fn drop(&mut self) {
        let key = *self.key.lock();
        if let (Some(home), Some(key)) = (self.home(), key) {
            let _ignore = tsan::ignore();
            let was_last = home.poller.remove(self.io.as_fd(), key);
            // A worker's own monitor ticks, and looks when that worker sleeps.
            if was_last && Worker::current().is_none_or(|worker| !ptr::eq(worker.shared, home.shared)) {
                runtimes::look_again();
            }
        }
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}
