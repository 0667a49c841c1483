//! The goroutine that feeds jobs to the pool, while the input is still being read.
//!
//! Reading has a goroutine of its own, because a read of standard input cannot be given up. When
//! the run is stopped, the feeder ends at once, and leaves the reader behind with its last chunk.
//! Both channels are bounded, so the reader is never far ahead of the requests.

use std::io;

use goby::chan::{self, Receiver, Sender};
use goby::{Context, select};

use super::input::{Input, Job, LineSource, Splitter};
use super::progress::Live;
use super::resume::Done;
use super::unique::Seen;

/// Chunks that are read ahead of the one being fed.
const CHUNKS_AHEAD: usize = 1;

/// What the feeder did.
#[derive(Debug, Default)]
pub(crate) struct Fed {
    /// URLs that an earlier run has fetched.
    pub(crate) skipped: u64,
    /// URLs that the list has had before, with `--unique`.
    pub(crate) repeated: u64,
    /// URLs that were found, but not handed to the pool because the run was stopped.
    pub(crate) not_fed: u64,
    /// The run was stopped before the end of the input, and there may be more in it.
    pub(crate) rest_unread: bool,
    /// Reading failed.
    pub(crate) error: Option<io::Error>,
}

/// Feeds all of `input` that is not `done` to `jobs`, until `ctx` is done.
/// With `seen`, a URL is fed once.
pub(crate) fn feed(
    ctx: &Context,
    input: Input,
    done: &Done,
    seen: Option<Seen>,
    jobs: Sender<Job>,
    live: &Live,
) -> Fed {
    let mut feeder = Feeder { ctx, done, seen, jobs: Some(jobs), live, fed: Fed::default() };
    for job in input.given.jobs() {
        feeder.feed(job);
    }
    if let Some(lines) = input.lines {
        feeder.feed_lines(lines);
    }
    if !feeder.fed.rest_unread {
        live.all_found();
    }
    feeder.fed
}

struct Feeder<'a> {
    ctx: &'a Context,
    done: &'a Done,
    seen: Option<Seen>,
    /// Dropped, and so closed, as soon as the run is stopped.
    jobs: Option<Sender<Job>>,
    live: &'a Live,
    fed: Fed,
}

impl Feeder<'_> {
    fn feed(&mut self, job: Job) {
        // A request that says more than its URL is its own.
        let is_plain = job.custom.as_ref().is_none_or(|custom| custom.is_plain());
        if is_plain && self.seen.as_mut().is_some_and(|seen| !seen.is_new(job.bare())) {
            self.fed.repeated += 1;
            self.live.skipped();
            return;
        }
        if self.done.contains(&job.text, job.custom.as_ref().map(|custom| custom.line)) {
            self.fed.skipped += 1;
            self.live.skipped();
            return;
        }
        self.live.found();
        let Some(jobs) = &self.jobs else {
            self.fed.not_fed += 1;
            return;
        };
        let sent = select! {
            send(jobs, job) -> sent => sent.is_ok(),
            recv(self.ctx.done()) -> _ => false,
        };
        if !sent {
            self.fed.not_fed += 1;
            self.jobs = None;
        }
    }

    /// Feeds the jobs of so many bytes of input. Each job counts for its part of the bytes: feeding
    /// may take a long time, and the estimate of what is to come must not see bytes before it sees
    /// their jobs.
    fn feed_chunk(&mut self, mut bytes: usize, jobs: &mut Vec<Job>) {
        let n = jobs.len();
        for (i, job) in jobs.drain(..).enumerate() {
            let part = bytes / (n - i);
            bytes -= part;
            self.live.read(part);
            self.feed(job);
        }
        self.live.read(bytes);
    }

    fn feed_lines(&mut self, lines: LineSource) {
        // The rest of a file can be counted without waiting. What may still come from a pipe
        // cannot.
        let countable = lines.size().is_some();
        let chunks = read_chunks(lines);
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        loop {
            if self.jobs.is_none() && !countable {
                self.fed.rest_unread = true;
                return;
            }
            let chunk = if self.jobs.is_none() {
                chunks.recv()
            } else {
                select! {
                    recv(chunks) -> chunk => chunk,
                    recv(self.ctx.done()) -> _ => {
                        self.jobs = None;
                        continue;
                    }
                }
            };
            match chunk {
                Ok(Ok(chunk)) => {
                    splitter.split(&chunk, &mut found);
                    self.feed_chunk(chunk.len(), &mut found);
                }
                Ok(Err(error)) => {
                    self.fed.error = Some(error);
                    self.fed.rest_unread = true;
                    return;
                }
                Err(_) => break,
            }
        }
        splitter.finish(&mut found);
        for job in found {
            self.feed(job);
        }
    }
}

/// Reads `lines` in a goroutine; the channel closes at its end.
fn read_chunks(mut lines: LineSource) -> Receiver<io::Result<Vec<u8>>> {
    let (chunks_in, chunks) = chan::bounded(CHUNKS_AHEAD);
    goby::go(move || {
        loop {
            match goby::blocking(|| lines.read_chunk()) {
                Ok(chunk) if chunk.is_empty() => return,
                chunk => {
                    let failed = chunk.is_err();
                    if chunks_in.send(chunk).is_err() || failed {
                        return;
                    }
                }
            }
        }
    });
    chunks
}
