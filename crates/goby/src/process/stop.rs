//! What the end of a context does to a child.
//!
//! [`Stop::run`] runs in a goroutine of its own when the context is done:
//!
//! 1. It notes that the context has ended the child, and cancels the child (kills it, unless the
//!    user says otherwise).
//! 2. It waits for the exit, at most for the delay, and kills the child then.
//! 3. When the delay is over, it *cuts* the pipes: reads and writes on this side fail from then on.
//!    Without a delay it cuts those of `wait_with_output`, once the child has exited; others are
//!    their owners' affair.
//!
//! `wait_with_output` may begin at any time. It says so in `state`, under whose lock `run` looks
//! before it ends.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goby_runtime::{Direction, now};
use parking_lot::Mutex;

use super::Process;
use super::handle::Limit;
use crate::Context;
use crate::context::ContextError;
use crate::time::{AfterFunc, after_func_once};

/// What to do instead of killing the child.
pub(super) type Cancel = Arc<dyn Fn(&Process) -> io::Result<()> + Send + Sync>;

/// Ends the waits of one of the child's pipes.
pub(super) type Cut = Weak<crate::net::socket::Socket<Arc<std::os::fd::OwnedFd>>>;

pub(super) struct Stop {
    pub(super) process: Process,
    pub(super) cancel: Option<Cancel>,
    pub(super) wait_delay: Option<Duration>,
    pub(super) pipes: Vec<Cut>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// The context is done.
    pub(super) done: Option<ContextError>,
    /// The child was canceled for that.
    pub(super) canceled: bool,
    /// `wait_with_output` reads the pipes.
    pub(super) collects: bool,
    /// It has read them.
    is_collected: bool,
    /// Cuts the pipes when the delay is over.
    cuts: Option<AfterFunc>,
}

impl Stop {
    pub(super) fn run(&self, ctx: &Context) {
        let error = ctx.err().unwrap_or(ContextError::Canceled);
        // A group may live on when its leader has exited.
        let is_alive = self.process.status().is_none() && (!self.process.has_exited() || self.process.is_group());
        {
            let mut state = self.state.lock();
            state.done = Some(error);
            state.canceled = is_alive;
        }
        let deadline = self.wait_delay.and_then(|delay| now().checked_add(delay));
        if is_alive {
            self.end(deadline);
        }
        match deadline {
            // No goroutine for that long: a timer.
            Some(deadline) => {
                let pipes = self.pipes.clone();
                let timer = after_func_once(deadline.saturating_duration_since(now()), move || cut(&pipes));
                let mut state = self.state.lock();
                if state.is_collected {
                    timer.stop();
                } else {
                    state.cuts = Some(timer);
                }
            }
            None if self.state.lock().collects => cut(&self.pipes),
            None => {}
        }
    }

    /// Notes that nobody needs the pipes any more.
    pub(super) fn note_collected(&self) {
        let timer = {
            let mut state = self.state.lock();
            state.is_collected = true;
            state.cuts.take()
        };
        if let Some(timer) = timer {
            timer.stop();
        }
    }

    /// Cancels the child, and waits until it has exited; kills it at `deadline`.
    fn end(&self, deadline: Option<Instant>) {
        self.process.note_ended();
        let canceled = match &self.cancel {
            Some(cancel) => cancel(&self.process),
            None => self.process.kill(),
        };
        if canceled.is_err() && deadline.is_none() {
            // Nothing else would end it.
            let _ = self.process.kill();
        }
        // An error: the deadline has passed, or waiting is impossible.
        if self.process.wait_exited(Limit { context: None, deadline }).is_err() {
            let _ = self.process.kill();
        }
    }
}

/// Ends the waits of the pipes, from now on.
pub(super) fn cut(pipes: &[Cut]) {
    for pipe in pipes.iter().filter_map(Weak::upgrade) {
        let now = Some(now());
        pipe.set_deadline(Direction::Read, now);
        pipe.set_deadline(Direction::Write, now);
    }
}
