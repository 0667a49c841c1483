//! How far a request had come, in words.

use std::fmt;

use http::StatusCode;

/// How far the request had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The URL that was given.
    Url(String),
    /// Building a client.
    Build,
    /// Putting a request together.
    Prepare,
    /// Waiting because of the limit of connections to a host.
    Queue(String),
    /// Looking up a host's name.
    Resolve(String),
    /// Connecting to a host and port.
    Connect(String),
    /// Finding out which proxy to use.
    Proxy,
    /// Asking a proxy for a way through to a host and port.
    Tunnel { proxy: String, target: String },
    /// The TLS handshake with a host.
    Tls(String),
    /// Sending the request, its body included, when that takes too long or is given up.
    Send,
    /// Sending the request, its body included, and waiting for the response.
    Headers,
    /// Reading the response's body.
    Body,
    /// Reading a request's body, in a handler.
    RequestBody,
    /// Producing the body that is to be sent.
    Produce,
    /// Following a redirect: to an invalid target.
    RedirectTarget(String),
    /// Following a redirect: one too many.
    TooManyRedirects(usize),
    /// Following a redirect: the client's policy refused it.
    RedirectRefused,
    /// The response has a status that the caller takes for an error.
    Status(StatusCode),
    /// Taking over a connection that the server has not switched; with the status of its response.
    NotUpgraded(StatusCode),
    /// Using a WebSocket.
    #[cfg(feature = "websocket")]
    WebSocket,
    /// The body is longer than the limit.
    TooLarge(u64),
    /// The body of a request, in a handler, is longer than the server's limit.
    RequestTooLarge(u64),
    /// The body is not text.
    NotText,
    /// The body is not the JSON that was expected.
    #[cfg_attr(not(feature = "json"), expect(dead_code, reason = "nothing else reads JSON"))]
    NotJson,
    /// A request's body is not text, in a handler.
    RequestNotText,
}

impl fmt::Display for Phase {
    /// What was being done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Url(url) => write!(f, "using the URL {url:?}"),
            Phase::Build => f.write_str("building the client"),
            Phase::Prepare => f.write_str("preparing the request"),
            Phase::Queue(host) => write!(f, "awaiting a free connection to {host}"),
            Phase::Resolve(host) => write!(f, "looking up {host}"),
            Phase::Connect(host) => write!(f, "connecting to {host}"),
            Phase::Proxy => f.write_str("choosing a proxy"),
            Phase::Tunnel { proxy, target } => write!(f, "asking the proxy {proxy} for a tunnel to {target}"),
            Phase::Tls(host) => write!(f, "negotiating TLS with {host}"),
            Phase::Send => f.write_str("sending the request"),
            Phase::Headers => f.write_str("awaiting response headers"),
            Phase::Body => f.write_str("reading the response body"),
            Phase::RequestBody => f.write_str("reading the request body"),
            Phase::Produce => f.write_str("producing the body to send"),
            Phase::RedirectTarget(_) | Phase::TooManyRedirects(_) | Phase::RedirectRefused => {
                f.write_str("following a redirect")
            }
            Phase::NotUpgraded(_) => f.write_str("upgrading the connection"),
            #[cfg(feature = "websocket")]
            Phase::WebSocket => f.write_str("using a WebSocket"),
            Phase::Status(_) => f.write_str("looking at the status"),
            Phase::TooLarge(_)
            | Phase::RequestTooLarge(_)
            | Phase::NotText
            | Phase::NotJson
            | Phase::RequestNotText => f.write_str("reading the body"),
        }
    }
}
