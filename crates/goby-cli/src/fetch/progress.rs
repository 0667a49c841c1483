//! The progress line: what is done, how fast, how much failed, and the time left.
//!
//! Workers do not know of it: the feeder and the writer count in [`Live`], and a goroutine with a
//! ticker draws from that. Drawing is behind `goby::blocking`, so a stopped terminal (Ctrl-S) stops
//! the line, not the run.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goby::JoinHandle;
use goby::chan::{self, Sender};
use goby::select;
use goby::time::Ticker;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

use crate::text::{count, figure};

/// On a terminal: often enough to look alive.
const TERMINAL_PERIOD: Duration = Duration::from_millis(100);
/// Elsewhere every line stays, as in the log of a CI job, so fewer are drawn.
const LOG_PERIOD: Duration = Duration::from_secs(2);
/// Elsewhere lines are cut at this width.
const LOG_WIDTH: u16 = 100;

/// Counters of a run that is going on. All are plain statistics: each is read by itself, and none
/// publishes anything else, so every access is relaxed.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// URLs found in the input so far, without those that an earlier run has fetched.
    found: AtomicU64,
    /// URLs that an earlier run has fetched.
    skipped: AtomicU64,
    /// All URLs of the input have been found.
    all_found: AtomicBool,
    /// URLs that need no reading.
    given: u64,
    /// Bytes of input that were read.
    bytes_read: AtomicU64,
    /// Bytes of input to read in all, if that is known.
    bytes_to_read: Option<u64>,
    /// URLs with a result.
    ended: AtomicU64,
    /// URLs with a result that failed.
    failed: AtomicU64,
}

impl Live {
    /// Counters for `given` URLs and those in so many bytes, if that is known.
    pub(crate) fn new(given: u64, bytes_to_read: Option<u64>) -> Live {
        Live { given, bytes_to_read, ..Live::default() }
    }

    /// The feeder found a URL.
    pub(crate) fn found(&self) {
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    /// The feeder found a URL that an earlier run has fetched.
    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// The feeder has seen the end of the input.
    pub(crate) fn all_found(&self) {
        self.all_found.store(true, Ordering::Relaxed);
    }

    /// The feeder has gone on by so many bytes.
    pub(crate) fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The writer got a result.
    pub(crate) fn ended(&self, failed: bool) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// How many URLs there will be: counted, or estimated from the part of the input that was read.
    fn expected(&self) -> Option<u64> {
        let found = self.found.load(Ordering::Relaxed);
        let read = self.bytes_read.load(Ordering::Relaxed);
        if self.all_found.load(Ordering::Relaxed) {
            return Some(found);
        }
        match self.bytes_to_read? {
            0 => Some(self.given),
            _ if read == 0 => None,
            bytes => {
                // The estimate assumes that the rest is like what was read, with nothing in it that
                // is done already.
                let lines = (found + self.skipped.load(Ordering::Relaxed)).saturating_sub(self.given);
                let rest = bytes.saturating_sub(read) as f64 / read as f64;
                Some(found.max(self.given) + (lines as f64 * rest) as u64)
            }
        }
    }
}

/// Where the line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A terminal, where one line is drawn again and again.
    Terminal,
    /// A file or pipe, which gets a new line every few seconds.
    Log,
}

/// The goroutine that draws.
#[derive(Debug)]
pub(crate) struct Progress {
    stop: Sender<()>,
    goroutine: JoinHandle<()>,
}

impl Progress {
    /// Starts to draw.
    pub(crate) fn start(target: Target, live: Arc<Live>) -> Progress {
        let (stop, stopped) = chan::bounded::<()>(0);
        let goroutine = goby::go(move || {
            let bar = bar(target, &live);
            let period = if target == Target::Terminal { TERMINAL_PERIOD } else { LOG_PERIOD };
            let ticker = Ticker::new(period);
            loop {
                select! {
                    recv(ticker.receiver()) -> _ => goby::blocking(|| draw(&bar, &live)),
                    recv(stopped) -> _ => break,
                }
            }
            goby::blocking(|| {
                if target == Target::Log {
                    draw(&bar, &live);
                }
                bar.finish_and_clear();
            });
        });
        Progress { stop, goroutine }
    }

    /// Stops drawing. On a terminal the line is removed; elsewhere the last line shows the end.
    pub(crate) fn stop(self) {
        drop(self.stop);
        // A panic in drawing has been seen already, and the results do not depend on it.
        let _ = self.goroutine.join();
    }
}

fn bar(target: Target, live: &Arc<Live>) -> ProgressBar {
    let target = match target {
        Target::Terminal => ProgressDrawTarget::stderr(),
        Target::Log => ProgressDrawTarget::term_like(Box::new(Log::default())),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(style("{done} done  {rate}  {failed} failed", live));
    bar
}

/// Draws the line once.
fn draw(bar: &ProgressBar, live: &Arc<Live>) {
    let expected = live.expected();
    if expected.is_some() && bar.length().is_none() {
        bar.set_style(style("{bar:20} {done}/{expected}  {rate}  {failed} failed  {eta} left", live));
    }
    bar.update(|state| {
        state.set_pos(live.ended.load(Ordering::Relaxed));
        if let Some(expected) = expected {
            state.set_len(expected);
        }
    });
}

fn style(template: &str, live: &Arc<Live>) -> ProgressStyle {
    let live = live.clone();
    let failed = move |_: &ProgressState, line: &mut dyn fmt::Write| {
        let _ = line.write_str(&count(live.failed.load(Ordering::Relaxed)));
    };
    let done = |state: &ProgressState, line: &mut dyn fmt::Write| {
        let _ = line.write_str(&count(state.pos()));
    };
    let expected = |state: &ProgressState, line: &mut dyn fmt::Write| {
        let _ = line.write_str(&count(state.len().unwrap_or_default()));
    };
    let rate = |state: &ProgressState, line: &mut dyn fmt::Write| {
        let _ = write!(line, "{}/s", figure(state.per_sec()));
    };
    ProgressStyle::with_template(template)
        .expect("the template is well-formed")
        .progress_chars("=> ")
        .with_key("done", done)
        .with_key("expected", expected)
        .with_key("rate", rate)
        .with_key("failed", failed)
}

/// Standard error that is not a terminal: the text between two flushes is one line of the log.
#[derive(Debug, Default)]
struct Log {
    line: Mutex<String>,
}

impl TermLike for Log {
    fn width(&self) -> u16 {
        LOG_WIDTH
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.line.lock().expect("nothing panics under this lock").push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let line = std::mem::take(&mut *self.line.lock().expect("nothing panics under this lock"));
        match line.trim_end() {
            "" => Ok(()),
            line => writeln!(io::stderr(), "goby: {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_urls_is_unknown_then_estimated_then_counted() {
        let live = Live::new(0, None);
        live.found();
        assert_eq!(live.expected(), None);
        live.all_found();
        assert_eq!(live.expected(), Some(1));

        let live = Live::new(7, Some(0));
        assert_eq!(live.expected(), Some(7));

        let live = Live::new(1, Some(1000));
        live.found();
        assert_eq!(live.expected(), None);
        live.read(100);
        for _ in 0..5 {
            live.found();
        }
        assert_eq!(live.expected(), Some(51));
        live.read(900);
        live.found();
        assert_eq!(live.expected(), Some(7));
        // The file has grown meanwhile.
        live.read(1000);
        assert_eq!(live.expected(), Some(7));
    }
}
