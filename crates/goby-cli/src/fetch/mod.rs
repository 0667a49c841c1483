//! `goby fetch`: URLs in, one line of JSON for each out.
//!
//! ```text
//!  input ──chunks──> feeder ──jobs──> dispatcher ──tasks──> worker pool ──results──> writer ──lines──> output
//!  (reader)            │              │ a queue per     ▲     │ one context              │
//!                      │              │ host, retries   └─────┤ per request              └── tally, for the summary
//!                      └──────────────┴───────────────reports─┴── all under the run's context, which Ctrl-C and --total end
//! ```
//!
//! Every arrow is a bounded channel, and the dispatcher's queues have a limit, so memory does not
//! grow with the input. Everything is opened before the first request, and the output last of all,
//! because opening it empties it. What cannot be opened or started is a usage error. When the run's
//! context is done, the feeder stops, the workers give up the requests in flight and answer the
//! queued tasks with "not started", and the results close. The writer writes everything, then
//! prints the summary. So stopping is the ordinary end, only sooner.

pub(crate) mod args;
mod attempt;
mod body;
mod client;
mod cookies;
mod csv;
mod demo;
mod dispatch;
mod feed;
mod fetcher;
mod file_name;
mod input;
mod interrupt;
mod json_line;
mod kept;
mod limits;
mod netrc;
mod open_files;
mod output;
mod plan;
mod progress;
mod queue;
mod record;
mod request;
mod resolve;
mod resume;
mod retry;
mod robots;
mod save;
#[cfg(test)]
mod scratch;
mod speed;
mod summary;
mod tally;
mod task;
mod template;
mod trouble;
mod unique;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use goby::chan;
use goby::{Context, Runtime, pattern};

use self::args::FetchArgs;
use self::fetcher::Fetcher;
use self::input::{Input, LineSource};
use self::interrupt::Interrupt;
use self::plan::Plan;
use self::progress::{Live, Progress};
use self::request::Requests;
use self::save::Saver;
use self::tally::{End, Stopped, Tally};
use self::writer::Writer;
use crate::exit::{Exit, Usage};
use crate::text;

/// Runs `goby fetch`.
///
/// # Errors
/// If the run cannot begin. Nothing has been requested then.
pub(crate) fn run(args: FetchArgs) -> Result<Exit, Usage> {
    let mut plan = Plan::new(args)?;
    plan.find_room()?;
    let lines = plan.open_lines()?;
    let runtime = Runtime::builder().build();
    let runtime = runtime.map_err(|error| Usage::new(format!("cannot start: {}", text::reason(&error))))?;
    let saver = plan.open_saver()?;
    let requests = plan.requests()?;
    // Never dropped: a read of standard input may still wait when the run is over.
    ManuallyDrop::new(runtime).run(move || fetch_all(plan, lines, saver, requests))
}

/// Does the run, as the first goroutine: sets up the pipeline, then is its writer.
fn fetch_all(
    mut plan: Plan,
    lines: Option<LineSource>,
    saver: Option<Arc<Saver>>,
    requests: Requests,
) -> Result<Exit, Usage> {
    let input_name = lines.as_ref().map(|lines| lines.name().to_string()).unwrap_or_default();
    let given = plan.given()?;
    let live = Arc::new(Live::new(given.len(), lines.as_ref().map_or(Some(0), LineSource::size)));
    let input = Input { given, lines };
    let jar = plan.open_cookies()?;
    let client = plan.client(jar.clone())?;
    let (stopping, cancel) = Context::background().with_cancel();
    let cancel = Arc::new(cancel);
    let interrupt = Interrupt::watch({
        let cancel = cancel.clone();
        move || cancel.cancel()
    })
    .map_err(|error| Usage::new(format!("cannot watch for Ctrl-C: {}", text::reason(&error))))?;
    // Whatever can be refused has been by now.
    let (mut output, done) = goby::blocking(|| plan.open_output(input.lines.as_ref()))?;
    let (ctx, _limit) = plan.limited(&stopping);
    let (reports_in, reports) = chan::bounded(plan.workers() as usize);
    let fetcher = Fetcher::new(ctx.clone(), plan.terms(client, requests, saver.clone()), reports_in);
    let started = goby::now();

    // Feeder, dispatcher, pool, progress: all run from here on.
    let (jobs_in, jobs) = chan::bounded(plan.workers() as usize);
    let (tasks_in, tasks) = chan::bounded(0);
    let feeder = goby::go({
        let (ctx, live, seen) = (ctx.clone(), live.clone(), plan.seen());
        move || feed::feed(&ctx, input, &done, seen, jobs_in, &live)
    });
    goby::go({
        let (ctx, cancel, queue, workers) = (ctx.clone(), cancel.clone(), plan.queue(), plan.workers() as usize);
        move || dispatch::dispatch(&ctx, || cancel.cancel(), workers, queue, &jobs, &reports, tasks_in)
    });
    // The fetcher is under the run's context, the pool is not. A canceled pool drops results, but
    // here every result is to be written, and every job needs an answer.
    let pool = Context::background();
    let results = pattern::worker_pool(&pool, tasks, plan.workers() as usize, move |task| fetcher.fetch(task));
    let target = plan.progress(&output, io::stderr().is_terminal());
    let progress = target.map(|target| Progress::start(target, live.clone()));

    let mut tally = if output.is_somewhere() { Tally::new() } else { Tally::with_examples() };
    let mut writer = Writer { output: &mut output, tally: &mut tally, format: plan.format(), wants: plan.wants() };
    let first_failure = || {
        if plan.fails_early() {
            cancel.cancel();
        }
    };
    let written = writer.write_results(&results, &live, first_failure);
    if written.is_err() {
        // Nobody takes results any more. Stop, wait until the workers have cleaned up, and count
        // what they did.
        cancel.cancel();
        results.iter().for_each(|outcome| tally.count_outcome(&outcome));
    }
    let elapsed = started.elapsed();
    if let Some(progress) = progress {
        progress.stop();
    }
    let fed = feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_payload()));
    if let Some(saver) = &saver {
        saver.close();
    }

    let mut stopped = None;
    if let Err(error) = &written {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader has seen enough (`goby fetch … | head`). That is not a failure of the run.
            return Ok(Exit::Success);
        }
        text::complain(&format_args!("cannot write {}: {}", output.name(), text::reason(error)));
        stopped = Some(Stopped::OutputGone);
    } else if interrupt.is_seen() {
        stopped = Some(Stopped::Interrupted);
    } else if tally.is_left_over(&fed) {
        stopped = plan.why_stopped(&tally);
    }
    if let Some(error) = &fed.error {
        text::complain(&format_args!("cannot read {input_name} to its end: {}", text::reason(error)));
    }
    let broken = written.is_err() || fed.error.is_some() || !plan.save_cookies(jar.as_ref());
    let end = End { elapsed, stopped, fed, broken };
    let _ = io::stderr().write_all(plan.summary(&tally, &end).as_bytes());
    Ok(tally.exit(&end))
}
