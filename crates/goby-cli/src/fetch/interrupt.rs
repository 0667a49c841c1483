//! Ctrl-C: the first stops the run in order, the second ends the process at once.
//!
//! Each signal does three things, in the order in which they are registered. If it is the second,
//! the handler itself ends the process. The handler notes that there was a signal. A thread that
//! waits for signals stops the run. So the second works even if everything else hangs.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::exit::Exit;
use crate::text;

/// Watches for SIGINT and SIGTERM from now on, to the end of the process.
#[derive(Debug)]
pub(crate) struct Interrupt {
    seen: Arc<AtomicBool>,
}

impl Interrupt {
    /// Calls `stop` on a thread of its own at the first signal.
    ///
    /// # Errors
    /// If the system refuses a handler or a thread.
    pub(crate) fn watch(stop: impl FnOnce() + Send + 'static) -> io::Result<Interrupt> {
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, i32::from(Exit::Interrupted.code()), seen.clone())?;
            flag::register(signal, seen.clone())?;
        }
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("goby-signals".to_string()).spawn(move || {
            if signals.forever().next().is_some() {
                stop();
                clear_progress_line();
                text::complain(&"interrupted: writing what is finished; Ctrl-C again ends at once");
            }
        })?;
        Ok(Interrupt { seen })
    }

    /// Whether there was a signal.
    pub(crate) fn is_seen(&self) -> bool {
        // SeqCst pairs with signal-hook's own store in the handler, and is never on a hot path.
        self.seen.load(Ordering::SeqCst)
    }
}

/// Clears the progress line: otherwise it would stand before the message, with the terminal's `^C`
/// in it.
fn clear_progress_line() {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let _ = stderr.write_all(b"\r\x1b[K");
    }
}
