//! The configuration of a runtime: what can be set, what comes from the environment, and the
//! defaults.

use std::io;
use std::thread;
use std::time::Duration;

use crate::engine::settings::{DeadlockPolicy, MAX_STACK, MIN_STACK, PanicPolicy, Settings};
use crate::engine::shared::{CheckFn, Shared};
use crate::engine::unjoined;
use crate::look::{Look, leak_check, stall};
use crate::runtime::Runtime;

/// How many bytes of its stack a goroutine may use: see `stack` for why so many.
const DEFAULT_STACK: usize = 192 * 1024;
/// Nobody's workload would notice more workers than this.
const MAX_WORKERS: usize = 1024;

/// Configures a [`Runtime`]. Everything is checked by [`build`](Builder::build).
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    workers: Option<usize>,
    stack_size: Option<usize>,
    max_stacks: usize,
    max_goroutines: Option<usize>,
    thread_name: String,
    panic_policy: Option<PanicPolicy>,
    deadlock_policy: DeadlockPolicy,
    report_leaks: Option<bool>,
    stall_limit: Option<Duration>,
    report_stalls: Option<bool>,
    isolated: bool,
}

impl Builder {
    /// Sets the number of workers. Default: `GOBY_MAXPROCS` from the environment, otherwise the
    /// number of processors that this process may use (by its affinity and the tightest CPU limit
    /// of its cgroups).
    pub fn workers(mut self, n: usize) -> Builder {
        self.workers = Some(n);
        self
    }

    /// Sets the size of a goroutine's stack: the bytes that it may use, rounded up to whole pages.
    /// Memory is used as it is touched, 4 KiB at a time. Default: `GOBY_STACK` from the environment
    /// (bytes, or with a `K`, `M` or `G` after the number), otherwise 192 KiB.
    ///
    /// A guard of 64 KiB comes on top, as address space only. It is 68 KiB if that keeps the stacks
    /// an odd number of pages apart, which the processor's TLB needs. By default a stack and its
    /// guard take 260 KiB. A frame that is larger than the guard and does not touch its pages one
    /// by one, as a frame of C code may be, can step over the guard.
    ///
    /// The goroutine of a [`run`](crate::run), [`Runtime::run`] or [`Runtime::try_run`] has 8 MiB,
    /// or more if this says more. [`GoBuilder::stack_size`](crate::GoBuilder::stack_size) sets the
    /// size for one goroutine.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets how many stacks there may be, besides those with a size of their own. Further
    /// goroutines start when others have ended. Default: as many as the system gives.
    #[doc(hidden)]
    pub fn max_stacks(mut self, n: usize) -> Builder {
        self.max_stacks = n;
        self
    }

    /// Sets how many goroutines there may be before [`try_go`](crate::try_go) refuses. `go` is not
    /// limited. Default: no limit.
    pub fn max_goroutines(mut self, n: usize) -> Builder {
        self.max_goroutines = Some(n);
        self
    }

    /// Sets the name of the workers' threads; a number is appended. Default: "goby-worker".
    pub fn thread_name(mut self, name: impl Into<String>) -> Builder {
        self.thread_name = name.into();
        self
    }

    /// Sets what happens when a goroutine panics and nobody joins it. Default:
    /// [`PanicPolicy::Abort`] with `GOBY_PANICS=fatal` in the environment, as Go does, otherwise
    /// [`PanicPolicy::Print`].
    pub fn on_panic(mut self, policy: PanicPolicy) -> Builder {
        self.panic_policy = Some(policy);
        self
    }

    /// Sets what happens when no goroutine can ever run again. Default: [`DeadlockPolicy::Exit`].
    pub fn on_deadlock(mut self, policy: DeadlockPolicy) -> Builder {
        self.deadlock_policy = policy;
        self
    }

    /// Sets whether [`Runtime::run`] looks for goroutines that its main has left behind forever,
    /// and prints them to the standard error, as `goby::diag::leaks` does. It gives them half a
    /// second to end. Default: no.
    ///
    /// With `GOBY_LEAKS=fatal` in the environment every runtime is checked when it ends, except
    /// those for which this is set to no. Dropping a runtime with leaked goroutines then panics.
    pub fn report_leaks(mut self, yes: bool) -> Builder {
        self.report_leaks = Some(yes);
        self
    }

    /// Sets how long a goroutine may keep its worker from the others before it is reported with its
    /// stack; `None` is never. See [`report_stalls`](Builder::report_stalls) and
    /// [`Runtime::stalls`]. Time in which the worker's thread only waited for a processor does not
    /// count. The stack is taken by a signal (SIGURG) to the worker's thread, once per stall.
    /// Default: 100 ms.
    pub fn stall_limit(mut self, limit: impl Into<Option<Duration>>) -> Builder {
        self.stall_limit = limit.into();
        self
    }

    /// Sets whether a goroutine that keeps its worker from others is printed to the standard error:
    /// a line that names it, says where it was started and what to do, and then its stack. A start
    /// place is printed at most once per 10 s. If `tracing` has a subscriber for warnings, the
    /// subscriber gets a warning instead, whatever is set here. Default: yes, unless
    /// `GOBY_STALLS=off` is in the environment.
    pub fn report_stalls(mut self, yes: bool) -> Builder {
        self.report_stalls = Some(yes);
        self
    }

    /// Looks for deadlocks of this runtime alone, as for a test under a harness: the threads of the
    /// harness do not count.
    #[doc(hidden)]
    pub fn isolated(mut self) -> Builder {
        self.isolated = true;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a value out of range, naming it; otherwise the system's error if it gives
    /// no threads or pollers.
    pub fn build(self) -> io::Result<Runtime> {
        self.check().map_err(invalid)?;
        let stalls_are_printed = match self.report_stalls {
            Some(yes) => yes,
            None => stall::are_printed()?,
        };
        let settings = Settings {
            workers: match self.workers {
                Some(n) => n,
                None => default_workers()?,
            },
            stack_size: match self.stack_size {
                Some(bytes) => bytes,
                None => default_stack_size()?,
            },
            max_stacks: self.max_stacks,
            max_goroutines: self.max_goroutines,
            thread_name: self.thread_name,
            panic_policy: match self.panic_policy {
                Some(policy) => policy,
                None => unjoined::default_policy()?,
            },
            deadlock_policy: self.deadlock_policy,
            report_leaks: self.report_leaks == Some(true),
            leaks_are_fatal: leak_check::is_asked_for()? && self.report_leaks != Some(false),
            stall_limit: self.stall_limit,
            stalls_are_printed,
            isolated: self.isolated,
            checked: false,
        };
        let look = Box::new(Look::new(&settings));
        Ok(Runtime { shared: Shared::start(settings, look, None)? })
    }

    fn check(&self) -> Result<(), String> {
        if let Some(n) = self.workers
            && !(1..=MAX_WORKERS).contains(&n)
        {
            return Err(format!("workers: {n} is not between 1 and {MAX_WORKERS}"));
        }
        if let Some(bytes) = self.stack_size
            && !(MIN_STACK..=MAX_STACK).contains(&bytes)
        {
            return Err(format!("stack_size: {bytes} is not between {MIN_STACK} and {MAX_STACK} bytes"));
        }
        if self.max_stacks == 0 {
            return Err("max_stacks: without a stack no goroutine can run".into());
        }
        if self.thread_name.contains('\0') {
            return Err(format!("thread_name: {:?} contains a zero byte", self.thread_name));
        }
        Ok(())
    }
}

/// Starts the runtime of a check, which runs `check` on its only worker.
pub(crate) fn start_check(stack_size: Option<usize>, check: CheckFn) -> io::Result<&'static Shared> {
    let settings = Settings {
        workers: 1,
        stack_size: match stack_size {
            Some(bytes) => bytes,
            None => default_stack_size()?,
        },
        max_stacks: usize::MAX,
        max_goroutines: None,
        thread_name: "goby-check".into(),
        panic_policy: PanicPolicy::Print,
        deadlock_policy: DeadlockPolicy::Ignore,
        report_leaks: false,
        leaks_are_fatal: false,
        stall_limit: None,
        stalls_are_printed: false,
        isolated: true,
        checked: true,
    };
    let look = Box::new(Look::new(&settings));
    Shared::start(settings, look, Some(check))
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            workers: None,
            stack_size: None,
            max_stacks: usize::MAX,
            max_goroutines: None,
            thread_name: "goby-worker".into(),
            panic_policy: None,
            deadlock_policy: DeadlockPolicy::default(),
            report_leaks: None,
            stall_limit: Some(stall::LIMIT),
            report_stalls: None,
            isolated: false,
        }
    }
}

/// Returns the number of workers if the builder does not say.
fn default_workers() -> io::Result<usize> {
    match std::env::var("GOBY_MAXPROCS") {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(n) if (1..=MAX_WORKERS).contains(&n) => Ok(n),
            _ => Err(invalid(format!(
                "GOBY_MAXPROCS={text:?} is no number between 1 and {MAX_WORKERS}: change or unset it"
            ))),
        },
        Err(std::env::VarError::NotUnicode(text)) => {
            Err(invalid(format!("GOBY_MAXPROCS={text:?} is no number between 1 and {MAX_WORKERS}: change or unset it")))
        }
        _ => Ok(thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS)),
    }
}

/// Returns the size of a stack if the builder does not say.
fn default_stack_size() -> io::Result<usize> {
    match std::env::var_os("GOBY_STACK") {
        Some(text) if !text.is_empty() => {
            let bytes = text.to_str().and_then(parse_bytes).filter(|bytes| (MIN_STACK..=MAX_STACK).contains(bytes));
            bytes.ok_or_else(|| {
                invalid(format!(
                    "GOBY_STACK={text:?} is no number of bytes between {MIN_STACK} and {MAX_STACK} (such as 262144, 256K or \
                     1M): change or unset it"
                ))
            })
        }
        _ => Ok(DEFAULT_STACK),
    }
}

/// Parses a number of bytes, or of KiB, MiB or GiB with a `K`, `M` or `G` after it.
fn parse_bytes(text: &str) -> Option<usize> {
    let (number, unit) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 1 << 10),
        b'M' | b'm' => (&text[..text.len() - 1], 1 << 20),
        b'G' | b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
