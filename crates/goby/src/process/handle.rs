//! A child as all see it that may signal it or wait for it.
//!
//! A signal must not go to a process that has got the number of a child which is gone. The number
//! is the child's until its status is taken (it is *reaped*). That happens under the lock of
//! `state`, and so do signals. For the same reason a whole group gets its signals under that lock:
//! the group has the number of the child.
//!
//! Waiting is for the exit, which a pidfd tells; the status is taken afterwards, by whoever needs
//! it. So several goroutines may wait. Where there is no pidfd (Linux 5.3), or it is refused, they
//! ask again and again: a helper thread that waited could not be told to stop, and there are not so
//! many of them.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goby_runtime::{Decision, Direction, WaitReason};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::context::{AfterFunc, timed_out};
use crate::net::socket::Socket;
use crate::signal::Signal;
use crate::sync::queue::{Outcome, Queue};
use crate::{Context, now};

/// How long it pauses between two questions to the system, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A child process, to signal it while another goroutine waits for it: from
/// [`Child::process`](super::Child::process). Cheap to clone.
///
/// ```
/// use goby::{process::Command, signal::Signal};
/// use std::os::unix::process::ExitStatusExt;
///
/// let mut child = Command::new("sleep").arg("1000").spawn()?;
/// let process = child.process();
/// let status = goby::go(move || child.wait());
/// process.signal(Signal::TERMINATED)?;
/// assert_eq!(status.join().unwrap()?.signal(), Some(15));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Source: Go's `os.Process`.
#[doc(alias = "os.Process")]
#[derive(Clone)]
pub struct Process {
    shared: Arc<Shared>,
}

struct Shared {
    pid: Pid,
    /// Signals go to its group.
    is_group: bool,
    state: Mutex<State>,
}

struct State {
    child: std::process::Child,
    /// Set when it is reaped.
    status: Option<ExitStatus>,
    /// Its context has ended it: what is left of its group is killed before it is reaped.
    is_ended: bool,
    /// What its context does; stopped when it is reaped.
    watch: Option<AfterFunc>,
}

/// What may end a wait for the exit early.
#[derive(Clone, Copy, Default)]
pub(super) struct Limit<'a> {
    pub(super) context: Option<&'a Context>,
    pub(super) deadline: Option<Instant>,
}

impl Process {
    pub(super) fn new(child: std::process::Child, is_group: bool) -> Process {
        let pid = Pid::from_child(&child);
        let state = Mutex::new(State { child, status: None, is_ended: false, watch: None });
        Process { shared: Arc::new(Shared { pid, is_group, state }) }
    }

    /// Returns the number of the process. After its status was taken, the system may give the
    /// number to another process.
    ///
    /// ```
    /// let mut child = goby::process::Command::new("true").spawn()?;
    /// assert_eq!(child.process().id(), child.id());
    /// child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn id(&self) -> u32 {
        self.shared.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills the process (`SIGKILL`), with [`kill_group`](super::Command::kill_group) its whole
    /// group. Does nothing if its status was taken already.
    ///
    /// ```
    /// use std::os::unix::process::ExitStatusExt;
    /// let mut child = goby::process::Command::new("sleep").arg("1000").spawn()?;
    /// child.process().kill()?;
    /// assert_eq!(child.wait()?.signal(), Some(9));
    /// child.process().kill()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: it may belong to another user by now.
    pub fn kill(&self) -> io::Result<()> {
        self.send(rustix::process::Signal::KILL)
    }

    /// Sends a signal to the process, with [`kill_group`](super::Command::kill_group) to its whole
    /// group. Does nothing if its status was taken already.
    ///
    /// ```
    /// use goby::signal::Signal;
    /// use std::os::unix::process::ExitStatusExt;
    /// let mut child = goby::process::Command::new("sleep").arg("1000").spawn()?;
    /// child.process().signal(Signal::TERMINATED)?;
    /// assert_eq!(child.wait()?.signal(), Some(15));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias = "os.Process.Signal")]
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = rustix::process::Signal::from_named_raw(signal.as_raw()).expect("all signals have names");
        self.send(signal)
    }

    fn send(&self, signal: rustix::process::Signal) -> io::Result<()> {
        goby_runtime::checkpoint();
        let state = self.shared.state.lock();
        if state.status.is_some() {
            return Ok(());
        }
        let pid = self.shared.pid;
        let sent = match self.shared.is_group {
            true => rustix::process::kill_process_group(pid, signal),
            false => rustix::process::kill_process(pid, signal),
        };
        match sent {
            // Reaped by somebody else, or by the system: SIGCHLD is ignored.
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    pub(super) fn is_group(&self) -> bool {
        self.shared.is_group
    }

    /// Keeps what its context does, until it is reaped.
    pub(super) fn watch(&self, watch: AfterFunc) {
        let mut state = self.shared.state.lock();
        if state.status.is_none() {
            state.watch = Some(watch);
        }
    }

    /// Notes that its context ends it.
    pub(super) fn note_ended(&self) {
        self.shared.state.lock().is_ended = true;
    }

    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.shared.state.lock().status
    }

    /// Takes its status, if it has exited.
    pub(super) fn reap(&self) -> io::Result<Option<ExitStatus>> {
        let watch = {
            let mut state = self.shared.state.lock();
            if state.status.is_some() {
                return Ok(state.status);
            }
            if state.is_ended && self.is_group() && has_exited(WaitId::Pid(self.shared.pid)).unwrap_or(false) {
                // An error: nothing is left.
                let _ = rustix::process::kill_process_group(self.shared.pid, rustix::process::Signal::KILL);
            }
            state.status = state.child.try_wait()?;
            if state.status.is_none() {
                return Ok(None);
            }
            state.watch.take()
        };
        if let Some(watch) = watch {
            watch.stop();
        }
        Ok(self.status())
    }

    /// Returns whether it has exited, reaped or not.
    pub(super) fn has_exited(&self) -> bool {
        let state = self.shared.state.lock();
        state.status.is_some() || has_exited(WaitId::Pid(self.shared.pid)).unwrap_or(true)
    }

    /// Makes a descriptor that is readable once it has exited; `None` if it was reaped.
    pub(super) fn pidfd(&self) -> Option<Result<OwnedFd, Errno>> {
        let state = self.shared.state.lock();
        if state.status.is_some() {
            return None;
        }
        match pidfd_open(self.shared.pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => None,
            opened => Some(opened),
        }
    }

    /// Parks until it has exited, and does not reap it.
    pub(super) fn wait_exited(&self, limit: Limit<'_>) -> io::Result<()> {
        goby_runtime::checkpoint();
        let Some(opened) = self.pidfd() else { return Ok(()) };
        let Ok(pidfd) = opened else { return self.wait_by_asking(limit) };
        let socket = Socket::with_reasons(pidfd, [WaitReason::ProcessWait; 2]);
        if limit.context.is_some() {
            socket.set_context(limit.context);
        }
        if limit.deadline.is_some() {
            socket.set_deadline(Direction::Read, limit.deadline);
        }
        // Linux 5.3 cannot be asked by the pidfd.
        socket.perform(Direction::Read, |_| match self.has_exited() {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        })
    }

    /// Waits where there is no pidfd.
    fn wait_by_asking(&self, limit: Limit<'_>) -> io::Result<()> {
        let background = Context::background();
        let context = limit.context.unwrap_or(&background);
        let nothing: Queue<()> = Queue::new(());
        let mut pause = FIRST_PAUSE;
        while !self.has_exited() {
            if let Some(error) = context.err() {
                return Err(error.into());
            }
            if limit.deadline.is_some_and(|deadline| deadline <= now()) {
                return Err(timed_out());
            }
            let again = now() + pause;
            let (within, _cancel) = context.with_deadline(limit.deadline.map_or(again, |late| late.min(again)));
            let _: Outcome<()> =
                nothing.wait_ctx(WaitReason::ProcessWait, &within, (), |(), _| Decision::Wait(()), |(), _| ());
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }
}

fn has_exited(id: WaitId<'_>) -> Result<bool, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(id, options).map(|status| status.is_some())
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("id", &self.id()).field("status", &self.status()).finish()
    }
}
