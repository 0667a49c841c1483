//! The poller: where a worker sleeps, and where the system reports which sockets are ready. There
//! is one per worker.
//!
//! This file is the platform seam. A port offers the same type with the same functions: `new`,
//! `open`, `close`, `add`, `remove`, `wait`, `wake`, `has_sources`. This one uses Linux's epoll,
//! edge-triggered, so a socket is registered once and an event costs no further system call. An
//! eventfd wakes the worker; it is edge-triggered too, and never read.
//!
//! A worker sleeps by `epoll_pwait2` (Linux 5.11), which counts nanoseconds. If an older kernel, a
//! sandbox, valgrind or qemu refuses that, it sleeps by `epoll_pwait`, which counts milliseconds. A
//! timerfd, edge-triggered and never read as well, then ends the waits of other lengths. A wait may
//! therefore end early, which the worker takes as a wake-up for nothing.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::base::lock::Lock;
use crate::engine::errand;
use crate::engine::io::source::Readiness;

/// Events taken with one system call.
const EVENTS: usize = 256;
/// The key of the eventfd, and of the timerfd.
const WAKE: u64 = u64::MAX;
/// Stands for a descriptor that is not there.
const CLOSED: RawFd = -1;

/// Whether `epoll_pwait2` has been refused: a fact of the system, or of the sandbox that the
/// process is in.
static IS_COARSE: AtomicBool = AtomicBool::new(false);

pub(crate) struct Poller {
    /// `epoll` and `wake` change only under the lock of `sources`. Other threads than the worker
    /// use them only under that lock.
    epoll: AtomicI32,
    wake: AtomicI32,
    /// The timerfd, if one was needed. Only the worker makes and uses it.
    timer: AtomicI32,
    sources: Lock<Sources>,
    /// Changed under the lock of `sources`.
    n_sources: AtomicUsize,
    /// Counts openings and closings: odd while it is open. Written under the lock of `sources`.
    life: AtomicU64,
}

/// Which socket a key means. A key carries the generation of its place. So if a socket is removed
/// while its event is on the way, the event finds nothing, and not the next socket in that place.
#[derive(Default)]
struct Sources {
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Sources {
    /// Frees a place, and returns what was there, for the caller to drop outside the lock.
    fn forget(&mut self, key: Key) -> Option<Arc<Readiness>> {
        let index = key.place as u32;
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        place.readiness.take()
    }
}

#[derive(Default)]
struct Place {
    generation: u32,
    readiness: Option<Arc<Readiness>>,
}

/// Names a registered socket, in one life of a poller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    place: u64,
    life: u64,
}

impl Key {
    /// Returns the life of the poller in which the socket is registered.
    pub(crate) fn life(self) -> u64 {
        self.life
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        let poller = Poller {
            epoll: AtomicI32::new(CLOSED),
            wake: AtomicI32::new(CLOSED),
            timer: AtomicI32::new(CLOSED),
            sources: Lock::new(Sources::default()),
            n_sources: AtomicUsize::new(0),
            life: AtomicU64::new(0),
        };
        poller.open()?;
        Ok(poller)
    }

    /// Opens the descriptors, unless they are open.
    pub(crate) fn open(&self) -> io::Result<()> {
        let _sources = self.sources.lock();
        if self.is_open() {
            return Ok(());
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        self.epoll.store(epoll.into_raw_fd(), Ordering::Relaxed);
        self.wake.store(wake.into_raw_fd(), Ordering::Relaxed);
        self.life.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.life() % 2 == 1
    }

    /// Returns which of its lives this is: a socket registered in another life has to be registered
    /// again.
    #[inline]
    pub(crate) fn life(&self) -> u64 {
        // Acquire pairs with the Release of `close`, for callers without the lock. For a waiter
        // that `close` has sent away, `close` happened before anyway.
        self.life.load(Ordering::Acquire)
    }

    /// Returns whether any socket is registered: without one there is nothing to poll for.
    #[inline]
    pub(crate) fn has_sources(&self) -> bool {
        self.n_sources() != 0
    }

    /// Counts its sockets.
    pub(crate) fn n_sources(&self) -> usize {
        self.n_sources.load(Ordering::Relaxed)
    }

    /// Registers a socket for both directions.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, readiness: Arc<Readiness>) -> io::Result<Key> {
        let mut sources = self.sources.lock();
        if !self.is_open() {
            return Err(io::Error::other("the goby runtime that this socket belongs to was shut down"));
        }
        let key = {
            let index = match sources.free.pop() {
                Some(index) => index,
                None => {
                    sources.places.push(Place::default());
                    u32::try_from(sources.places.len() - 1).expect("more sockets than a process can have")
                }
            };
            let place = &mut sources.places[index as usize];
            place.readiness = Some(readiness);
            Key { place: u64::from(place.generation) << 32 | u64::from(index), life: self.life() }
        };
        let interest = epoll::EventFlags::IN
            | epoll::EventFlags::PRI
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        // SAFETY: open, since it is not closed outside the lock of `sources`, and it is open.
        let epoll = unsafe { borrow(&self.epoll) };
        match epoll::add(epoll, fd, epoll::EventData::new_u64(key.place), interest) {
            Ok(()) => {
                self.n_sources.fetch_add(1, Ordering::Relaxed);
                Ok(key)
            }
            Err(error) => {
                drop(sources.forget(key));
                Err(error.into())
            }
        }
    }

    /// Takes a socket out, before the socket is closed; returns true if it was the last one here.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>, key: Key) -> bool {
        let was_last;
        let removed = {
            let mut sources = self.sources.lock();
            if key.life != self.life() {
                // The poller was closed meanwhile, and has forgotten all sockets.
                return false;
            }
            // An error means that it is out already, which is what we want.
            // SAFETY: as in `add`: this is the life in which the socket was registered, so the
            // poller is open.
            let _ = epoll::delete(unsafe { borrow(&self.epoll) }, fd);
            was_last = self.n_sources.fetch_sub(1, Ordering::Relaxed) == 1;
            sources.forget(key)
        };
        drop(removed);
        was_last
    }

    /// Closes the descriptors, when the worker's thread has ended, and sends the waiters for its
    /// sockets away.
    ///
    /// # Safety
    ///
    /// Nobody is in `wait`, nor will be.
    pub(crate) unsafe fn close(&self) {
        let places = {
            let mut sources = self.sources.lock();
            if !self.is_open() {
                return;
            }
            self.life.fetch_add(1, Ordering::Release);
            self.n_sources.store(0, Ordering::Relaxed);
            for fd in [&self.epoll, &self.wake, &self.timer] {
                let fd = fd.swap(CLOSED, Ordering::Relaxed);
                if fd != CLOSED {
                    // SAFETY: the descriptor is ours, and closed once. `add`, `remove` and `wake`
                    // see under the lock that it is not open; by contract nobody is in `wait`.
                    unsafe { rustix::io::close(fd) };
                }
            }
            std::mem::take(&mut *sources).places
        };
        places.iter().filter_map(|place| place.readiness.as_ref()).for_each(|readiness| readiness.send_away());
    }

    fn find(&self, key: u64) -> Option<Arc<Readiness>> {
        let sources = self.sources.lock();
        let place = sources.places.get(key as u32 as usize)?;
        if u64::from(place.generation) == key >> 32 { place.readiness.clone() } else { None }
    }

    /// Waits for events, at most for `timeout` (`None`: until one comes), and unparks their
    /// waiters.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut buffer = [const { MaybeUninit::<libc::epoll_event>::uninit() }; EVENTS];
        let n = match self.wait_for_events(&mut buffer, timeout) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        for event in &buffer[..n] {
            // SAFETY: the kernel has written the first `n`.
            let libc::epoll_event { events, u64: key } = unsafe { event.assume_init() };
            let flags = epoll::EventFlags::from_bits_retain(events);
            if key == WAKE {
                continue;
            }
            let Some(readiness) = self.find(key) else { continue };
            // An error or a hang-up shows in the next system call, of either direction.
            let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            let ended = broken || flags.intersects(epoll::EventFlags::RDHUP);
            // A read stops at urgent data, short of what there is.
            let urgent = flags.intersects(epoll::EventFlags::PRI);
            let read = ended || urgent || flags.intersects(epoll::EventFlags::IN);
            let write = broken || flags.intersects(epoll::EventFlags::OUT);
            readiness.ready(read, write, ended || urgent);
            // The socket may have been closed meanwhile, so this may be the last reference.
            errand::let_go_shared(readiness);
        }
        Ok(())
    }

    /// Sleeps until there are events, or the time is over, and returns how many events there are.
    /// Returns 0 at once if `epoll_pwait2` turns out to be refused.
    fn wait_for_events(
        &self,
        buffer: &mut [MaybeUninit<libc::epoll_event>; EVENTS],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        // Relaxed, here and in `borrow`: opened before the worker's thread began, and closed after
        // it ended.
        let epoll = self.epoll.load(Ordering::Relaxed);
        let millis = match timeout {
            None => -1,
            Some(Duration::ZERO) => 0,
            // Relaxed: a stale value costs one call in vain.
            Some(timeout) if IS_COARSE.load(Ordering::Relaxed) => self.start_timer(timeout),
            Some(timeout) => {
                let timeout = timespec(timeout);
                let no_mask = ptr::null::<libc::sigset_t>();
                // SAFETY: the buffer has room for so many events, and `timeout` is a valid time.
                let n = unsafe {
                    libc::syscall(
                        libc::SYS_epoll_pwait2,
                        epoll,
                        buffer.as_mut_ptr(),
                        EVENTS,
                        &raw const timeout,
                        no_mask,
                    )
                };
                return match usize::try_from(n) {
                    Ok(n) => Ok(n),
                    Err(_) => match io::Error::last_os_error() {
                        // A sandbox gives these to a call that it does not know; the call itself
                        // never gives EPERM.
                        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                            IS_COARSE.store(true, Ordering::Relaxed);
                            Ok(0)
                        }
                        error => Err(error),
                    },
                };
            }
        };
        // SAFETY: the buffer has room for so many events.
        let n = unsafe { libc::epoll_pwait(epoll, buffer.as_mut_ptr().cast(), EVENTS as i32, millis, ptr::null()) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Sets the timerfd to end the next wait. Returns the milliseconds for `epoll_pwait`: -1, which
    /// is no limit; or, if there is no timerfd, the timeout rounded up.
    #[cold]
    fn start_timer(&self, timeout: Duration) -> i32 {
        match self.try_start_timer(timeout) {
            Ok(()) => -1,
            Err(_) => i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        }
    }

    fn try_start_timer(&self, timeout: Duration) -> io::Result<()> {
        if self.timer.load(Ordering::Relaxed) == CLOSED {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let interest = epoll::EventFlags::IN | epoll::EventFlags::ET;
            // SAFETY: the worker calls this, so its descriptors are open.
            epoll::add(unsafe { borrow(&self.epoll) }, &timer, epoll::EventData::new_u64(WAKE), interest)?;
            self.timer.store(timer.into_raw_fd(), Ordering::Relaxed);
        }
        let time = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(timeout) };
        // SAFETY: as above.
        rustix::time::timerfd_settime(unsafe { borrow(&self.timer) }, TimerfdTimerFlags::empty(), &time)?;
        Ok(())
    }

    /// Ends the current `wait`, or the next one. Any thread may call it.
    pub(crate) fn wake(&self) {
        // The thread that owes this wake-up may come late, when the worker has ended and its
        // descriptors are closed.
        let _sources = self.sources.lock();
        if !self.is_open() {
            return;
        }
        // SAFETY: as in `add`. The write fails only if the counter is full, and then the worker has
        // not been waiting for a long time.
        let _ = rustix::io::write(unsafe { borrow(&self.wake) }, &1u64.to_ne_bytes());
    }
}

/// # Safety
///
/// The descriptor is open, and stays open for as long as the result is used.
unsafe fn borrow(fd: &AtomicI32) -> BorrowedFd<'_> {
    // SAFETY: by contract.
    unsafe { BorrowedFd::borrow_raw(fd.load(Ordering::Relaxed)) }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// The count decides whether the poller is looked at, and whether its worker can be used again.
    #[test]
    fn sockets_that_go_while_it_closes_are_counted_once() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let copies: Vec<_> = (0..8).map(|_| socket.try_clone().unwrap()).collect();
        let poller = Poller::new().unwrap();
        // One counter for all rounds: ThreadSanitizer does not see that a scope has waited for its
        // threads.
        let removed = AtomicUsize::new(0);
        for round in 0..1000 {
            removed.store(0, Ordering::Relaxed);
            let keys: Vec<_> =
                copies.iter().map(|copy| poller.add(copy.as_fd(), Arc::new(Readiness::new())).unwrap()).collect();
            assert!(poller.has_sources());
            thread::scope(|s| {
                s.spawn(|| {
                    for (copy, key) in copies.iter().zip(keys) {
                        poller.remove(copy.as_fd(), key);
                        removed.fetch_add(1, Ordering::Relaxed);
                    }
                });
                // Close at every point of the removals.
                while removed.load(Ordering::Relaxed) < round % copies.len() {
                    std::hint::spin_loop();
                }
                // SAFETY: nobody waits.
                unsafe { poller.close() };
            });
            assert_eq!(poller.n_sources.load(Ordering::Relaxed), 0);
            poller.open().unwrap();
        }
        // SAFETY: as above.
        unsafe { poller.close() };
    }
}
