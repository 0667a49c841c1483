//! Commands: what to run, and how.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use goby_runtime::WaitReason;
use parking_lot::Mutex;

use super::error::cannot_start;
use super::stop::{Cancel, Stop};
use super::{Child, ChildStderr, ChildStdin, ChildStdout, Process};
use crate::Context;
use crate::context::blocking_ctx;

/// A program to run, its arguments and surroundings: std's
/// [`Command`](std::process::Command) with the same names.
///
/// ```
/// use goby::process::{Command, Stdio};
/// use std::io::{Read, Write};
///
/// let mut child = Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// let mut stdin = child.stdin.take().unwrap();
/// let writer = goby::go(move || stdin.write_all(b"hello"));
/// let mut text = String::new();
/// child.stdout.take().unwrap().read_to_string(&mut text)?;
/// assert_eq!(text, "HELLO");
/// writer.join().unwrap()?;
/// assert!(child.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// What this type does not offer is set through [`as_std_mut`](Command::as_std_mut), or on a
/// command of std's, which becomes one of these by `From`.
///
/// Source: `std::process::Command`, Go's `exec.Cmd`.
#[doc(alias("exec.Cmd", "exec.Command", "os/exec"))]
pub struct Command {
    std: process::Command,
    cancel: Option<Cancel>,
    wait_delay: Option<Duration>,
    kill_group: bool,
    /// A group of its own was asked of `std`, which cannot be taken back.
    had_group: bool,
    kill_on_drop: bool,
    given: Given,
}

/// Which of the standard streams were set here: `output` has its own ideas for the others.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

/// Documents a setter that is std's.
macro_rules! as_std {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $Type:ty),*);)*) => {
        $($(#[$doc])*
        pub fn $name(&mut self, $($arg: $Type),*) -> &mut Command {
            self.std.$name($($arg),*);
            self
        })*
    };
}

impl Command {
    /// Makes a command that runs `program`, which is looked for in `PATH` if it has no slash.
    ///
    /// Without arguments, in this process's surroundings; its standard streams are this process's,
    /// except for [`output`](Command::output).
    ///
    /// ```
    /// use goby::process::Command;
    /// assert!(Command::new("true").status()?.success());
    /// let error = Command::new("no-such-program").status().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// assert!(error.to_string().contains("it is in no directory of PATH"), "{error}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        let given = Given::default();
        Command { given, ..Command::from(process::Command::new(program)) }
    }

    as_std! {
        /// Adds an argument.
        ///
        /// ```
        /// let output = goby::process::Command::new("echo").arg("-n").arg("a b").output()?;
        /// assert_eq!(output.stdout, b"a b");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn arg(arg: impl AsRef<OsStr>);

        /// Adds arguments.
        ///
        /// ```
        /// let output = goby::process::Command::new("echo").args(["a", "b"]).output()?;
        /// assert_eq!(output.stdout, b"a b\n");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn args(args: impl IntoIterator<Item = impl AsRef<OsStr>>);

        /// Sets an environment variable for the child.
        ///
        /// ```
        /// let output = goby::process::Command::new("sh").args(["-c", "echo $COLOR"]).env("COLOR", "red").output()?;
        /// assert_eq!(output.stdout, b"red\n");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn env(key: impl AsRef<OsStr>, value: impl AsRef<OsStr>);

        /// Sets environment variables for the child.
        ///
        /// ```
        /// let output = goby::process::Command::new("sh").args(["-c", "echo $A$B"]).envs([("A", "1"), ("B", "2")]).output()?;
        /// assert_eq!(output.stdout, b"12\n");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn envs(vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>);

        /// Takes a variable out of the child's environment.
        ///
        /// ```
        /// let output = goby::process::Command::new("sh").args(["-c", "echo ${HOME-none}"]).env_remove("HOME").output()?;
        /// assert_eq!(output.stdout, b"none\n");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn env_remove(key: impl AsRef<OsStr>);

        /// Makes the child's environment empty, but for what is set afterwards.
        ///
        /// ```
        /// let output = goby::process::Command::new("/usr/bin/env").env_clear().env("A", "1").output()?;
        /// assert_eq!(output.stdout, b"A=1\n");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn env_clear();

        /// Sets the child's working directory.
        ///
        /// ```
        /// let output = goby::process::Command::new("pwd").current_dir("/").output()?;
        /// assert_eq!(output.stdout, b"/\n");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn current_dir(dir: impl AsRef<Path>);

        /// Puts the child into a process group, 0 for one of its own: see also
        /// [`kill_group`](Command::kill_group).
        ///
        /// ```
        /// // It gets no Ctrl-C from the terminal.
        /// assert!(goby::process::Command::new("true").process_group(0).status()?.success());
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn process_group(group: i32);

        /// Sets the name by which the program is told it was called.
        ///
        /// ```
        /// let output = goby::process::Command::new("sh").arg0("teacher").args(["-c", "echo $0"]).output()?;
        /// assert_eq!(output.stdout, b"teacher\n");
        /// # Ok::<(), std::io::Error>(())
        /// ```
        fn arg0(arg: impl AsRef<OsStr>);
    }

    /// Sets the child's standard input.
    ///
    /// ```
    /// use goby::process::{Command, Stdio};
    /// let output = Command::new("cat").stdin(Stdio::null()).output()?;
    /// assert!(output.stdout.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Command {
        self.given.stdin = true;
        self.std.stdin(stdin);
        self
    }

    /// Sets the child's standard output: a pipe of another child, say.
    ///
    /// ```
    /// use goby::process::{Command, Stdio};
    /// let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn()?;
    /// let head = Command::new("head").arg("-n1").stdin(yes.stdout.take().unwrap()).output()?;
    /// assert_eq!(head.stdout, b"y\n");
    /// assert!(!yes.wait()?.success(), "a broken pipe has ended it");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Command {
        self.given.stdout = true;
        self.std.stdout(stdout);
        self
    }

    /// Sets the child's standard error.
    ///
    /// ```
    /// use goby::process::{Command, Stdio};
    /// let output = Command::new("sh").args(["-c", "echo no >&2"]).stderr(Stdio::null()).output()?;
    /// assert!(output.stderr.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Command {
        self.given.stderr = true;
        self.std.stderr(stderr);
        self
    }

    /// Sets what the end of its context does to the child, instead of killing it. It runs in a
    /// goroutine of its own.
    ///
    /// Set a [`wait_delay`](Command::wait_delay) too: otherwise a child that takes no notice is
    /// waited for without an end.
    ///
    /// ```
    /// use goby::{Context, process::Command, signal::Signal};
    /// use std::time::Duration;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let mut command = Command::new("sleep");
    /// command.arg("1000").cancel(|process| process.signal(Signal::TERMINATED)).wait_delay(Duration::from_secs(60));
    /// let mut child = command.spawn_ctx(&ctx)?;
    /// cancel.cancel();
    /// assert_eq!(child.wait().unwrap_err().to_string(), "context canceled");
    /// assert_eq!(child.try_wait()?.unwrap().to_string(), "signal: 15 (SIGTERM)");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `exec.Cmd.Cancel`.
    #[doc(alias = "Cmd.Cancel")]
    pub fn cancel(&mut self, cancel: impl Fn(&Process) -> io::Result<()> + Send + Sync + 'static) -> &mut Command {
        self.cancel = Some(Arc::new(cancel));
        self
    }

    /// Bounds how long a child may take to exit when its context is done, and how long its pipes
    /// may stay open when it has exited.
    ///
    /// After that the child is killed, and reads of its pipes end with `TimedOut`. Without it (the
    /// default) there is no such bound, with one exception: calls that take a context and collect
    /// output end with the child.
    ///
    /// ```
    /// use goby::{Context, process::Command};
    /// use std::time::Duration;
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(10));
    /// let mut deaf = Command::new("sh");
    /// deaf.args(["-c", "trap '' TERM; sleep 1000"]).kill_group(true);
    /// deaf.cancel(|process| process.signal(goby::signal::Signal::TERMINATED)).wait_delay(Duration::from_millis(50));
    /// assert!(deaf.status_ctx(&ctx).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `exec.Cmd.WaitDelay`.
    #[doc(alias = "Cmd.WaitDelay")]
    pub fn wait_delay(&mut self, delay: Duration) -> &mut Command {
        self.wait_delay = Some(delay);
        self
    }

    /// Starts the child in a process group of its own, and sends to the group what would be sent to
    /// the child. Default: false.
    ///
    /// So a kill reaches the children that it has started, unless they have gone into groups of
    /// their own. Nor does such a child get the Ctrl-C of a terminal any more.
    ///
    /// ```
    /// use goby::process::{Command, Stdio};
    /// use std::io::Read;
    /// let mut shell = Command::new("sh");
    /// let mut shell = shell.args(["-c", "sleep 1000 & echo started; wait"]).stdout(Stdio::piped()).kill_group(true).spawn()?;
    /// let mut stdout = shell.stdout.take().unwrap();
    /// stdout.read_exact(&mut [0; 8])?;
    /// shell.kill()?;
    /// assert_eq!(stdout.read(&mut [0])?, 0, "the sleep, which held the pipe too, is gone");
    /// assert!(!shell.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill_group(&mut self, kill_group: bool) -> &mut Command {
        self.kill_group = kill_group;
        self
    }

    /// Sets whether dropping the [`Child`] kills it. Default: false, as in std.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use std::io::Read;
    /// use goby::process::{Command, Stdio};
    /// let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    /// let (_stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    /// drop(child);
    /// assert_eq!(stdout.read(&mut [0])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill_on_drop(&mut self, kill_on_drop: bool) -> &mut Command {
        self.kill_on_drop = kill_on_drop;
        self
    }

    /// Starts the program.
    ///
    /// ```
    /// let mut child = goby::process::Command::new("sh").args(["-c", "exit 3"]).spawn()?;
    /// assert_eq!(child.wait()?.code(), Some(3));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until a helper thread has started the program.
    ///
    /// # Errors
    ///
    /// The system's error, with the name of the program and what may help. Its source is the error
    /// with the system's number.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.start(None)
    }

    /// Starts the program, which ends at the latest when `ctx` is done: see the
    /// [module](super#how-a-context-ends-a-child).
    ///
    /// ```
    /// use goby::{Context, process::Command};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let mut child = Command::new("sleep").arg("1000").spawn_ctx(&ctx)?;
    /// cancel.cancel();
    /// assert_eq!(child.wait().unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`spawn`](Command::spawn).
    ///
    /// # Errors
    ///
    /// Those of `spawn`, and the context's if it is done before the program starts: no child is
    /// there then.
    ///
    /// Source: Go's `exec.CommandContext`.
    #[doc(alias("exec.CommandContext", "CommandContext"))]
    pub fn spawn_ctx(&mut self, ctx: &Context) -> io::Result<Child> {
        self.start(Some(ctx))
    }

    /// Runs the program to its end, and returns its status.
    ///
    /// ```
    /// assert!(!goby::process::Command::new("false").status()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the program has exited.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Command::spawn).
    #[doc(alias = "Cmd.Run")]
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.start(None)?.wait()
    }

    /// Runs the program to its end, or until `ctx` is done; returns its status.
    ///
    /// ```
    /// use goby::{Context, process::Command};
    /// assert!(Command::new("true").status_ctx(&Context::background())?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`status`](Command::status).
    ///
    /// # Errors
    ///
    /// Those of `spawn`, and the context's if it has ended the child.
    pub fn status_ctx(&mut self, ctx: &Context) -> io::Result<ExitStatus> {
        self.start(Some(ctx))?.wait()
    }

    /// Runs the program to its end, and returns its status and what it has written.
    ///
    /// Standard output and error are collected, and standard input is empty, unless they were set
    /// here. (What was set on a command of std's, before it became one of these, holds for the
    /// input only.)
    ///
    /// ```
    /// let output = goby::process::Command::new("sh").args(["-c", "echo out; echo err >&2"]).output()?;
    /// assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the program has exited and nobody holds its pipes any more, or the
    /// [`wait_delay`](Command::wait_delay) is over.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Command::spawn), and [`PipesHeld`](super::PipesHeld).
    #[doc(alias("Cmd.Output", "CombinedOutput"))]
    pub fn output(&mut self) -> io::Result<Output> {
        self.start_collecting(None)?.wait_with_output()
    }

    /// Runs the program as [`output`](Command::output) does, until `ctx` is done.
    ///
    /// ```
    /// use goby::{Context, process::Command};
    /// use std::time::Duration;
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(10));
    /// // The sleep is not killed with the shell, and holds the pipe. It is not waited for.
    /// let error = Command::new("sh").args(["-c", "sleep 2; true"]).output_ctx(&ctx).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for `output`.
    ///
    /// # Errors
    ///
    /// Those of `output`. If the context has ended the child, or the wait for its pipes, a
    /// [`CutShort`](super::CutShort) of the context's kind, which has what was read.
    pub fn output_ctx(&mut self, ctx: &Context) -> io::Result<Output> {
        self.start_collecting(Some(ctx))?.wait_with_output()
    }

    /// Returns std's command in it, to read what is set.
    ///
    /// ```
    /// let command = goby::process::Command::new("ls");
    /// assert_eq!(command.as_std().get_program(), "ls");
    /// ```
    pub fn as_std(&self) -> &process::Command {
        &self.std
    }

    /// Returns std's command in it, to set what this type does not offer.
    ///
    /// ```no_run
    /// use std::os::unix::process::CommandExt;
    /// let mut command = goby::process::Command::new("id");
    /// command.as_std_mut().uid(65534).gid(65534);
    /// command.status()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }

    fn start_collecting(&mut self, ctx: Option<&Context>) -> io::Result<Child> {
        let given = self.given;
        if !given.stdin {
            self.std.stdin(Stdio::null());
        }
        if !given.stdout {
            self.std.stdout(Stdio::piped());
        }
        if !given.stderr {
            self.std.stderr(Stdio::piped());
        }
        let child = self.start(ctx);
        // As before, for the next start.
        if !given.stdin {
            self.std.stdin(Stdio::inherit());
        }
        if !given.stdout {
            self.std.stdout(Stdio::inherit());
        }
        if !given.stderr {
            self.std.stderr(Stdio::inherit());
        }
        child
    }

    fn start(&mut self, ctx: Option<&Context>) -> io::Result<Child> {
        goby_runtime::checkpoint();
        if self.kill_group {
            self.std.process_group(0);
            self.had_group = true;
        } else if self.had_group {
            self.std.process_group(rustix::process::getpgrp().as_raw_pid());
        }
        let std = &mut self.std;
        // The advice looks at files, so that is for the helper, too.
        let spawn = || std.spawn().map_err(|error| cannot_start(std, error));
        let background = Context::background();
        let mut started = blocking_ctx(ctx.unwrap_or(&background), WaitReason::ProcessStart, spawn)??;
        let (stdin, stdout, stderr) = (started.stdin.take(), started.stdout.take(), started.stderr.take());
        let process = Process::new(started, self.kill_group);
        let mut child = Child::new(process, self.kill_on_drop, self.wait_delay);
        child.stdin = stdin.map(|pipe| ChildStdin::of_pipe(pipe.into())).transpose()?;
        child.stdout = stdout.map(|pipe| ChildStdout::of_pipe(pipe.into())).transpose()?;
        child.stderr = stderr.map(|pipe| ChildStderr::of_pipe(pipe.into())).transpose()?;
        if let Some(ctx) = ctx.filter(|ctx| ctx.can_end()) {
            let stop = Arc::new(Stop {
                process: child.process(),
                cancel: self.cancel.clone(),
                wait_delay: self.wait_delay,
                pipes: child.cuts(),
                state: Mutex::default(),
            });
            child.watch(ctx, stop);
        }
        Ok(child)
    }
}

/// Makes it start by goby. What was set of its standard output and error does not hold for
/// [`output`](Command::output).
impl From<process::Command> for Command {
    fn from(std: process::Command) -> Command {
        // Whether it has a standard input cannot be seen: it is left alone.
        let given = Given { stdin: true, ..Given::default() };
        Command { std, cancel: None, wait_delay: None, kill_group: false, had_group: false, kill_on_drop: false, given }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
