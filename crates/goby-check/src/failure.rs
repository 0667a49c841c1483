//! What a check has found, as a value and as text.

use std::fmt;

use goby_runtime::{GoroutineInfo, StackTrace, Status};

use crate::schedule::Schedule;

/// What kind of failure a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// No goroutine can ever go on, and the first one has not ended.
    Deadlock,
    /// The first goroutine has ended, and others wait that can never go on.
    Leak,
    /// The first goroutine has panicked, or one that nobody joins.
    Panic,
    /// Two accesses to a [`RaceCell`](crate::RaceCell) are not ordered.
    Race,
    /// The program has not ended after as many steps as it may have.
    Steps,
    /// The program has left the check: by a thread, a blocking call, a socket.
    Outside,
    /// The choices of a schedule do not fit the program.
    Diverged,
}

/// A failure of a check. Its text says what failed, where all goroutines are, what the last steps
/// were, and by which schedule it comes back.
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
    pub(crate) way: String,
    pub(crate) seed: u64,
    pub(crate) execution: u64,
    pub(crate) iterations: u64,
    pub(crate) steps: u64,
    pub(crate) schedule: Schedule,
    pub(crate) left: Vec<Left>,
    pub(crate) trace: Vec<Step>,
    pub(crate) comes_back: bool,
}

/// A goroutine that has not ended.
pub(crate) struct Left {
    number: u64,
    name: Option<String>,
    status: Status,
    started_at: String,
    stack: Option<StackTrace>,
}

impl Left {
    pub(crate) fn of(number: u64, info: &GoroutineInfo) -> Left {
        Left {
            number,
            name: info.name().map(Into::into),
            status: info.status(),
            started_at: info.started_at().to_string(),
            stack: info.stack().cloned(),
        }
    }
}

/// One step: a goroutine goes on from the point with this stack, from a wait, or for the first
/// time.
pub(crate) struct Step {
    pub(crate) index: u64,
    pub(crate) number: u64,
    pub(crate) stack: Option<StackTrace>,
}

impl Failure {
    /// Returns what kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Returns what failed, in one line.
    pub fn message(&self) -> &str {
        &self.text
    }

    /// Returns the schedule by which it comes back.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Returns in which execution it was found; the first is 1.
    pub fn execution(&self) -> u64 {
        self.execution
    }

    /// Returns the seed of the check.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns after how many steps of its execution it came.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns whether the same choices have led to it a second time. If not, the program does not
    /// do the same each time: see the limits in the crate's documentation.
    pub fn comes_back(&self) -> bool {
        self.comes_back
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("kind", &self.kind)
            .field("message", &self.text)
            .field("execution", &self.execution)
            .field("schedule", &self.schedule.to_string())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { text, way, seed, execution, iterations, .. } = self;
        writeln!(f, "{text}")?;
        writeln!(f, "\nfound by a {way}, in execution {execution} of {iterations}, GOBY_CHECK_SEED={seed:#x}")?;
        if !self.left.is_empty() {
            writeln!(f, "\ngoroutines that have not ended:")?;
            write_left(&self.left, f)?;
        }
        self.write_trace(f)?;
        if !self.comes_back {
            writeln!(
                f,
                "\nthe same choices did not lead to it a second time: the program does something else each time (a clock, \
                 a random number, an address, a static that an execution leaves changed)"
            )?;
        }
        write!(f, "\nrun it again by\n    goby_check::replay(\"{}\", program)", self.schedule)
    }
}

/// Writes goroutines, each with its stack.
pub(crate) fn write_left(left: &[Left], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for Left { number, name, status, started_at, stack } in left {
        let name = name.as_ref().map_or_else(String::new, |name| format!(" {name:?}"));
        writeln!(f, "  goroutine {number}{name} [{status}], started at {started_at}")?;
        for frame in stack.iter().flat_map(StackTrace::frames) {
            writeln!(f, "      {}", frame.function)?;
            if let Some((file, line)) = frame.place {
                writeln!(f, "          {}:{line}", file.display())?;
            }
        }
    }
    Ok(())
}

impl Failure {
    fn write_trace(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.trace.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nthe last {} steps:", self.trace.len())?;
        let mut started: Vec<u64> = Vec::new();
        for Step { index, number, stack } in &self.trace {
            let is_known = started.contains(number) || self.trace[0].index > 1;
            if !is_known {
                started.push(*number);
            }
            let who = if *number > u64::from(u32::MAX) { "a future".into() } else { format!("goroutine {number}") };
            let does = match stack {
                Some(stack) => operation(stack),
                None if is_known => "goes on".into(),
                None => "begins".into(),
            };
            writeln!(f, "  {index:>5}  {who}: {does}")?;
        }
        Ok(())
    }
}

/// Returns the operation that a goroutine is about to do, and where the program asks for it.
fn operation(stack: &StackTrace) -> String {
    let frames = stack.frames();
    let of_goby = |function: &str| {
        let path = function.trim_start_matches('<').trim_start_matches("dyn ");
        ["goby::", "goby_runtime::", "goby_check::", "core::", "std::", "alloc::"]
            .iter()
            .any(|own| path.starts_with(own))
    };
    let user = frames.iter().position(|frame| !of_goby(&frame.function)).unwrap_or(frames.len());
    let operation = user.checked_sub(1).map_or("(goby)", |place| &frames[place].function);
    let place = frames.get(user).and_then(|frame| frame.place.as_ref());
    let place = place.map_or_else(String::new, |(file, line)| format!(" at {}:{line}", file.display()));
    format!("{operation}{place}")
}
