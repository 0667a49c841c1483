//! The reports: TSan writes them into one file per process, and `goby race` shows and counts them.
//!
//! They go to files, not to standard error. So the program keeps the terminal, nothing that it
//! prints is taken for a report, and the reports of child processes are seen even if a test
//! captures their output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::exit::Usage;
use crate::text;

/// Stands before and after each report.
const RULE: &str = "==================\n";
/// The last line of a report but the rule.
const SUMMARY: &str = "\nSUMMARY: ThreadSanitizer: ";

/// The reports of one run.
#[derive(Debug)]
pub(crate) struct Reports {
    /// Removed at the end, with all in it.
    dir: PathBuf,
    files: BTreeMap<OsString, Progress>,
    found: Found,
}

/// How far a file has been read, and which part of that is not shown yet.
#[derive(Debug, Default)]
struct Progress {
    read: u64,
    unshown: Vec<u8>,
}

impl Reports {
    /// Makes a directory for the reports.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn start(race_dir: &Path) -> Result<Reports, Usage> {
        let dir = race_dir.join(format!("reports-{}", std::process::id()));
        fs::create_dir_all(&dir)
            .map_err(|error| Usage::new(format!("cannot write {}: {}", dir.display(), text::reason(&error))))?;
        Ok(Reports { dir, files: BTreeMap::new(), found: Found::default() })
    }

    /// `TSAN_OPTIONS`: the user's own, and where the reports go.
    pub(crate) fn options(&self, given: Option<OsString>) -> OsString {
        let mut options = given.unwrap_or_default();
        options.push(" exitcode=66 log_path=\"");
        options.push(self.dir.join("report"));
        options.push("\"");
        options
    }

    /// Shows the reports that have been completed since the last call.
    pub(crate) fn show_new(&mut self) {
        self.show(whole_reports);
    }

    /// Shows everything that is left, whole or not.
    pub(crate) fn show_rest(&mut self) {
        self.show(<[u8]>::len);
    }

    /// How many reports have been shown.
    pub(crate) fn found(&self) -> Found {
        self.found
    }

    /// Reads on in all files, and shows as much of each as `cut` allows.
    fn show(&mut self, cut: fn(&[u8]) -> usize) {
        // If a directory or a file cannot be read, somebody has removed it meanwhile.
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let progress = self.files.entry(entry.file_name()).or_default();
            if progress.read_on(&entry.path()).is_err() {
                continue;
            }
            let rest = progress.unshown.split_off(cut(&progress.unshown));
            let shown = std::mem::replace(&mut progress.unshown, rest);
            self.found.count(&String::from_utf8_lossy(&shown));
            let _ = io::stderr().write_all(&shown);
        }
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Progress {
    fn read_on(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_end(&mut self.unshown)? as u64;
        Ok(())
    }
}

/// Where the last whole report ends.
fn whole_reports(text: &[u8]) -> usize {
    let find = |text: &[u8], what: &str| text.windows(what.len()).rposition(|window| window == what.as_bytes());
    let Some(rule) = find(text, RULE) else { return 0 };
    // The last rule begins a report or ends one.
    let is_end = find(&text[..rule], SUMMARY).is_some_and(|summary| find(&text[summary..rule], RULE).is_none());
    if is_end { rule + RULE.len() } else { rule }
}

/// How many reports there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    races: u64,
    /// Other reports, such as of a mutex that was destroyed while locked, or of TSan's own end.
    others: u64,
}

impl Found {
    /// Whether there were any.
    pub(crate) fn any(self) -> bool {
        self != Found::default()
    }

    fn count(&mut self, text: &str) {
        for line in text.lines() {
            match line.split_once(": ThreadSanitizer: ") {
                Some(("WARNING", what)) if what.starts_with("data race") => self.races += 1,
                Some(("WARNING" | "ERROR" | "FATAL", _)) => self.others += 1,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}", text::counted(self.races, "data race"))?;
        if self.others > 0 {
            write!(f, " and {} of another kind", text::counted(self.others, "report"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "==================\nWARNING: ThreadSanitizer: data race (pid=1)\n  Read\n\n\
                          SUMMARY: ThreadSanitizer: data race a.rs:1 in f\n==================\n";

    #[test]
    fn a_report_is_whole_once_its_last_line_is_there() {
        assert_eq!(whole_reports(b""), 0);
        for end in 0..REPORT.len() {
            assert_eq!(whole_reports(&REPORT.as_bytes()[..end]), 0, "{end}");
        }
        assert_eq!(whole_reports(REPORT.as_bytes()), REPORT.len());
        let begun = format!("{REPORT}==================\nWARNING");
        assert_eq!(whole_reports(begun.as_bytes()), REPORT.len());
        let end = format!("{REPORT}ThreadSanitizer: reported 1 warnings\n");
        assert_eq!(whole_reports(end.as_bytes()), REPORT.len());
    }

    #[test]
    fn races_and_other_reports_are_counted_apart() {
        let mut found = Found::default();
        assert_eq!(found.to_string(), "found 0 data races");
        assert!(!found.any());
        found.count(REPORT);
        assert_eq!(found.to_string(), "found 1 data race");
        found.count(&REPORT.repeat(2));
        found.count("WARNING: ThreadSanitizer: destroy of a locked mutex (pid=1)\n");
        assert_eq!(found.to_string(), "found 3 data races and 1 report of another kind");
        assert!(found.any());
    }

    #[test]
    fn the_users_options_are_kept_and_the_place_of_the_reports_is_ours() {
        let reports = Reports::start(&std::env::temp_dir()).unwrap();
        let options = reports.options(Some("log_path=x suppressions=f".into()));
        let ours = format!(" exitcode=66 log_path=\"{}/report\"", reports.dir.display());
        assert_eq!(options, *("log_path=x suppressions=f".to_string() + &ours));
        assert!(reports.dir.is_dir());
        let dir = reports.dir.clone();
        drop(reports);
        assert!(!dir.exists());
    }
}
