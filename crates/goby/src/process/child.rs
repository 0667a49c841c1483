//! Children: waiting for them, and collecting what they write.

use std::fmt;
use std::io::{self, Read};
use std::panic::resume_unwind;
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::handle::Limit;
use super::stop::{Cut, Stop, cut};
use super::{ChildStderr, ChildStdin, ChildStdout, CutShort, PipesHeld, Process, reaper};
use crate::context::ContextError;
use crate::{Context, scope, time};

/// A child process, from [`Command::spawn`](super::Command::spawn).
///
/// Dropping it neither kills it nor waits for it, unless
/// [`kill_on_drop`](super::Command::kill_on_drop) was set. It leaves no zombie either.
///
/// ```
/// use goby::process::{Command, Stdio};
/// let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
/// assert_eq!(child.wait_with_output()?.stdout, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Source: `std::process::Child`, Go's `os.Process` and `exec.Cmd`.
pub struct Child {
    /// The pipe to its standard input, if that is [piped](super::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// The pipe from its standard output, if that is piped.
    pub stdout: Option<ChildStdout>,
    /// The pipe from its standard error, if that is piped.
    pub stderr: Option<ChildStderr>,
    process: Process,
    kill_on_drop: bool,
    wait_delay: Option<Duration>,
    stop: Option<Arc<Stop>>,
}

impl Child {
    pub(super) fn new(process: Process, kill_on_drop: bool, wait_delay: Option<Duration>) -> Child {
        Child { stdin: None, stdout: None, stderr: None, process, kill_on_drop, wait_delay, stop: None }
    }

    /// Lets the end of `ctx` end it.
    pub(super) fn watch(&mut self, ctx: &Context, stop: Arc<Stop>) {
        let (stops, context) = (stop.clone(), ctx.clone());
        self.process.watch(ctx.after_func(move || stops.run(&context)));
        self.stop = Some(stop);
    }

    /// Returns what ends the waits of its pipes.
    pub(super) fn cuts(&self) -> Vec<Cut> {
        let stdin = self.stdin.iter().map(|pipe| pipe.channel());
        let outputs = self.stdout.iter().chain(&self.stderr).map(|pipe| pipe.channel());
        stdin.chain(outputs).map(|channel| Arc::downgrade(channel.socket())).collect()
    }

    /// Returns the number of the process.
    ///
    /// ```
    /// let mut child = goby::process::Command::new("true").spawn()?;
    /// assert_ne!(child.id(), std::process::id());
    /// child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns a handle with which other goroutines may signal it.
    ///
    /// ```
    /// let mut child = goby::process::Command::new("sleep").arg("1000").spawn()?;
    /// let process = child.process();
    /// goby::go(move || process.kill()).join().unwrap()?;
    /// assert!(!child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// Kills it (`SIGKILL`), with [`kill_group`](super::Command::kill_group) its whole group. Does
    /// nothing if its status was taken already.
    ///
    /// ```
    /// let mut child = goby::process::Command::new("sleep").arg("1000").spawn()?;
    /// child.kill()?;
    /// assert_eq!(child.wait()?.to_string(), "signal: 9 (SIGKILL)");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn kill(&self) -> io::Result<()> {
        self.process.kill()
    }

    /// Waits until it has exited, and returns its status. Closes the pipe to its standard input
    /// first, if that is still here.
    ///
    /// ```
    /// use goby::process::{Command, Stdio};
    /// let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
    /// assert!(child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the child has exited. A child that writes to a pipe which nobody
    /// reads may never exit: use [`wait_with_output`](Child::wait_with_output), or read the pipes
    /// in other goroutines.
    ///
    /// # Errors
    ///
    /// The error of the context that has ended it: its status is then in
    /// [`try_wait`](Child::try_wait). The system's error, if there is no status to be had: the
    /// program ignores `SIGCHLD`, or has waited for the child by other means.
    #[doc(alias = "Cmd.Wait")]
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.process.wait_exited(Limit::default())?;
        self.take_status()
    }

    /// Waits as [`wait`](Child::wait) does, until `ctx` is done. The child is not killed then: it
    /// may be waited for again.
    ///
    /// ```
    /// use goby::{Context, process::Command};
    /// use std::time::Duration;
    /// let mut child = Command::new("sleep").arg("1000").spawn()?;
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(child.wait_ctx(&ctx).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// assert!(child.try_wait()?.is_none(), "it still runs");
    /// child.kill()?;
    /// child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for `wait`.
    ///
    /// # Errors
    ///
    /// Those of `wait`, and the context's.
    pub fn wait_ctx(&mut self, ctx: &Context) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.process.wait_exited(Limit { context: Some(ctx), deadline: None })?;
        self.take_status()
    }

    fn take_status(&self) -> io::Result<ExitStatus> {
        let status = self.process.reap()?.expect("it has exited");
        self.canceled().map_or(Ok(status), |error| Err(error.into()))
    }

    /// Returns the error of the context, if that has ended the child.
    fn canceled(&self) -> Option<ContextError> {
        let state = self.stop.as_ref()?.state.lock();
        if state.canceled { state.done } else { None }
    }

    /// Returns its status, if it has exited.
    ///
    /// ```
    /// let mut child = goby::process::Command::new("true").spawn()?;
    /// let status = child.wait()?;
    /// assert_eq!(child.try_wait()?, Some(status));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, as for [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        goby_runtime::polled();
        self.process.reap()
    }

    /// Waits until it has exited, and returns its status with all that it writes to its pipes. Both
    /// pipes are read at once, so the child never waits for its reader.
    ///
    /// ```
    /// use goby::process::{Command, Stdio};
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "yes | head -c 1000000 >&2; echo done"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    /// let output = command.spawn()?.wait_with_output()?;
    /// assert_eq!((&*output.stdout, output.stderr.len()), (&b"done\n"[..], 1_000_000));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the child has exited and nobody holds its pipes any more, or the
    /// [`wait_delay`](super::Command::wait_delay) is over.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Child::wait), and [`PipesHeld`]. If the context has ended the child, or
    /// the wait for its pipes, a [`CutShort`] has what was read.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let cuts = self.cuts();
        if let Some(stop) = &self.stop {
            stop.state.lock().collects = true;
        }
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (exited, stdout, stderr) = scope(|s| {
            let [stdout, stderr] = [stdout, stderr].map(|pipe| pipe.map(|pipe| s.go(move || collect(pipe))));
            let exited = self.process.wait_exited(Limit::default());
            let delay = self.delay_of_pipes(exited.is_err());
            let timer = delay.map(|delay| time::after_func_once(delay, move || cut(&cuts)));
            let [stdout, stderr] = [stdout, stderr].map(|reader| {
                let joined =
                    reader.map(|reader| reader.join().unwrap_or_else(|error| resume_unwind(error.into_payload())));
                joined.unwrap_or_else(|| (Vec::new(), Ok(())))
            });
            if let Some(timer) = timer {
                timer.stop();
            }
            (exited, stdout, stderr)
        });
        if let Some(stop) = &self.stop {
            stop.note_collected();
        }
        exited?;
        let ((stdout, read_out), (stderr, read_err)) = (stdout, stderr);
        let read = read_out.and(read_err);
        let status = self.process.reap()?.expect("it has exited");
        let output = Output { status, stdout, stderr };
        if let Some(error) = self.canceled() {
            return Err(CutShort::error(error, output));
        }
        let done = self.stop.as_ref().and_then(|stop| stop.state.lock().done);
        match read {
            Ok(()) => Ok(output),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => match done {
                Some(error) => Err(CutShort::error(error, output)),
                None => Err(PipesHeld::error(output)),
            },
            Err(error) => Err(error),
        }
    }

    /// Returns how long the pipes may stay open now that the child has exited.
    fn delay_of_pipes(&self, has_failed: bool) -> Option<Duration> {
        let done = self.stop.as_ref().is_some_and(|stop| stop.state.lock().done.is_some());
        // After a delay that has begun already `Stop::run` cuts them.
        let delay = if done && self.wait_delay.is_none() { Some(Duration::ZERO) } else { self.wait_delay };
        if has_failed { Some(Duration::ZERO) } else { delay }
    }
}

/// Reads to the end; returns what there was, also if that ended with an error.
fn collect(mut pipe: ChildStdout) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let mut read = pipe.read_to_end(&mut bytes).map(drop);
    if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) && read_rest(&pipe, &mut bytes) {
        read = Ok(());
    }
    (bytes, read)
}

/// Reads what a pipe holds that was cut. Returns whether that was the end: nobody holds the pipe.
fn read_rest(pipe: &ChildStdout, bytes: &mut Vec<u8>) -> bool {
    // Whoever holds it may go on writing.
    let mut left = rustix::pipe::fcntl_getpipe_size(pipe).unwrap_or(0);
    let mut piece = vec![0; left.max(1)];
    loop {
        match rustix::io::read(pipe, &mut piece[..left.max(1)]) {
            Ok(0) => return true,
            Ok(n) => {
                bytes.extend_from_slice(&piece[..n]);
                if left <= n {
                    return false;
                }
                left -= n;
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process.status().is_some() {
            return;
        }
        if self.kill_on_drop {
            let _ = self.process.kill();
        }
        // An error: there is no status to be had.
        if matches!(self.process.reap(), Ok(None)) {
            reaper::adopt(self.process.clone());
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipes = (&self.stdin, &self.stdout, &self.stderr);
        f.debug_struct("Child").field("process", &self.process).field("pipes", &pipes).finish_non_exhaustive()
    }
}
