//! A job on its way: with its URL taken apart once, and what became of it so far.

use url::Url;

use super::input::Job;
use super::queue::Host;
use super::record::Failure;

/// A URL that is being fetched, or waits for it.
#[derive(Debug)]
pub(crate) struct Task {
    /// As it was given.
    pub(crate) text: String,
    /// What to request, or why that cannot be.
    pub(crate) url: Result<Url, Failure>,
    /// Whose turn it takes. What is no URL has a host without a name.
    pub(crate) host: Host,
    /// Requests so far.
    pub(crate) attempts: u32,
    /// What the last one came to.
    pub(crate) last_failure: Option<Failure>,
}

impl Task {
    /// Nothing has been requested yet.
    pub(crate) fn new(job: Job) -> Task {
        let url = job.url();
        let host = url.as_ref().map(host).unwrap_or_default();
        Task { text: job.text, url, host: host.into(), attempts: 0, last_failure: None }
    }

    /// How many bytes it takes, about: the URL stands in it twice.
    pub(crate) fn size(&self) -> usize {
        size_of::<Task>() + 2 * self.text.len()
    }
}

/// A host is its name and port.
fn host(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
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
