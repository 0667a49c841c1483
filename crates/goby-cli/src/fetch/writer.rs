//! The end of the pipeline: results become lines, and are counted.

use std::io;
use std::sync::Arc;

use goby::chan::Receiver;

use super::args::Format;
use super::attempt::Wants;
use super::csv;
use super::fetcher::Outcome;
use super::output::Output;
use super::progress::Live;
use super::record::Record;
use super::tally::Tally;

/// Lines are written when nothing more is waiting, or at this many bytes.
const BATCH: usize = 256 * 1024;

/// Writes and counts the results of a run.
pub(crate) struct Writer<'a> {
    pub(crate) output: &'a mut Output,
    pub(crate) tally: &'a mut Tally,
    pub(crate) format: Format,
    pub(crate) wants: Arc<Wants>,
}

impl Writer<'_> {
    /// Writes results in batches of whole lines, as they come, until there are no more. It calls
    /// `on_failure` at each that is a failure.
    ///
    /// # Errors
    /// If the output takes no more. The results of the last batch are then counted, but not
    /// written.
    pub(crate) fn write_results(
        &mut self,
        results: &Receiver<Outcome>,
        live: &Live,
        on_failure: impl Fn(),
    ) -> io::Result<()> {
        let mut lines = String::new();
        if self.format == Format::Csv && self.output.is_somewhere() {
            csv::write_head(&mut lines, &self.wants);
        }
        while let Ok(first) = results.recv() {
            let mut next = Some(first);
            while let Some(outcome) = next {
                self.tally.count_outcome(&outcome);
                if let Outcome::Ended(record) = &outcome {
                    live.ended(record.has_failed());
                    if record.has_failed() {
                        on_failure();
                    }
                    self.add_line(record, &mut lines);
                }
                next = if lines.len() < BATCH { results.try_recv().ok() } else { None };
            }
            if !lines.is_empty() {
                goby::blocking(|| self.output.write_lines(lines.as_bytes()))?;
            }
            lines.clear();
        }
        // Without a result there is still the head of a table.
        goby::blocking(|| self.output.write_lines(lines.as_bytes()))
    }

    fn add_line(&self, record: &Record, lines: &mut String) {
        match self.format {
            _ if !self.output.is_somewhere() => {}
            Format::Ndjson => record.write_line(lines),
            Format::Csv => csv::write_line(record, lines, &self.wants),
        }
    }
}
