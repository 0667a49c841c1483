//! Signals of the system, through channels and contexts: Go's `os/signal`.
//!
//! [`notify`] asks for signals. They then no longer do what they do by default, until the receiver
//! is dropped. A signal that nobody asks for any more does what it would have done before: a second
//! Ctrl-C ends the program, say.
//!
//! ```no_run
//! use goby::{Context, signal::{self, Signal}};
//!
//! let (ctx, stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
//! // Serve until Ctrl-C. From then on Ctrl-C ends the program at once.
//! let _ = ctx.done().recv();
//! stop.stop();
//! # std::io::Result::Ok(())
//! ```

// All subscribers are in one list (`Hub`), under one lock. One thread waits for the signals, in
// the kernel: it costs nothing until a signal comes. The thread is there only while the list has
// subscribers. It is none of goby's own threads, so a program in which all goroutines wait counts
// as alive while it may still get a signal, and as deadlocked otherwise.
//
// The code that runs in the signal handler is signal-hook's: a flag and a write that wake the
// thread, and an imitation of the default action for a signal that nobody asks for any more.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use signal_hook::consts;
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

use crate::chan::{self, Keeper, Receiver, Sender};
use crate::context::{CancelCauseGuard, Context, ContextError};

/// A signal that a program can ask for. Go: `os.Signal`, `syscall.Signal`.
///
/// ```
/// use goby::signal::Signal;
/// assert_eq!(Signal::INTERRUPT.to_string(), "interrupt");
/// assert_eq!(Signal::TERMINATED.as_raw(), 15);
/// ```
#[doc(alias = "os.Signal")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

macro_rules! signals {
    ($($Name:ident = $number:ident, $text:literal;)*) => {
        impl Signal {
            $(#[doc = concat!("`", stringify!($number), "`.")]
            pub const $Name: Signal = Signal(consts::$number);)*
        }

        impl fmt::Display for Signal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self.0 {
                    $(consts::$number => $text,)*
                    _ => unreachable!("there are no others"),
                })
            }
        }
    };
}

// The texts are Go's.
signals! {
    HANGUP = SIGHUP, "hangup";
    INTERRUPT = SIGINT, "interrupt";
    QUIT = SIGQUIT, "quit";
    USER1 = SIGUSR1, "user defined signal 1";
    USER2 = SIGUSR2, "user defined signal 2";
    PIPE = SIGPIPE, "broken pipe";
    ALARM = SIGALRM, "alarm clock";
    TERMINATED = SIGTERM, "terminated";
    CHILD = SIGCHLD, "child exited";
    CONTINUED = SIGCONT, "continued";
    WINDOW_CHANGED = SIGWINCH, "window changed";
}

impl Signal {
    /// Returns the system's number.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({self})")
    }
}

/// Asks for each of `signals`. They come through the channel from now on, until its last receiver
/// is dropped. Go: `signal.Notify`, `signal.Stop`.
///
/// The channel holds as many unread signals as `signals` has, and at least one. As in Go, further
/// ones are dropped. The system itself may merge several equal signals that come at once.
///
/// ```
/// use goby::signal::{self, Signal};
///
/// let signals = signal::notify(&[Signal::USER1])?;
/// # let me = std::process::id().to_string();
/// std::process::Command::new("kill").args(["-USR1", &me]).status()?;
/// assert_eq!(signals.recv(), Ok(Signal::USER1));
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
///
/// If the system has no descriptor or no thread left for the wait.
#[doc(alias = "signal.Notify")]
pub fn notify(signals: &[Signal]) -> io::Result<Receiver<Signal>> {
    goby_runtime::checkpoint();
    let subscription = Subscription::new();
    // If the receiver is dropped because of an error, it finds nothing to stop.
    let (sender, receiver) = chan::bounded_kept(signals.len().max(1), Arc::new(subscription));
    subscription.start(signals, Target::Channel(sender))?;
    Ok(receiver)
}

/// Derives a context that is done at the first of `signals`, or when `ctx` is done, or when the
/// guard is dropped. Go: `signal.NotifyContext`.
///
/// After a signal the cause is an [`Interrupted`]. Until the guard is dropped or
/// [stopped](StopGuard::stop), further signals do nothing. Afterwards they do what they would have
/// done before.
///
/// ```
/// use goby::{Context, signal::{self, Interrupted, Signal}};
///
/// let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::USER2])?;
/// # let me = std::process::id().to_string();
/// std::process::Command::new("kill").args(["-USR2", &me]).status()?;
/// assert!(ctx.done().recv().is_err(), "closed");
/// assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&Interrupted(Signal::USER2)));
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
///
/// As for [`notify`].
#[doc(alias("signal.NotifyContext", "NotifyContext", "ctrl_c"))]
pub fn notify_context(ctx: &Context, signals: &[Signal]) -> io::Result<(Context, StopGuard)> {
    let (ctx, cancel) = ctx.with_cancel_cause();
    let guard = StopGuard { subscription: Subscription::new(), cancel: Arc::new(cancel) };
    guard.subscription.start(signals, Target::Context(guard.cancel.clone()))?;
    Ok((ctx, guard))
}

/// Stops a context's signals, and cancels it, when dropped; see [`notify_context`].
#[must_use = "the context is canceled when its guard is dropped"]
pub struct StopGuard {
    subscription: Subscription,
    cancel: Arc<CancelCauseGuard>,
}

impl StopGuard {
    /// Stops now, as dropping does.
    pub fn stop(self) {}
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.subscription.stop();
        // Called explicitly, not left to the drop: the waiting thread may hold a clone at this
        // moment.
        self.cancel.cancel(Arc::new(ContextError::Canceled));
    }
}

impl fmt::Debug for StopGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopGuard").finish_non_exhaustive()
    }
}

/// The cause of a context that a signal has ended.
///
/// ```
/// use goby::signal::{Interrupted, Signal};
/// assert_eq!(Interrupted(Signal::TERMINATED).to_string(), "terminated signal received");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted(pub Signal);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} signal received", self.0)
    }
}

impl Error for Interrupted {}

/// The subscribers to signals in the whole process.
#[derive(Default)]
struct Hub {
    subscribers: Vec<Subscriber>,
    /// For each signal that goby has ever been asked for and that was at its default before:
    /// whether its handler imitates the default. Handlers stay forever.
    defaults: HashMap<Signal, Arc<AtomicBool>>,
    /// Ends the waiting thread. There is one while there are subscribers.
    waiting: Option<Handle>,
}

static HUB: Lazy<Mutex<Hub>> = Lazy::new(Mutex::default);

struct Subscriber {
    id: u64,
    signals: Vec<Signal>,
    target: Target,
}

#[derive(Clone)]
enum Target {
    Channel(Sender<Signal>),
    Context(Arc<CancelCauseGuard>),
}

impl Target {
    fn tell(&self, signal: Signal) {
        match self {
            // Full: dropped, as in Go.
            Target::Channel(sender) => drop(sender.try_send(signal)),
            Target::Context(cancel) => cancel.cancel(Arc::new(Interrupted(signal))),
        }
    }
}

/// The name of a subscriber, whether it is in the list or not.
#[derive(Clone, Copy)]
struct Subscription(u64);

impl Subscription {
    fn new() -> Subscription {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: it only has to be a number of its own.
        Subscription(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn start(self, signals: &[Signal], target: Target) -> io::Result<()> {
        let mut hub = HUB.lock();
        hub.catch(signals)?;
        hub.subscribers.push(Subscriber { id: self.0, signals: signals.to_vec(), target });
        Ok(())
    }

    fn stop(self) {
        let mut hub = HUB.lock();
        let place = hub.subscribers.iter().position(|subscriber| subscriber.id == self.0);
        let removed = place.map(|place| hub.subscribers.swap_remove(place));
        if removed.is_some() {
            hub.give_up_unwanted();
        }
        drop(hub);
        // Dropped after the lock is released: this may drop the channel, or wake those that wait
        // for the context.
        drop(removed);
    }
}

impl Keeper for Subscription {
    fn receivers_gone(&self) {
        self.stop();
    }
}

impl Hub {
    /// Makes `signals` come to the waiting thread.
    fn catch(&mut self, signals: &[Signal]) -> io::Result<()> {
        for &signal in signals {
            if !self.defaults.contains_key(&signal) && is_default(signal) {
                // Until the thread gets them, signals do what they did.
                let imitates = Arc::new(AtomicBool::new(true));
                flag::register_conditional_default(signal.0, imitates.clone())?;
                self.defaults.insert(signal, imitates);
            }
        }
        let numbers = signals.iter().map(|signal| signal.0);
        match &self.waiting {
            Some(handle) => numbers.into_iter().try_for_each(|number| handle.add_signal(number))?,
            None => {
                let mut signals = Signals::new(numbers)?;
                let handle = signals.handle();
                thread::Builder::new().name("goby-signals".into()).spawn(move || {
                    signals.forever().for_each(|number| dispatch(Signal(number)));
                })?;
                self.waiting = Some(handle);
            }
        }
        self.imitate(signals, false);
        Ok(())
    }

    /// Makes signals that nobody asks for do what they did before, and ends the thread if there is
    /// no subscriber.
    fn give_up_unwanted(&mut self) {
        let is_wanted = |signal: &Signal| self.subscribers.iter().any(|s| s.signals.contains(signal));
        let unwanted: Vec<Signal> = self.defaults.keys().filter(|signal| !is_wanted(signal)).copied().collect();
        self.imitate(&unwanted, true);
        if self.subscribers.is_empty()
            && let Some(handle) = self.waiting.take()
        {
            handle.close();
        }
    }

    fn imitate(&self, signals: &[Signal], default: bool) {
        for signal in signals {
            let Some(imitates) = self.defaults.get(signal) else { continue };
            // SeqCst pairs with signal-hook's load in the handler.
            imitates.store(default, Ordering::SeqCst);
            goby_runtime::set_handler_idle(signal.0, default);
        }
    }
}

/// Tells all its subscribers of a signal. Their wakers are foreign code, so the lock is not held
/// meanwhile.
fn dispatch(signal: Signal) {
    let targets: Vec<Target> = {
        let hub = HUB.lock();
        hub.subscribers.iter().filter(|s| s.signals.contains(&signal)).map(|s| s.target.clone()).collect()
    };
    targets.iter().for_each(|target| target.tell(signal));
}

/// Whether a signal is neither caught nor ignored yet. If the system does not say, the default is
/// not imitated.
fn is_default(signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let is_clear = |name| {
        let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(name)?.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << (signal.0 - 1) == 0)
    };
    is_clear("SigCgt:") && is_clear("SigIgn:")
}
