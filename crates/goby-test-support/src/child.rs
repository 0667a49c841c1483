//! Child processes, for tests of what ends a process, or happens once in its life.

use std::io::{self, ErrorKind, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output, Stdio};

/// Which test a child process runs the body of.
const CHILD: &str = "GOBY_TEST_CHILD";

/// Runs `body` in a child process and gives what became of it. `test` is the full name of the
/// calling test, which the child runs again, to come here and into `body`. A child whose body
/// returns ends with exit code 0.
pub fn in_child(test: &str, body: impl FnOnce()) -> Output {
    in_child_with(test, &[], body)
}

/// The same with further variables in the child's environment.
pub fn in_child_with(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Output {
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        alone(body);
    }
    let output = this_program()
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .env("RUST_BACKTRACE", "0")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("running 1 test"), "the child did not run {test}: {stdout}");
    output
}

/// The program of these tests, under the same emulator if there is one: `GOBY_TEST_RUNNER` is its
/// command line.
pub fn this_program() -> Command {
    let program = std::env::current_exe().unwrap();
    let runner = std::env::var("GOBY_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(emulator) = words.next() else { return Command::new(program) };
    let mut command = Command::new(emulator);
    command.args(words).arg(program);
    command
}

/// Runs `body` in a process with no thread but the calling one: libtest's own would keep deadlocks
/// from being seen.
fn alone(body: impl FnOnce()) -> ! {
    // SAFETY: the other thread of this process is libtest's, which waits for this one and holds no
    // lock meanwhile.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: these only set the process's timer, which ends a hang, and that it ends with its
        // parent.
        unsafe {
            libc::alarm(120);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        let ended = catch_unwind(AssertUnwindSafe(body));
        std::process::exit(if ended.is_ok() { 0 } else { 101 });
    }
    let mut status = 0;
    // SAFETY: `status` is a place to write to, and `child` our child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        // SAFETY: this ends the process, as the signal ended the child.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    std::process::exit(libc::WEXITSTATUS(status));
}

/// Whether a program is installed, for a test that has it at its other end. In CI, each must be; a
/// user's test run says what it leaves out.
pub fn has(program: &str) -> bool {
    let started = Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let is_there = match started {
        Ok(mut child) => {
            let _ = (child.kill(), child.wait());
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{program}: {error}");
            false
        }
    };
    has_if(is_there, program, "ci/setup.sh installs it")
}

/// Passes on whether a test has what it needs, as [`has`] does for programs.
pub fn has_if(is_there: bool, what: &str, cure: &str) -> bool {
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "{what} is not installed, and CI must have it: {cure}");
        // Not eprintln, which libtest captures.
        let _ = writeln!(io::stderr(), "SKIPPED: {what} is not installed ({cure})");
    }
    is_there
}

/// The standard error of a child.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
