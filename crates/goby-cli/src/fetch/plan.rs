//! `goby fetch`, stage two: what the options mean together, and the parts of the run that follow
//! from them.

use std::path::PathBuf;
use std::sync::Arc;

use goby::Context;
use goby::context::CancelGuard;
use goby::rate::Limiter;
use goby_http::{Client, CookieJar};

use super::args::{FetchArgs, Format, ResultArgs, Summary, When};
use super::attempt::{Terms, Wants};
use super::demo::Site;
use super::input::{Given, LineSource};
use super::limits::burst;
use super::open_files;
use super::output::Output;
use super::progress::Target;
use super::queue::Queue;
use super::request::Requests;
use super::resume::Done;
use super::retry::Retry;
use super::robots::Robots;
use super::save::Saver;
use super::tally::{End, Stopped, Tally};
use super::trouble::Limits;
use super::unique::Seen;
use super::{client, cookies, summary};
use crate::exit::Usage;
use crate::text;

/// A run as it is planned, with nothing opened yet.
#[derive(Debug)]
pub(crate) struct Plan {
    args: FetchArgs,
    /// The output file to go on from.
    resumed: Option<PathBuf>,
    /// The demo's site, once it serves.
    site: Option<Site>,
    /// How many connections are kept.
    max_idle: usize,
}

impl Plan {
    /// Checks whether the options make sense together.
    ///
    /// # Errors
    /// If they do not, in words that say what to do.
    pub(crate) fn new(args: FetchArgs) -> Result<Plan, Usage> {
        if args.urls.is_empty() && args.input.is_none() && args.demo.is_none() {
            return Err(Usage::new(
                "no URLs to fetch; name some, or a file of them with --input FILE (- is standard input) \
                 (see goby fetch -h)",
            ));
        }
        let file = args.output.clone().filter(|path| path.as_os_str() != "-");
        if args.resume && file.is_none() {
            return Err(Usage::new("cannot resume standard output; name the output file with -o FILE"));
        }
        if args.resume && args.results.format == Format::Csv {
            return Err(Usage::new("cannot resume csv; leave --resume or --format out"));
        }
        let resumed = file.filter(|_| args.resume);
        let max_idle = args.workers as usize;
        Ok(Plan { args, resumed, site: None, max_idle })
    }

    /// Opens the file of URLs, if there is one.
    pub(crate) fn open_lines(&self) -> Result<Option<LineSource>, Usage> {
        self.args.input.as_deref().map(LineSource::open).transpose()
    }

    /// Makes the directory for bodies, if they are to be saved.
    pub(crate) fn open_saver(&self) -> Result<Option<Arc<Saver>>, Usage> {
        let Some(dir) = &self.args.output_dir else { return Ok(None) };
        Ok(Some(Arc::new(Saver::open(dir, self.args.results.output_name.clone())?)))
    }

    /// Opens the output, and reads from it what is done already.
    pub(crate) fn open_output(&self, lines: Option<&LineSource>) -> Result<(Output, Done), Usage> {
        let input = lines.and_then(LineSource::id);
        match &self.resumed {
            Some(path) => Output::resume(path, self.args.output_dir.as_deref(), input),
            None => Ok((Output::open(self.args.output.as_deref(), input)?, Done::default())),
        }
    }

    /// The URLs that need no reading. For the demo this starts its site, which serves as long as
    /// the plan lives.
    pub(crate) fn given(&mut self) -> Result<Given, Usage> {
        match self.args.demo {
            Some(count) => Ok(Given::Demo(self.site.insert(Site::start()?).pages(count))),
            None => Ok(Given::Arguments(std::mem::take(&mut self.args.urls))),
        }
    }

    /// How many goroutines fetch.
    pub(crate) fn workers(&self) -> u32 {
        self.args.workers
    }

    /// Reduces the workers to what the limit of open files has room for.
    ///
    /// # Errors
    /// If it has none.
    pub(crate) fn find_room(&mut self) -> Result<(), Usage> {
        // Its socket, the file that it saves to, and, if goby serves the site itself, the other end
        // of the socket.
        let per_worker = 1 + u64::from(self.args.output_dir.is_some()) + u64::from(self.args.demo.is_some());
        let room = open_files::room(self.args.workers, per_worker)?;
        self.args.workers = room.workers;
        self.max_idle = room.idle;
        Ok(())
    }

    /// Why a run has left URLs over, if the options say so.
    pub(crate) fn why_stopped(&self, tally: &Tally) -> Option<Stopped> {
        if self.fails_early() && tally.failed() > 0 {
            return Some(Stopped::Failed);
        }
        self.args.time.total.map(Stopped::TotalUp)
    }

    /// The context of the whole run: it is done with `stopping`, or when `--total` is up from now.
    pub(crate) fn limited(&self, stopping: &Context) -> (Context, CancelGuard) {
        match self.args.time.total {
            Some(total) => stopping.with_timeout(total),
            None => stopping.with_cancel(),
        }
    }

    /// The order of the requests.
    pub(crate) fn queue(&self) -> Queue {
        let polite = &self.args.polite;
        let at_a_time = polite.per_host_connections.unwrap_or(u32::MAX);
        Queue::new(polite.per_host, Limits { at_a_time, failures: polite.max_host_failures })
    }

    /// The client that all workers share.
    ///
    /// # Errors
    /// If a proxy, a certificate or a key cannot be used.
    pub(crate) fn client(&self, jar: Option<CookieJar>) -> Result<Client, Usage> {
        client::new(&self.args, jar, self.max_idle)
    }

    /// What all requests ask.
    ///
    /// # Errors
    /// If a file that an option names cannot be read.
    pub(crate) fn requests(&self) -> Result<Requests, Usage> {
        Requests::new(&self.args.request)
    }

    /// The cookies to begin with, if cookies are kept.
    ///
    /// # Errors
    /// If their file cannot be read.
    pub(crate) fn open_cookies(&self) -> Result<Option<CookieJar>, Usage> {
        cookies::open(&self.args.request)
    }

    /// Writes the cookies, if they are to be written, at the end of the run. What goes wrong is
    /// told, and returned.
    pub(crate) fn save_cookies(&self, jar: Option<&CookieJar>) -> bool {
        let (Some(jar), Some(path)) = (jar, &self.args.request.cookie_jar) else { return true };
        let saved = goby::blocking(|| cookies::save(jar, path));
        if let Err(error) = &saved {
            text::complain(&format_args!("cannot write cookies to {}: {}", path.display(), text::reason(error)));
        }
        saved.is_ok()
    }

    /// What the options say of all requests.
    pub(crate) fn terms(&self, client: Client, requests: Requests, saver: Option<Arc<Saver>>) -> Terms {
        let FetchArgs { time, polite, results, .. } = &self.args;
        let name = client::user_agent(&self.args.request);
        Terms {
            client,
            requests,
            max_time: time.max_time,
            connect_timeout: time.connect_timeout,
            speed: client::speed(time),
            max_redirs: polite.max_redirs,
            retry: Retry { retries: polite.retry, on: polite.retry_on.clone(), delay: polite.retry_delay },
            limiter: self.args.rate.map(|rate| Limiter::per_second(rate, burst(rate))),
            saver,
            continues: time.continue_at.is_some(),
            max_size: results.max_filesize.unwrap_or(u64::MAX),
            robots: polite.robots.then(|| Robots::new(name)),
            wants: self.wants(),
        }
    }

    /// What results have beyond what all have.
    pub(crate) fn wants(&self) -> Arc<Wants> {
        let ResultArgs { show_header, sha256, timings, .. } = &self.args.results;
        Arc::new(Wants { headers: show_header.clone(), sha256: *sha256, timings: *timings })
    }

    /// How results are written.
    pub(crate) fn format(&self) -> Format {
        self.args.results.format
    }

    /// What the list has had, if that is not to be fetched again.
    pub(crate) fn seen(&self) -> Option<Seen> {
        self.args.results.unique.then(Seen::default)
    }

    /// Whether the first failure ends the run.
    pub(crate) fn fails_early(&self) -> bool {
        self.args.results.fail_early
    }

    /// The summary, as it is wanted.
    pub(crate) fn summary(&self, tally: &Tally, end: &End) -> String {
        let args = &self.args.results;
        match args.summary {
            _ if args.quiet => String::new(),
            Summary::Json => tally.summary_json(end),
            Summary::Text if args.histogram => tally.summary(end) + &summary::histogram(&tally.latency),
            Summary::Text => tally.summary(end),
        }
    }

    /// Where progress is drawn, if it is.
    pub(crate) fn progress(&self, output: &Output, stderr_is_terminal: bool) -> Option<Target> {
        let target = if stderr_is_terminal { Target::Terminal } else { Target::Log };
        match self.args.progress {
            _ if self.args.results.quiet => None,
            When::Always => Some(target),
            When::Never => None,
            // Result lines on a terminal are progress enough, and the two would mix.
            When::Auto if output.is_terminal() => None,
            When::Auto => stderr_is_terminal.then_some(Target::Terminal),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let args = FetchArgs::try_parse_from(format!("fetch {line}").split_whitespace())
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_string())?;
        Plan::new(args).map_err(|usage| usage.to_string())
    }

    #[test]
    fn options_that_make_sense() {
        for line in [
            "http://h/",
            "--input -",
            "--input f http://h/",
            "--demo 5",
            "--input f -o o --resume",
            "--input f -o - --output-dir d --workers 1 --rate 0.5",
        ] {
            assert!(plan(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn options_that_do_not_make_sense() {
        let message = |line: &str| plan(line).expect_err(line);
        assert_eq!(
            message(""),
            "no URLs to fetch; name some, or a file of them with --input FILE (- is standard input) (see goby fetch -h)"
        );
        assert_eq!(
            message("--input f -o - --resume"),
            "cannot resume standard output; name the output file with -o FILE"
        );
        assert_eq!(message("--demo 5 http://h/"), "error: the argument '--demo <N>' cannot be used with '[URL]...'");
        assert_eq!(
            message("--demo 5 --input f"),
            "error: the argument '--demo <N>' cannot be used with '--input <FILE>'"
        );
        assert_eq!(message("--input f --resume"), "error: the following required arguments were not provided:");
        assert_eq!(
            message("--input f -t soon"),
            "error: invalid value 'soon' for '--max-time <DUR>': expected a duration such as 10s, 500ms or 1m30s"
        );
        assert_eq!(
            message("--input f --workers 0"),
            "error: invalid value '0' for '--workers <N>': expected a whole number from 1 to 100000"
        );
    }

    #[test]
    fn progress_is_shown_where_it_can_be_seen() {
        let nowhere = Output::open(Some(std::path::Path::new("/dev/null")), None).unwrap();
        let target = |line: &str, terminal| plan(line).unwrap().progress(&nowhere, terminal);
        assert_eq!(target("--input f", true), Some(Target::Terminal));
        assert_eq!(target("--input f", false), None);
        assert_eq!(target("--input f --progress always", true), Some(Target::Terminal));
        assert_eq!(target("--input f --progress always", false), Some(Target::Log));
        assert_eq!(target("--input f --progress never", true), None);
    }
}
