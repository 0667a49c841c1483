//! `goby race`: cargo's test, run and build under ThreadSanitizer.
//!
//! ```text
//!  what was typed ──> toolchain (nightly, with or without std's source) ──> project (where target/ is)
//!                                                                              │
//!  summary, exit status <── reports (a file a process) <── cargo <── flags <── hooks (a C object, linked in)
//! ```
//!
//! Two things make it more than `RUSTFLAGS=-Zsanitizer=thread`. First, the switch between
//! goroutines is left uninstrumented (`flags.rs`), and tells TSan itself what it does
//! (`goby-switch`). Second, if std is not instrumented either, accesses that std orders must not be
//! taken for a race. `hooks.c` tells TSan of std's fences, `suppressions-std.txt` suppresses std's
//! insides line by line, and a warning at the start names what TSan cannot be told.

pub(crate) mod args;
mod flags;
mod hooks;
mod project;
mod reports;
mod toolchain;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use goby::{chan, go, select, time};
use signal_hook::consts::SIGINT;

use self::args::{CargoLine, RaceArgs, Verb};
use self::hooks::Hooks;
use self::project::Project;
use self::reports::Reports;
use self::toolchain::{Std, Toolchain};
use crate::exit::{Exit, Usage};
use crate::text;

/// How often the command looks for reports. So a report appears near what the program printed at
/// that time.
const LOOK: Duration = Duration::from_millis(100);

/// Runs `goby race`.
///
/// # Errors
/// If cargo cannot be started at all.
pub(crate) fn run(args: RaceArgs) -> Result<Exit, Usage> {
    let line = CargoLine::new(args.cargo)?;
    let toolchain = Toolchain::find(&args.toolchain)?;
    let project = Project::find(&toolchain, &line)?;
    let hooks = Hooks::compile(&project, toolchain.std())?;
    let reports = Reports::start(project.race_dir())?;

    let mut cargo = toolchain.cargo();
    cargo.arg(line.verb().name());
    flags::add_options(&mut cargo, &toolchain, &project, &line);
    cargo.args(line.args());
    flags::set_environment(&mut cargo, &toolchain, &hooks, &reports);

    if toolchain.std() == Std::Prebuilt && line.verb() != Verb::Build {
        text::complain(&warning(&toolchain));
    }
    watch(cargo, reports, line.verb())
}

/// What the user must know before believing a report.
fn warning(toolchain: &Toolchain) -> String {
    let name = toolchain.name();
    format!(
        "std is not instrumented, because its source is not here. What these of std's order is not\n      \
         seen, and may be reported as a race: Once, OnceLock, LazyLock; once a thread has waited in\n      \
         one also Mutex, RwLock, Condvar, Barrier, thread::scope. goby's and parking_lot's are\n      \
         followed. For std's too: rustup component add rust-src --toolchain {name}"
    )
}

/// Runs cargo to its end, shows reports as they come, and says how it ended.
fn watch(mut cargo: Command, mut reports: Reports, verb: Verb) -> Result<Exit, Usage> {
    // Ctrl-C is for the program, which gets it, too. What it has reported is still shown.
    signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)))
        .map_err(|error| Usage::new(format!("cannot watch for Ctrl-C: {}", text::reason(&error))))?;
    let child = cargo.spawn().map_err(|error| Usage::new(format!("cannot run cargo: {}", text::reason(&error))))?;
    let (status, found) = goby::run(move || {
        let ended = wait(child);
        let look = time::tick(LOOK);
        let status = loop {
            select! {
                recv(ended) -> status => break status.expect("the status is sent before the channel closes"),
                recv(look) -> _ => reports.show_new(),
            }
        };
        reports.show_rest();
        (status, reports.found())
    });
    let status = status.map_err(|error| Usage::new(format!("cannot wait for cargo: {}", text::reason(&error))))?;
    let program = Exit::Program(code(status));
    if verb != Verb::Build || found.any() {
        let failed = if status.success() || found.any() { "" } else { ", but it failed" };
        text::complain(&format_args!("{found}{failed}"));
    }
    Ok(if found.any() { Exit::Raced } else { program })
}

/// Waits for the child on a goroutine.
fn wait(mut child: Child) -> chan::Receiver<io::Result<ExitStatus>> {
    let (tx, rx) = chan::bounded(1);
    go(move || tx.send(goby::blocking(|| child.wait())));
    rx
}

/// The exit status as a shell gives it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}
