//! A dump on request from outside.

use std::io::{self, Write};

use signal_hook::consts::SIGQUIT;
use signal_hook::iterator::Signals;

/// Prints a dump to the standard error each time the process gets a SIGQUIT (Ctrl-\ sends that),
/// and goes on.
///
/// Go prints one dump and exits. The call starts a thread that waits for the signal; a second call
/// starts another thread, which prints again.
///
/// ```
/// goby::diag::dump_on_sigquit()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// The system's error, if it refuses the signal or the thread.
pub fn dump_on_sigquit() -> io::Result<()> {
    let mut signals = Signals::new([SIGQUIT])?;
    // Nobody waits for it.
    goby_runtime::set_handler_idle(SIGQUIT, true);
    goby_runtime::spawn_own_thread("goby-sigquit", move || {
        for _ in signals.forever() {
            // In one piece, whatever else is printed. If that fails, there is nobody to tell.
            let _ = io::stderr().lock().write_all(format!("SIGQUIT: quit\n\n{}", goby_runtime::dump()).as_bytes());
        }
    })
}
