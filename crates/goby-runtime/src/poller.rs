//! The poller: where a worker sleeps, and where the system tells which sockets are ready. One a worker.
//!
//! This file is the platform seam. A port offers the same type with the same six functions: `new`, `add`, `remove`,
//! `wait`, `wake`, `has_sources`. This one is Linux's epoll, edge-triggered, so that a socket is registered once and an
//! event costs no further system call; waking is an eventfd, edge-triggered too, which is never read.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use crate::lock::Lock;
use crate::source::Readiness;

/// Events taken with one system call.
const EVENTS: usize = 256;
/// The key of the eventfd.
const WAKE: u64 = u64::MAX;

pub(crate) struct Poller {
    epoll: ManuallyDrop<OwnedFd>,
    wake: ManuallyDrop<OwnedFd>,
    sources: Lock<Sources>,
    n_sources: AtomicUsize,
}

/// Which socket a key means. A key carries the generation of its place, so that an event that was on its way when its
/// socket was removed finds nobody, not the next one in that place.
#[derive(Default)]
struct Sources {
    places: Vec<Place>,
    free: Vec<u32>,
    /// The descriptors are gone.
    closed: bool,
}

impl Sources {
    /// Frees a place; the caller drops what was there outside the lock.
    fn forget(&mut self, key: Key) -> Option<Arc<Readiness>> {
        let index = key.0 as u32;
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

/// Names a registered socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(u64);

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let (epoll, wake) = (ManuallyDrop::new(epoll), ManuallyDrop::new(wake));
        Ok(Poller { epoll, wake, sources: Lock::new(Sources::default()), n_sources: AtomicUsize::new(0) })
    }

    /// Whether any socket is registered: without one there is nothing to poll for.
    #[inline]
    pub(crate) fn has_sources(&self) -> bool {
        self.n_sources.load(Ordering::Relaxed) != 0
    }

    /// Registers a socket for both directions.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, readiness: Arc<Readiness>) -> io::Result<Key> {
        let mut sources = self.sources.lock();
        if sources.closed {
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
            Key(u64::from(place.generation) << 32 | u64::from(index))
        };
        let interest = epoll::EventFlags::IN
            | epoll::EventFlags::PRI
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        match epoll::add(&*self.epoll, fd, epoll::EventData::new_u64(key.0), interest) {
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

    /// Takes a socket out, before it is closed.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>, key: Key) {
        let removed = {
            let mut sources = self.sources.lock();
            if !sources.closed {
                // An error means that it is out already, which is what we want.
                let _ = epoll::delete(&*self.epoll, fd);
            }
            sources.forget(key)
        };
        drop(removed);
        self.n_sources.fetch_sub(1, Ordering::Relaxed);
    }

    /// Closes the descriptors, when the worker's thread has ended.
    ///
    /// # Safety
    ///
    /// Nobody is in `wait`, nor will be.
    pub(crate) unsafe fn close(&self) {
        let mut sources = self.sources.lock();
        if !std::mem::replace(&mut sources.closed, true) {
            // SAFETY: `add`, `remove` and `wake` see `closed` under the lock, `wait` is ruled out by contract, and the
            // descriptors are `ManuallyDrop`, so they are closed once.
            unsafe {
                rustix::io::close(self.epoll.as_raw_fd());
                rustix::io::close(self.wake.as_raw_fd());
            }
        }
    }

    fn find(&self, key: u64) -> Option<Arc<Readiness>> {
        let sources = self.sources.lock();
        let place = sources.places.get(key as u32 as usize)?;
        if u64::from(place.generation) == key >> 32 { place.readiness.clone() } else { None }
    }

    /// Waits for events, at most for `timeout` (`None`: until one comes), and unparks whom they are for.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut buffer = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let events = match epoll::wait(&*self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events.iter() {
            let (key, flags) = (event.data.u64(), event.flags);
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
        }
        Ok(())
    }

    /// Ends a `wait` that is going on, or the next one. From any thread.
    pub(crate) fn wake(&self) {
        // Whoever owes this wake-up may come late, when the worker has gone and its descriptors with it.
        let sources = self.sources.lock();
        if sources.closed {
            return;
        }
        // It can only fail when the counter is full, and then the waiter has not been waiting for a long time.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}
