//! A job on its way, with its URL parsed once, and its result so far.

use std::time::Duration;

use url::Url;

use super::input::Job;
use super::queue::Host;
use super::record::Failure;
use super::request::Custom;

/// A URL that is being fetched, or waits to be fetched.
#[derive(Debug)]
pub(crate) struct Task {
    /// The URL as it was given.
    pub(crate) text: String,
    /// What to request, or why that is not possible.
    pub(crate) url: Result<Url, Failure>,
    /// What its line says of the request.
    pub(crate) custom: Option<Box<Custom>>,
    /// The host whose queue it is in: that of the next request. For text that is not a URL, the
    /// host has no name.
    pub(crate) host: Host,
    /// Where redirects have led in the current attempt.
    pub(crate) moved: Option<Box<Moved>>,
    /// Its host is down: it is answered without a request.
    pub(crate) is_refused: bool,
    /// Requests so far.
    pub(crate) attempts: u32,
    /// How the last one failed.
    pub(crate) last_failure: Option<Failure>,
}

/// An attempt that goes on at another URL, because the server has redirected it.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) to: Url,
    /// How many redirects there have been.
    pub(crate) hops: u32,
    /// How long the requests so far have taken, without the waits between them.
    pub(crate) spent: Duration,
    /// It is a `GET` now, whatever it was.
    pub(crate) is_get: bool,
    /// It has left the origin of the URL, for which the secrets are.
    pub(crate) is_foreign: bool,
}

impl Task {
    /// Makes a task of a job. Nothing has been requested yet.
    pub(crate) fn new(job: Job) -> Task {
        let url = job.url();
        let host = url.as_ref().map(host).unwrap_or_default();
        Task {
            text: job.text,
            url,
            custom: job.custom,
            host,
            moved: None,
            is_refused: false,
            attempts: 0,
            last_failure: None,
        }
    }

    /// About how many bytes it takes: the URL is in it twice, and where it was redirected to.
    pub(crate) fn size(&self) -> usize {
        let moved = self.moved.as_ref().map_or(0, |moved| size_of::<Moved>() + moved.to.as_str().len());
        let custom = self.custom.as_ref().map_or(0, |custom| {
            let headers: usize = custom.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            size_of::<Custom>() + headers + custom.body.as_ref().map_or(0, |body| body.len())
        });
        size_of::<Task>() + 2 * self.text.len() + moved + custom
    }
}

/// A host is its name and port.
pub(crate) fn host(url: &Url) -> Host {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_its_name_and_port() {
        let host = |url| host(&Url::parse(url).unwrap());
        assert_eq!(host("http://h/a"), host("http://H:80/b?c"));
        assert_ne!(host("http://h/"), host("https://h/"));
        assert_ne!(host("http://h/"), host("http://h:81/"));
    }
}
