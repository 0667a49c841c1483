//! The settings of a client.

mod connections;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::connect::{Connector, Resolver};
use super::pool::{Limits, Pool};
use super::proxy::{Proxies, Proxy};
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
    redirects: usize,
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
            redirects: 10,
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
    pub fn redirects(mut self, n: usize) -> ClientBuilder {
        self.redirects = n;
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
            user_agent,
            timeout: self.timeout,
            header_timeout: self.header_timeout,
            stall_timeout: self.stall_timeout,
            expect_timeout: self.expect_timeout,
            redirects: self.redirects,
            max_body: self.max_body,
        };
        Ok(Client { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("ClientBuilder");
        builder.field("timeout", &self.timeout).field("connect_timeout", &self.connect_timeout);
        builder.field("redirects", &self.redirects).field("limits", &self.limits).finish_non_exhaustive()
    }
}
