//! Runs the executions of a check, records what was chosen, and looks closely at one that fails.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goby_runtime::StackTrace;
use goby_runtime::checked::{self, Chooser, End, Event, Host, Plan, Point};

use crate::config::{Config, Way};
use crate::failure::{Failure, FailureKind, Left, Step};
use crate::random::mix;
use crate::schedule::Schedule;
use crate::strategy::Strategy;
use crate::{clocks, panics};

thread_local! {
    /// The execution has stopped because of a race.
    static RACES: Cell<bool> = const { Cell::new(false) };
}

/// Ends the execution because of a race, which the text describes.
pub(crate) fn report_race(text: &str) {
    if checked::is_checked() {
        RACES.set(true);
        checked::leave(text);
    }
}

/// What a check that found nothing has done.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Executions.
    pub executions: u64,
    /// Steps of all of them.
    pub steps: u64,
    /// How long they took.
    pub time: Duration,
}

/// Chooses by a strategy, and records what was chosen.
struct Recorder<'a> {
    strategy: &'a mut dyn Strategy,
    choices: Vec<u32>,
    /// Made of all choices and of who could have been chosen: equal executions have equal ones.
    print: u64,
    trace: Option<Trace>,
}

/// The last steps.
struct Trace {
    len: usize,
    steps: VecDeque<Step>,
    n_steps: u64,
    /// The stacks of those that are at a point.
    pending: Vec<(u64, StackTrace)>,
}

impl Trace {
    fn new(len: usize) -> Trace {
        Trace { len, steps: VecDeque::new(), n_steps: 0, pending: Vec::new() }
    }

    fn pass(&mut self, number: u64) {
        let place = self.pending.iter().position(|(other, _)| *other == number);
        let stack = place.map(|place| self.pending.swap_remove(place).1);
        self.n_steps += 1;
        if self.steps.len() == self.len {
            self.steps.pop_front();
        }
        if self.len > 0 {
            self.steps.push_back(Step { index: self.n_steps, number, stack });
        }
    }
}

impl<'a> Recorder<'a> {
    fn new(strategy: &'a mut dyn Strategy, choices: Vec<u32>, trace: Option<Trace>) -> Recorder<'a> {
        Recorder { strategy, choices, print: 0, trace }
    }
}

impl Chooser for Recorder<'_> {
    #[inline]
    fn choose(&mut self, point: &Point<'_>) -> Option<usize> {
        let place = self.strategy.choose(point)?;
        self.choices.push(place as u32);
        let seen = point.candidates[place] << 8 ^ point.candidates.len() as u64;
        self.print = (self.print.rotate_left(5) ^ seen).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(place)
    }

    fn born(&mut self, number: u64, parent: u64, _at: &'static Location<'static>) {
        self.strategy.born(number, parent);
    }

    #[inline]
    fn wants_events(&self) -> bool {
        self.trace.is_some() || clocks::are_kept() || self.strategy.wants_events()
    }

    fn happens(&mut self, event: Event) {
        if self.strategy.wants_events() {
            self.strategy.happens(event);
        }
        if clocks::are_kept() {
            clocks::with(|clocks| clocks.happens(event));
        }
        if let (Some(trace), Event::Passes(number)) = (&mut self.trace, event) {
            trace.pass(number);
        }
    }

    fn wants_stacks(&self) -> bool {
        self.trace.is_some()
    }

    fn arrives(&mut self, number: u64, stack: StackTrace) {
        if let Some(trace) = &mut self.trace {
            trace.pending.retain(|(other, _)| *other != number);
            trace.pending.push((number, stack));
        }
    }
}

/// How one execution went.
struct Ran {
    kind: Option<FailureKind>,
    text: String,
    steps: u64,
    choices: Vec<u32>,
    print: u64,
    left: Vec<Left>,
    trace: Vec<Step>,
}

/// Runs one execution.
fn run(host: &Host, job: &Job, seed: u64, mut recorder: Recorder<'_>) -> Ran {
    clocks::forget();
    panics::forget();
    RACES.set(false);
    let plan = Plan { seed: mix(seed, 1), max_steps: job.config.max_steps, time_outlives_main: true };
    let program = job.program.clone();
    let outcome = host.execute(plan, &mut recorder, job.at, move || program());
    let (kind, text) = judge(outcome.end, &job.config);
    Ran {
        kind,
        text,
        steps: outcome.steps,
        choices: recorder.choices,
        print: recorder.print,
        left: if kind.is_none() {
            Vec::new()
        } else {
            outcome.left.into_iter().map(|(number, info)| Left::of(number, &info)).collect()
        },
        trace: recorder.trace.map_or_else(Vec::new, |trace| trace.steps.into()),
    }
}

/// Says what is wrong with the end of an execution, if anything is.
fn judge(end: End, config: &Config) -> (Option<FailureKind>, String) {
    let (kind, text) = match end {
        End::Finished => return (None, String::new()),
        End::Leaked if !config.leaks => return (None, String::new()),
        End::Deadlock => (FailureKind::Deadlock, "deadlock: no goroutine can ever go on".into()),
        End::Leaked => {
            (FailureKind::Leak, "leak: the program has ended, and goroutines are left that can never go on".into())
        }
        End::Panicked { number, message } => {
            let place = panics::place(number).map_or_else(String::new, |place| format!(" at {place}"));
            (FailureKind::Panic, format!("panic: goroutine {number} has panicked{place}: {message}"))
        }
        End::OutOfSteps => {
            (FailureKind::Steps, format!("no end: the program has not ended after {} steps", config.max_steps))
        }
        End::Left(text) if RACES.get() => (FailureKind::Race, text),
        End::Left(text) => (FailureKind::Outside, text),
        End::GivenUp => (
            FailureKind::Diverged,
            "the schedule does not fit: it is of another program, or the program does not do the same each time".into(),
        ),
        other => (FailureKind::Outside, format!("{other:?}")),
    };
    (Some(kind), text)
}

/// What a check shares between its threads.
#[derive(Clone)]
struct Job {
    config: Config,
    program: Arc<dyn Fn() + Send + Sync>,
    at: &'static Location<'static>,
}

/// Runs the check; the first failure is run once more, for its trace.
#[track_caller]
pub(crate) fn explore(config: Config, program: impl Fn() + Send + Sync + 'static) -> Result<Stats, Box<Failure>> {
    assert!(!checked::is_checked(), "a check inside a check, or inside a bubble");
    let job = Job { config, program: Arc::new(program), at: Location::caller() };
    let first = job.clone();
    match on_host(&job, move |host| run_all(host, &first)) {
        Ok(stats) => Ok(stats),
        Err((failure, print)) => {
            let second = job.clone();
            let schedule = failure.schedule.clone();
            let again = on_host(&job, move |host| run_again(host, &second, &schedule));
            Err(Box::new(join(*failure, print, again)))
        }
    }
}

fn on_host<R: Send + 'static>(job: &Job, f: impl FnOnce(&Host) -> R + Send + 'static) -> R {
    let host = move |host: &Host| {
        panics::hear();
        f(host)
    };
    checked::host(job.config.stack_size, host).unwrap_or_else(|error| panic!("no thread for a check: {error}"))
}

/// Runs one execution after the other; returns the first failure, and its print.
fn run_all(host: &Host, job: &Job) -> Result<Stats, (Box<Failure>, u64)> {
    let Job { config, .. } = job;
    let seed = config.seed.expect("filled in");
    let mut strategy = config.way.strategy();
    let mut choices = Vec::new();
    let start = Instant::now();
    let mut stats = Stats { executions: 0, steps: 0, time: Duration::ZERO };
    let is_replay = matches!(config.way, Way::Replay(_));
    while stats.executions < config.iterations {
        // A replay's seed is that of the one execution.
        let seed_here = if is_replay { seed } else { mix(seed, stats.executions + 2) };
        if !strategy.begin(seed_here) {
            break;
        }
        choices.clear();
        let recorder = Recorder::new(&mut *strategy, mem::take(&mut choices), None);
        let ran = run(host, job, seed_here, recorder);
        strategy.end(ran.steps);
        stats.executions += 1;
        stats.steps += ran.steps;
        choices = ran.choices;
        if let Some(kind) = ran.kind {
            let failure = Failure {
                kind,
                text: ran.text,
                way: config.way.name(),
                seed,
                execution: stats.executions,
                iterations: config.iterations,
                steps: ran.steps,
                schedule: Schedule { seed: seed_here, choices },
                left: ran.left,
                trace: Vec::new(),
                comes_back: true,
            };
            return Err((Box::new(failure), ran.print));
        }
    }
    stats.time = start.elapsed();
    Ok(stats)
}

/// Runs the execution of a schedule once more, and looks at its steps.
fn run_again(host: &Host, job: &Job, schedule: &Schedule) -> Ran {
    let mut strategy = Way::Replay(schedule.clone()).strategy();
    strategy.begin(schedule.seed);
    let recorder = Recorder::new(&mut *strategy, Vec::new(), Some(Trace::new(job.config.trace)));
    run(host, job, schedule.seed, recorder)
}

/// Adds to a failure what a second look has shown.
fn join(failure: Failure, print: u64, again: Ran) -> Failure {
    let is_equal = again.kind == Some(failure.kind) && again.text == failure.text;
    let comes_back = is_equal && again.print == print && again.steps == failure.steps;
    if !comes_back {
        return Failure { comes_back, ..failure };
    }
    Failure { trace: again.trace, left: again.left, ..failure }
}
