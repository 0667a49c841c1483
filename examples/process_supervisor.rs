//! A process supervisor: starts each command, starts it again with a growing pause when it ends,
//! and stops all of them, with what they have started, at Ctrl-C.
//!
//!     cargo run -p goby-examples --bin process_supervisor 'COMMAND' 'COMMAND' …
//!
//! In Go:
//!
//! ```go
//! func main() {
//!     ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//!     defer stop()
//!     var wg sync.WaitGroup
//!     for i, command := range os.Args[1:] {
//!         wg.Go(func() { supervise(ctx, i, command) })
//!     }
//!     wg.Wait()
//! }
//!
//! func run(ctx context.Context, command string) error {
//!     cmd := exec.CommandContext(ctx, "sh", "-c", command)
//!     cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
//!     cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
//!     cmd.WaitDelay = 5 * time.Second
//!     return cmd.Run()
//! }
//! ```

use std::io::{self, BufRead, BufReader};
use std::process::ExitStatus;
use std::time::Duration;

use goby::process::{Command, Stdio};
use goby::signal::{self, Signal};
use goby::{Context, now, scope, time};

/// The first pause before a new start; each one after a short run is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After a run of this length the pauses begin anew.
const CALM: Duration = Duration::from_secs(10);
/// How long a command may take to stop.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
    scope(|s| {
        for (i, command) in std::env::args().skip(1).enumerate() {
            let ctx = &ctx;
            s.go(move || supervise(ctx, i, &command));
        }
    });
    println!("all have stopped");
    Ok(())
}

/// Keeps a command running until the context is done.
fn supervise(ctx: &Context, i: usize, command: &str) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = now();
        match run(ctx, i, command) {
            Err(_) if ctx.err().is_some() => return println!("[{i}] stopped"),
            Err(error) => println!("[{i}] {error}"),
            Ok(status) => println!("[{i}] {status}"),
        }
        if started.elapsed() >= CALM {
            pause = FIRST_PAUSE;
        }
        if time::sleep_ctx(ctx, pause).is_err() {
            return println!("[{i}] stopped");
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// Runs a command to its end, and prints what it writes.
fn run(ctx: &Context, i: usize, command: &str) -> io::Result<ExitStatus> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    // Its group gets SIGTERM; what is left of it is killed.
    shell.kill_group(true).cancel(|process| process.signal(Signal::TERMINATED)).wait_delay(GRACE);
    let mut child = shell.spawn_ctx(ctx)?;
    println!("[{i}] started");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    scope(|s| {
        s.go(|| output.lines().map_while(Result::ok).for_each(|line| println!("[{i}] {line}")));
        child.wait()
    })
}
