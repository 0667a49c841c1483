//! Asking all workers one question.
//!
//! Each worker answers at its next scheduling point: a sleeping worker is woken, a running
//! goroutine yields at its next goby call. Why that costs a goroutine nothing is in `inspect`. A
//! worker that does not answer in time is interrupted by a signal, to see what it runs: see
//! `sample`.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::policy;
use crate::engine::errand;
use crate::engine::gate::{Decision, Gate, Waited};
use crate::engine::requests::Question;
use crate::engine::shared::Shared;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::{Remote, Worker};
use crate::look::inspect::{GoroutineInfo, Silent};
use crate::look::sample;
use crate::look::sample::Running;

/// How long a worker may take to answer before the asker looks whether it is busy with a goroutine.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a worker may take at most.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// What the workers have said.
pub(crate) struct Answers<A> {
    pub(crate) given: Vec<A>,
    /// The workers that did not answer, and the goroutines that these run.
    pub(crate) silent: Vec<Silent>,
    pub(crate) running: Vec<GoroutineInfo>,
}

/// Asks the workers of these runtimes. `question` is answered on their schedulers' stacks, so it
/// runs no code of the program. If `is_patient`, waits for a busy worker rather than miss its
/// answer.
pub(crate) fn ask<A: Send + 'static>(
    runtimes: &[&'static Shared],
    is_patient: bool,
    question: impl Fn(&Worker) -> A + Send + Sync + 'static,
) -> Answers<A> {
    let remotes: Vec<&'static Remote> = runtimes.iter().flat_map(|shared| shared.remotes()).collect();
    let request = Arc::new(Request {
        question: Box::new(question),
        answers: Mutex::new(Vec::new()),
        missing: Gate::new(remotes.len()),
    });
    for remote in &remotes {
        remote.mail.requests.post(Box::new(Asked(request.clone())));
        remote.orders.slice_over.store(true, Ordering::SeqCst);
        remote.notify();
    }
    let mut silent = Vec::new();
    let mut running = Vec::new();
    let start = policy::now();
    loop {
        let waited = request
            .missing
            .wait(WaitReason::Inspect, Some(policy::now() + PATIENCE), |missing, _| Decision::ready_if(*missing == 0));
        if waited != Waited::TimedOut {
            break;
        }
        // Busy with a goroutine or future, or only kept from running by others on this machine?
        let is_silent = |remote: &&Remote| !request.has_answer_of(remote) && !remote.shared.is_shut_down();
        let asked: Vec<&Remote> = remotes.iter().copied().filter(is_silent).collect();
        let runs: Vec<Option<Running>> = asked.iter().map(|remote| sample::running(remote)).collect();
        // A future that waits is known without a signal.
        let polls = |(remote, runs): (&&Remote, &Option<Running>)| {
            remote.future_waits().is_some() || matches!(runs, Some(Running::Future(_)))
        };
        let is_busy = |(remote, runs): (_, &Option<Running>)| runs.is_some() || polls((remote, runs));
        if !is_patient && asked.iter().zip(&runs).all(is_busy) || start.elapsed() > LAST_PATIENCE {
            silent.extend(asked.iter().zip(&runs).map(|(remote, runs)| Silent {
                worker: remote.index,
                n_started: remote.n_started(),
                polls_future: polls((remote, runs)),
            }));
            running.extend(runs.into_iter().flatten().filter_map(Running::goroutine));
            break;
        }
    }
    // Answers that come later are dropped with the request.
    let given = std::mem::take(&mut *request.answers.lock()).into_iter().map(|(_, answer)| answer).collect();
    Answers { given, silent, running }
}

/// One question to all workers.
struct Request<A> {
    question: Box<dyn Fn(&Worker) -> A + Send + Sync>,
    answers: Mutex<Vec<(&'static Remote, A)>>,
    /// Workers that have not answered.
    missing: Gate<usize>,
}

impl<A> Request<A> {
    fn has_answer_of(&self, remote: &Remote) -> bool {
        self.answers.lock().iter().any(|(by, _)| ptr::eq(*by, remote))
    }

    fn answer(&self, worker: &Worker) {
        let answer = (self.question)(worker);
        self.answers.lock().push((worker.remote, answer));
        self.missing.with(|missing, waiters| {
            *missing -= 1;
            if *missing == 0 {
                waiters.unpark_all(0);
            }
        });
    }
}

/// A worker's copy of a request.
struct Asked<A>(Arc<Request<A>>);

impl<A: Send + 'static> Question for Asked<A> {
    fn answer(self: Box<Self>, worker: &Worker) {
        let Asked(request) = *self;
        request.answer(worker);
        // The asker may have gone meanwhile, so this may be the last reference.
        errand::let_go_shared(request);
    }
}
