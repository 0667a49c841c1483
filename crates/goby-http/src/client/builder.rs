//! The settings of a client.

mod connections;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};

use super::connect::{Connector, Resolver};
use super::jar::CookieJar;
use super::pool::{Limits, Pool};
use super::proxy::{Proxies, Proxy};
use super::redirect::Policy;
use super::{Client, Inner};
use crate::error::{Error, Phase};
use crate::tls;

/// Makes a [`Client`].
///
/// ```
/// use goby_http::Client;
/// use std::time::Duration;
/// let client = Client::builder()
///     .user_agent("example/1.0")
///     .timeout(Duration::from_secs(30))
///     .max_connections_per_host(4)
///     .build()?;
/// # Ok::<(), goby_http::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    user_agent: Option<String>,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    tls_handshake_timeout: Option<Duration>,
    header_timeout: Option<Duration>,
    stall_timeout: Option<Duration>,
    expect_timeout: Duration,
    redirect: Policy,
    headers: HeaderMap,
    jar: Option<CookieJar>,
    decompress: bool,
    max_body: u64,
    limits: Limits,
    tls: tls::Options,
    proxies: Option<Vec<Proxy>>,
    direct: Option<String>,
    resolver: Option<Arc<Resolver>>,
    addresses: HashMap<String, Vec<SocketAddr>>,
    unix_socket: Option<PathBuf>,
}

impl ClientBuilder {
    pub(super) fn new() -> ClientBuilder {
        ClientBuilder {
            user_agent: Some(concat!("goby-http/", env!("CARGO_PKG_VERSION")).to_owned()),
            timeout: None,
            connect_timeout: Some(Duration::from_secs(30)),
            tls_handshake_timeout: Some(Duration::from_secs(10)),
            header_timeout: None,
            stall_timeout: None,
            expect_timeout: Duration::from_secs(1),
            redirect: Policy::default(),
            headers: HeaderMap::new(),
            jar: None,
            decompress: true,
            max_body: u64::MAX,
            limits: Limits {
                max_idle: 100,
                max_idle_per_host: 64,
                max_per_host: None,
                idle_timeout: Duration::from_secs(90),
            },
            tls: tls::Options::default(),
            proxies: None,
            direct: None,
            resolver: None,
            addresses: HashMap::new(),
            unix_socket: None,
        }
    }

    /// Sets the name in the header `user-agent`; with the empty string, the client sends no such
    /// header. Default: `goby-http/` and the version.
    ///
    /// ```
    /// let client = goby_http::Client::builder().user_agent("example/1.0").build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn user_agent(mut self, name: impl Into<String>) -> ClientBuilder {
        self.user_agent = Some(name.into()).filter(|name| !name.is_empty());
        self
    }

    /// Limits the time of a whole request, from the call to the end of the response's body.
    /// Default: only the context's limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let client = goby_http::Client::builder().timeout(Duration::from_secs(30)).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.timeout = timeout.into();
        self
    }

    /// Sets how many redirects are followed; 0 makes every redirect a plain response. Default: 10.
    ///
    /// ```
    /// let client = goby_http::Client::builder().redirects(0).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn redirects(self, n: usize) -> ClientBuilder {
        self.redirect(if n == 0 { Policy::none() } else { Policy::limited(n) })
    }

    /// Sets which redirects are followed. Default: [`Policy::limited(10)`](Policy::limited).
    ///
    /// ```
    /// use goby_http::Client;
    /// use goby_http::redirect::Policy;
    /// let client = Client::builder().redirect(Policy::none()).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn redirect(mut self, policy: Policy) -> ClientBuilder {
        self.redirect = policy;
        self
    }

    /// Sets headers that each request has, unless it has one of that name itself. A `user-agent`
    /// among them counts instead of [`user_agent`](ClientBuilder::user_agent). Default: none.
    ///
    /// Those that are secrets do not go to another origin, as those of a request.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["x-color"])));
    /// use goby_http::{HeaderMap, HeaderName, HeaderValue};
    ///
    /// let blue = (HeaderName::from_static("x-color"), HeaderValue::from_static("blue"));
    /// let client = Client::builder().default_headers(HeaderMap::from_iter([blue])).build()?;
    /// assert_eq!(client.get(&Context::background(), url)?.text()?, "\"blue\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn default_headers(mut self, headers: HeaderMap) -> ClientBuilder {
        self.headers = headers;
        self
    }

    /// Keeps the cookies that servers set, and sends them with later requests, those of redirects
    /// included: in a [`CookieJar`] of this client. Needs the feature `cookie_jar`. Default: no.
    ///
    /// ```
    /// let client = goby_http::Client::builder().cookie_store(true).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[cfg(feature = "cookie_jar")]
    pub fn cookie_store(mut self, keep: bool) -> ClientBuilder {
        self.jar = keep.then(CookieJar::new);
        self
    }

    /// Keeps cookies in this jar, which a program can look at, save, and share with other clients.
    /// Needs the feature `cookie_jar`. Default: none.
    ///
    /// Cookies that a request has by itself are sent, too, in front of the jar's. Source: Go's
    /// `Client.Jar`. See [`CookieJar`] for an example.
    #[cfg(feature = "cookie_jar")]
    pub fn cookie_jar(mut self, jar: CookieJar) -> ClientBuilder {
        self.jar = Some(jar);
        self
    }

    /// Sets whether the client asks for compressed bodies by itself, and decodes them: by the
    /// codings of the features `brotli`, `gzip` and `zstd`. Default: yes. Source: Go's
    /// `Transport.DisableCompression`.
    ///
    /// It does not ask with a request that has a header `accept-encoding` or `range`, or is a
    /// `HEAD`; and what it has not asked for stays as it comes. A decoded response has neither
    /// `content-encoding` nor `content-length`. [`max_body`](ClientBuilder::max_body) holds for the
    /// bytes that come and for those that come out.
    ///
    /// ```
    /// let client = goby_http::Client::builder().decompress(false).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn decompress(mut self, decompress: bool) -> ClientBuilder {
        self.decompress = decompress;
        self
    }

    /// Limits how long a response's body may be; reading more of it is an error. Default: no limit.
    ///
    /// ```
    /// let client = goby_http::Client::builder().max_body(1 << 20).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn max_body(mut self, bytes: u64) -> ClientBuilder {
        self.max_body = bytes;
        self
    }

    /// Sets how many connections are kept for later requests, to all hosts together; 0 keeps none.
    /// If there are more, the connection that has been idle longest is closed. Default: 100.
    ///
    /// When the process runs out of descriptors, a request that needs a new connection closes kept
    /// ones to make room.
    ///
    /// ```
    /// let client = goby_http::Client::builder().max_idle(1000).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[doc(alias("MaxIdleConns", "max_idle_connections"))]
    pub fn max_idle(mut self, n: usize) -> ClientBuilder {
        self.limits.max_idle = n;
        self
    }

    /// Sets how many connections to one host are kept for later requests; 0 keeps none. Default:
    /// 64.
    ///
    /// ```
    /// let client = goby_http::Client::builder().max_idle_per_host(2).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn max_idle_per_host(mut self, n: usize) -> ClientBuilder {
        self.limits.max_idle_per_host = n;
        self
    }

    /// Sets how long a connection is kept for later requests. Default: 90 seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let client = goby_http::Client::builder().idle_timeout(Duration::from_secs(10)).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn idle_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.limits.idle_timeout = timeout;
        self
    }

    /// Limits the connections to one host, at least 1; further requests wait for one. Default: no
    /// limit.
    ///
    /// ```
    /// let client = goby_http::Client::builder().max_connections_per_host(8).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn max_connections_per_host(mut self, n: usize) -> ClientBuilder {
        self.limits.max_per_host = Some(n);
        self
    }

    /// Makes the client.
    ///
    /// ```
    /// let client = goby_http::Client::builder().build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a setting is not valid: bytes that are not a certificate, a name that cannot be in a
    /// header, a limit of no connections.
    pub fn build(self) -> Result<Client, Error> {
        let user_agent = self.user_agent.map(HeaderValue::try_from).transpose();
        let user_agent = user_agent.map_err(|error| Error::new(Phase::Build, error))?;
        let mut headers = self.headers;
        if let Some(user_agent) = user_agent {
            headers.entry(USER_AGENT).or_insert(user_agent);
        }
        if self.limits.max_per_host == Some(0) {
            return Err(Error::new(Phase::Build, "a host needs at least one connection"));
        }
        let tls = tls::client_config(self.tls).map_err(|error| Error::new(Phase::Build, error))?;
        let proxies = if self.unix_socket.is_some() { Some(Vec::new()) } else { self.proxies };
        let inner = Inner {
            connector: Connector {
                tls,
                resolver: self.resolver,
                addresses: self.addresses,
                unix_socket: self.unix_socket,
                timeout: self.connect_timeout,
                tls_timeout: self.tls_handshake_timeout,
            },
            proxies: proxies.map_or_else(|| Proxies::of_environment(self.direct.as_deref()), Proxies::Own),
            pool: Pool::new(self.limits),
            headers,
            timeout: self.timeout,
            header_timeout: self.header_timeout,
            stall_timeout: self.stall_timeout,
            expect_timeout: self.expect_timeout,
            redirect: self.redirect,
            jar: self.jar,
            decompress: self.decompress,
            max_body: self.max_body,
        };
        Ok(Client { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("ClientBuilder");
        builder.field("timeout", &self.timeout).field("connect_timeout", &self.connect_timeout);
        builder.field("redirect", &self.redirect).field("limits", &self.limits).finish_non_exhaustive()
    }
}
