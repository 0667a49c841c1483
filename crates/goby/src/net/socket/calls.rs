//! Calls of something other than the socket, a look-up say, which the socket's limits end too.
//!
//! Each has a context, and `state` the guard that cancels it. Who notes a limit takes the guards
//! out, as it does the channels of `ready.rs`, and drops them outside the lock.

use std::io;

use super::{AsFd, Context, Direction, READ_LATE, Socket, State};
use crate::context::CancelGuard;

/// A call in progress. Dropping it ends the call's context.
pub(super) struct Call {
    number: u64,
    _cancel: CancelGuard,
}

/// The calls in progress, all of which end by the limits of writing.
#[derive(Default)]
pub(super) struct Calls {
    running: Vec<Call>,
    /// How many there have been.
    count: u64,
}

impl State {
    /// Takes out the calls that a limit ends.
    pub(super) fn calls_at(&mut self, bit: u8) -> Vec<Call> {
        if bit == READ_LATE { Vec::new() } else { std::mem::take(&mut self.calls.running) }
    }
}

impl<T: AsFd + Send + Sync + 'static> Socket<T> {
    /// Makes a call with a context that is done when a limit of writing is reached, and returns the
    /// limit's error then. If the limit is lifted in between, the call is made again.
    pub(crate) fn call_within<R>(&self, mut call: impl FnMut(&Context) -> io::Result<R>) -> io::Result<R> {
        loop {
            let (context, cancel) = Context::background().with_cancel();
            let number = {
                let mut state = self.shared.state.lock();
                self.shared.examine(&state, Direction::Write).into_result()?;
                let calls = &mut state.calls;
                calls.count += 1;
                calls.running.push(Call { number: calls.count, _cancel: cancel });
                calls.count
            };
            let result = call(&context);
            let own = {
                let running = &mut self.shared.state.lock().calls.running;
                running.iter().position(|call| call.number == number).map(|i| running.swap_remove(i))
            };
            // Without a guard it was ended.
            if own.is_some() || result.is_ok() {
                return result;
            }
            self.look(Direction::Write)?;
        }
    }
}
