//! A dump on request from outside.

use std::io::{self, Write};

use signal_hook::consts::SIGQUIT;
use signal_hook::iterator::Signals;

/// Prints a dump to the standard error whenever the process gets a SIGQUIT, which is what Ctrl-\
/// sends, and goes on.
///
/// Unlike Go, which prints one and exits. It starts a thread that waits for the signal; calling it
/// again starts another, which prints again.
///
/// ```
/// goby::diag::dump_on_sigquit()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// What the system says when the signal or the thread cannot be had.
pub fn dump_on_sigquit() -> io::Result<()> {
    let mut signals = Signals::new([SIGQUIT])?;
    // Nobody waits for it.
    goby_runtime::set_handler_idle(SIGQUIT, true);
    goby_runtime::spawn_own_thread("goby-sigquit", move || {
        for _ in signals.forever() {
            // In one piece, whatever else is printed. There is nobody to tell that it cannot be.
            let _ = io::stderr().lock().write_all(format!("SIGQUIT: quit\n\n{}", goby_runtime::dump()).as_bytes());
        }
    })
}
