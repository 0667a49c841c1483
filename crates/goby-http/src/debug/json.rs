//! What the page is made of, as JSON.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use goby::diag::{self, Census, CensusGroup, Frame, GoroutineInfo, Names, RuntimeLoad, Silent, StackTrace, WorkerLoad};
use once_cell::sync::Lazy;
use serde_json::{Value, json};

/// So many stacks of each group are shown.
const STACKS: usize = 20;

/// The names that were looked up, for the next look.
static NAMES: Lazy<Mutex<Names>> = Lazy::new(Mutex::default);

/// Returns the names that are known. They are right even if another look has panicked.
fn names() -> MutexGuard<'static, Names> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows a census that took so long. Looks names up, on a thread that may be kept.
pub(super) fn census(census: &Census, took: Duration) -> Value {
    let mut names = names();
    let groups: Vec<Value> = census.groups().iter().map(|one| group(one, &mut names)).collect();
    Names::forget_symbols();
    let labels: Vec<Value> =
        census.labels().map(|(key, value, n)| json!({"key": key, "value": value, "n": n})).collect();
    let bounds = CensusGroup::WAITS.map(|bound| bound.as_secs());
    json!({
        "n": census.n(),
        "timers": census.timers(),
        "took_ms": took.as_secs_f64() * 1e3,
        "wait_bounds_s": bounds,
        "labels": labels,
        "silent_workers": census.silent_workers().iter().map(silent).collect::<Vec<_>>(),
        "groups": groups,
    })
}

fn silent(silent: &Silent) -> Value {
    json!({"worker": silent.worker, "n_started": silent.n_started, "polls_future": silent.polls_future})
}

fn group(group: &CensusGroup, names: &mut Names) -> Value {
    let mut stacks = Vec::new();
    for (stack, n) in group.estimate().take(STACKS) {
        let frames = frames(stack, names);
        stacks.push(json!({"n": n.round(), "waits_at": waits_at(&frames), "frames": frames}));
    }
    json!({
        "started_at": group.started_at.to_string(),
        "status": group.status.as_str(),
        "n": group.n,
        "waits": group.waits,
        "longest_s": group.longest.as_secs_f64(),
        "with_deadline": group.with_deadline,
        "reached_by_context": group.reached_by_context,
        "n_stacks": group.n_stacks(),
        "stacks": stacks,
        "examples": group.examples.iter().map(example).collect::<Vec<_>>(),
    })
}

fn frames(stack: &StackTrace, names: &mut Names) -> Vec<Value> {
    let here = std::env::current_dir().unwrap_or_default();
    let place = |frame: &Frame| {
        let (file, line) = frame.place.as_ref()?;
        // As the compiler prints it.
        Some(format!("{}:{line}", file.strip_prefix(&here).unwrap_or(file).display()))
    };
    let shown = names.frames(stack).into_iter().map(|frame| json!({"function": frame.function, "place": place(frame)}));
    shown.collect()
}

/// Returns the innermost call that is none of goby's or std's.
fn waits_at(frames: &[Value]) -> Option<&Value> {
    const INSIDE: [&str; 5] = ["goby::", "goby_http::", "std::", "core::", "alloc::"];
    let is_inside = |frame: &&Value| {
        let function = frame["function"].as_str().unwrap_or_default().trim_start_matches('<');
        // A trait of goby's that all handlers have, `<F as goby_http::handler::Handler>::handle`.
        let of_trait = function.split_once(" as ").map_or("", |(_, name)| name);
        INSIDE.iter().any(|start| function.starts_with(start) || of_trait.starts_with("goby"))
    };
    frames.iter().find(|frame| !is_inside(frame)).or(frames.first())
}

fn example(info: &GoroutineInfo) -> Value {
    json!({
        "id": info.id().as_u64(),
        "name": info.name(),
        "labels": info.labels().collect::<Vec<_>>(),
        "waited_s": info.waited().map(|waited| waited.as_secs_f64()),
        "started_by": info.started_by(),
        "joins": info.joins(),
    })
}

/// Shows runtimes, workers, memory and stalls.
pub(super) fn load() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let metrics = diag::metrics();
    let bytes = |name| metrics.get(name).map(diag::Metric::total);
    json!({
        "time_s": now.as_secs_f64(),
        "pid": std::process::id(),
        "program": std::env::args().next(),
        "resident_bytes": bytes("/goby/memory/resident:bytes"),
        "mapped_bytes": bytes("/goby/memory/mapped:bytes"),
        "runtimes": diag::loads().iter().map(runtime).collect::<Vec<_>>(),
        "stalls": stalls(),
    })
}

fn stalls() -> Vec<Value> {
    let all = diag::stalls();
    let mut names = names();
    let shown = all.iter().map(|stall| {
        json!({
            "worker": stall.worker(),
            "lasted_s": stall.lasted().as_secs_f64(),
            "goroutine": stall.goroutine().map(ToString::to_string),
            "is_of_future": stall.is_of_future(),
            "future_waits": stall.future_waits().map(|reason| reason.as_str()),
            "frames": stall.stack().map(|stack| frames(stack, &mut names)),
        })
    });
    let shown = shown.collect();
    Names::forget_symbols();
    shown
}

fn runtime(load: &RuntimeLoad) -> Value {
    json!({
        "name": load.name,
        "configured_workers": load.n_configured,
        "goroutines": load.goroutines,
        "created": load.created,
        "futures": load.tasks,
        "injected": load.injected,
        "blocking_calls": load.blocking_calls,
        "blocking_queued": load.blocking_queued,
        "helper_threads": load.helper_threads,
        "thefts": load.thefts,
        "stack_size": load.stack_size,
        "workers": load.workers.iter().map(worker).collect::<Vec<_>>(),
    })
}

fn worker(load: &WorkerLoad) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "index": load.index,
        "sleeps": load.sleeps,
        "runnable": load.runnable,
        "unstarted": load.unstarted,
        "goroutines": load.goroutines,
        "sockets": load.sockets,
        "begun": load.begun,
        "ended": load.ended,
        "slices": load.slices,
        "ran_s": seconds(load.ran),
        "starved_s": seconds(load.starved),
    })
}
