//! The settings of a client.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
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
    redirects: usize,
    max_body: u64,
    limits: Limits,
    tls: tls::Options,
    proxies: Option<Vec<Proxy>>,
    direct: Option<String>,
    resolver: Option<Arc<Resolver>>,
    addresses: HashMap<String, Vec<SocketAddr>>,
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

    /// Limits the time for making a connection: the lookup of the name, connecting, and TLS.
    /// Default: 30 seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let client = goby_http::Client::builder().connect_timeout(Duration::from_secs(5)).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.connect_timeout = timeout.into();
        self
    }

    /// Limits the time for TLS alone, within that for [connecting](ClientBuilder::connect_timeout).
    /// Default: 10 seconds. Source: Go's `TLSHandshakeTimeout`.
    ///
    /// ```
    /// use goby::{Context, go, net::TcpListener};
    /// use std::{io::Read, time::Duration};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let url = format!("https://{}/", listener.local_addr()?);
    /// go(move || listener.accept().unwrap().0.read_to_end(&mut Vec::new()));
    /// let client = goby_http::Client::builder().tls_handshake_timeout(Duration::from_millis(10)).build()?;
    /// let error = client.get(&Context::background(), url).unwrap_err();
    /// # #[cfg(feature = "tls")]
    /// assert!(error.is_tls() && error.is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "TLSHandshakeTimeout")]
    pub fn tls_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.tls_handshake_timeout = timeout.into();
        self
    }

    /// Limits the time from the end of the request to the response's headers. It begins when the
    /// system has taken the last byte of the request. Default: no limit. Source: Go's
    /// `ResponseHeaderTimeout`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let client = goby_http::Client::builder().header_timeout(Duration::from_secs(5)).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[doc(alias = "ResponseHeaderTimeout")]
    pub fn header_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.header_timeout = timeout.into();
        self
    }

    /// Limits the time in which no byte moves, in either direction, while the request is sent or the
    /// response's body is read. Each byte that moves begins it again. The wait for the response's
    /// headers has a limit of [its own](ClientBuilder::header_timeout); the time that a caller takes
    /// between two reads does not count. Default: no limit.
    ///
    /// Responses without an end, such as streams of events, need a limit that is longer than their
    /// pauses.
    ///
    /// ```
    /// use goby::{Context, go, net::TcpListener};
    /// use std::{io::{Read, Write}, time::Duration};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let url = format!("http://{}/", listener.local_addr()?);
    /// go(move || {
    ///     let mut stream = listener.accept().unwrap().0;
    ///     stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").unwrap();
    ///     stream.read_to_end(&mut Vec::new())
    /// });
    /// let client = goby_http::Client::builder().stall_timeout(Duration::from_millis(10)).build()?;
    /// let error = client.get(&Context::background(), url)?.text().unwrap_err();
    /// assert!(error.is_body() && error.is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "read_timeout")]
    pub fn stall_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.stall_timeout = timeout.into();
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

    /// Trusts servers with a certificate that was issued by one of those given here, too: one in
    /// DER, or any number of them in PEM. Needs the feature `tls`, which is on by default.
    ///
    /// By default a client trusts the system's roots, or those that `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name. A system without any gets the roots that browsers trust.
    ///
    /// ```
    /// let error = goby_http::Client::builder().add_root_certificate(*b"no certificate").build().unwrap_err();
    /// assert_eq!(error.to_string(), "building the client failed");
    /// ```
    #[cfg(feature = "tls")]
    pub fn add_root_certificate(mut self, certificates: impl Into<Vec<u8>>) -> ClientBuilder {
        self.tls.roots.push(certificates.into());
        self
    }

    /// Sets whether the system's roots are trusted, besides those that were
    /// [added](ClientBuilder::add_root_certificate). Default: true. Needs the feature `tls`.
    ///
    /// ```
    /// let error = goby_http::Client::builder().system_roots(false).build().unwrap_err();
    /// assert!(error.is_build(), "it would trust nobody");
    /// ```
    #[cfg(feature = "tls")]
    #[doc(alias("RootCAs", "cacert", "tls_certs_only"))]
    pub fn system_roots(mut self, with: bool) -> ClientBuilder {
        self.tls.system_roots = with;
        self
    }

    /// Shows this certificate to servers that ask for one. Default: none. Needs the feature `tls`.
    ///
    /// ```
    /// use goby::tls::Identity;
    /// let made = rcgen::generate_simple_self_signed(["a client".to_owned()])?;
    /// let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let client = goby_http::Client::builder().identity(identity).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tls")]
    pub fn identity(mut self, identity: goby::tls::Identity) -> ClientBuilder {
        self.tls.identity = Some(identity);
        self
    }

    /// Sets whether every certificate of a server is accepted: one that has expired, that is for
    /// another name, or that an attacker has made. Default: false. Needs the feature `tls`.
    ///
    /// **With true, whoever is on the way to the server can read and change everything.** The first
    /// such client of a process says so on standard error. To trust a server with a certificate of
    /// its own making, [add](ClientBuilder::add_root_certificate) that certificate instead.
    ///
    /// ```
    /// let client = goby_http::Client::builder().danger_accept_invalid_certs(true).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[cfg(feature = "tls")]
    #[doc(alias("InsecureSkipVerify", "insecure"))]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> ClientBuilder {
        self.tls.accepts_all = accept;
        self
    }

    /// Looks up names with `resolve` instead of the system's resolver. It may block its thread.
    ///
    /// ```
    /// use std::net::{IpAddr, Ipv4Addr};
    /// use goby::Context;
    /// # use goby_http::{Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let port = server.local_addr().port();
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["host"])));
    /// let client = goby_http::Client::builder()
    ///     .resolver(|_host| Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))
    ///     .build()?;
    /// let response = client.get(&Context::background(), format!("http://www.example.org:{port}/"))?;
    /// assert!(response.text()?.contains("www.example.org"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolver(
        mut self,
        resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.resolver = Some(Arc::new(resolve));
        self
    }

    /// Connects to `addr` for URLs with this host, instead of looking the name up. With port 0, the
    /// URL's port is kept. Of several addresses for a host, all are tried. The host is still the
    /// URL's in headers and for certificates.
    ///
    /// ```
    /// use goby::Context;
    /// # use goby_http::{Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let addr = server.local_addr();
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["host"])));
    /// let client = goby_http::Client::builder().resolve("www.example.org", addr).build()?;
    /// let response = client.get(&Context::background(), "http://www.example.org/")?;
    /// assert_eq!(response.text()?, "\"www.example.org\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(mut self, host: impl AsRef<str>, addr: SocketAddr) -> ClientBuilder {
        self.addresses.entry(host.as_ref().to_ascii_lowercase()).or_default().push(addr);
        self
    }

    /// Sends requests through a proxy, if it [is for](Proxy) them. Of several, the first one that is
    /// for a request is used. The environment's proxies are not used then.
    ///
    /// By default, the environment says which proxies are used. It is read when the client is built.
    ///
    /// | variable | |
    /// |---|---|
    /// | `HTTP_PROXY` | the URL of the proxy for `http` |
    /// | `HTTPS_PROXY` | the URL of the proxy for `https` |
    /// | `ALL_PROXY` | the URL of the proxy for those of the two that have none |
    /// | `NO_PROXY` | the hosts that are asked directly, with commas or spaces between them |
    ///
    /// The names may also be in small letters. With both, that in capitals counts. A program that a
    /// web server has started (CGI: there is a `REQUEST_METHOD`) ignores `HTTP_PROXY`, because
    /// whoever sends a request there chooses its value; `http_proxy` is used.
    ///
    /// `NO_PROXY` has names, addresses and networks (`10.0.0.0/8`). A name is that of a host and of
    /// all below it; one that begins with `.` or `*.` is only for those below. Names and addresses
    /// may have a port (`example.org:8080`), and are then for that port alone. `*` is for all hosts.
    /// The environment's proxies are never used for `localhost` and loopback addresses.
    ///
    /// Source: Go's `http.ProxyFromEnvironment`.
    ///
    /// ```
    /// use goby_http::{Client, Proxy};
    /// let client = Client::builder()
    ///     .proxy(Proxy::https("http://secure.example.org:3128")?)
    ///     .proxy(Proxy::all("http://me:secret@proxy.example.org:3128")?.no_proxy(".internal"))
    ///     .build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    #[doc(alias("ProxyURL", "ProxyFromEnvironment"))]
    pub fn proxy(mut self, proxy: Proxy) -> ClientBuilder {
        self.proxies.get_or_insert_default().push(proxy);
        self
    }

    /// Sets the hosts that are asked directly when the environment's proxies are used, in place of
    /// `NO_PROXY`.
    ///
    /// ```
    /// let client = goby_http::Client::builder().no_proxy_for("example.org, 10.0.0.0/8").build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn no_proxy_for(mut self, hosts: impl Into<String>) -> ClientBuilder {
        self.direct = Some(hosts.into());
        self
    }

    /// Uses no proxy: neither those of the environment nor those that were set before.
    ///
    /// ```
    /// let client = goby_http::Client::builder().no_proxy().build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn no_proxy(mut self) -> ClientBuilder {
        self.proxies = Some(Vec::new());
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
        let inner = Inner {
            connector: Connector {
                tls,
                resolver: self.resolver,
                addresses: self.addresses,
                timeout: self.connect_timeout,
                tls_timeout: self.tls_handshake_timeout,
            },
            proxies: self.proxies.map_or_else(|| Proxies::of_environment(self.direct.as_deref()), Proxies::Own),
            pool: Pool::new(self.limits),
            user_agent,
            timeout: self.timeout,
            header_timeout: self.header_timeout,
            stall_timeout: self.stall_timeout,
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
