//! `--robots`: what a site's `robots.txt` allows (RFC 9309), by the crate `robotxt`.
//!
//! The first task of a site fetches the file, and the others wait for it. A site without the file
//! allows everything; one whose server fails to give it (5xx) allows nothing. If the server is not
//! there at all, the task finds that out by itself. Files of many sites are kept, and the memory
//! for them is bounded: of a site that is forgotten, the file is fetched again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use goby::Context;
use goby::sync::{Mutex, OnceCell};
use goby_http::{Client, Response};
use robotxt::Robots as Rules;
use url::Url;

/// How much of a file counts: what RFC 9309 asks for at least.
const LONGEST: usize = 500 * 1024;
/// How many redirects lead to a file: as RFC 9309.
const REDIRECTS: usize = 5;
/// How many sites are remembered.
const SITES: usize = 10_000;
/// How long the file may take.
const TIME: Duration = Duration::from_secs(30);
/// The longest delay between requests that a site may ask for.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The files of all sites.
#[derive(Debug)]
pub(crate) struct Robots {
    /// What the rules call the client: the first word of its name.
    agent: String,
    sites: Mutex<HashMap<String, Arc<OnceCell<Site>>>>,
}

/// What a site allows.
#[derive(Debug)]
enum Site {
    Rules(Rules),
    /// Its server failed to say, with this status.
    Failed(u16),
}

/// Whether a URL may be requested.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes, and the next request to the site after this time.
    Allowed(Option<Duration>),
    /// No, in words.
    Denied(String),
}

impl Robots {
    /// Makes one for a client that calls itself `name`.
    pub(crate) fn new(name: &str) -> Robots {
        let agent = name.split(['/', ' ']).next().filter(|word| !word.is_empty()).unwrap_or("goby");
        Robots { agent: agent.to_string(), sites: Mutex::new(HashMap::new()) }
    }

    /// Asks whether `url` may be requested. If the context is done first, it may: the request then
    /// says so.
    pub(crate) fn ask(&self, ctx: &Context, client: &Client, url: &Url) -> Verdict {
        let origin = url.origin().ascii_serialization();
        let cell = {
            let mut sites = self.sites.lock();
            if sites.len() >= SITES && !sites.contains_key(&origin) {
                // Those that a task is waiting for stay.
                sites.retain(|_, cell| Arc::strong_count(cell) > 1);
            }
            sites.entry(origin).or_default().clone()
        };
        match cell.get_or_init_ctx(ctx, || self.fetch(ctx, client, url)) {
            Ok(Site::Rules(rules)) if !rules.is_absolute_allowed(url) => {
                Verdict::Denied("not allowed by the site's robots.txt".to_string())
            }
            Ok(Site::Rules(rules)) => Verdict::Allowed(rules.crawl_delay().map(|delay| delay.min(LONGEST_DELAY))),
            Ok(Site::Failed(status)) => Verdict::Denied(format!("the site's robots.txt was answered with {status}")),
            Err(_) => Verdict::Allowed(None),
        }
    }

    fn fetch(&self, ctx: &Context, client: &Client, url: &Url) -> Site {
        let (ctx, _cancel) = ctx.with_timeout(TIME);
        let all = || Site::Rules(Rules::from_always(true, &self.agent));
        let Ok(mut at) = url.join("/robots.txt") else { return all() };
        for _ in 0..=REDIRECTS {
            let Ok(mut response) = client.get(&ctx, at.as_str()) else { return all() };
            if let Ok(Some(location)) = response.location() {
                let Ok(to) = Url::parse(&location) else { return all() };
                at = to;
                continue;
            }
            let status = response.status();
            if status.is_server_error() {
                return Site::Failed(status.as_u16());
            }
            return match status.is_success() {
                true => Site::Rules(Rules::from_bytes(&read(&mut response), &self.agent)),
                false => all(),
            };
        }
        all()
    }
}

/// Reads as much of the file as counts.
fn read(response: &mut Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST
        && let Ok(Some(chunk)) = response.reader().chunk()
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(LONGEST);
    bytes
}
