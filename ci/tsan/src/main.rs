//! Programs for ThreadSanitizer: `goby-tsan-programs NAME WORKERS`, or `goby-tsan-programs list
//! racy|clean`.
//!
//! Each racy program has exactly one data race of user code, between goroutines or between a
//! goroutine and other code that may run. It must be reported (exit status 66) on one worker as on
//! two. Each clean program does the same work with the edge that orders it, and must not be
//! reported.

mod clean;
mod racy;
mod shared;

use std::process::ExitCode;

type Program = (&'static str, fn());

fn find(name: &str) -> Option<fn()> {
    racy::PROGRAMS.iter().chain(clean::PROGRAMS).find(|(n, _)| *n == name).map(|(_, f)| *f)
}

fn list(programs: &[Program]) -> ExitCode {
    for (name, _) in programs {
        println!("{name}");
    }
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["list", "racy"] => list(racy::PROGRAMS),
        ["list", "clean"] => list(clean::PROGRAMS),
        [name, workers] => match (find(name), workers.parse()) {
            (Some(program), Ok(workers)) => {
                goby::Runtime::builder().workers(workers).build().expect("a runtime").run(program);
                ExitCode::SUCCESS
            }
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: goby-tsan-programs NAME WORKERS | list racy|clean");
    ExitCode::from(2)
}
