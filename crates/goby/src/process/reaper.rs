//! Takes the status of children that were dropped before anybody had waited for them, so that they
//! do not stay as zombies.
//!
//! One thread does it, which is there while there are such children. It waits in the system for
//! their pidfds. A child without a pidfd (the system refuses them, or there are too many open
//! files) is asked every [`INTERVAL`]; all are, if there are too many open files to wait at all.
//! The thread is goby's own and touches no goroutine, so it has no part in the search for
//! deadlocks, and outlives runtimes.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use goby_runtime::spawn_own_thread;
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use super::Process;

/// How often children without a pidfd are asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// Children taken with one system call.
const EVENTS: usize = 64;
/// The key of what only wakes the thread.
const WAKE: u64 = u64::MAX;

#[derive(Default)]
struct Orphans {
    /// There is a thread.
    is_served: bool,
    /// Where it waits.
    poller: Option<Arc<Poller>>,
    children: HashMap<u64, (Process, OwnedFd)>,
    next: u64,
    /// Those without a pidfd.
    unseen: Vec<Process>,
}

struct Poller {
    epoll: OwnedFd,
    /// Wakes the thread, so that it looks at `unseen` for the first time. Made with the thread:
    /// when it is needed, there may be too many open files.
    wake: OwnedFd,
}

static ORPHANS: Lazy<Mutex<Orphans>> = Lazy::new(Mutex::default);

/// Takes care of a child that nobody will wait for.
pub(super) fn adopt(process: Process) {
    let mut orphans = ORPHANS.lock();
    if !orphans.is_served && orphans.start().is_err() {
        // The next one that comes tries again.
        orphans.unseen.push(process);
        return;
    }
    orphans.add(process);
}

impl Poller {
    fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        // Each write is an edge.
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok(Poller { epoll, wake })
    }
}

impl Orphans {
    fn start(&mut self) -> io::Result<()> {
        let poller = Poller::new().ok().map(Arc::new);
        self.poller = poller.clone();
        spawn_own_thread("goby-reaper", move || serve(poller.as_deref()))?;
        self.is_served = true;
        Ok(())
    }

    fn add(&mut self, process: Process) {
        let Some(poller) = &self.poller else {
            self.unseen.push(process);
            return;
        };
        let data = epoll::EventData::new_u64(self.next);
        match process.pidfd() {
            // Reaped meanwhile, or by the system.
            None => {}
            Some(Ok(pidfd)) if epoll::add(&poller.epoll, &pidfd, data, epoll::EventFlags::IN).is_ok() => {
                self.children.insert(self.next, (process, pidfd));
                self.next += 1;
            }
            Some(_) => {
                self.unseen.push(process);
                // It cannot overflow.
                let _ = rustix::io::write(&poller.wake, &1u64.to_ne_bytes());
            }
        }
    }
}

/// The thread's main function.
fn serve(poller: Option<&Poller>) {
    let mut events = Vec::with_capacity(EVENTS);
    let interval = Timespec { tv_sec: 0, tv_nsec: i64::from(INTERVAL.subsec_nanos()) };
    loop {
        let has_unseen = !ORPHANS.lock().unseen.is_empty();
        events.clear();
        let waited = match poller {
            Some(poller) => {
                let room = rustix::buffer::spare_capacity(&mut events);
                epoll::wait(&poller.epoll, room, has_unseen.then_some(&interval))
            }
            None => {
                std::thread::sleep(INTERVAL);
                Ok(0)
            }
        };
        let mut orphans = ORPHANS.lock();
        if waited.is_err_and(|error| error != rustix::io::Errno::INTR) {
            // Without this wait only asking is left.
            let seen = std::mem::take(&mut orphans.children);
            orphans.unseen.extend(seen.into_values().map(|(process, _)| process));
        }
        for event in &events {
            let key = event.data.u64();
            if let Some((process, _pidfd)) = orphans.children.remove(&key) {
                let _ = process.reap();
            }
        }
        orphans.unseen.retain(|process| matches!(process.reap(), Ok(None)));
        if orphans.children.is_empty() && orphans.unseen.is_empty() {
            *orphans = Orphans { next: orphans.next, ..Orphans::default() };
            return;
        }
    }
}
